"""Runs the tests, two processes at a time; what failed is then run once more, alone, and has to pass there.

Most tests wait for real servers, and some of them for a moment that another test on the same two cores may take away. A
failure that stays when nothing else runs is a failure; one that goes is told (`flaky`), so that it can be mended. More
than MOST failures are not looked at again: that is no matter of luck.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MOST = 8
# A file's tests share a server, so they stay together. In the order of the folders: by itself the plugin keeps files of
# few tests to the last, and those take longest (chaos).
PARALLEL = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
_FAILED = 1  # pytest's exit status when tests failed, and nothing else went wrong
_CACHE = Path(".pytest_cache/v/cache/lastfailed")


def main(arguments: list[str]) -> int:
    parallel = [] if any(a.startswith(("-n", "-p")) for a in arguments) else list(PARALLEL)
    _CACHE.unlink(missing_ok=True)  # of an earlier run
    status = subprocess.run([sys.executable, "-m", "pytest", *parallel, *arguments]).returncode
    if status != _FAILED or not parallel:
        return status
    failed = sorted(json.loads(_CACHE.read_text())) if _CACHE.is_file() else []
    if not 0 < len(failed) <= MOST:
        return status
    print(f"\n{len(failed)} failed beside others; once more, alone:", *failed, sep="\n  ", flush=True)
    again = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:xdist", *failed]).returncode
    if again == 0:
        print("\nflaky: passed alone, to be mended:", *failed, sep="\n  ", flush=True)
    return again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
