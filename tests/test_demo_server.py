"""The server of the demo over real sockets: what it answers, and all that it refuses."""

from __future__ import annotations

import http.client
import io
import itertools
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from bundles import EXAMPLES, MODELS, WEB, needs_runtime, write_bundle

from gancompress.cli.parser import make_parser
from gancompress.demo import server as module
from gancompress.demo.manifest import NAME
from gancompress.demo.server import (
    HEADERS,
    PAGE,
    POLICY,
    RUNTIME,
    TYPES,
    DemoServer,
    is_local,
    site,
)
from gancompress.errors import CheckpointError, ConfigError
from runs import REPOSITORY

CONTENTS = {
    "index.html": b"<p>the page</p>\n",
    **{f"files/a.{suffix}": f"content of {suffix}\n".encode() for suffix in TYPES},
    "files/empty.txt": b"",
    "models/Bytes-1_2.onnx": bytes(range(256)) * 300,
}


@contextmanager
def serving(host: str = "127.0.0.1", port: int = 0) -> Iterator[DemoServer]:
    """A server at work in another thread."""
    with DemoServer(CONTENTS, host, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with serving() as running:
        yield running


@dataclass(frozen=True)
class Reply:
    """One answer, and nothing came after it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def send(
    server: DemoServer, request: bytes, host: str = "127.0.0.1", port: int | None = None
) -> Reply:
    """Send exactly these bytes and read until the server closes the connection."""
    with socket.create_connection((host, port or server.server_port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(1 << 16):
            received += part
    stream = io.BytesIO(received)
    version, status, _ = stream.readline().split(b" ", 2)
    assert version == b"HTTP/1.1"
    headers = http.client.parse_headers(stream)
    body = stream.read()
    assert len(body) == (0 if request.startswith(b"HEAD") else int(headers["Content-Length"]))
    return Reply(int(status), headers, body)


def ask(server: DemoServer, target: str, method: str = "GET", *lines: str) -> Reply:
    """A request that is all right but for what is given; every line is a header."""
    own = (f"Host: localhost:{server.server_port}", "Connection: close")
    text = "\r\n".join((f"{method} {target} HTTP/1.1", *own, *lines, "", ""))
    return send(server, text.encode("latin-1"))


def named(server: DemoServer, host: str, *lines: str) -> Reply:
    """A request for the page with another Host header; the port is put in for `PORT`."""
    text = "\r\n".join(("GET / HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""))
    return send(server, text.replace("PORT", str(server.server_port)).encode())


def is_refusal(reply: Reply, *statuses: int) -> bool:
    """Whether an answer is one of these errors, protected as pages are, and gives nothing away."""
    reason = f"{reply.status} {http.client.responses[reply.status]}\n".encode()
    protected = all(reply.headers[name] == value for name, value in HEADERS.items())
    return reply.status in statuses and protected and reply.body in (reason, b"")


# -- what is answered -----------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENTS)
def test_every_file_is_answered_whole_with_its_type_and_isolated(
    server: DemoServer, name: str
) -> None:
    reply = ask(server, f"/{name}")
    assert (reply.status, reply.body) == (200, CONTENTS[name])
    assert reply.headers.get_all("Content-Type") == [TYPES[name.rpartition(".")[2]]]
    for header, value in HEADERS.items():
        assert reply.headers.get_all(header) == [value]


def test_headers_isolate_the_page_and_forbid_foreign_content() -> None:
    assert HEADERS["Cross-Origin-Opener-Policy"] == "same-origin"
    assert HEADERS["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert HEADERS["Cross-Origin-Resource-Policy"] == "same-origin"
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    rules = {rule.split()[0]: rule.split()[1:] for rule in POLICY.split("; ")}
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == ["'none'"]
    sources = {source for values in rules.values() for source in values}
    assert sources == {"'none'", "'self'", "'wasm-unsafe-eval'", "blob:", "data:"}
    assert rules["script-src"] == ["'self'", "'wasm-unsafe-eval'"]


def test_root_is_the_page(server: DemoServer) -> None:
    reply = ask(server, "/")
    assert (reply.status, reply.body) == (200, CONTENTS["index.html"])
    assert reply.headers["Content-Type"] == TYPES["html"]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/?", "index.html"),
        ("/?backend=webgpu", "index.html"),
        ("/index.html?/files/a.js", "index.html"),
        ("/files/a.js?v=1&w=//evil.example/?x=../..", "files/a.js"),
        ("/files/a.css?%00#", "files/a.css"),
    ],
)
def test_queries_are_ignored(server: DemoServer, target: str, name: str) -> None:
    reply = ask(server, target)
    assert (reply.status, reply.body) == (200, CONTENTS[name])
    assert reply.headers["Content-Type"] == TYPES[name.rpartition(".")[2]]


def test_a_file_that_the_browser_has_is_not_sent_again(server: DemoServer) -> None:
    first = ask(server, "/files/a.js")
    tag = first.headers["ETag"]
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", "/files/a.js", headers={"If-None-Match": tag})
    with connection.getresponse() as response:
        assert (response.status, response.read()) == (304, b"")
        assert response.headers["ETag"] == tag
        assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    connection.request("GET", "/", headers={"If-None-Match": tag})
    with connection.getresponse() as response:
        assert (response.status, response.read()) == (200, CONTENTS["index.html"])
    connection.close()
    assert ask(server, "/index.html").headers["ETag"] != tag


def test_a_slow_reader_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout counts for a piece, not for the whole file."""
    monkeypatch.setattr(module._Handler, "timeout", 0.5)
    content = bytes(range(256)) * (1 << 15)
    with DemoServer({"index.html": b"page", "a.wasm": content}, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection(("127.0.0.1", server.server_port), 10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            host = f"Host: localhost:{server.server_port}\r\nConnection: close"
            connection.sendall(f"GET /a.wasm HTTP/1.1\r\n{host}\r\n\r\n".encode())
            received = bytearray()
            while part := connection.recv(1 << 18):
                received += part
                time.sleep(0.03)  # some 1.5 s in all
        server.shutdown()
    assert received.endswith(content)


def test_one_connection_serves_many_requests(server: DemoServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    sockets = set()
    for name, status in (
        ("files/a.js", 200),
        ("files/missing.js", 404),
        ("models/Bytes-1_2.onnx", 200),
    ):
        connection.request("GET", f"/{name}")
        sockets.add(id(connection.sock))
        with connection.getresponse() as response:
            assert response.status == status
            assert not response.will_close
            body = response.read()
        assert body == CONTENTS.get(name, b"404 Not Found\n")
    assert len(sockets) == 1
    connection.close()


def test_silent_connections_keep_nobody_waiting(server: DemoServer) -> None:
    address = ("127.0.0.1", server.server_port)
    silent = [socket.create_connection(address, timeout=10) for _ in range(60)]
    silent[0].sendall(b"GET / HT")
    assert ask(server, "/").status == 200
    for connection in silent:
        connection.close()


def test_connection_on_which_nothing_comes_is_closed(
    server: DemoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Handler, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert connection.recv(100) == b""


def test_connection_whose_request_never_ends_is_closed(
    server: DemoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_FOR_A_REQUEST", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.settimeout(0.02)
        received = None
        for byte in itertools.islice(itertools.cycle(b"GET / HTTP/1.1\r\nA: "), 500):
            try:
                connection.sendall(bytes([byte]))
                received = connection.recv(100)
            except TimeoutError:
                continue
            except OSError:  # closed while it was being written to
                received = b""
            break
    assert received == b""


def test_crowd_of_slow_clients_holds_few_threads_and_keeps_nobody_waiting(
    server: DemoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 20)
    address = ("127.0.0.1", server.server_port)
    before = threading.active_count()
    crowd = []
    for index in range(200):
        crowd.append(socket.create_connection(address, timeout=10))
        crowd[-1].sendall(b"GET /")
        if index % 20 == 0:
            assert ask(server, "/").status == 200
    deadline = time.monotonic() + 10  # a thread that has lost its connection takes a moment
    while threading.active_count() > before + 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before + 20
    for connection in crowd:
        connection.close()


def test_head_is_answered_as_get_is_without_the_content(server: DemoServer) -> None:
    for target in ("/", "/models/Bytes-1_2.onnx", "/missing"):
        get, head = ask(server, target), ask(server, target, "HEAD")
        assert (head.status, head.body) == (get.status, b"")
        skip = ("Date",)
        assert [item for item in head.headers.items() if item[0] not in skip] == [
            item for item in get.headers.items() if item[0] not in skip
        ]


def test_visitors_leave_no_lines_on_the_terminal(
    server: DemoServer, capfd: pytest.CaptureFixture[str]
) -> None:
    ask(server, "/")
    ask(server, "/missing")
    ask(server, "/", "POST")
    hasty = socket.create_connection(("127.0.0.1", server.server_port), timeout=10)
    request = f"GET /models/Bytes-1_2.onnx HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n\r\n"
    hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes at once
    hasty.sendall(request.encode() * 20)
    hasty.close()
    assert ask(server, "/").status == 200
    assert capfd.readouterr() == ("", "")


# -- foreign names --------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost:PORT", "LocalHost:PORT", "127.0.0.1:PORT"])
def test_own_names_are_accepted(server: DemoServer, host: str) -> None:
    assert named(server, host).body == CONTENTS["index.html"]
    assert named(server, host, f"Origin: http://{host}").status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:PORT", "localhost", "127.0.0.1", "localhost:1"),
        *("localhost:", "localhost:0PORT", "localhost:PORT0", "localhost:+PORT", "localhost.:PORT"),
        *("localhost.evil.example:PORT", "evil-localhost:PORT", "localhost:PORT.evil.example"),
        *("evil.example@localhost:PORT", "localhost:PORT@evil.example", "localhost:PORT:PORT"),
        *("localhost:PORT, localhost:PORT", "localhost:PORT/", "http://localhost:PORT", "*"),
        *("0.0.0.0:PORT", "127.0.0.2:PORT", "127.1:PORT", "2130706433:PORT", "[::1]:PORT"),
        *("[::ffff:127.0.0.1]:PORT", "::1:PORT", "localhost:PORT\r\n folded", "localhost%00:PORT"),
    ],
)
def test_foreign_hosts_are_refused(server: DemoServer, host: str) -> None:
    assert is_refusal(named(server, host), 403)


def test_missing_and_repeated_hosts_are_refused(server: DemoServer) -> None:
    own = f"Host: localhost:{server.server_port}\r\n".encode()
    for version in (b"HTTP/1.0", b"HTTP/1.1"):
        start = b"GET / " + version + b"\r\nConnection: close\r\n"
        assert send(server, start + own + b"\r\n").status == 200
        for lines in (b"", own + own, own + b"Host: evil.example\r\n", b"X-Host: localhost\r\n"):
            assert is_refusal(send(server, start + lines + b"\r\n"), 403)


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "*", "http://evil.example", "http://evil.example:PORT", "http://localhost"),
        *("https://localhost:PORT", "http://localhost:1", "http://localhost:PORT/", "file://"),
        *("http://localhost:PORT.evil.example", "http://evil.example@localhost:PORT"),
        *("localhost:PORT", "http://localhost:PORT http://evil.example", "http://[::1]:PORT"),
    ],
)
def test_foreign_origins_are_refused(server: DemoServer, origin: str) -> None:
    own = "Origin: http://localhost:PORT"
    assert is_refusal(named(server, "localhost:PORT", f"Origin: {origin}"), 403)
    for lines in ((own, f"Origin: {origin}"), (f"Origin: {origin}", own)):
        assert is_refusal(named(server, "localhost:PORT", *lines), 403)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "FOO"])
