"""From an entry to a model's folder: checked, recorded, in place at once or not at all, alone or not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosygate.catalogue import ModelError
from cosygate.catalogue.entries import Entry, load
from cosygate.catalogue.fetching import Patience
from cosygate.catalogue.pulling import Pull
from cosygate.catalogue.shelf import RECORD, Shelf
from cosygate.engine.folders.folder import ModelFolder
from tests.support.model_host import Behaviour, ModelHost, catalogue, digest, noise, tarred, zipped

MODEL = noise(500_000)
TOKENS = b"<s> 0\na 1\n"
ARCHIVE = tarred({"m/model.onnx": MODEL, "m/tokens.txt": TOKENS, "m/LICENSE": b"MIT", "m/test_wavs/0.wav": b"RIFF"})


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)

    def fetching(self, file: str, done: int, total: int) -> None:
        pass


class Town:
    """A server, a shelf, and one model."""

    def __init__(self, host: ModelHost, folder: Path) -> None:
        self.host, self.shelf, self.folder = host, Shelf(folder / "models"), folder
        self.heard = Heard()
        host.files["/r/m.tar.bz2"] = ARCHIVE

    def entry(self, **facts: Any) -> Entry:
        told = {"url": f"{self.host.url}/r/m.tar.bz2", "bytes": len(ARCHIVE), "sha256": digest(ARCHIVE)} | facts
        return load(catalogue(self.folder / "mine.toml", {"m": told}))["m"]

    def pull(self, copy: Path | None = None, **facts: Any) -> Path:
        patience = Patience(tries=2, idle_s=5.0, wait=lambda _: None)
        return Pull(self.shelf, self.heard, copy=copy, patience=patience)(self.entry(**facts))

    def left(self) -> list[str]:
        """What lies on the shelf, beside the locks."""
        return sorted(p.name for p in self.shelf.folder.iterdir() if not p.name.endswith(".lock"))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with ModelHost().serving() as host:
        yield Town(host, tmp_path)


def test_what_an_engine_reads(town: Town) -> None:
    folder = town.pull()
    assert folder == town.shelf.place("m")
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != RECORD} == {
        "model.onnx": MODEL,
        "tokens.txt": TOKENS,
        "LICENSE": b"MIT",
    }
    record = json.loads((folder / RECORD).read_text())
    assert {k: record[k] for k in ("name", "family", "languages", "capabilities", "files", "settings")} == {
        "name": "m",
        "family": "sense_voice",
        "languages": ["zh", "en"],
        "capabilities": ["words"],
        "files": {"model": "model.onnx", "tokens": "tokens.txt"},
        "settings": {},
    }
    assert record["sources"] == [
        {"url": f"{town.host.url}/r/m.tar.bz2", "bytes": len(ARCHIVE), "sha256": digest(ARCHIVE), "verified": True}
    ]
    assert record["contents"]["model.onnx"] == {"bytes": len(MODEL), "sha256": digest(MODEL)}
    assert town.heard.warned == []
    assert town.left() == ["m"]


def test_the_engine_reads_what_pull_wrote(town: Town) -> None:
    folder = town.pull()
    read = ModelFolder.read(folder)
    assert (read.name, read.family, read.languages, read.capabilities) == ("m", "sense_voice", ("zh", "en"), ("words",))
    assert read.files == {"model": folder / "model.onnx", "tokens": folder / "tokens.txt"}


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(town: Town) -> None:
    folder = town.pull()
    town.pull()
    assert len(town.host.asked) == 1
    (folder / "tokens.txt").write_bytes(TOKENS[::-1])
    assert town.shelf.faults("m", thorough=False) == []
    town.pull()
    assert len(town.host.asked) == 2
    assert (folder / "tokens.txt").read_bytes() == TOKENS


def test_what_the_catalogue_takes_from_elsewhere_by_now_is_fetched_again(town: Town) -> None:
    town.pull()
    town.host.files["/r/m2.tar.bz2"] = ARCHIVE
    town.pull(url=f"{town.host.url}/r/m2.tar.bz2")
    assert town.host.asked[-1].path == "/r/m2.tar.bz2"


def test_a_digest_that_the_catalogue_learns_later_counts(town: Town) -> None:
    """For what is here already, too: it vouches for it, or has it fetched anew."""
    folder = town.pull(bytes=0, sha256="")
    town.pull(sha256=digest(ARCHIVE), file=digest(MODEL))
    assert len(town.host.asked) == 1
    assert json.loads((folder / RECORD).read_text())["sources"][0]["verified"] is True
    for wrong in ({"sha256": digest(b"another")}, {"file": digest(b"another")}):
        with pytest.raises(ModelError, match="is not what the catalogue knows"):
            town.pull(bytes=0, **{"sha256": ""} | wrong)
        assert any("not what the catalogue knows by now" in line for line in town.heard.warned)
        town.heard.warned.clear()
    assert len(town.host.asked) == 3
    assert town.shelf.faults("m") == [], "what is here stays"


def test_what_the_catalogue_says_by_now_of_what_is_here_is_recorded_without_fetching(town: Town) -> None:
    folder = town.pull()
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != RECORD}
    town.pull(capabilities='["words", "emotion"]', settings="{ threshold = 0.7 }")
    assert len(town.host.asked) == 1
    record = json.loads((folder / RECORD).read_text())
    assert (record["capabilities"], record["settings"]) == (["words", "emotion"], {"threshold": 0.7})
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != RECORD} == before
    assert town.shelf.faults("m") == [] and town.left() == ["m"]
    record["settings"]["mine"] = 1
    (folder / RECORD).write_text(json.dumps(record))
    town.pull(settings="{ threshold = 0.6 }")
    assert json.loads((folder / RECORD).read_text())["settings"] == {"threshold": 0.6, "mine": 1}


def test_without_digests_it_warns_and_records_what_it_saw(town: Town) -> None:
    folder = town.pull(bytes=0, sha256="")
    assert [line for line in town.heard.warned if digest(MODEL) in line and "model.onnx" in line]
    (source,) = json.loads((folder / RECORD).read_text())["sources"]
    assert (source["sha256"], source["verified"]) == (digest(ARCHIVE), False)


def test_a_files_own_digest_vouches_for_it(town: Town) -> None:
    town.pull(sha256="", file=digest(MODEL))
    assert [line for line in town.heard.warned if "model.onnx" in line] == []
    town.shelf.remove("m", lambda: None)
    with pytest.raises(ModelError, match=r"model\.onnx is not what the catalogue knows"):
        town.pull(sha256="", file=digest(b"another"))
    assert town.left() == []


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        (ARCHIVE[:-1] + b"!", "is not what the catalogue knows"),
        (ARCHIVE[:-100_000], "catalogue says"),
        (ARCHIVE + b"!", "catalogue says"),
    ],
)
def test_a_wrong_file_leaves_nothing_and_is_fetched_anew(town: Town, archive: bytes, says: str) -> None:
    town.host.files["/r/m.tar.bz2"] = archive
    with pytest.raises(ModelError, match=says):
        town.pull()
    assert [name for name in town.left() if name != ".m.part"] == []
    town.host.files["/r/m.tar.bz2"] = ARCHIVE
    assert (town.pull() / "model.onnx").read_bytes() == MODEL


@pytest.mark.parametrize(
    "archive", [ARCHIVE[:-100_000], b"<html>", tarred({"m/tokens.txt": TOKENS}), tarred({"../model.onnx": MODEL})]
)
def test_an_archive_that_cannot_be_used_is_not_kept(town: Town, archive: bytes) -> None:
    """Without size and digest nothing tells before it is unpacked."""
    town.host.files["/r/m.tar.bz2"] = archive
    with pytest.raises(ModelError):
        town.pull(bytes=0, sha256="")
    assert town.left() == []
    assert not (town.folder / "model.onnx").exists()
    town.host.files["/r/m.tar.bz2"] = ARCHIVE
    town.pull(bytes=0, sha256="")


def test_a_new_pull_that_fails_leaves_the_model_that_is_there(town: Town) -> None:
    folder = town.pull()
    town.host.files["/r/new.tar.bz2"] = b"<html>"
    with pytest.raises(ModelError):
        town.pull(url=f"{town.host.url}/r/new.tar.bz2", bytes=0, sha256="")
    assert town.shelf.faults("m") == []
    assert (folder / "model.onnx").read_bytes() == MODEL


def test_what_a_killed_pull_left_is_used_or_swept(town: Town) -> None:
    with pytest.raises(ModelError, match="are kept"):
        town.host.script = [Behaviour(cut=200_000), Behaviour(cut=0), Behaviour(cut=0)]
        town.pull()
    assert town.left() == [".m.part"]
    (town.shelf.folder / ".m.new").mkdir()
    (town.shelf.folder / ".m.new" / "model.onnx").write_bytes(b"half")
    town.pull()
    assert town.host.asked[-1].range == "bytes=200000-"
    assert town.left() == ["m"]


def test_a_second_pull_waits_for_the_first_and_finds_it_there(town: Town) -> None:
    """Both fetch once, and the model is never in place before it is whole."""
    town.host.hold.clear()
    threads = [threading.Thread(target=town.pull, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(1_000):
        if any("waiting" in line for line in town.heard.said):
            break
        threading.Event().wait(0.02)
    assert not town.shelf.place("m").exists()
    town.host.hold.set()
    for thread in threads:
        thread.join(20)
    assert len(town.host.asked) == 1
    assert sum("waiting" in line for line in town.heard.said) == 1
    assert town.shelf.faults("m") == []


@pytest.mark.parametrize("shape", ["file", "renamed", "folder", "loose", "loose below"])
def test_a_copy_stands_for_the_network(town: Town, shape: str) -> None:
    usb = town.folder / "usb"
    loose = usb / "m" if shape == "loose below" else usb
    loose.mkdir(parents=True)
    if shape.startswith("loose"):
        (loose / "model.onnx").write_bytes(MODEL)
        (loose / "tokens.txt").write_bytes(TOKENS)
        (loose / "secrets.txt").write_bytes(b"not of the model")
    else:
        (usb / ("copy" if shape == "renamed" else "m.tar.bz2")).write_bytes(ARCHIVE)
    copy = {"file": usb / "m.tar.bz2", "renamed": usb / "copy"}.get(shape, usb)
    folder = town.pull(copy, file=digest(MODEL))
    assert (folder / "model.onnx").read_bytes() == MODEL
    assert not (folder / "secrets.txt").exists()
    assert town.host.asked == []
    assert town.shelf.faults("m") == []
    assert [line for line in town.heard.warned if "model.onnx" in line] == []
    assert bool(town.heard.warned) == shape.startswith("loose")  # tokens.txt has no digest
    assert list(usb.iterdir()) != []


def test_a_copy_that_is_another_is_refused_and_kept(town: Town) -> None:
    copy = town.folder / "m.tar.bz2"
    copy.write_bytes(ARCHIVE[:-1])
    with pytest.raises(ModelError, match="is not what the catalogue knows"):
        town.pull(copy)
    assert copy.exists()
    copy.unlink()
    with pytest.raises(ModelError, match=r"is not a copy of m: that is m\.tar\.bz2"):
        town.pull(town.folder)
    assert town.left() == []


def test_zip_and_gz_too(town: Town) -> None:
    files = {"model.onnx": MODEL, "tokens.txt": TOKENS}
    town.host.files |= {"/r/m.zip": zipped(files), "/r/m.tar.gz": tarred(files, suffix=".tar.gz")}
    for name in ("m.zip", "m.tar.gz"):
        folder = town.pull(url=f"{town.host.url}/r/{name}", bytes=0, sha256="")
        assert (folder / "model.onnx").read_bytes() == MODEL


TWO = """
[who]
title = "Who spoke"
family = "diarization"
languages = ["mul"]
capabilities = ["speakers"]
licence = "MIT"
home = "https://models.example/"
files.segmentation = {{ path = "model.onnx" }}
files.embedding = {{ path = "voice.onnx" }}
[[who.sources]]
url = "{host}/r/s.tar.bz2"
[[who.sources]]
url = "{host}/r/voice.onnx"
sha256 = "{digest}"
"""


def test_a_model_of_two_sources_one_of_them_the_file_itself(town: Town) -> None:
    voice = noise(200_000, seed=2)
    town.host.files |= {"/r/s.tar.bz2": tarred({"s/model.onnx": MODEL}), "/r/voice.onnx": voice}
    path = town.folder / "two.toml"
    path.write_text(TWO.format(host=town.host.url, digest=digest(voice)))
    folder = Pull(town.shelf, town.heard)(load(path)["who"])
    assert ((folder / "model.onnx").read_bytes(), (folder / "voice.onnx").read_bytes()) == (MODEL, voice)
    (town.folder / "voice.onnx").write_bytes(voice)
    town.shelf.remove("who", lambda: None)
    with pytest.raises(ModelError, match=r"that is s\.tar\.bz2 and voice\.onnx, or the files in them"):
        Pull(town.shelf, town.heard, copy=town.folder)(load(path)["who"])
    with pytest.raises(ModelError, match="is not a copy of who"):
        Pull(town.shelf, town.heard, copy=town.folder / "voice.onnx")(load(path)["who"])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing"),
        (lambda folder: (folder / "model.onnx").write_bytes(MODEL[:-1]), "model.onnx has 499,999 bytes, not 500,000"),
        (lambda folder: (folder / "model.onnx").write_bytes(MODEL[:-1] + b"!"), "model.onnx is damaged"),
        (lambda folder: (folder / "LICENSE").unlink(), "LICENSE is missing"),
        (lambda folder: (folder / RECORD).unlink(), f"{RECORD} is missing or damaged"),
        (lambda folder: (folder / RECORD).write_text("{}"), f"{RECORD} is missing or damaged"),
        (lambda folder: folder.rename(folder.parent / "elsewhere"), "m is not here"),
    ],
)
def test_what_is_damaged_or_missing_is_told(town: Town, harm: Any, says: str) -> None:
    folder = town.pull()
    assert town.shelf.faults("m") == []
    harm(folder)
    (fault,) = town.shelf.faults("m")
    assert says in fault


@pytest.mark.parametrize("name", ["..", "../m", "/etc", "", ".m.part", "M"])
def test_names_that_are_none_touch_nothing(town: Town, name: str) -> None:
    town.pull()
    with pytest.raises(ModelError, match="not a model's name"):
        town.shelf.remove(name, lambda: None)
    assert town.left() == ["m"]


def test_remove_takes_what_is_unfinished_too(town: Town) -> None:
    with pytest.raises(ModelError):
        town.host.script = [Behaviour(cut=200_000), Behaviour(cut=0), Behaviour(cut=0)]
        town.pull()
    assert town.shelf.remove("m", lambda: None)
    assert town.left() == []
    assert not town.shelf.remove("m", lambda: None)
