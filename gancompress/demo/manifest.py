"""`front.json`: what a bundle holds. A bundle is a folder with models and examples of one task."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gancompress.errors import CheckpointError, ConfigError
from gancompress.paths import inside

NAME = "front.json"
Role = Literal["subnet", "teacher", "generator"]
Kind = Literal["sketch", "photo"]
Taken = Literal["rgb", "grey"]
Made = Literal["rgb", "grey", "rgba"]
ModelFile = Annotated[
    str, StringConstraints(pattern=r"^models/[A-Za-z0-9_][A-Za-z0-9_.\-]*\.onnx$")
]
ExampleFile = Annotated[
    str, StringConstraints(pattern=r"^examples/[A-Za-z0-9_][A-Za-z0-9_.\-]*\.png$")
]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(_Entry):
    """What a search measured for a model, on all images of its search split.

    Attributes:
        name: The metric.
        value: Its value.
        lower_is_better: Its direction.
    """

    name: str
    value: float
    lower_is_better: bool


class Model(_Entry):
    """One ONNX file.

    Attributes:
        file: Its path below the bundle.
        sha256: Of the file's content, in hexadecimal.
        bytes: Its length.
        name: Config string, or what the network is called.
        role: Cut out of a student, what the student was taught by, or neither.
        params: Parameters.
        macs: Multiply-accumulates of one image at the manifest's size.
        score: What is known of its quality.
        max_difference: Largest difference to the network in PyTorch, images being in [-1, 1].
        psnr_db: Least PSNR of an image to it; None where nothing differs.
        num_images: Images that were compared.
    """

    file: ModelFile
    sha256: Digest
    bytes: int
    name: str
    role: Role
    params: int
    macs: int
    score: Score | None
    max_difference: float
    psnr_db: float | None
    num_images: int


class Example(_Entry):
    """One input as a PNG, at the size that the data has.

    Attributes:
        file: Its path below the bundle.
        sha256: Of the file's content, in hexadecimal.
        name: Of the image in the data.
    """

    file: ExampleFile
    sha256: Digest
    name: str


class Pad(_Entry):
    """How a drawing becomes what the network was trained on.

    Attributes:
        grid: Side in pixels of the drawing, before it is resized to the network's input.
        width: Of the lines, in pixels of the grid; of a brush where there are no lines.
        paper: Colour of the empty pad.
        colours: What one may draw with, or begin with where any colour may be taken.
        line: Colour of lines over colours: a pixel is part of a line exactly if it is this one;
            None where lines are a colour like others.
        free: Whether any colour may be taken.
    """

    grid: int = Field(ge=8, le=4096)
    width: int = Field(ge=1, le=256)
    paper: Colour
    colours: tuple[Colour, ...] = Field(min_length=1)
    line: Colour | None = None
    free: bool = False


class Manifest(_Entry):
    """Content of `front.json`.

    Attributes:
        format: Version of this layout.
        title: Name of the task.
        input: What the page offers: a drawing pad, or a picture and the webcam.
        taken: What kind of images the models take.
        made: What kind of images they make.
        size: Side in pixels of the images that the models were made for.
        stride: What both sides must be multiples of.
        pad: The drawing pad of sketches.
        models: Ascending in MACs.
        examples: Inputs that were not trained on, where there are any.
        source: Hash of what the bundle was made from; an equal one need not be made again.
    """

    format: Literal[1] = 1
    title: str
    input: Kind
    taken: Taken = "rgb"
    made: Made = "rgb"
    size: int = Field(ge=8, le=4096)
    stride: int = Field(ge=1)
    pad: Pad | None
    models: tuple[Model, ...] = Field(min_length=1)
    examples: tuple[Example, ...]
    source: str

    def files(self) -> dict[str, str]:
        """SHA-256 of every file of the bundle beside `front.json`, by path."""
        models = {model.file: model.sha256 for model in self.models}
        return models | {example.file: example.sha256 for example in self.examples}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle.

    Raises:
        ConfigError: There is none.
        CheckpointError: It is damaged, or of another version.
    """
    path = folder / NAME
    if not path.is_file():
        raise ConfigError(f"{folder} is not a bundle of models: it holds no {NAME}")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else None
        where = ".".join(map(str, reason["loc"])) if reason else ""
        text = f"{where}: {reason['msg']}" if reason else str(error)
        raise CheckpointError(f"{path} is not a manifest of this version: {text}") from None


def read_bundle(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """A bundle with the contents of its files, which are those that it was made with.

    Raises:
        ConfigError: There is no manifest, or a file is a link to elsewhere.
        CheckpointError: The manifest or a file is damaged or missing.
    """
    manifest = read_manifest(folder)
    contents = {}
    for name, digest in manifest.files().items():
        path = inside(folder, name)
        content = path.read_bytes() if path.is_file() else None
        if content is None or sha256(content) != digest:
            state = "is missing" if content is None else "is not the file that the bundle lists"
            raise CheckpointError(f"{path} {state}\n  Make the bundle again from its run.")
        contents[name] = content
    return manifest, contents


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()
