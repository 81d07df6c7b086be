"""When a circuit breaker opens, and how it closes: the value itself, on a clock of numbers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosygate.kit.breaker import PROBE_S, Breaker, Phase

OPEN_S = 60.0


def played(calls: list[tuple[float, bool]], breaker: Breaker | None = None) -> tuple[Breaker, float | None]:
    """After calls that ended (when, well?), and when it opened."""
    breaker = breaker or Breaker()
    for now, well in calls:
        step = breaker.succeeded if well else breaker.failed
        breaker = step(now, open_s=OPEN_S)
        if breaker.open_until is not None:
            return breaker, now
    return breaker, None


def steady(rate: float, every: int, seconds: float, start: float = 1000.0) -> list[tuple[float, bool]]:
    """`rate` calls a second, of which each `every`-th fails."""
    return [(start + n / rate, n % every != 0) for n in range(1, int(rate * seconds) + 1)]


@pytest.mark.parametrize("rate", [4, 7.3, 20, 100])
def test_one_in_sixteen_for_thirty_seconds_opens_it(rate: float) -> None:
    _, opened = played(steady(rate, 16, 30))
    assert opened is not None
    assert 1020 <= opened <= 1030  # not before each slice has its failure


@pytest.mark.parametrize("rate", [2, 20, 40, 100])
def test_one_in_twenty_never_does(rate: float) -> None:
    assert played(steady(rate, 20, 300))[1] is None


def test_a_burst_is_not_a_state() -> None:
    burst = [(1005 + n / 10, n % 5 != 0) for n in range(1, 80)]  # a fifth fails, for eight seconds
    quiet = [(1013 + n / 10, True) for n in range(1, 300)]
    assert played(burst + quiet)[1] is None
    two = [*burst, *((1018 + n / 10, n % 5 != 0) for n in range(1, 20))]  # in two slices of three
    assert played(two)[1] is None


def test_few_calls_tell_nothing() -> None:
    calls = [(1000 + 1.6 * n, n % 4 != 0) for n in range(1, 60)]  # 19 in the window at most, a quarter of them failed
    assert played(calls)[1] is None
    assert played([(1000 + 1.5 * n, n % 4 != 0) for n in range(1, 30)])[1] is not None  # 20


def test_five_in_a_row_open_it_however_far_apart() -> None:
    four = [(1000 + 3600.0 * n, False) for n in range(4)]
    assert played(four)[1] is None
    assert played([*four, (20_000, True), (20_001, False)])[1] is None
    assert played([*four, (20_000, False)])[1] == 20_000


def opened(at: float = 1000.0) -> Breaker:
    breaker, when = played([(at, False)] * 5)
    assert when == at
    return breaker


def test_an_open_one_takes_a_probe_when_its_time_is_over_and_one_only() -> None:
    breaker = opened()
    assert (breaker.phase(1059.9), breaker.callable(1059.9)) == (Phase.OPEN, False)
    assert breaker.wait_s(1020.0) == 40.0
    assert breaker.probing(1059.9, "a") == breaker
    assert (breaker.phase(1060.0), breaker.callable(1060.0)) == (Phase.HALF_OPEN, True)
    probed = breaker.probing(1060.0, "a")
    assert (probed.probe, probed.callable(1060.0), probed.phase(1060.0)) == ("a", False, Phase.HALF_OPEN)
    assert probed.probing(1061.0, "b") == probed
    assert probed.released("b") == probed
    assert probed.released("a").probing(1061.0, "b").probe == "b"


def test_a_probe_that_goes_well_closes_it_and_clears_what_was() -> None:
    calls = [*steady(10, 10, 15), *[(1016.0, False)] * 5]
    breaker, _ = played(calls)
    closed = breaker.probing(1090.0, "a").succeeded(1090.5, "a", open_s=OPEN_S)
    assert closed == Breaker()
    assert played([(1091.0, False)] * 4, closed)[1] is None


def test_a_probe_that_fails_opens_it_again() -> None:
    again = opened().probing(1070.0, "a").failed(1075.0, "a", open_s=55.0)
    assert (again.phase(1129.9), again.phase(1130.0)) == (Phase.OPEN, Phase.HALF_OPEN)
    assert again.probe == ""
    dead = opened().probing(1070.0, "a").gone(1075.0, "a", heard_at=900.0, open_s=55.0)
    assert dead.wait_s(1075.0) == 55.0


def test_calls_from_before_it_opened_change_nothing() -> None:
    for breaker in (opened(), opened().probing(1070.0, "a")):
        for step in (breaker.succeeded, breaker.failed):
            assert step(1071.0, open_s=OPEN_S) == breaker
            assert step(1071.0, "z", open_s=OPEN_S) == breaker  # a probe that was forgotten


def test_a_probe_whose_process_died_is_forgotten() -> None:
    probed = opened().probing(1060.0, "a")
    assert not probed.callable(1060.0 + PROBE_S - 0.1)
    assert probed.callable(1060.0 + PROBE_S)
    assert probed.probing(1060.0 + PROBE_S, "b").probe == "b"


def test_a_probe_of_which_something_is_heard_is_not_forgotten() -> None:
    """An engine whose first words take minutes: it tells its progress meanwhile."""
    probed = opened().probing(1060.0, "a")
    for second in range(1, 600):
        now = 1060.0 + second
        probed = probed.heard(now, "a")
        assert probed.probing(now + PROBE_S - 5, "b").probe == "a"
    assert probed.succeeded(1700.0, "a", open_s=OPEN_S) == Breaker()
    silent = probed.probing(1659.0 + PROBE_S, "b")
    assert silent.probe == "b", "and then nothing more was heard"


def test_what_is_heard_of_a_probe_need_not_be_told_each_time() -> None:
    breaker, told = opened().probing(1060.0, "a"), 0
    for n in range(600):  # for a minute
        after = breaker.heard(1060.0 + n / 10, "a")
        told, breaker = told + (after is not breaker), after
    assert 20 <= told <= 30


def test_nothing_is_heard_of_a_probe_that_is_over() -> None:
    taken = opened().probing(1060.0, "a").probing(1060.0 + PROBE_S, "b")
    for breaker in (Breaker(), opened(), taken, taken.released("b")):
        assert breaker.heard(1150.0, "a") is breaker
        assert breaker.heard(1150.0, "") is breaker


def test_a_forgotten_probe_counts_until_another_takes_its_place() -> None:
    late = 1060.0 + 5 * PROBE_S
    forgotten = opened().probing(1060.0, "a")
    assert forgotten.succeeded(late, "a", open_s=OPEN_S) == Breaker()
    assert forgotten.failed(late, "a", open_s=OPEN_S).wait_s(late) == OPEN_S
    assert forgotten.heard(late, "a").probing(late, "b").probe == "a", "nor is it forgotten when it is heard of again"
    taken = forgotten.probing(late, "b")
    assert taken.succeeded(late, "a", open_s=OPEN_S) == taken


def test_one_death_is_one_failure_however_many_calls_it_ends() -> None:
    breaker = Breaker()
    for _ in range(64):
        breaker = breaker.gone(1000.0, heard_at=999.0, open_s=OPEN_S)
    assert (breaker.streak, breaker.phase(1000.0)) == (1, Phase.CLOSED)
    for death in range(1, 5):  # it comes back, and dies again, and again
        assert breaker.phase(1000.0) is Phase.CLOSED
        for _ in range(64):
            breaker = breaker.gone(1000.0 + death, heard_at=999.5 + death, open_s=OPEN_S)
    assert breaker.phase(1004.0) is Phase.OPEN


def test_a_death_by_a_recording_known_for_it_is_nobodys_failure() -> None:
    """Whoever notices first: the call that ended the engine, or one beside it."""
    breaker = Breaker()
    for death in range(20):
        now = 1000.0 + 10 * death
        if death % 2:
            breaker = breaker.gone(now, heard_at=now - 0.5, open_s=OPEN_S)
            assert breaker.streak == 1
            breaker = breaker.excused(now + 0.1)
        else:
            breaker = breaker.excused(now)
            breaker = breaker.gone(now + 0.1, heard_at=now - 0.5, open_s=OPEN_S)
        assert (breaker.streak, breaker.phase(now)) == (0, Phase.CLOSED)


def test_an_excuse_is_for_its_own_death_alone() -> None:
    breaker = Breaker()
    for death in range(3):
        breaker = breaker.gone(1000.0 + 2 * death, heard_at=999.5 + 2 * death, open_s=OPEN_S)
    assert breaker.excused(1010.0).streak == 3, "they died of something else"
    breaker = breaker.excused(1004.5)
    assert breaker.streak == 2
    assert breaker.gone(1020.0, heard_at=1019.0, open_s=OPEN_S).streak == 3, "and the next one counts again"


def test_what_is_kept_is_bounded_and_survives_being_written() -> None:
    breaker, when = played(steady(50, 1000, 200))
    assert when is None
    text = json.dumps(breaker.to_json())
    assert len(text) < 4000
    assert Breaker.from_json(json.loads(text)) == breaker
    probed = opened().probing(1060.0, "a")
    assert Breaker.from_json(json.loads(json.dumps(probed.to_json()))) == probed


@dataclass
class Model:
    """The rule as its docstring says it, from all calls there ever were."""

    calls: list[tuple[float, bool]] = field(default_factory=list)

    def opens(self, now: float, well: bool) -> bool:
        self.calls.append((now, well))
        latest = math.floor(max(at for at, _ in self.calls) * 4)
        ages = [(latest - math.floor(at * 4), well) for at, well in self.calls]
        failed = [age for age, well in ages if not well and age < 120]
        good = [age for age, well in ages if well]
        slices = {age // 40 for age in failed}
        enough = len(failed) + sum(age < 120 for age in good) >= 20
        too_many = len(failed) / (len(failed) + sum(age <= 120 for age in good) or 1) > 0.05
        in_a_row = 0
        for _, last in reversed(self.calls):
            if last:
                break
            in_a_row += 1
        return in_a_row >= 5 or (enough and too_many and slices == {0, 1, 2})

    def strictly(self) -> bool:
        """By the second, without rounding."""
        now = self.calls[-1][0]
        inside = [well for at, well in self.calls if now - 30 <= at <= now]
        return len(inside) >= 20 and inside.count(False) * 20 > len(inside)


pauses = st.one_of(st.floats(0, 0.3), st.floats(0, 3), st.sampled_from([0.0, 0.25, 0.5, 1.0, 9.75, 10.0, 30.0]))
fates = st.one_of(st.integers(0, 15).map(bool), st.booleans())  # mostly well, or half and half


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(pauses, fates), max_size=120))
def test_it_opens_when_a_model_that_forgets_nothing_says_so(steps: list[tuple[float, bool]]) -> None:
    breaker, model, now = Breaker(), Model(), 1000.0
    for pause, well in steps:
        now += pause
        opens = model.opens(now, well)
        breaker = (breaker.succeeded if well else breaker.failed)(now, open_s=OPEN_S)
        assert (breaker.open_until is not None) == opens
        if opens:
            in_a_row = not any(well for _, well in model.calls[-5:]) and len(model.calls) >= 5
            assert in_a_row or model.strictly()  # rounding opens nothing
            return
