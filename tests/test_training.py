"""Training stages: resuming bit for bit, what one step computes, what a student starts from."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_paired, make_unpaired
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from gancompress.checkpoint.files import load_pickle, load_tensors
from gancompress.checkpoint.network import Network, load_network, load_supernet
from gancompress.checkpoint.run import RunFolder
from gancompress.config import GeneratorOptions, ScheduleOptions, Section, StudentOptions
from gancompress.data import Batch, BatchStream
from gancompress.elastic import calibrate, capture, trace
from gancompress.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    GanCompressError,
    Interrupted,
)
from gancompress.losses import (
    discriminator_gan_loss,
    feature_distillation,
    generator_gan_loss,
    recon_loss,
)
from gancompress.losses.terms import TERMS
from gancompress.models import GENERATORS, build_generator, init_weights
from gancompress.models.resnet import CONFIG_SETS
from gancompress.training import loop
from gancompress.training.averaging import Ema
from gancompress.training.distill import DistillTask
from gancompress.training.health import Samples
from gancompress.training.loop import Trainer, learning_rate
from gancompress.training.networks import SubnetView, View, activations
from gancompress.training.pairs import PaddedTeacher
from gancompress.training.stages import finetune, train_supernet, train_teacher
from gancompress.training.student import default_taps, make_student
from gancompress.training.teacher import CycleGanTask, Pix2PixTask, TeacherTask
from options.cartoon.generator import CartoonGenerator
from runs import (
    Crash,
    at_call,
    crash,
    finetune_options,
    fingerprints,
    finished,
    log_lines,
    process,
    supernet_options,
    teacher_options,
    write_options,
    write_teacher,
)

CPU = torch.device("cpu")
CARTOON = "options.cartoon.generator:build"
UNET = "unet.safetensors"
SQUEEZE = "squeeze.pth"
TASKS: dict[str, type] = {
    "pix2pix": Pix2PixTask,
    "cyclegan": CycleGanTask,
    "supernet": DistillTask,
    "finetune": DistillTask,
}
STAGES: dict[str, Callable[..., dict[str, Any]]] = {
    "pix2pix": train_teacher,
    "spectral pix2pix": train_teacher,
    "cyclegan": train_teacher,
    "supernet": train_supernet,
    "supernet of every term": train_supernet,
    "unpaired supernet": train_supernet,
    "finetune": finetune,
}
EVERY_TERM = (
    "loss.lambda_lpips=1",
    *(f"loss.terms.{name}=1" for name in TERMS if name not in ("recon", "lpips", "distill")),
)
MODERN = (
    "generator.upsampling=nearest",
    "discriminator.norm=none",
    "discriminator.spectral_norm=true",
    "data.load_size=32",  # drawings are drawn anew at the size of their files
    "data.augment={affine: {probability: 0.7}, hue: {}, drawing: {}}",
)
# what the states of the tasks hold; leaving out any of it must change the result
PARTS = {
    "pix2pix": ("networks", "ema", "optim_g", "optim_d", "steps"),
    "cyclegan": ("networks", "ema", "optim_g", "optim_d", "steps", "pools"),
    "supernet": (
        *("generator", "adapters", "ema", "optim_g", "steps"),
        *("discriminator", "optim_d"),
    ),
}


@dataclass(frozen=True)
class World:
    """Data, and runs that nothing has interrupted; each is made when it is first asked for."""

    folder: Path
    paired: Path
    unpaired: Path

    def options(self, kind: str, run: Path, *sets: str) -> Section:
        if kind == "pix2pix":
            return teacher_options(self.paired, run, *sets)
        if kind == "spectral pix2pix":
            return teacher_options(self.paired, run, *MODERN, *sets)
        if kind == "cyclegan":
            return teacher_options(self.unpaired, run, *sets)
        if kind == "supernet":
            return supernet_options(self.paired, run, self.whole("pix2pix"), *sets)
        if kind == "supernet of every term":
            weights = f"loss.lpips.weights={self.folder / SQUEEZE}"
            sets = (*EVERY_TERM, weights, *sets)
            return supernet_options(self.paired, run, self.whole("pix2pix"), *sets)
        if kind == "unpaired supernet":
            return supernet_options(self.unpaired, run, self.whole("cyclegan"), *sets)
        supernet = self.whole("supernet")
        return finetune_options(run, supernet, "4_8_4_4_8_4_4_8", *sets)

    def start(self, kind: str, run: Path, *sets: str) -> dict[str, Any]:
        return STAGES[kind](self.options(kind, run, *sets), CPU)

    def whole(self, kind: str) -> Path:
        run = self.folder / kind
        if not (run / "done.json").exists():
            self.start(kind, run)
        return run

    def half(self, kind: str) -> Path:
        """A run that ended after 8 of its 12 images, right after a checkpoint."""
        run = self.folder / f"half {kind}"
        if not run.exists():
            self.whole("supernet" if kind == "finetune" else "pix2pix")
            with pytest.MonkeyPatch.context() as patch:
                at_call(patch, Trainer, "_advance", 5, crash)
                with pytest.raises(Crash):
                    self.start(kind, run)
        return run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    paired = make_paired(folder / "paired", 8)
    write_teacher(folder / UNET, name="unet_64", norm="batch")
    torch.save(squeezenet1_1(weights=None).features.state_dict(), folder / SQUEEZE)
    return World(folder, paired, make_unpaired(folder / "unpaired", 7, 9))


@pytest.fixture
def prepared(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Trainer]:
    """A stage's trainer just before its first step."""

    def prepare(kind: str, *sets: str) -> Trainer:
        options = world.options(kind, tmp_path / "run", *sets)
        caught: list[Trainer] = []

        def catch(trainer: Trainer) -> dict[str, Any]:
            caught.append(trainer)
            return {}

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "fit", catch)
            STAGES[kind](options, CPU)
        return caught[0]

    return prepare


# -- resuming -------------------------------------------------------------------------------

