"""A server for one page: it has a fixed table of files, and answers nothing else."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gancompress.demo.manifest import NAME, read_bundle, sha256
from gancompress.errors import ConfigError
from gancompress.tables import lookup

PAGE = (
    *("index.html", "style.css", "app.js", "backend.js", "controls.js", "drawing.js", "engine.js"),
    *("enlarge.js", "front.js", "isolation.js", "manifest.js", "pad.js", "photo.js", "regions.js"),
    *("resample.js", "split.js", "sw.js", "tools.js", "view.js", "worker.js", "icon.svg"),
    "runtime-licence.txt",
)
RUNTIME = (
    *("ort.wasm.min.js", "ort-wasm-simd-threaded.js", "ort-wasm-simd-threaded.wasm"),
    *("ort.webgpu.min.js", "ort-wasm-simd-threaded.asyncify.js"),
    "ort-wasm-simd-threaded.asyncify.wasm",
)
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "wasm": "application/wasm",
    "onnx": "application/octet-stream",
}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    # the first two isolate the page, without which browsers give WASM one thread
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
SECONDS_FOR_A_REQUEST = 20  # for its head to arrive whole, and for each piece of the answer
PIECE = 1 << 16  # bytes that are sent at once
MAX_CONNECTIONS = 256  # a thread each
MAX_PORT = 65535
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header's name consists of. Source: RFC 9110, section 5.6.2."""


def site(bundle: Path) -> dict[str, bytes]:
    """Everything that the page of a bundle consists of, by path.

    Raises:
        CheckpointError: The bundle is damaged.
        ConfigError: There is no bundle, or the page's runtime is not installed.
    """
    web = files("gancompress.demo").joinpath("web")
    missing = [name for name in RUNTIME if not web.joinpath("vendor", name).is_file()]
    if missing:
        raise ConfigError(
            f"the runtime of the page is not installed: vendor/{missing[0]} is missing\n"
            "  Run scripts/vendor.sh once (it needs npm)."
        )
    contents = {name: web.joinpath(name).read_bytes() for name in PAGE}
    contents |= {f"vendor/{n}": web.joinpath("vendor", n).read_bytes() for n in RUNTIME}
    manifest, found = read_bundle(bundle)
    return {**contents, **found, NAME: manifest.model_dump_json(indent=1).encode()}


