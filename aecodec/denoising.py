"""Pictures without their noise, by weights that were trained with noise on the encoder's input.

A denoising autoencoder (Vincent et al. 2008): the latents of a noisy picture are those of the clean one, as far as the
analysis has learnt to tell, and the prior and rounding hold nothing that noise could pass in.
"""

import warnings
from typing import TYPE_CHECKING

from .arguments import ImageLike
from .codec import Codec

if TYPE_CHECKING:
    from PIL import Image

QUALITY = 100  # the least distortion; in training, that is the distance to the picture without noise


def caveat(codec: Codec) -> str:
    """What there is to say against denoising with a codec's weights, empty for those that were trained for it."""
    if codec.model.noise:
        return ""
    return "these weights were not trained with noise: they remove what costs bits, noise or not"


def denoise(codec: Codec, picture: ImageLike, quality: int = QUALITY) -> "Image.Image":
    """What the codec keeps of a picture, ``decode(encode(picture))``, with its alpha and metadata.

    ``codec``: one with weights of `aecodec train --noise`; with others there is a UserWarning. ``quality``: 0 to 100;
    below 100, more goes than the weights take for noise. Raises what `Codec.compress` raises.
    """
    if said := caveat(codec):
        warnings.warn(said, UserWarning, stacklevel=2)
    return reconstruct(codec, picture, quality)


def reconstruct(codec: Codec, picture: ImageLike, quality: int = QUALITY) -> "Image.Image":
    """`denoise` without the warning."""
    return codec.decompress(codec.compress(picture, quality))
