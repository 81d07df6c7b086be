"""The seccomp filter of every architecture, run by a small interpreter of classic BPF: this machine has only one."""

from __future__ import annotations

import struct

import pytest

from cosygate.adapters.decoder_sandbox.lockdown import Unavailable, filter_program

ALLOW, KILL, REFUSE = 0x7FFF_0000, 0x8000_0000, 0x0005_0001
ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
# asm/unistd_64.h and asm-generic/unistd.h
DANGEROUS = {
    "x86_64": {
        "open": 2, "stat": 4, "ioctl": 16, "dup2": 33, "socket": 41, "connect": 42, "sendmsg": 46, "clone": 56,
        "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "creat": 85, "unlink": 87, "ptrace": 101, "mount": 165,
        "tgkill": 234, "openat": 257, "unshare": 272, "process_vm_readv": 310, "bpf": 321, "execveat": 322,
        "io_uring_setup": 425, "clone3": 435, "openat2": 437, "open through the x32 ABI": 0x4000_0002,
    },
    "aarch64": {
        "dup3": 24, "ioctl": 29, "unlinkat": 35, "mount": 40, "openat": 56, "unshare": 97, "ptrace": 117,
        "kill": 129, "tgkill": 131, "socket": 198, "connect": 203, "sendmsg": 211, "clone": 220, "execve": 221,
        "process_vm_readv": 270, "bpf": 280, "execveat": 281, "io_uring_setup": 425, "clone3": 435, "openat2": 437,
    },
}  # fmt: skip
NEEDED = {
    "x86_64": {"read": 0, "write": 1, "munmap": 11, "brk": 12, "pread64": 17, "futex": 202, "exit_group": 231},
    "aarch64": {"read": 63, "write": 64, "pread64": 67, "exit_group": 94, "futex": 98, "brk": 214, "munmap": 215},
}
MAPPING = {"x86_64": (9, 10), "aarch64": (222, 226)}  # mmap, mprotect


def verdict(machine: str, number: int, *, arch: int | None = None, third: int = 0) -> int:
    """What the kernel would do with the call: struct seccomp_data is nr, arch, ip, six arguments."""
    data = struct.pack("<IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, 0, 0, third, 0, 0, 0)
    program = list(struct.iter_unpack("=HBBI", filter_program(machine)))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(hex(code))


@pytest.mark.parametrize("machine", ARCH)
def test_what_a_decoder_needs_is_allowed_and_nothing_else(machine: str) -> None:
    for name, number in NEEDED[machine].items():
        assert verdict(machine, number) == ALLOW, name
    for name, number in DANGEROUS[machine].items():
        assert verdict(machine, number) == REFUSE, name
    allowed = [number for number in range(600) if verdict(machine, number) == ALLOW]
    assert len(allowed) <= 25


@pytest.mark.parametrize("machine", ARCH)
def test_memory_is_never_executable(machine: str) -> None:
    read, write, execute = 1, 2, 4
    for number in MAPPING[machine]:
        assert verdict(machine, number, third=read | write) == ALLOW
        for protection in (execute, read | execute, read | write | execute):
            assert verdict(machine, number, third=protection) == REFUSE


@pytest.mark.parametrize("machine", ARCH)
def test_another_architectures_entry_kills(machine: str) -> None:
    for arch in (0x4000_0003, 0x4000_0028, 0):  # i386, arm, none
        assert verdict(machine, 0, arch=arch) == KILL


def test_an_unknown_machine_is_told() -> None:
    with pytest.raises(Unavailable):
        filter_program("riscv64")
