"""What the API shows at the end: asked with patience, since the last fault may just be over. httpx2 and the standard
library alone."""

from __future__ import annotations

import hashlib
import io
import json
import time
import wave
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.chaos.cluster.stories import TERMINAL

_TRIES, _PAUSE_S, _TIMEOUT_S = 12, 1.0, 20.0
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Shown:
    """What the API shows of one task beside its row."""

    status: int  # of GET /v1/task/…
    task: Mapping[str, Any]
    transcript_status: int
    transcript: Mapping[str, Any]
    audio_status: int
    audio_sha256: str  # of the bytes
    pcm_sha256: str  # of a WAV's samples, empty when it is none
    pcm_samples: int
    events: tuple[tuple[int, str, Mapping[str, Any]], ...]  # (id, kind, data)


@dataclass(slots=True)
class World:
    """One principal's tasks. `rows`: newest first, as listed."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def of(self, task: str) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["task_id"] == task), None)


class Api:
    """Thread-safe. Raises Silent when the installation does not answer."""

    def __init__(self, url: str, tokens: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._http = httpx2.Client(
            base_url=url.rstrip("/"),
            timeout=_TIMEOUT_S,
            verify=False,
            trust_env=False,
            follow_redirects=True,  # audio may lie in a store of its own
            limits=httpx2.Limits(max_connections=32, max_keepalive_connections=32),
        )

    def close(self) -> None:
        self._http.close()

    def principals(self) -> list[str]:
        return sorted(self._tokens)

    def tasks(self, principal: str) -> list[dict[str, Any]]:
        """All of them."""
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = {"limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
            page = self._get(principal, "/v1/tasks", params=params)
            if page.status_code != 200:
                raise Silent(f"/v1/tasks answers {page.status_code}")
            rows += page.json()["tasks"]
            cursor = page.json().get("next_cursor")
            if cursor is None:
                return rows

    def upload(self, principal: str, session: str) -> tuple[int, dict[str, Any]]:
        answer = self._get(principal, f"/v1/audio/{session}")
        return answer.status_code, answer.json()

    def shown(self, principal: str, task: str) -> Shown:
        path = f"/v1/task/{task}"
        row = self._get(principal, path)
        transcript = self._get(principal, path + "/transcript")
        audio = self._get(principal, path + "/audio")
        sound = audio.content if audio.status_code == 200 else b""
        pcm = _pcm(sound)
        events = self._get(principal, path + "/events") if row.status_code == 200 else None
        return Shown(
            row.status_code,
            row.json(),
            transcript.status_code,
            transcript.json() if transcript.status_code == 200 else {},
            audio.status_code,
            hashlib.sha256(sound).hexdigest(),
            hashlib.sha256(pcm).hexdigest() if pcm else "",
            len(pcm) // 2,
            tuple(_events(events.text)) if events is not None and events.status_code == 200 else (),
        )

    def _get(self, principal: str, path: str, **request: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self._tokens[principal]}"}
        last = ""
        for _ in range(_TRIES):
            try:
                answer = self._http.get(path, headers=headers, **request)
            except httpx2.TransportError as error:
                last = repr(error)
            else:
                if answer.status_code not in (429, 500, 502, 503, 504):
                    return answer
                last = f"{answer.status_code} {answer.text[:200]}"
            time.sleep(_PAUSE_S)
        raise Silent(f"{path}: {last}")


class Silent(Exception):
    """The installation does not answer: there is nothing to compare with."""


def wait_until_ended(api: Api, timeout_s: float, awaited: Set[tuple[str, str]] = frozenset()) -> dict[str, World]:
    """All tasks of all principals, once all have ended, or `timeout_s` is over. `awaited`: (principal, task) of such as
    need not be listed yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        worlds = {principal: World(api.tasks(principal)) for principal in api.principals()}
        running = sum(row["state"] not in TERMINAL for world in worlds.values() for row in world.rows)
        listed = {(principal, row["task_id"]) for principal, world in worlds.items() for row in world.rows}
        if (not running and awaited <= listed) or time.monotonic() > deadline:
            return worlds
        time.sleep(min(1.0 + running / 100, 5.0))


def _pcm(sound: bytes) -> bytes:
    """The samples of a WAV of 16 bit, nothing of anything else."""
    try:
        with wave.open(io.BytesIO(sound)) as file:
            return file.readframes(file.getnframes()) if file.getsampwidth() == 2 else b""
    except (wave.Error, EOFError):
        return b""


def _events(text: str) -> list[tuple[int, str, Mapping[str, Any]]]:
    """Server-sent events (WHATWG HTML §9.2), as this API writes them: an event's fields are one line each."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found