def test_foreign_names_get_the_same_answer_for_every_method_and_path(
    server: DemoServer, method: str
) -> None:
    for target in ("/", "/missing"):
        text = f"{method} {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        assert is_refusal(send(server, text.encode()), 403)


# -- other ways to name a file ----------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        *("/..", "/../", "/../index.html", "/files/../index.html", "/files/../../etc/passwd"),
        *("/.", "/./", "/./index.html", "/files/./a.js", "/.../index.html", "/..../index.html"),
        *("//", "///", "//index.html", "///index.html", "/files//a.js", "//files/a.js"),
        *("/..%2findex.html", "/..%2Findex.html", "/files%2fa.js", "/files/..%2findex.html"),
        *("/%2e%2e/index.html", "/%2E%2E/index.html", "/.%2e/index.html", "/%2e/index.html"),
        *("/%2e%2e%2findex.html", "/%2findex.html", "/%2fetc%2fpasswd", "%2findex.html"),
        *("/%252e%252e/index.html", "/..%252findex.html", "/%25252e%25252e%25252findex.html"),
        *("/%69ndex.html", "/index%2ehtml", "/files/a.j%73", "/index.html%3f", "/%3f"),
        *("\\index.html", "/..\\index.html", "/files\\a.js", "/files\\..\\index.html", "/\\"),
        *("/..%5cindex.html", "/files%5ca.js", "/%5c%5cevil.example"),
        *("/index.html;", "/index.html;a=b", "/;/index.html", "/..;/index.html", "/;"),
        *("/index.html\0", "/\0", "/index.html\0.png", "/index.html%00", "/index.html%00.png"),
        *("/index.html%20", "/index.html+", "/index.html.", "/index.html/", "/index.html::$DATA"),
        *("/files", "/files/", "/models/", "/index.html%0a", "/index.html%0d%0aA:%20b"),
        *("/INDEX.HTML", "/Index.html", "/FILES/a.js", "/files/A.js", "/files/a.JS"),
        *("/models/bytes-1_2.onnx", "/Models/Bytes-1_2.onnx"),
        *("/etc/passwd", "//etc/passwd", "/C:/index.html", "C:\\index.html", "/~/", "/~root/"),
        *("index.html", "files/a.js", "./index.html", "../index.html", "*", "#", "/#", "/#a"),
        *("/%c0%ae%c0%ae/index.html", "/%c0%afindex.html", "/..%c0%afindex.html"),
        *("/%e0%80%ae%e0%80%ae/index.html", "/..%c1%9cindex.html", "/%u002e%u002e/index.html"),
        *("/\xc0\xae\xc0\xae/index.html", "/..\xc0\xafindex.html", "/\xefndex.html", "/\xff"),
        *("/%ef%bc%8e%ef%bc%8e/index.html", "/\xef\xbc\x8e\xef\xbc\x8e/index.html"),
        *("/&", "/index.html&a", "/index.html#a", "/index", "/index.htm", "/favicon.ico"),
        *("/server.py", "/../server.py", "/vendor/.lock", "/.git/config", "/package.json"),
    ],
)  # fmt: skip
def test_files_are_found_by_their_exact_names_alone(server: DemoServer, target: str) -> None:
    assert is_refusal(ask(server, target), 404)


