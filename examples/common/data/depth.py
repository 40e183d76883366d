"""Converts images with more than 8 bits per channel to 8 bits, according to their range."""

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE


def to_8_bits(image: Image.Image, file: Image.Image) -> Image.Image:
    """Return the image with 8 bits per channel; Pillow's own conversion would clip the values.

    16-bit colour images already have 8 bits: Pillow keeps their higher byte when it reads them.

    Args:
        image: A grey or colour image, upright.
        file: The image as Pillow opened it; its format tells the range of the pixels.

    Raises:
        ValueError: The values of black and white are not known.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and file.format in ("PNG", "PPM")):
        # If a TIFF file has fewer than 16 bits, Pillow leaves them in the lower bits.
        bits = getattr(file, "tag_v2", {}).get(BITSPERSAMPLE, (16,))[0]
        largest = 2.0**bits - 1
    elif image.mode == "I":
        raise ValueError(
            "the range of its 32-bit or signed pixels is not known; save it with 8 or 16 bits"
        )
    elif image.mode == "F":
        largest = 1.0
    else:
        return image
    shares = np.asarray(image).astype(np.float64) / largest
    if not (shares.min() >= 0 and shares.max() <= 1):
        raise ValueError(
            "its floating-point pixels must be in [0, 1], found "
            f"{shares.min():.3g} to {shares.max():.3g}"
        )
    return Image.fromarray(np.rint(255 * shares).astype(np.uint8))
