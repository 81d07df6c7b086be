"""What a hostile client may send before anybody knows who it is: heads that two parsers would read differently, bodies
that nobody wants, sockets that dawdle; and what answers tell of the server."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.server import Server

INNER = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
EMPTY_CHUNKS = "0\r\n\r\n" + INNER  # five bytes of body, for those who count; no body and a request, for others
AMBIGUOUS = {
    "length and encoding": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "encoding and length": "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "unknown encoding": "Transfer-Encoding: xchunked\r\n\r\n",
    "space before the colon": "Transfer-Encoding : chunked\r\n\r\n",
    "chunked is not last": "Transfer-Encoding: chunked, identity\r\n\r\n",
    "identity": "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n",
    "two encodings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    "a control character": "Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n",
    "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a list of lengths": "Content-Length: 5, 5\r\n\r\n",
    "a signed length": "Content-Length: +5\r\n\r\n",
    "a negative length": "Content-Length: -5\r\n\r\n",
    "a length in hexadecimal": "Content-Length: 0x5\r\n\r\n",
    "a huge length": "Content-Length: 99999999999999999999999\r\n\r\n",
    "a chunk size with 0x": "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
    "a negative chunk size": "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "a chunk size that overflows": "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF1\r\n",
    "a chunk longer than it says": "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
    "bare line feeds": "Content-Length: 5\n\n",
    "NUL in a value": "X: a\0b\r\nContent-Length: 5\r\n\r\n",
    "CR in a value": "X: a\rContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "a folded line": "X: a\r\n b\r\nContent-Length: 5\r\n\r\n",
    "a second host": "Host: y\r\nContent-Length: 5\r\n\r\n",
    "a name with a space": "X Y: a\r\nContent-Length: 5\r\n\r\n",
}


def head(server: Server, path: str = "/v1/audio/smuggle/0", host: str = "Host: x\r\n", version: str = "1.1") -> str:
    return f"PUT {path} HTTP/{version}\r\n{host}Authorization: Bearer {server.token()}\r\n"


def answers(server: Server, request: str, timeout_s: float = 5.0) -> list[tuple[int, str]]:
    """Status and text of every answer on one connection, until it is closed or `timeout_s` of silence."""
    heard = b""
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        wire.sendall(request.encode("latin-1"))
        wire.settimeout(timeout_s)
        with contextlib.suppress(TimeoutError):
            while piece := wire.recv(65_536):
                heard += piece
    found = re.split(rb"(?=HTTP/1\.1 \d{3} )", heard)
    return [(int(answer[9:12]), answer.decode("latin-1")) for answer in found if answer]


def test_a_sound_request_and_what_follows_it_are_both_answered(server: Server) -> None:
    """Without this the refusals below would show nothing."""
    told = answers(server, head(server) + "Content-Length: 5\r\n\r\n" + EMPTY_CHUNKS, timeout_s=1.0)
    assert [status for status, _ in told] == [200, 200]
    chunked = "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    told = answers(server, head(server, "/v1/audio/chunked/0") + chunked + INNER, timeout_s=1.0)
    assert [status for status, _ in told] == [200, 200]


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_two_parsers_would_read_differently_is_refused_whole(server: Server, name: str) -> None:
    [(status, told)] = answers(server, head(server) + AMBIGUOUS[name] + EMPTY_CHUNKS)  # one answer: nothing is smuggled
    assert status == 400
    body = json.loads(told.partition("\r\n\r\n")[2])
    assert body["code"] == "bad_request" and "connection: close" in told


def test_a_request_without_a_host_is_refused(server: Server) -> None:
    [(status, _)] = answers(server, head(server, host="") + "Content-Length: 5\r\n\r\n" + EMPTY_CHUNKS)
    assert status == 400
    [(status, _)] = answers(server, "GET /health HTTP/1.0\r\n\r\n")  # which had none
    assert status == 200


def test_garbage_behind_a_request_is_not_an_answer_to_it(server: Server) -> None:
    told = answers(server, INNER + "\x00\x01\x02 nonsense\r\n\r\n")
    assert [status for status, _ in told] == [200]


# --- bodies that nobody wants ---------------------------------------------------------------------------------------


class Body:
    """A request whose body comes as far as the test says."""

    def __init__(self, server: Server, *lines: str, line: str = "PUT /v1/audio/unwanted/0 HTTP/1.1") -> None:
        self.wire = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.wire.sendall("\r\n".join([line, "Host: x", *lines, "", ""]).encode())

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def answer(self) -> tuple[int, str]:
        """Up to its whole body, by its length; the connection may still be open."""
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += self.wire.recv(4096)
        told, _, body = heard.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", told)
        assert length
        while len(body) < int(length[1]):
            body += self.wire.recv(4096)
        return int(told[9:12]), told.decode()

    def closed_after_s(self) -> float:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while self.wire.recv(4096):
                pass
        return time.monotonic() - began


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One recording an hour."""
    with Server(tmp_path_factory.mktemp("counted"), recogniser="scripted", rate_limits="1/hour") as running:
        with running.http() as http:
            assert http.put("/v1/audio/first/0", content=b"x").status_code == 200
        yield running


