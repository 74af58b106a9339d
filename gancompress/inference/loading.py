"""`load_generator`: any MODEL, ready to translate pictures in somebody's program."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gancompress.checkpoint.network import header_kinds
from gancompress.checkpoint.resolve import Model
from gancompress.data import RGB, Generator, ImageKind, kind_of_channels
from gancompress.errors import ConfigError
from gancompress.inference.batches import translate_images
from gancompress.inference.pictures import unpack
from gancompress.runtimes import FileGenerator
from gancompress.runtimes.threads import pinned_threads

Picture = TypeVar("Picture", Image.Image, NDArray[Any], Tensor)


@dataclass(frozen=True, repr=False)
class LoadedGenerator:
    """A generator of any kind, ready to run.

    Attributes:
        run: The bare network: (N, C, H, W) float32 in [-1, 1] on `device` -> (N, C', H, W).
        stride: What H and W must be multiples of for `run`; `generate` pads.
        header: What its file says of it.
        name: The MODEL that was loaded.
        device: Where it computes.
        input: What kind of images it takes.
        output: What kind of images it makes.
        side: Of its square inputs, where it takes no others.
    """

    run: Generator
    stride: int
    header: dict[str, Any]
    name: str
    device: torch.device
    input: ImageKind = RGB
    output: ImageKind = RGB
    side: int | None = None

    @property
    def size(self) -> int | None:
        """Side in pixels of the images that it was trained on, where its file says so."""
        size: int | None = self.header.get("image_size")
        return size

    @property
    def subnet(self) -> str | None:
        """Config string of the subnet that it is, of a supernet."""
        subnet: str | None = self.header.get("subnet")
        return subnet

    @overload
    def generate(self, images: Picture, batch_size: int = 1) -> Picture: ...

    @overload
    def generate(self, images: list[Picture], batch_size: int = 1) -> list[Picture]: ...

    def generate(self, images: Any, batch_size: int = 1) -> Any:
        """Translate pictures of any size; the result is of the type and size that came.

        | given | shape | values | result |
        |---|---|---|---|
        | PIL image | any size | any mode, as `gancompress translate` reads files | see `output` |
        | numpy array | (H, W, C) or (N, H, W, C) | uint8, or floating in [0, 1] | same dtype |
        | torch tensor | (C, H, W) or (N, C, H, W) | uint8, or floating in [-1, 1] | same dtype and
          device, without gradients |
        | list of these | each of any size | | list |

        Channels are those of `input` and `output`; colours are RGB, label maps one-hot. A PIL image
        comes back upright where EXIF turns it. Grey arrays (H, W) are refused, as (N, H, W) could
        not be told from (H, W, C): make PIL images of them.

        Args:
            images: See above.
            batch_size: Most images that go through the network together; those of equal size
                after padding do.

        Raises:
            DataError: No picture, or one of another shape, dtype or range; or the network made
                NaN of it.
            ConfigError: A batch size below 1, or the network changes the size.
            CheckpointError: A file of one fixed size was given another.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        unpacked = unpack(images, self.input, self.output)
        inputs = [image for one in unpacked for image in one.images]
        outputs = iter(
            translate_images(self.run, inputs, self.stride, batch_size, str(self.device))
        )
        packed = [one.pack([next(outputs) for _ in one.images]) for one in unpacked]
        return packed if isinstance(images, list) else packed[0]

    __call__ = generate

    def __repr__(self) -> str:
        facts = [f"subnet {self.subnet}"] if self.subnet else []
        facts += [f"trained at {self.size}x{self.size}"] if self.size else []
        facts += [f"stride {self.stride}", f"on {self.device}"]
        return f"<generator {self.name}: {', '.join(facts)}>"


def load_generator(
    model: str | os.PathLike[str],
    subnet: str | None = None,
    module: str | None = None,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    trusted: Collection[str] = (),
    allow_code: bool = False,
) -> LoadedGenerator:
    """A generator from any MODEL that the commands take.

    ```python
    generator = gancompress.load_generator("runs/horse2zebra")
    generator.generate(Image.open("photo.jpg")).save("zebra.png")
    ```

    Args:
        model: A run folder of any stage, a checkpoint of ours or of anyone's (`.safetensors`,
            `.pth`), or an exported file (`.onnx`, `.xml`, `.pt2`).
        subnet: Config string of a subnet of a supernet or search; by default the largest of a
            supernet, and of a search the best under its smallest budget.
        module: `package.module:factory` for the tensors of a network that is not ours.
        device: Where a network computes; an exported file computes on the CPU.
        threads: Of the computation on the CPU; the runtime's choice by default.
        trusted: Further factories, for files that ask for one; a file alone has none imported.
        allow_code: Whether you trust whoever made the file: a `.pt2` may run any code while it is
            read.

    Raises:
        CheckpointError: The weights cannot be used; or code would have to be run that you have not
            allowed.
        ConfigError: There is no such model; or subnet, module, device or threads make no sense.
        SpaceError: The subnet does not belong to the supernet.
    """
    return load(Model(Path(model), subnet, module, trusted, allow_code), device, threads)


def load(
    model: Model, device: str | torch.device = "cpu", threads: int | None = None
) -> LoadedGenerator:
    """See `load_generator`."""
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, not {threads}")
    opened, name, cpu = model.open(threads), str(model.path), torch.device("cpu")
    if isinstance(opened, FileGenerator):
        usual = (kind_of_channels(channels or RGB.channels) for channels in opened.channels)
        kinds = header_kinds(opened.header, name, *usual)
        return LoadedGenerator(opened, opened.stride, opened.header, name, cpu, *kinds, opened.side)
    place = _device(device)
    run = _with_threads(opened.module.to(place), threads)
    kinds = (opened.input, opened.output)
    return LoadedGenerator(run, opened.stride, opened.header, name, place, *kinds)


def _with_threads(run: Generator, threads: int | None) -> Generator:
    if threads is None:
        return run

    def pinned(x: Tensor) -> Tensor:
        with pinned_threads(threads):
            return run(x)

    return pinned


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device '{name}' cannot be used here: {reason}") from None
    return device
