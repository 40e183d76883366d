"""A trunk learns shapes without labels: rotation and solarization in one image, with Frank-Wolfe.

Run it with ``python -m examples.short.mpssl_minimal``; it takes a few seconds.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

import gradbalance as gb

NUM_STEPS, BATCH_SIZE, SIZE = 200, 64, 24
TASKS = ("rotation", "solarization")
THRESHOLDS = torch.tensor([2.0, 0.75, 0.5, 0.25])  # 2 does not change the image


def draw_shapes(num: int) -> tuple[Tensor, Tensor]:
    """Return coloured, shaded, upright arrows, tees and pawns [N, 3, S, S], and their kinds [N]."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    u, v = ((axis + 0.5 * torch.rand(num, 1, 1) - 0.25) / 0.65 for axis in (x, y))
    arrow = ((v < 0) & (v > -1) & (u.abs() < v + 1)) | ((v >= 0) & (v < 1) & (u.abs() < 0.3))
    tee = (((v + 0.7).abs() < 0.3) & (u.abs() < 1)) | ((v.abs() < 1) & (u.abs() < 0.3))
    pawn = (u**2 + (v + 0.5) ** 2 < 0.2) | ((v > -0.2) & (v < 1) & (u.abs() < 0.2 + 0.6 * v))
    kinds = torch.randint(3, (num,))
    inside = torch.stack([arrow, tee, pawn])[kinds, torch.arange(num)][:, None]
    bright, dark = 0.5 + 0.5 * torch.rand(num, 3, 1, 1), 0.5 * torch.rand(num, 3, 1, 1)
    shade = 0.7 + 0.3 * torch.sin(6 * torch.rand(num, 1, 1, 1) + 3 * x + 3 * y)
    return torch.where(inside, bright, dark) * shade, kinds


def mix(images: Tensor, classes: dict[str, Tensor]) -> Tensor:
    """Rotate each image, then invert its bright pixels, both according to the image's classes."""
    rotated = torch.stack([images.rot90(k, (2, 3)) for k in range(4)])
    rotated = rotated[classes["rotation"], torch.arange(len(images))]
    thresholds = THRESHOLDS[classes["solarization"]][:, None, None, None]
    return torch.where(rotated < thresholds, rotated, 1 - rotated)


def block(width_in: int, width: int) -> nn.Sequential:
    """Return a convolution with pooling, normalisation and ReLU."""
    convolution = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.MaxPool2d(2), nn.BatchNorm2d(width), nn.ReLU())


def shapes_told(trunk: nn.Module) -> float:
    """Return the accuracy (%) of nearest-neighbour shapes, among 30 other images, by features."""
    images, kinds = draw_shapes(1030)
    with torch.no_grad():
        features = normalize(trunk.eval()(images))
    trunk.train()
    nearest = (features[30:] @ features[:30].T).argmax(dim=1)
    return 100 * (kinds[:30][nearest] == kinds[30:]).float().mean().item()


def main() -> None:
    """Train the trunk on both tasks, and print its shape accuracy before and after."""
    torch.set_num_threads(1)  # more threads do not help with such a small network
    torch.manual_seed(0)
    trunk = nn.Sequential(block(3, 16), block(16, 32), block(32, 64), nn.Flatten())
    heads = nn.ModuleDict({task: nn.Linear(64 * (SIZE // 8) ** 2, 4) for task in TASKS})
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=3e-3)
    solver = gb.MGDA(method="frank_wolfe", normalization="loss+")
    balancer = gb.Balancer(solver, gb.Representation(trunk), scale="norm")
    print(f"shapes told by the nearest of 30 images, before: {shapes_told(trunk):.0f} %")
    for step in range(NUM_STEPS):
        classes = {task: torch.randint(4, (BATCH_SIZE,)) for task in TASKS}
        z = trunk(mix(draw_shapes(BATCH_SIZE)[0], classes))
        optimizer.zero_grad()
        balancer.backward({t: cross_entropy(heads[t](z), classes[t]) for t in TASKS})
        optimizer.step()
        if (step + 1) % (NUM_STEPS // 2) == 0:
            print(f"step {step + 1}, {balancer.report}")
    print(f"shapes told by the nearest of 30 images, after: {shapes_told(trunk):.0f} %")


if __name__ == "__main__":
    main()
