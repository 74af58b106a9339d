"""What a search optimises: a score of a subnet's images, computed batch by batch.

| name | loss of one image, or of all |
|---|---|
| `teacher_mae`, `truth_ssim`, ... | of `gancompress.metrics.PAIRED`, image by image |
| `teacher_lpips[alex]`, `truth_lpips[squeeze]` | LPIPS, image by image |
| `kid[NAME]`, `fid[NAME]` | distance to the real images of the target domain, all at once |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gancompress.data import RGB, ImageKind
from gancompress.errors import ConfigError, GanCompressError
from gancompress.metrics import DISTANCES, SetDistance, metric, paired_names
from gancompress.metrics.distances import RealSet
from gancompress.metrics.features import FeatureNetwork, load_features
from gancompress.metrics.perceptual import Lpips
from gancompress.tables import suggest

PerImage = Callable[[Tensor, Tensor], Tensor]
_LPIPS = re.compile(r"(teacher|truth)_lpips\[(\w+)\]")
_DISTANCE = re.compile(r"(\w+)\[(.+)\]")


@dataclass(frozen=True)
class Quality:
    """A score and what it needs.

    Attributes:
        name: As in the table at the top of this module.
        lower_is_better: Direction.
        reference: teacher, truth or real: what images are compared with.
        per_image: Score of each image with its reference, or None for a distance between sets.
        network: Features of a distance between sets, or None.
        distance: That distance, or None.
        applies: Whether images of this height and width are large enough.
    """

    name: str
    lower_is_better: bool
    reference: str
    per_image: PerImage | None = None
    network: FeatureNetwork | None = None
    distance: SetDistance | None = None
    applies: Callable[[int, int], bool] = lambda height, width: True

    @property
    def sign(self) -> float:
        """Factor from score to loss, which is always lower for the better one."""
        return 1.0 if self.lower_is_better else -1.0

    @property
    def is_distance(self) -> bool:
        """Whether it is a distance between sets, which has no losses of single images."""
        return self.network is not None

    @property
    def is_eager(self) -> bool:
        """Whether it has a network, and that runs in eager PyTorch."""
        owner = self.network or self.per_image
        return getattr(owner, "compiled", owner) is None

    @property
    def digest(self) -> str:
        """What tells its numbers from those of another score of the same name."""
        return f"{self.name} {getattr(self.network or self.per_image, 'digest', '')}"

    def check(self, paired: bool, has_real: bool = True, side: int | None = None) -> None:
        """Raise unless the score can be measured on data of this kind.

        Args:
            paired: Whether every input has its truth.
            has_real: Whether there are images of the target domain.
            side: Of the images, where it is known.

        Raises:
            ConfigError: It needs pairs, real images or larger images, and there are none.
        """
        if self.reference == "truth" and not paired:
            raise ConfigError(f"metric {self.name} needs paired data; choose a teacher_... metric")
        if side is not None and not self.applies(side, side):
            raise ConfigError(f"metric {self.name} needs larger images than {side}x{side}")
        if self.reference == "real" and not has_real:
            raise ConfigError(f"metric {self.name} needs real images of the target domain")


def load_quality(
    name: str,
    sources: dict[str, str] | None = None,
    device: torch.device | None = None,
    output: ImageKind = RGB,
) -> Quality:
    """A score by name.

    Args:
        name: As in the table at the top of this module.
        sources: Files or factories of feature networks and LPIPS backbones, by their names.
        device: Where networks run.
        output: What kind of images are scored.

    Raises:
        ConfigError: No such score, or its network has seen RGB images alone and these are others.
        CheckpointError: The weights of its network cannot be had.
    """
    sources = sources or {}
    if name in paired_names():
        score, reference = metric(name), name.partition("_")[0]
        per_image, applies = score.per_image, score.applies
        return Quality(name, score.lower_is_better, reference, per_image, applies=applies)
    if output != RGB and _DISTANCE.fullmatch(name):
        raise ConfigError(f"metric {name} is of RGB images, and these are {output}")
    if match := _LPIPS.fullmatch(name):
        path = sources.get(match[2])
        lpips = Lpips(match[2], Path(path) if path else None, device)
        return Quality(name, True, match[1], lpips)
    if (match := _DISTANCE.fullmatch(name)) and match[1] in DISTANCES:
        network = load_features(match[2], sources.get(match[2]), device)
        return Quality(name, True, "real", None, network, DISTANCES[match[1]])
    sets = (f"{kind}[NAME]" for kind in DISTANCES)
    choices = (*paired_names(), "teacher_lpips[alex]", "truth_lpips[alex]", *sets)
    raise ConfigError(
        f"unknown metric '{name}'{suggest(name, choices)}\n  Choose from {', '.join(choices)}."
    )


@dataclass
class Measurement:
    """The score of one subnet in the making.

    Attributes:
        quality: What is scored.
        values: Losses of the images so far; (n,) float64 each; empty for a distance between sets.
        features: Features of the images so far; empty for a paired score.
    """

    quality: Quality
    values: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)

    def add(self, outputs: Tensor, references: Tensor | None) -> None:
        """Score some more images.

        Args:
            outputs: (n, C, H, W) uint8.
            references: What they are compared with; None for a distance between sets.
        """
        if self.quality.network is not None:
            self.features.append(self.quality.network(outputs))
        elif self.quality.per_image is not None and references is not None:
            values = self.quality.per_image(outputs, references)
            if values.isnan().any():
                raise GanCompressError(f"metric {self.quality.name} of an image is not a number")
            self.values.append(self.quality.sign * values)

    @property
    def losses(self) -> Tensor:
        """Losses of all images so far, (n,) float64."""
        return torch.cat(self.values) if self.values else torch.empty(0, dtype=torch.float64)

    def loss(self, real: RealSet | None) -> float:
        """Of all images so far."""
        if self.quality.network is None:
            return float(self.losses.mean())
        assert real is not None
        assert self.quality.distance is not None
        return self.quality.distance.of_features(real, torch.cat(self.features))
