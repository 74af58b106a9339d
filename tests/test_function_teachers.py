"""Teachers that are functions: whatever turns an image into an image, asked once for each."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import threading
import urllib.error
from collections import Counter
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from helpers import picture, write_image
from PIL import Image, ImageOps
from torch import Tensor

from gancompress.checkpoint.answers import AnswerBook
from gancompress.checkpoint.network import load_network
from gancompress.config import CheckOptions, SupernetOptions, TeacherSource, build
from gancompress.data import RGB, ImageSet, image_kind, list_images, make_splits, to_float
from gancompress.data.hashing import pixel_digest
from gancompress.errors import ConfigError, DataError
from gancompress.pipeline.compression import compress
from gancompress.pipeline.derive import derive_compression
from gancompress.training.answered import answered
from gancompress.training.asking import FunctionTeacher
from gancompress.training.faults import fault, faults, shift_of
from gancompress.training.functions import CallError, Question, function_kind, load_function
from gancompress.training.functions.outside import Command
from gancompress.training.functions.python import PythonFunction
from gancompress.training.pairs import Asked, ask, probe_images
from gancompress.training.student import load_teacher

SIZE = 32
PROBES = 3  # two images, the first of them twice


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    for index in range(20):
        write_image(tmp_path / "photos" / "trainA" / f"{index:02}.png", picture(index, SIZE))
    return ImageSet(list_images(tmp_path / "photos" / "trainA"), SIZE)


def teacher(weights: str | Path, **options: Any) -> FunctionTeacher:
    calls = {"backoff_s": 0.0, **options.pop("calls", {})}
    raw = {"weights": str(weights), "calls": calls, **options}
    source = build(TeacherSource, raw, "teacher")
    return FunctionTeacher(load_function(source, RGB, RGB), source)


def negatives(images: ImageSet) -> Tensor:
    return torch.stack([255 - images[index] for index in range(len(images))])


def outputs(asked: Asked) -> Tensor:
    assert not asked.errors
    return asked.store.take(asked.digests).take(range(len(asked.digests)))


# -- which function is meant ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("package.module:function", "python"),
        ("my-tool {input} --to {output}", "command"),
        ("http://localhost:8000/edit", "endpoint"),
        ("graph.onnx", "file"),
        ("done", "pairs"),
        ("runs/teacher", None),
        ("latest_net_G.pth", None),
    ],
)
def test_functions_are_told_from_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("graph.onnx").touch()
    write_image(Path("done/trainB/1.png"), picture(1, 8))
    write_image(Path("runs/teacher/samples/1.png"), picture(1, 8))
    Path("runs/teacher/config.yaml").touch()
    source = TeacherSource.model_validate({"weights": text})
    assert function_kind(source) == kind
    assert str(source.weights) == text


def test_a_command_without_output_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a command needs \{input\} and \{output\}"):
        build(TeacherSource, {"weights": "tool {input}"}, "teacher")
    with pytest.raises(ConfigError, match="no program 'a-tool-that-is-not-there'"):
        teacher("a-tool-that-is-not-there {input} {output}")


# -- Python -----------------------------------------------------------------------------------


CALLS: Counter[bytes] = Counter()


def negative(image: Image.Image) -> Image.Image:
    CALLS[image.tobytes()] += 1
    return ImageOps.invert(image)


def flat(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.invert(image)) // 2


def restless(image: Image.Image) -> np.ndarray:
    CALLS[image.tobytes()] += 1
    return np.full_like(np.asarray(image), CALLS[image.tobytes()])


def large(image: Image.Image) -> Image.Image:
    return ImageOps.invert(image).resize((128, 64), Image.Resampling.NEAREST)


def broken(image: Image.Image) -> Image.Image:
    raise RuntimeError("out of order")


def picky(image: Image.Image) -> Any:
    return "no image" if image.getpixel((0, 0)) in PICKED else image


PICKED: list[object] = []


def here(function: str) -> str:
    return f"{__name__}:{function}"


def test_a_python_function_is_asked_once_for_each_image(images: ImageSet, tmp_path: Path) -> None:
    CALLS.clear()
    asked = ask(tmp_path / "pairs", teacher(here("negative"), calls={"workers": 4}), images)
    assert torch.equal(outputs(asked), negatives(images))
    assert len(CALLS) == len(images) + PROBES - 1
    again = ask(tmp_path / "pairs", teacher(here("negative")), images)
    assert torch.equal(outputs(again), negatives(images))
    photos = [bytes(images[i].permute(1, 2, 0).contiguous().numpy()) for i in range(len(images))]
    assert [CALLS[photo] for photo in photos] == [1] * len(images)


def test_functions_of_one_file_have_answers_of_their_own(images: ImageSet, tmp_path: Path) -> None:
    root = tmp_path / "pairs"
    first = outputs(ask(root, teacher(here("negative")), images))
    other = outputs(ask(root, teacher(here("flat")), images))
    assert torch.equal(other, negatives(images) // 2)
    assert torch.equal(outputs(ask(root, teacher(here("negative")), images)), first)
    outputs(ask(root, teacher(here("negative"), version="2"), images))
    assert len(list(root.iterdir())) == 3


def test_a_function_that_changes_its_mind_is_said_and_asked_once(
    images: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CALLS.clear()
    first = outputs(ask(tmp_path / "pairs", teacher(here("restless")), images))
    assert "answers the same image differently each time" in caplog.text
    assert torch.equal(outputs(ask(tmp_path / "pairs", teacher(here("restless")), images)), first)


def test_answers_of_another_size_follow_the_policy(images: ImageSet, tmp_path: Path) -> None:
    few = ImageSet(images.files[:2], SIZE)
    stretched = outputs(ask(tmp_path / "1", teacher(here("large")), few))
    assert (stretched.float() - negatives(few).float()).abs().mean() < 8
    cropped = outputs(ask(tmp_path / "2", teacher(here("large"), other_size="crop"), few))
    assert not torch.equal(cropped, stretched)
    refused = ask(tmp_path / "3", teacher(here("large"), other_size="refuse"), few).errors
    assert ["128x64 pixels to 32x32" in error for error in refused.values()] == [True, True]


def test_one_image_without_answer_is_left_out(images: ImageSet, tmp_path: Path) -> None:
    PICKED[:] = [tuple(images[4][:, 0, 0].tolist())]
    asked = ask(tmp_path / "pairs", teacher(here("picky")), images)
    assert list(asked.errors.values()) == ["str is no image"]
    assert list(asked.errors) == [4]
    lines = (asked.store.folder / "manifest.jsonl").read_text().splitlines()
    failed = [line for line in map(json.loads, lines) if "error" in line]
    assert [line["name"] for line in failed] == ["04.png"]
    PICKED.clear()
    PICKED.append(None)
    assert not ask(tmp_path / "pairs", teacher(here("picky")), images).errors


def photos_only(image: Image.Image) -> Image.Image:
    probes = probe_images(RGB, SIZE).permute(0, 2, 3, 1).contiguous()
    if image.tobytes() in [bytes(probe.numpy()) for probe in probes]:
        raise ValueError("no photo")
    return ImageOps.invert(image)


def test_a_function_that_fails_for_made_up_images_is_asked_about_others(
    images: ImageSet, tmp_path: Path
) -> None:
    few = ImageSet(images.files[:3], SIZE)
    asked = ask(tmp_path / "pairs", teacher(here("photos_only")), few)
    assert torch.equal(outputs(asked), negatives(few))


def test_images_that_failed_before_do_not_end_a_later_start(
    images: ImageSet, tmp_path: Path
) -> None:
    PICKED[:] = [tuple(images[index][:, 0, 0].tolist()) for index in range(5)]
    with pytest.raises(DataError, match="5 images in a row"):
        ask(tmp_path / "pairs", teacher(here("picky")), images)
    asked = ask(tmp_path / "pairs", teacher(here("picky")), images)
    assert list(asked.errors) == list(range(5))


ANSWERS: dict[str, Any] = {
    "channels first": np.zeros((3, 8, 8), np.uint8),
    "five channels": np.zeros((8, 8, 5), np.uint8),
    "no channel": np.zeros((8, 8, 0), np.uint8),
    "floats": np.zeros((8, 8, 3), np.float32),
    "bfloat16": torch.zeros(8, 8, 3, dtype=torch.bfloat16),
}


def given(image: Image.Image) -> Any:
    return PICKED[0]


def answer_of(answer: Any) -> Any:
    PICKED[:] = [answer]
    question = Question(torch.zeros(3, 8, 8, dtype=torch.uint8), Path("1.png"))
    return PythonFunction(here("given"), RGB, RGB).call(question)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_is_no_image_is_a_failure_with_its_reason(answer: Any) -> None:
    with pytest.raises(CallError) as seen:
        answer_of(answer)
    assert not seen.value.again


def test_a_truncated_file_that_a_function_opens_is_a_failure(tmp_path: Path) -> None:
    write_image(tmp_path / "whole.png", picture(0, 64))
    (tmp_path / "part.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    with (
        Image.open(tmp_path / "part.png") as part,
        pytest.raises(CallError, match="is no image") as seen,
    ):
        answer_of(part)
    assert not seen.value.again


def test_kinds_of_images_have_answers_of_their_own() -> None:
    source = build(TeacherSource, {"weights": "true {input} {output}"}, "teacher")
    kinds = [(RGB, RGB), (image_kind("labels:3"), RGB), (RGB, image_kind("bands:3"))]
    asked = [FunctionTeacher(load_function(source, *pair), source) for pair in kinds]
    assert len({str(function.identity(SIZE)) for function in asked}) == 3


def test_a_function_out_of_order_ends_it_with_its_reason(images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"5 images in a row, .*: RuntimeError: out of order"):
        ask(tmp_path / "pairs", teacher(here("broken")), images)


def test_calls_end_at_their_limit_and_go_on_there(images: ImageSet, tmp_path: Path) -> None:
    CALLS.clear()
    limited = {"max_calls": 10, "workers": 2}
    for _ in range(2):
        with pytest.raises(DataError, match="max_calls=10 are used up"):
            ask(tmp_path / "pairs", teacher(here("negative"), calls=limited), images)
    asked = ask(tmp_path / "pairs", teacher(here("negative"), calls=limited), images)
    assert torch.equal(outputs(asked), negatives(images))


# -- commands, addresses, files -----------------------------------------------------------------


TOOL = """
import pathlib, sys
from PIL import Image, ImageOps
source, target, folder = sys.argv[1:]
folder = pathlib.Path(folder)
count = len(list(folder.iterdir()))
(folder / str(count)).touch()
if count == 4:
    sys.exit("ran out of memory")
