"""How single runs become figures: interleaving, medians, paired ratios, and verdicts against a bar. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

Figures = Mapping[str, float]  # what one run of one contestant measured, e.g. {"rate": …, "p99_ms": …}
Results = Mapping[str, Sequence[Figures]]  # contestant → its runs, in the order of the rounds


def rounds(contestants: Sequence[str], runs: int) -> Iterator[tuple[int, list[str]]]:
    """(round, order) for each round. The order turns by one each time, so nobody always follows the same neighbour."""
    for number in range(runs):
        turn = number % len(contestants)
        yield number, [*contestants[turn:], *contestants[:turn]]


def middle(results: Results, contestant: str, figure: str) -> float:
    """Median over the runs."""
    return median(run[figure] for run in results[contestant])


def spread(results: Results, contestant: str, figure: str) -> tuple[float, float]:
    """Lowest and highest run."""
    values = [run[figure] for run in results[contestant]]
    return min(values), max(values)


def ratio(results: Results, ours: str, theirs: str, figure: str = "rate", against: str = "") -> float:
    """Median of the ratios within each round: what slows the whole machine for a while cancels out. `against`: their
    figure, if it is another one."""
    pairs = zip(results[ours], results[theirs], strict=True)
    return median(mine[figure] / other[against or figure] for mine, other in pairs)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure held against its bar."""

    what: str
    value: float
    bar: float
    unit: str = ""
    at_least: bool = True  # False: `bar` is the most it may be

    @property
    def reached(self) -> bool:
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "reached": self.reached}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Verdict":
        return cls(data["what"], data["value"], data["bar"], data["unit"], data["at_least"])
