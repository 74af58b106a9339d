"""What a translation is asked to do, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass

from gancompress.data import RGB, ImageKind
from gancompress.errors import ConfigError


@dataclass(frozen=True)
class TranslateOptions:
    """How images are resized, batched and written.

    Attributes:
        batch_size: Images of equal size, or frames, that go through the generator together.
        stride: Inputs are padded to a multiple of this, outputs cropped back.
        size: Shorter side that inputs are resized to and outputs keep; None keeps their size.
        suffix: Suffix, and with it the format, of outputs whose target is a folder; the usual one
            of their kind by default.
        device: Where batches are put; the generator must be there already.
        input: What kind of images the generator takes.
        output: What kind of images it makes.

    Raises:
        ConfigError: A number below 1, or a suffix whose format does not hold outputs.
    """

    batch_size: int = 1
    stride: int = 4
    size: int | None = None
    suffix: str = ""
    device: str = "cpu"
    input: ImageKind = RGB
    output: ImageKind = RGB

    def __post_init__(self) -> None:
        for name in ("batch_size", "stride", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name.replace('_', ' ')} must be at least 1, not {value}")
        if self.suffix and self.suffix not in self.output.suffixes:
            choices = ", ".join(sorted(self.output.suffixes))
            raise ConfigError(
                f"cannot write {self.output} images as '{self.suffix}'\n  Choose from {choices}."
            )


@dataclass(frozen=True)
class TranslateResult:
    """What was done.

    Attributes:
        num_images: Images written; 0 for a video.
        num_frames: Frames written; 0 for images.
        seconds: Wall-clock time with decoding and writing.
    """

    num_images: int
    num_frames: int
    seconds: float
