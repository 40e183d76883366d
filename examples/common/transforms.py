"""Batched image operations, with one parameter per image, that agree with Pillow's operations.

Images are float tensors [N, 3, H, W] in [0, 1], parameters are tensors [N] on the same device.
Only ``crop_and_flip`` draws random numbers, from a generator that the caller passes.

Kornia's batched operations are used where possible. For sharpness, solarization and posterization
Kornia loops over the images of a batch in Python, so these are implemented here, with two further
differences: sharpness rounds as Pillow does, and posterization rounds to the nearest 8-bit level
where Kornia truncates. So a pixel that lies below a level only by the rounding error of an earlier
operation keeps its level.
"""

import torch
from kornia import enhance
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Return 8-bit images as floats in [0, 1].

    Args:
        images: uint8 tensor of any shape.
    """
    return images.to(torch.float32) / 255


def normalize(images: Tensor) -> Tensor:
    """Map images from [0, 1] to [-2, 2], in the same way for every data set.

    Args:
        images: Float tensor of any shape.
    """
    return (images - 0.5) / 0.25


def crop_and_flip(images: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Shift every image by up to ``padding`` pixels, mirroring the border, and flip half of them.

    Args:
        images: Images [N, C, H, W].
        generator: CPU generator; the draws do not depend on the images' device.
        padding: Largest shift in pixels.
    """
    num_images, _, height, width = images.shape
    top = torch.randint(2 * padding + 1, (num_images, 1), generator=generator)
    left = torch.randint(2 * padding + 1, (num_images, 1), generator=generator)
    flip = torch.randint(2, (num_images, 1), generator=generator).bool()
    rows = _mirror(top - padding + torch.arange(height), height)
    columns = torch.where(flip, torch.arange(width).flip(0), torch.arange(width))
    columns = _mirror(left - padding + columns, width)
    return _take(images, rows[:, :, None] * width + columns[:, None, :])


def rotate(images: Tensor, quarter_turns: Tensor) -> Tensor:
    """Rotate square images counter-clockwise, as ``Image.rotate`` does.

    Args:
        images: Images [N, C, S, S].
        quarter_turns: Number of 90 degree turns of each image, 0 to 3.
    """
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"images must be square to be rotated, got {tuple(images.shape)}")
    size = images.shape[-1]
    pixels = torch.arange(size * size, device=images.device).view(size, size)
    turned = torch.stack([torch.rot90(pixels, k) for k in range(4)])
    return _take(images, turned[quarter_turns.long()])


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with black: ``ImageEnhance.Brightness``.

    Args:
        images: Images [N, 3, H, W].
        factors: 0 is black, 1 leaves an image as it is.
    """
    return _tensor(enhance.adjust_brightness_accumulative(images, factors))


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the image's mean grey: ``ImageEnhance.Contrast``.

    Args:
        images: Images [N, 3, H, W].
        factors: 0 is plain grey, 1 leaves an image as it is.
    """
    return _tensor(enhance.adjust_contrast_with_mean_subtraction(images, factors))


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the grey image: ``ImageEnhance.Color``.

    Args:
        images: Images [N, 3, H, W].
        factors: 0 is grey, 1 leaves an image as it is.
    """
    return _tensor(enhance.adjust_saturation_with_gray_subtraction(images, factors))


def adjust_sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the smoothed image: ``ImageEnhance.Sharpness``.

    Args:
        images: Images [N, 3, H, W].
        factors: 0 is smoothed, 1 leaves an image as it is, above 1 sharpens.
    """
    # Pillow's SMOOTH kernel is (all ones, 5 in the middle) / 13. It does not change the border
    # pixels and rounds to 8 bits, which is visible with a factor of 5. Plain sums are used, because
    # a GPU would compute a convolution in TF32, and pooling takes four times as long on a CPU.
    height, width = images.shape[-2:]
    shifted = [
        images[..., top : height - 2 + top, left : width - 2 + left]
        for top in range(3)
        for left in range(3)
    ]
    total = shifted[0] + shifted[1]
    for neighbour in shifted[2:]:
        total += neighbour
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = _round8((9 * (total / 9) + 4 * images[..., 1:-1, 1:-1]) / 13)
    return torch.lerp(smooth, images, _per_image(factors)).clamp(0, 1)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the pixels at or above a threshold: ``ImageOps.solarize``.

    Args:
        images: Images [N, 3, H, W].
        thresholds: In [0, 1]; anything above 1 leaves an image as it is, white pixels included.
    """
    return torch.where(images < _per_image(thresholds), images, 1 - images)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the leading bits of every 8-bit channel: ``ImageOps.posterize``.

    Args:
        images: Images [N, 3, H, W].
        bits: 1 to 8; 8 leaves an image as it is.
    """
    bits = _per_image(bits)
    step = torch.exp2(8 - bits)
    kept = torch.floor(torch.round(images * 255) / step) * step / 255
    return torch.where(bits == 8, images, kept)


def _round8(images: Tensor) -> Tensor:
    return torch.round(images * 255) / 255


def _take(images: Tensor, pixels: Tensor) -> Tensor:
    """Build each image [C, H, W] from its own pixels; [H, W] has their indexes, flattened."""
    index = pixels.to(images.device).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).view(images.shape)


def _mirror(places: Tensor, size: int) -> Tensor:
    """Mirror positions just outside of [0, size) back inside, without repeating the border."""
    return size - 1 - (size - 1 - places.abs()).abs()


def _per_image(parameters: Tensor) -> Tensor:
    return parameters[:, None, None, None]


def _tensor(value: object) -> Tensor:
    # Kornia's types are not exported.
    assert isinstance(value, Tensor)
    return value
