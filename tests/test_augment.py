"""Augmentations: what belongs together stays aligned, and only seed and position decide."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import write_image
from torch import Tensor

from gancompress.config import AugmentOptions, DataOptions
from gancompress.data import Batch, BatchStream, load_split
from gancompress.data.augment import Numbers, augment, draws, take_apart
from gancompress.errors import ConfigError

SIDE = 32
AFFINE: dict[str, Any] = {"probability": 1.0, "rotate": 40.0, "scale": (0.7, 1.4), "shift": 0.2}
EVERYTHING = {"drawing": {}, "affine": AFFINE, "hue": {"probability": 1.0}}


def options(**table: Any) -> AugmentOptions:
    return AugmentOptions.model_validate(table)


def drawing(index: int, size: int = SIDE) -> np.ndarray:
    """A black outline around one colour, on white; (size, size, 3) uint8."""
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[0:size, 0:size]
    distance = np.hypot(rows - size / 2, columns - size / 2)
    pixels = np.full((size, size, 3), 255, np.uint8)
    pixels[distance < size / 3] = rng.integers(60, 220, 3)
    pixels[np.abs(distance - size / 3) < 0.8] = 0
    return pixels


def to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def stream(root: Path, seed: int = 0, **table: Any) -> BatchStream:
    for index in range(6):
        a = drawing(index)
        write_image(root / "train" / f"{index}.png", np.concatenate([a, 255 - a], axis=1))
    raw = {"root": root, "load_size": SIDE, "crop_size": SIDE, "augment": table}
    data = DataOptions.model_validate({**raw, "search_fraction": 0.2})
    split = load_split(data, "train", SIDE)
    split.inputs.preload()
    return BatchStream(split, data, seed)


def same(one: Batch, other: Batch) -> bool:
    assert one.real_b is not None
    assert other.real_b is not None
    return torch.equal(one.real_a, other.real_a) and torch.equal(one.real_b, other.real_b)


def test_draws_are_uniform_and_independent() -> None:
    numbers = draws(3, range(500), 7, 40)
    assert 0 <= float(numbers.min()) < 0.001
    assert 0.999 < float(numbers.max()) < 1
    counts = torch.histc(numbers, 20)
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    assert chi_square < 43.8  # 0.999 quantile of 19 degrees of freedom
    correlations = torch.corrcoef(numbers.T) - torch.eye(40)
    assert float(correlations.abs().max()) < 5 / math.sqrt(500)


@pytest.mark.parametrize(("seed", "position", "part"), [(4, 0, 7), (3, 1, 7), (3, 0, 8)])
def test_draws_differ_between_seeds_positions_and_streams(
    seed: int, position: int, part: int
) -> None:
    assert not torch.equal(draws(3, [0], 7, 8), draws(seed, [position], part, 8))
    assert torch.equal(draws(3, [5], 7, 8)[0], draws(3, range(4, 7), 7, 8)[1])


@pytest.mark.parametrize("table", [{"affine": AFFINE}, {"hue": {"probability": 1.0}}, EVERYTHING])
def test_an_image_looks_the_same_in_any_batch(tmp_path: Path, table: dict[str, Any]) -> None:
    data = stream(tmp_path, **table)
    whole = data.batch(3, 8)
    parts = [data.batch(3, 3), stream(tmp_path, **table).batch(6, 5)]
    assert whole.real_b is not None
    for side in ("real_a", "real_b"):
        joined = torch.cat([getattr(part, side) for part in parts])
        torch.testing.assert_close(joined, getattr(whole, side), rtol=0, atol=1e-6)
    assert same(data.batch(3, 8), whole)
    assert not same(stream(tmp_path, seed=1, **table).batch(3, 8), whole)


def test_a_marker_in_both_images_is_at_the_same_place_afterwards(tmp_path: Path) -> None:
    batch = stream(tmp_path, affine=AFFINE).batch(0, 64)
    assert batch.real_b is not None
    torch.testing.assert_close(batch.real_b, -batch.real_a, rtol=0, atol=1e-5)
    plain = stream(tmp_path).batch(0, 64)
    moved = (batch.real_a - plain.real_a).abs().mean((1, 2, 3))
    assert float(moved.min()) > 0.01  # every one of them


def test_affine_moves_by_what_it_is_told() -> None:
    image = torch.full((1, 3, 65, 65), -1.0)
    image[..., 32, 48] = 1  # 16 to the right of the middle
    for seed in range(20):
        table = options(affine={**AFFINE, "rotate": 90.0, "scale": (1.0, 1.0), "shift": 0.0})
        out = augment(image, None, table, Numbers(seed, [0]))[0, 0] + 1
        mass = out / out.sum()
        places = torch.arange(65.0) - 32
        row, column = float((mass.sum(1) * places).sum()), float((mass.sum(0) * places).sum())
        assert math.hypot(row, column) == pytest.approx(16, abs=0.3)
    assert abs(math.degrees(math.atan2(row, column))) <= 91


def test_scale_above_one_enlarges() -> None:
    image = torch.full((1, 3, 64, 64), -1.0)
    image[..., 24:40, 24:40] = 1
    table = options(affine={"probability": 1.0, "rotate": 0.0, "scale": (2.0, 2.0), "shift": 0.0})
    out = augment(image, None, table, Numbers(0, [0]))
    assert float((out > 0).float().mean()) == pytest.approx((32 / 64) ** 2, rel=0.05)


def test_hue_turns_both_alike_and_leaves_grey() -> None:
    colours = torch.rand(1, 3, 4, 4) * 0.6 - 0.3
    grey = torch.rand(1, 1, 4, 4).expand(1, 3, 4, 4)
    both = torch.cat([colours, grey, colours], 1).repeat(16, 1, 1, 1)
    out = augment(both, None, options(hue={"probability": 1.0}), Numbers(0, range(16)))
    torch.testing.assert_close(out[:, :3], out[:, 6:])
    torch.testing.assert_close(out[:, 3:6], both[:, 3:6], rtol=0, atol=2e-3)
    luma = torch.tensor([0.299, 0.587, 0.114])
    before, after = (torch.einsum("c,nchw->nhw", luma, x[:, :3]) for x in (both, out))
    torch.testing.assert_close(after, before, rtol=0, atol=2e-3)
    turned = (out[:, :3] - both[:, :3]).abs().amax((1, 2, 3))
    assert int((turned > 0.05).sum()) >= 12  # some angles are small


def test_probability_zero_and_an_empty_table_change_nothing(tmp_path: Path) -> None:
    plain = stream(tmp_path).batch(0, 12)
    never = {"affine": {"probability": 0.0}, "hue": {"probability": 0.0}, "drawing": {"clean": 1.0}}
    torch.testing.assert_close(stream(tmp_path, **never).batch(0, 12).real_a, plain.real_a)


def test_layers_of_a_drawing_are_its_lines_and_the_colours_beside_them() -> None:
    pixels = drawing(1)
    layers = take_apart(to_tensor(pixels))
    assert torch.equal(layers.lines[0], torch.from_numpy((pixels == 0).all(2)))
    colours = {tuple(c) for c in layers.fill.flatten(1).T.tolist()}
    assert colours == {(255, 255, 255), tuple(pixels[SIDE // 2, SIDE // 2].tolist())}
    assert len(layers.regions.unique()) == 2
    assert torch.equal(layers.fill[:, ~layers.lines[0]], to_tensor(pixels)[:, ~layers.lines[0]])


def test_drawings_that_were_resized_are_refused(tmp_path: Path) -> None:
    for index in range(2):
        pair = np.concatenate([drawing(index, 40)] * 2, axis=1)
        write_image(tmp_path / "train" / f"{index}.png", pair)
    raw = {"root": tmp_path, "load_size": SIDE, "crop_size": SIDE, "search_fraction": 0.5}
    data = DataOptions.model_validate({**raw, "augment": {"drawing": {}}})
    split = load_split(data, "train", SIDE)
    split.inputs.preload()
    with pytest.raises(ConfigError, match=r"set data\.load_size to the size of the files"):
        BatchStream(split, data, 0)


@pytest.mark.parametrize("level", [0, 255])
def test_drawing_that_is_all_lines_or_all_paper_can_be_drawn(level: int) -> None:
    flat = torch.full((3, SIDE, SIDE), level, dtype=torch.uint8)
    image = torch.full((2, 3, SIDE, SIDE), level / 127.5 - 1)
    table = options(drawing={"clean": 0.0})
    out = augment(image, [take_apart(flat)] * 2, table, Numbers(0, [0, 1]))
    assert torch.isfinite(out).all()
    assert float(out.abs().max()) <= 1


def redrawn(count: int = 64, **changes: Any) -> tuple[Tensor, Tensor]:
    """A clean drawing and what becomes of it, with nothing but the given changes."""
    nothing = {
        **dict.fromkeys(("clean", "wobble", "misfit", "gaps", "specks", "unpainted", "soft"), 0.0),
        **{"no_lines": 0.0, "no_fill": 0.0, "max_width": 1},
    }
    pixels = to_tensor(drawing(1, 64))
    image = pixels[None].repeat(count, 1, 1, 1) / 127.5 - 1
    table = options(drawing={**nothing, **changes})
    layers = [take_apart(pixels)] * count
    return image, augment(image, layers, table, Numbers(0, range(count)))


def ink(images: Tensor) -> Tensor:
    """Share of black in each image."""
    return (images.amax(1) < -0.9).float().mean((1, 2))


def test_drawing_without_changes_is_the_drawing() -> None:
    clean, out = redrawn()
    torch.testing.assert_close(out, clean, rtol=0, atol=1e-6)


def test_lines_become_wider_never_thinner() -> None:
    clean, out = redrawn(max_width=4)
    ratio = ink(out) / ink(clean)
    assert float(ratio.min()) == pytest.approx(1, abs=0.01)
    assert 1.8 < float(ratio.max()) < 4.5
    assert len(ratio.round(decimals=3).unique()) == 4


@pytest.mark.parametrize(
    ("change", "less"), [({"gaps": 1.0}, True), ({"no_lines": 1.0}, True), ({"specks": 1.0}, False)]
)
def test_lines_break_off_and_colours_have_specks(change: dict[str, float], less: bool) -> None:
    clean, out = redrawn(**change)
    assert bool((ink(out) < 0.9 * ink(clean)).any()) == less
    white = [(x > 0.99).all(1).float().mean((1, 2)) for x in (clean, out)]
    assert bool((white[1] > white[0] + 0.01).any())


def test_unpainted_regions_are_white_and_keep_their_outline() -> None:
    clean, out = redrawn(unpainted=1.0)
    middle = out[:, :, 32, 32]
    unpainted = (middle > 0.99).all(1)
    assert 10 < int(unpainted.sum()) < 54  # in half of the drawings
    torch.testing.assert_close(ink(out), ink(clean))


def test_colours_miss_their_outline_by_few_pixels() -> None:
    clean, out = redrawn(misfit=3.0)
    differs = ((out - clean).abs().amax(1) > 0.1).nonzero()[:, 1:].float()
    assert len(differs) > 0
    distance = ((differs + 0.5 - 32).square().sum(1).sqrt() - 64 / 3).abs()
    assert float(distance.max()) < 6


def test_uncoloured_drawings_keep_the_hue_of_their_truth(tmp_path: Path) -> None:
    drawn = {"no_fill": 1.0, "clean": 0.0}
    data = stream(tmp_path, drawing=drawn, hue={"probability": 1.0})
    plain = stream(tmp_path)
    ours, theirs = data.batch(0, 12).real_b, plain.batch(0, 12).real_b
    assert ours is not None
    assert theirs is not None
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "change",
    [{"affine": {"rotate": 200}}, {"hue": {"turn": 0.6}}, {"drawing": {"max_width": 5}}, {"x": {}}],
)
def test_values_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        options(**change)
