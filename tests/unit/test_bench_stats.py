"""Interleaving, medians, paired ratios and verdicts of the benchmark."""

import pytest

from bench.stats import Verdict, middle, ratio, rounds, spread


def test_every_round_has_everybody_and_another_one_first() -> None:
    orders = [order for _, order in rounds(["a", "b", "c"], 4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_middle_and_spread_ignore_the_order_of_runs() -> None:
    results = {"a": [{"rate": 30.0}, {"rate": 10.0}, {"rate": 20.0}]}
    assert middle(results, "a", "rate") == 20
    assert spread(results, "a", "rate") == (10, 30)


def test_a_ratio_pairs_the_rounds() -> None:
    """The machine was half as fast in the second round and a tenth in the third; ours stayed 1.5 times theirs."""
    theirs = [{"rate": 1000.0}, {"rate": 500.0}, {"rate": 100.0}]
    ours = [{"rate": run["rate"] * 1.5} for run in theirs]
    assert ratio({"us": ours, "them": theirs}, "us", "them") == pytest.approx(1.5)
    # One round in which only ours was disturbed does not decide.
    ours[1] = {"rate": 10.0}
    assert ratio({"us": ours, "them": theirs}, "us", "them") == pytest.approx(1.5)


def test_a_ratio_refuses_rounds_without_a_partner() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio({"us": [{"rate": 1.0}], "them": []}, "us", "them")


@pytest.mark.parametrize(
    ("value", "at_least", "reached"),
    [(1.0, True, True), (0.999, True, False), (1.0, False, True), (1.001, False, False), (float("nan"), True, False)],
)
def test_a_bar_is_reached_at_its_value_and_missed_beyond(value: float, at_least: bool, reached: bool) -> None:
    verdict = Verdict("x", value, 1.0, "×", at_least)
    assert verdict.reached is reached
    assert Verdict.from_json(verdict.to_json()).reached is reached
