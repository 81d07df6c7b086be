"""How a call gets its slot: it waits its turn, for as long as it said, and shows meanwhile that the engine is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from cosygate.engine.messages import CallEnded
from cosygate.engine.slots import LineFull, Slots
from cosygate.kit.clock import Clock

TELL_EVERY_S = 0.5  # signs of life, at most this often
_SLOT_WAIT_MAX_S = 600.0


async def take_slot(
    slots: Slots, wanted: int, wait_ms: int, clock: Clock, sign_of_life: Callable[[], Awaitable[None]]
) -> float:
    """`wanted` slots are the caller's. Returns the seconds waited. Raises CallEnded."""
    asked_at = clock.monotonic()
    deadline = asked_at + min(wait_ms / 1000, _SLOT_WAIT_MAX_S)
    try:
        turn = slots.ask(wanted)
    except LineFull:
        raise CallEnded(grpc.StatusCode.RESOURCE_EXHAUSTED, "every slot is taken, and the line is full") from None
    try:
        while not turn.done():
            left = deadline - clock.monotonic()
            if left <= 0:
                raise CallEnded(grpc.StatusCode.RESOURCE_EXHAUSTED, "no slot became free in time")
            await asyncio.wait({turn}, timeout=min(left, TELL_EVERY_S))
            if not turn.done():
                await sign_of_life()
        if turn.cancelled():
            raise CallEnded(grpc.StatusCode.ABORTED, "the engine is shutting down")
    except BaseException:
        slots.withdraw(turn, wanted)
        raise
    return clock.monotonic() - asked_at
