"""Where the processes of one `serve` keep their metrics, so that whichever is asked tells of all: a folder of mapped
files (prometheus-client's multi-process mode), a set of them for each slot.

A slot is a process's place under its supervisor and outlives it: who is started again in a slot goes on with the files
of the earlier life. So a counter never goes back, whatever killed its process, and nothing is left of processes that
are gone. Named after process ids, as prometheus-client does it, there would be files for every process there ever was.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # environment variables
SLOT = "PROMETHEUS_MULTIPROC_SLOT"  # letters and digits; at most one process may have a slot at a time


def forget(folder: Path, slot: str) -> None:
    """The process in this slot has ended: its gauges told of what is no more. Counters and histograms stay."""
    for path in folder.glob(f"gauge_live*_{slot}.db"):
        with suppress(OSError):
            path.unlink()
