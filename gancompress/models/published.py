"""The generators that gan-compression published, built from their config strings, and its table.

Source: Li et al., GAN Compression, CVPR 2020, and the table and scripts of its release.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from gancompress.errors import SpaceError
from gancompress.models.configs import parse_config
from gancompress.models.munit import MunitGenerator, MunitWidths
from gancompress.models.resnet import BlockStyle, ResnetGenerator, ResnetWidths, resnet_widths
from gancompress.models.spade import SpadeGenerator, SpadeStyle, SpadeWidths
from gancompress.tables import lookup

NGF = 64
"""Width of every original generator of the table."""


@dataclass(frozen=True)
class Row:
    """A row of the published table, as printed.

    Attributes:
        model: Entry of `MODELS`.
        data: Data set.
        method: `original`; `paper` (as in the first paper), `retrained` (as released) or `fast`
            (no pruned student before the supernet).
        params: Parameters.
        macs: Multiply-accumulates, by the counter of the time.
        config: Config string of the figures; nothing for an original.
        fid: Frechet distance, where it is given.
        miou: Mean intersection over union in percent, where it is given.
        released: Config string in the released scripts where that is another one.
        legacy: See `resnet_widths`.
    """

    model: str
    data: str
    method: str
    params: str
    macs: str
    config: str = ""
    fid: float | None = None
    miou: float | None = None
    released: str = ""
    legacy: bool = False


@dataclass(frozen=True)
class Published:
    """How a model of the table is built.

    Attributes:
        original: The full generator.
        student: The generator of a config string, legacy or not.
        inputs: Shape (1, C, H, W) at which its multiply-accumulates were counted.
    """

    original: Callable[[], nn.Module]
    student: Callable[[str, bool], nn.Module]
    inputs: tuple[int, int, int, int]


def build_config(text: str, ngf: int | None = None, legacy: bool = False) -> nn.Module:
    """The untrained mobile ResNet generator with nine blocks of a config string.

    Args:
        text: 8 numbers, or 6 where one is for the inner width of all blocks.
        ngf: Width of the supernet that it is a subnet of: no number may be larger.
        legacy: See `resnet_widths`.

    Raises:
        SpaceError: No config string, or wider than the supernet.
    """
    numbers = parse_config(text, 8, 6)
    if ngf is not None and max(numbers) > ngf:
        raise SpaceError(f"config string '{text}' goes up to width {max(numbers)}, above ngf {ngf}")
    return ResnetGenerator(3, 3, resnet_widths(numbers, legacy), _resnet_style(separable=True))


def build_published(row: Row, config: str | None = None) -> nn.Module:
    """The untrained generator of a row.

    Args:
        row: Of the table.
        config: Another config string than the row's.

    Raises:
        SpaceError: No config string of that family.
    """
    model = published_model(row)
    text = row.config if config is None else config
    return model.student(text, row.legacy) if text else model.original()


def published_model(row: Row) -> Published:
    """How a row's generators are built; one of GauGAN takes the label maps of its data set."""
    name = f"{row.model} {row.data}" if row.model == "GauGAN" else row.model
    return lookup(MODELS, name, "published model")


def _resnet_style(separable: bool) -> BlockStyle:
    # a dropout layer that drops nothing keeps its place in the module names
    return BlockStyle("instance", "reflect", 0.0, separable)


def _resnet() -> Published:
    def original() -> nn.Module:
        return ResnetGenerator(3, 3, ResnetWidths.of(NGF, 9), _resnet_style(separable=False))

    def student(text: str, legacy: bool) -> nn.Module:
        return build_config(text, legacy=legacy)

    return Published(original, student, (1, 3, 256, 256))


def _spade(label_nc: int, up_samplings: int, width: int) -> Published:
    def original() -> nn.Module:
        return SpadeGenerator(SpadeWidths.of(NGF), SpadeStyle(label_nc, False, up_samplings))

    def student(text: str, legacy: bool) -> nn.Module:
        widths = SpadeWidths.of_config(parse_config(text, 8))
        return SpadeGenerator(widths, SpadeStyle(label_nc, True, up_samplings))

    return Published(original, student, (1, label_nc, 256, width))