ImageOps.invert(Image.open(source)).save(target)
"""


def test_a_command_that_crashes_once_loses_nothing(images: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    (tmp_path / "tool.py").write_text(TOOL)
    line = f"{sys.executable} {tmp_path}/tool.py {{input}} {{output}} {tmp_path}/calls"
    few = ImageSet(images.files[:4], SIZE)
    asked = ask(tmp_path / "pairs", teacher(line), few)
    assert torch.equal(outputs(asked), negatives(few))
    calls = len(few) + PROBES + 1
    assert len(list((tmp_path / "calls").iterdir())) == calls
    assert torch.equal(outputs(ask(tmp_path / "pairs", teacher(line), few)), negatives(few))
    assert len(list((tmp_path / "calls").iterdir())) == calls  # it was not even started


def test_what_a_command_has_started_ends_with_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "alive")
    script = "import subprocess as s, sys; s.run(['sleep', '60'], stdout=open(sys.argv[1], 'w'))"
    line = shlex.join([sys.executable, "-c", script, str(tmp_path / "alive"), "{input}{output}"])
    command = Command(line, RGB, RGB, timeout_s=1.0)
    question = Question(torch.zeros(3, 8, 8, dtype=torch.uint8), Path("1.png"))
    with open(os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)) as end:
        with pytest.raises(CallError, match="took more than 1 s"):
            command.call(question)
        os.set_blocking(end.fileno(), True)
        assert not end.read()  # nobody holds the other end


@pytest.mark.parametrize(("header", "seconds"), [("9" * 400, 60), ("\u00b2", 0), ("7", 7)])
def test_a_wait_that_an_endpoint_asks_for_has_a_limit(
    header: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = teacher("http://localhost:1/edit", calls={"attempts": 2})
    headers = Message()
    headers["Retry-After"] = header

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.HTTPError("", 429, "Too Many Requests", headers, None)

    waits: list[float] = []
    monkeypatch.setattr(asked.function.opener, "open", refuse)  # type: ignore[attr-defined]
    monkeypatch.setattr(asked._stopped, "wait", lambda pause: waits.append(pause))
    question = Question(torch.zeros(3, 8, 8, dtype=torch.uint8), Path("1.png"))
    assert asked.ask(question).error == "HTTP 429 Too Many Requests"
    assert max(waits) == seconds


class Stub(BaseHTTPRequestHandler):
    """Inverts images; every seventh request fails."""

    bodies: ClassVar[Counter[bytes]] = Counter()
    served: ClassVar[Counter[bytes]] = Counter()
    lock = threading.Lock()
    shift = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.bodies[body] += 1
            failing = self.bodies.total() % 7 == 0
        if failing:
            self.send_error(503)
            return
        values = 255 - np.asarray(Image.open(io.BytesIO(body)))
        buffer = io.BytesIO()
        Image.fromarray(np.roll(values, self.shift, 0)).save(buffer, "PNG")
        with self.lock:
            self.served[body] += 1
        self.send_response(200)
        self.send_header("Content-Length", str(buffer.tell()))
        self.end_headers()
        self.wfile.write(buffer.getvalue())

    def log_message(self, *_: object) -> None:
        """Nothing is written to the terminal."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Stub.bodies.clear()
    Stub.served.clear()
    Stub.shift = 0
    yield f"http://127.0.0.1:{server.server_address[1]}/edit"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_that_fails_every_seventh_request_loses_nothing(
    images: ImageSet, tmp_path: Path, address: str
) -> None:
    first = ImageSet(images.files[:9], SIZE)
    ask(tmp_path / "pairs", teacher(address), first)
    asked = ask(tmp_path / "pairs", teacher(address, calls={"workers": 4}), images)
    assert torch.equal(outputs(asked), negatives(images))
    assert Counter(Stub.served.values()) == {
        1: len(images),
        2: 1,
        3: 1,
    }  # the last two: probe images
    before = Stub.bodies.total()
    ask(tmp_path / "pairs", teacher(address), images)
    assert Stub.bodies.total() == before
    lines = (asked.store.folder / "manifest.jsonl").read_text().splitlines()
    assert max(json.loads(line)["attempts"] for line in lines if "attempts" in line) >= 2


