"""Exact values of plain arithmetic, without any library: the cheap path of grading."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_TOKEN = re.compile(r"\s*(\d+\.?\d*|\.\d+|\\frac|\\cdot(?![a-z])|\\times(?![a-z])|\\div(?![a-z])|\*\*|[-+*/^(){}]|E|e(?=[-+]?\d))")
_MOST_DIGITS = 2000


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value.

    Attributes:
      decimals: digits behind the point when it was written as one decimal number; None otherwise.
    """

    value: Fraction
    decimals: int | None = None


class _NotANumber(Exception):
    pass


def number_of(text: str) -> Number | None:
    """The exact value of +, -, *, /, powers, \\frac and mixed numbers over numerals; None for anything else, or too large."""
    plain = re.fullmatch(r"([-+]?)\s*(\d+(?:\.\d*)?|\.\d+)", text)
    if plain and len(text) <= _MOST_DIGITS:
        value = Fraction(plain[2].rstrip(".") if plain[2].rstrip(".") else "0")
        decimals = len(plain[2].partition(".")[2]) if "." in plain[2] else None
        return Number(-value if plain[1] == "-" else value, decimals or None)
    if len(text) > _MOST_DIGITS or not re.search(r"\d", text):
        return None
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if not match:
            return None
        tokens.append(match[1])
        at = match.end()
    try:
        parser = _Parser(tokens)
        value = parser.sum()
        if parser.peek() is not None:
            return None
        return Number(value)
    except (_NotANumber, ZeroDivisionError, RecursionError):
        return None


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at = tokens, 0

    def peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str:
        token = self.peek()
        if token is None:
            raise _NotANumber
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise _NotANumber

    def sum(self) -> Fraction:
        value = self._product()
        while self.peek() in ("+", "-"):
            value = value + self._product() if self._next() == "+" else value - self._product()
        return value

    def _product(self) -> Fraction:
        value = self._factor()
        while (token := self.peek()) is not None:
            if token in ("*", "\\cdot", "\\times"):
                self._next()
                value *= self._factor()
            elif token in ("/", "\\div"):
                self._next()
                value /= self._factor()
            elif token == "(":
                value *= self._factor()
            else:
                break
        return value

    def _factor(self) -> Fraction:
        if self.peek() in ("+", "-"):
            return self._factor() if self._next() == "+" else -self._factor()
        base = self._atom()
        if self.peek() in ("^", "**"):
            self._next()
            exponent = self._exponent()
            if exponent.denominator != 1 or abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > 8000:
                raise _NotANumber
            base = base ** int(exponent)
        return base

    def _exponent(self) -> Fraction:
        if self.peek() == "-":
            self._next()
            return -self._exponent()
        return self._atom(mixed=False)

    def _atom(self, mixed: bool = True) -> Fraction:
        token = self._next()
        if token in ("(", "{"):
            value = self.sum()
            self._expect(")" if token == "(" else "}")
            return value
        if token == "\\frac":
            return self._fraction()
        if not token[0].isdigit() and token[0] != ".":
            raise _NotANumber
        value = Fraction(token.rstrip("."))
        if self.peek() in ("e", "E") and mixed:
            self._next()
            return value * Fraction(10) ** self._small_exponent()
        if mixed and token.isdigit():
            if self.peek() == "\\frac":
                self._next()
                return value + self._proper(self._fraction())
            following = self._tokens[self._at : self._at + 3]
            if len(following) == 3 and following[0].isdigit() and following[1] == "/" and following[2].isdigit():
                self._at += 3
                return value + self._proper(Fraction(int(following[0]), int(following[2])))
        return value

    def _small_exponent(self) -> int:
        sign = -1 if self.peek() == "-" else 1
        if self.peek() in ("+", "-"):
            self._next()
        token = self._next()
        if not token.isdigit() or len(token) > 3:
            raise _NotANumber
        return sign * int(token)

    @staticmethod
    def _proper(fraction: Fraction) -> Fraction:
        if not 0 < fraction < 1:
            raise _NotANumber
        return fraction

    def _fraction(self) -> Fraction:
        parts = []
        for _ in range(2):
            self._expect("{")
            parts.append(self.sum())
            self._expect("}")
        return parts[0] / parts[1]
