"""deploy/nginx/cosygate.conf in a real nginx: what reaches a gateway, when, and how often. In front of a real server
where the answer counts, and of peers that keep what they were sent where that does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from cosygate.client import Client
from deploy.local_cluster.balancer import CONFIGURATION, Nginx, program, rendered
from deploy.local_cluster.services import HOST
from tests.api.conftest import code_of, wav
from tests.support.engine_process import speech_pcm
from tests.support.proxy import FaultProxy
from tests.support.server import Server, wait_task

pytestmark = pytest.mark.needs("nginx")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Upstream:
    """A peer in a gateway's place. It keeps the head of each request, and answers with `answer`, or hangs up."""

    def __init__(self, answer: str = "") -> None:
        self.heads: list[str] = []
        self._answer = answer
        self._listener = socket.create_server((HOST, 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                with link:
                    link.settimeout(10)
                    data = b""
                    while b"\r\n\r\n" not in data:
                        data += link.recv(65536)
                    self.heads.append(data.partition(b"\r\n\r\n")[0].decode())
                    if self._answer:
                        link.sendall(
                            f"HTTP/1.1 {self._answer}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".encode()
                        )

    def close(self) -> None:
        self._listener.close()

    def header(self, name: str, request: int = -1) -> list[str]:
        lines = (line.partition(": ") for line in self.heads[request].splitlines()[1:])
        return [value for key, _, value in lines if key.lower() == name.lower()]


@pytest.fixture
def upstream() -> Iterator[Callable[..., Upstream]]:
    made: list[Upstream] = []

    def make(answer: str = "") -> Upstream:
        made.append(Upstream(answer))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """front("host:port", …): nginx before these gateways."""
    with contextlib.ExitStack() as stack:
        yield lambda *gateways: stack.enter_context(Nginx(tmp_path / "nginx", gateways))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three pieces of a recording, half a second each; six strangers a minute."""
    folder = tmp_path_factory.mktemp("data")
    script = folder / "script.json"
    script.write_text(json.dumps({"segment_s": 1.0, "delay_s": 0.5}))
    with Server(
        folder, recogniser="scripted", script=script, trusted_proxies=HOST, unauthenticated_limit="6/minute"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def through(slow: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx"), [f"{HOST}:{slow.port}"]) as running:
        yield running


def signed_in(server: Server, url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {server.token()}"}, timeout=30)


def test_nginx_takes_both_files_as_they_stand(tmp_path: Path) -> None:
    """But for the log's folder, and the port where only root may have it."""
    text = CONFIGURATION.read_text().replace("/var/log/nginx/", f"{tmp_path}/")
    if os.geteuid() != 0:
        text = text.replace("listen 80 ", "listen 8080 ")
    (tmp_path / "cosygate.conf").write_text(text)
    main = (CONFIGURATION.parent / "nginx.conf").read_text()
    for there, here in (("/tmp/", f"{tmp_path}/"), ("/etc/nginx/conf.d/*.conf", f"{tmp_path}/cosygate.conf")):
        assert there in main
        main = main.replace(there, here)
    (tmp_path / "nginx.conf").write_text(main)
    argv = [program(), "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "errors")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "[warn]" not in done.stderr, done.stderr


def test_a_configuration_that_is_not_understood_is_refused() -> None:
    text = CONFIGURATION.read_text()
    with pytest.raises(ValueError):
        rendered(text.replace("listen 80", "listen 81"), ["a:1"], "b:2", Path("log"))
    with pytest.raises(ValueError):
        rendered(text.replace("upstream cosygate_reads", "upstream a-b"), ["a:1"], "b:2", Path("log"))


def test_a_chunk_reaches_the_gateway_while_it_is_being_sent(slow: Server, tmp_path: Path) -> None:
    body, half = wav(2.0), 20_000
    with FaultProxy(slow.port) as between, Nginx(tmp_path / "nginx", [f"{HOST}:{between.port}"]) as nginx:
        with socket.create_connection((HOST, nginx.port), timeout=20) as link:
            head = f"PUT /v1/audio/slow/0?is_last=1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {slow.token()}\r\n"
            link.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[:half])
            deadline = time.monotonic() + 10
            while sum(each.up for each in between.links()) < half:
                assert time.monotonic() < deadline, "nginx keeps the body until it is whole"
                time.sleep(0.01)
            link.sendall(body[half:])
            assert link.recv(65536).startswith(b"HTTP/1.1 202 ")
        assert not list((tmp_path / "nginx").glob("body/*"))


def test_a_chunked_body_of_unknown_length_passes(slow: Server, through: Nginx) -> None:
    body = wav(1.0)
    with signed_in(slow, through.url) as http:
        answer = http.put(
            "/v1/audio/chunked/0",
            params={"is_last": "1"},
            content=(body[at : at + 5000] for at in range(0, len(body), 5000)),
        )
        assert answer.status_code == 202
        assert wait_task(http, answer.json()["task_id"])["state"] == "succeeded"


def test_what_is_refused_early_is_told_before_the_body_has_come(slow: Server, through: Nginx) -> None:
    """The gateway's own words for a chunk that is too large, and nothing but the head was sent."""
    with socket.create_connection((HOST, through.port), timeout=20) as link:
        head = f"PUT /v1/audio/large/0 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {slow.token()}\r\n"
        link.sendall(f"{head}content-length: {9 * 1024**2}\r\n\r\n".encode() + bytes(1000))
        told = link.recv(65536)
    assert told.startswith(b"HTTP/1.1 413 ") and b"application/problem+json" in told


def test_a_live_session_goes_through(slow: Server, through: Nginx) -> None:
    pcm, rate = speech_pcm("note.wav")
    with Client(through.url, slow.token()) as client, client.live(sample_rate=rate) as live:
        live.send(pcm)
    assert live.text
    with Client(through.url, slow.token()) as client:
        assert client.transcript(live.task_id).text.split() == live.text.split()


def test_events_come_one_by_one(slow: Server, through: Nginx) -> None:
    with signed_in(slow, through.url) as http:
        task = http.put("/v1/audio/events/0", params={"is_last": "1"}, content=wav(3.0)).json()["task_id"]
        came: list[float] = []
        with http.stream("GET", f"/v1/task/{task}/events") as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            came.extend(time.monotonic() for line in events.iter_lines() if line == "event: segment")
    assert len(came) == 3
    assert came[-1] - came[0] > 0.5, "they came all at once"


def test_nobody_can_say_that_he_is_somebody_else(slow: Server, through: Nginx) -> None:
    """Six strangers' requests a minute: with an address of one's own invention for each there would be no end."""
    answers = []
    for number in range(8):
        claimed = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
        answers.append(httpx2.get(f"{through.url}/v1/tasks", headers=claimed).status_code)
    assert answers == [401] * 6 + [429] * 2


def test_what_a_gateway_is_told_of_a_caller(upstream: Callable[..., Upstream], front: Callable[..., Nginx]) -> None:
    peer = upstream("200 OK")
    nginx = front(peer.address)
    claimed = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
        "tracestate": "a=b",
        "Last-Event-ID": "7",
    }
    assert httpx2.put(f"{nginx.url}/v1/audio/a/0?x=1", headers=claimed, content=b"b").status_code == 200
    assert peer.heads[-1].splitlines()[0] == "PUT /v1/audio/a/0?x=1 HTTP/1.1"
    assert peer.header("x-forwarded-for") == [HOST]
    assert peer.header("x-forwarded-proto") == ["http"]
    assert peer.header("x-real-ip") == peer.header("forwarded") == peer.header("upgrade") == []
    assert peer.header("host") == [f"{HOST}:{nginx.port}"]
    assert peer.header("traceparent") == [claimed["traceparent"]]
    assert peer.header("tracestate") == ["a=b"] and peer.header("last-event-id") == ["7"]


@pytest.mark.parametrize(
    ("path", "asked", "passed"),
    [
        ("/v1/live", "websocket", ["websocket"]),
        ("/v1/live?ticket=t", "WebSocket", ["websocket"]),
        ("/v1/live", "h2c", []),
        ("/v1/tasks", "websocket", []),
        ("/v1/tasks", "h2c", []),
    ],
)
def test_only_a_websocket_where_there_is_one_changes_the_protocol(
    upstream: Callable[..., Upstream], front: Callable[..., Nginx], path: str, asked: str, passed: list[str]
) -> None:
    peer = upstream("200 OK")
    headers = {"Upgrade": asked, "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    httpx2.get(f"{front(peer.address).url}{path}", headers=headers)
    assert peer.header("upgrade") == passed
    assert peer.header("connection") == (["upgrade"] if passed else [])


@pytest.mark.parametrize(
    "path",
    [
        "/metrics", "/admin", "/v1/admin/overview", "/v1/admin/drain", "//metrics", "/%6detrics", "/x/../metrics",
        "/METRICS", "/admin/", "/v1//admin/overview", "/v1/%61dmin/drain", "/./admin",
    ],
)  # fmt: skip
def test_operators_pages_are_not_passed_on(through: Nginx, path: str) -> None:
    with socket.create_connection((HOST, through.port), timeout=20) as link:  # a client would tidy the path
        link.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        told = link.recv(65536)
    assert told.startswith(b"HTTP/1.1 404 ") and b"server: nginx" in told.lower()


def test_what_is_everybodys_is_passed_on(slow: Server, through: Nginx) -> None:
    with httpx2.Client(base_url=through.url) as http:
        assert http.get("/health").status_code == http.get("/readyz").status_code == http.get("/").status_code == 200
        answer = http.get("/health", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
        assert answer.headers["x-trace-id"] == TRACE
    with signed_in(slow, through.url) as http:
        assert http.post("/v1/live/tickets").status_code == 201


def test_heads_as_large_as_the_gateway_takes_pass(slow: Server, through: Nginx) -> None:
    with httpx2.Client(base_url=through.url) as http:
        passed = http.get("/v1/models", headers={f"x-{n}": "a" * 30_000 for n in range(3)} | {"accept-encoding": "a"})
        assert passed.status_code in (200, 401, 429) and "x-trace-id" in passed.headers
        assert http.get("/health", headers={"x-0": "a" * 40_000}).status_code == 400


def test_a_chunk_beyond_all_bounds_ends_at_nginx(slow: Server, through: Nginx) -> None:
    with signed_in(slow, through.url) as http:
        answer = http.put("/v1/audio/huge/0", content=bytes(17 * 1024**2))
        assert answer.status_code == 413 and "x-trace-id" not in answer.headers
        within = http.put("/v1/audio/huge/0", content=bytes(9 * 1024**2))
        assert code_of(within)[0] == 413


DEAD = f"{HOST}:1"  # nobody listens there


def test_a_gateway_that_is_gone_fails_nobody(slow: Server, front: Callable[..., Nginx]) -> None:
    nginx = front(DEAD, f"{HOST}:{slow.port}")
    with signed_in(slow, nginx.url) as http:
        for number in range(6):
            assert http.get("/v1/tasks").status_code == 200
            assert http.put(f"/v1/audio/gone-{number}/0", content=wav(0.2)).status_code == 200
            form = {"session_id": f"form-{number}", "seq": "0"}
            assert http.post("/v1/audio", data=form, files={"chunk": wav(0.2)}).status_code == 200
            assert http.post("/v1/live/tickets").status_code == 201


@pytest.mark.parametrize(("method", "sent"), [("POST", b"x" * 100_000), ("POST", b""), ("PUT", b"x" * 100_000)])
def test_what_may_have_been_done_is_not_done_twice(
    upstream: Callable[..., Upstream], front: Callable[..., Nginx], method: str, sent: bytes
) -> None:
    """Both take the request and hang up; one of them hears of it."""
    peers = [upstream(), upstream()]
    nginx = front(*(peer.address for peer in peers))
    assert httpx2.request(method, f"{nginx.url}/v1/audio/a/0", content=sent).status_code == 502
    assert sum(len(peer.heads) for peer in peers) == 1


def test_what_reads_is_tried_elsewhere(upstream: Callable[..., Upstream], front: Callable[..., Nginx]) -> None:
    for ill in ("", "503 Service Unavailable", "502 Bad Gateway"):
        sick, well = upstream(ill), upstream("200 OK")
        nginx = front(sick.address, well.address)
        for path in ("/v1/tasks", f"/v1/task/{TRACE}/events"):
            assert [httpx2.get(f"{nginx.url}{path}").status_code for _ in range(6)] == [200] * 6
        assert sick.heads
        nginx.stop()


def test_refusals_take_no_gateway_out(upstream: Callable[..., Upstream], front: Callable[..., Nginx]) -> None:
    """Both say 503, as while the database is away: each caller hears that, and not that there are no gateways."""
    peers = [upstream("503 Service Unavailable"), upstream("503 Service Unavailable")]
    nginx = front(*(peer.address for peer in peers))
    for method in ("GET", "POST", "PUT", "GET", "POST", "PUT"):
        answer = httpx2.request(method, f"{nginx.url}/v1/tasks", content=b"a" if method != "GET" else None)
        assert (answer.status_code, answer.text) == (503, "ok")


def test_the_log_has_neither_tickets_nor_tokens(upstream: Callable[..., Upstream], front: Callable[..., Nginx]) -> None:
    nginx = front(upstream("200 OK").address)
    headers = {"Authorization": "Bearer canary-token", "Referer": "http://a/?canary=referer", "User-Agent": "canary-me"}
    httpx2.get(f"{nginx.url}/v1/tasks?ticket=canary-ticket", headers=headers)
    deadline = time.monotonic() + 5
    while not (nginx.access_log.exists() and nginx.access_log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (line,) = nginx.access_log.read_text().splitlines()
    told = json.loads(line)
    assert (told["method"], told["path"], told["status"], told["tried"]) == ("GET", "/v1/tasks", 200, "200")
    assert "canary" not in line
