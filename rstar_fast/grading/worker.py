"""The process that compares two expressions with math-verify and sympy. Its input is hostile: see `_READABLE`."""

from __future__ import annotations

import logging
import os
import re
import warnings
from typing import Any

from rstar_fast.grading.text import closing
from rstar_fast.sandbox import confine
from rstar_fast.sandbox.protocol import Broken, receive, send
from rstar_fast.types import VerdictReason

_MEMORY_MB = 1024
_CPU_S = 1e6  # the asking side counts the wall clock of every pair; a worker lives long
# What may reach the parser: mathematics. No quotes, no double underscores, no attributes, no backslashes but commands.
_READABLE = re.compile(r"(?:[0-9a-zA-Z{}()\[\]+\-*/^=<>,|!:' ]|\.(?![a-zA-Z_])|_(?!_)|\\[a-zA-Z]+|\\[{}%])*")
_FUNCTIONS = re.compile(r"(?<![\\a-zA-Z])(sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan|pi|infty|theta)(?![a-zA-Z])")
_CALLED = re.compile(r"\\(sqrt|exp)\s*\(")


def main() -> None:
    """Serves pairs from standard input until it closes."""
    replies = os.dup(1)
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    compare_loaded = _loaded()
    confine.limit(_CPU_S, _MEMORY_MB)
    confine.refuse_system_calls()
    try:
        send(replies, {"equal": False, "reason": VerdictReason.DIFFERENT.value})  # ready
        while True:
            pair = receive(0)
            reason = compare_loaded(str(pair["key"]), str(pair["answer"]))
            send(replies, {"equal": reason is VerdictReason.SAME_MATHEMATICS, "reason": reason.value})
    except Broken:
        pass  # the asking side has closed


def _loaded() -> Any:
    """Loads the libraries, parsers included, and returns the comparison."""
    compare_expressions("\\frac{x}{2}+\\sqrt{2}", "x")
    return compare_expressions


def compare_expressions(key: str, answer: str) -> VerdictReason:
    """SAME_MATHEMATICS, DIFFERENT, or NOT_UNDERSTOOD where a side cannot be read or the mathematics fails on it."""
    try:
        equations = [_equation(text) for text in (key, answer)]
        if all(equations):
            return _same_equation(*equations)
        parsed = [_parse(text) for text in (key, answer)]
        if any(expression is None for expression in parsed):
            return VerdictReason.NOT_UNDERSTOOD
        return VerdictReason.SAME_MATHEMATICS if _equal(parsed, key, answer) else VerdictReason.DIFFERENT
    except MemoryError:
        raise
    except Exception:  # whatever sympy raises on strange input: it was not found equal
        return VerdictReason.NOT_UNDERSTOOD


def _latex(text: str) -> str | None:
    """The text as LaTeX for the parser; None when it holds what no mathematics needs."""
    if not _READABLE.fullmatch(text):
        return None
    text = text.replace("**", "^")
    text = _FUNCTIONS.sub(lambda name: "\\" + name[1] + " ", text)
    while called := _CALLED.search(text):
        end = closing(text, called.end() - 1)
        if end is None:
            return None
        inner = text[called.end() : end]
        replaced = f"\\sqrt{{{inner}}}" if called[1] == "sqrt" else f"e^{{{inner}}}"
        text = text[: called.start()] + replaced + text[end + 1 :]
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\^(\d{2,})", r"^{\1}", text)
    return re.sub(r"(?<=[\w)}])\s*\*\s*(?=[\w(\\{])", r" \\cdot ", text)


def _parse(text: str) -> Any:
    """The sympy expression of a text; None when it cannot be read."""
    from math_verify import LatexExtractionConfig, parse

    latex = _latex(text)
    if latex is None:
        return None
    found = parse(f"${latex}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)
    expressions = [expression for expression in found if not isinstance(expression, str)]
    return expressions[0] if expressions else None


def _equation(text: str) -> tuple[Any, Any] | None:
    sides = re.split(r"(?<![<>!=\\])=(?!=)", text)
    if len(sides) != 2:
        return None
    left, right = map(_parse, sides)
    return None if left is None or right is None else (left, right)


def _same_equation(key: Any, answer: Any) -> VerdictReason:
    """Whether one difference of sides is a constant multiple of the other."""
    import sympy

    differences = [sympy.expand(left - right) for left, right in (key, answer)]
    if differences[0] == 0 or differences[1] == 0:
        return VerdictReason.DIFFERENT if differences[0] != differences[1] else VerdictReason.SAME_MATHEMATICS
    ratio = sympy.simplify(differences[0] / differences[1])
    same = ratio.is_number and ratio.is_finite and ratio != 0
    return VerdictReason.SAME_MATHEMATICS if same else VerdictReason.DIFFERENT


def _equal(parsed: list[Any], key: str, answer: str) -> bool:
    import sympy
    from math_verify import verify

    if _rounds_to(key, parsed[1], least=2) or _rounds_to(answer, parsed[0], least=6):
        return True
    if _is_decimal(key) or _is_decimal(answer):
        return False
    names = [{str(symbol) for symbol in getattr(expression, "free_symbols", ())} for expression in parsed]
    if names[0] != names[1]:  # math-verify takes R for r; only what cancels out may differ
        return all(isinstance(expression, sympy.Expr) for expression in parsed) and sympy.simplify(parsed[0] - parsed[1]) == 0
    return bool(verify(parsed[0], parsed[1], strict=True, timeout_seconds=None))


def _is_decimal(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d*\.\d+", text.strip()) is not None


def _rounds_to(text: str, exact: Any, least: int) -> bool:
    """Whether `text` is a decimal number of enough decimals and the irrational `exact` rounds to it."""
    import sympy

    if not _is_decimal(text) or not getattr(exact, "is_number", False) or exact.has(sympy.Float):
        return False
    decimals = len(text.strip().partition(".")[2])
    value = sympy.N(exact, 30)
    if decimals < least or not value.is_real or exact.is_rational:
        return False
    return bool(abs(value - sympy.Rational(text.strip())) * 2 <= sympy.Rational(1, 10**decimals))


if __name__ == "__main__":
    main()
