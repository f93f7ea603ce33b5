"""A fuzzer that looks for new paths: ``pip install atheris && python -m tests.fuzz_coverage NEW -max_total_time=600``

NEW is a folder for what it finds worth keeping, besides tests/golden and tests/corrupt. Every input is tried as it
is and with its checksums made right. It stops at the first that raises anything but AecError, and keeps it.
"""

import random
import sys


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["aecodec"]):
        from aecodec import Codec, container, register_pillow

        from .fuzz import MAX_PIXELS, outcome
        from .make_corrupt import FOLDER, chunk

    register_pillow()
    codec = Codec(device="cpu", max_pixels=MAX_PIXELS)

    def resealed(data: bytes) -> bytes:
        """The same chunks, their lengths no longer than the data and their checksums right."""
        start = len(container.SIGNATURE) + 1
        sealed, position = bytearray(data[:start]), start
        while position + 8 < len(data):
            end = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
            sealed += chunk(data[position : position + 4], data[position + 8 : end])
            position = end + 4
        return bytes(sealed)

    def one(data: bytes) -> None:
        for each in (data, resealed(data)):
            outcome(codec, each, random.Random(each))

    atheris.Setup([*sys.argv, str(FOLDER.with_name("golden")), str(FOLDER), "-timeout=10"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
