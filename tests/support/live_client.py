"""A live session of cosygate.client against a peer of tests: quick to try again, and its events fetched."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cosygate.client import ClientError, Retries
from cosygate.client.live import Live
from cosygate.client.live_core import LiveCore, Stream
from cosygate.client.live_session import Session
from cosygate.client.live_wire import Door, Patience
from cosygate.kit.backoff import Backoff

RATE = 8_000
QUICK = Retries(attempts=4, backoff=Backoff(0.005, longest_s=0.02))


def live_at(
    port: int, on_event: Callable[[Any], object] | None = None, patience: Patience | None = None, **core: Any
) -> Live:
    made = LiveCore(Stream(RATE), **core)
    door = Door.of(f"http://127.0.0.1:{port}", "t", True)
    session = Session(door, made, QUICK, on_event, patience or Patience(close_s=0.5))
    return Live(made, session, time.monotonic)


@contextmanager
def events_of(live: Live) -> Iterator[list[Any]]:
    """Fetched by a thread of their own, as they come."""
    told: list[Any] = []

    def fetch() -> None:
        try:
            told.extend(live.events())
        except ClientError as error:
            told.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    yield told
    thread.join(10)
    assert not thread.is_alive()


def speech(seconds: float, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(round(seconds * RATE) * 2)


def wait_for(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.002)