def test_an_endpoint_that_has_become_another_is_refused(
    images: ImageSet, tmp_path: Path, address: str
) -> None:
    ask(tmp_path / "pairs", teacher(address), ImageSet(images.files[:2], SIZE))
    Stub.shift = 3
    with pytest.raises(ConfigError, match=r"answers otherwise .*\n  Set teacher.version"):
        ask(tmp_path / "pairs", teacher(address), images)
    assert not ask(tmp_path / "pairs", teacher(address, version="2"), images).errors


def test_an_address_that_is_not_found_is_not_tried_again(images: ImageSet, tmp_path: Path) -> None:
    class Missing(Stub):
        def do_POST(self) -> None:
            self.bodies[b""] += 1
            self.send_error(404)

    Stub.bodies.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Missing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with pytest.raises(DataError, match=r"5 images in a row, .*: HTTP 404"):
            ask(tmp_path, teacher(f"http://127.0.0.1:{server.server_address[1]}"), images)
        server.shutdown()
        thread.join()
    assert Stub.bodies.total() == PROBES + 5


def test_an_onnx_file_of_one_size_teaches_at_any(images: ImageSet, tmp_path: Path) -> None:
    sides = [1, 3, 64, 64]
    ports = [onnx.helper.make_tensor_value_info(name, 1, sides) for name in ("x", "y")]
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "graph", ports[:1], ports[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "teacher.onnx")
    few = ImageSet(images.files[:2], SIZE)
    found = outputs(ask(tmp_path / "pairs", teacher(tmp_path / "teacher.onnx"), few))
    assert found.shape == (2, 3, SIZE, SIZE)
    assert (found.float() - negatives(few).float()).abs().mean() < 8


