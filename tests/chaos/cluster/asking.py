"""One client's requests: tried again with backoff as long as that may help, for a bounded time, and every answer that
tells something is left to whoever asked. What failed is journalled here."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.chaos.cluster.journal import Journal

TIMEOUT_S = 8.0  # of silence: a gateway that is stopped is left then
GIVE_UP_S = 150.0  # for one thing to do
_FIRST_S, _LONGEST_S, _LONGEST_ASKED_S = 0.1, 3.0, 10.0
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 507})


class GaveUp(Exception):
    """It did not work for GIVE_UP_S. What was not acknowledged may be lost."""


@dataclass(slots=True)
class Door:
    """Where all clients of a run go, and what they share. `enough`: time to stop trying."""

    url: str
    journal: Journal
    tokens: dict[str, str]  # principal → bearer token
    enough: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    data: dict[str, Any]
    tries: int  # requests made for it; those before went without an answer, or got one that said later


class Client:
    """For one recording."""

    def __init__(self, door: Door, who: str, principal: str, rng: random.Random) -> None:
        self.door = door
        self.who = who
        self._rng = rng
        self.http = httpx2.Client(
            base_url=door.url,
            headers={"Authorization": f"Bearer {door.tokens[principal]}"},
            timeout=TIMEOUT_S,
            verify=False,  # no context to load: it is plain HTTP
            trust_env=False,
        )

    def close(self) -> None:
        self.http.close()

    def tell(self, kind: str, **data: Any) -> None:
        self.door.journal.tell(self.who, kind, **data)

    def ask(self, method: str, path: str, what: str, **request: Any) -> Answer:
        """An answer that stays the same however often one asks: below 400, or the client's fault. Raises GaveUp."""
        began, tries, pause_s = time.monotonic(), 0, _FIRST_S
        while True:
            tries += 1
            asked_s = 0.0
            try:
                response = self.http.request(method, path, **request)
                data = _json(response)
                if response.status_code not in _LATER:
                    if response.status_code >= 400:
                        self.tell("refused", what=what, status=response.status_code, code=data.get("code"), tries=tries)
                    return Answer(response.status_code, data, tries)
                asked_s = _asked_s(response)
                self.tell("later", what=what, status=response.status_code, code=data.get("code"), tries=tries)
            except httpx2.TransportError as error:
                self.tell("cut", what=what, error=type(error).__name__, tries=tries)
            if time.monotonic() - began > GIVE_UP_S or self.door.enough.is_set():
                self.tell("gave_up", what=what, tries=tries)
                raise GaveUp(what)
            self.wait(max(min(asked_s, _LONGEST_ASKED_S), self._rng.uniform(pause_s / 2, pause_s)))
            pause_s = min(2 * pause_s, _LONGEST_S)

    def wait(self, seconds: float) -> None:
        self.door.enough.wait(seconds)


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        data = response.json()
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _asked_s(response: httpx2.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0
