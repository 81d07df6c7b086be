"""The contract of ports/webhooks.py, Post: the way out, against real receivers and hostile ones."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cosygate.adapters.webhooks_http import FAULTS, HttpPost, resolve
from cosygate.kit.clock import SystemClock
from cosygate.model.addresses import Reach
from cosygate.model.webhook import Answer, Destination, Message
from tests.support.receiver import Receiver, answers, certificate, free_port

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Resolver:
    """Answers in turn with each of `lists`, the last one for ever; blocking, as getaddrinfo is."""

    def __init__(self, *lists: Sequence[str], hangs: threading.Event | None = None) -> None:
        self.lists, self.asked, self._hangs = list(lists), 0, hangs

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        if self._hangs is not None:
            self._hangs.wait(60)
        found = self.lists[min(self.asked, len(self.lists)) - 1]
        if not found:
            raise OSError("no such name")
        return found


def post(resolver: Resolver | None = None, *, allow: str = "127.0.0.0/8 ::1", timeout_s: float = 5.0,
         tls: ssl.SSLContext | None = None, any_scheme: bool = True) -> HttpPost:  # fmt: skip
    return HttpPost(
        Reach.parse(allow), SystemClock(), timeout_s=timeout_s, any_scheme=any_scheme, user_agent="CosyGate/test",
        resolver=resolver or resolve, tls=tls,
    )  # fmt: skip


def message(url: str, secrets: tuple[str, ...] = (SECRET,), tenant: str = "default") -> Message:
    return Message(
        "msg_1", tenant, Destination.parse(url), time.time(), '{"text": "smörgås"}', secrets, {"traceparent": "00-x"}
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


async def test_what_is_sent_can_be_verified_with_each_secret(receiver: Receiver) -> None:
    other = "whsec_" + "QUJD" * 8
    assert await post().send(message(f"{receiver.url}/hooks?a=b%20c", (SECRET, other))) == Answer(204)
    [call] = receiver.calls
    assert call.path == "/hooks?a=b%20c"
    assert call.verified(SECRET) == call.verified(other) == {"text": "smörgås"}
    assert len(call.headers["webhook-signature"].split(" ")) == 2
    assert call.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["user-agent"] == "CosyGate/test"
    assert call.headers["traceparent"] == "00-x"
    assert not {"cookie", "authorization"} & call.headers.keys()


@pytest.mark.parametrize(
    ("status", "error"),
    [(200, None), (202, None), (299, None), (301, "http_status"), (400, "http_status"), (404, "http_status"),
     (410, "gone"), (429, "http_status"), (500, "http_status"), (503, "http_status")],
)  # fmt: skip
async def test_statuses(receiver: Receiver, status: int, error: str | None) -> None:
    receiver.behaviour = answers(status)
    assert await post().send(message(receiver.url)) == Answer(status, error)


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [(429, "120", 120), (503, "7", 7), (500, "120", 0), (429, "soon", 0), (429, "-5", 0), (429, "9" * 50, 999_999_999),
     (503, "Fri, 31 Dec 1999 23:59:59 GMT", 0), (503, "Fri, 31 Dec 9999 23:59:59 GMT", 2.5e11), (429, "1e9", 0)],
)  # fmt: skip
async def test_retry_after(receiver: Receiver, status: int, value: str, seconds: float) -> None:
    receiver.behaviour = answers(status, retry_after=value)
    answer = await post().send(message(receiver.url))
    assert answer.status == status
    assert answer.retry_after_s == pytest.approx(seconds, rel=0.1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    receiver.behaviour = answers(status, location=f"{receiver.url}/inside")
    assert (await post().send(message(f"{receiver.url}/hooks"))).error == "http_status"
    assert [call.path for call in receiver.calls] == ["/hooks"]


async def test_a_name_is_resolved_once_and_the_checked_address_is_what_is_connected_to(receiver: Receiver) -> None:
    """Rebinding: the second answer leads elsewhere, and nobody asks for it."""
    trap = Resolver(["127.0.0.1"], ["127.0.0.2"])
    sent = await post(trap, allow="127.0.0.1").send(message(f"http://rebind.example:{receiver.port}/"))
    assert (sent, trap.asked) == (Answer(204), 1)
    assert receiver.calls[0].headers["host"] == f"rebind.example:{receiver.port}"
    assert (await post(trap, allow="127.0.0.1").send(message("http://rebind.example/"))).error == "blocked_address"


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["2606:4700::1111", "::1"], ["169.254.169.254"], ["fe80::1%eth0"],
     ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["8.8.8.8", "fd00:ec2::254"], ["0.0.0.0"], ["10.0.0.1"]],
)  # fmt: skip
async def test_one_address_that_leads_inward_blocks_the_whole_name(receiver: Receiver, found: list[str]) -> None:
    answer = await post(Resolver(found), allow="").send(message(f"http://trap.example:{receiver.port}/"))
    assert answer == Answer(error="blocked_address")
    assert receiver.calls == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0"])
async def test_the_real_resolver_is_checked_too(receiver: Receiver, host: str) -> None:
    answer = await post(allow="").send(message(f"http://{host}:{receiver.port}/"))
    assert answer == Answer(error="blocked_address")
    assert receiver.calls == []


async def test_a_name_that_has_none_or_no_answer_in_time(receiver: Receiver) -> None:
    assert (await post(Resolver([])).send(message("http://nowhere.example/"))).error == "dns_failed"
    hangs = threading.Event()
    slow = post(Resolver(["127.0.0.1"], hangs=hangs), timeout_s=0.3)
    assert (await slow.send(message(f"{receiver.url.replace('127.0.0.1', 'slow.example')}"))).error == "timeout"
    hanging = [message(f"http://slow{n}.example/", tenant=f"t{n % 10}") for n in range(100)]
    tries = await asyncio.gather(*(slow.send(one) for one in hanging))
    assert Counter(one.error for one in tries) == {"timeout": 63, "dns_failed": 37}, "threads are bounded"
    hangs.set()
    for _ in range(200):  # they end, and there is room again
        if not slow._looking:
            break
        await asyncio.sleep(0.01)
    assert (await slow.send(message(f"http://slow.example:{receiver.port}/"))).error is None


async def test_names_of_one_tenant_that_hang_leave_room_for_others(receiver: Receiver) -> None:
    hangs = threading.Event()

    def resolver(host: str, _port: int) -> list[str]:
        if host.startswith("slow"):
            hangs.wait(10)
        return ["127.0.0.1"]

    both = post(resolver, timeout_s=0.3)
    tries = await asyncio.gather(*(both.send(message(f"http://slow{n}.example/", tenant="a")) for n in range(100)))
    assert Counter(one.error for one in tries) == {"timeout": 8, "dns_failed": 92}
    assert await both.send(message(f"http://quick.example:{receiver.port}/", tenant="b")) == Answer(204)
    hangs.set()
    for _ in range(200):
        if not both._looking:
            break
        await asyncio.sleep(0.01)
    assert await both.send(message(f"http://quick.example:{receiver.port}/", tenant="a")) == Answer(204)


async def test_the_next_address_is_tried_when_one_does_not_take_the_connection(receiver: Receiver) -> None:
    both = post(Resolver(["127.0.0.9", "127.0.0.1"]))
    assert await both.send(message(f"http://two.example:{receiver.port}/")) == Answer(204)
    assert (await post().send(message(f"http://127.0.0.1:{free_port()}/"))).error == "connect_failed"


async def test_over_ipv6() -> None:
    with Receiver(host="::1") as six:
        assert await post().send(message(six.url)) == Answer(204)
        assert six.calls[0].headers["host"] == f"[::1]:{six.port}"


async def test_the_certificate_has_to_be_the_names_and_trusted(tmp_path: Path) -> None:
    server, trust = certificate(tmp_path, "DNS:good.example", "IP:127.0.0.1")
    with Receiver(tls=server) as secure:
        here = Resolver(["127.0.0.1"])
        good, bad = (f"https://{name}.example:{secure.port}/" for name in ("good", "bad"))
        assert await post(here, tls=trust).send(message(good)) == Answer(204)
        assert secure.calls[0].headers["host"] == f"good.example:{secure.port}"
        assert (await post(here, tls=trust).send(message(bad))).error == "tls_failed"
        assert (await post(here).send(message(good))).error == "tls_failed"
        assert await post(tls=trust).send(message(secure.url)) == Answer(204), "an address has a certificate, too"
        assert (await post(here).send(message(good.replace("https", "http")))).error == "connection_lost"
        assert len(secure.calls) == 2
    with Receiver() as plain:
        answer = await post(tls=trust).send(message(plain.url.replace("http", "https")))
        assert answer.error == "tls_failed"


async def test_plain_http_is_refused_where_the_setting_says_so(receiver: Receiver) -> None:
    assert (await post(any_scheme=False).send(message(receiver.url))).error == "scheme_refused"
    assert receiver.calls == []


async def test_proxies_of_the_environment_are_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert await post().send(message(receiver.url)) == Answer(204)


@pytest.mark.parametrize("behaviour", ["never", "drips"])
async def test_a_receiver_that_does_not_come_to_an_end_is_left_in_time(receiver: Receiver, behaviour: str) -> None:
    receiver.behaviour = getattr(receiver, behaviour)
    assert (await post(timeout_s=0.5).send(message(receiver.url))).error == "timeout"


async def test_of_an_endless_answer_64_kib_are_read(receiver: Receiver) -> None:
    receiver.behaviour = receiver.floods
    assert await post(timeout_s=20.0).send(message(receiver.url)) == Answer(200)
    for _ in range(500):
        if not receiver._at_once:
            break
        await asyncio.sleep(0.01)
    assert receiver.sent < 64 << 20, "the rest waits in the sockets' buffers, and is thrown away"


async def test_one_that_says_200_and_then_never_ends_has_taken_it(receiver: Receiver) -> None:
    def half(handler: Any, _: object) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx")
        receiver.let_go.wait(60)

    receiver.behaviour = half
    assert await post(timeout_s=0.5).send(message(receiver.url)) == Answer(200)


@pytest.mark.parametrize(
    ("said", "error"),
    [(b"", "protocol_error"), (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol_error"),
     (b"HTTP/1.1 2000 OK\r\n\r\n", "protocol_error"),
     (b"HTTP/1.1 200 OK\r\n" + b"x" * 200_000, "protocol_error"), (b"HTTP/1.1 200 OK\r\n x: folded\r\n\r\n", None)],
)  # fmt: skip
async def test_what_is_no_http_is_an_error_and_nothing_worse(
    receiver: Receiver, said: bytes, error: str | None
) -> None:
    receiver.behaviour = lambda handler, _: handler.wfile.write(said) and None
    answer = await post().send(message(receiver.url))
    assert answer.error in ((error, "connection_lost") if error else ("protocol_error", None))


async def test_noise_ends_in_a_known_code(receiver: Receiver) -> None:
    chance = random.Random(4)
    known = {code for _, code in FAULTS} | {"http_status", "gone", None}
    for _ in range(30):
        noise = chance.choice([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n"]) + chance.randbytes(chance.randrange(300))
        receiver.behaviour = lambda handler, _, noise=noise: handler.wfile.write(noise) and None
        assert (await post(timeout_s=2.0).send(message(receiver.url))).error in known


async def test_a_cancelled_try_ends_at_once(receiver: Receiver) -> None:
    receiver.behaviour = receiver.never
    task = asyncio.create_task(post(timeout_s=60.0).send(message(receiver.url)))
    await asyncio.to_thread(receiver.wait, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_every_error_of_httpx2_has_a_code_and_the_first_that_fits_is_the_right_one() -> None:
    def code(error: Exception) -> str:
        return next(code for kind, code in FAULTS if isinstance(error, kind))

    todo, seen = [httpx2.TransportError], 0
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        seen += 1
        expected = "timeout" if issubclass(kind, httpx2.TimeoutException) else None
        assert code(kind("x")) == (expected or code(kind("x")))
    assert seen > 10
    assert code(httpx2.ConnectTimeout("x")) == "timeout"
    assert code(httpx2.ConnectError("x")) == "connect_failed"
    assert code(httpx2.ReadError("x")) == "connection_lost"
    assert code(httpx2.RemoteProtocolError("x")) == "protocol_error"
