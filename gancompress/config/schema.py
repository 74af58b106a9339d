"""The options of every stage. Each class is one section of an options file."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    SerializeAsAny,
    model_validator,
)

from gancompress.errors import ConfigError
from gancompress.paths import FACTORY
from gancompress.tables import lookup

Size = Annotated[int, Field(ge=1, lt=1 << 53)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Few = Annotated[int, Field(ge=1, le=1 << 16)]  # what takes memory or a process each
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Channels = Annotated[int, Field(ge=1, le=4096)]
Side = Annotated[int, Field(ge=1, le=16384)]  # in pixels
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Scale = Annotated[float, Field(ge=0.01, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[  # of a training that is over: several, or one
    tuple[Fraction, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, int | float) else value),
]


def entry(table: str, name: str, kind: str) -> Any:
    """Entry `name` of a table such as `gancompress.models:GENERATORS`.

    Tables hold what takes long to import, which is done when a name is checked.

    Raises:
        ConfigError: The name is not in the table.
    """
    module, _, attribute = table.partition(":")
    return lookup(getattr(importlib.import_module(module), attribute), name, kind)


def _named(table: str, kind: str) -> AfterValidator:
    """Refuses what is not in a table, see `entry`."""

    def check(name: str) -> str:
        entry(table, name, kind)
        return name

    return AfterValidator(check)


_PAIRING_ALIASES = {"aligned": "paired", "unaligned": "unpaired"}
Mode = Annotated[
    str,
    BeforeValidator(lambda value: _PAIRING_ALIASES.get(str(value), value)),
    _named("gancompress.data:DATA_KINDS", "kind of data"),
    Field(validate_default=False),
]


def _image_kind(text: str) -> str:
    """The name of a kind of image, see `gancompress.data.image_kinds`."""
    return str(importlib.import_module("gancompress.data").image_kind(text))


KindOfImage = Annotated[str, AfterValidator(_image_kind)]
GanMode = Annotated[
    str, _named("gancompress.losses:GAN_LOSSES", "GAN mode"), Field(validate_default=False)
]
Recon = Annotated[
    str,
    _named("gancompress.losses:RECON_LOSSES", "reconstruction loss"),
    Field(validate_default=False),
]
Precision = Literal["auto", "fp32", "bf16"]
MetaFiles = Annotated[
    dict[Literal["A", "B", "AB"], Path] | None,
    BeforeValidator(lambda value: {"AB": value} if isinstance(value, str | Path) else value),
]


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class FamilyOptions(Section):
    """A section that names a family, whose record says which keys it takes."""

    table: ClassVar[str]
    kind: ClassVar[str]
    optional: ClassVar[frozenset[str]]  # keys that not every family takes

    name: str

    @model_validator(mode="wrap")
    @classmethod
    def _by_record(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """The section of the family's own class, where it has one; no key without effect."""
        if isinstance(value, dict):
            name = value.get("name", cls.model_fields["name"].default)
            own = entry(cls.table, str(name), cls.kind).options
            if own is not cls and issubclass(own, cls):
                section: Self = own.model_validate(value)
                return section
        made = handler(value)
        takes = entry(cls.table, made.name, cls.kind).takes
        for key in sorted(cls.optional - takes):
            if getattr(made, key) != cls.model_fields[key].default:
                taken = [k for k in cls.model_fields if k not in cls.optional - takes]
                raise ConfigError(
                    f"{cls.kind}.{key}={getattr(made, key)} has no effect on {made.name}, "
                    f"which takes {', '.join(taken)}"
                )
        return made


class DrawingOptions(Section):
    """Inputs that are black lines (0, 0, 0) on flat colours, drawn anew as people draw.

    Lengths are pixels at load_size, which must be the size of the files.
    """

    clean: Share = 0.25  # drawings left as they are
    max_width: Annotated[int, Field(ge=1, le=4)] = 4  # of lines that are one pixel wide
    wobble: Weight = 1.5  # of lines
    misfit: Weight = 2.0  # of colours against their outlines
    gaps: Share = 0.6  # in lines, small and large; 0 leaves none
    specks: Share = 0.3  # left white
    unpainted: Share = 0.15  # regions left white, in half of the drawings
    soft: Share = 0.2  # soft brushes; the same share again has pale lines
    no_lines: Share = 0.1
    no_fill: Share = 0.05