@pytest.mark.parametrize(
    "target",
    [
        *("http://localhost:PORT/", "http://localhost:PORT/index.html", "http://localhost:PORT"),
        *("http://127.0.0.1:PORT/index.html", "https://localhost:PORT/", "HTTP://localhost:PORT/"),
        *("http://evil.example/", "http://evil.example/index.html", "//evil.example/index.html"),
        *("//localhost:PORT/index.html", "localhost:PORT", "file:///etc/passwd", "http:index.html"),
        *("http:///index.html", "/http://evil.example/", "data:,x", "javascript:0"),
    ],
)
def test_absolute_targets_are_refused(server: DemoServer, target: str) -> None:
    assert is_refusal(ask(server, target.replace("PORT", str(server.server_port))), 404)


# -- other requests ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        *(
            "POST",
            "PUT",
            "DELETE",
            "PATCH",
            "OPTIONS",
            "TRACE",
            "CONNECT",
            "PROPFIND",
            "QUERY",
        ),
        *("get", "Head", "GETS", "GET\0", "G\xcbT", "__init__", "error", "parse_request"),
    ],
)
def test_methods_other_than_get_and_head_are_refused(server: DemoServer, method: str) -> None:
    for target in ("/", "/index.html", "/missing", "*"):
        reply = ask(server, target, method)
        assert is_refusal(reply, 405)
        assert reply.headers["Allow"] == "GET, HEAD"
        assert reply.headers["Connection"] == "close"


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5",),
        ("Content-Length: 99999999999999999999",),
        ("Content-Length: -1",),
        ("Content-Length: +0",),
        ("Content-Length: five",),
        ("Content-Length:",),
        ("Content-Length: 0, 5",),
        ("Content-Length: 0", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 0"),
        ("Content-Length : 5",),
        ("Transfer-Encoding: chunked",),
        ("transfer-encoding: identity",),
        ("Transfer-Encoding:",),
        ("Transfer-Encoding : chunked",),
        ("Content-Length: 0", "Transfer-Encoding: chunked"),
        ("Expect: 100-continue", "Content-Length: 5"),
        ("a line without a name", "Transfer-Encoding: chunked"),
        ("a line without a name", "Origin: http://evil.example"),
        ("A\0: b",),
        ("A B: c",),
        (": b",),
    ],
)
def test_bodies_and_malformed_headers_are_refused_and_never_read_as_requests(
    server: DemoServer, lines: tuple[str, ...]
) -> None:
    host = f"Host: localhost:{server.server_port}"
    again = f"GET /files/a.js HTTP/1.1\r\n{host}\r\n\r\n"
    text = "\r\n".join(("GET / HTTP/1.1", host, *lines, "", again))
    assert is_refusal(send(server, text.encode()), 400)


