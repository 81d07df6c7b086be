"""Whose job is next, when tenants wait for the same engines: deficit round robin, in the form that serves first and
lets the tenant pay afterwards (surplus round robin; Adiseshu, Parulkar and Varghese 1996).

A tenant that was served owes the job's cost, in seconds of audio. The one that waits and owes least is next, of several
the one whose job is oldest; and what it owes is taken off everybody's debt, as if all had been given credit until one
of them could be served again: so a round is as short as it can be, and a choice is one look at each tenant, however
long recordings are. Nobody is ever in credit, so nobody saves up. A debt stays while others wait, also of a tenant that
has nothing waiting just now: who sends one job at a time gets no more than who sends a crowd.

Of two tenants that keep something waiting, since both owed nothing, neither gets more than the cost of its longest
recording ahead of the other. A job that comes back unserved is taken off its tenant's debt again, as far as that is not
paid yet; and once a recording was decoded, what it really cost is owed, instead of what was thought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cosygate.model.cost import LEAST_S

_LEAST_S = 0.001  # nothing is for nothing: a tenant whose jobs cost nothing would be served for ever
_NEAR = 0.01  # of a job's cost


@dataclass(frozen=True, slots=True)
class Head:
    """The oldest waiting job of one tenant, and what its tenant owes."""

    tenant: str
    job_id: str
    created_at: float
    cost_s: float
    debt_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    head: Head
    paid_s: float  # taken off every tenant's debt first, which pays the served one's
    owes_s: float  # what the served tenant owes afterwards


def next_turn(heads: Sequence[Head]) -> Turn:
    """`heads`: of every tenant that has something waiting; at least one."""
    first = min(heads, key=lambda head: (head.debt_s, head.created_at, head.tenant))
    return Turn(first, first.debt_s, price_s(first.cost_s))


def price_s(cost_s: float) -> float:
    """What a tenant owes for a job of that cost."""
    return max(cost_s, _LEAST_S)


def still_owed_s(cost_s: float, real_s: float) -> float:
    """What a tenant owes beside that (below 0: too much), when the recording turned out to have `real_s` seconds; 0.0
    where the difference is not worth a write."""
    beside_s = max(real_s, LEAST_S) - price_s(cost_s)
    return beside_s if abs(beside_s) > _NEAR * cost_s else 0.0
