"""Links lead somewhere, files that are named exist, and the tree keeps its own rules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "cosygate"
LONGEST = 300  # lines
_MADE = ("__pycache__", "build", "dist", "out")  # not committed
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Registries by host, and paths that are one machine's or one person's. Written so that this file does not match itself.
_PRIVATE = re.compile(
    r"py" + r"pi\.org|python" + r"hosted\.org|registry\.npm" + r"js|(?<![\w.])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me)/"
)


def committed() -> Iterator[Path]:
    """The files of the repository, without asking git (a checkout may be somebody else's, or none): what tools leave
    behind lies in folders that .gitignore names, too."""
    for folder, folders, files in os.walk(ROOT):
        kept = (f for f in folders if f == ".ci" or not (f.startswith(".") or f.endswith(".egg-info") or f in _MADE))
        folders[:] = sorted(f for f in kept if not (Path(folder) / f / "pyvenv.cfg").exists())
        yield from (Path(folder) / file for file in sorted(files) if not file.endswith(".log"))


PAGES = [path for path in committed() if path.suffix == ".md"]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    dead = []
    for link in _LINK.findall(prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page: Path) -> None:
    """`flows/ingest.py` in prose is a file of the repository, of the package, or beside the page."""
    named = re.findall(r"`([\w./-]+\.(?:py|sh|proto|js|toml))`", page.read_text())
    names = [str(path.relative_to(ROOT)) for path in committed()]
    assert [n for n in named if not any(name == n or name.endswith("/" + n) for name in names)] == []


def test_every_package_folder_has_an_init() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    assert [f for f in sorted(folders) if not (f / "__init__.py").exists()] == []


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in SOURCE.rglob("*")
        if path.suffix in (".py", ".js", ".css", ".html") and "_pb2" not in path.name
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = {}
    for path in committed():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if match := _PRIVATE.search(text):
            found[str(path.relative_to(ROOT))] = match[0]
    assert found == {}
