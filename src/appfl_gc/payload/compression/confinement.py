"""A process that takes away from itself what it does not need, before it reads what a stranger sent (Linux).

Limits on memory and time everywhere; on x86-64 and 64-bit Arm also a filter of system calls (seccomp), after
which the process can read and write the descriptors that it has, and manage memory that cannot be executed. It
can open nothing, reach no network, start nothing and signal nobody.
"""

from __future__ import annotations

import ctypes
import platform
import resource
import struct
import sys
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_DENY = 0x00050000 | 1  # the call fails with EPERM
_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _PROTECTION_AT = 0, 4, 16 + 2 * 8
_PROT_EXEC = 4

_PLAIN = {
    # read write munmap brk rt_sigreturn mremap madvise futex exit exit_group clock_gettime restart_syscall
    # setitimer getrandom
    "x86_64": (0xC000003E, (0, 1, 11, 12, 15, 25, 28, 202, 60, 231, 228, 219, 38, 318)),
    "aarch64": (0xC00000B7, (63, 64, 215, 214, 139, 216, 233, 98, 93, 94, 113, 128, 103, 278)),
}
_MAPPING = {"x86_64": (9, 10), "aarch64": (222, 226)}  # mmap mprotect


def confine(memory: int, seconds: int) -> None:
    """Limit this process for the rest of its life.

    Args:
        memory: bytes that it may map beyond what it has now.
        seconds: of processor time.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, seconds)
    if sys.platform != "linux":
        return
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, mapped + memory)
    _filter_calls()


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _filter_calls() -> bool:
    """Install the filter; False where the kernel or the machine has none for it."""
    machine = platform.machine()
    if machine not in _PLAIN:
        return False
    rules = _rules(machine)
    buffer = ctypes.create_string_buffer(rules, len(rules))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("rules", ctypes.c_void_p))

    program = Program(len(rules) // 8, ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    done: int = prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)
    return done == 0


def _rules(machine: str) -> bytes:
    """A program for the kernel's packet filter: jumps are counted from the next rule on."""
    architecture, plain = _PLAIN[machine]
    mapping = _MAPPING[machine]
    rules = [(_LOAD, 0, 0, _MACHINE_AT), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _DENY)]
    rules.append((_LOAD, 0, 0, _NUMBER_AT))
    for number in plain:
        rules += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number in mapping:
        rules += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _PROTECTION_AT),
            (_BITS, 0, 1, _PROT_EXEC),
            (_RETURN, 0, 0, _DENY),
            (_RETURN, 0, 0, _ALLOW),
        ]
    rules.append((_RETURN, 0, 0, _DENY))
    return b"".join(struct.pack("=HBBI", *rule) for rule in rules)
