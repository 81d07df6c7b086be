"""The examples of docs/client.md run as they stand, in order, against a real server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cosygate.client
from tests.support.server import Server

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "client.md").read_text()


def test_every_example_runs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (tmp_path / "README.md").symlink_to(ROOT / "README.md")
    monkeypatch.chdir(tmp_path)
    names = {"token": server.token("reader")}
    told = []
    for example in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(example.replace("http://127.0.0.1:8000", server.url), "docs/client.md", "exec"), names)
        told.append(capsys.readouterr().out)
    text, events, live, error = told
    assert text == "The first words of the script.\n"
    assert "542444 of 542444 bytes" in events
    assert "0.0 The first words of the script." in events
    assert live == "The first words of the script.\n"
    assert "-->" in (tmp_path / "dialogue.srt").read_text()
    assert error.startswith("media_unsupported 415 ")


def test_every_public_name_is_in_the_page() -> None:
    assert [name for name in cosygate.client.__all__ if not re.search(rf"\b{name}", PAGE)] == ["Failure", "Word"]
    calls = {n for n in vars(cosygate.client.Client) if not n.startswith("_")} - {"close"}
    assert [name for name in calls if f"client.{name}(" not in PAGE] == []
