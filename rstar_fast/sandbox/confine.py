"""What a process that runs a step's code gives up, for good, before it begins: limits and system calls.

The system-call filter needs no privileges: a process may always take rights from itself. It refuses what would reach the
network, other processes or the file system's contents; reading files, threads and memory stay. Numbers: the kernel's
syscall tables for x86-64 and AArch64.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import platform
import resource
import struct

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 38, 22, 2
_SIGKILL = 9

# Name -> (x86-64, AArch64); None where the machine lacks the call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # network
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "io_uring_setup": (425, 425),
    # other processes and programs
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "setns": (308, 268),
    "unshare": (272, 97), "setsid": (112, 157), "setpgid": (109, 154), "setrlimit": (160, 164), "prlimit64": (302, 261),
    "setpriority": (141, 140),
    # contents of the file system
    "creat": (85, None), "truncate": (76, 45), "ftruncate": (77, 46), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "mkdir": (83, None),
    "mkdirat": (258, 34), "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "mount": (165, 40), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fspick": (433, 433), "mount_setattr": (442, 442), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "fallocate": (285, 47), "open_by_handle_at": (304, 265), "memfd_create": (319, 279),
    # the machine
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "bpf": (321, 280), "perf_event_open": (298, 241),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "userfaultfd": (323, 282),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "ioctl": (16, 29),
}  # fmt: skip
# Answered "no such call", after which the C library falls back to one that is judged by its flags.
_UNKNOWN: dict[str, tuple[int, int]] = {"clone3": (435, 435), "openat2": (437, 437)}
# Calls judged by an argument: (numbers, argument, mask, allowed when (argument & mask) == value).
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CLONE_THREAD = 0x10000
_JUDGED: dict[str, tuple[tuple[int | None, int | None], int, int, int]] = {
    "open": ((2, None), 1, _WRITING, 0),
    "openat": ((257, 56), 2, _WRITING, 0),
    "clone": ((56, 220), 0, _CLONE_THREAD, _CLONE_THREAD),
}
# Signals go to oneself only: the argument must be the process's own number.
_SIGNALS: dict[str, tuple[int, int]] = {"kill": (62, 129), "tgkill": (234, 131)}
_TKILL = (200, 130)

_LOAD, _JUMP_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _filter(column: int, machine: int, own_pid: int) -> bytes:
    """The filter: what it does not name is allowed; a call under another machine's numbering ends the process."""
    refuse = _instruction(_RETURN, _ERRNO | errno.EPERM)
    program = [
        _instruction(_LOAD, _MACHINE_AT),
        _instruction(_JUMP_EQUAL, machine, 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    if column == 0:  # the x32 numbering, under which every call has a second number
        program += [_instruction(0x35, _X32, 0, 1), _instruction(_RETURN, _KILL_PROCESS)]
    for name, numbers in [*_REFUSED.items(), ("tkill", _TKILL)]:
        number = numbers[column]
        if number is not None:
            program += [_instruction(_JUMP_EQUAL, number, 0, 1), refuse]
    for numbers in _UNKNOWN.values():
        program += [_instruction(_JUMP_EQUAL, numbers[column], 0, 1), _instruction(_RETURN, _ERRNO | errno.ENOSYS)]
    judged = [rule for rule in _JUDGED.values()]
    judged += [(numbers, 0, 0xFFFFFFFF, own_pid) for numbers in _SIGNALS.values()]
    for numbers, argument, mask, value in judged:
        number = numbers[column]
        if number is None:
            continue
        program += [
            _instruction(_JUMP_EQUAL, number, 0, 5),
            _instruction(_LOAD, _ARGUMENTS_AT + 8 * argument),
            _instruction(_AND, mask),
            _instruction(_JUMP_EQUAL, value, 0, 1),
            _instruction(_RETURN, _ALLOW),
            refuse,
        ]
    return b"".join([*program, _instruction(_RETURN, _ALLOW)])


def supported() -> bool:
    """Whether this machine's system calls are known here."""
    return os.uname().sysname == "Linux" and platform.machine() in _MACHINES


def die_with_parent() -> None:
    """The process is killed when the one that made it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def processor_seconds(cpu_s: float) -> int:
    """The limit on processor time: the kernel counts whole seconds."""
    return math.ceil(cpu_s)


def limit(cpu_s: float, memory_mb: int) -> None:
    """Sets the resource limits; memory is counted on top of what the process has mapped already."""
    with open("/proc/self/statm", "rb") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    address_space = mapped + (memory_mb << 20)
    seconds = processor_seconds(cpu_s)
    for kind, soft, hard in (
        (resource.RLIMIT_AS, address_space, address_space),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, 64, 64),
    ):
        resource.setrlimit(kind, (soft, hard))


def refuse_system_calls() -> None:
    """Installs the filter for this process and all its threads to come.

    Raises:
      OSError: the kernel has no system-call filters.
    """
    column, machine = _MACHINES[platform.machine()]
    libc = ctypes.CDLL(None, use_errno=True)
    code = _filter(column, machine, os.getpid())
    program = _Program(len(code) // 8, code)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refused the system-call filter")