class AffineOptions(Section):
    """Input and target moved together; the border is continued."""

    probability: Share = 0.5
    rotate: Annotated[float, Field(ge=0, le=180)] = 15.0  # degrees at most, either way
    scale: tuple[Scale, Scale] = (0.8, 1.1)
    shift: Share = 0.05  # of the side, at most


class HueOptions(Section):
    """The hue of input and target turned together."""

    probability: Share = 0.5
    turn: Annotated[float, Field(ge=0, le=0.5)] = 0.5  # at most, either way; 0.5: any hue


class AugmentOptions(Section):
    """Random changes of training images, each of them left out unless it is given."""

    drawing: DrawingOptions | None = None
    affine: AffineOptions | None = None
    hue: HueOptions | None = None


class DataOptions(Section):
    """Where the images are and how they become training crops."""

    root: Path
    mode: Mode = "paired"  # side by side in one file, or files of one name in two folders
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    # kinds of images: rgb, grey, rgba, labels:N, bands:N; by default those of the teacher or, where
    # it is trained, of the files, as far as these are clear: all else is read as RGB
    input: KindOfImage | None = None
    target: KindOfImage | None = None
    load_size: Side = 286  # every image is resized to load_size x load_size ...
    crop_size: Side = 256  # ... and a random crop of this size is taken
    # whole images are evaluated, searched and exported at this size; crop_size by default, which is
    # wrong where crops are small parts: load_size then has the scale of training
    eval_size: Side | None = None
    flip: bool = True
    augment: AugmentOptions = AugmentOptions()
    search_fraction: Fraction = 0.1  # of train, held out where there is no search folder
    split_seed: Seed = 0  # with the images' contents, this chooses which are held out
    train_meta: MetaFiles = None  # lists instead of folders; {A: file, B: file} if unpaired
    search_meta: MetaFiles = None
    test_meta: MetaFiles = None
    max_images: Size | None = None
    cache_gb: Weight = 4.0  # decoded images kept in memory

    @property
    def whole_size(self) -> int:
        """Side at which whole images are evaluated."""
        return self.eval_size or self.crop_size


class GeneratorOptions(FamilyOptions):
    """A family of generators and what is shared by many; a family may add keys of its own."""

    table: ClassVar[str] = "gancompress.models:GENERATORS"
    kind: ClassVar[str] = "generator"
    optional: ClassVar[frozenset[str]] = frozenset({"norm", "padding", "upsampling", "dropout"})

    name: str = "resnet_9blocks"
    input_nc: Channels | None = None  # those of the data's images by default
    output_nc: Channels | None = None
    ngf: Channels = 64
    norm: Literal["instance", "batch", "none"] = "instance"
    padding: Literal["reflect", "replicate", "zero"] = "reflect"
    upsampling: Literal["transposed", "nearest"] = "transposed"  # nearest: then a 3x3 convolution
    dropout: Fraction | None = None

    @property
    def channels(self) -> tuple[int, int]:
        """Of input and output.

        Raises:
            ConfigError: They are not known.
        """
        if self.input_nc is None or self.output_nc is None:
            raise ConfigError("give generator.input_nc and generator.output_nc, such as 3")
        return self.input_nc, self.output_nc


class DiscriminatorOptions(FamilyOptions):
    """A family of discriminators and what is shared by many; a family may add keys of its own."""

    table: ClassVar[str] = "gancompress.models:DISCRIMINATORS"
    kind: ClassVar[str] = "discriminator"
    optional: ClassVar[frozenset[str]] = frozenset({"n_layers", "norm", "spectral_norm"})

    name: str = "n_layers"
    ndf: Channels = 64
    n_layers: Annotated[int, Field(ge=1, le=16)] = 3
    norm: Literal["instance", "batch", "none"] = "instance"
    spectral_norm: bool = False  # of every convolution


