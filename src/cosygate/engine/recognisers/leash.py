"""`python leash.py PARENT PROGRAM ARGS…`: runs PROGRAM, and kills its whole process group when PARENT (a pid) dies.

A program of its own, and not code between fork and exec: that is not safe in a process with threads. Started as the
leader of a new group. Imports nothing of cosygate, so that it costs as little as an interpreter can.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main(parent: int, argv: list[str]) -> int:
    """The program's exit status; as shells have it, 128 + N when signal N ended it and 127 when it cannot be run."""
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # died before the line above
        return 1
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            os.execvp(argv[0], argv)  # noqa: S606 - running the configured program, without a shell, is the point
        except OSError:
            os._exit(127)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
