"""The published generators as yardstick: their figures, their files, their arithmetic."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import existing, picture
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.checkpoint.network import Network, load_network
from gancompress.config import GeneratorOptions
from gancompress.cost.papers import PaperCounts, count_as_papers, in_form_of
from gancompress.elastic import Subnet, Supernet
from gancompress.errors import SpaceError
from gancompress.export import export_network
from gancompress.models import build_generator
from gancompress.models.configs import parse_config
from gancompress.models.munit import ImageNorm, MunitGenerator, MunitWidths
from gancompress.models.published import (
    PUBLISHED,
    Row,
    build_config,
    build_published,
    published_model,
)
from gancompress.models.spade import SpadeGenerator, SpadeStyle, SpadeWidths

REPOSITORY = Path(__file__).resolve().parent.parent
Numbers = tuple[int, ...]
Blocks = list[int]

# (model, data, method): params in M, MACs in G and by which count, true MACs in G, to all digits of
# an independent profile with torchprofile; the original ResNet is in `test_full_generators_...`
PROFILED: dict[tuple[str, str, str], tuple[str, str, str, str | None]] = {
    ("CycleGAN", "horse2zebra", "paper"): ("0.3416M", "2.670G", "macs_norms", None),
    ("CycleGAN", "horse2zebra", "retrained"): ("0.357M", "2.546G", "macs_norms", "1.85G"),
    ("CycleGAN", "horse2zebra", "fast"): ("0.355M", "2.641G", "macs_norms", "1.94G"),
    ("pix2pix", "edges2shoes-r", "paper"): ("0.6999M", "4.809G", "macs_norms", "3.76G"),
    ("pix2pix", "edges2shoes-r", "retrained"): ("0.822M", "4.994G", "macs_norms", "4.06G"),
    ("pix2pix", "edges2shoes-r", "fast"): ("0.703M", "4.832G", "macs_paper", "3.70G"),
    ("pix2pix", "cityscapes", "paper"): ("0.707M", "5.665G", "macs_norms", "4.10G"),
    ("pix2pix", "cityscapes", "retrained"): ("0.781M", "5.592G", "macs_norms", "4.03G"),
    ("pix2pix", "cityscapes", "fast"): ("0.867M", "5.606G", "macs_norms", None),
    ("pix2pix", "cityscapes", "script"): ("0.886M", "5.451G", "macs_norms", "4.06G"),
    ("pix2pix", "map2photo", "retrained"): ("0.746M", "4.683G", "macs_norms", "3.75G"),
    ("pix2pix", "map2photo", "fast"): ("0.708M", "4.528G", "macs_norms", None),
    ("pix2pix", "map2photo", "script"): ("0.720M", "4.570G", "macs_norms", "3.35G"),
    ("GauGAN", "cityscapes", "original"): ("93.05M", "281.41G", "macs_products", "281.28G"),
    ("GauGAN", "cityscapes", "paper"): ("20.43M", "31.67G", "macs_products", None),
    ("GauGAN", "cityscapes", "retrained"): ("21.00M", "31.18G", "macs_products", None),
    ("GauGAN", "cityscapes", "fast"): ("20.17M", "31.21G", "macs_products", "31.16G"),
    ("GauGAN", "coco-stuff", "original"): ("97.48M", "191.2G", "macs_products", None),
    ("GauGAN", "coco-stuff", "fast"): ("25.99M", "35.45G", "macs_products", None),
    ("MUNIT", "edges2shoes-r", "original"): ("15.03M", "77.30G", "macs_products", None),
    ("MUNIT", "edges2shoes-r", "fast"): ("1.100M", "2.61G", "macs_products", None),
}
RESNETS = [row for row in PUBLISHED if row.model in ("CycleGAN", "pix2pix")]
CONFIGS = [(row, c) for row in RESNETS for c in (row.config, row.released) if c]


def named(value: object) -> str:
    return f"{value.model}-{value.data}-{value.method}" if isinstance(value, Row) else str(value)


every_row = pytest.mark.parametrize("row", PUBLISHED, ids=named)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """scripts/published.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "published_script", REPOSITORY / "scripts" / "published.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lines(script: ModuleType) -> list[Any]:
    """The counted table."""
    counted: list[Any] = script.count_table()
    return counted


