"""A real process that writes to a store on disk until it is killed, and says on stdout what was acknowledged.

    python -m tests.support.blob_writer ROOT DURABILITY TASK SEED WHO

`write`: parts of uploads that all writers share, and erased uploads of its own, without end.
`duel`: the same seqs as every other writer with bytes of its own, and marks against parts beyond them; ends by itself.
A line is written in one call after the store has answered, so a kill never cuts what counts.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.model.upload import LastMark
from tests.support.blob_stores import put

DUELS = 120
AT_ONCE = 4
SHARED_UPLOADS = 6
SEQS = 200


def content(upload: str, seq: int) -> bytes:
    """What every writer stores as this part: small, large, and larger than what is kept in memory."""
    rng = random.Random(f"{upload}/{seq}")
    return rng.randbytes(rng.choice([1, 5_000, 200_000, 200_000, 1_500_000]))


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write(store: DiskStore, rng: random.Random, who: str) -> None:
    async def one_of_many(worker: int) -> None:
        turn = 0
        while True:
            upload, seq = f"shared{rng.randrange(SHARED_UPLOADS)}", rng.randrange(SEQS)
            await put(store, upload, seq, content(upload, seq))
            say("part", upload, seq)
            own = f"own-{who}-{worker}-{turn}"
            await put(store, own, 0, content(own, 0), LastMark(0, "{}"))
            say("marked", own, 0)
            await store.results.put(own, 1, content(own, 1))
            say("result", own, 1)
            if turn % 2:
                say("erasing", own, 0)
                await store.parts.erase(own)
                say("erased", own, 0)
            turn += 1

    await asyncio.gather(*(one_of_many(worker) for worker in range(AT_ONCE)))


async def duel(store: DiskStore, rng: random.Random, who: str) -> None:
    for number in range(DUELS):
        body = who.encode() * 20_000
        try:
            await put(store, "bytes", number, body)
            say("won", "bytes", number)
        except errors.PartConflict:
            say("lost", "bytes", number)
        seq = rng.randrange(10)
        try:
            await put(store, f"mark{number}", seq, b"x", LastMark(seq, who) if rng.random() < 0.5 else None)
            say("won", f"mark{number}", seq)
        except errors.LastConflict:
            say("lost", f"mark{number}", seq)


async def main(root: str, durability: str, task: str, seed: str, who: str) -> None:
    rng = random.Random(f"{seed}/{who}")
    kind = "disk" if durability == "disk" else "process"
    async with DiskStore(Path(root), durability=kind, min_free_bytes=0) as store:
        say("ready", who, 0)
        await (write if task == "write" else duel)(store, rng, who)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
