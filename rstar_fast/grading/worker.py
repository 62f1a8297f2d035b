"""The process that evaluates expressions with math-verify and sympy. Its input is hostile: see `_READABLE`."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import signal
import warnings
from typing import Any

from rstar_fast.grading.evaluation import CONSTANT_DIGITS, POINT_DIGITS
from rstar_fast.sandbox.protocol import Broken, receive, send
from rstar_fast.types import VerdictReason

_MEMORY_MB = 1024
_CPU_S = 1e6  # the asking side counts the wall clock of every text; a worker lives long
_MOST_CHARACTERS = 1500
_FORSAKEN_S = 30  # a text may be long at work when the asking side is killed: the process ends itself by then
# What may reach the parser: expressions. No relations, lists, quotes, attributes; no commands but these.
_COMMANDS = (
    "frac sqrt binom cdot times div pi infty lfloor rfloor lceil rceil sum prod int gcd lcm max min"
    " sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp"
    " alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda"
    " mu nu xi rho sigma tau phi varphi chi psi omega"
    " Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
).replace(" ", "|")
_READABLE = re.compile(
    r"(?:[0-9a-zA-Z{}()\[\]+\-*/^|! ]|\.(?=\d)|_(?!_)|&|\\\\|\\(?:begin|end)\{pmatrix\}|\\(?:sum|prod)\s*_\s*\{\s*[a-z]\s*="
    rf"|\\(?:{_COMMANDS})(?![a-zA-Z]))*+"
)
_UNREADABLE = re.compile(
    r"(?<![\\a-zA-Z])(?!pmatrix)(?=[a-zA-Z]*[eiouEIOU])[a-zA-Z]{3,}"  # a word, not a product
    r"|\\\\\s*[\[\]()]"  # what math-verify would take for a formula of its own
    r"|\d\s*_|\d\s+\d|\d\s+\\frac|\.\d+\.|\^\s*(?:$|[+*/)^])"  # 1011_2, "3 4", 1.2.3, "5^"
)
_ALIGNMENT = re.compile(r"&|\\\\")
_CALLED = re.compile(r"\\(sqrt|exp)\s*\(([^()]*)\)")
_TOWER = re.compile(r"(\^)(\w|\{[^{}]*\}|\([^()]*\))\s*\^(\w+|\{[^{}]*\}|\([^()]*\))(?!\s*\^)")
_COMMAND_OR_CAPITAL = re.compile(r"\\[a-zA-Z]+|([A-Z])(?:_\s*(?:([0-9a-z])|\{([0-9a-z+-]+)\}))?")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?")
_DECIMAL = re.compile(r"(\d*)\.(\d+)")
_MIXED = re.compile(r"(?<![\d}._^])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")

# One value of every variable at each point: positive, negative (where only real values count), and whole numbers.
_POSITIVE, _NEGATIVE, _WHOLE = 4, 2, 2


def main() -> None:
    """Serves texts from standard input until it closes."""
    replies = os.dup(1)
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    _evaluate(r"\frac{x}{2}+\sqrt{2}")  # loads the libraries, parsers included
    with contextlib.suppress(ImportError, OSError):  # what reaches the parser is filtered all the same
        from rstar_fast.sandbox import confine  # needs Linux

        confine.limit(_CPU_S, _MEMORY_MB, file_mb=0)
        confine.filter_calls()
    try:
        send(replies, {"failure": VerdictReason.EMPTY.value})  # ready
        while True:
            text = str(receive(0)["text"])
            signal.alarm(_FORSAKEN_S)
            reply = evaluate(text)
            signal.alarm(0)
            send(replies, reply)
    except Broken:
        pass  # the asking side has closed


def evaluate(text: str) -> dict[str, Any]:
    """The message for `evaluation.from_message`; a failure where the text cannot be read or exhausts the memory."""
    try:
        return _evaluate(text)
    except MemoryError:
        return {"failure": VerdictReason.TIMED_OUT.value}
    except Exception:  # whatever sympy raises on strange input
        return {"failure": VerdictReason.NOT_UNDERSTOOD.value}


def _evaluate(text: str) -> dict[str, Any]:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    latex = latex_of(text)
    if latex is None:
        return {"failure": VerdictReason.NOT_UNDERSTOOD.value}
    as_it_is = NormalizationConfig(basic_latex=False, units=False, malformed_operators=False, nits=False, boxed="none")
    found = parse(f"${latex}$", extraction_config=[LatexExtractionConfig(normalization_config=as_it_is)], parsing_timeout=None)
    expressions = [expression for expression in found if not isinstance(expression, str)]
    if not expressions:
        return {"failure": VerdictReason.NOT_UNDERSTOOD.value}
    return _worth(expressions[0])


def latex_of(text: str) -> str | None:
    """A cleaned expression as LaTeX that the parser reads as it is meant; None when it holds what no expression needs."""
    text = re.sub(r"(\^\s*(?:\d+|\{\s*\d+\s*\}))\s+(?=\d)", r"\1 \\cdot ", text.replace("**", "^"))  # 2^6 3^5
    text = _DEGREES.sub(r"(\\frac{\1\\pi}{180})", text) if re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])", text) else text
    if (
        len(text) > _MOST_CHARACTERS
        or not _READABLE.fullmatch(text)
        or _UNREADABLE.search(text)
        or (_ALIGNMENT.search(text) and "{pmatrix}" not in text)
    ):
        return None
    text = _DECIMAL.sub(lambda number: f"{{\\frac{{{number[1]}{number[2]}}}{{1{'0' * len(number[2])}}}}}", text)
    for _ in range(len(text)):
        called = _CALLED.sub(lambda call: f"\\sqrt{{{call[2]}}}" if call[1] == "sqrt" else f"e^{{{call[2]}}}", text, count=1)
        if called == text:
            break
        text = called
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\^\s*(-\s*\d+|-\s*[a-z]|\d{2,})", r"^{\1}", text)
    while (tower := _TOWER.sub(r"\1{\2^\3}", text)) != text:  # the parser reads a^b^c from the left
        text = tower
    text = _COMMAND_OR_CAPITAL.sub(_capital, text)
    text = _MIXED.sub(lambda m: f"({m[1]}+\\frac{{{m[2]}}}{{{m[3]}}})" if int(m[2]) < int(m[3]) else m[0], text)
    # The parser adds what stands side by side in "2(3)", takes x(3) for a function, and {...} for a set.
    text = re.sub(r"(?<![\d^_])(\d+)\s*\((?!.*\\begin)", r"\1 \\cdot (", text)
    text = re.sub(r"\)\s*(?=[(\d])", r") \\cdot ", text)
    text = re.sub(r"(\\pi|(?<![\\a-zA-Z])[a-eijk-z])\s*\((?=[\d-])", r"\1 \\cdot (", text)
    return re.sub(r"(?<=[\w)}])\s*\*\s*(?=[\w(\\{-])", r" \\cdot ", text)


def _capital(match: re.Match[str]) -> str:
    """A name for a capital letter: the parser takes R for r."""
    if not match[1]:
        return match[0]
    return f"u_{{{9000 + ord(match[1])}{match[2] or match[3] or ''}}}"


def _worth(expression: Any) -> dict[str, Any]:
    import sympy

    if isinstance(expression, (sympy.MatrixBase, sympy.MatrixExpr)):
        matrix = expression.doit().as_explicit() if isinstance(expression, sympy.MatrixExpr) else expression
        return {"shape": list(matrix.shape), "entries": [_worth(entry) for entry in matrix]}
    if isinstance(expression, sympy.FiniteSet) and len(expression.args) == 1:
        expression = expression.args[0]  # braces around the whole
    if not isinstance(expression, sympy.Expr):
        return {"failure": VerdictReason.NOT_UNDERSTOOD.value}
    renamed = {symbol: sympy.I if symbol.name == "i" else sympy.Symbol(symbol.name) for symbol in expression.free_symbols}
    expression = expression.xreplace(renamed).doit()
    if not expression.free_symbols and not expression.has(sympy.core.function.AppliedUndef):
        return _constant(expression)
    points = _points(expression)
    if sum(point is not None for point in points) >= 3:
        return {"points": points}
    return {"form": sympy.srepr(sympy.expand(expression))}


def _constant(expression: Any) -> dict[str, Any]:
    import sympy

    if expression is sympy.oo or expression is -sympy.oo:
        return {"form": str(expression)}
    value = _digits(expression, CONSTANT_DIGITS)
    if value is None:
        return {"failure": VerdictReason.NOT_UNDERSTOOD.value}
    message = {"constant": True, "points": [value]}
    if expression.is_Rational:
        written = f"{int(expression.p):x}/{int(expression.q):x}"
        message["exact"] = written if len(written) < 200 else hashlib.sha256(written.encode()).hexdigest()
    return message


def _points(expression: Any) -> list[list[str] | None]:
    """The values at the points; a negative one counts where it is real, as formulas hold for what they are defined for."""
    import sympy

    complex_valued = expression.has(sympy.I)
    points: list[list[str] | None] = []
    for index in range(_POSITIVE + _NEGATIVE + _WHOLE):
        at = {symbol: _coordinate(symbol.name, index) for symbol in expression.free_symbols}
        value = _digits(expression.xreplace(at).doit(), POINT_DIGITS)
        negative = _POSITIVE <= index < _POSITIVE + _NEGATIVE
        points.append(None if value is not None and negative and not complex_valued and value[1] != "0" else value)
    return points


def _coordinate(name: str, index: int) -> Any:
    """Where the variable of this name is evaluated: by its name alone, so that every expression sees the same points."""
    import sympy

    digest = int.from_bytes(hashlib.blake2b(f"{name} {index}".encode(), digest_size=6).digest(), "big")
    if index >= _POSITIVE + _NEGATIVE:
        return sympy.Integer(2 + digest % 8)
    value = sympy.Rational(1000 + digest % 8999, 3001)  # between 1/3 and 10/3
    return value if index < _POSITIVE else -value


def _digits(expression: Any, digits: int) -> list[str] | None:
    """Real and imaginary part of a number, in decimal; None where it has no finite value."""
    import sympy

    try:
        value = sympy.N(expression, digits)
        parts = value.as_real_imag()
    except (ValueError, TypeError, ArithmeticError, NotImplementedError, AttributeError, RecursionError):
        return None
    written = []
    for part in parts:
        if not (part.is_Float or part.is_Rational) or part.is_finite is not True:
            return None
        accurate = part.is_Rational or part._prec > 1  # one bit is what is left of an exact zero
        written.append(str(part) if accurate else "0")
    return written


if __name__ == "__main__":
    main()