class ScheduleOptions(Section):
    """How long to train, counted in images, and how fast."""

    num_images: Count  # at the full learning rate
    num_images_decay: Count = 0  # then linearly down to 0
    batch_size: Few = 1
    lr: Annotated[float, Field(gt=0)] = 2e-4
    beta1: Fraction = 0.5
    ema: Fraction = 0.999  # decay per step of the averaged generator; 0 turns it off
    precision: Precision = "auto"

    @property
    def total_images(self) -> int:
        """Images until the end of the training."""
        return self.num_images + self.num_images_decay


class LogOptions(Section):
    """Intervals in images."""

    log_every: Size = 1_000
    sample_every: Size = 20_000
    checkpoint_every: Size = 20_000
    num_samples: Few = 8


class LpipsOptions(Section):
    """The network of LPIPS as a loss, and of other losses that compare its activations."""

    net: Literal["alex", "squeeze", "vgg"] = "squeeze"
    weights: Path | None = None  # of the backbone; found or downloaded by default


class TeacherLossOptions(Section):
    """Losses of pix2pix (paired) and CycleGAN (unpaired)."""

    gan_mode: GanMode = "lsgan"
    recon: Recon = "l1"
    lambda_gan: Weight = 1.0
    lambda_recon: Weight = 100.0  # paired
    lambda_lpips: Weight = 0.0  # paired
    lpips: LpipsOptions = LpipsOptions()
    lambda_cycle_a: Weight = 10.0  # unpaired
    lambda_cycle_b: Weight = 10.0
    lambda_identity: Weight = 0.5  # times the cycle weight
    pool_size: Annotated[int, Field(ge=0, le=1 << 16)] = 50


class TeacherOptions(Section):
    """`gancompress teacher`."""

    stage: Literal["teacher"] = "teacher"
    run: Path
    seed: Seed = 0
    data: DataOptions
    generator: SerializeAsAny[GeneratorOptions] = Field(default_factory=GeneratorOptions)
    discriminator: SerializeAsAny[DiscriminatorOptions] = Field(
        default_factory=DiscriminatorOptions
    )
    loss: TeacherLossOptions = TeacherLossOptions()
    schedule: ScheduleOptions
    log: LogOptions = LogOptions()
    start_from: Path | None = None  # a trained teacher whose weights this one continues


def _teacher(value: Any) -> Path | str | None:
    """A function as text, anything else as a path."""
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("Input is not a path or a function")  # as pydantic says it
    places = [key for key in ("{input}", "{output}") if key in value]
    if len(places) == 1:
        raise ConfigError(f"teacher.weights: a command needs {{input}} and {{output}}: '{value}'")
    is_named = FACTORY.fullmatch(value) and not os.path.exists(value)
    if places or is_named or re.match(r"https?://", value):
        return value
    return Path(value)


class CallOptions(Section):
    """How a function that teaches is called."""

    workers: Few = 1  # calls at once
    attempts: Few = 5  # for one image
    backoff_s: Weight = 1.0  # before the second one, then twice as long each time, up to 60
    timeout_s: Annotated[float, Field(gt=0)] = 300.0  # of a command or an address
    per_second: Annotated[float, Field(gt=0)] | None = None  # calls, at most
    max_calls: Size | None = None  # of one start, those that fail included


class CheckOptions(Section):
    """Which answers of a function are left out, as nothing can be learnt from them."""

    unchanged: Weight = 1.0  # levels of 255 that they differ from the input, on average; 0: none is
    flat: Weight = 2.0  # levels of standard deviation, where the input has more
    shift: Annotated[int, Field(ge=0)] | None = 8  # pixels against the input, at most
    # share of a split's images, three at least, that may have the very same answer
    alike: Share = 0.02