# (class or None for the task's, method, number of the call before which it happens)
MOMENTS: dict[str, tuple[type | None, str, int]] = {
    "before the first step": (Trainer, "_advance", 1),
    "right after a checkpoint": (Trainer, "_advance", 3),
    "between two checkpoints": (Trainer, "_advance", 4),
    "before an evaluation": (Trainer, "_evaluate", 1),
    "at the end": (Trainer, "_advance", 6),
    "between state and weights": (None, "save", 2),
    "before the last checkpoint": (Trainer, "_checkpoint", 3),
    "before the end is noted": (RunFolder, "finish", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_crashed_run_goes_on_to_the_same_weights_and_log(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    whole = world.whole("pix2pix")
    owner, name, number = MOMENTS[moment]
    with monkeypatch.context() as patch:
        at_call(patch, owner or Pix2PixTask, name, number, crash)
        with pytest.raises(Crash):
            world.start("pix2pix", tmp_path)
    assert not (tmp_path / "done.json").exists()
    scores = world.start("pix2pix", tmp_path)
    assert fingerprints(tmp_path) == fingerprints(whole)
    assert log_lines(tmp_path) == log_lines(whole)
    assert scores == RunFolder(whole).summary()
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        ("before the first step", signal.SIGTERM),
        ("right after a checkpoint", signal.SIGINT),
        ("between two checkpoints", signal.SIGUSR1),
        ("at the end", signal.SIGHUP),
    ],
)
def test_stopped_run_saves_its_step_and_goes_on(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    sent: signal.Signals,
) -> None:
    whole = world.whole("pix2pix")
    _, name, number = MOMENTS[moment]
    handlers = [signal.getsignal(s) for s in loop.STOPPING]
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, name, number, lambda: signal.raise_signal(sent))
        with pytest.raises(Interrupted, match=f"stopped at image {2 * number} of 12"):
            world.start("pix2pix", tmp_path)
    assert [signal.getsignal(s) for s in loop.STOPPING] == handlers
    assert load_pickle(tmp_path / "state.pt")["images"] == 2 * number
    world.start("pix2pix", tmp_path)
    assert fingerprints(tmp_path) == fingerprints(whole)
    counts, wanted = counted(tmp_path), counted(whole)
    assert set(counts) >= set(wanted)
    assert set(counts.values()) == {1}


def counted(run: Path) -> Counter[tuple[int, bool]]:
    """How often the log has each image count, for lines of training and of evaluation."""
    return Counter((line["images"], "lr" in line) for line in log_lines(run))


@pytest.mark.parametrize(
    "kind",
    [
        *("cyclegan", "supernet", "finetune", "spectral pix2pix", "supernet of every term"),
        pytest.param("unpaired supernet", marks=pytest.mark.slow),
    ],
)
def test_run_interrupted_twice_equals_an_uninterrupted_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = world.whole(kind)
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "_advance", 4, crash)  # repeats a step
        with pytest.raises(Crash):
            world.start(kind, tmp_path)
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "_advance", 1, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            world.start(kind, tmp_path)
    world.start(kind, tmp_path)
    assert fingerprints(tmp_path) == fingerprints(whole)
    assert set(counted(tmp_path)) >= set(counted(whole))
    assert set(counted(tmp_path).values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["supernet", "cyclegan"])
def test_evaluation_leaves_no_trace_in_the_weights(world: World, tmp_path: Path, kind: str) -> None:
    whole = world.whole(kind)
    world.start(kind, tmp_path, "log.sample_every=2", "log.log_every=1")
    assert fingerprints(tmp_path) == fingerprints(whole)


@pytest.mark.parametrize("kind", PARTS)
def test_saved_state_has_only_parts_that_are_known_to_matter(world: World, kind: str) -> None:
    assert set(load_pickle(world.half(kind) / "state.pt")["task"]) == set(PARTS[kind])


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        pytest.param(kind, part, marks=[pytest.mark.slow] * (kind == "supernet" and part != "ema"))
        for kind, parts in PARTS.items()
        for part in parts
        if kind != "cyclegan" or part == "pools"
    ],
)
def test_result_differs_if_a_part_of_the_state_is_lost(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, part: str
) -> None:
    whole, run = world.whole(kind), tmp_path / "run"
    shutil.copytree(world.half(kind), run)
    task = TASKS[kind]
    load: Callable[[Any, dict[str, Any]], None] = task.load_state_dict

    def forget(self: Any, state: dict[str, Any]) -> None:
        fresh = copy.deepcopy(self.state_dict()[part])
        load(self, {**state, part: fresh})

    monkeypatch.setattr(task, "load_state_dict", forget)
    monkeypatch.setattr(task, "evaluate", lambda self: {})
    nothing = torch.zeros(3, 8, 8, dtype=torch.uint8)
    monkeypatch.setattr(task, "samples", lambda self: Samples(nothing, nothing[None]))
    world.start(kind, run)
    assert fingerprints(run).keys() == fingerprints(whole).keys()
    assert fingerprints(run) != fingerprints(whole)


def test_finished_run_is_not_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = world.whole("pix2pix")
    before = fingerprints(whole)
    monkeypatch.setattr(Trainer, "fit", crash)
    assert world.start("pix2pix", whole) == RunFolder(whole).summary()
    assert fingerprints(whole) == before


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("schedule.lr=0.5", r"schedule\.lr: 0\.001 -> 0\.5"),
        ("seed=3", "seed: 0 -> 3"),
        ("data.flip=false", r"data\.flip: True -> False"),
        ("loss.gan_mode=vanilla", r"loss\.gan_mode: lsgan -> vanilla"),
        ("generator.ngf=4", r"generator\.ngf: 8 -> 4"),
    ],
)
def test_started_run_refuses_other_options(world: World, override: str, line: str) -> None:
    for run in (world.half("pix2pix"), world.whole("pix2pix")):
        before = (run / "config.yaml").read_bytes()
        with pytest.raises(ConfigError, match=line):
            world.start("pix2pix", run, override)
        assert (run / "config.yaml").read_bytes() == before


def test_started_run_takes_other_intervals(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.half("pix2pix"), tmp_path / "run")
    world.start("pix2pix", tmp_path / "run", "log.log_every=2")
    assert fingerprints(tmp_path / "run") == fingerprints(world.whole("pix2pix"))


def test_folder_in_use_is_refused(world: World, tmp_path: Path) -> None:
    with RunFolder(tmp_path).claim(world.options("pix2pix", tmp_path)):
        before = time.process_time()
        with pytest.raises(ConfigError, match="another process is using"):
            world.start("pix2pix", tmp_path)
        assert time.process_time() - before < 1
    assert world.start("pix2pix", tmp_path)["images"] == 12


