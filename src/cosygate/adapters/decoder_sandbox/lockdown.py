"""The kernel's part of the sandbox, through ctypes: no library is needed, and none is loaded late.

Two steps. `isolate_server` runs once in the fork-server and is inherited by every child: empty network namespace,
another user, no capabilities, no new privileges, Landlock without a single rule. `limit_resources` and
`filter_syscalls` run in the child just before it sees the recording, and leave it reading, writing and memory.

Each layer works without the others, and a kernel or container may lack any: so each is tried, then tested, and
reported, never guessed.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import socket
import struct
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)

NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 1, 22, 38, 39
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x1000_0000, 0x4000_0000, 0x0800_0000
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the same on every architecture
# access_fs bits by ABI (linux/landlock.h): 13 at first, then REFER, TRUNCATE, IOCTL_DEV
_LANDLOCK_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
_LANDLOCK_NET = 0b11  # bind and connect TCP, from ABI 4
_LANDLOCK_SCOPE = 0b11  # abstract Unix sockets and signals, from ABI 6


class Unavailable(Exception):
    """This kernel, container or user does not allow the layer; the message says why."""


def _call(result: int, what: str) -> int:
    if result < 0:
        raise Unavailable(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _prctl(option: int, value: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return _call(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), f"prctl({option})")


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when the one that forked it ends. Undone by a change of user, so it comes after."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


# --- once, in the fork-server ------------------------------------------------------------------------------------


def isolate_server() -> dict[str, str]:
    """Layer → "" when it is active (and was seen to be), otherwise why not. The process must have one thread."""
    layers: dict[str, Callable[[], None]] = {
        "network namespace": _empty_network,
        "unprivileged user": _drop_user,
        "no new privileges": _no_new_privileges,
        "landlock": _landlock,
    }
    return {name: _attempt(apply) for name, apply in layers.items()}


def _attempt(apply: Callable[[], None]) -> str:
    try:
        apply()
    except (Unavailable, OSError) as error:
        return str(error) or type(error).__name__
    return ""


def _empty_network() -> None:
    spaces = _CLONE_NEWNET | _CLONE_NEWIPC
    _call(_libc.unshare(spaces if os.geteuid() == 0 else spaces | _CLONE_NEWUSER), "unshare")
    visible = [name for _, name in socket.if_nameindex() if name != "lo"]
    if visible:
        raise Unavailable(f"interfaces are still visible: {len(visible)}")


def _drop_user() -> None:
    """root becomes nobody; whoever it is loses every capability, also those of a new user namespace."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = struct.pack("=Ii", 0x2008_0522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _call(_libc.capset(header, bytes(24)), "capset")
    if os.geteuid() == 0:
        raise Unavailable("still root")


def _no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if _prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise Unavailable("the flag did not stay")


def _landlock() -> None:
    """Handles every access this kernel knows and allows none of them."""
    abi = _call(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1)), "landlock")
    fields = [(1 << _LANDLOCK_FS_BITS.get(abi, 16)) - 1]
    fields += [_LANDLOCK_NET] if abi >= 4 else []
    fields += [_LANDLOCK_SCOPE] if abi >= 6 else []
    attr = struct.pack(f"={len(fields)}Q", *fields)
    create = _libc.syscall(_LANDLOCK_CREATE_RULESET, attr, ctypes.c_size_t(len(attr)), ctypes.c_uint(0))
    ruleset = _call(create, "landlock_create_ruleset")
    try:
        _call(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint(0)), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    try:
        os.close(os.open("/", os.O_RDONLY))
    except PermissionError:
        return
    raise Unavailable("a path can still be opened")


# --- in every child ----------------------------------------------------------------------------------------------


def mapped_bytes() -> int:
    """Address space in use. Asked before `isolate_server`, after which nothing can be opened."""
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - pathlib is not otherwise loaded here
        return int(statm.read().split()[0]) * resource.getpagesize()


def limit_resources(cpu_s: int, address_space: int) -> None:
    """At `cpu_s` SIGXCPU ends the process; beyond `address_space` bytes allocations fail; no new descriptor, file
    byte, process or core dump."""
    for limit, value in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