def test_body_of_a_refused_method_is_not_read_as_a_request(server: DemoServer) -> None:
    host = f"Host: localhost:{server.server_port}"
    again = f"GET / HTTP/1.1\r\n{host}\r\n\r\n"
    text = f"POST / HTTP/1.1\r\n{host}\r\nContent-Length: {len(again)}\r\n\r\n{again}"
    assert is_refusal(send(server, text.encode()), 405)


def test_empty_body_is_none(server: DemoServer) -> None:
    assert ask(server, "/", "GET", "Content-Length: 0").status == 200
    assert ask(server, "/", "GET", "Expect: 100-continue").status == 200


MALFORMED: dict[bytes, int] = {
    b"GET\r\n\r\n": 400,
    b"GET /\r\n\r\n": 400,
    b"GET /\r\nHOST\r\n": 400,
    b"POST /\r\nHOST\r\n": 400,
    b"GET / HTTP/1.1 more\r\nHOST\r\n": 400,
    b"GET / index.html HTTP/1.1\r\nHOST\r\n": 400,
    b"GET / HTTP/1\r\nHOST\r\n": 400,
    b"GET / HTTP/1.1.1\r\nHOST\r\n": 400,
    b"GET / HTTP/a.b\r\nHOST\r\n": 400,
    b"GET / HTTP/-1.1\r\nHOST\r\n": 400,
    b"GET / HTTP/111111111111.1\r\nHOST\r\n": 400,
    b"GET / http/1.1\r\nHOST\r\n": 400,
    b"GET / FTP/1.1\r\nHOST\r\n": 400,
    b"GET / HTTP/2.0\r\nHOST\r\n": 505,
    b"GET / HTTP/9.9\r\nHOST\r\n": 505,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": 400,
    b"\0\r\n\r\n": 400,
    b"GET /" + b"a" * 65532: 414,
    b"GET / HTTP/1.1\r\nHOST" + b"A: " + b"a" * 65534: 431,
    b"GET / HTTP/1.1\r\nHOST" + b"A: b\r\n" * 101 + b"\r\n": 431,
    b"GET / HTTP/1.1\r\n A: b\r\nHOST\r\n": 400,
}


