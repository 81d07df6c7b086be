"""A server whose disk is full, really: a small tmpfs under its data folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.faults import Victim, put_chunk, recording, submit, wait_for
from tests.support.server import wait_task

MIB = 1024**2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        # Lazily: a process that was killed a moment ago may not have let go of its files yet.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def check_full(response: httpx2.Response, *others: str) -> None:
    """507 storage_full, or 503 with one of the other codes."""
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) == problem["retry_after"] > 0
    assert problem["status"] == response.status_code
    assert (response.status_code, problem["code"]) in {(507, "storage_full"), *((503, code) for code in others)}


def fill(http: httpx2.Client, session: str, chunk: bytes) -> list[int]:
    """Chunks until there is no room; the seqs that were acknowledged."""
    for seq in range(200):
        response = put_chunk(http, session, seq, chunk)
        if response.status_code != 200:
            check_full(response)
            return list(range(seq))
    raise AssertionError("the disk never filled up")


def test_a_full_disk_loses_nothing_and_works_again_with_room(small_disk: Path) -> None:
    data, chunk = recording(1), recording(2, seconds=30)[: MIB // 2]
    with Victim(small_disk / "data", store_min_free_bytes=2 * MIB) as victim, victim.http() as http:
        kept = submit(http, "kept", data)
        assert wait_task(http, kept)["state"] == "succeeded"
        assert put_chunk(http, "open", 0, data[:50_000]).status_code == 200
        acknowledged = fill(http, "big", chunk)
        assert acknowledged

        for attempt in range(3):  # and it stays so: what fails leaves nothing behind
            check_full(put_chunk(http, "big", len(acknowledged), chunk))
            check_full(put_chunk(http, f"new-{attempt}", 0, chunk))
        ready = wait_for(lambda: r if (r := http.get("/readyz")).status_code == 503 else None, "not ready", 5)
        assert ready.json()["reasons"] == ["storage"]
        assert http.get("/health").status_code == 200
        assert http.get("/v1/audio/big").json()["received"] == acknowledged
        assert http.get(f"/v1/task/{kept}/audio").content == data
        assert put_chunk(http, "open", 0, data[:50_000]).status_code == 200  # a repeat needs no room

        assert http.delete("/v1/audio/big").status_code == 204
        done = put_chunk(http, "open", 1, data[50_000:], last=True)
        assert done.status_code == 202
        assert wait_task(http, done.json()["task_id"])["state"] == "succeeded"
        assert http.get(f"/v1/task/{done.json()['task_id']}/audio").content == data
        wait_for(lambda: http.get("/readyz").status_code == 200, "readiness", 5)


@contextmanager
def stuffed(disk: Path) -> Iterator[None]:
    """Not a byte is left: other programs write to the same disk."""
    stuffing = disk / "stuffing"
    with stuffing.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        stuffing.unlink()


def test_a_database_that_cannot_grow_loses_nothing_and_recovers(small_disk: Path) -> None:
    data = recording(1)
    with Victim(small_disk / "data", store_min_free_bytes=0) as victim, victim.http() as http:
        kept = submit(http, "kept", data)
        assert wait_task(http, kept)["state"] == "succeeded"
        assert put_chunk(http, "open", 0, data[:50_000]).status_code == 200
        with stuffed(small_disk):
            refused = 0
            for n in range(60):  # SQLite has some room left in its files: new rows use it up
                response = put_chunk(http, f"new-{n}", 0, b"x")
                refused += response.status_code != 200
                if response.status_code != 200:
                    check_full(response, "database_busy")
            assert refused
            check_full(put_chunk(http, "open", 1, data[50_000:], last=True), "database_busy")
            assert http.get(f"/v1/task/{kept}").json()["state"] == "succeeded"
            assert http.get(f"/v1/task/{kept}/audio").content == data
            assert http.get("/v1/audio/open").json()["received"] in ([0], [0, 1])
        done = put_chunk(http, "open", 1, data[50_000:], last=True)
        assert done.status_code == 202
        assert wait_task(http, done.json()["task_id"])["state"] == "succeeded"
        assert http.get(f"/v1/task/{done.json()['task_id']}/audio").content == data
        assert wait_task(http, submit(http, "later", data))["state"] == "succeeded"
        assert victim.rows("PRAGMA integrity_check")[0][0] == "ok"
