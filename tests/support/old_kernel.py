"""`python -m tests.support.old_kernel MODULE_OR_-c …`: runs Python as on a kernel without Landlock and seccomp.

A seccomp filter on the process and all it starts answers landlock_create_ruleset with ENOSYS and
prctl(PR_SET_SECCOMP) with EINVAL, which is what such a kernel says.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_PRCTL = {"x86_64": 157, "aarch64": 167}[platform.machine()]
_PROGRAM = [
    (0x20, 0, 0, 0),  # the call's number
    (0x15, 3, 0, 444),  # landlock_create_ruleset
    (0x15, 0, 4, _PRCTL),
    (0x20, 0, 0, 16),  # its first argument
    (0x15, 1, 2, 22),  # PR_SET_SECCOMP
    (0x06, 0, 0, 0x0005_0000 | errno.ENOSYS),
    (0x06, 0, 0, 0x0005_0000 | errno.EINVAL),
    (0x06, 0, 0, 0x7FFF_0000),
]


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in _PROGRAM))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(_PROGRAM), ctypes.addressof(code)))
    zero, one = ctypes.c_ulong(0), ctypes.c_ulong(1)
    assert libc.prctl(38, one, zero, zero, zero) == 0
    assert libc.prctl(22, ctypes.c_ulong(2), ctypes.c_ulong(ctypes.addressof(program)), zero, zero) == 0
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])


if __name__ == "__main__":
    main()