def line_of(lines: list[Any], row: Row, config: str | None = None) -> Any:
    config = row.config if config is None else config
    return next(line for line in lines if line.row == row and line.config == config)


def on_meta(row: Row, config: str | None = None) -> nn.Module:
    with torch.device("meta"):
        return build_published(row, config)


# --------------------------------------------------------------------------- the table


@every_row
def test_every_row_has_the_printed_digits(row: Row, lines: list[Any]) -> None:
    line = line_of(lines, row)
    assert in_form_of(line.counts.params, row.params) == row.params
    # all but one were printed by a counter that took norms in
    fast_shoes = (row.model, row.data, row.method) == ("pix2pix", "edges2shoes-r", "fast")
    count = line.counts.macs_paper if fast_shoes else line.counts.macs_norms
    assert in_form_of(count, row.macs) == row.macs


@pytest.mark.parametrize("key", PROFILED, ids="-".join)
def test_every_row_equals_an_independent_profile(
    key: tuple[str, str, str], lines: list[Any]
) -> None:
    model, data, method = key
    rows = [line for line in lines if (line.row.model, line.row.data) == (model, data)]
    wanted = ("fast", True) if method == "script" else (method, False)
    line = next(line for line in rows if (line.row.method, line.from_script) == wanted)
    params, macs, count, true = PROFILED[key]
    assert in_form_of(line.counts.params, params) == params
    assert in_form_of(getattr(line.counts, count), macs) == macs
    if true is not None:
        assert in_form_of(line.counts.macs, true) == true


def written_out(stem: int, down: int, trunk: int, ends: tuple[int, int], inner: Blocks) -> Numbers:
    """Params, true MACs, papers' MACs and norm elements at 256x256, layer by layer.

    All widths are numbers of channels; `ends` are those after the two up-samplings.
    """
    h, (up, head) = 256, ends
    half, quarter = (h // 2) ** 2, (h // 4) ** 2
    params = 147 * stem + stem + 9 * stem * down + down + 9 * down * trunk + trunk
    params += 9 * trunk * up + up + 9 * up * head + head + 147 * head + 3
    macs = h * h * 147 * (stem + head) + half * 9 * stem * down + quarter * 9 * down * trunk
    ups = quarter * 9 * trunk * up + half * 9 * up * head
    norms = h * h * (stem + head) + half * (down + up) + quarter * trunk
    for wide in inner:
        params += (9 * trunk + trunk) + (trunk * wide + wide)
        params += (9 * wide + wide) + (wide * trunk + trunk)
        macs += quarter * (9 * trunk + 2 * trunk * wide + 9 * wide)
        norms += quarter * (2 * trunk + 2 * wide)
    return params, macs + ups, macs + 4 * ups, norms


def arguments(config: str, legacy: bool) -> tuple[int, int, int, tuple[int, int], Blocks]:
    c = [int(number) for number in config.split("_")]
    inner = c[3:6] if len(c) == 8 else c[3:4] * 3
    blocks = [width for width in inner for _ in range(3)]
    if legacy:
        blocks = [width if i % 3 == 0 else c[2] for i, width in enumerate(blocks)]
    return c[0], 2 * c[1], 4 * c[2], (2 * c[-2], c[-1]), [4 * width for width in blocks]


def assert_counts(counts: PaperCounts, exact: Numbers) -> None:
    params, macs, macs_paper, norms = exact
    assert counts == PaperCounts(params, macs, macs_paper, macs_paper, macs_paper + norms)


@pytest.mark.parametrize(("row", "config"), CONFIGS, ids=named)
def test_resnet_rows_equal_the_sum_over_layers(row: Row, config: str, lines: list[Any]) -> None:
    line = line_of(lines, row, config)
    assert_counts(line.counts, written_out(*arguments(config, row.legacy)))


@pytest.mark.parametrize("ngf", [96, 64, 48, 32])
def test_mobile_generators_have_the_published_counts(ngf: int) -> None:
    params, norms, paper, true = {
        96: (4_418_307, 40_232_288_256, 40_155_217_920, 23_847_763_968),
        64: (1_987_075, 18_365_808_640, 18_314_428_416, 11_066_671_104),
        48: (1_130_883, 10_603_462_656, 10_564_927_488, 6_488_064_000),
        32: (514_307, 4_955_045_888, 4_929_355_776, 3_117_416_448),
    }[ngf]
    with torch.device("meta"):
        module = build_generator(
            GeneratorOptions(input_nc=3, output_nc=3, name="mobile_resnet_9blocks", ngf=ngf)
        )
    expected = PaperCounts(params, true, paper, paper, norms)
    assert count_as_papers(module, (1, 3, 256, 256)) == expected


def test_full_generators_have_the_published_counts(lines: list[Any]) -> None:
    originals = [line for line in lines if not line.config and line.row in PUBLISHED[:13]]
    assert len(originals) == 4
    paper, true = 56_799_264_768, 49_551_507_456
    expected = PaperCounts(11_378_179, true, paper, paper, 56_831_770_624)
    assert all(line.counts == expected for line in originals)
    with torch.device("meta"):
        spade = [SpadeGenerator(SpadeWidths.of(n), SpadeStyle(36, True)) for n in (64, 48)]
        munit = MunitGenerator(MunitWidths.of(64), separable=True)
    wide, narrow = (count_as_papers(module, (1, 36, 256, 512)) for module in spade)
    assert (in_form_of(wide.params, "70.68M"), in_form_of(wide.macs, "0.00G")) == (
        "70.68M",
        "118.60G",
    )
    assert (in_form_of(narrow.params, "0.00M"), in_form_of(narrow.macs_products, "0.00G")) == (
        "39.98M",
        "71.16G",
    )
    small = count_as_papers(munit, (1, 3, 256, 256))
    assert (in_form_of(small.params, "0.00M"), in_form_of(small.macs, "0.0G")) == ("5.71M", "17.6G")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=[] if row.method == "original" else [pytest.mark.slow])
        for row in PUBLISHED
    ],
    ids=named,
)
def test_true_macs_are_half_of_torchs_flops(row: Row, lines: list[Any]) -> None:
    module = on_meta(row).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.empty(published_model(row).inputs, device="meta"))
    assert counter.get_total_flops() == 2 * line_of(lines, row).counts.macs