# An allow-list, because what a decoder needs is short and known, and a list of dangers is never complete. What is not
# on it fails with EPERM instead of killing: libraries that only ask (how many CPUs?) go on, and an attack gains
# nothing, for the call is not made either way. No call here takes a path or makes a descriptor or process. tgkill is
# missing on purpose: abort() then ends by its own trap instruction, and nobody else can be signalled.
_SYSCALLS: dict[str, tuple[int, dict[str, int], dict[str, int]]] = {
    # machine: (audit arch, allowed, allowed unless they ask for executable memory)
    "x86_64": (
        0xC000_003E,
        {
            "read": 0, "write": 1, "close": 3, "lseek": 8, "munmap": 11, "brk": 12, "rt_sigprocmask": 14,
            "rt_sigreturn": 15, "pread64": 17, "writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28,
            "getpid": 39, "exit": 60, "gettimeofday": 96, "gettid": 186, "futex": 202, "restart_syscall": 219,
            "clock_gettime": 228, "exit_group": 231, "getrandom": 318,
        },
        {"mmap": 9, "mprotect": 10},
    ),
    "aarch64": (
        0xC000_00B7,
        {
            "close": 57, "lseek": 62, "read": 63, "write": 64, "writev": 66, "pread64": 67, "exit": 93,
            "exit_group": 94, "futex": 98, "clock_gettime": 113, "sched_yield": 124, "restart_syscall": 128,
            "rt_sigprocmask": 135, "rt_sigreturn": 139, "gettimeofday": 169, "getpid": 172, "gettid": 178,
            "brk": 214, "munmap": 215, "mremap": 216, "madvise": 233, "getrandom": 278,
        },
        {"mmap": 222, "mprotect": 226},
    ),
}  # fmt: skip
_LD_ABS, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_PROT_EXEC = 4


def filter_program(machine: str) -> bytes:
    """The seccomp filter as classic BPF (linux/filter.h, linux/seccomp.h). Raises Unavailable for other machines.

    A call made through another architecture's entry (32 bit on x86_64) kills: its numbers mean other things.
    """
    if machine not in _SYSCALLS:
        raise Unavailable(f"no system call numbers for {machine}")
    arch, allowed, not_executable = _SYSCALLS[machine]
    numbers = [*allowed.values(), *not_executable.values()]
    # Behind the comparisons: refuse, look at the protection, refuse or allow. Jumps count instructions to skip.
    code = [(_LD_ABS, 0, 0, 4), (_JEQ, 1, 0, arch), (_RET, 0, 0, _KILL_PROCESS), (_LD_ABS, 0, 0, 0)]
    for index, number in enumerate(numbers):
        left = len(numbers) - index - 1
        code.append((_JEQ, left + (4 if index < len(allowed) else 1), 0, number))
    code += [
        (_RET, 0, 0, _ERRNO | errno.EPERM),
        (_LD_ABS, 0, 0, 16 + 2 * 8),  # the third argument's lower half
        (_JSET, 0, 1, _PROT_EXEC),
        (_RET, 0, 0, _ERRNO | errno.EPERM),
        (_RET, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def filter_syscalls() -> None:
    """From here on this process reads, writes and allocates, for good. Raises Unavailable."""
    program = ctypes.create_string_buffer(filter_program(platform.machine()))
    fprog = ctypes.create_string_buffer(struct.pack("@HP", (len(program) - 1) // 8, ctypes.addressof(program)))
    mode, address = ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.c_ulong(ctypes.addressof(fprog))
    _call(_libc.prctl(_PR_SET_SECCOMP, mode, address, 0, 0), "seccomp")


def try_everything(memory_bytes: int) -> dict[str, str]:
    """What a confined child must not be able to do, tried → "" when it was refused, otherwise what happened. Only the
    filter refuses executable memory; the others have several layers against them."""
    attempts: dict[str, Callable[[], object]] = {
        "seccomp": lambda: mmap.mmap(-1, resource.getpagesize(), prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "no files": lambda: os.open("/proc/self/status", os.O_RDONLY),
        "no sockets": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "no processes": lambda: os.fork() or os._exit(0),
        "no signals": lambda: os.kill(os.getppid(), 0),
        "memory limit": lambda: bytearray(memory_bytes + (1 << 28)),
    }
    return {name: _refused(attempt) for name, attempt in attempts.items()}


def _refused(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (OSError, MemoryError):
        return ""
    return "was possible"
