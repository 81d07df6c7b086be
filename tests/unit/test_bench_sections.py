"""The page of benchmarks has several writers: none of them loses what another wrote."""

import pytest

from bench.report import Outcome
from bench.sections import CLUSTER, LIVE, LOAD, ORDER, OVERLOAD, others, section, with_section
from tests.unit.test_bench_report import CIRCUMSTANCES, RESULTS, work

FIRST = "# Benchmarks\n\n## One chunk\n\nfirst\n"


def page(*headings: str) -> str:
    return FIRST + "".join(f"\n{heading}\n\n### A work\n\nold\n" for heading in headings)


@pytest.mark.parametrize("heading", ORDER)
def test_a_section_replaces_its_own_and_keeps_all_others(heading: str) -> None:
    new = with_section(page(*ORDER), heading, f"{heading}\n\nnew\n")
    assert new == page(*ORDER).replace(f"{heading}\n\n### A work\n\nold\n", f"{heading}\n\nnew\n")
    assert with_section(new, heading, f"{heading}\n\nnew\n") == new


@pytest.mark.parametrize(
    ("there", "heading", "order"),
    [
        ((LOAD, OVERLOAD, LIVE), CLUSTER, [LOAD, OVERLOAD, CLUSTER, LIVE]),
        ((LIVE,), LOAD, [LOAD, LIVE]),
        ((LOAD,), LIVE, [LOAD, LIVE]),
        ((), OVERLOAD, [OVERLOAD]),
    ],
)
def test_a_new_section_stands_where_it_belongs(there: tuple[str, ...], heading: str, order: list[str]) -> None:
    new = with_section(page(*there), heading, f"{heading}\n\nnew\n")
    assert [line for line in new.splitlines() if line in ORDER] == order
    assert new.startswith(FIRST)
    assert new.count("old") == len(there)


def test_who_writes_the_beginning_keeps_every_section() -> None:
    assert others(page(LOAD, OVERLOAD, LIVE)) == page(LOAD, OVERLOAD, LIVE).removeprefix(FIRST)
    assert others(FIRST) == ""


def test_a_section_shows_each_work_and_pictures_only_what_was_measured() -> None:
    good = Outcome.of(work(), RESULTS, "", CIRCUMSTANCES)
    failed = Outcome.of(work(), RESULTS, "it would not start", CIRCUMSTANCES)
    shown = section(
        CLUSTER, "Do not edit.", [good, failed], lambda outcome: outcome.failed or "table", lambda _: "p.svg"
    )
    assert shown.startswith(
        "## Cluster\n\nDo not edit.\n\n### Made up\n\nHow it is measured.\n\n![Made up](benchmarks/p.svg)"
    )
    assert shown.count("p.svg") == 1
    assert shown.count("commit abc1234") == 2
    assert "it would not start" in shown
