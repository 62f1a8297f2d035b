"""The layers that hold a program in, from what the kernel grants without privileges; what is missing is told by name.

    supervisor   leaves the user's namespaces
    guest        new root, no capabilities, Landlock, limits, system-call filter; then it is forked for every program

Each layer alone keeps most of what a program might try from succeeding; together they do where one of them has a hole.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from rstar_fast import _sandbox
from rstar_fast.sandbox.layers import Layer
from rstar_fast.sandbox.results import processor_seconds

SCRATCH_FILES = 256
_DESCRIPTORS = 64
_MOST_BYTES = 1 << 46  # what an address space holds, about
# Folders that hide nothing of use when something is mounted over them.
_UNUSED = ("/mnt", "/media", "/srv", "/run", "/var", "/sys")
_SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/etc/ld.so.cache",
)

# Layer -> why it is missing.
Missing = dict[Layer, str]


@dataclass(frozen=True, slots=True)
class GuestSettings:
    """What guests are held to.

    Attributes:
      memory_mb: MiB on top of what the libraries take.
      cpu_s: processor seconds of each program.
      scratch_mb: MiB of the scratch folder.
      base: folder that holds the new root and the scratch folder; None where there is none.
      readable: paths that Python needs.
      omit: layers that are left out; for tests.
    """

    memory_mb: int
    cpu_s: float
    scratch_mb: int
    base: str | None
    readable: tuple[str, ...]
    omit: frozenset[Layer]


def readable_paths() -> tuple[str, ...]:
    """What Python reads: its own files, its path's, the system's libraries; no path lies beneath another."""
    wanted = {path for path in sys.path if path and os.path.isabs(path)}
    for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix):
        wanted |= {os.path.join(prefix, name) for name in ("lib", "lib64")}
    wanted |= {os.path.realpath(path) for path in wanted} | set(_SYSTEM)
    kept: list[str] = []
    for path in sorted(os.path.normpath(path) for path in wanted if os.path.exists(path)):
        if path != "/" and not (kept and path.startswith(kept[-1] + "/")):
            kept.append(path)
    return tuple(kept)


def _attempt(missing: Missing, layer: Layer, omit: frozenset[Layer], enter: Callable[[], object]) -> bool:
    """Enters a layer, or notes why not."""
    if layer in omit:
        missing[layer] = "left out"
        return False
    try:
        enter()
    except OSError as error:
        missing[layer] = error.strerror or str(error)
        return False
    return True


def isolate(settings: GuestSettings) -> tuple[Missing, GuestSettings]:
    """The supervisor's part: namespaces for itself and all it forks from now on.

    Returns:
      What is missing, and the settings with the folder that was mounted.
    """
    missing: Missing = {}
    _attempt(missing, Layer.USER, settings.omit, _become_nobody)
    base = next((path for path in _UNUSED if os.path.isdir(path) and _hides_nothing(path, settings.readable)), None)

    def mount() -> None:
        if base is None:
            raise OSError(0, f"none of {', '.join(_UNUSED)} can be mounted over")
        _sandbox.leave_namespaces(_sandbox.NEW_MOUNTS)
        _sandbox.mount_base(base, min(settings.scratch_mb << 20, _MOST_BYTES), SCRATCH_FILES)

    mounted = _attempt(missing, Layer.FILES, settings.omit, mount)
    for layer, flag in (
        (Layer.PROCESSES, _sandbox.NEW_PROCESSES),
        (Layer.NETWORK, _sandbox.NEW_NETWORK),
        (Layer.IPC, _sandbox.NEW_IPC | _sandbox.NEW_NAMES),
    ):
        _attempt(missing, layer, settings.omit, lambda flag=flag: _sandbox.leave_namespaces(flag))
    return missing, dataclasses.replace(settings, base=base if mounted else None)


def _become_nobody() -> None:
    user, group = os.getuid(), os.getgid()
    _sandbox.leave_namespaces(_sandbox.NEW_USER)
    # One user and one group: the caller's, under another number.
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def confine_guest(settings: GuestSettings) -> tuple[Missing, int]:
    """The first guest's part, for it and all that are forked from it.

    Returns:
      What is missing, and the descriptor at which its calls are put to the supervisor, -1 without.
    """
    missing: Missing = {}

    def enter_limits() -> None:
        limit(settings.cpu_s, settings.memory_mb, settings.scratch_mb if settings.base is not None else 0)

    _attempt(missing, Layer.LIMITS, settings.omit, enter_limits)  # while /proc is in sight
    base = settings.base
    if base is not None and not _attempt(missing, Layer.FILES, settings.omit, lambda: _enter_root(base, settings.readable)):
        base = None
    if base is None:
        os.chdir("/")
    _attempt(missing, Layer.CAPABILITIES, settings.omit, _sandbox.drop_capabilities)
    writable = "/scratch" if base is not None else ""
    _attempt(missing, Layer.LANDLOCK, settings.omit, lambda: _sandbox.restrict_files(list(settings.readable), writable))
    listener = -1

    def supervise() -> None:
        nonlocal listener
        if Layer.FILTER in settings.omit:
            raise OSError(0, "there is no system-call filter")
        listener = _sandbox.install_filter(supervised=True, may_write=base is not None)

    if not _attempt(missing, Layer.SUPERVISION, settings.omit, supervise):
        # A program then gets a filter of its own: whether it can is known when the first has run.
        if Layer.FILTER in settings.omit:
            missing[Layer.FILTER] = "left out"
    return missing, listener


def _enter_root(base: str, readable: tuple[str, ...]) -> None:
    _sandbox.leave_namespaces(_sandbox.NEW_MOUNTS)
    _sandbox.change_root(base, list(readable))


def limit(cpu_s: float, memory_mb: int, file_mb: int) -> None:
    """Sets the resource limits; memory is counted on top of what the process has mapped already."""
    _sandbox.limit_resources(
        memory_bytes=min(memory_mb << 20, _MOST_BYTES),
        file_bytes=min(file_mb << 20, _MOST_BYTES),
        processor_seconds=processor_seconds(cpu_s),
        descriptors=_DESCRIPTORS,
    )


def filter_calls() -> None:
    """The system-call filter of a process that has no supervisor: no files are written, no processes made.

    Raises:
      OSError: the kernel has no system-call filters.
    """
    _sandbox.install_filter(supervised=False, may_write=False)


def _hides_nothing(folder: str, needed: tuple[str, ...]) -> bool:
    return not any(path == folder or path.startswith(folder + "/") for path in needed)
