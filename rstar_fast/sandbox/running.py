"""Runs a program's code, or a unit of it, in this process, which is there for nothing else. The one place that runs code."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import random
import re
import sys
import types
from collections.abc import Callable
from typing import NamedTuple

from rstar_fast.programs import ErrorKind

RESERVE_BYTES = 1 << 20  # for saying that memory has ended
_MESSAGE_CHARACTERS = 500
_CALL = re.compile(r"[A-Za-z_][\w.]*\(.*\)$")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w* = [^;]*$")
_MAY_BE_DOCSTRING = re.compile(r"(?:\s|#.*\n)*\w{0,2}['\"(]")
# At the beginning of a line: what the compiler judges by the whole program.
_OF_THE_WHOLE = re.compile(r"^(?:global\b|(?!(?:else|try|finally|except)\b)[^\W\d]\w*[ \t]*:(?!=))", re.MULTILINE)
PIECE_BYTES = 1 << 15
_NOT_APART: dict[str, object] = {"apart": False}
# What steps do with sympy: at its first use it loads modules, fills tables and orders its dispatchers, which no child shall repeat.
_REHEARSAL = (
    "from sympy import *; x = Symbol('x'); str(solve(x**2 - 3*x + 2, x)), str(solve(Eq(x**2, 2), x)), str(factor(x**2 - 1))",
    "from sympy import *; x, y = symbols('x y'); str(solve([x + y - 3, x - y - 1], [x, y])), str(expand((x + y)**2)), str(Eq(x, y))",
    "from sympy import *; x = Symbol('x'); str(simplify(sin(x)**2 + cos(x)**2)), str((x**2 + 1).subs(x, 3)), str(diff(x**3, x).subs(x, 2))",
    "from sympy import *; x = Symbol('x'); str(integrate(x**2, (x, 0, 1))), str(limit(sin(x)/x, x, 0)), str(summation(x, (x, 1, 10)))",
    "from sympy import *; str(factorint(84)), str(divisors(84)), str(gcd(84, 36)), str(lcm(4, 6)), isprime(97), nextprime(90), totient(9)",
    "from sympy import *; str(binomial(8, 3)), str(factorial(5)), str(Rational(1, 3) + Rational(2, 5)), float(Rational(1, 3)), N(pi, 10)",
    "from sympy import *; str(sqrt(50)), sqrt(50).evalf(5), str(simplify(sqrt(8)/2)), str(nsimplify(0.5)), int(floor(sqrt(7))), ceiling(2.5)",
    "from sympy import *; M = Matrix([[1, 2], [3, 4]]); str(M.det()), str(M.inv()), str(M * M), str(Point(0, 0).distance(Point(3, 4)))",
)


class Unit(NamedTuple):
    """What a child is to run.

    Attributes:
      source: Python code.
      line: how many lines of the whole program stand before it.
      goes_on: other code has run before it in the same namespace.
      is_last: the value of its last expression is wanted.
      most_bytes: of that value's text.
    """

    source: str
    line: int
    goes_on: bool
    is_last: bool
    most_bytes: int

    def to_bytes(self) -> bytes:
        return b"%d %d %d %d\n" % self[1:] + self.source.encode("utf-8", "surrogatepass")

    @classmethod
    def from_bytes(cls, data: bytes) -> Unit:
        header, _, source = data.partition(b"\n")
        line, goes_on, is_last, most_bytes = header.split()
        return cls(source.decode("utf-8", "surrogatepass"), int(line), goes_on == b"1", is_last == b"1", int(most_bytes))


class _NotApart(Exception):
    """A unit cannot be run after the code before it: only the two together."""


def warm_up(about_to_run: Callable[[str], None] = lambda source: None) -> None:
    """Loads what steps import, so that every child finds it loaded; `about_to_run` is told of each piece of code."""
    import collections  # noqa: F401
    import datetime  # noqa: F401
    import decimal  # noqa: F401
    import fractions  # noqa: F401
    import functools  # noqa: F401
    import itertools  # noqa: F401
    import math  # noqa: F401
    import re  # noqa: F401
    import statistics  # noqa: F401

    import sympy
    import sympy.core.random

    for source in _REHEARSAL:
        about_to_run(source)
        exec(compile(source, "<rehearsal>", "exec"), {})
    random.seed(0)
    sympy.core.random.seed(0)  # of its own: sympy draws where it factors and where it tests for zero


def load_numeric() -> None:
    """Loads what costs every fork, but is needed by few programs only."""
    # Threads of its own would not come along in a fork.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    import numpy

    os.environ.clear()
    numpy.linalg.solve(numpy.eye(2), numpy.ones(2))
    numpy.random.seed(0)


def fix_chance() -> None:
    """Has all that is drawn from the system be drawn from a fixed seed: a program gives the same in every run."""
    draw = random.Random(0).randbytes
    os.urandom = draw
    random._urandom = draw  # type: ignore[attr-defined]
    seed = random.Random.seed

    def seed_from_draw(self: random.Random, a: object = None, version: int = 2) -> None:
        seed(self, draw(32) if a is None else a, version)  # type: ignore[arg-type]

    random.Random.seed = seed_from_draw  # type: ignore[method-assign,assignment]
    random.seed = random._inst.seed  # type: ignore[attr-defined]
    random.seed(0)


def _text(value: object) -> str:
    """What an exception says, as far as it is told; its text may fail, being the program's code."""
    try:
        return str(value)[:_MESSAGE_CHARACTERS]
    except BaseException:  # hostile __str__; the type's name is all there is to tell
        return ""


