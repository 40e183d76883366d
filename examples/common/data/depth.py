"""Images of more than 8 bits a pixel, brought to 8 by their range."""

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE


def to_8_bits(image: Image.Image, file: Image.Image) -> Image.Image:
    """Return an image whose pixels have 8 bits; Pillow's own conversion would cut them off.

    Colour images of 16 bits have 8 already: Pillow keeps their higher byte as it reads them.

    Args:
        image: Grey or colour, upright.
        file: As opened: what it was read from tells the range of its pixels.

    Raises:
        ValueError: It cannot be told what is black and what is white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and file.format in ("PNG", "PPM")):
        # What a TIFF file has fewer of than 16, Pillow leaves in the lower ones.
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
