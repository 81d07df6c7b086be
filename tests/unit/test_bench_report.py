"""What the benchmark writes: tables, the page, and results that survive being stored."""

from pathlib import Path

import pytest

from bench import plots
from bench.plan import Contestant, Work
from bench.report import Outcome, number, page, table, text
from bench.stats import Figures, Results, Verdict, ratio

CIRCUMSTANCES = {
    "at": "2026-01-02T03:04+00:00",
    "commit": "abc1234",
    "changed": False,
    "command": "python -m bench",
    "quick": False,
    "cpu": "Some CPU",
    "cores": 2,
    "memory_gib": 8,
    "kernel": "6.1",
    "python": "3.11.0",
    "file_system": "ext4",
}


def never(_: Path) -> Figures:
    raise AssertionError("nothing is run here")


def work(**changes: str) -> Work:
    def verdicts(results: Results) -> list[Verdict]:
        return [Verdict("against the other", ratio(results, "ours", "theirs"), 1.5, "×")]

    return Work(
        name="made_up",
        title="Made up",
        about="How it is\nmeasured.",
        contestants={"theirs": Contestant("the other", never), "ours": Contestant("CosyGate", never)},
        verdicts=verdicts,
        columns={"rate": "requests/s", "p99_ms": "p99 ms"},
        **changes,
    )


RESULTS = {
    "theirs": [{"rate": 1000.0, "p99_ms": 9.0}, {"rate": 1200.0, "p99_ms": 8.0}, {"rate": 900.0, "p99_ms": 7.0}],
    "ours": [{"rate": 1300.0, "p99_ms": 3.0}, {"rate": 1800.0, "p99_ms": 4.25}, {"rate": 1260.0, "p99_ms": 55.0}],
}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1,234"), (100, "100"), (12.34, "12.3"), (0.954, "0.95"), (-0.5, "-0.50"), (0, "0.00")],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_table_is_aligned() -> None:
    assert table(["", "n"], [["long", "1"], ["x", "1,000"]]) == (
        "|      | n     |\n|------|-------|\n| long | 1     |\n| x    | 1,000 |"
    )


def test_a_missed_bar_is_shown_as_missed() -> None:
    shown = text(Outcome.of(work(), RESULTS, "", CIRCUMSTANCES))
    assert "| against the other | 1.40 ×   | ≥ 1.50 × | **missed** |" in shown
    assert "| CosyGate  | 1,300      | 4.25   | 1,260-1,800    | 3    |" in shown


def test_a_skipped_and_a_failed_work_say_why_and_judge_nothing() -> None:
    skipped = Outcome.of(work(skipped="no speech folder"), {"ours": [], "theirs": []}, "", CIRCUMSTANCES)
    failed = Outcome.of(work(), {"ours": [], "theirs": RESULTS["theirs"]}, "it would not start", CIRCUMSTANCES)
    assert text(skipped) == "Not measured: no speech folder"
    assert text(failed) == "Not measured: it failed: it would not start"
    shown = page([skipped, failed])
    assert "reached" not in shown
    assert ".svg" not in shown


def test_figures_without_a_column_are_listed_where_wanted() -> None:
    results = {
        "theirs": [{"rate": 1.0, "p99_ms": 1.0, "engine (7)": 3.5}],
        "ours": [{"rate": 2.0, "p99_ms": 1.0, "gateway (8)": 4.5}],
    }
    assert "gateway (8)" not in text(Outcome.of(work(), results, "", CIRCUMSTANCES))
    shown = text(Outcome.of(work(listed="growth MiB"), results, "", CIRCUMSTANCES))
    assert "| CosyGate  | gateway (8) | 4.50       |" in shown


def test_stored_results_read_back_the_same_and_draw_the_same_plot(tmp_path: Path) -> None:
    outcome = Outcome.of(work(), RESULTS, "", CIRCUMSTANCES)
    outcome.write(tmp_path)
    again = Outcome.read(tmp_path / "made_up.json")
    assert again == outcome
    plots.draw(outcome, tmp_path / "a" / "made_up.svg")
    plots.draw(again, tmp_path / "b" / "made_up.svg")
    drawn = (tmp_path / "a" / "made_up.svg").read_bytes()
    assert drawn == (tmp_path / "b" / "made_up.svg").read_bytes()
    assert b"CosyGate" in drawn


def test_the_page_names_command_commit_and_machine() -> None:
    shown = page([Outcome.of(work(), RESULTS, "", CIRCUMSTANCES)])
    assert "How it is measured." in shown
    assert "![Made up](benchmarks/made_up.svg)" in shown
    assert "`python -m bench`, 2026-01-02T03:04+00:00, commit abc1234; 2 cores (Some CPU), 8 GiB" in shown