LINGERS_S = 1.5  # a second, and some


def late_s(server: Server) -> float:
    """How long it takes, on this machine at this moment, to refuse what there is nothing to wait for."""
    began = time.monotonic()
    with Body(server, f"Authorization: Bearer {server.token()}", "Content-Length: 2") as request:
        request.wire.sendall(b"ab")
        assert request.answer()[0] == 429
        request.closed_after_s()
    return time.monotonic() - began


def test_an_early_refusal_does_not_wait_for_the_body(counted: Server) -> None:
    """The answer comes while not a byte of the body has; the connection is closed once there was time to read it."""
    began = time.monotonic()
    with Body(counted, f"Authorization: Bearer {counted.token()}", "Content-Length: 5000000") as request:
        status, told = request.answer()
        assert status == 429 and "connection: close" in told and "retry-after" in told
        assert time.monotonic() - began < 0.9  # less than it lingers
        assert request.closed_after_s() < LINGERS_S + late_s(counted)


def test_a_refusal_reaches_a_client_that_goes_on_sending(counted: Server) -> None:
    """No reset instead of an answer."""
    with Body(counted, f"Authorization: Bearer {counted.token()}", "Content-Length: 3000000") as request:
        request.wire.sendall(bytes(3_000_000))
        assert request.answer()[0] == 429
        assert request.closed_after_s() < LINGERS_S + late_s(counted)


def test_who_asks_first_is_told_before_anything_is_sent(counted: Server) -> None:
    asks = "Content-Length: 5000000", "Expect: 100-continue"
    with Body(counted, f"Authorization: Bearer {counted.token()}", *asks) as request:
        status, told = request.answer()  # not 100
        assert status == 429 and "connection: close" in told
        assert request.closed_after_s() < 0.9


def test_a_body_that_is_too_long_is_refused_before_anybody_is_asked_who_they_are(server: Server) -> None:
    with Body(server, "Content-Length: 99000000") as request:
        status, told = request.answer()
        assert status == 413 and "connection: close" in told
    with Body(server, "Content-Length: 0") as request:
        assert request.answer()[0] == 401


