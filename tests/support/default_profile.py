"""`python -m tests.support.default_profile MODULE_OR_-c …`: runs Python as in a container with its runtime's default
profile, as far as the decoder's sandbox can tell: a seccomp filter on the process and all it starts answers unshare
with EPERM, which is what those profiles say to whoever has no CAP_SYS_ADMIN. Landlock and seccomp are allowed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_UNSHARE = {"x86_64": 272, "aarch64": 97}[platform.machine()]
_PROGRAM = [
    (0x20, 0, 0, 0),  # the call's number
    (0x15, 0, 1, _UNSHARE),
    (0x06, 0, 0, 0x0005_0000 | errno.EPERM),
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
