"""How many calls may be repeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate.kit.retry_budget import EARNED_MAX, RESERVE, RetryBudget


def taken(budget: RetryBudget, now: float, most: int = 1000) -> int:
    return sum(budget.take(now) is not None for _ in range(most))


def test_a_quiet_server_may_repeat_a_few_and_then_one_a_second() -> None:
    budget = RetryBudget(0.0)
    assert taken(budget, 0.0) == RESERVE
    assert taken(budget, 0.5) == 0
    assert taken(budget, 3.0) == 3
    assert taken(budget, 1000.0) == RESERVE


@pytest.mark.parametrize("gateways", [1, 2, 4, 8, 64])
def test_the_reserve_is_the_whole_servers(gateways: int) -> None:
    budgets = [RetryBudget(0.0, sharers=gateways) for _ in range(gateways)]
    at_once = sum(taken(budget, 0.0, 20) for budget in budgets)
    assert at_once == gateways * max(1, RESERVE // gateways), "each may hold one: or it could never repeat at all"
    later = sum(taken(budget, float(second), 3) for second in range(1, 641) for budget in budgets)
    assert later == 640


def test_what_calls_earn_is_not_shared() -> None:
    budget = RetryBudget(0.0, sharers=4)
    taken(budget, 0.0)
    for _ in range(100):
        budget.called()
    assert taken(budget, 0.0) in (9, 10)


def test_ten_calls_earn_one_and_not_without_end() -> None:
    budget = RetryBudget(0.0)
    taken(budget, 0.0)
    for _ in range(99):
        budget.called()
    assert taken(budget, 0.0) == 9
    for _ in range(100_000):
        budget.called()
    assert taken(budget, 0.0) == EARNED_MAX


def test_what_was_not_made_is_not_counted() -> None:
    budget = RetryBudget(0.0)
    for _ in range(50):
        purse = budget.take(0.0)
        assert purse is not None
        budget.give_back(purse)


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 5), st.integers(0, 5)), max_size=100))
def test_repeats_are_never_more_than_a_tenth_and_the_reserve(steps: list[tuple[float, int, int]]) -> None:
    budget, now, calls, repeats = RetryBudget(0.0), 0.0, 0, 0
    for pause, first, again in steps:
        now += pause
        for _ in range(first):
            budget.called()
        calls += first
        repeats += taken(budget, now, again)
        assert repeats <= calls / 10 + RESERVE + now + 1e-6


def test_what_is_given_back_goes_where_it_came_from() -> None:
    """While no engine is there nobody makes a first call, and what the reserve lends must not pile up as earned."""
    budget = RetryBudget(0.0)
    for second in range(100):
        for _ in range(3):
            purse = budget.take(float(second))
            assert purse is not None
            budget.give_back(purse)
    assert taken(budget, 100.0) == RESERVE