class TeacherSource(Section):
    """Where the teacher of a distillation comes from: `weights`, `module`, or both.

    `weights` is a run folder, a file of ours, or a foreign checkpoint whose architecture is read
    from its tensors. `module` names a function `package.module:factory` that returns a generator;
    `weights` is then loaded into it.

    Without `module`, `weights` may also be a function from image to image: an ONNX file, a folder
    of finished pairs, `package.module:function`, a command `tool {input} {output}`, or an address
    `http://...` that answers a POST.
    """

    weights: Annotated[Path | str | None, PlainValidator(_teacher)] = None
    module: str | None = None
    discriminator: Path | None = None  # reused by the student where given or found in the run
    norm: Literal["instance", "batch", "none"] | None = None  # where tensors cannot tell
    pairs: Path | None = None  # folder of its answers; `pairs` beside the run by default
    # of a function: a new version is asked about all images again
    version: str | None = None
    calls: CallOptions = CallOptions()
    checks: CheckOptions = CheckOptions()
    # answers of another size are resized, or cropped to a square before, or count as failures
    other_size: Literal["resize", "crop", "refuse"] = "resize"

    @property
    def path(self) -> Path | None:
        """The weights, where they are a file or folder."""
        return self.weights if isinstance(self.weights, Path) else None


def _same_or_family(name: str) -> str:
    if name != "same":
        entry(GeneratorOptions.table, name, GeneratorOptions.kind)
    return name


class StudentOptions(Section):
    """The supernet's generator.

    `same` takes the teacher's architecture and inherits its weights, most important channels
    first; any other name is an entry of `GENERATORS`, and inherits each tensor whose shape agrees.
    """

    name: Annotated[str, AfterValidator(_same_or_family)] = "same"
    ngf: Channels | None = None
    norm: Literal["instance", "batch", "none"] | None = None  # the family's own by default
    upsampling: Literal["transposed", "nearest"] | None = None
    widths: tuple[float, ...] = (0.25, 0.375, 0.5, 0.75, 1.0)  # fractions of every channel group
    divisor: Channels = 8
    depths: tuple[float, ...] = (1.0,)  # fractions of every stage's residual blocks or U-Net levels
    kernels: tuple[Size, ...] = ()  # candidate sides; a convolution takes those that it has
    resolutions: tuple[float, ...] = (1.0,)  # shares of the image's sides at which to run
    keep: tuple[str, ...] = ()  # modules and parameters that keep their full width
    config_set: str | None = None  # a published search space instead of `widths`
    tie_blocks: bool = True  # residual blocks share widths in three groups, as config strings do
    inherit: bool = True

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        """The teacher's architecture is taken as it is."""
        for key in ("ngf", "norm", "upsampling"):
            if self.name == "same" and getattr(self, key) is not None:
                raise ConfigError(
                    f"student.{key}={getattr(self, key)} has no effect on the teacher's own "
                    f"architecture: name another one in student.name"
                )
        return self


class DistillLossOptions(Section):
    """Losses of the once-for-all student."""

    gan_mode: GanMode = "hinge"
    recon: Recon = "l1"
    lambda_gan: Weight = 1.0
    lambda_recon: Weight = 100.0
    lambda_lpips: Weight = 0.0
    lpips: LpipsOptions = LpipsOptions()
    lambda_distill: Weight = 1.0
    terms: dict[str, Weight] = {}  # weights of further ones, see `gancompress.losses.terms`
    target: Literal["teacher", "truth"] = "teacher"  # what `recon` compares with; truth needs pairs
    taps: tuple[str, ...] | None = None  # layers whose activations are compared

    @model_validator(mode="after")
    def _check_terms(self) -> Self:
        """Names in `terms` are those of terms whose weight is no option of its own."""
        for name in self.terms:
            if f"lambda_{name}" in type(self).model_fields:
                raise ConfigError(f"loss.terms.{name}: this weight is loss.lambda_{name}")
            entry("gancompress.losses.terms:TERMS", name, "loss term")
        return self


class SamplingOptions(Section):
    """Which subnets one step trains.

    `phases` is progressive shrinking: by kind of dimension the shares of the training at which its
    smaller candidates become free, evenly over several shares. Until then it stays at its largest,
    and a kind that is not named is free from the start. Once-for-All's order is
    `{kernel: 0.1, depth: [0.25, 0.4], width: [0.55, 0.75]}`; `{width: 0.7}` trains the largest
    network alone for most of a training of widths.
    """

    schedule: Annotated[
        str,
        _named("gancompress.training.sampling:SCHEDULES", "sampling schedule"),
        Field(validate_default=False),
    ] = "sandwich"
    # of a step: in a sandwich besides the largest and the smallest, else all of them
    num_random: Annotated[int, Field(ge=0, le=1 << 16)] = 1
    phases: dict[str, Shares] = {}
    inplace: Share = 0.5  # weight of the largest as a teacher

    @model_validator(mode="after")
    def _check_phases(self) -> Self:
        """Kinds that there are, with shares that ascend."""
        for kind, shares in self.phases.items():
            entry("gancompress.elastic:DIMENSIONS", kind, "kind of dimension")
            if list(shares) != sorted(set(shares)):
                raise ConfigError(f"sampling.phases.{kind}: shares ascend, not {list(shares)}")
        return self


