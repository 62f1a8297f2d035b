"""Programs and what came of them. Apart from the other records, which need NumPy: a sandbox's processes have to be small."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ErrorKind(enum.Enum):
    """Why a program did not run to its end."""

    RAISED = "raised"  # an exception of the program, syntax errors included
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"  # the program's process ended without a result
    LOST = "lost"  # twice the sandbox itself failed with it, which says nothing of the program


@dataclass(frozen=True, slots=True)
class CodeError:
    """What went wrong in a program: data, never a substring of its output.

    Attributes:
      kind: the class of failure.
      type: name of the exception's type, e.g. "ZeroDivisionError".
      message: the exception's message; may be empty.
    """

    kind: ErrorKind
    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


@dataclass(frozen=True, slots=True)
class Program:
    """Code to run: `prefix` is the code of the earlier steps of the same block, `code` that of the new step."""

    code: str
    prefix: str = ""

    @property
    def before(self) -> str:
        """The prefix as whole lines, so that the code behind it begins one: the program is `before + code`."""
        return self.prefix if not self.prefix or self.prefix.endswith("\n") else self.prefix + "\n"


@dataclass(frozen=True, slots=True)
class Execution:
    """What running a program gave.

    Attributes:
      output: everything printed so far, by prefix and code, truncated in the middle at the sandbox's limit. Where the last
        statement is an expression, the text of its value, if it is not None, stands behind it.
      error: None when the program ran to its end.
      seconds: wall-clock time of the run.
      timed_out: True exactly when `error.kind` is TIMED_OUT.
    """

    output: str
    error: CodeError | None = None
    seconds: float = 0.0
    timed_out: bool = False
