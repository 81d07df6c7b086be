"""One of several processes that fight for the jobs of one database: `python -m tests.support.records_hammer URL NAME`.

Claims until every job is finished; gives half of its claims back. Prints a JSON line for each claim: job, fence, when
it was held (seconds of CLOCK_MONOTONIC, which all processes share), and whether its commit was accepted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.job import Requeue


async def work(records: SqlRecords, name: str) -> None:
    while True:
        claim = await records.leases.claim(name, 5_000.0)
        if claim is None:
            counts = await records.health.counts()
            if counts["queued"] + counts["running"] == 0:
                return
            await asyncio.sleep(0.005)
            continue
        held_from = time.monotonic()
        await asyncio.sleep(0.001)
        assert await records.events.append(claim, [("segment", {"by": name})], 50)
        held_to = time.monotonic()
        if (claim.fence + len(name)) % 2:
            state = await records.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, 5_000.0)
            assert state == "queued"
            committed = False
        else:
            committed = await records.leases.commit(claim, 5_000.0, result={"by": name, "fence": claim.fence})
            assert committed
        again = await records.leases.commit(claim, 5_000.0, result={"by": "a zombie"})
        assert again is committed, "a repeat of what happened is true again, and changes nothing"
        print(json.dumps([claim.job_id, claim.fence, held_from, held_to, committed]), flush=True)


async def main(url: str, name: str) -> None:
    records = await SqlRecords.open(url, durability="process", busy_s=30.0)
    await asyncio.gather(*(work(records, f"{name}-{n}") for n in range(3)))
    await records.close()


asyncio.run(main(*sys.argv[1:]))