class SupernetOptions(Section):
    """`gancompress supernet`."""

    stage: Literal["supernet"] = "supernet"
    run: Path
    seed: Seed = 0
    data: DataOptions
    teacher: TeacherSource
    student: StudentOptions = StudentOptions()
    discriminator: SerializeAsAny[DiscriminatorOptions] = Field(
        default_factory=DiscriminatorOptions
    )
    loss: DistillLossOptions = DistillLossOptions()
    sampling: SamplingOptions = SamplingOptions()
    schedule: ScheduleOptions
    log: LogOptions = LogOptions()
    start_from: Path | None = None  # a trained supernet whose weights this one continues


class FinetuneOptions(Section):
    """`gancompress finetune`: the supernet's options, for one extracted subnet."""

    stage: Literal["finetune"] = "finetune"
    run: Path
    supernet: Path
    subnet: str
    pairs: Path | None = None  # folder of the teacher's answers; `pairs` beside the run by default
    seed: Seed = 0
    loss: DistillLossOptions = DistillLossOptions()
    schedule: ScheduleOptions
    log: LogOptions = LogOptions()


_EARLIER = ("screen_images", "algorithm", "population", "parent_ratio", "mutation_ratio",
            "mutate_prob")  # fmt: skip


class SearcherOptions(Section):
    """A searcher; its class says which keys it takes, and is what this section becomes."""

    name: str = "guided"

    @model_validator(mode="wrap")
    @classmethod
    def _by_table(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """The searcher itself."""
        if cls is not SearcherOptions or not isinstance(value, dict):
            return handler(value)
        value = {"name": "guided", **value}
        own = entry("gancompress.search.searchers:SEARCHERS", str(value["name"]), "searcher")
        for key in value:
            if key not in own.model_fields:
                takes = ", ".join(own.model_fields)
                raise ConfigError(
                    f"searcher.{key} has no effect on {value['name']}, which takes {takes}"
                )
        searcher: Self = own.model_validate(value)
        return searcher


class SearchOptions(Section):
    """`gancompress search`."""

    stage: Literal["search"] = "search"
    run: Path
    supernet: Path
    seed: Seed = 0
    searcher: SerializeAsAny[SearcherOptions] = Field(
        default_factory=lambda: SearcherOptions.model_validate({})
    )
    size: Side | None = None  # image side for MACs and evaluation; the training crop by default
    metric: str = "teacher_mae"
    features: dict[str, str] = {}  # files or factories of the networks that a metric names
    max_images: Size | None = None  # of the search split
    max_test_images: Size | None = None  # of the test split, for the table at the end
    budgets: tuple[str, ...] = ()  # 2.6G (MACs), params=0.4M, size_mb=1.5, latency_ms@phone=40
    devices: tuple[Path, ...] = ()  # tables of `gancompress latency`
    # logs of other machines or runs: what they hold is not evaluated again, and may be an answer
    trials: tuple[Path, ...] = ()
    num_trials: Size = 1_000  # subnets that the searcher proposes, whether a log knows them or not
    # of one call, after which the search ends with what it has; one that goes on has them anew
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    patience: Size | None = None  # generations in which no front moves before the search ends
    racing: bool = True  # give up a subnet that is surely worse than a cheaper one
    runtime: Literal["auto", "eager", "onnxruntime", "openvino"] = "auto"  # of the subnets
    precision: Literal["float32", "bfloat16"] = "float32"  # bfloat16 needs openvino
    workers: Few = 1  # processes
    batch_size: Few = 4

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_run(cls, raw: Any) -> Any:
        """Reads run folders from before searchers had options: all of them have `screen_images`."""
        if not isinstance(raw, dict) or "screen_images" not in raw:
            return raw
        kept = {key: value for key, value in raw.items() if key not in _EARLIER}
        name, generation = raw.get("algorithm", "guided"), raw.get("population")
        found = {} if generation is None else {"generation": generation}
        if name in ("evolution", "published"):
            found |= {key: raw[key] for key in _EARLIER[3:] if key in raw}
            found["spread"] = name == "evolution"
            name = "evolution"
        given = raw.get("searcher", {})
        if not isinstance(given, dict):
            return kept  # where it is refused by its own name
        return kept | {"searcher": {"name": name, **found, **given}}


class SegmenterOptions(Section):
    """`gancompress segmenter`."""

    stage: Literal["segmenter"] = "segmenter"
    run: Path
    seed: Seed = 0
    data: DataOptions  # load_size is the size at which photos are read when they are scored
    arch: str = "lraspp_mobilenet_v3_large"
    classes: Few | None = None  # label colours; counted in the label images by default
    weights: Path | None = None  # of the backbone; random by default
    window: Annotated[float, Field(gt=0, le=1)] = 0.5  # smallest square cut out, of the side
    jitter: Fraction = 0.25  # of brightness, contrast and saturation
    balance: Share = 0.5  # 0 counts pixels alike, 1 classes
    weight_decay: Weight = 0.01
    schedule: ScheduleOptions = ScheduleOptions(
        num_images=10_000, num_images_decay=10_000, batch_size=16, lr=1e-3, beta1=0.9, ema=0.99
    )
    log: LogOptions = LogOptions(sample_every=10_000, checkpoint_every=2_000)


def _joined(first: Any, second: Any) -> Any:
    """Both mappings in one; what is no mapping alone, to be refused by its key."""
    for given in (first, second):
        if not isinstance(given, dict):
            return given
    return {**first, **second}


class CompressOptions(Section):
    """`gancompress compress`: the options of all stages.

    A file may name the options file of a stage, relative to itself, in place of a section. What
    stands at the top is shared: `run` holds the folders of stages that name none, keys of `data`
    and the `seed` replace those of the stages, and each stage starts from the one before.
    """

    stage: Literal["compress"] = "compress"
    run: Path
    teacher: TeacherOptions | None = None  # left out when supernet.teacher names finished weights
    supernet: SupernetOptions
    search: SearchOptions
    export: tuple[Annotated[str, _named("gancompress.export:FORMATS", "export format")], ...] = (
        Field(("safetensors", "onnx"), validate_default=False)
    )

    @model_validator(mode="before")
    @classmethod
    def _share(cls, raw: Any) -> Any:
        """Stages with what is shared."""
        if not isinstance(raw, dict):
            return raw
        shared = {"data": raw.get("data") or {}, "seed": raw.get("seed")}
        raw = {key: value for key, value in raw.items() if key not in shared}
        for name in ("teacher", "supernet", "search"):
            if isinstance(raw.get(name), dict):
                raw[name] = cls._stage(name, raw, shared)
        return raw

    @staticmethod
    def _stage(name: str, raw: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
        stage = {"run": str(Path(str(raw.get("run", ""))) / name), **raw[name]}
        if shared["seed"] is not None:
            stage["seed"] = shared["seed"]
        if name == "search":
            supernet = raw.get("supernet")
            known = {"supernet": supernet.get("run")} if isinstance(supernet, dict) else {}
            return known | stage
        if shared["data"]:
            stage["data"] = _joined(stage.get("data", {}), shared["data"])
        if name == "supernet" and isinstance(raw.get("teacher"), dict):
            before = {"weights": raw["teacher"].get("run")}
            stage["teacher"] = _joined(before, stage.get("teacher", {}))
        return stage

    @model_validator(mode="after")
    def _check_chain(self) -> Self:
        if self.search.supernet != self.supernet.run:
            raise ConfigError(
                f"search.supernet={self.search.supernet} is not supernet.run={self.supernet.run}"
            )
        return self