@pytest.fixture(scope="module")
def widest() -> Supernet:
    """The supernet of every ResNet of the table, each block of any width."""
    with torch.device("meta"):
        module = build_generator(
            GeneratorOptions(input_nc=3, output_nc=3, name="mobile_resnet_9blocks", ngf=64)
        )
    return Supernet(module.eval(), torch.empty(1, 3, 256, 256), divisor=1)


@pytest.mark.parametrize(("row", "config"), CONFIGS, ids=named)
def test_closed_form_equals_the_counted_macs(
    row: Row, config: str, lines: list[Any], widest: Supernet
) -> None:
    stem, down, trunk, ends, inner = arguments(config, row.legacy)
    subnet = Subnet((stem, down, trunk, *inner, *ends))
    counts = line_of(lines, row, config).counts
    assert widest.macs(subnet, 256) == counts.macs
    assert widest.macs(subnet, 256, paper=True) == counts.macs_paper
    assert widest.num_parameters(subnet) == counts.params


def test_counts_are_the_same_in_inference_mode() -> None:
    module = build_config("2_1_1_1_1_1_1_2")
    outside = count_as_papers(module, (1, 3, 16, 16))
    with torch.inference_mode():
        assert count_as_papers(module, (1, 3, 16, 16)) == outside
        made_inside = build_config("2_1_1_1_1_1_1_2")
        assert count_as_papers(made_inside, (1, 3, 16, 16)) == outside


def test_counting_leaves_the_module_as_it_is() -> None:
    module = build_config("2_1_1_1_1_1_1_2")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count_as_papers(module, (1, 3, 16, 16))
    assert module.training
    assert all(torch.equal(tensor, before[n]) for n, tensor in module.state_dict().items())
    assert not any(layer._forward_hooks for layer in module.modules())


