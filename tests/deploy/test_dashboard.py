"""Every query of the dashboard and of the rules, asked of a real Prometheus that scrapes a real server with traffic."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cosygate.client import Client
from tests.api.conftest import wav
from tests.deploy.test_rules import RECORDED, rules
from tests.docs.test_against_server import blocks
from tests.support.prometheus import HERE, Prometheus, installed
from tests.support.server import Server, wait_task

DASHBOARD = json.loads((HERE / "grafana" / "cosygate.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# What only trouble fills, and this test makes none of that kind.
QUIET = {"Alerts", "Failures by code"}
SETTLED_S = 30.0


def substituted(query: str) -> str:
    """As Grafana would: the job and all instances, over an interval that holds several scrapes."""
    for variable, value in (("$__rate_interval", "10s"), ("$job", "cosygate"), ("$instance", ".*")):
        query = query.replace(variable, value)
    assert not re.search(r"\$(?!\{\d\})", query), query
    return query


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With some seconds of everything that a server does."""
    data = tmp_path_factory.mktemp("data")
    with Server(data, recogniser="scripted", workers=2) as server:
        config = installed(tmp_path_factory.mktemp("prometheus"), server.url.removeprefix("http://"))
        with Prometheus(config) as running, server.http() as http:
            wait_for(running, "cv_build_info")
            for number in range(2):
                answer = http.put(f"/v1/audio/s{number}/0", content=wav(), params={"is_last": "1"})
                wait_task(http, answer.json()["task_id"])
                with Client(server.url, server.token()) as client, client.live(sample_rate=16_000) as live:
                    live.send(wav(2.0)[44:])
                assert live.text
                assert http.get("/v1/nothing").status_code == 404
                time.sleep(1.0)  # so that two scrapes see what the first round made, and rates what the second did
            wait_for(running, "job:cv_task_duration:p99_5m")
            wait_for(running, "job:cv_live_latency_seconds:p99_5m")
            yield running


def wait_for(prometheus: Prometheus, query: str) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not any(map(math.isfinite, prometheus.values(query))):
        assert time.monotonic() < deadline, f"{query} is empty; {prometheus.log()}"
        time.sleep(0.2)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panels_queries_find_what_there_is(prometheus: Prometheus, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        found = prometheus.values(substituted(target["expr"]))
        if panel["title"] not in QUIET:
            assert any(map(math.isfinite, found)), target["expr"]


@pytest.mark.needs("prometheus")
def test_the_rules_are_loaded_and_do_well(prometheus: Prometheus) -> None:
    groups = prometheus.get("rules")["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert len(loaded) == len(rules())
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}
    for rule in rules():
        prometheus.values(rule["expr"])
    assert [name for name in RECORDED if not prometheus.values(name)] == []
    firing = [rule["name"] for rule in loaded if rule.get("state") == "firing"]
    assert firing == []


@pytest.mark.needs("prometheus")
def test_the_runbooks_queries_are_understood(prometheus: Prometheus) -> None:
    page = (HERE.parents[1] / "docs" / "operations.md").read_text()
    queries = [line for block in blocks("promql", page) for line in block.splitlines()]
    assert len(queries) > 20
    for query in queries:
        prometheus.values(query)


@pytest.mark.needs("prometheus")
def test_variables_and_annotations(prometheus: Prometheus) -> None:
    assert prometheus.get("label/job/values", **{"match[]": "cv_build_info"}) == ["cosygate"]
    for annotation in DASHBOARD["annotations"]["list"]:
        prometheus.values(substituted(annotation["expr"]))


def test_the_dashboard_can_be_provisioned() -> None:
    """No id or data source of the machine that made it."""
    assert "id" not in DASHBOARD and DASHBOARD["uid"] == "cosygate"
    assert "__inputs" not in DASHBOARD
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables.keys() == {"datasource", "job", "instance"}
    assert variables["datasource"]["query"] == "prometheus"
    sources = [target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]]
    assert set(sources) == {"${datasource}"}
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Tasks", "Engines", "Live", "Limits", "Webhooks", "System"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(set(taken)) == len(taken)
