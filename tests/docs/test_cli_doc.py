"""docs/cli.md and the command line say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from cosygate.cli import app
from cosygate.settings import Settings

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text()
ROW = re.compile(r"^\| `(--[a-z-]+)` \| (?:`(COSYGATE_[A-Z_]+)`)? *\|", re.MULTILINE)


def sections() -> dict[str, str]:
    """Command → its part of the page."""
    parts = re.split(r"^## `cosygate ([a-z]+)[^\n]*`\n", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def options() -> dict[str, dict[str, str | None]]:
    """Command → option → the environment variable that stands for it."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    return {name: dict(_options(command)) for name, command in commands.items()}


def _options(command: Any) -> Iterator[tuple[str, str | None]]:
    """Those of a command, and of the commands in it: a group has one part of the page."""
    for parameter in command.params:
        long = [o for o in parameter.opts if o.startswith("--")]
        if long and not getattr(parameter, "hidden", False) and long[0] != "--help":
            variable = parameter.envvar or re.search(r"COSYGATE_[A-Z_]+", parameter.help or "")
            yield long[0], variable if isinstance(variable, str) or variable is None else variable[0]
    for below in getattr(command, "commands", {}).values():
        yield from _options(below)


def test_every_command_option_and_setting_is_in_the_page_and_no_other() -> None:
    page = {
        name: {option: variable or None for option, variable in ROW.findall(text)} for name, text in sections().items()
    }
    assert page == options()


def test_every_option_but_json_has_a_setting() -> None:
    missing = {(name, o) for name, known in options().items() for o, variable in known.items() if not variable}
    assert missing == {("doctor", "--json"), ("models", "--json")}


def test_settings_that_options_name_are_settings() -> None:
    names = {variable.removeprefix("COSYGATE_").lower() for variable in options()["serve"].values() if variable}
    assert names <= set(Settings.model_fields)
