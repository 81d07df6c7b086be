"""Loads a folder's model in a process of its own first: sherpa-onnx ends the process, without an exception, on whatever
it cannot use."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import suppress

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import CannotStart

FAILED = "Caught exception"  # what sherpa-onnx prints when a model failed, and then gives an empty result
_TRIAL_S = 120.0
_SAID_MAX = 500  # characters of what it printed
_MEMORY = 4 << 30  # bytes that it may take, beside
_MEMORY_PER_BYTE = 4  # for each of the files: read, unpacked, laid out anew, and one to spare


def try_out(module: str, folder: ModelFolder, num_threads: int) -> None:
    """Runs `python -m MODULE FOLDER THREADS PARENT`, which loads the model, uses it and dies with PARENT, within bounds
    of time and memory. Raises CannotStart, with what was printed, unless it ends with status 0."""
    argv = [sys.executable, "-m", module, str(folder.path), str(num_threads), str(os.getpid())]
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603 - this program
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=pipe
    ) as trial:
        try:
            _bound_memory(trial.pid, folder)
            printed = trial.communicate(timeout=_TRIAL_S)[1]
        except subprocess.TimeoutExpired:
            raise CannotStart(
                f"the model {folder.name} in {folder.path} was not loaded within {_TRIAL_S:.0f} s"
            ) from None
        finally:
            trial.kill()  # nothing happens to one that ended
    said = " ".join(printed.decode("utf-8", "replace").split())
    if trial.returncode != 0 or FAILED in said:
        raise CannotStart(
            f"the model {folder.name} in {folder.path} cannot be used: loading it ended with status {trial.returncode}"
            f" and the words {said[-_SAID_MAX:]!r}. {folder.repair}"
        )


def _bound_memory(pid: int, folder: ModelFolder) -> None:
    """From here and not by itself: it still starts, and has nothing. What it maps from files does not count."""
    most = _MEMORY + _MEMORY_PER_BYTE * sum(file.stat().st_size for file in folder.files.values())
    with suppress(ProcessLookupError):  # it ended; its status tells
        soft, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        if soft == resource.RLIM_INFINITY or most < soft:
            resource.prlimit(pid, resource.RLIMIT_DATA, (most, hard))
