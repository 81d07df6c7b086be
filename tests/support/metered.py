"""Processes that keep metrics in a slot: real ones, forked without any metric and so as fresh as a started program.

Run as `python -m tests.support.metered FOLDER`. Each line on stdin is one life: `SLOT NAME COUNT` makes COUNT
increments of cv_rejected_total{reason=NAME}, and ends; with COUNT 0 it makes as many as it can until it is killed a few
milliseconds later. The answer is how many were made.
"""

from __future__ import annotations

import gc
import mmap
import os
import random
import signal
import sys
import time

import prometheus_client.multiprocess  # noqa: F401 - loaded before the forks, so that each costs milliseconds

from cosygate.kit import slots


def live(folder: str, slot: str, name: str, count: int, made: mmap.mmap) -> None:
    """One process's life, from the import of the metrics on."""
    os.environ[slots.FOLDER], os.environ[slots.SLOT] = folder, slot
    from cosygate.kit import metrics

    metrics.live_sessions.set(1)
    metrics.engine_queue.set(1)
    counter = metrics.rejected.labels(name)
    done = 0
    while not count or done < count:
        counter.inc()
        done += 1
        made[:8] = done.to_bytes(8, "little")


def main() -> None:
    folder = sys.argv[1]
    made = mmap.mmap(-1, 8)
    gc.freeze()
    for line in sys.stdin:
        slot, name, count = line.split()
        made[:8] = bytes(8)
        pid = os.fork()
        if pid == 0:
            try:
                live(folder, slot, name, int(count), made)
            finally:
                os._exit(0)
        if not int(count):
            time.sleep(random.uniform(0.0, 0.06))  # some before it has any file
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print(int.from_bytes(made[:8], "little"), flush=True)


if __name__ == "__main__":
    main()