@pytest.mark.parametrize("request_", MALFORMED, ids=lambda text: repr(text[:40]))
def test_malformed_and_overlong_requests_are_refused(server: DemoServer, request_: bytes) -> None:
    host = f"Host: localhost:{server.server_port}\r\n".encode()
    reply = send(server, request_.replace(b"HOST", host))
    assert is_refusal(reply, MALFORMED[request_])
    assert reply.headers["Connection"] == "close"


def test_refused_head_has_no_body(server: DemoServer) -> None:
    reply = send(server, b"HEAD / HTTP/1.1\r\nHost: evil.example\r\nConnection: keep-alive\r\n\r\n")
    assert is_refusal(reply, 403)
    assert reply.body == b""


# -- where it listens -------------------------------------------------------------------------


def test_only_this_machine_is_served_unless_told_otherwise() -> None:
    args = make_parser().parse_args(["demo", "run"])
    with serving(args.host) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(ConnectionRefusedError):  # another address of this machine
            socket.create_connection(("127.0.0.2", server.server_port), timeout=10)


def test_busy_port_is_one_message_and_disturbs_nobody(server: DemoServer) -> None:
    with pytest.raises(ConfigError, match="cannot listen at") as error:
        DemoServer(CONTENTS, "127.0.0.1", server.server_port)
    assert f"--port {server.server_port}: Address already in use\n" in str(error.value)
    assert ask(server, "/").status == 200


