"""The end of a session whose journal does not take it: somebody else has to see to it, and its client is told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cosygate import errors
from cosygate.flows.live.finishing import Finishing
from cosygate.flows.live.outlet import Outlet
from cosygate.flows.live.session import Session
from cosygate.flows.live.sound import PART_BYTES
from cosygate.model.live import LiveFormat, LiveSession, LiveState, SafeMark
from cosygate.model.options import TranscribeOptions
from cosygate.model.timeline import Timeline
from tests.support.clock import MovedClock

WINDOW_S = 300


class Broken:
    """A writer that Redis left without an answer."""

    def append(self, *_: object, **__: object) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(errors.Unavailable())
        return future

    def held(self) -> bool:
        return True


def session(kept: int = 0, form: LiveFormat = LiveFormat.S16LE, **timeline: Any) -> Session:
    row = LiveSession(
        id="1" * 32,
        owner="default/ann",
        token_hash="",
        format=form,
        rate=16_000,
        options=TranscribeOptions().to_json(),
        trace_id="0" * 32,
        span_id="0" * 16,
        created_at=0.0,
        state=LiveState.OPEN,
        epoch=1,
        holder="g1",
        mark=SafeMark(kept=kept),
    )
    parts = cast(Any, None)
    return Session(
        row, cast(Any, Broken()), Timeline(**timeline), parts, [], MovedClock(), longest=10**9, window_s=WINDOW_S
    )


async def test_a_session_whose_end_cannot_be_journalled_is_let_go() -> None:
    """Its writer is broken: to try again here would be for ever, with a client that waits for `done`."""
    ending = session(received=1000, ended=1000)
    outlet = Outlet(interim=True)
    ending.attach(outlet)
    nothing = cast(Any, SimpleNamespace())
    finishing = Finishing(nothing, nothing, nothing, nothing, nothing, MovedClock())
    with pytest.raises(errors.Unavailable):
        await finishing.finish(ending)
    assert ending.gone.is_set()
    assert isinstance(outlet.error, errors.Unavailable)


async def test_what_need_not_be_heard_again_is_not_what_the_engine_is_behind() -> None:
    """A journal was lost: parts reach to 65 s, what is decided to 74. Its connection has to be read for all that."""
    resumed = session(received=65 * 16_000, restart=74 * 16_000)
    assert resumed.has_room()
    assert not session(received=65 * 16_000).has_room()


@pytest.mark.parametrize(("form", "a_second"), [(LiveFormat.S16LE, 32_000), (LiveFormat.WEBM_OPUS, 2**20 / 60)])
async def test_what_the_journal_alone_has_is_bounded_by_the_window(form: LiveFormat, a_second: float) -> None:
    """The blob store or SQL is away; the engine is not behind at all."""
    most, kept = int(WINDOW_S * a_second) + PART_BYTES, 10 * PART_BYTES

    def told(size: int) -> Session:
        made = session(kept, form, received=size // form.stored_bytes)
        made.took(made.timeline.received)
        return made

    assert told(kept + most).has_room()
    full = told(kept + most + 2)
    assert not full.has_room()
    waiting = asyncio.create_task(full.room())
    await asyncio.sleep(0)
    full.stored(SafeMark(kept=kept + PART_BYTES))  # both are back
    await asyncio.wait_for(waiting, 0.5)  # and it need not be asked again, as it is every two seconds
