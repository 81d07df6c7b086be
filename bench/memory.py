"""Resident memory of a process tree while something large happens, from /proc.

For a process that was there before: the peak (VmHWM, which the kernel keeps, so no peak falls between two samples)
less what it had at the start. For one that came later, a forked decoder for example: its own private pages at the
largest, since the pages it shares with its parent are counted there.
"""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_EVERY_S = 0.2
_MIB = 1024 * 1024
_GONE = (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess)


@dataclass(slots=True)
class Growth:
    """MiB by process; `there` were running at the start, `later` came afterwards."""

    there: dict[str, float] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        return max([*self.there.values(), *self.later.values()])


@contextlib.contextmanager
def watched(root: int) -> Iterator[Growth]:
    """Fills the growth of `root` and all below it, until leaving."""
    growth = Growth()
    before = {}
    for process in _tree(root):
        with contextlib.suppress(*_GONE):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # VmHWM starts again from VmRSS (proc(5))
            before[process.pid] = _status(process.pid, "VmRSS")
    stop = threading.Event()

    def sample() -> None:
        for process in _tree(root):
            with contextlib.suppress(*_GONE):
                name = f"{_title(process)} ({process.pid})"
                if process.pid in before:
                    growth.there[name] = _status(process.pid, "VmHWM") - before[process.pid]
                else:
                    growth.later[name] = max(growth.later.get(name, 0.0), _private(process.pid))

    def keep_sampling() -> None:
        while not stop.wait(_EVERY_S):
            sample()

    thread = threading.Thread(target=keep_sampling, name="memory")
    thread.start()
    try:
        yield growth
    finally:
        stop.set()
        thread.join()
        sample()


def _tree(root: int) -> list[psutil.Process]:
    process = psutil.Process(root)
    return [process, *process.children(recursive=True)]


def _status(pid: int, key: str) -> float:
    """MiB of a `VmXXX: n kB` line; 0 for a process that has ended and is not yet reaped."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found[1]) * 1024 / _MIB if found else 0.0


def _private(pid: int) -> float:
    """MiB that no other process maps."""
    lines = re.findall(r"^Private_\w+:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return sum(map(int, lines)) * 1024 / _MIB


def _title(process: psutil.Process) -> str:
    """The words of its command line, without folders, options and numbers."""
    arguments = [argument.rsplit("/", 1)[-1] for argument in process.cmdline()]
    return " ".join(a for a in arguments if not a.startswith("-") and not a.isdigit())[:60] or process.name()
