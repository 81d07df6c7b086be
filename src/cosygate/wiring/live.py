"""Live speech, put together: sessions, their journal and keeper, and the door."""

from __future__ import annotations

from dataclasses import dataclass

from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.adapters.records_sql import SqlRecords
from cosygate.api.live import LiveDoor
from cosygate.api.strangers import Strangers
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.gate import Gate
from cosygate.flows.identifying import Identifying
from cosygate.flows.live.desk import Live
from cosygate.flows.live.finishing import Finishing
from cosygate.flows.live.holding import Holding
from cosygate.flows.live.keeping import Keeper
from cosygate.flows.live.watching import Watching
from cosygate.flows.webhooks import Callbacks
from cosygate.kit.clock import Clock, Randomness
from cosygate.ports.journal import Journal
from cosygate.ports.tickets import Tickets
from cosygate.settings import Settings
from cosygate.wiring.limits import live_limits
from cosygate.wiring.stores import Store

_STORING = 6  # sessions whose parts go to an object store at once: a part takes two answers of it, some 0.1 s


@dataclass(frozen=True, slots=True)
class LiveParts:
    live: Live
    keeper: Keeper
    watching: Watching
    door: LiveDoor


def live_parts(
    settings: Settings,
    *,
    records: SqlRecords,
    store: Store,
    journal: Journal,
    sandbox: SandboxDecoder,
    engines: EngineRoom,
    gate: Gate,
    callers: Identifying,
    callbacks: Callbacks,
    tickets: Tickets,
    strangers: Strangers,
    clock: Clock,
    randomness: Randomness,
    index: int,
) -> LiveParts:
    """`index`: which gateway this is."""
    keeper = Keeper(
        records.live,
        records.live_keeping,
        journal,
        clock,
        holder=f"{index}/{randomness.token(8).hex()}",
        window_s=settings.live_window_s,
        storing=_STORING if settings.store_url else 1,
    )
    holding = Holding(
        sessions=records.live,
        keeping=records.live_keeping,
        journal=journal,
        parts=store.parts,
        keeper=keeper,
        finishing=Finishing(records.live, records.live_keeping, keeper, journal, store.results, clock),
        engines=engines,
        decoder=sandbox,
        clock=clock,
        randomness=randomness,
        engine_idle_s=settings.live_engine_idle_s,
        longest_s=settings.recording_max_s,
        longest_bytes=settings.recording_max_bytes,
        unheard_tries=settings.live_unheard_tries,
        unheard_s=settings.live_unheard_s,
    )
    live = Live(
        sessions=records.live,
        keeping=records.live_keeping,
        holding=holding,
        engines=engines,
        gate=gate,
        clock=clock,
        randomness=randomness,
        limits=live_limits(settings),
        callbacks=callbacks,
    )
    door = LiveDoor(
        live=live,
        callers=callers,
        tickets=tickets,
        one_time=records.one_time,
        strangers=strangers,
        clock=clock,
        randomness=randomness,
        origins=frozenset(settings.live_origins.replace(",", " ").split()),
        idle_s=settings.live_idle_s,
    )
    return LiveParts(live, keeper, Watching(live, records.live_keeping, journal, clock), door)
