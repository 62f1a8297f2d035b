"""The layers that hold a program in, from what the kernel grants without privileges; what is missing is told by name.

    supervisor   leaves the user's namespaces
    guest        new root, no capabilities, Landlock, limits, system-call filter; then it is forked for every program

Each layer alone keeps most of what a program might try from succeeding; together they do where one of them has a hole.
"""

from __future__ import annotations

import enum
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from rstar_fast import _sandbox

SCRATCH_FILES = 256
_DESCRIPTORS = 64
_PROCESSES = 4096  # more than a worker has snapshots and a program threads
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


class Layer(enum.Enum):
    """What holds a program in; the value says what it does."""

    USER = "own users: no privilege of the caller's"
    FILES = "own file system: only Python, its libraries and a scratch folder are there, and only the latter can be written"
    PROCESSES = "own process numbers: no other process can be named"
    NETWORK = "own network: none"
    IPC = "own shared memory and message queues"
    CAPABILITIES = "no capabilities"
    LANDLOCK = "Landlock: no file but Python's and the scratch folder's can be opened, no TCP, no signals"
    LIMITS = "limits of memory, processor time, file size and descriptors"
    FILTER = "system-call filter: an allow-list"
    SUPERVISION = "a supervisor decides about forks, threads and signals: the state of a step can be kept"


# Reason why a layer is missing, None where it is in force.
Layers = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class GuestSettings:
    """What guests are held to.

    Attributes:
      memory_mb: MiB on top of what the libraries take.
      cpu_s: processor seconds of each program.
      scratch_mb: MiB of the scratch folder.
      base: folder that holds the new root and the scratch folder; None where there is none.
      readable: paths that Python needs.
      omit: layers that are left out, by name; for tests.
    """

    memory_mb: int
    cpu_s: float
    scratch_mb: int
    base: str | None
    readable: tuple[str, ...]
    omit: frozenset[str]

    @property
    def may_write(self) -> bool:
        return self.base is not None


def processor_seconds(cpu_s: float) -> int:
    """The limit on processor time: the kernel counts whole seconds."""
    return math.ceil(cpu_s)


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


def _attempt(layers: Layers, layer: Layer, omit: frozenset[str], enter: Callable[[], object]) -> bool:
    """Enters a layer, or notes why not."""
    if layer.name in omit:
        layers[layer.name] = "left out"
        return False
    try:
        enter()
    except OSError as error:
        layers[layer.name] = error.strerror or str(error)
        return False
    layers[layer.name] = None
    return True


def isolate(settings: GuestSettings) -> tuple[Layers, GuestSettings]:
    """The supervisor's part: namespaces for itself and all it forks from now on.

    Returns:
      What is in force and what is not, and the settings with the folder that was mounted.
    """
    layers: Layers = {}
    user, group = os.getuid(), os.getgid()
    if _attempt(layers, Layer.USER, settings.omit, lambda: _sandbox.leave_namespaces(_sandbox.NEW_USER)):
        # One user and one group, called "nobody" inside.
        for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    base = next((path for path in _UNUSED if os.path.isdir(path) and _hides_nothing(path, settings.readable)), None)

    def mount() -> None:
        if base is None:
            raise OSError(0, f"none of {', '.join(_UNUSED)} can be mounted over")
        _sandbox.leave_namespaces(_sandbox.NEW_MOUNTS)
        _sandbox.mount_base(base, settings.scratch_mb << 20, SCRATCH_FILES)

    mounted = _attempt(layers, Layer.FILES, settings.omit, mount)
    for layer, flag in (
        (Layer.PROCESSES, _sandbox.NEW_PROCESSES),
        (Layer.NETWORK, _sandbox.NEW_NETWORK),
        (Layer.IPC, _sandbox.NEW_IPC | _sandbox.NEW_NAMES),
    ):
        _attempt(layers, layer, settings.omit, lambda flag=flag: _sandbox.leave_namespaces(flag))
    return layers, GuestSettings(**{**_fields(settings), "base": base if mounted else None})


def confine_guest(settings: GuestSettings) -> tuple[Layers, int]:
    """The first guest's part, for it and all that are forked from it.

    Returns:
      What is in force and what is not, and the descriptor at which its calls are put to the supervisor, -1 without.
    """
    layers: Layers = {}
    base = settings.base
    if base is not None and not _attempt(
        layers, Layer.FILES, settings.omit, lambda: _enter_root(base, settings.readable)
    ):
        base = None
    if base is None:
        os.chdir("/")
    _attempt(layers, Layer.CAPABILITIES, settings.omit, _sandbox.drop_capabilities)
    writable = "/tmp" if base is not None else ""
    _attempt(layers, Layer.LANDLOCK, settings.omit, lambda: _sandbox.restrict_files(list(settings.readable), writable))
    _attempt(layers, Layer.LIMITS, settings.omit, lambda: limit(settings))
    listener = -1

    def supervise() -> None:
        nonlocal listener
        if Layer.FILTER.name in settings.omit:
            raise OSError(0, "there is no system-call filter")
        listener = _sandbox.install_filter(supervised=True, may_write=base is not None)

    if _attempt(layers, Layer.SUPERVISION, settings.omit, supervise):
        layers[Layer.FILTER.name] = None
    elif Layer.FILTER.name in settings.omit:
        layers[Layer.FILTER.name] = "left out"
    return layers, listener


def _enter_root(base: str, readable: tuple[str, ...]) -> None:
    _sandbox.leave_namespaces(_sandbox.NEW_MOUNTS)
    _sandbox.change_root(base, list(readable))


def limit(settings: GuestSettings) -> None:
    """Sets the resource limits."""
    _sandbox.limit_resources(
        memory_bytes=settings.memory_mb << 20,
        file_bytes=settings.scratch_mb << 20 if settings.may_write else 0,
        processor_seconds=processor_seconds(settings.cpu_s),
        descriptors=_DESCRIPTORS,
        processes=0,
    )


def filter_calls(settings: GuestSettings) -> None:
    """The system-call filter of a single program, where there is no supervisor.

    Raises:
      OSError: the kernel has no system-call filters.
    """
    if Layer.FILTER.name not in settings.omit:
        _sandbox.install_filter(supervised=False, may_write=False)


def _hides_nothing(folder: str, needed: tuple[str, ...]) -> bool:
    return not any(path == folder or path.startswith(folder + "/") for path in needed)


def _fields(settings: GuestSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in GuestSettings.__slots__}