def test_port_can_be_used_again_at_once() -> None:
    with serving() as first:
        assert ask(first, "/").status == 200
        port = first.server_port
    with serving(port=port) as second:
        assert ask(second, "/").status == 200


@pytest.mark.parametrize("port", [-1, 65536, 70000, 1 << 31, 10**30])
def test_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match=rf"--port {port}: ports are 0 .* to 65535"):
        DemoServer(CONTENTS, "127.0.0.1", port)


@pytest.mark.parametrize("host", ["", "192.0.2.1", "[::1]", "a" * 300, "a..b", "\0", "1.2.3"])
def test_host_that_is_not_here_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen at --host"):
        DemoServer(CONTENTS, host, 0)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")


@needs_ipv6
def test_ipv6_is_served_under_its_address_in_brackets() -> None:
    with serving("::1") as server:
        assert server.url == f"http://[::1]:{server.server_port}/"
        for host, status in (("[::1]:PORT", 200), ("localhost:PORT", 200), ("127.0.0.1:PORT", 403)):
            text = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            request = text.replace("PORT", str(server.server_port)).encode()
            assert send(server, request, "::1").status == status


@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=needs_ipv6)])
def test_server_at_all_addresses_answers_under_each_and_no_foreign_name(host: str) -> None:
    with serving(host) as server:
        assert get(server.url) == CONTENTS["index.html"]
        assert named(server, "127.0.0.1:PORT").status == 200
        assert named(server, "localhost:PORT").status == 200
        assert is_refusal(named(server, "evil.example:PORT"), 403)
        assert is_refusal(named(server, "192.0.2.1:PORT"), 403)


def get(url: str) -> bytes:
    place = re.fullmatch(r"http://(?:\[(.+)\]|(.+)):(\d+)/", url)
    assert place
    connection = http.client.HTTPConnection(place[1] or place[2], int(place[3]), timeout=10)
    connection.request("GET", "/")
    with connection.getresponse() as response:
        content = response.read()
    connection.close()
    return content


def test_name_to_listen_at_is_accepted_as_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("LOCALHOST") as server:
        monkeypatch.setattr(server, "host", "Studio.example")
        assert get(server.url) == CONTENTS["index.html"]
        assert send_to(server, "studio.EXAMPLE:PORT").status == 200
        assert send_to(server, "evil.example:PORT").status == 403