def _describe(error: BaseException) -> dict[str, object]:
    kind = ErrorKind.OUT_OF_MEMORY if isinstance(error, MemoryError) else ErrorKind.RAISED
    return {"kind": kind.value, "type": type(error).__name__[:_MESSAGE_CHARACTERS], "message": _text(error)}


def _compiled(unit: Unit) -> tuple[types.CodeType, types.CodeType | None]:
    """The unit's statements; where the last one is an expression, apart from the others.

    Raises:
      _NotApart: the unit has no statement whose value could be the program's.
    """
    if unit.goes_on and _OF_THE_WHOLE.search(unit.source):
        raise _NotApart
    # Most steps end in a line that is a call or an assignment. Where what stands before it is whole by itself, the line is the
    # last statement, and no tree has to be made, which costs more than compiling. Newlines put each at its line of the program.
    source = "\n" * unit.line + unit.source
    before, _, line = source.rstrip().rpartition("\n")
    mode = "eval" if _CALL.match(line) else "exec" if _ASSIGNMENT.match(line) else None
    if mode is not None and not _MAY_BE_DOCSTRING.match(before):
        with contextlib.suppress(SyntaxError, ValueError, OverflowError):
            last_line = "\n" * (before.count("\n") + 1) + line if before else line
            return compile(before, "<step>", "exec", 0, True), compile(last_line, "<step>", mode, 0, True)
    tree = compile(source, "<step>", "exec", ast.PyCF_ONLY_AST, True)
    body, last = tree.body, None
    if unit.goes_on and unit.is_last and not body:
        raise _NotApart
    if unit.goes_on and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body.insert(0, ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0))  # else it would be a docstring
    if body and isinstance(body[-1], ast.Expr):
        last = compile(ast.Expression(body[-1].value), "<step>", "eval", 0, True)
        if not isinstance(body[-1].value, ast.Constant):  # which does nothing, or is the program's docstring
            del body[-1]
    return compile(tree, "<step>", "exec", 0, True), last


def _is_plain(value: object, most: int = 1000) -> bool:
    """Whether no code of the program's can be behind a value's text."""
    kind = type(value)
    if kind in (list, tuple, set, frozenset, dict):
        items = [*value.items()] if isinstance(value, dict) else [*value]  # type: ignore[call-overload]
        return len(items) <= most and all(_is_plain(item, most // 10) for item in items)
    return kind in (int, float, complex, str, bytes, bool, type(None))


def _report_value(value: object, most_bytes: int, report: Callable[[bytes], object]) -> dict[str, object]:
    """Reports the text of a value, as much of it as can be kept; returns what else there is to say of it."""
    plain = _is_plain(value)
    data = str(value).encode("utf-8", "backslashreplace")
    half = most_bytes // 2
    begin = data[: most_bytes - half]
    rest = data[len(begin) :]
    end = rest[max(0, len(rest) - half) :]
    kept = begin + end
    for at in range(0, len(kept), PIECE_BYTES):
        report(kept[at : at + PIECE_BYTES])
    said: dict[str, object] = {"begin": len(begin), "left_out": len(rest) - len(end)}
    # The text of another value may have run the program's code, which no later step shall notice.
    return said if plain else {**said, "stirred": True}


def run(
    unit: Unit, names: dict[str, object], reserve: list[bytearray], report_value: Callable[[bytes], object]
) -> dict[str, object]:
    """Runs a unit; returns what is to be said of it.

    `reserve` is given back when a program has run out of memory: saying so takes some. If the value of the last expression is
    not None, `report_value` gets its text, in pieces of PIECE_BYTES at most.

    The value is the reference's way (microsoft/rStar: the last expression is evaluated, and what it gives is shown after what
    was printed).
    """
    try:
        try:
            statements, last = _compiled(unit)
        except _NotApart:
            return _NOT_APART
        except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError) as error:
            # Not whole by itself: maybe it goes on with a block that earlier code has begun, or begins one itself.
            return _NOT_APART if unit.goes_on or not unit.is_last else _describe(error)
        exec(statements, names)
        value = eval(last, names) if last is not None else None
        return {} if value is None or not unit.is_last else _report_value(value, unit.most_bytes, report_value)
    except SystemExit as error:
        code = error.code
        if code is not None and not (type(code) in (int, bool) and code == 0):
            return {"kind": ErrorKind.RAISED.value, "type": "SystemExit", "message": _text(code)}
        return {"left": True}
    except BaseException as error:  # whatever a program raises is its result
        reserve.clear()
        return _describe(error)


def open_streams(source: int, output: int, errors: int) -> io.TextIOWrapper:
    """Has the program read from and print to these descriptors; returns what it prints to."""
    sys.stdin = sys.__stdin__ = open(source, encoding="utf-8", closefd=False)
    # Nothing is held back: what was printed before a crash or the time limit is there, from whatever state it was printed.
    printed = io.FileIO(output, "wb", closefd=False)
    stream = io.TextIOWrapper(printed, "utf-8", "backslashreplace", "\n", write_through=True)  # type: ignore[arg-type]
    sys.stdout = sys.__stdout__ = stream
    sys.stderr = sys.__stderr__ = open(errors, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    return stream


def flush(output: io.TextIOWrapper) -> dict[str, object]:
    """Has all that was printed go out; returns what is to be said where that fails."""
    try:
        if sys.stdout is not output:
            sys.stdout.flush()
        output.flush()
    except BaseException as error:  # a program may have closed or replaced its output
        return _describe(error)
    return {}
