"""`python leash.py PARENT PROGRAM ARGS…`: becomes PROGRAM, which the kernel kills when PARENT (a pid) dies.

A program of its own, and not code between fork and exec: that is not safe in a process with threads. Imports nothing
of cosygate, so that it costs as little as an interpreter can.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):  # died before the line above
        sys.exit(1)
    try:
        os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - running the configured program, without a shell, is the point
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")