def test_finished_pairs_are_found_by_name_and_never_mixed_up(
    images: ImageSet, tmp_path: Path
) -> None:
    few = ImageSet(images.files[:3], SIZE)
    for index, path in enumerate(few.files):
        write_image(tmp_path / "done" / "trainB" / path.name, 255 - picture(index, SIZE))
    assert torch.equal(outputs(ask(tmp_path, teacher(tmp_path / "done"), few)), negatives(few))
    write_image(tmp_path / "flat" / "00.png", picture(0, SIZE))
    write_image(tmp_path / "photos" / "testA" / "00.png", picture(99, SIZE))
    both = ImageSet([few.files[0], tmp_path / "photos" / "testA" / "00.png", few.files[1]], SIZE)
    for _ in range(2):  # the second start finds the first answer in the store
        errors = ask(tmp_path, teacher(tmp_path / "flat"), both).errors
        assert "would be the answer to" in errors[1]
        assert "holds no answer named 01" in errors[2]


def test_inputs_beside_finished_pairs_are_no_answers(images: ImageSet, tmp_path: Path) -> None:
    few = ImageSet(images.files[:3], SIZE)
    for index, path in enumerate(few.files):
        write_image(tmp_path / "photos" / "trainB" / path.name, 255 - picture(index, SIZE))
    asked = ask(tmp_path, teacher(tmp_path / "photos"), few)
    assert torch.equal(outputs(asked), negatives(few))


