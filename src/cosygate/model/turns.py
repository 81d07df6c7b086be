"""Deficit round robin (Shreedhar and Varghese 1995): whose job is next, when tenants wait for the same engines.

Each tenant that has something waiting is given the same credit, in seconds of audio, and a job is served when its
tenant's credit covers its cost. Two things are done otherwise than in the paper. The quantum is small, and as many
rounds of it as the first job needs are given at once: a choice costs one look at each tenant, however long recordings
are. And who was served goes behind the others, so that tenants alternate job by job and not quantum by quantum.

Of two tenants that both have something waiting all the time, since both were without credit, neither gets more than
QUANTUM_S and the cost of the longest recording ahead of the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

QUANTUM_S = 1.0
_LEAST_S = 0.001  # nothing is for nothing: a tenant could go on for ever without using its credit up


@dataclass(frozen=True, slots=True)
class Head:
    """The oldest waiting job of one tenant, and its tenant's standing."""

    tenant: str
    job_id: str
    cost_s: float
    deficit_s: float  # its credit; 0 for one that has just come
    served_at: int  # number of the turn in which it was served, or came

    @property
    def price_s(self) -> float:
        return max(self.cost_s, _LEAST_S)

    @property
    def rounds(self) -> int:
        """Quanta that it needs."""
        return max(0, math.ceil((self.price_s - self.deficit_s) / QUANTUM_S))


@dataclass(frozen=True, slots=True)
class Turn:
    head: Head
    credit_s: float  # that every tenant gets first
    left_s: float  # of the served tenant's credit, afterwards


def next_turn(heads: Sequence[Head]) -> Turn:
    """`heads`: of every tenant that has something waiting, at least one. Of those that need the fewest rounds, the one
    that has waited longest."""
    first = min(heads, key=lambda head: (head.rounds, head.served_at, head.tenant))
    credit_s = first.rounds * QUANTUM_S
    return Turn(first, credit_s, max(0.0, first.deficit_s + credit_s - first.price_s))
