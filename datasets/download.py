#!/usr/bin/env python3
"""Fetch a public data set, check it, and put it into database/NAME.

    python datasets/download.py horse2zebra
    python datasets/download.py cityscapes --from FOLDER    # holds gtFine/ and leftImg8bit/

All work happens in a hidden folder beside the target. It takes the target's name once every split
has the right number of images and every image decodes; on any failure it is removed. Exit code 2
and one message after a failure, 75 after an interruption.

Needs Python 3.11.4 and pillow.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import gzip
import hashlib
import http.client
import lzma
import os
import shutil
import signal
import stat
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

try:
    from PIL import Image
except ImportError:
    print("DownloadError: pillow is missing, it checks images: pip install pillow", file=sys.stderr)
    sys.exit(2)

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parent.parent
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
ATTEMPTS = 5
PAUSE_S = 1.0  # before the second attempt; twice as long before the third, and so on
TIMEOUT_S = 60.0  # without a byte
CHUNK_BYTES = 1 << 20
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error,
    EOFError, RuntimeError,
)  # fmt: skip
PAIR_SIDE = 256  # of a prepared Cityscapes image

EMBEDDED = """draw2emoji is part of this repository: datasets/draw2emoji.
  Rebuild it with: python datasets/make_draw2emoji.py --output datasets/draw2emoji"""

BY_HAND = """the licence of Cityscapes allows no public copy, so it is fetched by hand:
  1. Register at https://www.cityscapes-dataset.com and download gtFine_trainvaltest.zip and
     leftImg8bit_trainvaltest.zip.
  2. Unpack both in one folder, which then holds gtFine/ and leftImg8bit/.
  3. bash datasets/download.sh cityscapes --from FOLDER"""


class DownloadError(Exception):
    """The data set cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Recipe:
    """Where a data set is and what is in it.

    Attributes:
        url: A zip or tar archive; None where there is no public one.
        counts: Images in each folder.
        paired: Whether an image is two of the same size side by side.
    """

    url: str | None
    counts: dict[str, int]
    paired: bool


_HOST = "http://efrosgans.eecs.berkeley.edu"

RECIPES: dict[str, Recipe] = {
    "horse2zebra": Recipe(
        f"{_HOST}/cyclegan/datasets/horse2zebra.zip",
        {"trainA": 1_067, "trainB": 1_334, "testA": 120, "testB": 140},
        paired=False,
    ),
    "edges2shoes": Recipe(
        f"{_HOST}/pix2pix/datasets/edges2shoes.tar.gz", {"train": 49_825, "val": 200}, paired=True
    ),
    "maps": Recipe(
        f"{_HOST}/pix2pix/datasets/maps.tar.gz", {"train": 1_096, "val": 1_098}, paired=True
    ),
    "facades": Recipe(
        f"{_HOST}/pix2pix/datasets/facades.tar.gz",
        {"train": 400, "val": 100, "test": 106},
        paired=True,
    ),
    "cityscapes": Recipe(None, {"train": 2_975, "val": 500}, paired=True),
}
"""Data sets by name; the archives are those of pytorch-CycleGAN-and-pix2pix."""


