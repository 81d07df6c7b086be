"""Children do not outlive their parents."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent_pid: int) -> bool:
    """Asks the kernel to kill this process when its parent dies. False when `parent_pid` is not the parent any more: it
    died in between, and the caller should end. (prctl(2): the signal follows the parent's *thread* that forked.)"""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid
