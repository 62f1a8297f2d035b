"""What an answer is: a value, or values in brackets, lists, unions, matrices, equations. Read from cleaned text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rstar_fast.grading.text import closing, split, squeeze

_COMMA = re.compile(r"[,;]")
_SEPARATOR = re.compile(
    r"\s*(?:[,;]\s*)?(?:\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]))\s*|\s*[,;]\s*"
)
_OR = re.compile(r"\s*(?:\\text\s*\{\s*or\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z]))\s*")
_CUP = re.compile(r"\s*\\cup(?![a-zA-Z])\s*|(?<=[)\]])\s*U\s*(?=[(\[])")
_EQUALS = re.compile(r"(?<![<>!=\\])=(?!=)")
_COLON = re.compile(r"\s*:\s*")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])")
_ROWS = re.compile(r"\\\\(?:\s*\[[^\[\]]*(?:mm|cm|pt|em|ex)\])?")
_AMPERSAND = re.compile("&")
_MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,)")
_RELATION = re.compile(r"<=|>=|<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|!=")
_MEMBER = re.compile(r"([a-zA-Z])\s*\\in(?![a-zA-Z])\s*(.+)", re.DOTALL)
_CONGRUENCE = re.compile(
    r"(?:[a-zA-Z]\s*\\equiv(?![a-zA-Z])\s*)?(.+?)\s*\(?\s*(?:\\pmod|(?<![a-zA-Z])mod)\s*\{?\s*([^{}()]+)\s*\}?\s*\)?"
)
_MEASURES = "sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|arcsin|arccos|arctan|max|min|gcd|lcm|frac|binom|lim|sum|int|prod|det"
# What stands left of an equals sign and may be left out: x, x_1, f(2), \theta, \angle A, AB, area, \text{Area}.
_NAME = re.compile(
    rf"[a-zA-Z](?:_\s*\{{?\s*\w+\s*\}}?)?'?|[a-zA-Z]\s*\(\s*[\w, ]+\s*\)|\\(?!(?:{_MEASURES})(?![a-z]))[a-z]+|[A-Z]{{2,3}}"
    rf"|\\(?:angle|triangle)\s*[A-Z]{{1,3}}|m?\\angle\s*[A-Z]{{1,3}}|(?!(?:{_MEASURES})\b)[a-zA-Z]{{4,}}|(?:\\text\s*\{{[^{{}}]*\}}\s*)+"
)
_NAMES = re.compile(r"\(?\s*\\?[a-z]+(?:\s*,\s*\\?[a-z]+)+\s*\)?")
_FUNCTION_VALUE = re.compile(r"[fgh]\s*\(\s*[a-z]\s*\)")
_INFINITY = r"\infty"
_ALL_REALS = r"\mathbb{R}"


@dataclass(frozen=True, slots=True)
class Value:
    """One expression."""

    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Values in order: a tuple, point, vector or interval, a ratio or a residue class.

    Attributes:
      brackets: "()" "[]" "(]" "[)": part of the meaning; "v" for a column or row vector, ":" for a ratio, "mod" for a residue.
    """

    brackets: str
    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """Values without order: a set, a list of solutions, a union.

    Attributes:
      kind: "{}", "," or "cup".
    """

    kind: str
    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """left = right (= right ...).

    Attributes:
      name: the left side where it only names what is given, and may be left out; "" otherwise. f(x) and y are one name.
    """

    left: str
    rights: tuple[Answer, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Inequality:
    """left sign right, the sign one of < <= !=.

    Attributes:
      name: the variable that it bounds, or that is a member of `values`; "" where it is not one variable.
      values: the interval or union of what that variable may be; None without one.
      left, right: its sides; "" where it is no relation of two sides.
    """

    name: str
    values: Answer | None
    left: str = ""
    sign: str = ""
    right: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries; two rows or more, or one row of one. `text` is the matrix in LaTeX."""

    rows: tuple[tuple[Answer, ...], ...]
    text: str


Answer = Value | Group | Collection | Equation | Inequality | Matrix


def readings(text: str) -> list[Answer]:
    """The ways to read a cleaned answer; two where a comma may part thousands or list members."""
    whole = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text) if not re.search(r"[(\[]|\\\{", text) else text
    return [read(whole)] if whole == text else [read(whole), read(text)]


def read(text: str) -> Answer:
    """Reads one cleaned answer."""
    text = text.strip()
    return _membership(text) or _union(text) or _list(text) or _relation(text) or _bracketed(text) or _single(text)


def _membership(text: str) -> Answer | None:
    member = _MEMBER.fullmatch(text)
    if member:
        values = read(member[2])
        return (
            Equation(member[1], (values,), member[1])
            if isinstance(values, Collection) and values.kind == "{}"
            else Inequality(member[1], values)
        )
    congruence = _CONGRUENCE.fullmatch(text)
    return Group("mod", (read(congruence[1]), read(congruence[2]))) if congruence else None


def _union(text: str) -> Answer | None:
    parts = split(text, _CUP)
    if len(parts) > 1 and all(parts):
        sets = tuple(map(read, parts))
        if all(isinstance(part, Collection) and part.kind == "{}" for part in sets):
            return Collection("{}", tuple(dict.fromkeys(item for part in sets for item in part.items)))  # type: ignore[union-attr]
        return Collection("cup", sets)
    parts = split(text, _OR)
    if len(parts) > 1 and all(parts) and all(_RELATION.search(part) for part in parts):
        bounds = [read(part) for part in parts]
        names = {bound.name for bound in bounds if isinstance(bound, Inequality) and bound.values is not None}
        if len(names) == 1 and all(isinstance(bound, Inequality) for bound in bounds):
            return Inequality(names.pop(), Collection("cup", tuple(bound.values for bound in bounds)))  # type: ignore[union-attr,misc]
    return None


def _list(text: str) -> Answer | None:
    items = split(text, _SEPARATOR)
    if len(items) == 1 or not all(items):
        return None
    head = split(items[0], _EQUALS)
    if len(head) == 2 and all(head) and _NAME.fullmatch(head[0]) and not any(_EQUALS.search(item) for item in items[1:]):
        return Equation(head[0], (Collection(",", _members([head[1], *items[1:]])),), _name(head[0]))  # n = 3, 5, 7
    return Collection(",", _members(items))


def _members(items: list[str]) -> tuple[Answer, ...]:
    """The members of a list, a plus-minus standing for two."""
    members: list[Answer] = []
    for item in items:
        if len(_PLUS_MINUS.findall(item)) == 1 and not _EQUALS.search(item):
            members += [read(_PLUS_MINUS.sub(sign, item)) for sign in ("+", "-")]
        else:
            members.append(read(item))
    return tuple(members)


def _relation(text: str) -> Answer | None:
    """Equations, x > a, a < x <= b and their like."""
    sides = split(text, _EQUALS)
    if len(sides) > 1 and all(sides):
        name = _name(sides[0])
        if not name and len(sides) == 2 and (swapped := _name(sides[1])):
            return Equation(sides[1], (read(sides[0]),), swapped)
        return Equation(sides[0], tuple(map(read, sides[1:])), name)
    signs = [_sign(match[0]) for match in _RELATION.finditer(text)]
    parts = split(text, _RELATION)
    if not signs or len(parts) != len(signs) + 1 or not all(parts):
        return None
    if signs[0][0] == ">":
        parts, signs = parts[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    if len(parts) == 3 and all(sign[0] == "<" for sign in signs) and re.fullmatch("[a-zA-Z]", parts[1]):
        return Inequality(parts[1], _interval(parts[0], signs[0], signs[1], parts[2]))
    if len(parts) == 2:
        return _inequality(*parts, signs[0])
    return None


def _name(left: str) -> str:
    left = left.strip()
    if _FUNCTION_VALUE.fullmatch(left):
        return "y"
    return squeeze(left) if _NAME.fullmatch(left) or _NAMES.fullmatch(left) else ""


def _sign(sign: str) -> str:
    return {"\\le": "<=", "\\ge": ">=", "\\ne": "!="}.get(sign, sign)


def _inequality(left: str, right: str, sign: str) -> Answer:
    variable = [re.fullmatch("[a-zA-Z]", side) is not None for side in (left, right)]
    name, values = "", None
    if variable[0] != variable[1]:
        name, bound = (left, right) if variable[0] else (right, left)
        if sign == "!=":
            below, above = _interval("-" + _INFINITY, "<", "<", bound), _interval(bound, "<", "<", _INFINITY)
            values = Collection("cup", (below, above))
        elif variable[0]:
            values = _interval("-" + _INFINITY, "<", sign, bound)
        else:
            values = _interval(bound, sign, "<", _INFINITY)
    return Inequality(name, values, left, sign, right)


def _interval(low: str, low_sign: str, high_sign: str, high: str) -> Answer:
    return Group(("[" if "=" in low_sign else "(") + ("]" if "=" in high_sign else ")"), (read(low), read(high)))


def _bracketed(text: str) -> Answer | None:
    matrix = _MATRIX.fullmatch(text)
    if matrix and "\\begin" not in matrix[1]:
        return _matrix([split(row, _AMPERSAND) for row in split(matrix[1], _ROWS) if row], text)
    if text.startswith((r"\{", "{")):
        return _set(text)
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or closing(text, 0) != len(text) - 1:
        return None
    items = split(text[1:-1], _COMMA)
    if not all(items):
        return None
    if len(items) == 1:
        inner = read(items[0])
        return inner if text[0] == "(" and text[-1] == ")" or isinstance(inner, (Matrix, Group)) else None
    if text[0] == "[" and text[-1] == "]" and all(item.startswith("[") and item.endswith("]") for item in items):
        rows = [split(item[1:-1], _COMMA) for item in items]
        return _matrix(rows, r"\begin{pmatrix}" + r"\\".join("&".join(row) for row in rows) + r"\end{pmatrix}")
    group = Group(text[0] + text[-1], tuple(map(read, items)))
    return Value(_ALL_REALS) if group == Group("()", (Value("-" + _INFINITY), Value(_INFINITY))) else group


def _set(text: str) -> Answer | None:
    begin = text.index("{")
    if closing(text, begin) != len(text) - 1:
        return None
    inner = text[begin + 1 : -2 if begin else -1].strip()
    if not inner:
        return Value(r"\emptyset")
    items = split(inner, _COMMA)
    if begin or len(items) > 1:
        return Collection("{}", _members(items)) if all(items) else None
    return read(inner)


def _matrix(rows: list[list[str]], text: str) -> Answer:
    entries = tuple(tuple(map(read, row)) for row in rows)
    if len(entries) > 1 and all(len(row) == 1 for row in entries):
        return Group("v", tuple(row[0] for row in entries))
    if len(entries) == 1 and len(entries[0]) > 1:
        return Group("v", entries[0])
    return Matrix(entries, text)


def _single(text: str) -> Answer:
    if len(_PLUS_MINUS.findall(text)) == 1:
        return Collection(",", _members([text]))
    parts = split(text, _COLON)
    if len(parts) > 1 and all(parts):
        return Group(":", tuple(map(read, parts)))
    return Value(text[1:].strip() if text.startswith("+") else text)
