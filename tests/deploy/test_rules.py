"""Prometheus' configuration and rules: promtool finds them right, every alert is shown to fire and not to fire, and
each has its place in the runbook."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cosygate.kit import metrics
from cosygate.settings import Settings
from tests.support.prometheus import HERE, installed

ROOT = HERE.parents[1]
TESTS = sorted((HERE / "rules" / "tests").glob("*.yml"))


def rules() -> list[dict[str, Any]]:
    files = (HERE / "rules").glob("*.yml")
    return [rule for path in files for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def promtool(*args: str) -> None:
    done = subprocess.run(["promtool", *args], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_the_configuration_and_its_rules_are_right(tmp_path: Path) -> None:
    config = installed(tmp_path)
    (tmp_path / "targets" / "remote.yml").write_text((HERE / "targets" / "remote.yml.example").read_text())
    promtool("check", "config", str(config))  # follows rule_files, and reads the token's file and the targets
    promtool("check", "rules", "--lint-fatal", *map(str, (HERE / "rules").glob("*.yml")))


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.split(".")[0])
def test_alerts_fire_when_they_should(path: Path) -> None:
    promtool("test", "rules", str(path))


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_not() -> None:
    fires, quiet = set(), set()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                (fires if check["exp_alerts"] else quiet).add(check["alertname"])
    assert fires == quiet == set(ALERTS)


def test_every_alert_says_what_and_where_to_read_on() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^### (CosyGate\w+)$", page, re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}", name
        section = page.split(f"### {name}\n")[1].split("\n### ")[0].split("\n## ")[0]
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            assert part in section, (name, part)


def test_the_disk_counts_as_full_when_the_largest_chunk_finds_no_room() -> None:
    told = re.fullmatch(r"cv_store_free_bytes < (\d+) \* (\d+) \* (\d+)", ALERTS["CosyGateDiskFull"]["expr"])
    assert told
    assert math.prod(map(int, told.groups())) == Settings.model_fields["chunk_max_bytes"].default


def test_what_queries_name_is_there() -> None:
    """Rules, dashboard and runbook: no metric that is not, and no recorded one that nobody records."""
    known = {name + part for name in metrics.NAMES for part in ("", "_bucket", "_sum", "_count")}
    files = [
        *(HERE / "rules").glob("*.yml"),
        *TESTS,
        HERE / "grafana" / "cosygate.json",
        ROOT / "docs" / "operations.md",
    ]
    for path in files:
        text = path.read_text()
        assert set(re.findall(r"(?<![\w:])cv_\w+", text)) <= known, path.name
        assert set(re.findall(r"\b(?:job|job_route|instance):cv_\w+:\w+", text)) <= RECORDED, path.name
