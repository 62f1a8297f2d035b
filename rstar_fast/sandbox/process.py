"""A worker process, as the pool holds it: started, asked, stopped."""

from __future__ import annotations

import subprocess
from typing import Any

from rstar_fast.config import SandboxConfig
from rstar_fast.sandbox.child import is_heard, start_worker
from rstar_fast.sandbox.layers import Confinement, Layer
from rstar_fast.sandbox.placement import placement_file
from rstar_fast.sandbox.protocol import Broken, receive, send
from rstar_fast.types import CodeError, ErrorKind, Execution, Program, RstarError

# Loading sympy takes seconds on a busy machine.
_START_S = 120.0
# The worker ends a program by itself, its prefix and a second try included; past this the worker is the one that hangs.
_GRACE_S = 90.0
_RUNS = 3


class NoAnswer(Broken):
    """A worker is silent for longer than a program may take."""


class WorkerProcess:
    """A worker process, which runs one program at a time.

    Args:
      config: limits of each step.
      omit: layers that are left out; for tests.

    Attributes:
      confinement: what holds its programs in.

    Raises:
      RstarError: the process could not be started, or no program runs in it.
    """

    def __init__(self, config: SandboxConfig, omit: frozenset[Layer]) -> None:
        self._timeout_s = _RUNS * config.timeout_s + _GRACE_S
        try:
            self._process = start_worker("rstar_fast.sandbox", *filter(None, [placement_file()]))
        except OSError as error:
            raise RstarError(f"a sandbox worker did not start ({error}): free processes, memory or open files") from error
        try:
            self._send({**config.to_mapping(), "omit": [layer.name for layer in omit]})
            said = self._receive(_START_S)
        except Broken as error:
            self.stop()
            raise RstarError(f"a sandbox worker did not start ({error}): see what it wrote to stderr") from None
        self.confinement = Confinement({Layer[name]: why for name, why in said["missing"].items()})
        if said["failure"] is not None:
            self.stop()
            raise RstarError(f"no program runs in the sandbox here ({said['failure']}); {self.confinement}")

    def run(self, program: Program) -> Execution:
        """Runs a program.

        Raises:
          Broken: the worker has died or does not answer.
        """
        self._send({"prefix": program.prefix, "code": program.code})
        reply = self._receive(self._timeout_s)
        error = None
        if reply["error"] is not None:
            error = CodeError(ErrorKind(reply["error"]["kind"]), reply["error"]["type"], reply["error"]["message"])
        timed_out = error is not None and error.kind is ErrorKind.TIMED_OUT
        return Execution(reply["output"], error, reply["seconds"], timed_out)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        send(self._process.stdin.fileno(), message)

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not is_heard(descriptor, timeout_s):
            raise NoAnswer(f"no answer within {timeout_s:g} s")
        return receive(descriptor)

    def stop(self) -> None:
        """Ends the process: by closing its input, by force when that does not do."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
