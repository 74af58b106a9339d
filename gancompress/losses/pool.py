"""The history of generated images that CycleGAN shows its discriminators."""

from __future__ import annotations

import torch
from torch import Tensor


class ImagePool:
    """Returns, with probability one half, an older image in place of each new one.

    Source: Shrivastava et al., Learning from Simulated and Unsupervised Images, CVPR 2017.

    Args:
        size: Images kept; 0 passes everything through.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def query(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Exchange (N, C, H, W) detached images with the pool; the same shape comes back."""
        if self.size == 0:
            return images
        chosen = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                chosen.append(image)
            elif torch.rand((), generator=rng) < 0.5:
                index = int(torch.randint(self.size, (), generator=rng))
                chosen.append(self.images[index].to(image.device))
                self.images[index] = image.clone()
            else:
                chosen.append(image)
        return torch.stack(chosen)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The images in order."""
        return {"images": self.images}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Continue with the images of a saved pool."""
        self.images = list(state["images"])
