"""Files of weights: only the published bytes are ever used, whatever servers and folders hold."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torchvision.models as tv

from gancompress.errors import CheckpointError, ConfigError
from gancompress.metrics import weights
from gancompress.metrics.weights import WEIGHTS, WeightFile, find_weights

CONTENT = random.Random(0).randbytes(100_000)
PAGE = b"<!doctype html><title>Sign in</title>"
Answer = Callable[[BaseHTTPRequestHandler], None]


def send(
    body: bytes, announced: int | None = None, kind: str = "application/octet-stream"
) -> Answer:
    """Answer with a body; `announced` is the Content-Length, -1 for none."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        length = len(body) if announced is None else announced
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        if length >= 0:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def refuse(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


def redirect(location: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.end_headers()

    return answer


@dataclass
class Server:
    """Answers to requests, in this order; the last one is repeated.

    Attributes:
        url: Address of the file.
        answers: What to do for /thing.bin.
        elsewhere: What to do for any other path.
        requests: Paths asked for so far.
    """

    url: str
    answers: list[Answer]
    elsewhere: Answer
    requests: list[str] = field(default_factory=list)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.path)
        if handler.path != "/thing.bin":
            self.elsewhere(handler)
        elif len(self.answers) > 1:
            self.answers.pop(0)(handler)
        else:
            self.answers[0](handler)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.handle(self)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up
    url = f"http://127.0.0.1:{listening.server_port}/thing.bin"
    state = Server(url, [send(CONTENT)], send(CONTENT))
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def entry(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    """`find_weights("thing")` looks for CONTENT in empty folders, then asks the server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv(weights.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(weights, "PAUSE_S", 0.0)
    monkeypatch.setattr(weights, "CHUNK_BYTES", 16_384)
    digest = hashlib.sha256(CONTENT).hexdigest()
    made = WeightFile(server.url, digest, len(CONTENT), lambda: [tmp_path / "library"])
    monkeypatch.setitem(WEIGHTS, "thing", made)
    return made


@pytest.fixture
def cache(entry: WeightFile, tmp_path: Path) -> Path:
    return tmp_path / "cache" / "gancompress"


def put(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "thing.bin").write_bytes(content)
    return folder / "thing.bin"


def remains(folder: Path) -> set[str]:
    """Files in a folder but for the lock."""
    return {path.name for path in folder.iterdir()} - {".thing.bin.lock"}


def test_download_lands_in_the_cache_once(server: Server, cache: Path) -> None:
    assert find_weights("thing") == cache / "thing.bin"
    assert find_weights("thing") == cache / "thing.bin"
    assert (cache / "thing.bin").read_bytes() == CONTENT
    assert remains(cache) == {"thing.bin"}
    assert len(server.requests) == 1


@pytest.mark.parametrize("where", ["user", "library", "cache"])
def test_file_on_this_machine_is_used_without_a_request(
    where: str, server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"user": tmp_path / "mine", "library": tmp_path / "library", "cache": cache}[where]
    if where == "user":
        monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))
    assert find_weights("thing", put(folder)) == find_weights("thing") == folder / "thing.bin"
    assert not server.requests


def test_folder_of_the_user_comes_first(
    entry: WeightFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, mine = put(tmp_path / "library"), put(tmp_path / "mine")
    assert find_weights("thing") == library
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(mine.parent))
    assert find_weights("thing") == mine


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + b"x", b"", PAGE])
def test_wrong_file_of_somebody_else_is_reported_and_left_alone(
    content: bytes, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = put(tmp_path / "library", content)
    with caplog.at_level(logging.WARNING):
        assert find_weights("thing") == cache / "thing.bin"
    assert wrong.read_bytes() == content
    assert f"{wrong} is not used: its SHA-256 is" in caplog.text or (
        f"{wrong} is not used: it has {len(content):,} bytes instead of 100,000" in caplog.text
    )


def test_folder_or_dangling_link_in_place_of_the_file_is_skipped(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thing.bin").symlink_to(tmp_path / "nowhere")
    (tmp_path / "library" / "thing.bin").mkdir(parents=True)
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert find_weights("thing") == cache / "thing.bin"


def test_half_file_in_our_cache_is_replaced(cache: Path) -> None:
    put(cache, CONTENT[:50_000])
    (cache / ".thing.bin.partial").write_bytes(b"left by a killed process")
    assert find_weights("thing").read_bytes() == CONTENT
    assert remains(cache) == {"thing.bin"}


def test_variable_that_names_no_folder_is_an_error(
    entry: WeightFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"\$GANCOMPRESS_WEIGHTS must name a folder.*nowhere"):
        find_weights("thing")


@pytest.mark.parametrize("received", [0, 1, 16_384, 50_000, len(CONTENT) - 1])
def test_connection_that_ends_early_is_tried_again(
    received: int, server: Server, cache: Path
) -> None:
    server.answers = [send(CONTENT[:received], len(CONTENT)), send(CONTENT)]
    assert find_weights("thing").read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("announced", [len(CONTENT), -1], ids=["announced", "unannounced"])
def test_half_file_is_never_kept(announced: int, server: Server, cache: Path) -> None:
    server.answers = [send(CONTENT[:60_000], announced)]
    with pytest.raises(CheckpointError, match="ended after 60,000 of 100,000 bytes"):
        find_weights("thing")
    assert not remains(cache)
    assert len(server.requests) == weights.ATTEMPTS


CHANGED = CONTENT[:777] + bytes([CONTENT[777] ^ 1]) + CONTENT[778:]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (send(CHANGED), "another file: its SHA-256 is"),
        (send(PAGE, kind="text/html; charset=utf-8"), "a web page of 37 bytes"),
        (send(CONTENT[:-1]), "another file of 99,999 bytes"),
        (send(CONTENT * 3, announced=-1), "bytes instead of 100,000"),
        (refuse(404), "the server answers 404 Not Found"),
        (redirect("/login"), "a web page of 37 bytes"),
    ],
    ids=["byte-changed", "page", "shorter", "endless", "missing", "redirect-to-page"],
)
def test_other_content_is_refused_at_once(
    answer: Answer, says: str, server: Server, cache: Path
) -> None:
    server.answers, server.elsewhere = [answer], send(PAGE, kind="text/html")
    with pytest.raises(CheckpointError, match=says):
        find_weights("thing")
    assert server.requests.count("/thing.bin") == 1
    assert not remains(cache)


def test_endless_answer_is_cut_off(server: Server, cache: Path) -> None:
    sent = 0

    def pour(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while sent < 1 << 30:
            handler.wfile.write(CONTENT)
            sent += len(CONTENT)

    server.answers = [pour]
    with pytest.raises(CheckpointError, match="another file"):
        find_weights("thing")
    assert sent < 1 << 30


def test_redirect_is_followed(server: Server, cache: Path) -> None:
    server.answers = [redirect("/mirror/thing.bin")]
    assert find_weights("thing").read_bytes() == CONTENT


def test_server_in_trouble_is_tried_again(server: Server, cache: Path) -> None:
    server.answers = [refuse(503), refuse(500), send(CONTENT)]
    assert find_weights("thing").read_bytes() == CONTENT


def test_silent_server_is_given_up(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "TIMEOUT_S", 0.05)
    server.answers = [lambda handler: time.sleep(0.2)]
    with pytest.raises(CheckpointError, match="timed out"):
        find_weights("thing")


def test_offline_message_says_where_to_put_which_file(
    entry: WeightFile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = WeightFile("http://127.0.0.1:9/thing.bin", entry.sha256, entry.size, list)
    monkeypatch.setitem(WEIGHTS, "thing", gone)
    with pytest.raises(CheckpointError) as caught:
        find_weights("thing")
    message = str(caught.value)
    for part in (gone.url, "Connection refused", str(cache), "$GANCOMPRESS_WEIGHTS"):
        assert part in message
    assert f"100,000 bytes and the SHA-256 {entry.sha256}" in message


def test_cache_that_cannot_be_written_is_one_message(server: Server, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="cannot be written"):
        find_weights("thing")


def test_two_at_once_download_once(server: Server, cache: Path) -> None:
    begun = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        begun.set()
        time.sleep(0.3)
        send(CONTENT)(handler)

    server.answers = [slowly]
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(find_weights("thing").read_bytes()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
        begun.wait(5)
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 3
    assert len(server.requests) == 1


PROCESS = """
import sys
from gancompress.metrics import weights
url, sha256, size, target = sys.argv[1:]
entry = weights.WeightFile(url, sha256, int(size), list)
weights.download(entry, weights.Path(target))
"""


def start(entry: WeightFile, target: Path) -> subprocess.Popen[bytes]:
    arguments = [entry.url, entry.sha256, str(entry.size), str(target)]
    return subprocess.Popen([sys.executable, "-c", PROCESS, *arguments], stderr=subprocess.PIPE)


@pytest.mark.slow
def test_waiting_process_takes_over_from_a_killed_one(
    server: Server, entry: WeightFile, cache: Path
) -> None:
    begun, gone = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        send(CONTENT[:50_000], len(CONTENT))(handler)
        begun.set()
        gone.wait(60)

    server.answers = [stall, send(CONTENT)]
    with start(entry, cache / "thing.bin") as first:
        assert begun.wait(60)
        with start(entry, cache / "thing.bin") as second:
            assert second.stderr
            assert b"another process downloads thing.bin" in second.stderr.readline()
            assert not (cache / "thing.bin").exists()
            first.kill()
            assert second.wait(60) == 0
    gone.set()
    assert (cache / "thing.bin").read_bytes() == CONTENT
    assert remains(cache) == {"thing.bin"}


def test_given_path_may_be_any_file_that_exists(entry: WeightFile, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"weights of the user's own")
    assert find_weights("thing", tmp_path / "other.pth") == tmp_path / "other.pth"
    with pytest.raises(CheckpointError, match=r"no weights .*missing\.pth"):
        find_weights("thing", tmp_path / "missing.pth")


@pytest.fixture
def code(entry: WeightFile, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    """`find_weights("thing")` is after a file that runs code when it is read."""
    made = WeightFile(entry.url, entry.sha256, entry.size, entry.caches, is_code=True)
    monkeypatch.setitem(WEIGHTS, "thing", made)
    return made


def test_given_file_of_code_must_be_the_published_one(code: WeightFile, tmp_path: Path) -> None:
    assert find_weights("thing", put(tmp_path)) == tmp_path / "thing.bin"
    with pytest.raises(CheckpointError, match=r"runs code, so it must be thing\.bin as published"):
        find_weights("thing", put(tmp_path, CHANGED))


def test_code_of_a_stranger_in_a_folder_open_to_all_is_not_trusted(
    code: WeightFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(tmp_path / "library")
    if os.getuid() == 0:
        os.chown(file, 4242, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert find_weights("thing") == file
    file.parent.chmod(0o1777)
    assert find_weights("thing") == cache / "thing.bin"


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("alexnet", tv.AlexNet_Weights.IMAGENET1K_V1),
        ("squeezenet1_1", tv.SqueezeNet1_1_Weights.IMAGENET1K_V1),
        ("vgg16", tv.VGG16_Weights.IMAGENET1K_V1),
    ],
)
def test_table_agrees_with_torchvision(name: str, published: tv.WeightsEnum) -> None:
    entry = WEIGHTS[name]
    assert entry.url == published.url
    assert entry.file_name.endswith(f"-{entry.sha256[:8]}.pth")
    assert entry.size / 2**20 == pytest.approx(published.meta["_file_size"], abs=6e-4)


def test_folders_of_other_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert WEIGHTS["alexnet"].caches() == [tmp_path / "hub" / "checkpoints"]
    assert Path("/tmp") in WEIGHTS["inception"].caches()
    assert WEIGHTS["inception"].is_code


def test_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert weights.cache_folder() == Path("/home/somebody/.cache/gancompress")
