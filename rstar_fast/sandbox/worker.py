"""A worker process: keeps the states of steps as waiting processes, and has each new step run in a fork of its parent's.

    pool -- request --> supervisor -- wakes --> guest (a snapshot) -- forks --> child: runs the step, then waits: a snapshot
         <-- reply ---             <-- output, report ---

The supervisor itself never runs a program's code, nor trusts what a guest says of anything but its own program.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import traceback
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NoReturn

from rstar_fast import _sandbox
from rstar_fast.programs import Program
from rstar_fast.sandbox import blocks, confine, guest, results
from rstar_fast.sandbox.confine import GuestSettings
from rstar_fast.sandbox.guest import LOAD_NUMERIC
from rstar_fast.sandbox.layers import Layer
from rstar_fast.sandbox.protocol import Broken, serve
from rstar_fast.sandbox.results import Result
from rstar_fast.sandbox.running import Unit

_LOAD_S = 60.0


@dataclass(slots=True)
class _Snapshot:
    """A guest that waits in the state its program left.

    Attributes:
      process: its number.
      text: the code that has run, without newlines at its end.
      numeric: NumPy was loaded before it ran.
      output: what that printed.
      memory: bytes that are its alone, at most.
    """

    process: int
    text: str
    numeric: bool
    output: Any
    memory: int


class _Gone(Broken):
    """The first guest, of which all others are made, is not there, or does not fork any more."""


# What these load costs every fork: programs that name none of them start from a guest without.
_NUMERIC = ("numpy", "scipy", "pandas", "matplotlib", "networkx", "sklearn", "statsmodels")


class _Worker:
    """The supervisor's side of all guests."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._timeout_s, self._cpu_s, self._most_bytes = settings["timeout_s"], settings["cpu_s"], settings["output_chars"]
        self._most_snapshots, self._most_memory = settings["snapshots"], settings["snapshot_mb"] << 20
        self.missing, guest_settings = confine.isolate(
            GuestSettings(
                memory_mb=settings["memory_mb"],
                cpu_s=settings["cpu_s"],
                scratch_mb=settings["scratch_mb"],
                base=None,
                readable=confine.readable_paths(),
                omit=frozenset(Layer[name] for name in settings["omit"]),
            )
        )
        self._scratch = os.path.join(guest_settings.base, "scratch") if guest_settings.base is not None else None
        self._snapshots: OrderedDict[tuple[bool, str], _Snapshot] = OrderedDict()
        self._memory = 0
        self._numeric: _Snapshot | None = None  # as the first guest, with more loaded; made when it is needed
        self._start(guest_settings)

    def _start(self, settings: GuestSettings) -> None:
        keeper = _fork_keeper() if Layer.PROCESSES not in self.missing else -1
        output, guest_output, reports, guest_reports, program, guest_program = _sandbox.open_channels()
        first = os.fork()
        if first == 0:
            null = os.open(os.devnull, os.O_RDWR)
            _become_guest(settings, null, guest_output, guest_reports, guest_program)
        blocks.leave()
        os.close(guest_output)
        os.close(guest_reports)
        said = json.loads(_heard(reports))
        self.missing |= {Layer[name]: why for name, why in said["missing"].items()}
        listener = -1
        if said["listener"] >= 0:
            listener = _sandbox.take_descriptor(first, said["listener"])
            os.kill(first, signal.SIGUSR1)
            _heard(reports)
        self._first = _Snapshot(first, "", False, _sandbox.Output(self._most_bytes), 0)
        self._supervisor = _sandbox.Supervisor(
            output=output,
            reports=reports,
            program=program,
            guest_program=guest_program,
            listener=listener,
            owner=0,
            keeper=keeper,
        )
        self._supervisor.adopt(first)

    def close(self) -> None:
        """Ends all guests."""
        self._supervisor.end_all()

    def execute(self, program: Program) -> Result:
        """Runs code after its prefix. The meaning is that of the two written one after the other.

        Raises:
          _Gone: no program can be run any more.
        """
        before, code = program.before, program.code
        whole = before + code
        root = self._root(whole)
        plain = whole if whole.isascii() else unicodedata.normalize("NFKC", whole)  # as names are read
        if "__future__" in plain:  # tells the compiler how to read all that follows
            return self._of_whole(root, whole)
        state: _Snapshot | None = self._nearest(root, whole, len(before) if before else len(whole.rstrip()) - 1)
        assert state is not None
        if not before:  # who does not say where the last step begins may have run the earlier ones all the same
            before, code = whole[: len(state.text)], whole[len(state.text) :]
        rest = before[len(state.text) :]
        if rest.strip():
            result, state = self._step(state, rest, before, is_last=False)
            if result is not None:
                return result
        if state is not None and state is not root:
            result, _ = self._step(state, code, whole, is_last=True)
            if result is not None:
                return result
        return self._of_whole(root, whole)

    def _of_whole(self, root: _Snapshot, source: str) -> Result:
        result, _ = self._step(root, source, source, is_last=True)
        if result is None:
            raise _Gone
        return result

    def _root(self, text: str) -> _Snapshot:
        """The guest from which all states of a program descend."""
        if not any(name in text for name in _NUMERIC):
            return self._first
        if self._numeric is None:
            output = self._first.output.copy()
            outcome = self._supervisor.run(self._first.process, LOAD_NUMERIC, _LOAD_S, _LOAD_S, output)
            if outcome.may_be_kept:
                self._numeric = _Snapshot(outcome.child, "", True, output, 0)
            else:  # each program loads it by itself
                if outcome.child >= 0:
                    self._supervisor.end(outcome.child)
                self._numeric = self._first
        return self._numeric

    def _nearest(self, root: _Snapshot, text: str, most: int) -> _Snapshot:
        """Of the states that are kept, the one that has the most of a program behind it, `most` at most; it counts as used."""
        nearest = root
        for snapshot in self._snapshots.values():
            size = len(snapshot.text)
            if (
                len(nearest.text) < size <= most
                and snapshot.numeric == root.numeric
                and text.startswith(snapshot.text)
                and text[size : size + 1] in ("", "\n")
            ):
                nearest = snapshot
        if nearest is not root:
            self._snapshots.move_to_end((nearest.numeric, nearest.text))
        return nearest

    def _step(self, state: _Snapshot, source: str, text: str, *, is_last: bool) -> tuple[Result | None, _Snapshot | None]:
        """Runs code that goes on from a state; `text` is all that will have run then.

        Returns:
          The result of the whole program, None while there is none. And the state after the code, None where no step can start
          from it. Neither where the code is no whole by itself or `state` is gone.
        """
        lines = text.count("\n", 0, len(text) - len(source))
        unit = Unit(source, lines, state.text != "", is_last, self._most_bytes)
        output = state.output.copy()
        outcome = self._supervisor.run(state.process, unit.to_bytes(), self._timeout_s, self._cpu_s, output)
        # A state that does not wait as it should is no more to be trusted; those that have run no program are slow at worst.
        if outcome.end == _sandbox.End.NO_CHILD or not outcome.guest_waits and state.text:
            self._drop(state, at_once=True)
        if outcome.end == _sandbox.End.NO_CHILD:
            return None, None
        said = results.read_report(outcome.report) if outcome.end == _sandbox.End.REPORTED else None
        if said is not None and "apart" in said and is_last and not state.text:
            said = None  # no guest says so of a whole program
        went_on = said is not None and not said.keys() & {"kind", "apart", "left", "stirred"}
        new = None
        if went_on and outcome.may_be_kept and text.strip():
            new = _Snapshot(outcome.child, text.rstrip("\n"), state.numeric, output, outcome.private_bytes)
            self._keep(new)
        elif outcome.child >= 0:
            self._supervisor.end(outcome.child)
        if new is None and self._scratch is not None:
            _empty(self._scratch)
        if not is_last and outcome.end != _sandbox.End.TIMED_OUT or said is not None and "apart" in said:
            return None, new  # where an earlier step failed: what comes of it and the later ones is for a run of all to say
        return self._result(outcome, output, said), new

    def _keep(self, snapshot: _Snapshot) -> None:
        """Keeps a state, and ends those used longest ago that are one too many, or together too large."""
        key = snapshot.numeric, snapshot.text
        if key in self._snapshots:
            self._drop(self._snapshots[key])
        self._snapshots[key] = snapshot
        self._memory += snapshot.memory
        while len(self._snapshots) > self._most_snapshots or self._memory > self._most_memory and len(self._snapshots) > 1:
            self._drop(next(iter(self._snapshots.values())))

    def _drop(self, snapshot: _Snapshot, *, at_once: bool = False) -> None:
        if snapshot is self._first or snapshot is self._numeric:
            raise _Gone
        del self._snapshots[snapshot.numeric, snapshot.text]
        self._memory -= snapshot.memory
        if at_once:
            self._supervisor.end(snapshot.process)
        else:
            self._supervisor.end_kept(snapshot.process)

    def _result(self, outcome: Any, output: Any, said: dict[str, Any] | None) -> Result:
        if outcome.end == _sandbox.End.TIMED_OUT:
            error = results.used_up(self._cpu_s) if outcome.used_up else results.too_long(self._timeout_s)
            return Result(results.decoded(output), error)
        if said is not None:
            return results.of_report(said, output.copy(), outcome.value)
        if outcome.end == _sandbox.End.REPORTED:  # what no guest reports
            return Result(results.decoded(output), results.crashed("the program's result was forged"))
        return Result(results.decoded(output), results.of_end(outcome.status, outcome.processor_s, self._cpu_s))