class DemoServer(ThreadingHTTPServer):
    """Serves files from memory on one address; requests under foreign names are refused.

    Args:
        contents: What `site` gave.
        host: Name or address to listen at.
        port: 0 for any that is free.

    Raises:
        ConfigError: Nothing can listen there.
    """

    daemon_threads = True
    request_queue_size = 1024  # connections that find no place here are tried again after a second

    def __init__(self, contents: Mapping[str, bytes], host: str, port: int) -> None:
        self.table = {f"/{name}": content for name, content in contents.items()}
        self.table["/"] = contents["index.html"]
        self.tags = {path: f'"{sha256(content)}"' for path, content in self.table.items()}
        self.host = host
        self._progress: dict[socket.socket, float] = {}  # when a connection last got anything done
        self._lock = threading.Lock()
        if not 0 <= port <= MAX_PORT:  # the system would take its last 16 bits for another port
            raise ConfigError(f"--port {port}: ports are 0 (any that is free) to {MAX_PORT}")
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self.address_family = family
            super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"cannot listen at --host {host} --port {port}: {reason}\n"
                "  Name another port, or 0 for any that is free."
            ) from None

    @property
    def url(self) -> str:
        """Where the page is, from this machine."""
        host = str(self.server_address[0])
        if ipaddress.ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
        return f"http://{_bracketed(host)}:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread; where all are taken, the longest idle one loses its own."""
        with self._lock:
            if len(self._progress) >= MAX_CONNECTIONS:
                self._hang_up(min(self._progress, key=lambda other: self._progress[other]))
            self._progress[request] = time.monotonic()
        super().process_request(request, client_address)

    def progress(self, request: socket.socket) -> None:
        """A connection has got something done."""
        with self._lock:
            if request in self._progress:
                self._progress[request] = time.monotonic()

    def service_actions(self) -> None:
        """End connections that get nothing done, however often a byte of theirs arrives."""
        with self._lock:
            limit = time.monotonic() - SECONDS_FOR_A_REQUEST
            for request in [one for one, last in self._progress.items() if last < limit]:
                self._hang_up(request)

    def _hang_up(self, request: socket.socket) -> None:
        del self._progress[request]
        with suppress(OSError):  # the client may have been faster
            request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._progress.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a browser that hangs up is no event."""


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: DemoServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gancompress", ""
    timeout = SECONDS_FOR_A_REQUEST

    def parse_request(self) -> bool:
        """Refuse at once whatever is not a plain GET or HEAD of this page."""
        if not super().parse_request():
            return False
        self.path = self.requestline.split()[1]  # the base class makes one slash of several
        refusal = self._refusal()
        if refusal is None:
            return True
        self.close_connection = True
        self._answer(refusal, f"{refusal.value} {refusal.phrase}\n".encode(), TYPES["txt"])
        return False

    def handle_expect_100(self) -> bool:
        """No body is wanted, so nobody is told to send one."""
        return True

    def _refusal(self) -> HTTPStatus | None:
        if self.request_version == "HTTP/0.9":  # its answers have no headers
            self.request_version = "HTTP/1.1"
            return HTTPStatus.BAD_REQUEST
        # the parser drops what follows a line without a name, and keeps blanks in names
        if self.headers.defects or not all(map(TOKEN.fullmatch, self.headers)):
            return HTTPStatus.BAD_REQUEST
        hosts = self.headers.get_all("Host") or []
        origins = self.headers.get_all("Origin") or []
        known = self._known_hosts()
        if len(hosts) != 1 or hosts[0].lower() not in known:
            return HTTPStatus.FORBIDDEN
        if any(origin.lower() not in {f"http://{host}" for host in known} for origin in origins):
            return HTTPStatus.FORBIDDEN
        if self.command not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED
        lengths = set(self.headers.get_all("Content-Length") or [])
        if "Transfer-Encoding" in self.headers or lengths - {"0"}:
            return HTTPStatus.BAD_REQUEST
        return None

    def _known_hosts(self) -> set[str]:
        """Names under which this server may be asked: a foreign one may lead here through DNS."""
        address = ipaddress.ip_address(str(self.connection.getsockname()[0]).partition("%")[0])
        # an IPv6 socket may answer IPv4 as well, under addresses that no browser shows so
        address = getattr(address, "ipv4_mapped", None) or address
        names = {_bracketed(str(address)), self.server.host.lower()}
        if address.is_loopback:
            names.add("localhost")
        port = self.server.server_port
        return {f"{name}:{port}" for name in names} | (names if port == 80 else set())

    def do_HEAD(self) -> None:
        """Answer as to GET, without the content."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with a file of the table; names are compared as they came, nothing is decoded."""
        path = self.path.partition("?")[0]
        content = self.server.table.get(path)
        if content is None:
            self._answer(HTTPStatus.NOT_FOUND, b"404 Not Found\n", TYPES["txt"])
            return
        suffix = path.rpartition(".")[2] if path != "/" else "html"
        tag = self.server.tags[path]
        kind = lookup(TYPES, suffix, "file type")
        if self.headers.get("If-None-Match") == tag:
            self._answer(HTTPStatus.NOT_MODIFIED, b"", kind, tag)
        else:
            self._answer(HTTPStatus.OK, content, kind, tag)

    def _answer(self, status: HTTPStatus, content: bytes, kind: str, tag: str = "") -> None:
        self.send_response(status)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        if tag:
            self.send_header("ETag", tag)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.server.progress(self.connection)
        if self.command != "HEAD":
            whole = memoryview(content)
            for start in range(0, len(whole), PIECE):
                self.wfile.write(whole[start : start + PIECE])
                self.server.progress(self.connection)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: malformed and overlong requests, unknown versions."""
        self.close_connection = True
        status = HTTPStatus(code)
        if getattr(self, "request_version", "HTTP/0.9") == "HTTP/0.9":
            self.request_version = "HTTP/1.1"
        self.command = self.command or "GET"
        self._answer(status, f"{status.value} {status.phrase}\n".encode(), TYPES["txt"])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the command's output belongs to the user."""


def is_local(host: str) -> bool:
    """Whether only this machine can reach a host's name or address."""
    try:
        return ipaddress.ip_address(urlsplit(f"//{_bracketed(host)}").hostname or "").is_loopback
    except ValueError:
        return host.lower() == "localhost"
