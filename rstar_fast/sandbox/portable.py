"""A worker process for systems without rstar_fast._sandbox: macOS, and processors that the system-call filter does not know.

Every program runs whole, in a fork of a process that has the mathematics loaded, within what POSIX can limit. That ends programs
which go astray; it does not hold those in that mean harm, and `require` says whether it will do.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import gc
import json
import os
import platform
import random
import resource
import select
import signal
import sys
import time
import types
from collections.abc import Mapping
from typing import Any, NoReturn

from rstar_fast.programs import Program
from rstar_fast.sandbox import results, running
from rstar_fast.sandbox.layers import Layer
from rstar_fast.sandbox.protocol import Broken, serve
from rstar_fast.sandbox.results import Result

_Ended = tuple[int, int, resource.struct_rusage]  # as os.wait4 has it

_READ_BYTES = 1 << 16
_LOOK_S = 0.05  # how long a process can have ended before that is seen, where it said nothing
_MOST_TOLD = 1 << 20  # bytes of a report besides the value's text
_DESCRIPTORS = 64
_REPORTS = 3  # the program's process tells here what came of it


class _Output:
    """Of a stream of bytes its beginning and its end, `limit` bytes together: as _sandbox.Output."""

    def __init__(self, limit: int) -> None:
        self._from_begin, self._from_end = limit - limit // 2, limit // 2
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        self._total += len(data)
        room = self._from_begin - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        del self._tail[: max(0, len(self._tail) - self._from_end)]

    def skip(self, count: int) -> None:
        """As if so many bytes came that nobody will ask for."""
        self._total += count

    @property
    def parts(self) -> tuple[bytes, int, bytes]:
        return bytes(self._head), self._total - len(self._head) - len(self._tail), bytes(self._tail)


class _Runner:
    """Runs each program in a process group of its own, which ends with it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._timeout_s, self._cpu_s, self._most_bytes = settings["timeout_s"], settings["cpu_s"], settings["output_chars"]
        self._memory_bytes = settings["memory_mb"] << 20
        self.missing: Mapping[Layer, str] = _missing(set(settings["omit"]))
        running.fix_chance()
        running.warm_up()
        gc.collect()
        gc.freeze()  # the collector would touch, and so copy, every page shared with the children

    def close(self) -> None:
        """Nothing runs between programs."""

    def execute(self, program: Program) -> Result:
        """Runs code after its prefix.

        Raises:
          Broken: no process can be started.
        """
        output, program_output = os.pipe()
        reports, program_reports = os.pipe()
        try:
            process = os.fork()
        except OSError as error:
            raise Broken(str(error)) from None
        if process == 0:
            self._become_program(program.before + program.code, program_output, program_reports)
        with contextlib.suppress(OSError):  # the process does so too: whoever is first
            os.setpgid(process, process)
        os.close(program_output)
        os.close(program_reports)
        printed, report = _Output(self._most_bytes), bytearray()
        ended: _Ended | None = None
        try:
            in_time, ended = self._watch(process, output, reports, printed, report)
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process, signal.SIGKILL)  # what it started too
            if ended is None:
                ended = os.wait4(process, 0)
            os.close(output)
            os.close(reports)
        if not in_time:
            return Result(results.decoded(printed), results.too_long(self._timeout_s))
        _, status, usage = ended
        told = _whole(report)
        if told is None:
            return Result(results.decoded(printed), results.of_end(status, usage.ru_utime + usage.ru_stime, self._cpu_s))
        said = results.read_report(told[0])
        if said is None or "apart" in said:
            return Result(results.decoded(printed), results.crashed("the program's result was forged"))
        return results.of_report(said, printed, told[1])

    def _watch(
        self, process: int, output: int, reports: int, printed: _Output, report: bytearray
    ) -> tuple[bool, _Ended | None]:
        """Reads what is printed and told until the process has told its result, or ended; whether that came in time, and its end.

        What another process still holds open is not waited for.
        """
        deadline = time.monotonic() + self._timeout_s
        os.set_blocking(output, False)
        ended = None
        open_ends = [output, reports]
        while _whole(report) is None and ended is None and len(report) <= self._most_bytes + _MOST_TOLD:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False, None
            ready, _, _ = select.select(open_ends, [], [], min(left_s, _LOOK_S))
            if output in ready:
                with contextlib.suppress(BlockingIOError):
                    printed.add(os.read(output, _READ_BYTES))
            if reports in ready:
                told = os.read(reports, _READ_BYTES)
                report += told
                if not told:
                    open_ends.remove(reports)
            elif reports not in open_ends or not ready:
                found = os.wait4(process, os.WNOHANG)
                ended = found if found[0] == process else None
        with contextlib.suppress(BlockingIOError):
            while data := os.read(output, _READ_BYTES):
                printed.add(data)
        return True, ended

    def _become_program(self, source: str, output: int, reports: int) -> NoReturn:
        """In the process that is to run a program."""
        try:
            os.setpgid(0, 0)
            null = os.open(os.devnull, os.O_RDWR)
            # Above all places first, so that none is overwritten that is still to be moved.
            output, reports, null = (fcntl.fcntl(descriptor, fcntl.F_DUPFD, 16) for descriptor in (output, reports, null))
            for descriptor, place in ((null, 0), (output, 1), (null, 2), (reports, _REPORTS)):
                os.dup2(descriptor, place)
            os.closerange(_REPORTS + 1, 4096)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.clear()
            os.chdir("/")
            self._limit()
            random.seed(0)  # the fork has seeded it anew
            stream = running.open_streams(0, 1, 2)
            main = types.ModuleType("__main__")
            main.__dict__["__builtins__"] = builtins
            sys.modules["__main__"] = main
            unit = running.Unit(source, 0, goes_on=False, is_last=True, most_bytes=self._most_bytes)
            value, reserve = bytearray(), [bytearray(running.RESERVE_BYTES)]
            dumps, write, leave = json.dumps, os.write, os._exit  # the program may replace what modules hold
            said = running.run(unit, main.__dict__, reserve, value.extend)
            flushed = running.flush(stream)
            text = dumps(said or flushed).encode("ascii")
            told = memoryview(b"%d %d\n" % (len(text), len(value)) + text + value)
            while told:
                told = told[write(_REPORTS, told) :]
            leave(0)
        finally:  # the result is missing, which says "crashed"
            os._exit(70)

    def _limit(self) -> None:
        seconds = results.processor_seconds(self._cpu_s)
        for kind, soft, hard in (
            (resource.RLIMIT_CPU, seconds, seconds + 1),
            (resource.RLIMIT_FSIZE, 0, 0),
            (resource.RLIMIT_NOFILE, _DESCRIPTORS, _DESCRIPTORS),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_NPROC, 0, 0),  # of the user's; root is not held to it
        ):
            resource.setrlimit(kind, (soft, hard))
        mapped = _mapped_bytes()
        if mapped is not None:
            most = mapped + self._memory_bytes
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _whole(report: bytearray) -> tuple[bytes, bytes] | None:
    """What a process said, and the text of its value; None while that is not whole, or is nothing of the kind."""
    header, newline, rest = bytes(report).partition(b"\n")
    sizes = header.split(b" ")
    if not newline or len(header) > 40 or len(sizes) != 2 or not all(size.isdigit() for size in sizes):
        return None
    said, value = map(int, sizes)
    return (rest[:said], rest[said : said + value]) if len(rest) >= said + value else None


def _missing(omit: set[str]) -> dict[Layer, str]:
    system = f"{platform.system()} on {platform.machine()} has none that is known here"
    missing = {layer: system for layer in Layer if layer is not Layer.LIMITS}
    if _mapped_bytes() is None:
        missing[Layer.LIMITS] = (
            f"{platform.system()} does not limit memory; processor time, files and the wall clock are limited"
        )
    return missing | {Layer[name]: "left out" for name in omit}


def _mapped_bytes() -> int | None:
    """What this process has mapped, where the system tells: there, and only there, it can be limited."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def main() -> None:
    """Serves requests from standard input until it closes."""
    serve(_Runner)
