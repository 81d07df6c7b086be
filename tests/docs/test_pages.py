"""The hand-written pages name what there is: layers, functions, events, states, log lines, settings, the version."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import cosygate
from cosygate import settings
from cosygate.model import job
from cosygate.model.formats import Format
from cosygate.model.job import JobEvent, JobState
from cosygate.model.options import OPTION_NAMES
from cosygate.model.principal import Scope
from cosygate.model.upload import UploadState

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "cosygate"
LEVELS = {"debug", "info", "warning", "error", "exception"}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def trees() -> Iterator[ast.Module]:
    for path in SOURCE.rglob("*.py"):
        if "_pb2" not in path.name:
            yield ast.parse(path.read_text())


def test_the_layers_are_import_linters() -> None:
    told = re.search(r"^```layers\n(.*?)^```$", page("architecture.md"), re.DOTALL | re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert told and told[1].splitlines() == layers


@pytest.mark.parametrize(("name", "least"), [("architecture.md", 25), ("live.md", 10), ("engines.md", 1)])
def test_functions_that_the_diagrams_name_exist(name: str, least: int) -> None:
    methods: set[tuple[str, str]] = set()
    functions: set[str] = set()
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.add(node.name)
            if isinstance(node, ast.ClassDef):
                methods |= {
                    (node.name, n.name) for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
                }
    prose = re.sub(r"```python\n.*?```", "", page(name), flags=re.DOTALL)  # code calls what others have made
    named = re.findall(r"(?:\b([A-Z]\w+)\.)?\b(\w+)\(\)", prose)
    assert len(named) > least
    assert [(c, f) for c, f in named if ((c, f) not in methods if c else f not in functions)] == []


def logged() -> set[str]:
    """The action of every `log.info("noun.verb", …)` in the code, and both of one that is either."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                first = node.args[0] if node.args else None
                for told in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
                    if isinstance(told, ast.Constant) and re.fullmatch(r"[a-z]+\.[a-z_]+", str(told.value)):
                        found.add(str(told.value))
    return found


def test_every_log_line_is_in_its_page_and_no_other() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", page("log.md"), re.MULTILINE)
    told = {action for row in rows for action in re.findall(r"`([^`]+)`", row)}
    assert told == logged()


def test_the_api_page_names_every_event_state_option_format_and_scope() -> None:
    text = page("api.md")
    told = re.search(r"kind: str  # (.+)", inspect.getsource(JobEvent))
    assert told
    events = told[1].split(" | ")
    assert len(events) == 6
    story = text.split("### `GET /v1/task/{task_id}/events`")[1].split("\n### ")[0]
    rows = set(re.findall(r"^\| `([a-z_]+)` \|", story, re.MULTILINE))
    assert rows == set(events)
    wanted = [*JobState, *UploadState, *OPTION_NAMES, *Format, *Scope]
    assert [word for word in wanted if f"`{word}`" not in text] == []


def test_the_state_diagram_has_the_transitions_there_are() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): ", page("architecture.md"), re.MULTILINE)
    assert set(drawn) == {(old.value, new.value) for old, news in job.TRANSITIONS.items() for new in news}


def test_every_setting_that_a_page_names_is_one() -> None:
    options_of_commands = settings.OF_COMMANDS
    known = {name.upper() for name in settings.Settings.model_fields} | options_of_commands
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        named = set(re.findall(r"COSYGATE_([A-Z_]*[A-Z])", path.read_text()))
        assert named <= known, path.name


def test_defaults_that_the_api_page_tells_are_the_settings() -> None:
    told = re.findall(r"^\| .+ \| (.+) \| `COSYGATE_", page("api.md").split("## Limits")[1], re.MULTILINE)
    fresh = SimpleNamespace(**{name: field.default for name, field in settings.Settings.model_fields.items()})
    assert told == [
        f"{fresh.chunk_max_bytes >> 20} MiB",
        f"{fresh.recording_max_bytes >> 30} GiB, {fresh.recording_max_s / 3600:g} h of audio, "
        f"{fresh.recording_max_parts:,} parts",
        f"{fresh.open_uploads}",
        f"{fresh.upload_expiry_hours:g} h",
        f"{fresh.retention_hours / 24:g} days",
        f"{fresh.body_idle_s:g} s without a byte, {fresh.body_total_s:g} s in all",
        f"{fresh.store_max_bytes >> 30} GiB, and {fresh.store_min_free_bytes >> 20} MiB stay free on the file system",
    ]


def test_the_changelogs_first_version_is_the_packages() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == cosygate.__version__


def test_the_version_that_the_api_page_shows_is_the_packages() -> None:
    shown = re.findall(r'"version": "(\d+\.\d+\.\d+)"', page("api.md"))  # an engine's has its model's name in it
    assert shown == [cosygate.__version__] * 2


def test_every_decision_is_in_the_list() -> None:
    folder = ROOT / "docs" / "adr"
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert re.findall(r"\| \[\d+\]\(([^)]+)\)", (folder / "README.md").read_text()) == files
    for number, name in enumerate(files, start=1):
        text = (folder / name).read_text()
        assert name.startswith(f"{number:04}-") and text.startswith(f"# {number}. ")
        assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
