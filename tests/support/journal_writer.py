"""A real process that writes to a journal until it is killed, and says on stdout what was acknowledged.

    python -m tests.support.journal_writer ROOT DURABILITY TASK ...

DURABILITY is of a journal on disk, or the url of a Redis.
`append SESSION`: appends and compacts without end. `zombie SESSION`: appends until overtaken, claims again when told.
`hammer SESSION WHO`: claims and appends against others; ends by itself. `crash`: dies at each call of a compaction.
A line is written in one call after the journal has answered, so a kill never cuts what counts.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from cosygate import errors
from cosygate.adapters.journal_disk import DiskJournal
from cosygate.ports.journal import Journal
from tests.support.journals import event, in_redis, sound

HAMMERS = 3
CLAIMS = 25
FRAME = 3200
CRASHED_EVENTS = 20
CALLS = ("open", "pwrite", "rename", "unlink", "close")


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def opened(root: str, durability: str) -> AbstractAsyncContextManager[Journal]:
    if durability.startswith("redis:"):
        return in_redis(Path(root), 64 * 1024**2, durability)
    return DiskJournal(Path(root), durability="disk" if durability == "disk" else "process", min_free_bytes=0)


async def append(journal: Journal, session: str) -> None:
    claimed = await journal.claim(session, 1)
    say("held", 1)
    number = 0
    while True:
        for _ in range(random.randrange(1, 30)):
            written = claimed.writer.append(sound(number * FRAME, FRAME), event(number))
            written.add_done_callback(lambda _, number=number: say("stored", number))
            number += 1
            await asyncio.sleep(random.choice([0, 0, 0.001]))
        if random.random() < 0.2:
            await claimed.writer.compact({"before": number}, (number - 5) * FRAME)
        await written


async def zombie(journal: Journal, session: str) -> None:
    for epoch in range(1, 1000, 2):
        claimed = await journal.claim(session, epoch)
        say("held", epoch)
        appends = []
        for number in range(100_000):
            appends.append(claimed.writer.append(event(number, epoch=epoch)))
            await asyncio.sleep(0.0005)
            if not claimed.writer.held():
                break
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        say("stored", sum(one is None for one in outcomes))
        await claimed.writer.close()
        if not sys.stdin.readline():
            return


async def hammer(journal: Journal, session: str, who: str) -> None:
    epoch, rng = 0, random.Random(who)
    for _ in range(CLAIMS):
        epoch = (epoch // HAMMERS + 1) * HAMMERS + int(who)
        try:
            claimed = await journal.claim(session, epoch)
        except errors.TakenOver:
            epoch += rng.randrange(1, 4) * HAMMERS
            continue
        say("claimed", epoch, len(claimed.past.events))
        epoch = max([epoch, *(one["epoch"] for one in claimed.past.events)])
        appends = [claimed.writer.append(event(number, epoch=epoch)) for number in range(3)]
        for number in range(3, rng.randrange(4, 60)):
            appends.append(claimed.writer.append(event(number, epoch=epoch)))
            await asyncio.sleep(rng.choice([0, 0, 0.002]))
        for number, one in enumerate(await asyncio.gather(*appends, return_exceptions=True)):
            if one is None:
                say("stored", epoch, number)
        await claimed.writer.close()


def crash(root: str, durability: str) -> None:
    """A child for each call, in a root of its own; the last one survives."""
    for at in range(1, 200):
        child = os.fork()
        if child == 0:
            asyncio.run(crashing(f"{root}/{at}", durability, at))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say("crashed" if os.WIFSIGNALED(status) else "lived", at)
        if not os.WIFSIGNALED(status):
            return


async def crashing(root: str, durability: str, at: int) -> None:
    async with opened(root, durability) as journal:
        writer = (await journal.claim("c" * 32, 1)).writer
        for number in range(CRASHED_EVENTS):
            written = writer.append(sound(number * FRAME, FRAME), event(number))
            if number == CRASHED_EVENTS // 2:
                await writer.compact({"before": number}, number * FRAME)
        await written
        left = at

        def dying(name: str) -> Any:
            real = getattr(os, name)

            def call(*args: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)

            return call

        for name in CALLS:
            setattr(os, name, dying(name))
        await writer.compact({"before": CRASHED_EVENTS}, (CRASHED_EVENTS - 3) * FRAME)
        await writer.append(event(CRASHED_EVENTS))
        left = 10**9


async def main(root: str, durability: str, task: str, *more: str) -> None:
    async with opened(root, durability) as journal:
        await {"append": append, "zombie": zombie, "hammer": hammer}[task](journal, *more)


if __name__ == "__main__":
    if sys.argv[3] == "crash":
        crash(sys.argv[1], sys.argv[2])
    else:
        asyncio.run(main(*sys.argv[1:]))
