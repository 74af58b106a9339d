"""The history of generated images that CycleGAN shows its discriminators."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.distributed import own_share, whole_batch


class ImagePool:
    """Returns, with probability one half, an older image in place of each new one.

    Of several ranks each keeps the same pool, that of one process: all see the images of the whole
    batch, in its order.

    Source: Shrivastava et al., Learning from Simulated and Unsupervised Images, CVPR 2017.

    Args:
        size: Images kept; 0 passes everything through.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def query(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Exchange (N, C, H, W) detached images with the pool; the same shape comes back.

        Args:
            images: Of this rank.
            rng: Has the same numbers on all ranks.
        """
        if self.size == 0:
            return images
        chosen = []
        for image in whole_batch(images.detach()):
            if len(self.images) < self.size:
                self.images.append(image.clone())
                chosen.append(image)
            elif torch.rand((), generator=rng) < 0.5:
                index = int(torch.randint(self.size, (), generator=rng))
                chosen.append(self.images[index].to(image.device))
                self.images[index] = image.clone()
            else:
                chosen.append(image)
        return own_share(torch.stack(chosen))

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The images in order."""
        return {"images": self.images}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Continue with the images of a saved pool."""
        self.images = list(state["images"])
