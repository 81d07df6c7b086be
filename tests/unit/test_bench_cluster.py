"""What the cluster works make of what they saw: rates, gains, and promises of which none is lost by counting."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cluster import engines, outage, rate, reading, rolling
from bench.cluster.reading import Span
from bench.cluster.report import carried, text, with_carried
from bench.cluster.serving import Config, Told, told
from bench.contestants import REPOSITORY
from bench.load import BadRun
from bench.report import Outcome
from bench.stats import Verdict
from bench.wer import clips
from tests.unit.test_bench_report import CIRCUMSTANCES

QUICK = Config(1, True, Path("/nowhere"), REPOSITORY / "samples")


def upload(due: float, accepted: float | None = None, done: float | None = None, **more: Any) -> dict[str, Any]:
    seen = {"due": due, "late_s": 0.0, "failed": 0, "accepted": accepted, "done": done}
    return seen | ({} if done is None else {"equal": True}) | more


def speech(began: float, ended: float | None, **more: Any) -> dict[str, Any]:
    seen = {"began": began, "ended": ended, "begun": True, "cuts": 0, "gaps": 0, "longest_cut_s": 0.0}
    return seen | ({} if ended is None else {"equal": True}) | more


def found(**members: Any) -> dict[str, Any]:
    return {"requests": [], "uploads": [], "speeches": [], "retries": [], "missing": 0, "unknown": 0} | members


def test_the_rate_from_the_queue_leaves_start_and_end_out() -> None:
    """A hundred a second, but for a worker that began late and one that was the last to end."""
    times = [50.0] * 10 + [100 + k / 100 for k in range(80)] + [300.0] * 10
    assert rate.steady_rate([*times[::2], *times[1::2]]) == pytest.approx(100, rel=0.03)


def test_the_rate_end_to_end_is_from_the_first_sender_to_the_last() -> None:
    seen = [
        {"began": 10.0, "sent": 12.0, "ended": 14.0, "cpu": 0.5},
        {"began": 11.0, "sent": 15.0, "ended": 20.0, "cpu": 1.5},
    ]
    figures = rate._end_to_end(100, seen)
    assert figures == {"rate": 10.0, "accept_rate": 20.0, "senders_ms": 20.0}
    assert rate._end_to_end(100, seen, ended=30.0)["rate"] == 5.0


def test_cpu_is_of_each_part_for_each_recording() -> None:
    assert rate._each({"redis": 1.0}, {"redis": 3.0}, 100, "{}_ms") == {"redis_ms": 20.0}


def test_both_rows_are_held_against_both_of_celerys_rates_within_each_round() -> None:
    runs = {
        "celery": [{"rate": 200.0 / n, "queue_rate": 300.0 / n} for n in (1, 2, 4)],
        "plain": [{"rate": 400.0 / n, "queue_rate": 600.0 / n} for n in (1, 2, 4)],
        "folder": [{"rate": 120.0 / n, "queue_rate": 1.0} for n in (1, 2, 4)],
        "store": [{"rate": 60.0 / n, "queue_rate": 1.0} for n in (1, 2, 4)],
    }
    verdicts = rate.work(QUICK).verdicts(runs)
    wanted = [0.6, 0.4, 0.3, 0.2, 0.3, 0.2, 0.15, 0.1]
    assert [v.value for v in verdicts] == pytest.approx(wanted)
    assert [v.reached for v in verdicts] == [value >= 0.5 for value in wanted]
    assert {v.bar for v in verdicts} == {0.5} and len({v.what for v in verdicts}) == 8
    assert verdicts[1].what == "one host, against Celery's finished from the queue"
    assert verdicts[6].what == "object store, against Celery's without events end to end"


def test_what_a_core_carries_is_written_between_the_marks() -> None:
    row = {f"{part}_ms": 4.0 for part in rate.PARTS}
    runs = {"store": [row | {"gateways_ms": 8.0}, row | {"gateways_ms": 10.0}, row | {"gateways_ms": 20.0}]}
    outcome = Outcome.of(replace(rate.work(QUICK), verdicts=lambda _: []), runs, "", CIRCUMSTANCES)
    page = (REPOSITORY / "docs" / "scaling.md").read_text()
    written = with_carried(page, outcome)
    assert re.search(r"^\| gateways +\| +10.0 +\| +100 +\|$", written, re.MULTILINE), written
    assert "Not measured yet" not in written
    assert "moto" not in carried(outcome) and "engines" not in carried(outcome)
    head, tail = page.split("<!-- bench-cluster: begin -->")[0], page.split("<!-- bench-cluster: end -->")[1]
    assert written.startswith(head) and written.endswith(tail)
    assert with_carried(written, outcome) == written
    with pytest.raises(ValueError):
        with_carried("no marks", outcome)


def test_the_gain_of_an_engine_is_held_against_that_of_a_bare_process() -> None:
    runs = {
        "bare-1": [{"rate": 10.0}, {"rate": 20.0}],
        "bare-2": [{"rate": 18.0}, {"rate": 36.0}],
        "engines-1": [{"rate": 9.0}, {"rate": 9.0}],
        "engines-2": [{"rate": 16.2}, {"rate": 8.1}],
    }
    assert engines.gains(runs, "bare") == [pytest.approx(1.8), pytest.approx(1.8)]
    [verdict] = engines.work(QUICK).verdicts(runs)
    assert verdict.value == pytest.approx((1.0 + 0.5) / 2)
    assert not verdict.reached


def test_requests_count_where_they_began_however_long_they_took() -> None:
    requests = [[9.9, 5.0, ""], [10.0, 0.1, ""], [19.9, 7.0, "unreachable"], [20.0, 9.0, ""]]
    figures = reading.requests(found(requests=requests), Span(10.0, 20.0))
    assert figures == {"requests": 2, "p50_ms": 7000.0, "p99_ms": 7000.0}


def test_uploads_are_late_from_when_they_were_due() -> None:
    uploads = [upload(9.0, 10.5), upload(10.0, 10.25), upload(19.0, 24.0), upload(15.0)]
    figures = reading.accepted(found(uploads=uploads), Span(10.0, 20.0))
    assert figures == {"rate": 0.2, "p50_ms": 5000.0, "p99_ms": 5000.0}


def test_the_last_job_is_one_of_those_accepted_before() -> None:
    uploads = [upload(1.0, 1.1, 9.0), upload(2.0, 2.1, 5.0), upload(3.0, 7.0, 99.0), upload(4.0, 4.1)]
    assert reading.last_done(found(uploads=uploads), 6.0) == 9.0
    assert reading.last_done(found(), 6.0) == 0.0


def test_nothing_is_wrong_where_nothing_went_wrong() -> None:
    seen = found(uploads=[upload(1.0, 1.1, 2.0)], speeches=[speech(1.0, 9.0)])
    assert reading.promises(seen) == {"failed": 0, "lost": 0, "doubled": 0, "different": 0}


@pytest.mark.parametrize(
    ("seen", "broken"),
    [
        (found(uploads=[upload(1.0, error="busy", failed=1)]), {"failed": 1}),
        (found(uploads=[upload(1.0, 1.1, 5.0, error="busy", failed=2)]), {"failed": 2}),
        (found(uploads=[upload(1.0, 1.1)]), {"lost": 1}),
        (found(uploads=[upload(1.0, 1.1, 2.0, equal=False)]), {"different": 1}),
        (found(missing=1), {"lost": 1}),
        (found(unknown=2), {"doubled": 2}),
        (found(speeches=[speech(1.0, 9.0, equal=False)]), {"different": 1}),
        (found(speeches=[speech(1.0, None, error="lost")]), {"failed": 1}),
        (found(speeches=[speech(1.0, None)]), {"different": 1}),  # it never came to its end
        (found(speeches=[speech(1.0, None, begun=False, error="503")]), {}),  # counted by `speeches`, as refused
    ],
)
def test_what_goes_wrong_is_counted_once(seen: dict[str, Any], broken: dict[str, int]) -> None:
    assert reading.promises(seen) == {"failed": 0, "lost": 0, "doubled": 0, "different": 0} | broken


def test_sessions_are_those_that_were_open_meanwhile() -> None:
    seen = [
        speech(0.0, 9.0),  # over before
        speech(5.0, 15.0, cuts=2, longest_cut_s=3.5),
        speech(12.0, None),  # never came to its end
        speech(13.0, None, begun=False, error="503"),
        speech(20.0, 30.0),  # after it
    ]
    figures = reading.speeches(found(speeches=seen), Span(10.0, 20.0))
    assert figures == {"sessions": 2, "cut": 1, "longest_cut_s": 3.5, "refused": 1}


def test_the_first_failures_are_told() -> None:
    seen = found(
        requests=[[1.0, 1.0, ""], [1.0, 1.0, "unreachable"]], speeches=[speech(1.0, None, error="live_lost: x")]
    )
    assert reading.failures(seen) == ["request: unreachable", "live_lost: x"]


GOOD = {"failed": 0, "lost": 0, "doubled": 0, "different": 0}


@pytest.mark.parametrize(
    ("make", "key", "figures"),
    [
        (rolling.work, "rolling", {"calm_p99_ms": 10.0, "p99_ms": 30.0}),
        (outage.work, "redis", {"before_rate": 4.0, "rate": 3.8}),
    ],
)
def test_each_promise_has_a_bar_of_its_own(make: Callable[[Config], Any], key: str, figures: dict[str, float]) -> None:
    def missed(**changes: float) -> int:
        verdicts: list[Verdict] = make(QUICK).verdicts({key: [GOOD | figures | changes]})
        return sum(not verdict.reached for verdict in verdicts)

    assert missed() == 0
    for name in GOOD:
        assert missed(**{name: 1}) == 1
    assert missed(calm_p99_ms=9.9, rate=3.7) == 1


@pytest.mark.parametrize("make", [rate.work, engines.work, rolling.work, outage.work])
def test_a_work_says_how_it_is_measured(make: Callable[[Config], Any]) -> None:
    made = make(QUICK)
    assert "{" not in made.about
    assert made.contestants
    assert made.columns


def test_several_rounds_are_shown_with_their_spread() -> None:
    made = engines.work(QUICK)
    one = {key: [{"rate": 10.0 + k, "wer": 8.0}] for k, key in enumerate(made.contestants)}
    assert "lowest-highest" not in text(Outcome.of(made, one, "", CIRCUMSTANCES))
    two = {key: runs * 2 for key, runs in one.items()}
    assert "lowest-highest" in text(Outcome.of(made, two, "", CIRCUMSTANCES))


def test_of_the_samples_every_recording_counts() -> None:
    assert {clip.path.name for clip in clips(REPOSITORY / "samples")} == {"dialogue.wav", "note.wav"}


def child(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_child_that_ends_without_a_word_is_a_bad_run() -> None:
    with child("import sys; sys.exit(3)") as process, pytest.raises(BadRun, match=r"it ended \(3\)"):
        Told(process, "it").hear()


def test_a_child_is_told_and_heard_line_by_line() -> None:
    with child("print(input(), flush=True)") as process:
        it = Told(process, "it")
        it.say(at="go")
        assert it.hear() == {"at": "go"}


def test_children_do_not_outlive_their_run() -> None:
    with pytest.raises(ZeroDivisionError), told("tests.unit.test_bench_cluster", {"count": 1}) as [it]:
        process = it._process
        raise ZeroDivisionError
    assert process.returncode == -signal.SIGKILL


if __name__ == "__main__":  # a child that does not mind that nobody speaks to it any more
    print(json.dumps({"at": "ready", **json.loads(sys.stdin.readline())}), flush=True)
    time.sleep(60)
