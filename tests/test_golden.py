"""Golden files: the same symbols by the package and by the reference decoder, and the same pictures."""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file

from aecodec import AecError, Codec, container, decoder, encoder, errors, registry
from aecodec.container import Tile
from aecodec.image import Plane
from aecodec.model.entropy import EntropyModel

from .conftest import GOLDEN
from .make_golden import FOLDER, digest, pictures
from .reference import Reference

by_name = pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def reference(codec: Codec) -> Reference:
    return Reference(registry.find(codec.model.id))


def test_all_are_there() -> None:
    assert [path.stem for path in GOLDEN] == sorted(pictures())


@by_name
def test_picture(codec: Codec, path: Path, threads: int) -> None:
    decoded = codec.decompress(path.read_bytes())
    with Image.open(path.with_suffix(".png")) as kept:
        assert decoded.mode == kept.mode
        np.testing.assert_allclose(np.asarray(decoded, int), np.asarray(kept, int), atol=1)


@by_name
def test_symbols_of_the_reference_decoder(codec: Codec, reference: Reference, path: Path) -> None:
    """The reference decodes the symbols of record, and its latents are the package's, with torch and with numpy."""
    data = path.read_bytes()
    tiles = reference.decode(data)
    assert digest(tiles) == json.loads((FOLDER / "symbols.json").read_text())[path.stem]
    latents = latents_of(codec, data)
    rows = [np.concatenate([np.array(tile.latents) for tile in tiles], 1)]  # golden files have one row of tiles
    np.testing.assert_array_equal(latents, np.concatenate(rows))
    entropy = EntropyModel(load_file(registry.find(codec.model.id)))
    for tile, coded in zip(tiles, container.read(data).tiles, strict=True):
        expected = np.array(tile.latents)
        height, width, _ = expected.shape
        found = entropy.tiles(1, height, width, coded.quality)
        for part, symbols in enumerate(tile.parts):
            _, index = found.predict()
            if part:
                np.testing.assert_array_equal(index[0], tile.indices[part - 1])
            found.update(entropy.ops.number(np.array([symbols])))
        np.testing.assert_array_equal(found.latents[0], expected)


def latents_of(codec: Codec, data: bytes) -> npt.NDArray[np.float32]:
    parsed = container.read(data)
    tiling = decoder.tiling_of(parsed.header, parsed.tiles)
    found = codec.model.ops.numpy(decoder.decode_latents(codec.model, [parsed.tiles], tiling))
    first: npt.NDArray[np.float32] = found[0]
    return first


@pytest.mark.parametrize("quality", [59, 60, 100])
def test_the_reference_decodes_fine_latents(fine: Codec, fine_weights: Path, small: Plane, quality: int) -> None:
    data = fine.compress(small[:40, :50], quality)
    (tile,) = Reference(fine_weights).decode(data)
    parsed = container.read(data)
    latents = latents_of(fine, data)
    np.testing.assert_array_equal(latents, np.array(tile.latents))
    assert len(tile.parts) == 5 + (quality >= 60)
    assert latents.shape[-1] == 32 + 32 * (quality >= 60)
    assert crc32(b"".join(encoder.covered(np.array(part)) for part in tile.parts)) == parsed.tiles[0].symbol_crc


def test_escapes_occur(reference: Reference) -> None:
    (tile,) = reference.decode((FOLDER / "escapes.aec").read_bytes())
    supports = reference.weights["coder.supports"]
    assert any(
        abs(symbol) > supports[index]
        for part, indices in zip(tile.parts[1:], tile.indices, strict=True)
        for symbol, index in zip(part, indices, strict=True)
    )


def test_every_prefix_is_refused(codec: Codec) -> None:
    data = (FOLDER / "alpha.aec").read_bytes()
    for end in range(len(data)):
        with pytest.raises(AecError):
            codec.decompress(data[:end])


def test_every_flipped_byte_is_refused(codec: Codec) -> None:
    data = (FOLDER / "metadata.aec").read_bytes()
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 0xFF
        with pytest.raises(AecError):
            codec.decompress(bytes(flipped))


@by_name
def test_wrong_words_behind_right_checksums_are_refused(codec: Codec, path: Path) -> None:
    """What the CRC-32 of a chunk cannot see, that of the symbols does."""
    parsed = container.read(path.read_bytes())
    tile = parsed.tiles[0]
    attacks = [b"", tile.words + b"\1\0\0\0", tile.words[:-4], bytes(reversed(tile.words)), bytes(len(tile.words))]
    for position in range(0, len(tile.words), max(1, len(tile.words) // 10)):
        flipped = bytearray(tile.words)
        flipped[position] ^= 0x10
        attacks.append(bytes(flipped))
    for words in attacks:
        bad = container.write(
            container.Container(
                parsed.header, [Tile(tile.quality, tile.symbol_crc, words), *parsed.tiles[1:]], alpha=parsed.alpha
            )
        )
        with pytest.raises(errors.Corrupt):
            codec.decompress(bad)


def test_a_wrong_symbol_crc_is_named(codec: Codec) -> None:
    parsed = container.read((FOLDER / "rgb.aec").read_bytes())
    tile = parsed.tiles[0]
    bad = container.Container(parsed.header, [Tile(tile.quality, tile.symbol_crc ^ 1, tile.words)])
    with pytest.raises(errors.SymbolMismatch):
        codec.verify(container.write(bad))