@pytest.mark.parametrize("kind", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
def test_a_body_where_none_is_read_ends_the_connection(server: Server, kind: str) -> None:
    with Body(server, kind, line="GET /health HTTP/1.1") as request:
        status, told = request.answer()
        assert status == 200 and "connection: close" in told
        assert request.closed_after_s() < 2


def test_a_small_body_where_none_is_read_does_not(server: Server) -> None:
    with Body(server, "Content-Length: 5", line="GET /health HTTP/1.1") as request:
        request.wire.sendall(b"12345")
        for _ in range(2):
            status, told = request.answer()
            assert status == 200 and "connection: close" not in told
            request.wire.sendall(INNER.encode())


def test_chunks_as_forms_keep_the_connection(server: Server) -> None:
    """Their last boundary is the end for whoever reads them; HTTP's own end may still be unread then."""
    form = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    with Body(server, "Content-Length: 0", line="GET /health HTTP/1.1") as request:
        request.answer()
        for seq in range(3):
            body = form.format("session_id", "kept") + form.format("seq", seq)
            body += '--b\r\nContent-Disposition: form-data; name="chunk"; filename="c"\r\n\r\n' + "x" * 100_000
            body += "\r\n--b--\r\n"
            lines = f"POST /v1/audio HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
            lines += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
            request.wire.sendall((lines + body).encode())
            status, told = request.answer()
            assert status == 200 and "connection: close" not in told


def test_refusals_of_requests_without_a_body_keep_the_connection(server: Server) -> None:
    with server.http() as http:
        for method in ("GET", "DELETE"):
            assert http.request(method, "/v1/task/00000000000000000000000000000000").status_code == 404
        told = answers(server, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" + INNER, timeout_s=1.0)
    assert [status for status, _ in told] == [404, 200]
    assert "connection: close" not in told[0][1]


def test_a_bad_head_is_no_answer_to_the_request_before_it(server: Server) -> None:
    """Its 400 would be taken for that one's answer."""
    slow = head(server, "/v1/audio/behind/0") + "Content-Length: 2\r\n\r\nab"
    told = answers(server, slow + "GET /health HTTP/1.1\r\nBad Name: x\r\n\r\n", timeout_s=2.0)
    assert [status for status, _ in told] == [200]
    assert '"status":"chunk_ok"' in told[0][1]


def test_a_proxy_of_ours_tells_how_the_caller_speaks(tmp_path: Path) -> None:
    told = {"X-Forwarded-Proto": "http, https"}
    with Server(tmp_path, recogniser="scripted", trusted_proxies="127.0.0.1") as server:
        assert "strict-transport-security" in httpx2.get(f"{server.url}/health", headers=told).headers
        assert "strict-transport-security" not in httpx2.get(f"{server.url}/health").headers


def test_nobody_elses_word_is_taken_for_it(server: Server) -> None:
    told = {"X-Forwarded-Proto": "https"}
    assert "strict-transport-security" not in httpx2.get(f"{server.url}/health", headers=told).headers


# --- what answers tell ----------------------------------------------------------------------------------------------


def test_every_answer_carries_the_security_headers(server: Server) -> None:
    with server.http() as http:
        for path in ("/", "/health", "/v1/tasks", "/nowhere", "/page/main.js", "/v1/audio"):
            headers = http.get(path).headers
            assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
            assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
            assert "camera=()" in headers["permissions-policy"]
            assert ("no-store" in headers.get("cache-control", "")) == path.startswith("/v1/")


def test_pages_have_no_inline_code() -> None:
    pages = Path(__file__).parents[2] / "src/cosygate/api/page"
    found = list(pages.glob("*.html"))
    assert found
    for page in found:
        text = page.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), page.name
        assert not re.search(r"\son\w+\s*=", text) and "<style" not in text and " style=" not in text, page.name


_LIBRARIES = "uvicorn|starlette|fastapi|httptools|python|pydantic|sqlalchemy|sqlite|traceback|site-packages"
FINGERPRINTS = re.compile(_LIBRARIES, re.IGNORECASE)

_UPGRADE = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
_LIVE, _KEY = "GET /v1/live HTTP/1.1\r\n" + _UPGRADE, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
HANDSHAKES = {
    "no key": (_LIVE, 400),
    "a key that is none": (_LIVE + "Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n", 400),
    "two keys": (_LIVE + 2 * _KEY + "Sec-WebSocket-Version: 13\r\n", 400),
    "no version": (_LIVE + _KEY, 400),
    "another version": (_LIVE + _KEY + "Sec-WebSocket-Version: 8\r\n", 400),
    "two upgrades": (_LIVE.replace("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"), 400),
    "a method": (_LIVE.replace("GET", "PUT") + _KEY + "Sec-WebSocket-Version: 13\r\n", 400),
    "another path": (_LIVE.replace("live", "else") + _KEY + "Sec-WebSocket-Version: 13\r\n", 403),
}


def test_nothing_says_what_it_is_made_of(server: Server) -> None:
    with httpx2.Client(base_url=server.url) as http:
        tokens = {"Authorization": f"Bearer {server.token()}"}
        said = [
            http.get("/nowhere"),
            http.request("BREW", "/v1/tasks"),
            http.get("/v1/tasks"),
            http.get("/v1/tasks?state=%00", headers=tokens),
            http.get("/v1/task/%2e%2e", headers=tokens),
            http.post("/v1/audio", content=b"\xff", headers=tokens | {"Content-Type": "multipart/form-data"}),
        ]
        for answer in said:
            assert 400 <= answer.status_code < 500
            assert "server" not in answer.headers and "x-powered-by" not in answer.headers
            assert not FINGERPRINTS.search(answer.text + str(answer.headers)), answer.text
    for name, (lines, expected) in HANDSHAKES.items():
        [(status, told)] = answers(server, lines + "\r\n")
        assert status == expected and "connection: close" in told.lower(), name
        said_by_us = told.partition("\r\n\r\n")[2]
        assert (json.loads(said_by_us)["code"] == "bad_request") if status == 400 else not said_by_us, name
        assert not FINGERPRINTS.search(told) and "websocket" not in told.lower() and "server:" not in told.lower(), name
    assert "Traceback" not in server.log()


def test_dawdling_sockets_keep_nobody_waiting(server: Server) -> None:
    """`make bench-overload` has 500 of them and holds the figure; here it is only that everybody is still served."""
    wires = []
    try:
        for number in range(150):
            wire = socket.create_connection(("127.0.0.1", server.port))
            wires.append(wire)
            if number % 3 == 0:
                wire.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Drip: ")
            elif number % 3 == 1:
                lines = ["Host: x", f"Authorization: Bearer {server.token()}", "Content-Length: 100000", "", "ab"]
                wire.sendall("\r\n".join([f"PUT /v1/audio/drip-{number}/0 HTTP/1.1", *lines]).encode())
        with server.http() as http:
            for _ in range(20):
                began = time.monotonic()
                assert http.get("/health").status_code == 200
                assert time.monotonic() - began < 2
    finally:
        for wire in wires:
            wire.close()