@pytest.mark.parametrize(
    ("count", "printed", "expected"),
    [
        (2_546_204_672, "4.99G", "2.55G"),
        (5_665_000_000, "5.66G", "5.67G"),  # halves are rounded up, as people do
        (356_867, "0.342M", "0.357M"),
        (281_413_582_848, "281G", "281G"),
    ],
)
def test_counts_take_the_form_of_the_printed_figure(
    count: int, printed: str, expected: str
) -> None:
    assert in_form_of(count, printed) == expected


# -------------------------------------------------------------------------- the script


def test_script_flags_the_rows_whose_figures_belong_to_another_config(
    script: ModuleType, lines: list[Any]
) -> None:
    flagged = [line for line in lines if line.from_script]
    assert [(line.row.data, line.config) for line in flagged] == [
        ("cityscapes", "16_24_48_56_40_48_24_16"),
        ("map2photo", "16_16_40_40_40_64_24_16"),
    ]
    assert not any(line.same_params for line in flagged)
    assert flagged[0].reproduced_by == []
    text = script.as_text(lines).splitlines()
    for line in flagged:
        (shown,) = [row for row in text if line.config in row]
        assert shown.split()[0] == shown.split()[-1] == "script"
        (above,) = [row for row in text if line.row.config in row]
        assert text.index(shown) == text.index(above) + 1
    (legacy,) = [row for row in text if row.endswith("legacy")]
    assert "32_32_40_48_16_32" in legacy


def test_script_prints_a_table_for_a_terminal(script: ModuleType, lines: list[Any]) -> None:
    text = script.as_text(lines)
    assert max(map(len, text.splitlines())) <= 160
    assert "params in 23 of 23 rows, MACs in 23 (" in text.splitlines()[-1]
    for row in PUBLISHED:
        assert any(
            line.startswith(f"{row.method} ") and row.params in line and row.macs in line
            for line in text.splitlines()
        )


def test_script_prints_json(
    script: ModuleType,
    lines: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "count_table", lambda: lines)
    monkeypatch.setattr(sys, "argv", ["published.py", "--json"])
    script.main()
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == len(lines)
    shoes = next(row for row in rows if row["config_counted"] == "32_32_48_32_48_48_16_16")
    assert shoes["ours"]["macs_norms"] == 4_993_843_200
    assert (shoes["params"], shoes["macs"], shoes["fid"]) == ("0.822M", "4.99G", 26.70)
    assert shoes["reproduced_by"] == ["+norms"]


# ----------------------------------------------------------------------- config strings


@pytest.mark.parametrize("text", ["", "16", "16_16_16_16_16_16_16", "1_" * 8, "16_16_16_16_16_0"])
@pytest.mark.parametrize("odd", ["", "_x", "_-1", "_1.5", "_\u00b2", "_ "])
def test_malformed_config_strings_are_refused(text: str, odd: str) -> None:
    with pytest.raises(SpaceError, match="config string"):
        build_config(text + odd)


def test_errors_name_the_config_string_and_what_is_expected() -> None:
    with pytest.raises(SpaceError, match="'16_16' has 2 numbers; it must have 8 or 6"):
        build_config("16_16")
    with pytest.raises(SpaceError, match=r"'a_b' is not a config string: .* such as 16_16_16_16"):
        build_config("a_b")
    with pytest.raises(SpaceError, match="goes up to width 64, above ngf 48"):
        build_config("16_16_24_16_32_64_16_24", ngf=48)
    with pytest.raises(SpaceError, match="must have 10"):
        build_published(PUBLISHED[-1], "16_16_16_16_16_16_16_16")


def test_config_as_wide_as_the_supernet_is_built() -> None:
    module = build_config(" 8_8_8_8_8_8_8_8\n", ngf=8)
    plain = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name="mobile_resnet_9blocks", ngf=8, dropout=0.0)
    )
    assert shapes(module) == shapes(plain)


def test_six_numbers_are_eight_with_one_inner_width() -> None:
    six = shapes(build_config("2_2_3_5_2_4"))
    assert six == shapes(build_config("2_2_3_5_5_5_2_4"))
    assert six != shapes(build_config("2_2_3_5_2_4", legacy=True))


# ------------------------------------------------------------------- files of the others


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


