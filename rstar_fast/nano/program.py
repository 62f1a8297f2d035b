"""Worked programs: expressions that carry their value, and the builder of solutions in the code-augmented format."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from random import Random

from rstar_fast import steps

Number = int | Fraction

_ATOM, _POWER, _PRODUCT, _SUM = 4, 3, 2, 1


class Term:
    """A Python expression: its text and its exact value are built together, so that they cannot disagree.

    Attributes:
      text: the expression as Python source.
      value: what the source evaluates to.
      rank: how tightly its outermost operator binds; decides where brackets go.
    """

    __slots__ = ("rank", "text", "value")

    def __init__(self, text: str, value: Number, rank: int = _ATOM) -> None:
        self.text, self.value, self.rank = text, value, rank

    def _join(self, other: Term | int, sign: str, rank: int, value: Callable[[Number, Number], Number]) -> Term:
        other = term(other)
        left = self.text if self.rank >= rank else f"({self.text})"
        associative = sign == "+" or (sign == "*" and "//" not in other.text and "%" not in other.text)
        right = other.text if other.rank > rank or (other.rank == rank and associative) else f"({other.text})"
        return Term(f"{left} {sign} {right}", value(self.value, other.value), rank)

    def __add__(self, other: Term | int) -> Term:
        return self._join(other, "+", _SUM, lambda a, b: a + b)

    def __sub__(self, other: Term | int) -> Term:
        return self._join(other, "-", _SUM, lambda a, b: a - b)

    def __mul__(self, other: Term | int) -> Term:
        return self._join(other, "*", _PRODUCT, lambda a, b: a * b)

    def __floordiv__(self, other: Term | int) -> Term:
        return self._join(other, "//", _PRODUCT, lambda a, b: a // b)

    def __mod__(self, other: Term | int) -> Term:
        return self._join(other, "%", _PRODUCT, lambda a, b: a % b)

    def __pow__(self, other: Term | int) -> Term:
        other = term(other)
        left = self.text if self.rank == _ATOM else f"({self.text})"
        right = other.text if other.rank == _ATOM else f"({other.text})"
        return Term(f"{left} ** {right}", self.value**other.value, _POWER)


def term(value: Term | Number) -> Term:
    """A number as a term; a negative one binds like a sum."""
    if isinstance(value, Term):
        return value
    return Term(str(value), value, _ATOM if value >= 0 else _SUM)


def call(name: str, function: Callable[..., Number], *arguments: Term | int) -> Term:
    """The call `name(arguments)`, evaluated by `function`."""
    terms = [term(argument) for argument in arguments]
    return Term(f"{name}({', '.join(t.text for t in terms)})", function(*(t.value for t in terms)))


def ratio(numerator: Term | int, denominator: Term | int) -> Term:
    """An exact quotient; the program must import Fraction."""
    return call("Fraction", Fraction, numerator, denominator)


class Program:
    """Builds a worked solution step by step.

    Attributes:
      style: 0 or 1: which of a family's ways to write the solution.
    """

    def __init__(self, random: Random) -> None:
        self.style = random.randrange(2)
        self._print_apart = random.randrange(2) == 0
        self._steps: list[list[str]] = []
        self._value: Number | None = None

    def step(self, comment: str, *lines: str) -> None:
        """Opens the next step with a comment, and code lines whose values the family vouches for."""
        self._steps.append([f"# {comment}", *lines])

    def line(self, text: str) -> None:
        self._steps[-1].append(text)

    def let(self, name: str, value: Term | int) -> Term:
        """Assigns `value` to `name` in the open step; returns the name as a term."""
        value = term(value)
        self.line(f"{name} = {value.text}")
        return Term(name, value.value)

    def show(self, value: Term) -> None:
        """Prints the answer: in a step of its own, or at the end of the last one."""
        if self._print_apart or not self._steps:
            self.step("Now print the answer")
        self.line(f"print({value.text})")
        self._value = value.value

    @property
    def value(self) -> Number:
        """What the program prints."""
        assert self._value is not None, "a worked program must print its answer"
        return self._value

    def solution(self) -> str:
        """The whole solution, from `<code>` to `<end_of_answer>`."""
        body = f"{steps.END_OF_STEP}\n".join("".join(f"{line}\n" for line in lines) for lines in self._steps)
        return completed(f"{steps.CODE}\n{body}{steps.END_OF_CODE}", str(self.value))


def completed(code: str, output: str) -> str:
    """The whole solution whose code, markers included, printed `output`: the output and the answer behind it."""
    return (
        f"{code}\n{steps.OUTPUT}{output}{steps.END_OF_OUTPUT}\n"
        f"{steps.ANSWER}The answer is \\boxed{{{output}}}.{steps.END_OF_ANSWER}"
    )