def test_finished_pairs_that_are_missing_never_end_it(images: ImageSet, tmp_path: Path) -> None:
    write_image(tmp_path / "done" / "19.png", picture(0, SIZE))
    asked = ask(tmp_path, teacher(tmp_path / "done"), images)
    assert list(asked.errors) == list(range(19))
    assert len(asked.store.take([])) == 0


# -- bad pairs ----------------------------------------------------------------------------------


def moved(image: Tensor, down: int, right: int) -> Tensor:
    return torch.roll(image, (down, right), (1, 2))


def test_what_is_wrong_with_an_answer_is_found(images: ImageSet) -> None:
    image = torch.from_numpy(picture(3, 64)).permute(2, 0, 1)
    checks = CheckOptions(shift=4, unchanged=1.5)
    wanted = {
        "unchanged": (image, "unchanged"),
        "nearly": (image ^ 1, "unchanged"),
        "black": (torch.zeros_like(image), "flat"),
        "negative": (255 - image, None),
        "a little moved": (moved(255 - image, 2, -3), None),
        "far moved": (moved(255 - image, -6, 9), "shifted"),
        "another": (torch.from_numpy(picture(9, 64)).permute(2, 0, 1), None),
    }
    found = {name: fault(image, answer, checks) for name, (answer, _) in wanted.items()}
    assert found == {name: reason for name, (_, reason) in wanted.items()}
    lenient = CheckOptions(unchanged=0, flat=0, shift=None)
    assert all(fault(image, answer, lenient) is None for answer, _ in wanted.values())
    flat = torch.full_like(image, 7)
    assert fault(flat, 255 - flat, checks) is None  # there is nothing to see in the input either


def test_a_shift_is_measured_to_the_pixel() -> None:
    image = torch.from_numpy(picture(5, 64)).permute(2, 0, 1).float().mean(0)
    for down, right in ((0, 0), (3, -5), (-11, 7)):
        found = shift_of(image, 2 * torch.roll(image, (down, right), (0, 1)) + 9)
        assert found[:2] == (down, right)
        assert found[2] > 0.3


def test_the_very_same_answer_to_several_images_is_left_out(images: ImageSet) -> None:
    inputs = [images[index] for index in range(10)]
    safety = 255 - images[15]
    answers = [safety if index in (2, 5, 6) else 255 - inputs[index] for index in range(10)]
    found = faults(zip(inputs, answers, strict=True), (RGB, RGB), CheckOptions())
    assert found == {2: "alike", 5: "alike", 6: "alike"}
    assert not faults(zip(inputs, answers, strict=True), (RGB, RGB), CheckOptions(alike=0.5))
    answers[2] = 255 - inputs[2]
    assert not faults(zip(inputs, answers, strict=True), (RGB, RGB), CheckOptions())


def lazy(image: Image.Image) -> Image.Image:
    return image if image.getpixel((0, 0)) in PICKED else ImageOps.invert(image)