class TheirSeparable(nn.Module):
    """Their separable convolution: `conv` holds depth-wise, norm, point-wise."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(before, before, 3, groups=before),
            nn.InstanceNorm2d(before),
            nn.Conv2d(before, after, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class TheirBlock(nn.Module):
    """Their residual block; gan-compression's has a dropout layer, the other only on demand."""

    def __init__(self, trunk: int, inner: int, mobile: bool) -> None:
        super().__init__()
        conv: Any = TheirSeparable if mobile else lambda a, b: nn.Conv2d(a, b, 3)
        first = [nn.ReflectionPad2d(1), conv(trunk, inner), nn.InstanceNorm2d(inner), nn.ReLU(True)]
        dropout = [nn.Dropout(0.0)] if mobile else []
        last = [nn.ReflectionPad2d(1), conv(inner, trunk), nn.InstanceNorm2d(trunk)]
        self.conv_block = nn.Sequential(*first, *dropout, *last)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


class Theirs(nn.Module):
    """Their ResNet generator with these channels: one Sequential called `model`."""

    def __init__(
        self, stem: int, down: int, trunk: int, ends: tuple[int, int], inner: Blocks, mobile: bool
    ) -> None:
        super().__init__()
        up, head = ends
        ups = {"stride": 2, "padding": 1, "output_padding": 1}
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, stem, 7)]
        layers += [nn.InstanceNorm2d(stem), nn.ReLU(True)]
        layers += [nn.Conv2d(stem, down, 3, 2, 1), nn.InstanceNorm2d(down), nn.ReLU(True)]
        layers += [nn.Conv2d(down, trunk, 3, 2, 1), nn.InstanceNorm2d(trunk), nn.ReLU(True)]
        layers += [TheirBlock(trunk, width, mobile) for width in inner]
        layers += [nn.ConvTranspose2d(trunk, up, 3, **ups), nn.InstanceNorm2d(up), nn.ReLU(True)]
        layers += [nn.ConvTranspose2d(up, head, 3, **ups), nn.InstanceNorm2d(head), nn.ReLU(True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(head, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x.clamp(-1, 1))
        return out


FORMS = {
    "eight": ("4_3_5_2_6_4_3_2", False),
    "six": ("4_3_5_2_3_2", False),
    "legacy": ("4_3_5_2_3_2", True),
}
every_form = pytest.mark.parametrize(("config", "legacy"), FORMS.values(), ids=FORMS)


@torch.inference_mode()
def assert_same_images(one: nn.Module, other: nn.Module) -> None:
    pixels = torch.stack([torch.from_numpy(picture(i, 32)).permute(2, 0, 1) for i in range(2)])
    x = pixels / 127.5 - 1
    image = one.eval()(x)
    assert image.shape == x.shape
    assert image.std() > 0.01
    assert torch.equal(image, other.eval()(x))


@every_form
def test_their_file_loads_without_its_config_string(
    config: str, legacy: bool, tmp_path: Path
) -> None:
    theirs = Theirs(*arguments(config, legacy), mobile=True)
    torch.save(theirs.state_dict(), tmp_path / "latest_net_G.pth")
    network = load_network(tmp_path)
    assert network.description["generator"]["name"] == "mobile_resnet_9blocks"
    assert_same_images(network.module, theirs)
    assert shapes(network.module) == shapes(build_config(config, legacy=legacy))


@every_form
def test_exported_file_loads_strictly_into_their_class(
    config: str, legacy: bool, tmp_path: Path
) -> None:
    module = build_config(config, legacy=legacy).eval()
    options = GeneratorOptions(
        input_nc=3, output_nc=3, name="mobile_resnet_9blocks", ngf=8, dropout=0.0
    )
    network = Network(module, {"generator": options.model_dump(mode="json")}, 4, "memory")
    images = [torch.from_numpy(picture(i, 32)).permute(2, 0, 1) for i in range(2)]
    path = tmp_path / "latest_net_G.pth"
    assert export_network(network, "pth", path, images).max_difference == 0.0
    theirs = Theirs(*arguments(config, legacy), mobile=True)
    theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)
    assert_same_images(theirs, module)


def test_subnet_cut_out_of_a_supernet_loads_strictly_into_their_class() -> None:
    options = GeneratorOptions(
        input_nc=3, output_nc=3, name="mobile_resnet_9blocks", ngf=8, dropout=0.0
    )
    net = Supernet(build_generator(options), torch.empty(1, 3, 32, 32), divisor=1)
    config = "4_3_5_2_6_4_3_2"
    stem, down, trunk, (up, head), inner = arguments(config, False)
    widths = "_".join(map(str, (stem, down, trunk, *inner, up, head)))
    small = net.extract(net.space.parse(widths))
    theirs = Theirs(stem, down, trunk, (up, head), inner, mobile=True)
    theirs.load_state_dict(small.state_dict(), strict=True)
    assert_same_images(theirs, small)
    build_config(config).load_state_dict(small.state_dict(), strict=True)


@pytest.mark.parametrize("blocks", [6, 9])
def test_dense_generator_passes_both_ways_between_their_class_and_ours(
    blocks: int, tmp_path: Path
) -> None:
    theirs = Theirs(4, 8, 16, (8, 4), [16] * blocks, mobile=False)
    torch.save(theirs.state_dict(), tmp_path / "latest_net_G.pth")
    network = load_network(tmp_path)
    assert network.description["generator"]["name"] == f"resnet_{blocks}blocks"
    assert_same_images(network.module, theirs)
    ours = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name=f"resnet_{blocks}blocks", ngf=4)
    )
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert_same_images(theirs, ours)


