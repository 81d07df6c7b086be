"""docs/scaling.md: the model's values are what its formulas give; its design inputs are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosygate.client.api import CHUNK_BYTES
from cosygate.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "scaling.md").read_text()
INPUTS = {
    name: (float(value), kind)
    for name, value, kind in re.findall(r"^\| `(\w)` \| ([\d.]+) \| (\w+) \|", PAGE, re.MULTILINE)
}
LINES = re.findall(r"^\| ([^|`]+) \| `([^`]+)` \| ([\d.,]+) \|$", PAGE, re.MULTILINE)


def names(formula: str) -> Iterator[str]:
    return (node.id for node in ast.walk(ast.parse(formula)) if isinstance(node, ast.Name))


def test_every_input_is_told_where_it_is_from_and_is_used() -> None:
    assert {kind for _, kind in INPUTS.values()} == {"wanted", "assumed", "design", "measured"}
    used = {name for _, formula, _ in LINES for name in names(formula)}
    assert used == set(INPUTS)


@pytest.mark.parametrize(("what", "formula", "shown"), LINES, ids=[formula for _, formula, _ in LINES])
def test_a_value_is_what_its_formula_gives(what: str, formula: str, shown: str) -> None:
    values = {name: value for name, (value, _) in INPUTS.items()}
    told = float(shown.replace(",", ""))
    assert told == pytest.approx(eval(formula, {"__builtins__": {}}, values), rel=0.005), what


def test_there_are_enough() -> None:
    assert len(LINES) >= 25


def test_design_inputs_are_the_codes() -> None:
    value = {name: told for name, (told, _) in INPUTS.items()}
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert value["C"] == CHUNK_BYTES
    assert value["D"] == defaults["retention_hours"] / 24
    assert value["W"] == defaults["live_window_s"]
    assert value["P"] == 262_144 / 16_000 and "262,144 samples" in (DOCS / "live.md").read_text()
    for setting, told in (("queue_max_s", "360,000"), ("live_sessions", "1,000"), ("store_max_bytes", "50 GiB")):
        number = float(told.split()[0].replace(",", "")) * (1024**3 if "GiB" in told else 1)
        assert defaults[setting] == number and told in PAGE


def test_the_part_that_bench_cluster_writes_is_marked() -> None:
    assert len(re.findall(r"^<!-- bench-cluster: (begin|end) -->$", PAGE, re.MULTILINE)) == 2
