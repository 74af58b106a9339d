"""datasets/download.py against a server on this machine and archives of a few tiny images."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "datasets" / "download.py"
UNPAIRED = {"trainA": 3, "trainB": 2, "testA": 1, "testB": 1}
PAIRED = {"train": 3, "val": 2}

Plan = Callable[[BaseHTTPRequestHandler], None]


def image_bytes(width: int = 8, height: int = 4, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(stream, kind)
    return stream.getvalue()


def members(name: str, counts: dict[str, int], image: bytes | None = None) -> dict[str, bytes]:
    image = image or image_bytes()
    return {f"{name}/{split}/{i}.jpg": image for split, n in counts.items() for i in range(n)}


def zip_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tar_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, to in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, to
            archive.addfile(info)
    return stream.getvalue()


def sends(body: bytes, kind: str = "application/octet-stream") -> Plan:
    def plan(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return plan


def refuses(status: int) -> Plan:
    return lambda handler: handler.send_error(status)


def always_cuts(body: bytes) -> Plan:
    def plan(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])

    return plan


def cuts_then_resumes(body: bytes, tags: tuple[str, str] = ('"one"', '"one"')) -> Plan:
    """Half of the body first; then the range asked for, or all of it if the tag has changed."""
    remaining = list(tags)

    def plan(handler: BaseHTTPRequestHandler) -> None:
        tag, last = remaining.pop(0), not remaining
        asked = handler.headers.get("Range", "")
        start = int(asked[6:-1]) if asked and handler.headers.get("If-Range") == tag else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start:] if last else body[: len(body) // 2])

    return plan


class Server(HTTPServer):
    """Answers every request by `plan`, and notes the ranges that were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: Plan = refuses(500)
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/archive"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        self.server.plan(self)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with data sets of a few images and no pauses."""
    spec = importlib.util.spec_from_file_location("dataset_download", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    for name, counts in {"horse2zebra": UNPAIRED, "maps": PAIRED, "cityscapes": PAIRED}.items():
        recipe = module.Recipe(None, counts, paired=counts is PAIRED)
        monkeypatch.setitem(module.RECIPES, name, recipe)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "database"


def failure(
    download: ModuleType, capsys: pytest.CaptureFixture[str], root: Path, *arguments: str
) -> str:
    """Run a command that must fail; returns its message."""
    before = snapshot(root)
    assert download.main([*arguments, "--root", str(root)]) == 2
    assert snapshot(root) == before
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("DownloadError: ") == 1
    assert "Traceback" not in captured.err
    return captured.err.partition("DownloadError: ")[2]


def snapshot(folder: Path) -> list[Path] | None:
    return sorted(folder.rglob("*")) if folder.exists() else None


def counts_of(folder: Path) -> dict[str, int]:
    return {path.name: len(list(path.iterdir())) for path in folder.iterdir()}


def test_download_unpacks_a_zip(download: ModuleType, server: Server, root: Path) -> None:
    server.plan = sends(zip_of(members("horse2zebra", UNPAIRED)))
    assert download.main(["horse2zebra", "--url", server.url, "--root", str(root)]) == 0
    assert counts_of(root / "horse2zebra") == UNPAIRED
    assert list(root.iterdir()) == [root / "horse2zebra"]


def test_download_unpacks_a_tar(download: ModuleType, server: Server, root: Path) -> None:
    server.plan = sends(tar_of(members("maps", PAIRED)))
    assert download.main(["maps", "--url", server.url, "--root", str(root)]) == 0
    assert counts_of(root / "maps") == PAIRED
    assert list(root.iterdir()) == [root / "maps"]


def test_download_takes_a_flat_archive_from_a_file(
    download: ModuleType, tmp_path: Path, root: Path
) -> None:
    flat = {name.removeprefix("maps/"): data for name, data in members("maps", PAIRED).items()}
    archive = tmp_path / "mirror.zip"
    archive.write_bytes(zip_of({**flat, "train/.hidden.jpg": b"", "train/readme.txt": b""}))
    assert download.main(["maps", "--url", archive.as_uri(), "--root", str(root)]) == 0
    assert (root / "maps" / "train" / "2.jpg").exists()


def test_download_keeps_the_archive_when_asked(
    download: ModuleType, server: Server, root: Path
) -> None:
    body = tar_of(members("maps", PAIRED))
    server.plan = sends(body)
    arguments = ["maps", "--url", server.url, "--root", str(root), "--keep-archive"]
    assert download.main(arguments) == 0
    assert (root / "maps.tar.gz").read_bytes() == body


def test_download_goes_on_where_the_connection_ended(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = tar_of(members("maps", PAIRED))
    server.plan = cuts_then_resumes(body)
    assert download.main(["maps", "--url", server.url, "--root", str(root)]) == 0
    assert server.ranges == [None, f"bytes={len(body) // 2}-"]
    assert counts_of(root / "maps") == PAIRED
    assert "attempt 2 of 5" in capsys.readouterr().err


def test_download_starts_over_when_the_archive_has_changed(
    download: ModuleType, server: Server, root: Path
) -> None:
    server.plan = cuts_then_resumes(tar_of(members("maps", PAIRED)), tags=('"one"', '"two"'))
    assert download.main(["maps", "--url", server.url, "--root", str(root)]) == 0
    assert counts_of(root / "maps") == PAIRED


def test_complete_data_set_is_left_alone(
    download: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in members("maps", PAIRED).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    assert download.main(["maps", "--root", str(root)]) == 0
    assert "is there and complete" in capsys.readouterr().err


def test_incomplete_data_set_is_neither_used_nor_replaced(
    download: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "maps" / "train").mkdir(parents=True)
    message = failure(download, capsys, root, "maps", "--url", "http://127.0.0.1:9/never")
    assert "train holds 0 images instead of 3" in message
    assert "Move it away or remove it" in message


def test_truncated_body_is_reported(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = tar_of(members("maps", PAIRED))
    server.plan = always_cuts(body)
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert f"the connection ended after {len(body) // 2:,} of {len(body):,} bytes" in message
    assert len(server.ranges) == download.ATTEMPTS


def test_missing_archive_is_reported_at_once(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = refuses(404)
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert "the server answers 404 Not Found" in message
    assert len(server.ranges) == 1


def test_failing_server_is_asked_again(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = refuses(503)
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert "503 Service Unavailable (5 attempts)" in message


def test_unreachable_server_is_reported(
    download: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server() as unused:
        url = unused.url
    assert "refused" in failure(download, capsys, root, "maps", "--url", url)


def test_wrong_counts_are_reported(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = sends(tar_of(members("maps", {"train": 2, "val": 2})))
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert "not complete: train holds 2 images instead of 3" in message


def test_error_page_is_no_archive(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = sends(b"<!DOCTYPE html><title>Moved</title>", "text/html")
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert "the answer is a web page, not a zip or tar archive" in message


def test_archive_without_splits_is_reported(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = sends(tar_of({"other/1.jpg": image_bytes()}))
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert "holds none of the folders train, val" in message


def flipped(body: bytes) -> bytes:
    """The same bytes with one bit of the gzip checksum changed."""
    return body[:-8] + bytes([body[-8] ^ 1]) + body[-7:]


@pytest.mark.parametrize("damage", [lambda body: body[: len(body) // 2], lambda b: b[:-4], flipped])
def test_damaged_archive_is_reported(
    damage: Callable[[bytes], bytes],
    download: ModuleType,
    server: Server,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.plan = sends(damage(tar_of(members("maps", PAIRED, image_bytes(64, 64)))))
    assert "is damaged" in failure(download, capsys, root, "maps", "--url", server.url)


def zip_with_link(name: str, to: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, to)
    return stream.getvalue()


ESCAPES = {
    "zip, parent": zip_of({"../escaped.jpg": b"x"}),
    "zip, absolute": zip_of({"/escaped.jpg": b"x"}),
    "zip, backslash": zip_of({"..\\escaped.jpg": b"x"}),
    "zip, drive": zip_of({"C:/escaped.jpg": b"x"}),
    "zip, link": zip_with_link("maps/train", "/"),
    "tar, parent": tar_of({"../escaped.jpg": b"x"}),
    "tar, nested parent": tar_of({"maps/train/../../../escaped.jpg": b"x"}),
    "tar, link": tar_of({}, links={"maps/train": "/"}),
}


@pytest.mark.parametrize("case", ESCAPES)
def test_member_outside_is_refused(
    case: str,
    download: ModuleType,
    server: Server,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.plan = sends(ESCAPES[case])
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert "refused to unpack" in message
    assert not list(root.parent.rglob("escaped.jpg"))


@pytest.mark.parametrize("broken", [b"", b"no image", image_bytes(64, 64)[:-300]])
def test_undecodable_image_is_named(
    broken: bytes,
    download: ModuleType,
    server: Server,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.plan = sends(zip_of({**members("maps", PAIRED), "maps/val/1.jpg": broken}))
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert "val/1.jpg is not a readable image" in message


def test_pair_of_odd_width_is_named(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = image_bytes(9, 4)
    server.plan = sends(zip_of({**members("maps", PAIRED), "maps/train/0.jpg": odd}))
    message = failure(download, capsys, root, "maps", "--url", server.url)
    assert "train/0.jpg is not a side-by-side pair: 9x4 has an odd width" in message


def test_odd_width_is_fine_for_unpaired_images(
    download: ModuleType, server: Server, root: Path
) -> None:
    server.plan = sends(zip_of(members("horse2zebra", UNPAIRED, image_bytes(9, 4))))
    assert download.main(["horse2zebra", "--url", server.url, "--root", str(root)]) == 0


def test_other_checksum_is_refused(
    download: ModuleType, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = sends(tar_of(members("maps", PAIRED)))
    arguments = ("maps", "--url", server.url, "--sha256", "0" * 64)
    assert f"not {'0' * 64}" in failure(download, capsys, root, *arguments)


def test_other_protocols_are_refused(
    download: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(download, capsys, root, "maps", "--url", "maps.zip")
    assert "takes an http, https or file address, not 'maps.zip'" in message


def test_unknown_data_set_names_the_nearest(
    download: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(download, capsys, root, "horse2zebr")
    assert "did you mean 'horse2zebra'?" in message
    assert "draw2emoji" in message


def test_embedded_data_set_says_how_it_is_made(
    download: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download.main(["draw2emoji", "--root", str(root)]) == 0
    assert "datasets/make_draw2emoji.py" in capsys.readouterr().err
    assert not root.exists()


def cityscapes_source(folder: Path) -> Path:
    """The layout of the two archives, with red photos and blue labels."""
    for split, count in PAIRED.items():
        for i in range(count):
            for kind, end, colour in (
                ("leftImg8bit", "leftImg8bit", "red"),
                ("gtFine", "gtFine_color", "blue"),
            ):
                path = folder / kind / split / "town" / f"town_{i}_{end}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGBA", (16, 8), colour).save(path)
    return folder


def test_cityscapes_says_how_to_get_it(
    download: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(download, capsys, root, "cityscapes")
    for part in ("gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip", "--from FOLDER"):
        assert part in message


def test_cityscapes_pairs_photo_and_labels(
    download: ModuleType, tmp_path: Path, root: Path
) -> None:
    source = cityscapes_source(tmp_path / "source")
    assert download.main(["cityscapes", "--from", str(source), "--root", str(root)]) == 0
    assert counts_of(root / "cityscapes") == PAIRED
    with Image.open(root / "cityscapes" / "val" / "town_1.jpg") as pair:
        assert pair.size == (512, 256)
        photo, label = pair.getpixel((128, 128)), pair.getpixel((384, 128))
    assert photo == pytest.approx((255, 0, 0), abs=3)
    assert label == pytest.approx((0, 0, 255), abs=3)


def test_cityscapes_needs_every_label(
    download: ModuleType, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(download, capsys, root, "cityscapes", "--from", str(tmp_path))
    assert "holds 0 files */*_gtFine_color.png instead of 3" in message


def test_cityscapes_names_a_missing_photo(
    download: ModuleType, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = cityscapes_source(tmp_path / "source")
    (source / "leftImg8bit" / "val" / "town" / "town_0_leftImg8bit.png").unlink()
    message = failure(download, capsys, root, "cityscapes", "--from", str(source))
    assert "town_0_leftImg8bit.png is missing or not a readable image" in message


def test_from_is_only_for_cityscapes(
    download: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--from is for cityscapes" in failure(download, capsys, root, "maps", "--from", ".")


def test_terminated_download_leaves_nothing(server: Server, root: Path) -> None:
    asked, answered = threading.Event(), threading.Event()

    def stalls(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 100)
        handler.wfile.flush()
        asked.set()
        answered.wait(10)

    server.plan = stalls
    command = [sys.executable, str(SCRIPT), "maps", "--url", server.url, "--root", str(root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert asked.wait(10)
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=10)
        answered.set()
    assert process.returncode == 75
    assert "nothing was kept" in message
    assert not root.exists()


def test_shell_script_passes_arguments_and_exit_code(root: Path) -> None:
    command = ["bash", str(REPOSITORY / "datasets" / "download.sh"), "mapz", "--root", str(root)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 2
    assert "did you mean 'maps'?" in done.stderr