def test_a_hangup_that_is_ignored_stays_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nohup` starts a program so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        at_call(monkeypatch, Trainer, "_advance", 2, lambda: signal.raise_signal(signal.SIGHUP))
        assert world.start("pix2pix", tmp_path)["images"] == 12
    finally:
        signal.signal(signal.SIGHUP, before)


def unreadable(monkeypatch: pytest.MonkeyPatch, error: Exception, first: int, last: int) -> None:
    """Reading batches fails from one call to another."""
    monkeypatch.setattr(loop, "READ_AGAIN", (0.0, 0.0))
    calls, batch = itertools.count(1), BatchStream.batch

    def read(self: BatchStream, position: int, size: int) -> Batch:
        if first <= next(calls) <= last:
            raise error
        return batch(self, position, size)

    monkeypatch.setattr(BatchStream, "batch", read)


@pytest.mark.parametrize("error", [OSError("no such device"), DataError("a.png: truncated")])
def test_a_batch_that_cannot_be_read_is_read_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole = world.whole("pix2pix")
    with monkeypatch.context() as patch:
        unreadable(patch, error, 4, 5)
        world.start("pix2pix", tmp_path)
    assert fingerprints(tmp_path) == fingerprints(whole)


@pytest.mark.parametrize("error", [OSError("no such device"), DataError("a.png: truncated")])
def test_images_that_stay_unreadable_lose_no_step(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole = world.whole("pix2pix")
    with monkeypatch.context() as patch:
        unreadable(patch, error, 4, 6)
        with pytest.raises(type(error), match=str(error)):
            world.start("pix2pix", tmp_path)
    assert load_pickle(tmp_path / "state.pt")["images"] == 6
    world.start("pix2pix", tmp_path)
    assert fingerprints(tmp_path) == fingerprints(whole)


def test_state_is_saved_by_time_as_well(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    at_call(monkeypatch, Trainer, "_advance", 4, crash)
    with pytest.raises(Crash):
        world.start("pix2pix", tmp_path, "log.checkpoint_every=1000")
    assert load_pickle(tmp_path / "state.pt")["images"] == 6


def broken_from(first: int, last: int) -> Callable[[str, Tensor], Tensor]:
    """The adversarial loss, NaN from one call to another."""
    calls = itertools.count(1)

    def loss(mode: str, scores: Tensor) -> Tensor:
        value = generator_gan_loss(mode, scores)
        return value * math.nan if first <= next(calls) <= last else value

    return loss


GAN_LOSS = "gancompress.training.teacher.generator_gan_loss"


def test_steps_that_are_not_finite_are_left_out_and_counted(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(GAN_LOSS, broken_from(3, 4))
    assert world.start("pix2pix", tmp_path, "log.log_every=4")["images"] == 12
    skipped = [line.get("skipped") for line in log_lines(tmp_path) if "epoch" in line]
    assert skipped == [None, 2, None]
    assert "image 8: 2 of 2 steps skipped, as a gradient was not finite" in caplog.text
    load_tensors(tmp_path / "weights.safetensors")  # refuses what is not finite


def test_gradients_that_stay_not_finite_end_a_training_with_its_last_good_state(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("schedule.num_images=40",)
    with monkeypatch.context() as patch:
        patch.setattr(GAN_LOSS, broken_from(5, 99))
        patch.setattr(Trainer, "_checkpoint", once_good(Trainer._checkpoint, 8))
        with pytest.raises(GanCompressError, match=r"(?s)10 steps in a row.*image 8 is kept.*lr="):
            world.start("pix2pix", tmp_path, *sets)
    assert load_pickle(tmp_path / "state.pt")["images"] == 8
    load_tensors(tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError, match="other options"):
        world.start("pix2pix", tmp_path, *sets, "schedule.lr=0.1")
    assert world.start("pix2pix", tmp_path, *sets, "schedule.lr=0.00005")["images"] == 44
    rates = {line["lr"] for line in log_lines(tmp_path) if "lr" in line}
    assert 5e-5 in rates
    assert "lr: 5.0e-05" in (tmp_path / "config.yaml").read_text()


def once_good(checkpoint: Callable[[Trainer], None], images: int) -> Callable[[Trainer], None]:
    """Checkpoints up to an image alone, so that it is clear which one is kept."""
    return lambda trainer: checkpoint(trainer) if trainer.images <= images else None


@pytest.mark.parametrize("kind", ["pix2pix", "supernet"])
def test_a_training_that_collapses_is_no_success(world: World, tmp_path: Path, kind: str) -> None:
    """Its losses stay finite, and there is no state to go on from."""
    sets = ("schedule.num_images=24", "log.sample_every=4", "log.checkpoint_every=4")
    for _ in range(2):  # a rerun finds it at its end
        with pytest.raises(GanCompressError, match=r"(?s)has no result.*No good state"):
            world.start(kind, tmp_path, *sets, "schedule.lr=1000000")
        assert not (tmp_path / "done.json").exists()


def test_the_state_before_a_collapse_is_kept_and_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("schedule.num_images=16", "log.checkpoint_every=4", "log.sample_every=4")
    black = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    picture = torch.arange(192, dtype=torch.uint8).expand(3, 192).reshape(3, 3, 8, 8)

    def samples(self: Pix2PixTask) -> Samples:
        outputs = black if self.steps > 4 else picture
        return Samples(black[0], picture, outputs, picture)

    with monkeypatch.context() as patch:
        patch.setattr(Pix2PixTask, "samples", samples)
        with pytest.raises(GanCompressError, match=r"(?s)one flat colour.*image 8 is kept.*lr="):
            world.start("pix2pix", tmp_path, *sets)
    assert load_pickle(tmp_path / "state.pt")["images"] == 8
    assert not (tmp_path / "done.json").exists()
    assert world.start("pix2pix", tmp_path, *sets, "schedule.lr=0.0005")["images"] == 20


def test_weights_that_are_not_finite_are_not_saved(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient can overflow in a step whose losses are still finite."""

    def spoil(self: TeacherTask, loss: Tensor) -> None:
        update(self, loss)
        if self.steps == 4:
            next(self.networks["G"].parameters()).data[0] = math.nan

    update = TeacherTask._update_generators
    with monkeypatch.context() as patch:
        patch.setattr(TeacherTask, "_update_generators", spoil)
        with pytest.raises(GanCompressError, match="not finite at image 8"):
            world.start("pix2pix", tmp_path)
    assert load_pickle(tmp_path / "state.pt")["images"] == 4
    load_tensors(tmp_path / "weights.safetensors")


# -- resuming real processes ----------------------------------------------------------------

MANY = ("schedule.num_images=60", "log.checkpoint_every=2", "log.sample_every=1000")


@pytest.fixture(scope="module")
def straight(world: World) -> Path:
    """A run in a process of its own that nobody disturbed."""
    run = world.folder / "straight"
    options = write_options(world.folder / "straight.yaml", world.options("pix2pix", run, *MANY))
    ended = finished("teacher", options, cwd=world.folder)
    assert ended.returncode == 0, ended.stderr
    return run


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.0005)


@pytest.mark.slow
def test_run_killed_while_saving_goes_on_to_the_same_weights(
    world: World, straight: Path, tmp_path: Path
) -> None:
    run, rng = tmp_path / "run", random.Random(0)
    options = write_options(tmp_path / "teacher.yaml", world.options("pix2pix", run, *MANY))
    for _ in range(2):
        running = process("teacher", options, cwd=tmp_path)
        before = saved_images(run)
        target = before + 2 * rng.randint(1, 5)
        wait_for(lambda target=target: saved_images(run) >= target)
        with pytest.raises(ConfigError, match="another process"):
            world.start("pix2pix", run, *MANY)
        wait_for(lambda: list(run.glob(".*.partial")))
        running.kill()
        running.communicate()
        assert running.returncode == -signal.SIGKILL
        assert saved_images(run) >= target
        load_network(run)
    ended = finished("teacher", options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert fingerprints(run) == fingerprints(straight)
    assert log_lines(run) == log_lines(straight)
    assert not list(run.glob(".*.partial"))


def saved_images(run: Path) -> int:
    state = run / "state.pt"
    return int(load_pickle(state)["images"]) if state.exists() else 0


@pytest.mark.slow
def test_terminated_process_exits_with_75_and_goes_on(
    world: World, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = write_options(tmp_path / "teacher.yaml", world.options("pix2pix", run, *MANY))
    running = process("teacher", options, cwd=tmp_path)
    wait_for(lambda: saved_images(run) >= 4)
    running.terminate()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 75
    assert "stopped at image" in err
    assert "Traceback" not in out + err
    assert 4 <= saved_images(run) < 64
    ended = finished("teacher", options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert fingerprints(run) == fingerprints(straight)
    assert set(counted(run).values()) == {1}


# -- schedule and average -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decay", "images", "factor"),
    [
        *((4, 0, 1), (4, 7, 1), (4, 8, 1), (4, 9, 0.75), (4, 11, 0.25), (4, 12, 0), (4, 20, 0)),
        *((0, 7, 1), (0, 8, 1)),
    ],
)
def test_learning_rate_is_constant_then_falls_to_zero(
    decay: int, images: int, factor: float
) -> None:
    schedule = ScheduleOptions(num_images=8, num_images_decay=decay, lr=0.002)
    assert learning_rate(schedule, images) == pytest.approx(0.002 * factor)


def test_every_step_uses_the_learning_rate_and_knows_the_progress_of_its_image(
    prepared: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = prepared("pix2pix")
    seen, passed = [], []
    task: Any = trainer.task

    def note(batch: Batch, rng: torch.Generator, progress: float) -> dict[str, Tensor]:
        passed.append(progress)
        groups = task.optim_g.param_groups + task.optim_d.param_groups
        seen.append([group["lr"] for group in groups])
        return {}

    monkeypatch.setattr(task, "step", note)
    trainer.fit()
    wanted = [0.001, 0.001, 0.001, 0.001, 0.001, 0.0005]
    assert [set(rates) for rates in seen] == [{lr} for lr in wanted]
    assert passed == [images / 12 for images in range(0, 12, 2)]


def test_log_has_the_rate_of_the_training_alone(
    prepared: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images in a step of half a second; what is between steps takes no part."""
    sets = ("log.log_every=4", "log.sample_every=6", "log.checkpoint_every=100")
    trainer = prepared("pix2pix", *sets)
    clock = [0.0]

    def take(seconds: float, result: Any) -> Any:
        clock[0] += seconds
        return result

    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(trainer, "_since", 0.0)
    monkeypatch.setattr(trainer.task, "step", lambda *_: take(0.5, {}))
    monkeypatch.setattr(trainer.task, "evaluate", lambda: take(100.0, {}))
    trainer.fit()
    rates = {
        line["images"]: line["images_per_second"]
        for line in trainer.run.read_log()
        if "epoch" in line
    }
    assert rates == {4: 4.0, 8: 4.0, 12: 4.0}


def test_average_follows_its_formula() -> None:
    module = nn.BatchNorm2d(3)
    ema = Ema(module, decay=0.3)
    expected = module.weight.detach().clone()
    for steps in range(40):
        module.weight.data.normal_()
        module.running_mean.normal_()
        ema.update(module, steps)
        decay = min(0.3, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(ema.module.weight, expected)
    torch.testing.assert_close(ema.module.running_mean, module.running_mean)


def test_average_without_decay_is_the_module_itself() -> None:
    module = nn.Conv2d(3, 3, 1)
    ema = Ema(module, decay=0)
    for steps in range(5):
        module.weight.data.normal_()
        ema.update(module, steps)
    assert torch.equal(ema.module.weight, module.weight)
    assert not ema.module.training


# -- one step of every recipe ---------------------------------------------------------------

TEACHER_LOSSES = [
    (),
    ("loss.gan_mode=hinge", "loss.recon=l2", "data.direction=BtoA"),
    ("loss.gan_mode=vanilla", "loss.recon=smooth_l1"),
    ("loss.lambda_gan=0", "data.direction=BtoA"),
    ("loss.lambda_identity=0", "loss.pool_size=0", "discriminator={name: pixel, ndf: 8}"),
    ("schedule.precision=bf16", "schedule.ema=0"),
]
UNET_SIZE = ("data.load_size=64", "data.crop_size=64")
SUPERNET_LOSSES = [
    ("supernet", ()),
    ("supernet", ("loss.gan_mode=lsgan", "loss.recon=l2", "data.direction=BtoA")),
    ("supernet", ("loss.gan_mode=vanilla", "loss.recon=smooth_l1", "loss.target=truth")),
    ("supernet", ("loss.lambda_gan=0", "sampling.num_random=0", "schedule.precision=bf16")),
    ("supernet", ("loss.lambda_distill=0", "sampling.inplace=0")),
    ("supernet", ("sampling.schedule=uniform", "loss.taps=[model.10, 'model.12:model.13']")),
    ("supernet", ("student.name=mobile_resnet_6blocks", "sampling.inplace=1")),
    ("supernet", (f"teacher.weights={UNET}", *UNET_SIZE, "loss.lambda_gan=0")),
    ("supernet", (f"teacher.weights={UNET}", *UNET_SIZE, "student.name=mobile_resnet_6blocks",
                  "loss.taps=['model.9:model.model.1.model.1']")),
    ("supernet", ("student.name=unet_64", *UNET_SIZE, "loss.lambda_distill=0")),
    ("supernet", ("student.inherit=false", "student.tie_blocks=false")),
    ("unpaired supernet", ("loss.gan_mode=lsgan", "sampling.num_random=2")),
    ("unpaired supernet", ("loss.gan_mode=vanilla", "data.direction=BtoA")),
    ("unpaired supernet", ("loss.lambda_gan=0", "sampling.schedule=uniform")),
    ("finetune", ("loss.target=truth",)),
    ("finetune", ("loss.lambda_gan=0", "loss.lambda_distill=0")),
]  # fmt: skip


def stepped(trainer: Trainer) -> dict[str, float]:
    """Losses of one step."""
    losses = trainer.task.step(trainer.stream.batch(0, 2), torch.Generator().manual_seed(0), 0.0)
    return {name: float(value.detach()) for name, value in losses.items()}


def snapshot(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {
        name: torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
        for name, module in modules.items()
    }


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert all(bool(torch.isfinite(vector).all()) for vector in after.values())
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("kind", ["pix2pix", "cyclegan"])
@pytest.mark.parametrize("sets", TEACHER_LOSSES, ids=lambda sets: " ".join(sets) or "default")
def test_teacher_step_is_finite_and_moves_every_network(
    prepared: Callable[..., Trainer], kind: str, sets: tuple[str, ...]
) -> None:
    trainer = prepared(kind, *sets)
    task: Any = trainer.task
    modules = {**task.networks, "average": task.ema.module}
    before = snapshot(modules)
    losses = stepped(trainer)
    assert all(math.isfinite(value) for value in losses.values())
    assert changed(before, snapshot(modules)) == set(modules)
    assert all(parameter.requires_grad for parameter in task.networks["D"].parameters())


@pytest.mark.parametrize(
    ("kind", "sets"), SUPERNET_LOSSES, ids=lambda value: value if isinstance(value, str) else None
)
def test_distillation_step_is_finite_and_moves_what_it_trains(
    world: World,
    prepared: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    sets: tuple[str, ...],
) -> None:
    monkeypatch.chdir(world.folder)
    trainer = prepared(kind, *sets)
    task: Any = trainer.task
    trained = {"generator": task.student.generator, "average": task.ema.module}
    if "loss.lambda_distill=0" not in sets:
        trained["adapters"] = task.terms
    if "loss.lambda_gan=0" not in sets:
        trained["discriminator"] = task.adversary.discriminator
    before, teacher = snapshot(trained), snapshot({"teacher": task.teacher})
    losses = stepped(trainer)
    names = {"G_recon"}
    names |= {"G_distill"} if "adapters" in trained else set()
    names |= {"G_gan", "D"} if "discriminator" in trained else set()
    assert losses.keys() == names
    assert all(math.isfinite(value) for value in losses.values())
    assert changed(before, snapshot(trained)) == set(trained)
    assert not changed(teacher, snapshot({"teacher": task.teacher}))


def test_step_with_every_term_is_finite_and_moves_what_it_trains(
    prepared: Callable[..., Trainer],
) -> None:
    trainer = prepared("supernet of every term")
    task: Any = trainer.task
    observers = task.observers
    trained = {
        "generator": task.student.generator,
        "average": task.ema.module,
        "adapters": task.terms,
        "discriminator": task.adversary.discriminator,
    }
    fixed = {
        "teacher": task.teacher,
        "backbone": observers.backbone.backbone,
        "observer": observers.discriminator,
    }
    before, kept = snapshot(trained), snapshot(fixed)
    assert torch.equal(before["discriminator"], kept["observer"])
    losses = stepped(trainer)
    assert losses.keys() == {"G_gan", "D", *(f"G_{name}" for name in TERMS)}
    assert all(math.isfinite(value) for value in losses.values())
    assert changed(before, snapshot(trained)) == set(trained)
    assert not changed(kept, snapshot(fixed))


ALONE = ("loss.lambda_gan=0", "loss.lambda_recon=0", "loss.lambda_distill=0")


def alone(name: str) -> tuple[str, ...]:
    """Overrides that leave one term."""
    own = {"recon", "lpips", "distill"}
    weights = [f"loss.lambda_{other}={int(other == name)}" for other in sorted(own)]
    further = {name: 1} if name not in own else {}
    return ("loss.lambda_gan=0", *weights, f"loss.terms={further}")


@pytest.mark.parametrize("name", TERMS)
def test_every_term_trains_the_student_alone_and_runs_only_what_it_needs(
    prepared: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trainer = prepared("supernet of every term", *alone(name))
    task: Any = trainer.task
    runs = []
    task.teacher.register_forward_hook(lambda *_: runs.append("whole"))
    next(task.teacher.children())[0].register_forward_hook(lambda *_: runs.append("begun"))
    before = snapshot({"generator": task.student.generator})
    assert stepped(trainer).keys() == {f"G_{name}"}
    assert changed(before, snapshot({"generator": task.student.generator}))
    needed = TERMS[name].needs
    assert runs == (["begun"] if "activations" in needed else [])
    assert (task.observers.backbone is not None) == ("backbone" in needed)
    assert (task.observers.discriminator is not None) == ("discriminator" in needed)
    assert task.adversary is None


def test_subnets_imitate_the_largest_network_alone(
    prepared: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("sampling.schedule=uniform", "sampling.num_random=4", "loss.lambda_gan=0")
    task: Any = prepared("supernet", *sets).task
    space = task.net.space
    order = [space.smallest(), space.largest(), space.smallest(), space.smallest()]
    views = [SubnetView(task.net, subnet) for subnet in order]
    task.recipe = dataclasses.replace(task.recipe, sampler=lambda rng, progress: views)
    shown: list[Tensor | None] = []
    compute = task.terms.forward

    def note(output: Any, contexts: Any) -> Any:
        shown.append(output.largest)
        return compute(output, contexts)

    monkeypatch.setattr(task.terms, "forward", note)
    batch = Batch(torch.rand(2, 3, 32, 32), None, torch.rand(2, 3, 32, 32))
    task.step(batch, torch.Generator().manual_seed(0), 0.0)
    assert [image is None for image in shown] == [True, True, False, False]
    assert shown[2] is shown[3]


def test_losses_without_any_weight_are_refused(prepared: Callable[..., Trainer]) -> None:
    with pytest.raises(ConfigError, match="all weights are 0"):
        prepared("supernet", *ALONE)


def test_no_taps_for_what_compares_activations_is_refused(
    prepared: Callable[..., Trainer],
) -> None:
    with pytest.raises(ConfigError, match=r"loss\.taps is empty.*loss\.lambda_distill=0"):
        prepared("supernet", "loss.taps=[]")
    prepared("supernet", "loss.taps=[]", "loss.lambda_distill=0")


def test_adversary_alone_trains_the_student(prepared: Callable[..., Trainer]) -> None:
    trainer = prepared("supernet", *ALONE[1:])
    task: Any = trainer.task
    before = snapshot({"generator": task.student.generator})
    assert stepped(trainer).keys() == {"G_gan", "D"}
    assert changed(before, snapshot({"generator": task.student.generator}))


JUDGE_ALONE = ("loss.lambda_gan=0", "loss.terms={discriminator: 1}")


def test_discriminator_that_only_compares_is_kept_for_later_stages(
    world: World, prepared: Callable[..., Trainer], tmp_path: Path
) -> None:
    task: Any = prepared("supernet", *JUDGE_ALONE).task
    task.save(RunFolder(tmp_path), {"images": 0, "of": 0})
    kept, _ = load_tensors(tmp_path / "discriminator.safetensors")
    wanted, _ = load_tensors(world.whole("pix2pix") / "discriminator.safetensors")
    assert kept.keys() == wanted.keys()
    assert all(torch.equal(kept[name], wanted[name]) for name in wanted)


def test_finetuning_compares_by_the_supernets_discriminator(
    world: World, prepared: Callable[..., Trainer]
) -> None:
    trainer = prepared("finetune", *JUDGE_ALONE)
    task: Any = trainer.task
    wanted, _ = load_tensors(world.whole("supernet") / "discriminator.safetensors")
    found = task.observers.discriminator.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert stepped(trainer).keys() == {"G_recon", "G_distill", "G_discriminator"}


def test_comparing_by_a_discriminator_without_training_is_refused(
    world: World, prepared: Callable[..., Trainer], tmp_path: Path
) -> None:
    lonely = tmp_path / "weights.safetensors"
    shutil.copy(world.whole("pix2pix") / lonely.name, lonely)
    with pytest.raises(ConfigError, match=r"name its file in teacher\.discriminator"):
        prepared("supernet", f"teacher.weights={lonely}", "loss.terms={discriminator: 1}")


def test_truth_as_target_needs_pairs(prepared: Callable[..., Trainer]) -> None:
    with pytest.raises(ConfigError, match=r"loss\.target=truth needs paired data"):
        prepared("unpaired supernet", "loss.target=truth")


def test_images_of_one_side_train_without_a_discriminator(
    world: World, prepared: Callable[..., Trainer], tmp_path: Path
) -> None:
    one_side = f"data.root={tmp_path / 'one side'}"
    shutil.copytree(world.unpaired / "trainA", tmp_path / "one side" / "trainA")
    with pytest.raises(DataError, match=r"set loss\.lambda_gan=0"):
        prepared("unpaired supernet", one_side)
    trainer = prepared("unpaired supernet", one_side, "loss.lambda_gan=0")
    assert stepped(trainer).keys() == {"G_recon", "G_distill"}


@pytest.mark.parametrize("kind", ["supernet", "unpaired supernet"])
def test_images_of_the_target_domain_are_not_read_where_no_loss_sees_them(
    world: World, prepared: Callable[..., Trainer], kind: str
) -> None:
    batches = {}
    for weight in (1, 0):
        trainer = prepared(kind, f"loss.lambda_gan={weight}")
        batches[weight] = trainer.stream.batch(6, 2)
    assert trainer.stream.split.targets is None
    assert batches[1].real_b is not None
    assert batches[0].real_b is None
    assert torch.equal(batches[0].real_a, batches[1].real_a)
    assert batches[0].pseudo_b is not None
    assert batches[1].pseudo_b is not None
    assert torch.equal(batches[0].pseudo_b, batches[1].pseudo_b)


def test_sizes_that_the_generator_cannot_take_are_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.crop_size=30 .*multiple of the stride 4"):
        world.start("pix2pix", tmp_path, "data.crop_size=30")
    message = r"stride 400, .*\n  The stride follows from student\.resolutions=\[0\.33, 1\.0\]"
    with pytest.raises(ConfigError, match=message):
        world.start("supernet", tmp_path, "student.resolutions=[0.33, 1.0]")


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("supernet", "hinge"), ("supernet", "vanilla"), ("unpaired supernet", "lsgan")],
)
def test_shared_forward_gives_the_gradients_of_two_separate_ones(
    prepared: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    sets = (f"loss.gan_mode={mode}", "loss.lambda_gan=3", "sampling.schedule=uniform")
    trainer = prepared(kind, *sets)
    task: Any = trainer.task
    batch = trainer.stream.batch(0, 2)
    for optim in (task.optim_g, task.adversary.optim):
        monkeypatch.setattr(optim, "step", lambda: None)
    rng = torch.Generator().manual_seed(5)
    numbers = random.Random(rng.initial_seed())
    (view,) = task.recipe.sampler(numbers, 0.0)
    task.step(batch, rng, 0.0)
    generator, judge = separate_gradients(task, batch, view)
    for parameter, wanted in (*generator, *judge):
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scale = float(wanted.abs().max().clamp_min(1e-3))
        assert float((found - wanted).abs().max()) < 1e-4 * scale


Gradients = Iterator[tuple[nn.Parameter, Tensor]]


def separate_gradients(task: DistillTask, batch: Batch, view: View) -> tuple[Gradients, ...]:
    """Gradients of generator and discriminator from one forward of the latter for each."""
    assert task.adversary is not None
    loss, judge = task.recipe.loss, task.adversary.discriminator
    adapters: Any = task.terms.table["distill"]
    assert batch.real_b is not None
    assert batch.pseudo_b is not None

    def scores(image: Tensor) -> Tensor:
        seen = torch.cat([batch.real_a, image], 1) if task.held_out.paired else image
        result: Tensor = judge(seen)
        return result

    out, features = view(batch.real_a, [tap.student for tap in task.taps])
    loss_d = discriminator_gan_loss(loss.gan_mode, scores(batch.real_b), scores(out.detach()))
    total = loss.lambda_gan * generator_gan_loss(loss.gan_mode, scores(out))
    total = total + loss.lambda_recon * recon_loss(loss.recon)(out, batch.pseudo_b)
    with torch.no_grad(), capture(task.teacher, [tap.teacher for tap in task.taps]) as wanted:
        task.teacher(batch.real_a)
    for index, tap in enumerate(task.taps):
        adapted = adapters.adapt(index, features[tap.student], view)
        distance = feature_distillation(adapted, wanted[tap.teacher], lambda x: x)
        total = total + loss.lambda_distill * distance

    def gradients(value: Tensor, parameters: list[nn.Parameter]) -> Gradients:
        found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            yield parameter, torch.zeros_like(parameter) if gradient is None else gradient

    trained = [*task.net.parameters(), *task.terms.parameters()]
    return gradients(total, trained), gradients(loss_d, list(judge.parameters()))


# -- what a student starts from -------------------------------------------------------------


def untrained(name: str, **options: Any) -> Network:
    section = GeneratorOptions(name=name, **{"input_nc": 3, "output_nc": 3, "ngf": 8, **options})
    module = init_weights(build_generator(section), gain=0.3).eval()
    network = Network(module, {"generator": section.model_dump()}, GENERATORS[name].stride, "test")
    calibrate(module, [torch.rand(4, *network.example_shape[1:]) * 2 - 1])
    return network


FAMILIES = [
    ("resnet_6blocks", {}),
    ("resnet_6blocks", {"norm": "batch", "padding": "zero", "dropout": 0.5}),
    ("mobile_resnet_6blocks", {"dropout": 0.0}),
    ("unet_64", {"norm": "instance"}),
    ("unet_64", {"norm": "batch", "dropout": 0.5}),
]


@pytest.mark.parametrize(("name", "options"), FAMILIES)
def test_student_of_the_same_kind_starts_as_its_teacher(name: str, options: dict[str, Any]) -> None:
    teacher = untrained(name, **options)
    student = make_student(StudentOptions(widths=(0.5, 1.0), divisor=4), teacher)
    x = torch.rand(2, *teacher.example_shape[1:]) * 2 - 1
    with torch.no_grad():
        wanted = teacher.module(x)
        found = student.net.eval()(x, student.net.space.largest())
        sorted_teacher = student.teacher.eval()(x)
    assert float((found - wanted).abs().max()) < 1e-4
    assert torch.equal(found, sorted_teacher)
    assert student.inherited
    assert not torch.equal(found, student.net(x, student.net.space.smallest()))


def test_distillation_of_a_full_width_student_starts_at_zero(
    prepared: Callable[..., Trainer],
) -> None:
    """Adapters start as identities, so image and activations agree before the first step."""
    # a crop or a flip of the teacher's image is not its image of the crop or the flip
    plain = ("data.load_size=32", "data.flip=false")
    losses = stepped(prepared("supernet", "student.widths=[1.0]", *plain))
    assert losses["G_distill"] < 1e-6
    assert losses["G_recon"] < 0.005  # the teacher's image was rounded to 8 bits


def test_student_without_inheritance_is_no_teacher() -> None:
    teacher = untrained("resnet_6blocks")
    student = make_student(StudentOptions(inherit=False), teacher)
    mine, theirs = student.net.generator.state_dict(), teacher.module.state_dict()
    assert mine.keys() == theirs.keys()
    assert not torch.equal(mine["model.1.weight"], theirs["model.1.weight"])
    assert student.teacher is teacher.module


def test_student_without_inheritance_begins_layers_of_somebodys_own_as_their_owner_does() -> None:
    module = CartoonGenerator(width=8)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    teacher = Network(module.eval(), {"module": CARTOON}, 4, "trained")  # narrower than CARTOON's
    generator = make_student(StudentOptions(inherit=False), teacher).net.generator
    for name, tensor in generator.state_dict().items():
        if name.startswith("in"):
            assert torch.equal(tensor, torch.full_like(tensor, float(name.endswith("scale"))))
        else:
            assert float(tensor.abs().max()) < 0.2


def test_separable_student_inherits_what_has_the_same_shape() -> None:
    teacher = untrained("resnet_6blocks")
    student = make_student(StudentOptions(name="mobile_resnet_6blocks"), teacher)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():  # the same teacher, its most important channels first
        assert float((student.teacher(x) - teacher.module(x)).abs().max()) < 1e-4
    mine, theirs = student.net.generator.state_dict(), student.teacher.state_dict()
    shared = {n for n in mine if n in theirs and mine[n].shape == theirs[n].shape}
    assert {"model.1.weight", "model.4.weight", "model.7.bias", "model.23.weight"} <= shared
    assert not any("conv_block" in name and name.endswith("weight") for name in shared)
    assert all(torch.equal(mine[name], theirs[name]) for name in shared)
    assert not student.inherited
    x = torch.rand(1, 3, 32, 32) * 2 - 1  # the teacher in another channel order is the teacher
    torch.testing.assert_close(student.teacher(x), teacher.module(x), atol=1e-4, rtol=0)


def test_student_of_another_family_has_its_own_norms_and_upsamplings() -> None:
    options = StudentOptions(name="mobile_resnet_6blocks", norm="batch", upsampling="nearest")
    layers = [type(m) for m in make_student(options, untrained("resnet_6blocks")).net.modules()]
    assert nn.BatchNorm2d in layers
    assert layers.count(nn.Upsample) == 2
    assert not {nn.InstanceNorm2d, nn.ConvTranspose2d} & set(layers)


@pytest.mark.parametrize("given", [{"ngf": 8}, {"norm": "batch"}, {"upsampling": "nearest"}])
def test_the_teachers_own_architecture_is_taken_as_it_is(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has no effect on the teacher's own architecture"):
        StudentOptions.model_validate(given)


def test_student_of_a_family_without_norms_takes_none() -> None:
    options = StudentOptions(name="subpixel_resnet_6blocks", norm="batch")
    with pytest.raises(ConfigError, match="norm=batch has no effect on subpixel_resnet_6blocks"):
        make_student(options, untrained("resnet_6blocks"))


def test_start_from_continues_another_supernet(
    world: World, prepared: Callable[..., Trainer]
) -> None:
    earlier = world.whole("supernet")
    task: Any = prepared("supernet", f"start_from={earlier}").task
    for name, module in (("weights", task.student.generator), ("adapters", task.terms)):
        tensors, _ = load_tensors(earlier / f"{name}.safetensors")
        assert all(torch.equal(module.state_dict()[key], tensors[key]) for key in tensors)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        prepared("supernet", f"start_from={earlier}", "student.name=mobile_resnet_6blocks")
    prepared("supernet", f"start_from={earlier}", "loss.lambda_distill=0")  # needs no adapters


@pytest.mark.parametrize("kind", ["pix2pix", "cyclegan"])
def test_start_from_continues_another_teacher(
    world: World, prepared: Callable[..., Trainer], kind: str
) -> None:
    earlier = world.whole(kind)
    task: Any = prepared(kind, f"start_from={earlier}").task
    files = {"G": "weights", "D": "discriminator"}
    if kind == "cyclegan":
        files["G_back"] = "weights_back"
    for name, file in files.items():
        tensors, _ = load_tensors(earlier / f"{file}.safetensors")
        state = task.networks[name].state_dict()
        assert all(torch.equal(state[key], tensors[key]) for key in tensors)
    averaged, trained = task.ema.module.state_dict(), task.networks["G"].state_dict()
    assert all(torch.equal(averaged[key], trained[key]) for key in trained)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        prepared(kind, f"start_from={earlier}", "generator.ngf=4")


@pytest.mark.parametrize(("sets", "side"), [((), 32), (("data.eval_size=64",), 64)])
@pytest.mark.parametrize("kind", ["pix2pix", "supernet"])
def test_held_out_images_are_evaluated_whole_at_their_own_size(
    prepared: Callable[..., Trainer], kind: str, sets: tuple[str, ...], side: int
) -> None:
    trainer = prepared(kind, *sets)
    held_out = trainer.task.held_out  # type: ignore[attr-defined]
    assert held_out.inputs.size == side
    assert trainer.stream.batch(0, 1).real_a.shape[-1] == 32
    trainer.task.evaluate()
    with pytest.raises(ConfigError, match=r"data\.eval_size=62 must be a multiple"):
        prepared(kind, "data.eval_size=62")


@pytest.mark.parametrize(
    "name",
    [n if n == "channels-32" else pytest.param(n, marks=pytest.mark.slow) for n in CONFIG_SETS],
)
def test_config_set_gives_the_published_widths(name: str) -> None:
    ngf = max(max(choices) for choices in CONFIG_SETS[name])
    teacher = untrained("mobile_resnet_9blocks", ngf=ngf)
    space = make_student(StudentOptions(config_set=name), teacher).net.space
    assert tuple(d.choices for d in space.dimensions) == CONFIG_SETS[name]
    assert [d.unit for d in space.dimensions] == [1, 2, 4, 4, 4, 4, 2, 1]
    assert str(space.parse("16_32_16_16_32_16")) == "16_32_16_16_16_16_32_16"


def test_config_set_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="goes up to width 32, the student has ngf 8"):
        make_student(StudentOptions(config_set="channels-32"), untrained("resnet_6blocks"))
    with pytest.raises(ConfigError, match="has no config sets"):
        make_student(StudentOptions(config_set="channels-32"), untrained("unet_64"))
    with pytest.raises(ConfigError, match=r"unknown config set 'channels-33'.*channels-32"):
        make_student(StudentOptions(config_set="channels-33"), untrained("resnet_6blocks"))


@pytest.mark.parametrize(
    ("name", "taps"),
    [
        ("resnet_9blocks", ("model.9", "model.12", "model.15", "model.18")),
        ("resnet_6blocks", ("model.9", "model.11", "model.13", "model.15")),
        ("mobile_resnet_9blocks", ("model.9", "model.12", "model.15", "model.18")),
    ],
)
def test_default_taps_of_a_resnet_are_those_of_the_paper(name: str, taps: tuple[str, ...]) -> None:
    network = untrained(name)
    traced = trace(network.module, network.example_shape)
    assert default_taps(network.module, traced) == taps


def test_default_taps_of_a_unet_are_spread_over_its_convolutions() -> None:
    network = untrained("unet_64")
    traced = trace(network.module, network.example_shape)
    taps = default_taps(network.module, traced)
    kinds = [type(network.module.get_submodule(tap)) for tap in taps]
    assert kinds == [nn.Conv2d, nn.Conv2d, nn.ConvTranspose2d, nn.ConvTranspose2d]
    assert len(set(taps)) == 4
    assert activations(network.module, torch.zeros(network.example_shape), taps).keys() == set(taps)


# -- the teacher ----------------------------------------------------------------------------


def test_runs_share_the_teachers_answers(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.whole("pix2pix")
    shown = 0
    translate = PaddedTeacher.__call__

    def counting(self: PaddedTeacher, images: Tensor) -> Tensor:
        nonlocal shown
        shown += len(images)
        return translate(self, images)

    monkeypatch.setattr(PaddedTeacher, "__call__", counting)
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "_advance", 2, crash)
        with pytest.raises(Crash):
            world.start("supernet", tmp_path / "one")
    asked = shown
    assert asked == 2 + len(
        (tmp_path / "pairs").glob("*/manifest.jsonl").__next__().read_text().splitlines()
    )
    world.start("supernet", tmp_path / "one")
    world.start("supernet", tmp_path / "other", "student.widths=[1.0]", "sampling.schedule=uniform")
    assert shown == asked + 2 * 2  # the two probe images of every start


def test_activations_end_the_forward_at_the_last_layer() -> None:
    ran = []
    module = nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(4)))
    for index, layer in enumerate(module):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    x = torch.randn(1, 2, 4, 4)
    found = activations(module, x, ("2", "0"))
    assert ran == [0, 1, 2]
    with capture(module, ("0", "2")) as wanted, torch.no_grad():
        module(x)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not any(tensor.requires_grad for tensor in found.values())
    assert len(module[0]._forward_hooks) == 1  # its own are gone


def test_activations_name_a_layer_that_is_not_there_or_not_run() -> None:
    module = nn.ModuleDict({"used": nn.Conv2d(2, 2, 1), "unused": nn.Conv2d(2, 2, 1)})
    module.forward = module["used"].forward  # type: ignore[method-assign]
    x = torch.randn(1, 2, 4, 4)
    with pytest.raises(ConfigError, match="has no layer 'nowhere'"):
        activations(module, x, ("used", "nowhere"))
    with pytest.raises(ConfigError, match="never runs 'unused'"):
        activations(module, x, ("unused",))


FACTORY = """
import torch
from torch import nn


class Net(nn.Module):
    stride = 2

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.first, self.second = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.trunk = nn.Conv2d(8, 12, 3, padding=1)
        self.norm = nn.InstanceNorm2d(12)
        self.up = nn.ConvTranspose2d(12, 3, 4, stride=2, padding=1)

    def forward(self, x):
        x = self.first(self.down(x))
        return torch.tanh(self.up(self.second(self.norm(self.trunk(x)))))


def make():
    torch.manual_seed(11)
    return Net()


def number():
    return 3
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A generator of somebody's own, not known to the package."""
    (tmp_path / "own_teacher.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_teacher:make"


def test_any_module_can_be_the_teacher(world: World, tmp_path: Path, factory: str) -> None:
    run = tmp_path / "run"
    sets = (f"teacher.module={factory}", "student.divisor=2")
    options = supernet_options(world.paired, run, None, *sets)
    scores = train_supernet(options, CPU)
    assert scores["mae_largest"] < 0.05
    with pytest.raises(CheckpointError, match=f"name it: --module {factory}"):
        load_supernet(run)
    net, network = load_supernet(run, [factory])
    assert network.description == {"module": factory}
    assert network.stride == 2
    assert [d.full for d in net.space.dimensions] == [8, 12]
    assert net(torch.zeros(1, 3, 8, 8), net.space.smallest()).shape == (1, 3, 8, 8)


def test_in_place_layers_do_not_spoil_the_distillation(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    """Teacher and student give the same activations, though only the student runs to its end."""
    sets = (f"teacher.module={factory}", "student.widths=[1.0]", "loss.taps=[down, norm]")
    options = supernet_options(world.paired, tmp_path / "run", None, *sets)
    caught: list[Trainer] = []
    monkeypatch.setattr(Trainer, "fit", lambda trainer: caught.append(trainer) or {})
    train_supernet(options, CPU)
    assert stepped(caught[0])["G_distill"] < 1e-6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_teacher", "write package.module:factory"),
        ("nowhere_at_all:make", "cannot import the factory"),
        ("own_teacher:nothing", "cannot import the factory"),
        ("own_teacher:number", "returned int, not an nn.Module"),
    ],
)
def test_factory_that_gives_no_module_is_refused(
    world: World, tmp_path: Path, factory: str, name: str, message: str
) -> None:
    assert factory
    options = supernet_options(world.paired, tmp_path / "run", None, f"teacher.module={name}")
    with pytest.raises(ConfigError, match=message):
        train_supernet(options, CPU)


def test_supernet_keeps_its_teacher_and_needs_no_other_folder(world: World) -> None:
    run = world.whole("supernet")
    kept, teacher = load_network(run / "teacher.safetensors"), load_network(world.whole("pix2pix"))
    mine, theirs = kept.module.state_dict(), teacher.module.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    net, network = load_supernet(run)
    assert network.header["progress"] == {"images": 12, "of": 12}
    assert dataclasses.asdict(net.space.dimensions[0])["choices"] == (4, 8)


def test_training_reports_losses_without_a_terminal(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = teacher_options(world.paired, tmp_path / "mine", "log.log_every=4")
    with caplog.at_level("INFO", "gancompress"):
        train_teacher(options, CPU)
    lines = [r.getMessage() for r in caplog.records if r.name == "gancompress.progress"]
    starts = [f"{tmp_path.name}/mine: {images} of 12 images, " for images in (4, 8, 12)]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 3
    assert all(" left, " in line and ", D " in line for line in lines)
