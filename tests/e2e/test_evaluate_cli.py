"""`cosygate evaluate` against real servers: one that runs, and the one that it brings itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.media import tone_wav
from tests.support.server import Server

SAMPLES = Path(__file__).parent.parent.parent / "samples"
RECORDINGS = Path(__file__).parents[3] / "shared" / "audio"  # real ones, where there are any
SCRIPT = {
    "segment_s": 2.0,
    "capabilities": ["words", "speakers"],
    "texts": [
        {"text": "Twenty-five cats.", "speaker": "S1",
         "words": [{"text": "Twenty-five", "start": 0.5, "end": 1.0}, {"text": "cats.", "start": 1.0, "end": 1.5}]},
        {"text": "And dogs?", "speaker": "S2",
         "words": [{"text": "And", "start": 0.3, "end": 1.0}, {"text": "dogs?", "start": 1.0, "end": 1.5}]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("data")
    script = folder / "script.json"
    script.write_text(json.dumps(SCRIPT))
    with Server(folder, recogniser="scripted", script=script) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two seconds and four; the longer one has two speakers, one after the other."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "short.wav").write_bytes(tone_wav(2.0))
    (folder / "short.txt").write_text("25 cats")
    (folder / "long.wav").write_bytes(tone_wav(4.0))
    (folder / "long.txt").write_text("twenty five hats and dogs")
    (folder / "long.rttm").write_text("SPEAKER long 1 0 2 <NA> <NA> ann\nSPEAKER long 1 2 2 <NA> <NA> bob\n")
    (folder / "long.words.tsv").write_text("word\tstart\tend\ncats\t0.9\t1.5\nand\t2.0\t3.0\ndogs\t3.0\t3.5\n")
    return folder


def evaluate(*arguments: str | Path, **settings: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    answer = subprocess.run(
        [sys.executable, "-m", "cosygate", "evaluate", *map(str, arguments)],
        env=clean | {f"COSYGATE_{k.upper()}": v for k, v in settings.items()},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return answer.returncode, answer.stdout, answer.stderr


def told(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Summaries and recordings."""
    everything = json.loads(path.read_text())
    return everything["summaries"], everything["recordings"]


def test_words_speakers_and_times_on_a_server(server: Server, folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    given = ["--server", server.url, "--token", server.token("measure")]
    status, table, err = evaluate(
        folder, *given, "--words", "--diarize", "--num-speakers", "from-reference", "--json", out, "--html", page
    )
    assert (status, err) == (0, "")
    [summary], recordings = told(out)
    assert [r["file"] for r in recordings] == ["long.wav", "short.wav"]
    assert [r["words"]["substituted"] for r in recordings] == [1, 0]
    assert summary["wer"]["value"] == pytest.approx(1 / 8)  # each digit is a word
    assert summary["der"]["value"] == 0.0
    assert summary["start_median_s"] == pytest.approx(0.1)  # of 0.1, 0.3 and 0
    assert (summary["model"], summary["failed"], summary["words_matched"]) == ("scripted", 0, 3)
    assert summary["rtf"] > 0 and summary["latency_median_s"] > 0
    assert [r["flagged"] for r in recordings] == [False, False]
    assert "12.5" in table and "scripted" in table
    assert page.read_text().startswith("<!doctype html>")


def test_it_leaves_nothing_on_the_server_and_touches_nothing_there(server: Server, folder: Path) -> None:
    """The same recording, transcribed before by the same caller, keeps its task, and is recognised anew."""
    given = ["--server", server.url, "--token", server.token("tidy")]
    command = [sys.executable, "-m", "cosygate", "transcribe", folder / "short.wav", *given]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    before = server.log().count('"task.started"')
    assert [evaluate(folder, *given, "--only", "short*")[0] for _ in range(2)] == [0, 0]
    assert server.log().count('"task.started"') == before + 2
    with server.http("tidy") as http:
        assert [task["file"] for task in http.get("/v1/tasks").json()["tasks"]] == ["short.wav"]


def test_a_recording_that_fails_counts_whole_and_is_told(server: Server, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.flac").write_bytes(b"fLaC" + bytes(range(256)) * 8)
    (folder / "bad.txt").write_text("nobody hears this")
    out = tmp_path / "out.json"
    given = ["--server", server.url, "--token", server.token("bad"), "--json", out]
    status, table, err = evaluate(folder, *given)
    assert status == 1
    assert err.startswith("cosygate: bad.flac: media_") and err.count("\n") == 1
    [summary], recordings = told(out)
    assert (summary["recordings"], summary["failed"]) == (3, 1)
    assert recordings[0]["words"] == {"of": 3, "substituted": 0, "deleted": 3, "inserted": 0}
    assert "36.4" in table  # 4 of 11


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--num-speakers", "2"], "--num-speakers needs --diarize"),
        (["--diarize", "--num-speakers", "some"], "auto, from-reference or a number"),
        (["--diarize", "--num-speakers", "99"], "option_invalid: num_speakers"),
        (["--model", "no-such-model"], "option_unsupported: no engine here has this model"),
        (["--only", "x*"], "nothing to evaluate"),
        (["--json", "/no/such/folder/x.json"], "--json: there is no folder"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(server: Server, folder: Path, arguments: list[str], says: str) -> None:
    status, out, err = evaluate(folder, "--server", server.url, "--token", server.token("wrong"), *arguments)
    assert (status, out) == (2, "")
    assert says in err and "Traceback" not in err


def test_a_server_that_lets_nobody_in_ends_it(server: Server, folder: Path) -> None:
    status, out, err = evaluate(folder, "--server", server.url, "--token", "nonsense")
    assert (status, out) == (1, "") and "token_invalid" in err
    assert evaluate(folder, "--server", server.url)[0] == 2


def test_real_speech_with_a_server_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "speech"
    folder.mkdir()
    shutil.copy(SAMPLES / "note.wav", folder)
    shutil.copy(SAMPLES / "references.tsv", folder / "manifest.tsv")
    rows = (folder / "manifest.tsv").read_text().splitlines()
    (folder / "manifest.tsv").write_text("\n".join(row for row in rows if not row.startswith("dialogue")))
    status, table, err = evaluate(folder, data_dir=str(data_dir), json=str(tmp_path / "out.json"))
    assert (status, err) == (0, "")
    [summary], _ = told(tmp_path / "out.json")
    assert summary["wer"]["value"] <= 0.2 and summary["wer"]["low"] is None
    assert "moonshine" in table
    assert not any(b"lunch" in path.read_bytes() for path in data_dir.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the real recordings are not here")
def test_the_embedded_model_makes_few_errors(data_dir: Path, tmp_path: Path) -> None:
    """The 22 English clips: at most 9 % of their words."""
    rows = (RECORDINGS / "manifest.tsv").read_text().splitlines()
    cells = [row.split("\t") for row in rows]
    column = {name: n for n, name in enumerate(cells[0])}
    (tmp_path / "manifest.tsv").write_text(
        "\n".join(
            "\t".join([str(RECORDINGS / row[0]) if n else row[0], *row[1:]])
            for n, row in enumerate(cells)
            if n == 0 or (row[column["language"]] == "en" and row[column["reference"]][:1] not in ("", "["))
        )
    )
    status, _, err = evaluate(tmp_path, data_dir=str(data_dir), json=str(tmp_path / "out.json"))
    assert (status, err) == (0, "")
    [summary], recordings = told(tmp_path / "out.json")
    assert sum(1 for recording in recordings if recording["words"]) == 22
    assert summary["wer"]["value"] <= 0.09
