"""An adapter for a published generator: the faces of the package gan-face-generate (MIT).

An adapter for any other published generator can follow it:

1. The network is the publisher's own class. It is imported only when it is needed, and nothing else
   of its package is: other modules may need packages that are not installed.
2. The weights are read as data, never as code (``weights_only=True``), and the sizes are taken
   from them. Names that begin with "module." (``DataParallel``) must be renamed first.
3. ``forward`` takes latents from a standard normal distribution, and brings them, and the classes
   if there are any, into the form the network expects. It brings the output into [0, 1] and to
   32×32 by differentiable operations: averaging or interpolating, never rounding or clamping.
4. ``load`` returns it frozen: in evaluation mode an image does not depend on the rest of its batch.
"""

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.common.checkpoint import DAMAGED
from examples.metapseudo.generators.generator import Generator, frozen


class FaceGenerator(Generator):
    """Faces without classes, by a DCGAN (Radford et al., ICLR 2016) trained on DigiFace-1M.

    Args:
        network: A network from latents [N, L, 1, 1] to images [N, 3, 64, 64] in [-1, 1].
        latent_size: Length of a latent, L.
    """

    def __init__(self, network: nn.Module, latent_size: int) -> None:
        super().__init__()
        self.network = network
        self.latent_size = latent_size
        self.num_classes = 0

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1]; see ``Generator``.

        Args:
            latents: Latents [N, L].
            classes: Not used, as the generator has none.
        """
        images: Tensor = self.network(latents[:, :, None, None])
        return functional.avg_pool2d((images + 1) / 2, 2)

    @classmethod
    def load(cls, path: Path | None = None) -> "FaceGenerator":
        """Read the generator from its weights, frozen.

        Args:
            path: File of weights; by default the one in the package. No code in it is run.

        Raises:
            ModuleNotFoundError: The package is not installed.
            ValueError: The file does not hold the weights of this generator.
        """
        try:
            from gan_face_generate.models import Generator as Network
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the generator of faces was not found; install it, on Python 3.12 or older, with "
                "`pip install --no-deps gan-face-generate`"
            ) from error
        file = path or resources.files("gan_face_generate") / "weights.tar"
        try:
            with file.open("rb") as opened:
                state = torch.load(opened, map_location="cpu", weights_only=True)
            weights = state["netG_state_dict"]
            latent_size, width = len(weights["main.0.weight"]), len(weights["main.12.weight"])
            network = Network(ngpu=0, nc=3, nz=latent_size, ngf=width)
            network.load_state_dict(weights)
        except DAMAGED as error:
            raise ValueError(f"{file} does not hold the weights of faces: {error!r}") from error
        generator = cls(network, latent_size)
        frozen(generator)
        return generator
