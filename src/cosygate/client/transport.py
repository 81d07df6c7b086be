"""One HTTP request, tried again as long as that may help: bounded, with backoff, jitter and the server's Retry-After.

Every request that the client makes is safe to repeat (parts are idempotent, a completed upload answers with its task).
"""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from cosygate.client.errors import BadAnswer, ClientError, Unreachable, from_response
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Randomness, SystemRandomness

CONNECT_S = 10.0
MAX_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently. With the defaults a server may be away for about 14 seconds."""

    attempts: int = 8  # requests in all, for one thing to do
    backoff: Backoff = field(default_factory=lambda: Backoff(longest_s=20.0))
    longest_wait_s: float = 120.0  # a server that asks for more than that is not waited for
    randomness: Randomness = field(default_factory=SystemRandomness)
    wait: Callable[[threading.Event, float], object] = threading.Event.wait  # ends early when the event is set
    monotonic: Callable[[], float] = time.monotonic

    def delay(self, attempt: int, error: ClientError) -> float | None:
        """Seconds to wait after the failed try number `attempt` (from 0); None: give up."""
        asked = error.retry_after or 0.0
        if not error.retryable or attempt + 1 >= self.attempts or asked > self.longest_wait_s:
            return None
        return max(asked, self.backoff.delay(attempt, self.randomness))


class Transport:
    """Shared by threads. `stop` in its methods: once set, nothing is waited for or sent any more."""

    def __init__(
        self, url: str, token: str, *, timeout_s: float, verify: bool | str | Path | ssl.SSLContext, retries: Retries
    ) -> None:
        base = httpx2.URL(url.rstrip("/"))
        if base.scheme not in ("http", "https") or not base.host:
            raise ValueError(f"not an http or https address: {url!r}")
        self.retries = retries
        self.closed = threading.Event()
        self._timeout_s = timeout_s
        self._http = httpx2.Client(
            base_url=base,
            headers={"Authorization": f"Bearer {token}", "User-Agent": "cosygate-client"},
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            verify=ssl.create_default_context(cafile=verify) if isinstance(verify, str | Path) else verify,
            # A proxy from the environment cannot reach this machine's own server.
            trust_env=not loopback(base.host),
        )

    def close(self) -> None:
        self.closed.set()
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        stop: threading.Event | None = None,
    ) -> httpx2.Response:
        """The answer with a status below 300. Raises ClientError, its `tries` telling how many requests were made."""
        stop = stop or self.closed
        attempt = 0
        while True:
            error = None
            try:
                response = self._http.request(method, path, params=params, content=content, headers=headers)
                if response.status_code < 300:
                    return response
                error = from_response(response)
            except httpx2.TransportError as cut:
                error = unreachable(cut)
            error.tries = attempt + 1
            delay = self.retries.delay(attempt, error)
            if delay is None or stop.is_set():
                raise error
            self.retries.wait(stop, delay)
            if stop.is_set():
                raise error
            attempt += 1

    @contextmanager
    def stream(self, path: str, *, headers: Mapping[str, str], idle_s: float) -> Iterator[httpx2.Response]:
        """One streamed answer, tried once; `idle_s` seconds without a byte end it. Raises ClientError."""
        try:
            timeout = httpx2.Timeout(self._timeout_s, connect=min(CONNECT_S, self._timeout_s), read=idle_s)
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.status_code >= 300:
                    response.read()
                    raise from_response(response)
                yield response
        except httpx2.TransportError as cut:
            raise unreachable(cut) from cut


def unreachable(cut: httpx2.TransportError) -> ClientError:
    """Worth another try, unless the certificate is not trusted or the address speaks something else."""
    cause: BaseException | None = cut
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable(f"the server's certificate is not trusted: {cause.verify_message}")
        cause = cause.__cause__ or cause.__context__
    if isinstance(cut, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError | httpx2.SSEError):
        return BadAnswer(str(cut))
    return Unreachable(str(cut) or type(cut).__name__, retryable=True)


def json_object(response: httpx2.Response) -> dict[str, object]:
    """Raises BadAnswer for anything else."""
    try:
        data = response.json()
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise BadAnswer("the answer is not a JSON object: is this a CosyGate server?", status=response.status_code)
    return data


def loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
