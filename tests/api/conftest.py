"""Callers and recordings for the API's tests: real requests to a real server process."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.support.server import Server

_numbers = itertools.count()


def wav(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> bytes:
    """A WAV of quiet, not silent, samples."""
    samples = b"".join(struct.pack("<h", (n * 37) % 200 - 100) for n in range(int(seconds * rate) * channels))
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, channels, rate,
                         rate * channels * 2, channels * 2, 16, b"data", len(samples))  # fmt: skip
    return header + samples


@pytest.fixture(scope="module")
def alice(server: Server) -> Iterator[httpx2.Client]:
    with server.http("alice") as client:
        yield client


@pytest.fixture(scope="module")
def bob(server: Server) -> Iterator[httpx2.Client]:
    with server.http("bob") as client:
        yield client


@pytest.fixture
def session_id() -> str:
    return f"s-{next(_numbers)}"


@pytest.fixture
def send(alice: httpx2.Client) -> Callable[..., httpx2.Response]:
    """send(session_id, seq, body, **query): one raw chunk."""

    def run(session_id: str, seq: int | str, body: bytes, headers: dict[str, str] | None = None,
            **query: str) -> httpx2.Response:  # fmt: skip
        return alice.put(f"/v1/audio/{session_id}/{seq}", content=body, params=query, headers=headers)

    return run


def code_of(response: httpx2.Response) -> tuple[int, str]:
    """(status, stable code) of a problem, having checked its shape."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert {"type", "title", "status", "detail", "code", "trace_id"} <= body.keys()
    assert body["status"] == response.status_code
    assert response.headers["x-trace-id"] == body["trace_id"]
    assert "Traceback" not in response.text
    return response.status_code, body["code"]