def test_published_file_is_the_generator_of_its_row(shared: Path, lines: list[Any]) -> None:
    path = existing(shared / "weights" / "gan_compression_horse2zebra_compressed_net_G.pth")
    row = next(r for r in PUBLISHED if r.model == "CycleGAN" and r.method == "retrained")
    module = load_network(path).module
    assert shapes(module) == shapes(on_meta(row))
    assert count_as_papers(module, (1, 3, 256, 256)) == line_of(lines, row).counts
    theirs = Theirs(*arguments(row.config, False), mobile=True)
    theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)
    assert_same_images(module, theirs)


# ---------------------------------------------------------------------- SPADE and MUNIT


def spade(separable: bool, up_samplings: int = 6) -> nn.Module:
    widths = SpadeWidths.of_config(parse_config("2_3_1_2_2_3_1_2", 8))
    module = SpadeGenerator(widths, SpadeStyle(5, separable, up_samplings)).eval()
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return module


def label_maps(height: int, width: int) -> Tensor:
    classes = torch.randint(0, 5, (2, height // 8, width // 8))
    coarse = F.one_hot(classes, 5).permute(0, 3, 1, 2).float()
    return F.interpolate(coarse, scale_factor=8)


def their_spade(w: dict[str, Tensor], labels: Tensor, separable: bool, ups: int) -> Tensor:
    """The SPADE generator as a function of a state dict, from the paper's formulas."""

    def conv(x: Tensor, name: str, **options: Any) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **options)

    def modulation(features: Tensor, name: str) -> Tensor:
        if not separable:
            return conv(features, name, padding=1)
        channels = features.shape[1]
        deep = conv(features, f"{name}.conv.0", padding=1, groups=channels)
        return conv(F.instance_norm(deep), f"{name}.conv.2")

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = (
            w[f"{name}.param_free_norm.running_{k}"][:, None, None] for k in ("mean", "var")
        )
        seg = F.interpolate(labels, size=x.shape[2:])
        features = conv(seg, f"{name}.mlp_shared.0", padding=1).relu()
        gamma, beta = (modulation(features, f"{name}.mlp_{part}") for part in ("gamma", "beta"))
        return (x - mean) / (var + 1e-5).sqrt() * (1 + gamma) + beta

    def block(x: Tensor, name: str) -> Tensor:
        inner = conv(F.leaky_relu(norm(x, f"{name}.norm_0"), 0.2), f"{name}.conv_0", padding=1)
        out = conv(F.leaky_relu(norm(inner, f"{name}.norm_1"), 0.2), f"{name}.conv_1", padding=1)
        if f"{name}.conv_s.weight" in w:
            x = conv(norm(x, f"{name}.norm_s"), f"{name}.conv_s")
        return x + out

    def up(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    step = 2**ups
    x = block(conv(labels[:, :, ::step, ::step], "fc", padding=1), "head_0")
    x = block(up(x), "G_middle_0")
    x = block(up(x) if ups == 6 else x, "G_middle_1")
    for name in ("up_0", "up_1", "up_2", "up_3"):
        x = block(up(x), name)
    return conv(F.leaky_relu(x, 0.2), "conv_img", padding=1).tanh()


@pytest.mark.parametrize(
    ("separable", "ups", "size"), [(False, 6, (128, 64)), (True, 5, (64, 128))]
)
@torch.inference_mode()
def test_spade_computes_the_published_function(
    separable: bool, ups: int, size: tuple[int, int]
) -> None:
    module, labels = spade(separable, ups), label_maps(*size)
    image = module(labels)
    assert image.shape == (2, 3, *size)
    assert image.abs().max() <= 1
    assert image.std() > 0.01
    expected = their_spade(module.state_dict(), labels, separable, ups)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)


def test_spade_config_numbers_set_the_layers_they_name() -> None:
    sizes = shapes(spade(separable=True))
    assert sizes["fc.weight"] == (32, 5, 3, 3)
    assert sizes["head_0.conv_0.weight"] == (48, 32, 3, 3)
    assert sizes["head_0.conv_1.weight"] == (32, 48, 3, 3)
    assert sizes["head_0.norm_1.mlp_shared.0.weight"] == (6, 5, 3, 3)
    assert sizes["head_0.norm_1.mlp_gamma.conv.2.weight"] == (48, 6, 1, 1)
    assert sizes["up_0.conv_1.weight"] == (16, 16, 3, 3)
    assert sizes["up_1.conv_s.weight"] == (12, 16, 1, 1)
    assert sizes["up_1.norm_s.mlp_beta.conv.0.weight"] == (6, 1, 3, 3)
    assert sizes["conv_img.weight"] == (3, 2, 3, 3)


def munit(separable: bool) -> nn.Module:
    module = MunitGenerator(
        MunitWidths.of_config(parse_config("2_3_4_2_1_2_3_4_3_5", 10)), separable
    ).eval()
    for parameter in module.parameters():  # far from the small outputs of a fresh network
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def their_munit(w: dict[str, Tensor], x: Tensor, style: Tensor | None) -> Tensor:
    """The MUNIT generator as a function of a state dict, modulations handed out in layer order."""

    def conv(x: Tensor, name: str, kernel: int, stride: int = 1) -> Tensor:
        x = F.pad(x, [(kernel - 1) // 2] * 4, mode="reflect")
        name = f"{name}.conv"
        if f"{name}.weight" in w:
            return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride)
        first, last = ((w[f"{name}.conv.{i}.weight"], w[f"{name}.conv.{i}.bias"]) for i in (0, 2))
        return F.conv2d(F.instance_norm(F.conv2d(x, *first, groups=x.shape[1])), *last)

    def adaptive(x: Tensor) -> Tensor:
        nonlocal left
        channels = x.shape[1]
        shift, scale, left = left.split((channels, channels, left.shape[1] - 2 * channels), 1)
        rows = x.reshape(1, -1, *x.shape[2:])
        out = F.batch_norm(rows, None, None, scale.flatten(), shift.flatten(), training=True)
        return out.view_as(x)

    def image_norm(x: Tensor, name: str) -> Tensor:
        rows = x.flatten(1)
        mean, std = (v[:, None, None, None] for v in (rows.mean(1), rows.std(1)))
        gamma, beta = (w[f"{name}.norm.{leaf}"][:, None, None] for leaf in ("gamma", "beta"))
        return (x - mean) / (std + 1e-5) * gamma + beta

    def block(x: Tensor, name: str, norm: Any) -> Tensor:
        out = norm(conv(x, f"{name}.model.0", 3)).relu()
        return x + norm(conv(out, f"{name}.model.1", 3))

    if style is None:
        style = conv(x, "enc_style.model.0", 7).relu()
        for i in range(1, 5):
            style = conv(style, f"enc_style.model.{i}", 4, 2).relu()
        style = style.mean((2, 3), keepdim=True)
        style = F.conv2d(style, w["enc_style.model.6.weight"], w["enc_style.model.6.bias"])
    left = style[:, :, 0, 0]
    for i in range(3):
        left = F.linear(left, w[f"mlp.model.{i}.fc.weight"], w[f"mlp.model.{i}.fc.bias"])
        left = left if i == 2 else left.relu()
    for i, (kernel, stride) in enumerate(((7, 1), (4, 2), (4, 2))):
        x = F.instance_norm(conv(x, f"enc_content.model.{i}", kernel, stride)).relu()
    for i in range(4):
        x = block(x, f"enc_content.model.3.model.{i}", F.instance_norm)
    for i in range(4):
        x = block(x, f"dec.model.0.model.{i}", adaptive)
    assert left.shape[1] == 0
    for name in ("dec.model.2", "dec.model.4"):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = image_norm(conv(x, name, 5), name).relu()
    return conv(x, "dec.model.5", 7).tanh()


@pytest.mark.parametrize("separable", [False, True])
@torch.inference_mode()
def test_munit_computes_the_published_function(separable: bool) -> None:
    module, x = munit(separable), torch.rand(2, 3, 64, 48) * 2 - 1
    w = module.state_dict()
    image = module(x)
    assert image.shape == x.shape
    assert image.abs().max() <= 1
    assert image.std() > 0.01
    torch.testing.assert_close(image, their_munit(w, x, None), rtol=0, atol=1e-4)
    style = torch.randn(2, 8, 1, 1)
    other = module(x, style)
    assert (other - image).abs().mean() > 1e-3
    torch.testing.assert_close(other, their_munit(w, x, style), rtol=0, atol=1e-4)


def test_munit_config_numbers_set_the_layers_they_name() -> None:
    sizes = shapes(munit(separable=True))
    assert sizes["enc_style.model.0.conv.weight"] == (2, 3, 7, 7)
    assert sizes["enc_style.model.4.conv.weight"] == (8, 8, 4, 4)
    assert sizes["enc_content.model.0.conv.weight"] == (3, 3, 7, 7)
    assert sizes["enc_content.model.1.conv.weight"] == (8, 3, 4, 4)
    assert sizes["enc_content.model.2.conv.weight"] == (8, 8, 4, 4)
    inner = [4, 4, 8, 8, 12, 12, 16, 16]
    blocks = [
        f"{part}.model.{i}" for part in ("enc_content.model.3", "dec.model.0") for i in range(4)
    ]
    for name, width in zip(blocks, inner, strict=True):
        assert sizes[f"{name}.model.0.conv.conv.2.weight"] == (width, 8, 1, 1)
    assert sizes["mlp.model.2.fc.weight"] == (2 * (sum(inner[4:]) + 4 * 8), 256)
    assert sizes["dec.model.2.conv.conv.2.weight"] == (6, 8, 1, 1)
    assert sizes["dec.model.4.norm.gamma"] == (5,)
    assert sizes["dec.model.5.conv.weight"] == (3, 5, 7, 7)


def test_image_norm_standardises_each_image() -> None:
    norm = ImageNorm(4)
    nn.init.ones_(norm.gamma)
    out = norm(torch.randn(3, 4, 8, 8) * 7 + 5)
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std((1, 2, 3)), torch.ones(3), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["spade", "munit"])
@torch.inference_mode()
def test_other_published_generators_are_elastic_too(family: str, rng: random.Random) -> None:
    x = label_maps(128, 128) if family == "spade" else torch.rand(1, 3, 32, 32)
    net = Supernet(spade(True) if family == "spade" else munit(True), x, divisor=1).eval()
    subnet = net.space.sample(rng)
    small = net.extract(subnet)
    # fully connected layers add up in another order where their weight is a view
    torch.testing.assert_close(net(x, subnet), small(x), rtol=0, atol=1e-6)
    counts = count_as_papers(small, (1, *x.shape[1:]))
    assert counts.macs == net.macs(subnet, (x.shape[2], x.shape[3]))
    assert counts.params == net.num_parameters(subnet) < net.num_parameters(net.space.full())
