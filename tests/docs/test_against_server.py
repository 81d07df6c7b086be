"""The README and docs/api.md are true of a real server: the tour by curl and the Python run as they stand, and the API
page has the endpoints, fields and answers that the server describes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.server import Server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str) -> list[str]:
    """The fenced blocks in a language; "" are those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [body for kind, body in found if kind == language]


def here(server: Server, script: str) -> str:
    """The demo's address and data folder become this server's."""
    for theirs, ours in (("http://127.0.0.1:8000", server.url), (".demo/data", str(server.data_dir))):
        assert theirs in script
        script = script.replace(theirs, ours)
    return script


@pytest.mark.needs("curl", "bash")
def test_the_tour_runs_and_its_answers_are_as_shown(server: Server) -> None:
    tour = README.split("## A tour by curl")[1].split("\n## ")[0]
    script = "set -eu -o pipefail\n" + "".join(blocks("sh", tour))
    scripts = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["bash", "-c", here(server, script).replace("$PWD/.venv/bin", scripts)],
        cwd=ROOT,
        env={**os.environ, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    shown = [json.loads(line) for block in blocks("json", tour) for line in block.splitlines()]
    assert len(shown) == 3
    assert [answer.keys() for answer in answers[:3]] == [answer.keys() for answer in shown]
    assert answers[0] == shown[0] and answers[1] == shown[1]
    told = done.stdout
    wanted = ["event: segment", "event: done", '"state":"succeeded"', "-->", "WEBVTT", "start\tend", "RIFF", "\n204\n"]
    places = [told.find(piece) for piece in wanted]
    assert -1 not in places and places == sorted(places), dict(zip(wanted, places, strict=True))


def test_the_python_runs(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    live, upload = blocks("python", README)
    for example in (upload, live):
        names = {"token": server.token("reader")}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # a file that an example leaves to the collector
            exec(compile(example.replace("http://127.0.0.1:8000", server.url), "README.md", "exec"), names)
        assert capsys.readouterr().out == "The first words of the script.\n"


@pytest.mark.needs("bash")
def test_live_from_the_shell_runs(server: Server) -> None:
    (script,) = blocks("sh", README.split("## Speech as it is spoken")[1].split("\n## ")[0])
    script = f"set -eu\nexport PATH={Path(sys.executable).parent}:$PATH URL={server.url}\n" + script
    done = subprocess.run(
        ["bash", "-c", script.replace(".demo/data", str(server.data_dir))],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "The first words of the script.\n"), done.stderr


def test_the_api_page_has_every_endpoint_with_its_fields(server: Server) -> None:
    described = httpx2.get(f"{server.url}/openapi.json").json()
    page = (ROOT / "docs" / "api.md").read_text()
    endpoints = [f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item]
    assert sorted(re.findall(r"^### `([A-Z]+ /[^`]*)`$", page, re.MULTILINE)) == sorted(endpoints)
    names = {p["name"] for item in described["paths"].values() for o in item.values() for p in o.get("parameters", [])}
    for schema in described["components"]["schemas"].values():
        names |= schema.get("properties", {}).keys()
    names |= {name for p in described["paths"].values() for o in p.values() for name in form_fields(o)}
    known_elsewhere = {"type", "title", "status", "detail", "trace_id", "retry_after"}  # a problem's: errors.md
    assert [n for n in sorted(names - known_elsewhere) if not re.search(rf"[`\"{{?&/]{n}\b", page)] == []


def form_fields(operation: dict[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {})
    return list(content.get("multipart/form-data", {}).get("schema", {}).get("properties", {}))


def test_the_layout_is_the_one_there_is() -> None:
    (layout,) = [block for block in blocks("", README) if block.startswith("src/cosygate/")]
    named = {line.split()[0].strip("/") for line in layout.splitlines()[1:] if line.startswith("  ")}
    there = {p.name for p in (ROOT / "src" / "cosygate").iterdir() if not p.name.startswith(("_", "py.typed"))}
    assert there - named == {"doctor"}
    assert named <= there


def test_the_commands_are_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([\w-]+)", README)) - {"to"}
    assert {"demo", "test", "check", "bench", "bench-live", "setup"} <= named <= targets
