"""The generated pages are what their script writes, and they name everything there is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from cosygate import errors
from cosygate.api import problems
from cosygate.kit import metrics
from cosygate.settings import Settings

ROOT = Path(__file__).parents[2]


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "scripts" / "write_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = load_script()


@pytest.mark.parametrize("path", SCRIPT.pages(), ids=lambda path: path.name)
def test_the_page_is_what_the_script_writes(path: Path) -> None:
    assert path.read_text() == SCRIPT.pages()[path], "run scripts/write_reference.py"


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_every_setting_is_there() -> None:
    found = [name for name in Settings.model_fields if f"| `COSYGATE_{name.upper()}` |" in page("settings.md")]
    assert found == list(Settings.model_fields)


def test_every_error_has_one_row_and_advice() -> None:
    assert problems.MethodNotAllowed in errors.all_errors()
    codes = sorted(error.code for error in errors.all_errors())
    assert len(set(codes)) == len(codes)
    assert sorted(SCRIPT.ADVICE) == codes
    for error in errors.all_errors():
        row = f"| `{error.code}` | {error.status} | {error.close_code} |"
        assert page("errors.md").count(row) == 1, error.code


def test_every_metric_is_there() -> None:
    rows = [name for name in metrics.NAMES if f"| `{name}` |" in page("metrics.md")]
    assert rows == list(metrics.NAMES)
    listed, labels = page("metrics.md").split("## Labels")
    assert listed.count("| `cv_") == len(metrics.NAMES)
    for row in re.findall(r"^\| `(cv_\w+)` \| \w+ \| (`.*`) \|", listed, re.MULTILINE):
        for label in row[1].split(", "):
            assert f"| {label} | `{row[0]}` | " in labels