def send_to(server: DemoServer, host: str) -> Reply:
    """`named`, at whatever address the server has."""
    text = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    request = text.replace("PORT", str(server.server_port)).encode()
    return send(server, request, str(server.server_address[0]))


def test_port_80_needs_no_number() -> None:
    with serving() as server:
        port, server.server_port = server.server_port, 80
        for host, status in (("localhost", 200), ("127.0.0.1:80", 200), (f"localhost:{port}", 403)):
            text = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            assert send(server, text.encode(), port=port).status == status


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("LocalHost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("fe80::1", False)),
        *(("localhost.evil.example", False), ("", False), ("[", False)),
    ],
)
def test_hosts_that_others_reach_are_known(host: str, local: bool) -> None:
    assert is_local(host) is local


# -- the site ---------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites consist of the page and the bundle, so that nothing needs to be installed."""
    monkeypatch.setattr(module, "RUNTIME", ())


@needs_runtime
def test_site_is_page_runtime_and_bundle_and_each_is_served(bundle: Path) -> None:
    contents = site(bundle)
    runtime = {f"vendor/{name}" for name in RUNTIME}
    assert contents.keys() == {*PAGE, *runtime, *MODELS, *EXAMPLES, NAME}
    for name in {*PAGE, *runtime}:
        assert contents[name] == (WEB / name).read_bytes()
    assert {name: contents[name] for name in MODELS} == MODELS
    assert {name.rpartition(".")[2] for name in contents} <= TYPES.keys()


def test_site_without_runtime_says_how_to_install_it(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "files", lambda _: tmp_path)
    with pytest.raises(ConfigError, match=r"vendor/ort\S+ is missing\n  Run scripts/vendor\.sh"):
        site(bundle)


@pytest.mark.usefixtures("no_runtime")
def test_site_of_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    for name, content in {**MODELS, **EXAMPLES}.items():
        path = bundle / name
        path.write_bytes(content[:-1] + b"x")
        with pytest.raises(CheckpointError, match=r"is not the file that the bundle lists"):
            site(bundle)
        path.unlink()
        with pytest.raises(CheckpointError, match=rf"{path.name} is missing"):
            site(bundle)
        elsewhere = tmp_path / path.name
        elsewhere.write_bytes(content)
        path.symlink_to(elsewhere)
        with pytest.raises(ConfigError, match="is a link out of"):
            site(bundle)
        path.unlink()
        path.mkdir()
        with pytest.raises(CheckpointError, match=rf"{path.name} is missing"):
            site(bundle)
        path.rmdir()
        path.write_bytes(content)
    assert site(bundle).keys() == {*PAGE, *MODELS, *EXAMPLES, NAME}


@pytest.mark.usefixtures("no_runtime")
def test_site_of_a_bundle_with_a_linked_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "models").rename(tmp_path / "models")
    (bundle / "models").symlink_to(tmp_path / "models")
    with pytest.raises(ConfigError, match="is a link out of"):
        site(bundle)


@pytest.mark.usefixtures("no_runtime")
def test_site_holds_no_file_that_the_manifest_does_not_list(bundle: Path) -> None:
    (bundle / "models" / "extra.onnx").write_bytes(b"extra")
    (bundle / "extra.js").write_bytes(b"extra")
    assert not {name for name in site(bundle) if "extra" in name}


# -- the page's files ---------------------------------------------------------------------------

SCRIPTS = sorted(name for name in PAGE if name.endswith(".js"))
SERVED = {*PAGE, *(f"vendor/{name}" for name in RUNTIME), NAME}
NAMESPACE = "http://www.w3.org/"