def test_bad_pairs_are_counted_shown_and_left_out_of_the_lists(
    images: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    PICKED[:] = [tuple(images[index][:, 0, 0].tolist()) for index in (4, 7, 8)]
    data = {"root": str(tmp_path / "photos"), "mode": "unpaired", "load_size": 32, "crop_size": 32}
    source: dict[str, Any] = {"weights": here("lazy")}
    raw = {"run": str(tmp_path / "run"), "data": data, "teacher": source,
           "schedule": {"num_images": 2}}  # fmt: skip
    options = build(SupernetOptions, raw, "supernet")
    splits, network = make_splits(options.data), load_teacher(options.teacher)
    kept = answered(network, options, tmp_path / "pairs", splits)
    before, after = (
        {image.name for split in ("train", "search") for image in lists.inputs(split, "AtoB")}
        for lists in (splits, kept)
    )
    assert before - after == {f"trainA/0{index}.png" for index in (4, 7, 8)}
    assert "3 unchanged" in caplog.text or "2 unchanged" in caplog.text
    assert list((tmp_path / "run" / "samples").glob("left_out_*.png"))
    assert len(network.module.outputs) == len(kept.inputs("search", "AtoB"))
    (tmp_path / "run" / "state.pt").touch()
    source["checks"] = {"unchanged": 255.0}  # the first start has checked all of them
    options, again = build(SupernetOptions, raw, "supernet"), load_teacher(options.teacher)
    assert answered(again, options, tmp_path / "pairs", kept) == kept
    assert torch.equal(again.module.outputs, network.module.outputs)


# -- what is left of it -------------------------------------------------------------------------


def test_a_book_answers_what_it_knows_and_nothing_else(images: ImageSet) -> None:
    known = {pixel_digest(images[index]): 255 - images[index] for index in (0, 1)}
    book = AnswerBook.of(known, 3)
    both = to_float(torch.stack([images[1], images[0]]))
    torch.testing.assert_close(book(both), -both, rtol=0, atol=1e-6)
    with pytest.raises(DataError, match="is a function, and its run keeps its answers"):
        book(to_float(images[2][None]))


@pytest.mark.slow  # all stages
def test_a_function_is_compressed_to_an_onnx_file(images: ImageSet, tmp_path: Path) -> None:
    CALLS.clear()
    for index in range(3):
        write_image(tmp_path / "photos" / "testA" / f"{index}.png", picture(100 + index, SIZE))
    sets = (
        f"run={tmp_path / 'run'}", "data.load_size=32", "supernet.student.ngf=8",
        "supernet.student.widths=[0.5, 1.0]", "supernet.student.divisor=4",
        "supernet.schedule={num_images: 4, num_images_decay: 2, batch_size: 2}",
        "search.num_trials=3", "search.budgets=[1G]", "search.max_images=2", "export=[onnx]",
    )  # fmt: skip
    options = derive_compression(tmp_path / "photos", here("negative"), "quick", overrides=sets)
    done = compress(options, "cpu")
    (file,) = done.files.values()
    assert file.suffix == ".onnx"
    assert file.is_file()
    assert [row.label.partition(" ")[0] for row in done.rows] == ["subnet"]
    assert "teacher_mae" in " ".join(done.rows[0].scores)
    kept = load_network(tmp_path / "run" / "supernet" / "teacher.safetensors")
    assert kept.is_function
    assert len(kept.module.outputs) == 2 + 3
    assert set(CALLS.values()) == {1, 2}
    assert list(CALLS.values()).count(2) == 1  # the first probe image


def test_what_needs_layers_of_a_function_is_one_message(images: ImageSet, tmp_path: Path) -> None:
    sets = (
        f"run={tmp_path / 'run'}",
        "supernet.student.name=same",
        "supernet.loss.lambda_distill=1",
    )
    options = derive_compression(tmp_path / "photos", here("negative"), "quick", overrides=sets)
    with pytest.raises(
        ConfigError, match=r"student.name=same and loss.lambda_distill would"
    ) as seen:
        compress(options, "cpu")
    assert str(seen.value).count("\n") == 1
    assert not (tmp_path / "run" / "pairs").exists()
