"""`cosygate models` as a process: what it prints where, its exit statuses, interruption, mirrors and copies."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosygate.catalogue.shelf import Shelf
from tests.support.model_host import Behaviour, ModelHost, catalogue, digest, noise, tarred

MODEL = noise(2_000_000)
ARCHIVE = tarred({"m/model.onnx": MODEL, "m/tokens.txt": b"a 0\n"})


class Cli:
    def __init__(self, host: ModelHost, folder: Path) -> None:
        self.host, self.folder, self.models = host, folder, folder / "models"
        host.files["/k2/m.tar.bz2"] = ARCHIVE
        known = {"url": "https://models.example/k2/m.tar.bz2", "bytes": len(ARCHIVE), "sha256": digest(ARCHIVE)}
        blind = {"url": "https://models.example/k2/m.tar.bz2"}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")} | {
            "COSYGATE_MODELS_DIR": str(self.models),
            "COSYGATE_MODELS_CATALOGUE": str(catalogue(folder / "mine.toml", {"m": known, "blind": blind})),
            "COSYGATE_MODELS_MIRROR": host.url,
        }

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cosygate", "models", *arguments],
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Status, stdout, stderr."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err, err
        return process.returncode, out, err


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Cli]:
    with ModelHost().serving() as host:
        yield Cli(host, tmp_path)


def test_from_pull_to_remove(models: Cli) -> None:
    folder = str(models.models / "m")
    assert models("path", "m")[0] == 1
    status, out, err = models("pull", "m")
    assert (status, out) == (0, f"{folder}\n")
    assert f"m: fetching {models.host.url}/k2/m.tar.bz2\n" in err and "warning" not in err and "\x1b" not in err
    assert models("path", "m") == (0, f"{folder}\n", "")
    assert models("verify") == (0, "m: whole\n", "")
    assert models("pull", "m")[:2] == (0, f"{folder}\n")
    assert len(models.host.asked) == 1
    assert models("remove", "m") == (0, "", "")
    assert models("verify", "m")[0] == 1
    assert models("remove", "m") == (1, "", "cosygate: not here: m\n")


def test_list_tells_what_is_here_as_table_and_as_json(models: Cli) -> None:
    models("pull", "m")
    (models.models / "gone").mkdir()
    status, out, _ = models("list")
    states = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:]}
    assert status == 0 and states == {"m": "here", "blind": "-", "gone": "damaged"}
    told = {entry["name"]: entry for entry in json.loads(models("list", "--json")[1])}
    assert told["m"]["state"] == "here"
    assert told["m"]["sources"][0]["sha256"] == digest(ARCHIVE)


def test_the_catalogue_of_cosygate_is_listed_without_any_setting(tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    command = [sys.executable, "-m", "cosygate", "models", "list", "--data-dir", str(tmp_path / "data")]
    out = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "sense-voice-small-int8" in out and "163.0 MB" in out
    assert list(tmp_path.iterdir()) == []


def test_verify_says_what_is_damaged(models: Cli) -> None:
    models("pull", "m")
    (models.models / "m" / "tokens.txt").write_bytes(b"b 0\n")
    status, out, err = models("verify")
    assert (status, out) == (1, "")
    assert err.startswith("m: tokens.txt is damaged")


def test_without_a_digest_it_warns_on_stderr(models: Cli) -> None:
    status, out, err = models("pull", "blind")
    assert (status, out) == (0, f"{models.models / 'blind'}\n")
    assert f"warning: blind: nobody vouches for model.onnx; its SHA-256 is {digest(MODEL)}\n" in err


def test_what_went_wrong_is_a_sentence(models: Cli) -> None:
    models.host.files["/k2/m.tar.bz2"] = ARCHIVE[:-1] + b"!"
    status, out, err = models("pull", "m")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("cosygate: m.tar.bz2 is not what the catalogue knows")
    models.host.files.clear()
    assert (
        models("pull", "m")[2].splitlines()[-1] == f"cosygate: {models.host.url}/k2/m.tar.bz2: the server answered 404"
    )


@pytest.mark.parametrize(
    ("arguments", "setting", "says"),
    [
        (["pull", "who"], {}, "the catalogue has no who"),
        (["pull", "m", "--from", "/not/there"], {}, "there is no /not/there"),
        (["pull", "m"], {"COSYGATE_MODELS_MIRROR": "ftp://mirror.example"}, "COSYGATE_MODELS_MIRROR: "),
        (["pull", "m"], {"COSYGATE_MODELS_MIRROR": "http://mirror.example"}, "COSYGATE_MODELS_MIRROR: "),
        (["list"], {"COSYGATE_MODELS_CATALOGUE": "/not/there"}, "/not/there: No such file"),
        (["list"], {"COSYGATE_MODELS_CATALOGUE": __file__}, "test_models_cli.py: "),
        (["pull"], {}, "Missing argument"),
    ],
)
def test_a_wrong_command_is_status_2(models: Cli, arguments: list[str], setting: dict[str, str], says: str) -> None:
    status, out, err = models(*arguments, **setting)
    assert (status, out) == (2, "")
    assert says in err
    assert models.host.asked == []


def test_a_folder_that_cannot_be_written_is_told(models: Cli) -> None:
    (models.folder / "file").write_text("")
    status, _, err = models("pull", "m", COSYGATE_MODELS_DIR=str(models.folder / "file" / "models"))
    assert status == 1 and err.splitlines()[-1].startswith("cosygate: ")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_continues_where_it_stopped(models: Cli, how: signal.Signals) -> None:
    models.host.script = [Behaviour(cut=1_000_000), *[Behaviour(cut=0)] * 50]
    process = models.start("pull", "m")
    part = Shelf(models.models).beside("m", "part") / "m.tar.bz2"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size == 1_000_000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (130 if how is signal.SIGINT else -9)
    assert "Traceback" not in err
    models.host.script.clear()
    models.host.asked.clear()
    assert models("pull", "m")[0] == 0
    assert [request.range for request in models.host.asked] == ["bytes=1000000-"]
    assert models("verify")[0] == 0


def test_two_at_once_fetch_once(models: Cli) -> None:
    models.host.hold.clear()
    both = [models.start("pull", "m") for _ in range(2)]
    deadline = time.monotonic() + 30
    while not (models.models / ".m.part").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    models.host.hold.set()
    ends = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert {out for out, _ in ends} == {f"{models.models / 'm'}\n"}
    assert len(models.host.asked) == 1


def test_a_copy_needs_no_network(models: Cli) -> None:
    (models.folder / "m.tar.bz2").write_bytes(ARCHIVE)
    assert models("pull", "m", "--from", str(models.folder))[0] == 0
    assert models.host.asked == []


def test_on_a_terminal_it_shows_a_bar_and_stdout_stays_clean(models: Cli) -> None:
    """The folder is printed on stdout, whatever is shown on the terminal: `--model-dir $(cosygate models pull m)`."""
    outside, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cosygate", "models", "pull", "m"],
        env=models.environment | {"TERM": "xterm", "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=inside,
    )
    os.close(inside)
    shown = b""
    while True:
        try:
            piece = os.read(outside, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(outside)
    assert process.communicate(timeout=60)[0].decode() == f"{models.models / 'm'}\n"
    assert process.returncode == 0
    assert b"m.tar.bz2" in shown and b"\x1b[" in shown and b"MB" in shown
