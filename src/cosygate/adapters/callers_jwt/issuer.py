"""An issuer's keys as this process knows them: fetched in the background, kept while the issuer is away.

    every `refresh_s`       fetched anew; a key that is gone then verifies nothing any more
    a kid that is unknown   fetched at once, but no sooner than 30 s after the last time, whoever asks
    the issuer is down      the keys that are known hold for a day, and `refresh_s`; without any, KeysUnavailable

One fetch at a time, bounded in time and bytes. Redirects are not followed: the keys come from where the operator said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2

from cosygate import errors
from cosygate.adapters.callers_jwt.key_set import MAX_BYTES, KeySet, parse
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger

_log = logger()
UNKNOWN_S = 30.0  # between fetches that unknown kids cause
FAILED_S = 5.0  # between tries while there are no keys, or the issuer does not answer
STALE_S = 24 * 3600.0  # beyond `refresh_s`: how long keys hold that cannot be fetched anew
FETCH_S = 5.0  # for the whole of an answer
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_NOTHING = KeySet({}, frozenset())


class Issuer:
    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        refresh_s: float,
        dropped: Callable[[], None],
        fetch_s: float = FETCH_S,
    ) -> None:
        """`dropped` is called when a key holds no more: whoever remembers what it had signed forgets that."""
        self._url = url
        self._clock = clock
        self._refresh_s = refresh_s
        self._dropped = dropped
        self._fetch_s = fetch_s
        self._keys: KeySet | None = None
        self._fetched_at = 0.0  # monotonic, of the last that came
        self._tried_at: float | None = None  # monotonic, of the last that was begun
        self._fetching: asyncio.Task[None] | None = None
        self._failing = False
        self._http = httpx2.AsyncClient(
            follow_redirects=False,
            timeout=fetch_s,
            # A proxy from the environment cannot reach this machine's own issuer.
            trust_env=httpx2.URL(url).host not in _LOOPBACK,
            headers={"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"},
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._http.aclose()

    async def run(self) -> None:
        """Fetches again and again, until cancelled."""
        while True:
            await self._fetch()
            self._let_go_of_stale()
            waits_s = min(self._refresh_s, FAILED_S) if self._failing else self._refresh_s
            due = self._since_tried_at() + waits_s
            while (left := due - self._clock.monotonic()) > 0:
                await self._clock.sleep(left)

    async def find(self, kid: str | None, algorithm: str) -> tuple[Any, ...]:
        """The keys that a token with this header may be signed with; none: it is not one of the issuer's. Raises
        KeysUnavailable when no keys could be fetched yet, or the last ones are too old."""
        self._let_go_of_stale()
        if self._keys is None:
            await self._ask(FAILED_S)
        if self._keys is None:
            raise errors.KeysUnavailable()
        found = self._keys.find(kid, algorithm)
        if not found:
            await self._ask(UNKNOWN_S)
            found = (self._keys or _NOTHING).find(kid, algorithm)
        return found

    async def _ask(self, every_s: float) -> None:
        """A fetch on somebody's behalf: the one that runs, or a new one unless the last is too fresh."""
        fresh = self._tried_at is not None and self._clock.monotonic() - self._tried_at < every_s
        if self._fetching is not None or not fresh:
            await self._fetch()

    async def _fetch(self) -> None:
        """Shared by all who want it; whoever is cancelled leaves it to the others. Raises nothing."""
        if self._fetching is None:
            self._tried_at = self._clock.monotonic()
            self._fetching = asyncio.create_task(self._fetch_once())
            self._fetching.add_done_callback(self._fetched)
        await asyncio.wait([self._fetching])

    def _fetched(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch_once(self) -> None:
        try:
            async with asyncio.timeout(self._fetch_s):
                keys = parse(await self._document())
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, TimeoutError, OSError, ValueError) as error:
            if not self._failing:
                _log.error("issuer.unreachable", error=type(error).__name__, known=self._keys is not None)
            self._failing = True
            return
        except Exception:  # whatever it is: the keys that are known hold
            _log.exception("issuer.crashed")
            self._failing = True
            return
        before, self._keys = self._keys or _NOTHING, keys
        self._fetched_at = self._clock.monotonic()
        if self._failing or before.thumbprints != keys.thumbprints:
            _log.info("issuer.keys", keys=len(keys.thumbprints), ignored=keys.ignored)
        self._failing = False
        if before.thumbprints - keys.thumbprints:
            self._dropped()

    async def _document(self) -> bytes:
        """Raises ValueError for an answer that is none."""
        async with self._http.stream("GET", self._url) as response:
            if response.status_code != 200:
                raise ValueError("the issuer did not answer with 200")
            document = bytearray()
            async for piece in response.aiter_raw():  # nothing is unpacked: the bound is on what it is
                document += piece
                if len(document) > MAX_BYTES:
                    raise ValueError("the answer is too long")
            return bytes(document)

    def _let_go_of_stale(self) -> None:
        if self._keys is not None and self._clock.monotonic() - self._fetched_at > self._refresh_s + STALE_S:
            _log.error("issuer.keys_stale")
            self._keys = None
            self._dropped()

    def _since_tried_at(self) -> float:
        return self._tried_at if self._tried_at is not None else self._clock.monotonic()