def text_of(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def test_page_lists_every_file_there_is_and_no_other() -> None:
    suffixes = {".html", ".css", ".js", ".svg", ".txt", ".png", ".ico", ".woff2"}
    there = {path.name for path in WEB.iterdir() if path.suffix in suffixes}
    assert there == set(PAGE)
    assert len(PAGE) == len(there)


def test_runtime_is_what_the_installing_script_copies() -> None:
    script = (REPOSITORY / "scripts" / "vendor.sh").read_text(encoding="utf-8")
    names = re.search(r"for name in (.*?); do", script, re.DOTALL)
    assert names
    listed = names[1].replace("\\\n", " ")
    found = subprocess.run(["bash", "-c", f"echo {listed}"], capture_output=True, check=True)
    copied = re.sub(r"\.mjs\b", ".js", found.stdout.decode()).split()
    assert sorted(copied) == sorted(RUNTIME)
    assert "${name/%.mjs/.js}" in script


REFERENCES: dict[str, tuple[str, ...]] = {
    "html": (r"""\b(?:src|href|srcset|action|data|poster)\s*=\s*["']([^"']*)["']""",),
    "css": (r"""url\(\s*["']?([^"')]*)""", r"""@import\s+["']([^"']*)"""),
    "js": (
        r"""\b(?:from|import)\s*\(?\s*["'`]([^"'`\s]*)["'`]""",
        r"""\b(?:URL|Worker|fetch|register|importScripts|Request|at)\(\s*["'`]([^"'`$\s]*)["'`]""",
        r"""["'`]([\w./-]+\.(?:m?js|css|html|svg|wasm|json|onnx|txt))["'`]""",
    ),
    "svg": (r"""\bhref\s*=\s*["']([^"']*)["']""", r"""url\(([^)]*)\)"""),
}


def references(name: str) -> set[str]:
    """What a file of the page asks for, as it is written there."""
    patterns = REFERENCES.get(name.rpartition(".")[2], ())
    found = {text for pattern in patterns for text in re.findall(pattern, text_of(name))}
    return {text for text in found if not text.startswith(("#", "data:", "blob:"))}


@pytest.mark.parametrize("name", PAGE)
def test_references_are_to_files_that_are_served(name: str) -> None:
    for text in references(name):
        path = text.removeprefix("./")
        # a folder of the runtime, or its files without the folder that is put before them
        known = path in SERVED or path in RUNTIME or path == "vendor/"
        assert known, f"{name} refers to {text}"


def test_references_are_found() -> None:
    assert references("index.html") >= {"app.js", "style.css", "icon.svg"}
    assert references("app.js") >= {"./engine.js"}
    assert {"worker.js", "sw.js", NAME} <= {ref for name in SCRIPTS for ref in references(name)}


def test_every_file_of_the_page_and_runtime_is_referred_to() -> None:
    whole = "\n".join(text_of(name) for name in PAGE)
    for name in {*PAGE} - {"index.html"}:
        assert re.search(rf"""["'`/]{re.escape(name)}["'`]""", whole), name
    for name in RUNTIME:
        stem = name.removesuffix(".js").removesuffix(".wasm")
        assert f'"{stem}' in whole, name


@pytest.mark.parametrize("name", [name for name in PAGE if not name.endswith(".txt")])
def test_page_names_no_foreign_host(name: str) -> None:
    text = text_of(name).replace(NAMESPACE, "")
    assert not re.findall(r"\b(?:https?|wss?|ftp|file):/*[\w$]", text)
    assert not re.findall(r"""["'`(=]\s*//""", text)


def test_page_needs_nothing_that_its_policy_forbids() -> None:
    html = text_of("index.html")
    assert not re.findall(r"\son\w+\s*=|\sstyle\s*=|<style|<base|<form|<iframe|javascript:", html)
    scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", html, re.DOTALL)
    assert scripts == [""] * len(scripts)
    for name in SCRIPTS:
        assert not re.search(
            r"\beval\(|new Function\(|\.innerHTML|insertAdjacentHTML", text_of(name)
        )


def test_page_carries_the_policy_for_hosts_that_send_no_headers() -> None:
    meta = re.search(
        r'http-equiv="Content-Security-Policy" content="([^"]*)"', text_of("index.html")
    )
    assert meta
    own = set(meta[1].split("; "))
    # browsers heed this rule in headers alone
    assert own == set(POLICY.split("; ")) - {"frame-ancestors 'none'"}
