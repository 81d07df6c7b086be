"""What protects the service: limits and quotas, the queue's bound, breakers, and the gate that asks them all."""

from __future__ import annotations

from dataclasses import dataclass

from cosygate.flows.admission import Admission
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.gate import Begun, Gate
from cosygate.flows.limiting import Limiting
from cosygate.settings import Settings


@dataclass(frozen=True, slots=True)
class Guard:
    limiting: Limiting
    admission: Admission
    gate: Gate


def guard(settings: Settings, begun: Begun, engines: EngineRoom) -> Guard:
    limiting = Limiting()
    admission = Admission()
    gate = Gate(
        begun=begun,
        limiting=limiting,
        admission=admission,
        blocked_s=engines.blocked_s,
        drained=lambda: False,
    )
    return Guard(limiting, admission, gate)
