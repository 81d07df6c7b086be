"""The operator's switches: what one process sets, every other reads; what cannot be read stays as it was."""

from __future__ import annotations

import pytest

from cosygate import errors
from cosygate.flows.switchboard import DRAIN, Switchboard
from tests.support.clock import MovedClock
from tests.support.records import Place


async def test_a_switch_is_what_was_set_last(place: Place) -> None:
    records, other = await place.open(), await place.open()
    assert await records.switches.read() == {}
    await records.switches.set("a", "on", 1.0)
    await other.switches.set("b", "on", 2.0)
    await other.switches.set("a", "off", 3.0)
    assert await records.switches.read() == {"a": ("off", 3.0), "b": ("on", 2.0)}
    await records.close()
    await other.close()


async def test_draining_reaches_every_process_and_outlives_them(place: Place) -> None:
    clock = MovedClock()
    records, other = await place.open(), await place.open()
    here, there = Switchboard(records.switches, clock), Switchboard(other.switches, clock)
    await here.look()
    assert not here.drained()
    await here.drain(True)
    assert here.drained() and not there.drained()
    await there.look()
    assert there.drained_since == here.drained_since == clock.now()
    await records.close()
    await here.look()  # the database is gone: it stays as it was
    assert here.drained()
    with pytest.raises(errors.DatabaseBusy):
        await here.drain(False)
    again = await place.open()
    life = Switchboard(again.switches, clock)
    await life.look()
    assert life.drained()
    await life.drain(False)
    await there.look()
    assert not there.drained() and (await again.switches.read())[DRAIN][0] == "off"
    await again.close()
    await other.close()
