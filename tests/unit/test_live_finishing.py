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
from cosygate.model.live import LiveFormat, LiveSession, LiveState
from cosygate.model.options import TranscribeOptions
from cosygate.model.timeline import Timeline
from tests.support.clock import MovedClock


class Broken:
    """A writer that Redis left without an answer."""

    def append(self, *_: object, **__: object) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(errors.Unavailable())
        return future

    def held(self) -> bool:
        return True


def session(**timeline: Any) -> Session:
    row = LiveSession(
        id="1" * 32,
        owner="default/ann",
        token_hash="",
        format=LiveFormat.S16LE,
        rate=16_000,
        options=TranscribeOptions().to_json(),
        trace_id="0" * 32,
        span_id="0" * 16,
        created_at=0.0,
        state=LiveState.OPEN,
        epoch=1,
        holder="g1",
    )
    return Session(row, cast(Any, Broken()), Timeline(**timeline), cast(Any, None), [], MovedClock(), longest=10**9)


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
