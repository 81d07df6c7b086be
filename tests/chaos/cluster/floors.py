"""How much has to have worked, and to have been broken, for a run to say anything: where nothing was acknowledged, no
promise can be broken. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.chaos.cluster.faults import Fault

WHOLE_S = 300.0  # a run as long as that has every kind of fault that was planned; a shorter one has no time to be late
PART_MADE = 1 / 3  # of the planned faults: what comes back late on a busy machine has others skipped


def shortfalls(
    counts: Mapping[str, int], *, recordings: int, live: int, seconds: float, planned: Sequence[Fault] | None,
    made: Counter[str],
) -> list[str]:  # fmt: skip
    """What was not reached, in words. `counts`: the checker's. `planned`: None when there were to be no faults. `made`:
    how many faults of each kind of part."""
    told = [
        _least("recordings asked for", counts["recordings asked for"], recordings),
        _least("recordings to be kept, acknowledged", counts["recordings kept, acknowledged"],
               counts["recordings to be kept"]),
        _least("live sessions asked for", counts["live sessions asked for"], live),
        _least("live sessions done", counts["live sessions done"], live),
    ]  # fmt: skip
    if counts["given up by clients"]:
        told.append(f"{counts['given up by clients']} times a client gave up")
    if planned is not None:
        told.append(_least("faults", made.total(), max(1, round(len(planned) * PART_MADE))))
        missed = {fault.kind for fault in planned} - set(made)
        if seconds >= WHOLE_S and missed:
            told.append(f"nothing happened to: {', '.join(sorted(missed))}")
    return [each for each in told if each]


def _least(what: str, got: int, wanted: int) -> str:
    return f"{what}: {got} of {wanted}" if got < wanted else ""