def _munit() -> Published:
    def original() -> nn.Module:
        return MunitGenerator(MunitWidths.of(NGF), separable=False)

    def student(text: str, legacy: bool) -> nn.Module:
        return MunitGenerator(MunitWidths.of_config(parse_config(text, 10)), separable=True)

    return Published(original, student, (1, 3, 256, 256))


MODELS: dict[str, Published] = {
    "CycleGAN": _resnet(),
    "pix2pix": _resnet(),
    "GauGAN cityscapes": _spade(label_nc=36, up_samplings=6, width=512),
    "GauGAN coco-stuff": _spade(label_nc=184, up_samplings=5, width=256),
    "MUNIT": _munit(),
}
"""Models of the table; GauGAN's label maps hold the classes and the instances' edges."""

_H2Z, _E2S = ("CycleGAN", "horse2zebra"), ("pix2pix", "edges2shoes-r")
_CITY, _MAPS = ("pix2pix", "cityscapes"), ("pix2pix", "map2photo")
_GCITY, _GCOCO = ("GauGAN", "cityscapes"), ("GauGAN", "coco-stuff")
_MUNIT = ("MUNIT", "edges2shoes-r")

PUBLISHED: tuple[Row, ...] = (
    Row(*_H2Z, "original", "11.4M", "56.8G", fid=65.75),
    Row(*_H2Z, "paper", "0.342M", "2.67G", "24_24_24_32_20_16", 65.33),
    Row(*_H2Z, "retrained", "0.357M", "2.55G", "16_16_32_16_32_32_16_16", 65.12),
    Row(*_H2Z, "fast", "0.355M", "2.64G", "16_16_24_16_32_64_16_24", 65.19),
    Row(*_E2S, "original", "11.4M", "56.8G", fid=24.12),
    Row(*_E2S, "paper", "0.700M", "4.81G", "32_32_40_48_16_32", 26.60, legacy=True),
    Row(*_E2S, "retrained", "0.822M", "4.99G", "32_32_48_32_48_48_16_16", 26.70),
    Row(*_E2S, "fast", "0.703M", "4.83G", "24_24_40_56_24_56_16_40", 25.76),
    Row(*_CITY, "original", "11.4M", "56.8G", miou=42.06),
    Row(*_CITY, "paper", "0.707M", "5.66G", "48_32_40_40_24_32", miou=40.77),
    Row(*_CITY, "retrained", "0.781M", "5.59G", "32_32_48_32_32_48_24_24", miou=38.63),
    Row(
        *_CITY,
        "fast",
        "0.867M",
        "5.61G",
        "32_32_48_32_64_40_16_32",
        miou=41.71,
        released="16_24_48_56_40_48_24_16",
    ),
    Row(*_MAPS, "original", "11.4M", "56.8G", fid=47.91),
    Row(*_MAPS, "retrained", "0.746M", "4.68G", "32_32_48_32_48_32_16_16", 48.02),
    Row(
        *_MAPS,
        "fast",
        "0.708M",
        "4.53G",
        "32_32_48_40_32_32_16_16",
        fid=48.67,
        released="16_16_40_40_40_64_24_16",
    ),
    Row(*_GCITY, "original", "93.0M", "281G", "", 57.60, 61.04),
    Row(*_GCITY, "paper", "20.4M", "31.7G", "32_32_48_32_32_32_32_24", 55.19, 61.22),
    Row(*_GCITY, "retrained", "21.0M", "31.2G", "32_40_40_32_40_24_32_24", 56.43, 60.29),
    Row(*_GCITY, "fast", "20.2M", "31.3G", "32_32_32_48_32_24_24_32", 56.25, 61.17),
    Row(*_GCOCO, "original", "97.5M", "191G", "", 21.38, 38.78),
    Row(*_GCOCO, "fast", "26.0M", "35.5G", "40_32_32_40_32_40_24_24", 25.06, 35.05),
    Row(*_MUNIT, "original", "15.0M", "77.3G", fid=30.13),
    Row(*_MUNIT, "fast", "1.10M", "2.63G", "16_16_16_24_56_16_40_40_32_24", 30.53),
)
"""The table of the release. Scores are by its own protocol and comparable only among themselves."""