def _empty(folder: str) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def _heard(reports: int) -> bytes:
    """The next report of the first guest while it prepares itself.

    Raises:
      _Gone: it has ended; what it wrote to stderr says why.
    """
    report = _sandbox.hear(reports)
    if not report:
        raise _Gone
    return report


def _fork_keeper() -> int:
    """The first process of the new process numbers, which has to be there for the others to be: it waits for the worker's end."""
    wait, held = os.pipe()  # the worker never closes its end
    os.set_inheritable(held, False)
    keeper = os.fork()
    if keeper == 0:
        os.closerange(0, wait)
        os.closerange(wait + 1, 1024)
        os.read(wait, 1)
        os._exit(0)
    os.close(wait)
    return keeper


def _become_guest(settings: GuestSettings, *descriptors: int) -> NoReturn:
    """In the process that is to be the first guest: nothing of the supervisor's stays open but these."""
    try:
        null, output, reports, program = (fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in descriptors)
        for descriptor, place in ((null, 0), (output, 1), (reports, _sandbox.GUEST_REPORTS), (program, _sandbox.GUEST_PROGRAM)):
            os.dup2(descriptor, place)
        os.closerange(_sandbox.GUEST_END, 4096)
        guest.serve(settings)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


def main() -> None:
    """Serves requests from standard input until it closes."""
    serve(_Worker)
