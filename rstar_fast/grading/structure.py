"""What an answer is: a value, or values in brackets, lists, unions, matrices, equations. Read from cleaned text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rstar_fast.grading.text import closing, split

_COMMA = re.compile(r"[,;]")
_AND = re.compile(r"\s*(?:,|;|\\text\{\s*(?:,\s*)?(?:and|or)\s*\}|(?<=[\s\d)}])\s*(?:and|or)\s(?=[\s\S]))\s*")
_CUP = re.compile(r"\s*\\cup(?![a-zA-Z])\s*|(?<=[)\]])\s*U\s*(?=[(\[])")
_EQUALS = re.compile(r"(?<![<>!=\\])=(?!=)")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])")
_ROWS = re.compile(r"\\\\(?:\[[^\]]*\])?")
_MATRIX = re.compile(r"\\begin\{pmatrix\}(.*?)\\end\{pmatrix\}", re.DOTALL)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,)")
_RELATION = re.compile(r"(<=|>=|<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\lt(?![a-zA-Z])|\\gt(?![a-zA-Z]))")
_MEMBER = re.compile(r"^([a-zA-Z])\s*\\in(?![a-zA-Z])\s*(.+)$")
_NAMED = re.compile(r"^(?:([a-zA-Z](?:_\{?\w+\}?)?(?:\s*\(\s*[a-zA-Z]\s*\))?)|\\[a-z]+)$")
_INFINITY = r"\infty"


@dataclass(frozen=True, slots=True)
class Value:
    """One expression."""

    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Values in order: a tuple, point, vector or interval.

    Attributes:
      brackets: "()" "[]" "(]" "[)": part of the meaning; "v" for a column or row vector, which also equals "()".
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
    """left = right; `name` when the left side is one symbol or f(x), which may be left out."""

    left: str
    right: Answer
    name: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries; two rows or more, or one row of one."""

    rows: tuple[tuple[Answer, ...], ...]


Answer = Value | Group | Collection | Equation | Matrix


def readings(text: str) -> list[Answer]:
    """The ways to read a cleaned answer; more than one where a comma may part thousands or list members."""
    whole = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text) if not re.search(r"[(\[{]", text) else text
    return [read(whole)] if whole == text else [read(whole), read(text)]


def read(text: str) -> Answer:
    """Reads one cleaned answer."""
    text = text.strip()
    member = _MEMBER.match(text)
    if member:
        return Equation(member[1], read(member[2]), member[1])
    interval = _inequality(text)
    if interval is not None:
        return interval
    union = split(text, _CUP)
    if len(union) > 1 and all(union):
        return Collection("cup", tuple(map(read, union)))
    sides = split(text, _EQUALS)
    if len(sides) == 2 and all(sides) and len(split(text, _COMMA)) == 1:
        name = sides[0].replace(" ", "") if _NAMED.match(sides[0]) else ""
        return Equation(sides[0], read(sides[1]), name)
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        return _matrix([split(row, re.compile("&")) for row in split(matrix[1], _ROWS) if row])
    braces = re.fullmatch(r"\\\{(.*)\\\}", text, re.DOTALL)
    if braces is None and text.startswith("{") and closing(text, 0) == len(text) - 1:
        braces = re.fullmatch(r"\{(.*)\}", text, re.DOTALL)
        if braces and len(split(braces[1], _COMMA)) == 1 and not braces[1].strip().isdigit():
            braces = None
    if braces:
        return Collection("{}", _members(split(braces[1], _COMMA))) if braces[1].strip() else Value(r"\emptyset")
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and closing(text, 0) == len(text) - 1:
        items = split(text[1:-1], _COMMA)
        if len(items) > 1 and all(items):
            if text[0] == "[" and text[-1] == "]" and all(item.startswith("[") and item.endswith("]") for item in items):
                return _matrix([split(item[1:-1], _COMMA) for item in items])
            return Group(text[0] + text[-1], tuple(map(read, items)))
        if text[0] == "(" and len(items) == 1 and items[0]:
            return read(items[0])
    items = split(text, _AND)
    if len(items) > 1 and all(items):
        return Collection(",", _members(items))
    if len(_PLUS_MINUS.findall(text)) == 1:
        return Collection(",", _members([text]))
    return Value(text)


def _members(items: list[str]) -> tuple[Answer, ...]:
    """The members of a list, a plus-minus standing for two."""
    members: list[Answer] = []
    for item in items:
        if len(_PLUS_MINUS.findall(item)) == 1:
            members += [read(_PLUS_MINUS.sub(sign, item)) for sign in ("+", "-")]
        else:
            members.append(read(item))
    return tuple(members)


def _matrix(rows: list[list[str]]) -> Answer:
    entries = tuple(tuple(map(read, row)) for row in rows)
    if len(entries) > 1 and all(len(row) == 1 for row in entries):
        return Group("v", tuple(row[0] for row in entries))
    if len(entries) == 1 and len(entries[0]) > 1:
        return Group("v", entries[0])
    return Matrix(entries)


def _inequality(text: str) -> Answer | None:
    """x > a, a < x <= b and their like as `x in interval`."""
    parts = split(text, _RELATION)
    signs = [_sign(match[0]) for match in _RELATION.finditer(text)]
    if len(parts) != len(signs) + 1 or not all(parts):
        return None
    if len(parts) == 3 and re.fullmatch("[a-zA-Z]", parts[1]) and signs[0][0] == signs[1][0]:
        if signs[0][0] == ">":
            parts, signs = parts[::-1], signs[::-1]
        brackets = ("[" if "=" in signs[0] else "(") + ("]" if "=" in signs[1] else ")")
        return Equation(parts[1], Group(brackets, (read(parts[0]), read(parts[2]))), parts[1])
    if len(parts) == 2 and (re.fullmatch("[a-zA-Z]", parts[0]) or re.fullmatch("[a-zA-Z]", parts[1])):
        sign, bound = signs[0], parts[1]
        name = parts[0]
        if not re.fullmatch("[a-zA-Z]", parts[0]):
            name, bound = parts[1], parts[0]
            sign = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}[sign]
        closed = "=" in sign
        if sign[0] == ">":
            group = Group(("[" if closed else "(") + ")", (read(bound), Value(_INFINITY)))
        else:
            group = Group("(" + ("]" if closed else ")"), (Value("-" + _INFINITY), read(bound)))
        return Equation(name, group, name)
    return None


def _sign(sign: str) -> str:
    return {"\\le": "<=", "\\ge": ">=", "\\lt": "<", "\\gt": ">"}.get(sign, sign)
