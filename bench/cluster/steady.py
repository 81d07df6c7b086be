"""Steady users with the client of src/cosygate/client, as users have it: recordings that are due at even times, each
uploaded and asked about until its result is there, and live sessions one after the other. For as long as it is let.

One process. It first does everything once while nothing is wrong: that is what every later result must equal. Its plan
is one line of JSON on standard input; it says when it has begun; the next line ends it: what is under way comes to its
end, and it tells all it saw. Times are of the monotonic clock, which all processes of a machine share.
"""

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from bench.recordings import noise, wav_header
from cosygate.client import Client, ClientError, Disconnected, Final, Gap, LiveEvent, NotFound, Reconnected, Retries
from cosygate.client.transport import Transport

RATE = 16_000
FRAME_S = 0.1
_FRAME = round(RATE * FRAME_S) * 2
_DISTINCT = 4  # recordings, and as many speeches
_LANES = 64  # uploads under way at once
_CLIENTS = 8
_AGAIN_S = 1.0
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    url: str
    token: str
    rate: float  # uploads a second
    streams: int
    audio_s: float  # of a recording
    speech_s: float  # of a live session
    ask_s: float = 0.25  # between two questions whether a recording has ended
    patience_s: float = 180.0  # after the end, for what is under way


class Seen:
    """What the users saw; lists of what is written as JSON."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, float, str]] = []  # when it began, seconds, the code of its failure or ""
        self.uploads: list[dict[str, Any]] = []
        self.speeches: list[dict[str, Any]] = []
        self.retries: list[float] = []  # when a request, or a connection, was to be tried again
        self.tasks: set[str] = set()  # that they were told of
        self.sessions: set[str] = set()  # that may have become tasks, too


class Timed(Transport):
    """Each request as the caller of the client waits for it, its retries included."""

    seen: Seen

    def request(self, method: str, path: str, **how: Any) -> httpx2.Response:
        began, code = time.monotonic(), ""
        try:
            return super().request(method, path, **how)
        except ClientError as error:
            # An upload begins with the question what is there already: nothing is an answer.
            new = isinstance(error, NotFound) and method == "GET" and path.startswith("/v1/audio/")
            code = "" if new else error.code
            raise
        finally:
            self.seen.requests.append((began, time.monotonic() - began, code))


@contextmanager
def timed(plan: Plan, seen: Seen) -> Iterator[Client]:
    def wait(stop: threading.Event, seconds: float) -> None:
        seen.retries.append(time.monotonic())
        stop.wait(seconds)

    retries = Retries(wait=wait)
    with Client(plan.url, plan.token, verify=False, timeout_s=_TIMEOUT_S, retries=retries) as client:
        transport = Timed(plan.url, plan.token, timeout_s=_TIMEOUT_S, verify=False, retries=retries)
        transport.seen = seen
        client._transport.close()
        client._transport = transport  # there is no other way to time what it sends
        yield client


class Users:
    def __init__(self, plan: Plan, clients: list[Client], seen: Seen) -> None:
        self._plan = plan
        self._clients = clients
        self._seen = seen
        self._over = threading.Event()
        self._give_up = float("inf")
        sounds = [noise(round(plan.audio_s * RATE) * 2, seed=100 + n) for n in range(_DISTINCT)]
        self._recordings = [wav_header(len(sound)) + sound for sound in sounds]
        self._speeches = [noise(round(plan.speech_s * RATE) * 2, seed=200 + n) for n in range(_DISTINCT)]
        self._texts: list[str] = []
        self._finals: list[tuple[Final, ...]] = []

    def rehearse(self) -> None:
        """Raises ClientError."""
        client = self._clients[0]
        for number, recording in enumerate(self._recordings):
            task = client.wait(client.upload(io.BytesIO(recording), session_id=f"first-{number}").id, timeout_s=60)
            self._seen.tasks.add(task.id)
            self._texts.append(task.text or "")
        for audio in self._speeches:
            with client.live(RATE, interim=False, wait_when_full=True) as live:
                live.send(audio)
            self._seen.tasks.add(live.task_id or "")
            self._finals.append(live.finals)
        if len(set(self._texts)) < _DISTINCT or not all(self._finals):
            raise ValueError("the script does not tell one recording from another")
        self._seen.requests.clear()

    def run(self) -> None:
        """Until `end`, and until all that is under way has ended or patience is over."""
        lanes = [threading.Thread(target=self._lane, args=(n,), daemon=True) for n in range(_LANES)]
        streams = [threading.Thread(target=self._stream, args=(n,), daemon=True) for n in range(self._plan.streams)]
        self._began = time.monotonic() + 0.2
        self._numbers = iter(range(10**9))
        self._taking = threading.Lock()
        for thread in (*lanes, *streams):
            thread.start()
        self._over.wait()
        for thread in (*lanes, *streams):
            thread.join(max(0.0, self._give_up - time.monotonic()))

    def end(self) -> None:
        self._give_up = time.monotonic() + self._plan.patience_s
        self._over.set()

    def listed(self) -> dict[str, int]:
        """The server's list of all tasks against those that the users were told of. An upload whose answer never came
        may have become one, too."""
        there = {task.id for task in self._clients[0].tasks()}
        unanswered = sum(one["accepted"] is None for one in self._seen.uploads)
        unknown = len(there - self._seen.tasks - self._seen.sessions)
        return {"missing": len(self._seen.tasks - there), "unknown": max(0, unknown - unanswered)}

    def _lane(self, lane: int) -> None:
        client = self._clients[lane % len(self._clients)]
        while not self._over.is_set():
            with self._taking:
                number = next(self._numbers)
            due = self._began + number / self._plan.rate
            if self._over.wait(max(0.0, due - time.monotonic())):
                return
            self._upload(client, number, due)

    def _upload(self, client: Client, number: int, due: float) -> None:
        seen: dict[str, Any] = {"due": due, "late_s": time.monotonic() - due, "accepted": None, "done": None}
        seen["failed"] = 0  # calls of the client, in spite of its retries
        self._seen.uploads.append(seen)
        which = number % _DISTINCT
        try:
            task = client.upload(io.BytesIO(self._recordings[which]), session_id=f"steady-{number}")
        except ClientError as error:
            seen |= {"error": str(error), "failed": 1}
            return
        seen["accepted"] = time.monotonic()
        self._seen.tasks.add(task.id)
        while not task.finished and time.monotonic() < self._give_up:
            time.sleep(self._plan.ask_s)
            try:
                task = client.task(task.id)
            except ClientError as error:
                seen |= {"error": str(error), "failed": seen["failed"] + 1}
        if task.finished:
            seen |= {"done": time.monotonic(), "equal": task.state == "succeeded" and task.text == self._texts[which]}

    def _stream(self, lane: int) -> None:
        self._over.wait(lane * self._plan.speech_s / max(1, self._plan.streams))  # nobody begins together
        turn = lane
        while not self._over.is_set():
            if not self._speak(self._clients[lane % len(self._clients)], turn % _DISTINCT):
                self._over.wait(_AGAIN_S)
            turn += 1

    def _speak(self, client: Client, which: int) -> bool:
        """One session in real time. False: it did not go well."""
        seen: dict[str, Any] = {"began": time.monotonic(), "ended": None, "begun": False, "cuts": 0, "gaps": 0}
        seen |= {"longest_cut_s": 0.0}

        def hear(event: LiveEvent) -> None:
            if isinstance(event, Disconnected):
                seen["cuts"] += 1
            elif isinstance(event, Reconnected):
                seen["longest_cut_s"] = max(seen["longest_cut_s"], event.after_s)
            elif isinstance(event, Gap):
                seen["gaps"] += 1

        self._seen.speeches.append(seen)
        audio = self._speeches[which]
        live = client.live(RATE, interim=False, on_event=hear)
        try:
            with live:
                seen["begun"], began = True, time.monotonic()
                for number, at in enumerate(range(0, len(audio), _FRAME)):
                    time.sleep(max(0.0, began + number * FRAME_S - time.monotonic()))
                    live.send(audio[at : at + _FRAME])
        except ClientError as error:
            seen["error"] = str(error)
            return False
        finally:
            if live.session:
                self._seen.sessions.add(live.session)
            if live.task_id:
                self._seen.tasks.add(live.task_id)
        seen |= {"ended": time.monotonic(), "equal": live.finals == self._finals[which]}
        return True


def say(**members: Any) -> None:
    print(json.dumps(members), flush=True)


def main() -> None:
    plan, seen = Plan(**json.loads(sys.stdin.readline())), Seen()
    contexts = [timed(plan, seen) for _ in range(_CLIENTS)]
    clients = [context.__enter__() for context in contexts]
    users = Users(plan, clients, seen)
    users.rehearse()
    say(at="ready")

    def until_told() -> None:
        sys.stdin.readline()
        users.end()

    threading.Thread(target=until_told, daemon=True).start()
    users.run()
    listed = users.listed()
    say(requests=seen.requests, uploads=seen.uploads, speeches=seen.speeches, retries=seen.retries, **listed)


if __name__ == "__main__":
    main()
