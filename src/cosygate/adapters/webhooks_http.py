"""The way out: signed by `standardwebhooks`, sent by httpx2, to the very address that was checked.

    name ─► getaddrinfo, once ─► every answer allowed? ─► connect to that address, TLS and Host by the URL's name

So a name that answers differently the next time changes nothing. Each try has a connection of its own; no redirect is
followed, no proxy asked, no cookie kept, and 64 KiB of the answer are read at most.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from standardwebhooks import Webhook

from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.addresses import Address, Reach
from cosygate.model.webhook import Answer, Destination, Message

Resolver = Callable[[str, int], Sequence[str]]  # blocking; raises OSError

_log = logger()
_ANSWER_BYTES = 64 * 1024
_LOOK_UP_S = 5.0
_LOOKING_MAX = 64  # threads that wait for name servers; one may hang for half a minute after its try has ended
_LOOKING_EACH = 8  # of them for one tenant: whose names hang, and have every try look again, leaves room for others
_ADDRESSES = 4  # of one name that are tried, one after the other, while none of them takes the connection

# What httpx2's errors mean, the first that fits. A test walks it.
FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (httpx2.TimeoutException, "timeout"),
    (TimeoutError, "timeout"),
    (httpx2.ConnectError, "connect_failed"),
    (httpx2.NetworkError, "connection_lost"),
    (httpx2.ProtocolError, "protocol_error"),
    (httpx2.HTTPError, "connection_lost"),
    (OSError, "connection_lost"),
)


class Undeliverable(Exception):
    """Nothing was sent: why, as a stable code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, in the system's order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class HttpPost:
    """ports/webhooks.py, Post."""

    def __init__(
        self,
        reach: Reach,
        clock: Clock,
        *,
        timeout_s: float,
        any_scheme: bool,
        user_agent: str,
        resolver: Resolver = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`timeout_s` is for all of a try; `tls`: whom to trust (None: the system's authorities)."""
        self._reach = reach
        self._clock = clock
        self._timeout_s = timeout_s
        self._any_scheme = any_scheme
        self._user_agent = user_agent
        self._resolver = resolver
        self._tls = tls
        self._loading = asyncio.Lock()
        self._looking: Counter[str] = Counter()  # threads, by tenant

    async def send(self, message: Message) -> Answer:
        answered: list[Answer] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._try(message, answered)
        except Undeliverable as error:
            return Answer(error=error.code)
        except Exception as error:
            if not answered:
                return Answer(error=_code(error))
        return answered[0]

    async def _try(self, message: Message, answered: list[Answer]) -> None:
        """Leaves the answer in `answered` as soon as its head is there: that is what counts."""
        destination = message.destination
        if not destination.secure and not self._any_scheme:
            raise Undeliverable("scheme_refused")  # the setting has changed since
        headers = {"host": _authority(destination), **self._headers(message)}
        addresses = await self._addresses(message.tenant, destination)
        connect_s = self._timeout_s / len(addresses)  # an address that swallows packets leaves time for the next one
        for number, address in enumerate(addresses, start=1):
            request = self._request(destination, address, headers, message.body.encode(), connect_s)
            try:
                await self._exchange(request, answered)
                return
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if number == len(addresses) or _code(error) == "tls_failed":
                    raise

    def _headers(self, message: Message) -> dict[str, str]:
        when = datetime.fromtimestamp(int(message.timestamp), UTC)
        signatures = (Webhook(secret).sign(message.id, when, message.body) for secret in message.secrets)
        return {
            "content-type": "application/json",
            "user-agent": self._user_agent,
            "accept-encoding": "identity",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(message.timestamp)),
            "webhook-signature": " ".join(signatures),
            **message.trace,
        }

    async def _addresses(self, tenant: str, destination: Destination) -> list[Address]:
        try:
            found: list[Address] = [ipaddress.ip_address(destination.host)]
        except ValueError:
            found = await self._look_up(tenant, destination.host, destination.port)
        # Every one of them: a name with a public and a private address is a trap, not a choice.
        if not all(self._reach.permits(address) for address in found):
            raise Undeliverable("blocked_address")
        return found[:_ADDRESSES]

    async def _look_up(self, tenant: str, host: str, port: int) -> list[Address]:
        """In a thread of its own, which nobody waits for at exit: name servers may hang for long, and then they would
        take the threads that others work on."""
        if self._looking[tenant] >= _LOOKING_EACH or self._looking.total() >= _LOOKING_MAX:
            raise Undeliverable("dns_failed")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Sequence[str]] = loop.create_future()

        def tell(found: Sequence[str]) -> None:
            self._looking[tenant] -= 1
            self._looking += Counter()  # forgets whoever has none
            if not done.done():
                done.set_result(found)

        def look() -> None:
            found: Sequence[str] = ()
            try:
                found = self._resolver(host, port)
            except (OSError, UnicodeError):
                pass  # no such name; no answer tells the same
            finally:
                with suppress(RuntimeError):  # the loop is closed: the process ends
                    loop.call_soon_threadsafe(tell, found)

        self._looking[tenant] += 1
        threading.Thread(target=look, name="webhook-dns", daemon=True).start()
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                texts = await done
        except TimeoutError:
            raise Undeliverable("dns_failed") from None
        try:
            addresses: list[Address] = [ipaddress.ip_address(text) for text in texts]
        except ValueError:  # one with a zone (fe80::1%eth0) is of this very link
            raise Undeliverable("blocked_address") from None
        if not addresses:
            raise Undeliverable("dns_failed")
        return addresses

    def _request(
        self, destination: Destination, address: Address, headers: dict[str, str], body: bytes, connect_s: float
    ) -> httpx2.Request:
        url = httpx2.URL(
            scheme="https" if destination.secure else "http",
            host=str(address),
            port=destination.port,
            raw_path=destination.target.encode(),
        )
        # Whom the certificate has to name, and SNI says. What is not bounded here is by send's own timeout.
        extensions = {"sni_hostname": destination.host, "timeout": {"connect": connect_s}}
        return httpx2.Request("POST", url, headers=headers, content=body, extensions=extensions)

    async def _exchange(self, request: httpx2.Request, answered: list[Answer]) -> None:
        # The transport alone: a client adds redirects, proxies of the environment, cookies and log lines with URLs.
        tls = await self._trusted() if request.url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with httpx2.AsyncHTTPTransport(verify=tls, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            try:
                answered.append(self._read(response))
                left = _ANSWER_BYTES
                async for piece in response.stream:  # type: ignore[union-attr]  # of an async transport
                    left -= len(piece)
                    if left <= 0:
                        break
            finally:
                await response.aclose()

    async def _trusted(self) -> ssl.SSLContext:
        async with self._loading:
            if self._tls is None:  # a hundred authorities take a while; SSL_CERT_FILE names an operator's own
                self._tls = await asyncio.to_thread(httpx2.create_ssl_context)
        return self._tls

    def _read(self, response: httpx2.Response) -> Answer:
        status = response.status_code
        if 200 <= status < 300:
            return Answer(status)
        if status == 410:
            return Answer(status, "gone")
        wait_s = self._retry_after_s(response.headers.get("retry-after", "")) if status in (429, 503) else 0.0
        return Answer(status, "http_status", wait_s)

    def _retry_after_s(self, value: str) -> float:
        """Seconds, or a date (RFC 9110 §10.2.3); 0 for what is neither."""
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - self._clock.now())
        except (ValueError, OverflowError):
            return 0.0


def _authority(destination: Destination) -> str:
    """As a browser says it: without the scheme's own port."""
    usual = 443 if destination.secure else 80
    return destination.name.removesuffix(f":{usual}") if destination.port == usual else destination.name


def _code(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return "tls_failed"
    for kind, code in FAULTS:
        if isinstance(error, kind):
            return code
    _log.error("webhook.crashed", exc_info=error)
    return "internal"


def _causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while (above := found[-1].__cause__ or found[-1].__context__) is not None and len(found) < 10:
        found.append(above)
    return found
