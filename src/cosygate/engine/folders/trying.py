"""Loads a folder's model in a process of its own first: sherpa-onnx ends the process, without an exception, on whatever
it cannot use."""

from __future__ import annotations

import os
import subprocess
import sys

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import CannotStart

FAILED = "Caught exception"  # what sherpa-onnx prints when a model failed, and then gives an empty result
_TRIAL_S = 120.0
_SAID_MAX = 500  # characters of what it printed


def try_out(module: str, folder: ModelFolder, num_threads: int) -> None:
    """Runs `python -m MODULE FOLDER THREADS PARENT`, which loads the model, uses it and dies with PARENT. Raises
    CannotStart, with what was printed, unless it ends with status 0."""
    argv = [sys.executable, "-m", module, str(folder.path), str(num_threads), str(os.getpid())]
    try:
        trial = subprocess.run(  # noqa: S603 - this program
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotStart(f"the model {folder.name} in {folder.path} was not loaded within {_TRIAL_S:.0f} s") from None
    said = " ".join(trial.stderr.decode("utf-8", "replace").split())
    if trial.returncode != 0 or FAILED in said:
        raise CannotStart(
            f"the model {folder.name} in {folder.path} cannot be used: loading it ended with status {trial.returncode}"
            f" and the words {said[-_SAID_MAX:]!r}. {folder.repair}"
        )
