"""The catalogue of models: what is in it, and which catalogues are refused at the door."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cosygate.catalogue.entries import ROLES, load
from cosygate.catalogue.fetching import mirrored
from cosygate.catalogue.unpacking import is_archive
from cosygate.engine.recognisers.sherpa.families import FAMILIES

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
ROLE_ORDER = ("encoder", "decoder", "joiner", "model", "paraformer", "segmentation", "embedding", "tokens")
GOOD = """
[small]
title = "Small"
family = "punctuation"
languages = ["en"]
capabilities = []
licence = "MIT"
home = "https://models.example/"
files.model = { path = "model.onnx" }
[[small.sources]]
url = "https://models.example/small.tar.gz"
"""


def test_the_catalogue_has_a_model_of_every_family_each_with_licence_and_address() -> None:
    entries = load()
    assert {entry.family for entry in entries.values()} == set(ROLES)
    for entry in entries.values():
        assert entry.languages and entry.licence and entry.title
        assert {urlsplit(source.url).hostname for source in entry.sources} == {"github.com"}
        assert any(is_archive(source.name) for source in entry.sources)


def test_the_engine_takes_the_same_roles_and_tells_what_the_catalogue_promises() -> None:
    """Of what one can ask for; a family may tell more, and less of one model than of another."""
    for family, engines in FAMILIES.items():
        assert {*engines.models, "tokens"} == ROLES[family]
    for entry in load().values():
        if entry.family in FAMILIES:
            asked = {"words", "emotion", "itn", "hotwords"}.intersection(entry.capabilities)
            assert asked <= set(FAMILIES[entry.family].capabilities), entry.name


def test_every_file_of_the_catalogue_has_a_digest_of_its_own_or_of_its_archive() -> None:
    """SenseVoice in fp32 has none of its archive, but those of its files."""
    blind = {
        (entry.name, file.path)
        for entry in load().values()
        for file in entry.files.values()
        if not file.sha256 and not all(source.sha256 for source in entry.sources)
    }
    assert blind == set()


def test_a_catalogue_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    (entry,) = load(path).values()
    assert entry.name == "small"
    assert entry.sources[0].name == "small.tar.gz"
    assert (entry.sources[0].bytes, entry.sources[0].sha256) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("https://models.example/small.tar.gz", "http://models.example/small.tar.gz", "https address"),
        ("https://models.example/small.tar.gz", "file:///etc/passwd", "https address"),
        ("https://models.example/small.tar.gz", "https://me:secret@models.example/small.tar.gz", "without password"),
        ("https://models.example/small.tar.gz", "https://models.example/small.rar", "neither an archive"),
        ("https://models.example/small.tar.gz", "https://models.example/sm all.tar.gz", "no spaces"),
        ('path = "model.onnx"', 'path = "../model.onnx"', "files.model.path"),
        ('path = "model.onnx"', 'path = "/etc/model.onnx"', "files.model.path"),
        ('path = "model.onnx"', 'path = ".bashrc"', "files.model.path"),
        ("files.model", "files.encoder", "files of a punctuation model are model"),
        ('family = "punctuation"', 'family = "magic"', "family"),
        ("capabilities = []", 'capabilities = ["mind-reading"]', "capabilities"),
        ("small", "Small", "name"),
        ('licence = "MIT"', "", "licence"),
        ('licence = "MIT"', 'licence = "MIT"\nlicense = "MIT"', "license"),
        ("url =", 'sha256 = "abc"\nurl =', "sha256"),
        ("url =", "bytes = -1\nurl =", "bytes"),
        ("[small]", "[small", "Expected"),
    ],
)
def test_a_wrong_catalogue_is_refused_and_says_where(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=r"mine\.toml") as caught:
        load(path)
    assert says in str(caught.value)


def test_the_page_names_every_model_with_its_licence_and_size() -> None:
    rows = {
        row[0]: row
        for row in re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \| [^|]+ \| [^|]+ \| ([^|]+) \|$", PAGE, re.M)
    }
    entries = load()
    assert set(rows) == set(entries)
    for name, fetches, licence in rows.values():
        assert all(part in licence for part in entries[name].licence.split(", "))
        size = sum(source.bytes for source in entries[name].sources)
        assert fetches == (f"{size / 1e6:.0f} MB" if size else "1 GB")


def test_the_catalogue_that_the_page_shows_is_one(tmp_path: Path) -> None:
    shown = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(shown) == 1
    (tmp_path / "mine.toml").write_text(shown[0])
    assert list(load(tmp_path / "mine.toml")) == ["call-centre-zh"]
    for family, roles in ROLES.items():
        assert f"{family} {', '.join(f'`{role}`' for role in ROLE_ORDER if role in roles)}" in PAGE.replace(",\n", ", ")


def test_a_mirror_stands_for_the_host_and_keeps_the_path() -> None:
    url = "https://github.com/a/b.tar.bz2"
    assert mirrored(url, "") == url
    assert mirrored(url, "https://mirror.example/gh/") == "https://mirror.example/gh/a/b.tar.bz2"
