"""What an expression is worth: its exact value, or its values at fixed points, by which expressions are compared.

Two expressions are equal where they agree to many more digits than chance allows. Each is evaluated on its own, so that n
answers cost n evaluations and not n * n comparisons, and so that a text that blows up is known by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rstar_fast.types import VerdictReason

# Digits to which the worker evaluates, and to which two values have to agree.
CONSTANT_DIGITS, POINT_DIGITS = 110, 40
_CONSTANT_CLOSE, _POINT_CLOSE = Fraction(1, 10**100), Fraction(1, 10**30)
_FEWEST_POINTS = 3

Complex = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Evaluation:
    """An expression's worth.

    Attributes:
      failure: why there is none; None when the rest counts.
      exact: a rational number as "p/q", or a digest of a long one; "" otherwise.
      points: one value, to CONSTANT_DIGITS, of a constant; else the values at the worker's points, None where there is none.
      constant: whether no variable occurs.
      form: canonical text of what has no values: then only the same form is equal.
      shape: rows and columns of a matrix, whose entries are `entries`, row by row.
    """

    failure: VerdictReason | None = None
    exact: str = ""
    points: tuple[Complex | None, ...] = ()
    constant: bool = False
    form: str = ""
    shape: tuple[int, ...] = ()
    entries: tuple[Evaluation, ...] = ()

    @property
    def real(self) -> Fraction | None:
        """The value of a real constant; None for anything else."""
        if not self.constant or self.points[0] is None or self.points[0][1] != 0:
            return None
        return self.points[0][0]


def from_message(message: Mapping[str, Any]) -> Evaluation:
    """Reads what the worker sent.

    Raises:
      KeyError, ValueError, TypeError: it is no such message.
    """
    if "failure" in message:
        return Evaluation(VerdictReason(message["failure"]))
    points = tuple(None if value is None else (Fraction(value[0]), Fraction(value[1])) for value in message.get("points", ()))
    entries = tuple(map(from_message, message.get("entries", ())))
    if not (points or entries or message.get("form")):
        raise ValueError("an evaluation without value")
    shape = tuple(int(length) for length in message.get("shape", ()))
    return Evaluation(
        None, str(message.get("exact", "")), points, bool(message.get("constant")), str(message.get("form", "")), shape, entries
    )


def equal(a: Evaluation, b: Evaluation) -> bool:
    """Whether two evaluations, neither of them failed, are of equal expressions."""
    if a.shape or b.shape:
        return a.shape == b.shape and all(equal(*pair) for pair in zip(a.entries, b.entries, strict=True))
    if a.form or b.form:
        return a.form == b.form
    if a.constant and b.constant:
        if a.exact and b.exact:
            return a.exact == b.exact
        return a.points[0] is not None and b.points[0] is not None and _close(a.points[0], b.points[0], _CONSTANT_CLOSE)
    pairs = _common_points(a, b)
    return len(pairs) >= _FEWEST_POINTS and all(_close(x, y, _POINT_CLOSE) for x, y in pairs)


def ratio(a: Evaluation, b: Evaluation) -> Complex | None:
    """The number r for which a = r * b, r not zero; None where there is none. So `a = 0` and `b = 0` are one equation."""
    if a.shape or b.shape or a.form or b.form or a.constant or b.constant:
        return None
    ratios = []
    for x, y in _common_points(a, b):
        if _size(x) == 0 and _size(y) == 0:
            continue
        if _size(x) == 0 or _size(y) == 0:
            return None
        ratios.append(_divide(x, y))
    if len(ratios) < _FEWEST_POINTS or not all(_close(ratios[0], other, _POINT_CLOSE) for other in ratios):
        return None
    return ratios[0]


def _common_points(a: Evaluation, b: Evaluation) -> Sequence[tuple[Complex, Complex]]:
    longest = max(len(a.points), len(b.points))
    sides = [side.points * longest if side.constant else side.points for side in (a, b)]
    return [(x, y) for x, y in zip(*sides, strict=False) if x is not None and y is not None]


def _size(x: Complex) -> Fraction:
    return x[0] * x[0] + x[1] * x[1]


def _close(x: Complex, y: Complex, tolerance: Fraction) -> bool:
    return _size((x[0] - y[0], x[1] - y[1])) <= tolerance * tolerance * max(_size(x), _size(y))


def _divide(x: Complex, y: Complex) -> Complex:
    size = _size(y)
    return (x[0] * y[0] + x[1] * y[1]) / size, (x[1] * y[0] - x[0] * y[1]) / size
