"""Exact values of plain arithmetic, without any library: the cheap path of grading."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_TOKEN = re.compile(
    r"\s*(\d+\.?\d*|\.\d+|\\frac|\\cdot(?![a-z])|\\times(?![a-z])|\\div(?![a-z])|\*\*|[-+*/^(){}]|E|e(?=[-+]?\d))"
)
_MOST_CHARACTERS = 2000
_MOST_BITS = 8000  # of a power, so that no text of 2000 characters takes long
_DECIMAL = re.compile(r"([-+]?)\s*(\d+(?:\.\d*)?|\.\d+)")
_SCIENTIFIC = re.compile(
    r"([-+]?)\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:[eE]|(?:\\times|\\cdot|\*)\s*10\s*(?:\^|\*\*))\s*([-+]?\s*\d{1,3}|\{\s*[-+]?\s*\d{1,3}\s*\})"
)
_REPEATING = re.compile(r"([-+]?)\s*(\d*)\.(\d*)\s*\\(?:overline|bar|dot)\s*\{(\d{1,50})\}")
_FLOAT_DIGITS = 12
_FLOAT_NOISE = Fraction(1, 10**11)


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value.

    Attributes:
      decimals: digits behind the point when it was written as one decimal number; None otherwise.
      digits: its significant digits then; 0 otherwise.
    """

    value: Fraction
    decimals: int | None = None
    digits: int = 0

    @property
    def is_float(self) -> bool:
        """Whether a program may have printed it: a decimal of as many digits as a computation in floats gives."""
        return self.decimals is not None and self.digits >= _FLOAT_DIGITS

    def percent(self) -> Number:
        """The hundredth part."""
        return Number(self.value / 100, None if self.decimals is None else self.decimals + 2, self.digits)


def agree(key: Number, answer: Number, least_decimals: int) -> bool:
    """Whether two numbers are equal: exactly; or one rounds the other, which is no decimal and does not end.

    A number of 12 digits or more behind a point is what a program prints: it may be off in its last digits, and rounds to a
    shorter key as the closed form does that it was computed from.

    Args:
      least_decimals: how many decimals a key needs to stand for what rounds to it; an answer needs 6.
    """
    if key.value == answer.value:
        return True
    if (key.is_float or answer.is_float) and abs(key.value - answer.value) <= _FLOAT_NOISE * abs(key.value):
        return True
    if key.decimals is not None and (_unending(answer) or answer.is_float and answer.digits > key.digits):
        return rounds_to(answer.value, key, least_decimals)
    return answer.decimals is not None and _unending(key) and rounds_to(key.value, answer, 6)


def rounds_to(exact: Fraction, decimal: Number, least_decimals: int) -> bool:
    """Whether `decimal`, written with enough decimals and two significant digits, is `exact` rounded."""
    if decimal.decimals is None or decimal.decimals < least_decimals or decimal.digits < 2:
        return False
    if decimal.is_float and abs(exact - decimal.value) <= _FLOAT_NOISE * abs(exact):
        return True
    return abs(exact - decimal.value) * 2 <= Fraction(1, 10**decimal.decimals)


def _unending(number: Number) -> bool:
    """Whether it was not written as a decimal, and could not be."""
    rest = number.value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return number.decimals is None and rest != 1


class _NotANumber(Exception):
    pass


def number_of(text: str) -> Number | None:
    """The exact value of +, -, *, /, powers, \\frac and mixed numbers over numerals; None for anything else, or too large."""
    text = text.strip()
    if len(text) > _MOST_CHARACTERS or not re.search(r"\d", text):
        return None
    return _decimal(text) or _repeating(text) or _computed(text)


def _decimal(text: str) -> Number | None:
    match = _DECIMAL.fullmatch(text) or _SCIENTIFIC.fullmatch(text)
    if not match:
        return None
    mantissa = match[2].rstrip(".")
    exponent = int(re.sub(r"[{}\s]", "", match[3])) if match.re is _SCIENTIFIC else 0
    value = Fraction(mantissa) * Fraction(10) ** exponent
    behind = len(mantissa.partition(".")[2])
    decimals = behind - exponent if behind or exponent < 0 else None
    digits = len(mantissa.replace(".", "").lstrip("0"))
    return Number(-value if match[1] == "-" else value, decimals, digits if decimals is not None else 0)


def _repeating(text: str) -> Number | None:
    match = _REPEATING.fullmatch(text)
    if not match:
        return None
    ahead, period = match[2] + match[3], match[4]
    value = (int(ahead or "0") + Fraction(int(period), 10 ** len(period) - 1)) / 10 ** len(match[3])
    return Number(-value if match[1] == "-" else value)


def _computed(text: str) -> Number | None:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            return None
        tokens.append(match[1])
        at = match.end()
    try:
        parser = _Parser(tokens)
        value = parser.sum()
        return Number(value) if parser.peek() is None else None
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
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if exponent.denominator != 1 or abs(exponent) * bits > _MOST_BITS or self.peek() in ("^", "**"):
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
        if not 0 <= fraction < 1:
            raise _NotANumber
        return fraction

    def _fraction(self) -> Fraction:
        parts = []
        for _ in range(2):
            self._expect("{")
            parts.append(self.sum())
            self._expect("}")
        return parts[0] / parts[1]
