"""More and more users, and then between the last row that a design sustained and the first that it did not: the same
method for everybody. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.stats import Figures


@dataclass(frozen=True, slots=True)
class Climb:
    first: int = 4  # users: the mix is three to one
    times: int = 2
    most: int = 1024
    halvings: int = 2


def climb(how: Climb, run: Callable[[int], Figures], good: Callable[[Figures], bool]) -> dict[int, Figures]:
    """The rows by users, in rising order. A row that is not good is run once more, and then that run is the row; its
    figure `runs` tells."""
    rows: dict[int, Figures] = {}

    def sustains(users: int) -> bool:
        found = {**run(users), "runs": 1}
        if not good(found):
            found = {**run(users), "runs": 2}
        rows[users] = found
        return good(found)

    below, users = 0, how.first
    while users <= how.most and sustains(users):
        below, users = users, users * how.times
    if users <= how.most:  # it failed there
        for _ in range(how.halvings):
            between = (below + users) // 2
            if between == below:
                break
            if sustains(between):
                below = between
            else:
                users = between
    return dict(sorted(rows.items()))
