"""kill -9 of processes in the middle of storing, and processes that contradict each other."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.blobs_disk.room import blocks
from cosygate.model.upload import Listing
from tests.support.blob_stores import read
from tests.support.blob_writer import DUELS, content

Said = list[tuple[str, str, int]]  # what a writer said: kind, upload or job, seq or fence
WRITERS = 3
KILLS = 3


def start(root: Path, durability: str, task: str, seed: int, who: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.blob_writer", str(root), durability, task, str(seed), who]
    return subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)


def drained(writer: subprocess.Popen[bytes]) -> Said:
    out, _ = writer.communicate(timeout=60)
    return [(kind, upload, int(seq)) for kind, upload, seq in (line.split() for line in out.decode().splitlines())]


def bytes_on_disk(root: Path) -> int:
    files = (path for kind in ("uploads", "results", "trash") for path in (root / kind).rglob("*") if path.is_file())
    return sum(blocks(path.stat().st_size) for path in files)


def write_and_kill(root: Path, durability: str, seed: int) -> Said:
    """Rounds of writers, each killed at a moment of its own; returns what they said before."""
    rng = random.Random(seed)
    said: Said = []
    for turn in range(KILLS):
        writers = [start(root, durability, "write", seed, f"{turn}{who}") for who in range(WRITERS)]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline().startswith(b"ready")
        for writer in writers:
            time.sleep(rng.uniform(0.05, 0.4))
            writer.kill()
        for writer in writers:
            said += drained(writer)
    return said


@pytest.mark.parametrize(("durability", "seed"), [("disk", 1), ("process", 2)])
async def test_kill_at_random_moments_loses_nothing_acknowledged(tmp_path: Path, durability: str, seed: int) -> None:
    root = tmp_path / "store"
    said = write_and_kill(root, durability, seed)
    of = {kind: {(upload, seq) for k, upload, seq in said if k == kind} for kind in ("part", "marked", "result")}
    erased = {upload for kind, upload, _ in said if kind == "erased"}
    in_doubt = {upload for kind, upload, _ in said if kind == "erasing"} - erased
    assert len(of["part"]) > 50 and erased  # the writers did come to something

    async with DiskStore(root, min_free_bytes=0) as store:
        assert await store.survey.used_bytes() == bytes_on_disk(root)  # counted anew by the first to come
        for upload, seq in of["part"]:
            assert seq in (await store.parts.list(upload)).parts
        for upload, _ in of["marked"]:
            complete = (await store.parts.list(upload)).complete
            assert upload in in_doubt or complete == (upload not in erased)
        for job, fence in of["result"]:
            assert await store.results.get(job, fence) == content(job, fence)
        for upload in await store.survey.uploads():  # nothing half, acknowledged or not
            for seq, size in (await store.parts.list(upload)).parts.items():
                assert await read(store, upload, Listing({seq: size})) == content(upload, seq)
        await store.survey.sweep(0.0)
        assert os.listdir(root / "tmp") == os.listdir(root / "trash") == []
        assert await store.survey.used_bytes() == bytes_on_disk(root)


async def test_processes_that_contradict_each_other(tmp_path: Path) -> None:
    root = tmp_path / "store"
    names = [chr(ord("a") + number) for number in range(WRITERS)]
    writers = {who: start(root, "process", "duel", 3, who) for who in names}
    said = {who: drained(writer) for who, writer in writers.items()}
    assert all(writer.returncode == 0 for writer in writers.values())

    async with DiskStore(root) as store:
        contested = 0
        for number in range(DUELS):
            winners = [who for who in names if ("won", "bytes", number) in said[who]]
            assert len(winners) == 1
            assert await read(store, "bytes", Listing({number: 20_000})) == winners[0].encode() * 20_000

            upload = f"mark{number}"
            won = {(who, seq) for who in names for kind, place, seq in said[who] if (kind, place) == ("won", upload)}
            listing = await store.parts.list(upload)
            assert {seq for _, seq in won} == set(listing.parts)  # refused left nothing, acknowledged is there
            contested += len(won) < WRITERS
            if listing.mark is not None:
                assert max(listing.parts) <= listing.mark.last_seq
                assert (listing.mark.options, listing.mark.last_seq) in won
        assert contested > DUELS // 10
        assert await store.survey.used_bytes() == bytes_on_disk(root)
