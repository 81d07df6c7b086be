"""What runs beside the doors of a gateway process: the embedded runner of jobs, and the rounds that keep the house.

With a broker the jobs are run by workers' processes (celery_process.py), with the same dispatcher; a gateway then only
tells them that there is work.
"""

from __future__ import annotations

import asyncio

from cosygate.flows import housekeeping
from cosygate.flows.webhooks import LOOK_EVERY_S
from cosygate.kit import vitals
from cosygate.ports.queue import Broker
from cosygate.wiring import House
from cosygate.worker.dispatch import Dispatcher
from cosygate.worker.rounds import Rounds

_RELAY_EVERY_S = 0.5
_RELAY_LEAST_S = 0.1  # between two rounds of messages to the broker's: jobs that come together share one
_SWITCHES_EVERY_S = 1.0
MOST_RUNNERS = 64  # as many as the setting `workers` allows
_SWEEP_EVERY_S = 3600.0  # it looks at every stored upload, and what it finds hurts nobody meanwhile


def claimant(index: int) -> str:
    """The name under which the embedded runner number `index` claims jobs, in every life of its process."""
    return f"embedded/{index}"


class Runner:
    def __init__(self, house: House, *, index: int, jobs: int, runners: int = 1) -> None:
        """`index` names this process slot and outlives it: a restarted one requeues what its earlier life held (where
        no other host has such names, too). `jobs`, `runners`: as Dispatcher has them."""
        self._house = house
        self._index = index
        self._runners = runners
        name = claimant(index) if house.alone else f"{house.life}/{index}"
        self._dispatcher = Dispatcher(
            house.transcribe,
            house.engines,
            house.queue,
            house.admission,
            house.clock,
            house.randomness,
            claimant=name,
            jobs=jobs,
            runners=runners,
        )
        self._dispatching: asyncio.Task[None] | None = None
        self._rounds = Rounds(house.clock)

    async def start(self, *, first: bool) -> None:
        """Recovers and begins. `first`: this process also mends what a crash left between bytes and rows."""
        house, rounds = self._house, self._rounds
        if house.alone:
            await self._recover(first)
        if first:
            # Beside everything else: with many open uploads it takes long, and none of them waits for it.
            rounds.once(house.housekeeping.reconcile)
            rounds.every(_SWEEP_EVERY_S, house.housekeeping.sweep_orphans)
            rounds.every(_SWEEP_EVERY_S, house.live_keeper.sweep)
        if (broker := house.broker) is None:
            self._dispatching = asyncio.create_task(self._dispatcher.run())
            rounds.every(_RELAY_EVERY_S, self._relay)
        else:
            rounds.always(lambda: self._tell(broker))
        rounds.every(LOOK_EVERY_S, house.sender.look)
        rounds.every(_SWITCHES_EVERY_S, house.switchboard.look)
        rounds.every(_SWITCHES_EVERY_S, house.quotas.look)
        rounds.every(vitals.EVERY_S, vitals.Vitals(house.clock).look)
        rounds.every(house.reaper_every_s, house.reaper.round)
        rounds.every(house.housekeeping_every_s, house.housekeeping.round)

    async def _recover(self, first: bool) -> None:
        mine = [claimant(self._index)]
        if first:  # and those of processes that this start has no more: it was begun with fewer
            mine += [claimant(n) for n in range(self._runners, MOST_RUNNERS)]
        for earlier in mine:
            await housekeeping.recover(self._house.leases, earlier, self._house.clock)

    async def stop(self, grace_s: float) -> None:
        """Claims nothing more; jobs get `grace_s` seconds to finish, the others are handed back."""
        if self._dispatching is not None:
            self._dispatching.cancel()
            await asyncio.gather(self._dispatching, return_exceptions=True)
        await self._rounds.stop()
        await asyncio.gather(self._house.sender.stop(grace_s), self._dispatcher.stop(grace_s), return_exceptions=True)

    async def _relay(self) -> int:
        return await housekeeping.relay(self._house.outbox, self._house.queue)

    async def _tell(self, broker: Broker) -> None:
        """Workers elsewhere, as soon as there is something for them."""
        await self._house.queue.wait(_RELAY_EVERY_S)
        await housekeeping.tell(self._house.outbox, broker)
        await self._house.clock.sleep(_RELAY_LEAST_S)