@dataclass
class Progress:
    """A line on standard error: rewritten each second on a terminal, a tenth at a time elsewhere.

    Attributes:
        label: What is being done.
        total: Amount at the end, or None where it is not known.
        unit: Name of one, after `scale` of them have become one.
        scale: Divisor for display.
    """

    label: str
    total: int | None
    unit: str
    scale: float = 1.0
    _shown: float = field(default=0.0, init=False)

    def show(self, done: int) -> None:
        """Say how much is done, if enough has happened since the last time."""
        if sys.stderr.isatty():
            now = time.monotonic()
            if done == self.total or now - self._shown >= 1:
                self._shown = now
                print(f"\r{self._line(done)}", end="", file=sys.stderr, flush=True)
        elif self.total and done * 10 // self.total > self._shown:
            self._shown = done * 10 // self.total
            print(self._line(done), file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if sys.stderr.isatty():
            print(file=sys.stderr)

    def _line(self, done: int) -> str:
        digits = 0 if self.scale == 1 else 1
        total = "" if self.total is None else f" of {self.total / self.scale:,.{digits}f}"
        return f"{self.label}: {done / self.scale:,.{digits}f}{total} {self.unit}"


@dataclass
class Download:
    """One file; a connection that ends early is taken up where it ended, a few times.

    Attributes:
        url: An http, https or file address.
        target: Where the bytes go.
    """

    url: str
    target: Path
    _version: str | None = field(default=None, init=False)  # ETag or date: of what has arrived

    def run(self) -> None:
        """Fetch all of the file.

        Raises:
            DownloadError: The server refuses, or the last attempt failed too.
        """
        if urllib.parse.urlparse(self.url).scheme not in ("http", "https", "file"):
            raise DownloadError(f"--url takes an http, https or file address, not '{self.url}'")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._attempt()
            except urllib.error.HTTPError as error:
                problem = self._refusal(error)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                problem = _cause(error)
            if attempt < ATTEMPTS:
                print(f"{problem}; attempt {attempt + 1} of {ATTEMPTS}", file=sys.stderr)
                time.sleep(PAUSE_S * attempt)
        raise DownloadError(
            f"{self.url}: {problem} ({ATTEMPTS} attempts).\n"
            "  Nothing was kept. Run the same command later, or name a mirror with --url."
        )

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        with error:
            problem = f"the server answers {error.code} {error.reason}"
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.target.unlink(missing_ok=True)
        elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise DownloadError(f"{self.url}: {problem}.\n  Name a mirror with --url.") from None
        return problem

    def _attempt(self) -> None:
        have = self.target.stat().st_size if self.target.exists() else 0
        request = urllib.request.Request(self.url, headers={"User-Agent": "gancompress"})
        if have:
            request.add_header("Range", f"bytes={have}-")
            if self._version:  # a changed archive is sent from its beginning
                request.add_header("If-Range", self._version)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            start = self._start(have, response.status, response.headers.get("Content-Range", ""))
            self._version = _version(response.headers) or (self._version if start else None)
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdigit() else None
            with open(self.target, "ab" if start else "wb") as file:
                self._copy(response, file, start, total)
        size = self.target.stat().st_size
        if total is not None and size != total:
            raise ConnectionError(f"the connection ended after {size:,} of {total:,} bytes")

    def _start(self, have: int, status: int | None, content_range: str) -> int:
        if status != http.HTTPStatus.PARTIAL_CONTENT:
            return 0  # the whole file comes again
        if not content_range.startswith(f"bytes {have}-"):
            self.target.unlink(missing_ok=True)
            raise ConnectionError(f"the server sent '{content_range}' instead of byte {have:,} on")
        return have

    def _copy(self, source: IO[bytes], file: IO[bytes], done: int, total: int | None) -> None:
        progress = Progress("download", total, "MB", scale=1e6)
        try:
            while chunk := source.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                progress.show(done)
        finally:
            progress.close()


def _cause(error: Exception) -> str:
    reason = getattr(error, "reason", error)  # urllib wraps the one that says something
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__


def _version(headers: http.client.HTTPMessage) -> str | None:
    tag = headers.get("ETag", "")
    weak = not tag or tag.startswith("W/")  # such a tag cannot vouch for single bytes
    return headers.get("Last-Modified") if weak else tag


def unpack(archive: Path, folder: Path, source: str) -> None:
    """Extract a zip or tar archive into a new folder; no member may lie outside of it.

    Args:
        archive: The downloaded file.
        folder: Made here.
        source: What errors call the archive.

    Raises:
        DownloadError: Not an archive, damaged, or with a member that is no plain file or folder
            inside.
    """
    folder.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
                while tar.fileobj and tar.fileobj.read(CHUNK_BYTES):
                    pass  # gzip compares its checksum at the very end
        else:
            raise DownloadError(f"{source}: {_what(archive)}, not a zip or tar archive")
    except tarfile.FilterError as error:
        raise DownloadError(f"{source}: refused to unpack: {error}") from None
    except DAMAGED as error:
        raise DownloadError(f"{source}: the archive is damaged: {error}") from None


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            path = PurePosixPath(member.filename.replace("\\", "/"))
            outside = path.is_absolute() or ".." in path.parts or ":" in member.filename
            if outside or stat.S_ISLNK(member.external_attr >> 16):
                raise DownloadError(
                    f"refused to unpack: '{member.filename}' is a link or outside the destination"
                )
        zipped.extractall(folder)


def _what(file: Path) -> str:
    with open(file, "rb") as stream:
        head = stream.read(512).lstrip()
    if not head:
        return "the answer is empty"
    return "the answer is a web page" if head.startswith(b"<") else "the answer is something else"


def find_splits(folder: Path, recipe: Recipe) -> Path:
    """The folder of an unpacked archive that holds the splits: itself, or one inside.

    Raises:
        DownloadError: There is none.
    """
    for candidate in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if any((candidate / split).is_dir() for split in recipe.counts):
            return candidate
    raise DownloadError(f"the archive holds none of the folders {', '.join(recipe.counts)}")


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder; none where it does not exist."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if not path.name.startswith("."))


def miscounts(root: Path, recipe: Recipe) -> list[str]:
    """One text for each split whose number of images is wrong."""
    found = {split: len(list_images(root / split)) for split in recipe.counts}
    return [
        f"{split} holds {found[split]:,} images instead of {expected:,}"
        for split, expected in recipe.counts.items()
        if found[split] != expected
    ]


def check(root: Path, recipe: Recipe) -> None:
    """Count the images of every split, and decode each of them completely.

    Raises:
        DownloadError: A split is not complete, an image is damaged, or a pair has an odd width.
    """
    wrong = miscounts(root, recipe)
    if wrong:
        raise DownloadError(f"not complete: {', '.join(wrong)}")
    files = [path for split in recipe.counts for path in list_images(root / split)]
    in_parallel("check", lambda path: check_image(path, recipe.paired), files)


def check_image(path: Path, paired: bool) -> None:
    """Decode one image.

    Raises:
        DownloadError: It is damaged, or a pair of odd width.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        with Image.open(path) as image:
            image.load()
            width, height = image.size
    except Exception as error:  # decoders raise many types for damaged files
        raise DownloadError(f"{name} is not a readable image: {error}") from None
    if paired and width % 2:
        raise DownloadError(f"{name} is not a side-by-side pair: {width}x{height} has an odd width")


def in_parallel(label: str, function: Callable[[T], None], items: Iterable[T]) -> None:
    """Apply a function to every item, with progress; the first exception ends it."""
    todo = list(items)
    progress = Progress(label, len(todo), "images")
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        warnings.simplefilter("ignore")  # odd metadata says nothing about the pixels
        try:
            for done, _ in enumerate(pool.map(function, todo), start=1):
                progress.show(done)
        finally:
            progress.close()


def prepare_cityscapes(source: Path, output: Path, recipe: Recipe) -> None:
    """Make side-by-side pairs, photo left and colour label right, named as the source is.

    Args:
        source: Folder that holds gtFine/ and leftImg8bit/.
        output: Gets one folder for each split.
        recipe: Splits and their sizes.

    Raises:
        DownloadError: Files are missing or damaged.
    """
    jobs = []
    for split, expected in recipe.counts.items():
        labels = sorted((source / "gtFine" / split).glob("*/*_gtFine_color.png"))
        if len(labels) != expected:
            raise DownloadError(
                f"{source}/gtFine/{split} holds {len(labels):,} files */*_gtFine_color.png instead "
                f"of {expected:,}.\n  Unpack gtFine_trainvaltest.zip and "
                f"leftImg8bit_trainvaltest.zip in {source}."
            )
        (output / split).mkdir(parents=True)
        jobs += [(label, output / split) for label in labels]
    in_parallel("prepare", lambda job: cityscapes_pair(*job), jobs)


def cityscapes_pair(label: Path, folder: Path) -> None:
    """Write one pair as JPEG of quality 100 without chroma subsampling.

    Both halves are resized bicubically, as in the published preparation: nearest-neighbour labels
    would be purer but other images than those that scores are published for.
    """
    name = label.name.removesuffix("_gtFine_color.png")
    root, split, city = label.parents[3], label.parents[1].name, label.parent.name
    photo = root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
    pair = Image.new("RGB", (2 * PAIR_SIDE, PAIR_SIDE))
    for path, left in ((photo, 0), (label, PAIR_SIDE)):
        try:
            with Image.open(path) as image:
                half = image.convert("RGB").resize((PAIR_SIDE, PAIR_SIDE), Image.Resampling.BICUBIC)
        except Exception as error:  # decoders raise many types for damaged files
            raise DownloadError(f"{path} is missing or not a readable image: {error}") from None
        pair.paste(half, (left, 0))
    pair.save(folder / f"{name}.jpg", quality=100, subsampling=0)


@contextlib.contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `root` that is gone when the block ends, however it ends."""
    is_new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # it holds the data set
                root.rmdir()


def fetch(url: str, folder: Path, recipe: Recipe, sha256: str | None) -> tuple[Path, Path]:
    """Download and unpack an archive; returns it and the folder that holds the splits.

    Raises:
        DownloadError: See `Download.run` and `unpack`; or the checksum is another.
    """
    archive = folder / "archive"
    Download(url, archive).run()
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    print(f"SHA-256 {digest}", file=sys.stderr)
    if sha256 and digest != sha256.lower():
        raise DownloadError(f"{url}: its SHA-256 is {digest}, not {sha256.lower()}")
    unpacked = folder / "unpacked"
    unpack(archive, unpacked, url)
    return archive, find_splits(unpacked, recipe)


def run(args: argparse.Namespace) -> str:
    """Do what the command line asks for; returns the closing message.

    Raises:
        DownloadError: See the message; nothing is left behind.
    """
    if args.name == "draw2emoji":
        return EMBEDDED
    recipe = _lookup(args.name)
    target: Path = args.root / args.name
    if target.exists():
        wrong = miscounts(target, recipe)
        if wrong:
            raise DownloadError(
                f"{target} is there but not complete: {', '.join(wrong)}.\n"
                "  Move it away or remove it, then run the same command again."
            )
        return f"{target} is there and complete"
    if args.source and args.name != "cityscapes":
        raise DownloadError(f"--from is for cityscapes; {args.name} is downloaded")
    if not (args.source or args.url or recipe.url):
        raise DownloadError(BY_HAND)
    with staging(args.root, args.name) as folder:
        make(args, recipe, folder, target)
    return f"{target}: " + ", ".join(f"{n:,} {split}" for split, n in recipe.counts.items())


def make(args: argparse.Namespace, recipe: Recipe, folder: Path, target: Path) -> None:
    """Build the data set in a staging folder, check it, and give it its name."""
    archive = None
    if args.source:
        made = folder / "made"
        prepare_cityscapes(args.source, made, recipe)
    else:
        url: str = args.url or recipe.url or ""
        archive, made = fetch(url, folder, recipe, args.sha256)
    check(made, recipe)
    made.rename(target)
    if archive and args.keep_archive:
        suffix = "zip" if zipfile.is_zipfile(archive) else "tar.gz"
        archive.rename(args.root / f"{args.name}.{suffix}")


def _lookup(name: str) -> Recipe:
    names = sorted([*RECIPES, "draw2emoji"])
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    raise DownloadError(f"unknown data set '{name}'{hint}\n  Choose from {', '.join(names)}.")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help=", ".join(sorted([*RECIPES, "draw2emoji"])))
    parser.add_argument("--url", help="another address of the archive: http, https or file")
    parser.add_argument("--sha256", help="refuse an archive with another checksum")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FOLDER", help="prepare from local files"
    )
    parser.add_argument(
        "--root", type=Path, default=REPOSITORY / "database", help="where data sets are kept"
    )
    parser.add_argument("--keep-archive", action="store_true", help="keep it beside the data set")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    args = parse(argv)
    try:
        print(run(args), file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; nothing was kept, the same command starts again", file=sys.stderr)
        return 75
    except (DownloadError, OSError) as error:
        print(f"DownloadError: {error}", file=sys.stderr)
        return 2
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # so that nothing is left behind then either
    sys.exit(main())
