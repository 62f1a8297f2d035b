"""Decides whether two answers are equal: same text, same number, same structure, same mathematics; in this order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from rstar_fast.grading.numbers import Number, number_of
from rstar_fast.grading.process import mathematics
from rstar_fast.grading.structure import Answer, Collection, Equation, Group, Matrix, Value, readings
from rstar_fast.grading.text import clean, split_unit
from rstar_fast.types import Verdict, VerdictReason

_LONGEST = 5000
_CHOICE = re.compile(r"^(?:\\text\s*\{\s*)?\(?\s*([A-J])\s*[).]?\s*\)?\s*\}?\s*\)?$")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_BASE = re.compile(r"^([0-9A-Z]+)\s*_\s*\{?\s*(\d{1,2})\s*\}?$")
_WORDS = re.compile(r"^[^\W\d_]{2,}(?:[\s'.,-]+[^\W\d_]+)*[.!]?$")
# A product of variables is not told from a word by its letters; names of the usual variables only are read as one.
_VARIABLES = re.compile(r"^[a-dk-np-z]{2,3}$")
_SHORT_WORDS = {"no", "on", "an", "as", "at", "by", "my", "am", "pm", "do", "up", "us", "my", "all", "any", "two", "ten", "man", "dad"}
_MOST_MEMBERS = 64


def grade(key: str, answer: str) -> Verdict:
    """Whether an answer equals the key.

    Equal are: the same text up to LaTeX's layout; the same number however written (thousands separators, fractions, mixed
    numbers); tuples, intervals, vectors and matrices entry by entry, brackets included; sets, unions and lists without
    order; expressions that math-verify finds equal. A unit, a currency or `x =` may be missing on one side; where both sides
    have one they must agree. "50%" is 0.5 and not 50. A decimal key of two or more decimals equals an irrational or
    unending answer that rounds to it; any other pair of numbers must agree exactly, or to 6 decimals of an exact key.

    Args:
      key: the true answer, as text or LaTeX.
      answer: the answer to be graded; may be hostile.

    Returns:
      The verdict with its reason; never equal because parsing failed.
    """
    (verdict,) = grade_many([(key, answer)])
    return verdict


def grade_many(pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
    """`grade` for each (key, answer), in order; a pair that occurs again is graded once."""
    distinct = {pair: _grade(*pair) for pair in dict.fromkeys(pairs)}
    return [distinct[pair] for pair in pairs]


def classes(answers: Sequence[str]) -> list[int]:
    """Groups equal answers: the class of each, classes numbered in order of first appearance."""
    by_text: dict[str, int] = {}
    by_number: dict[Fraction, int] = {}
    representatives: list[tuple[str, Number | None]] = []
    found = []
    for answer in answers:
        text = _key_text(answer)
        if text not in by_text:
            number = _plain_number(answer)
            if number is not None and number.value in by_number:
                by_text[text] = by_number[number.value]
            else:
                by_text[text] = _class_of(answer, number, representatives)
                if by_text[text] == len(representatives):
                    representatives.append((answer, number))
                if number is not None:
                    by_number[number.value] = by_text[text]
        found.append(by_text[text])
    return found


def _class_of(answer: str, number: Number | None, representatives: Sequence[tuple[str, Number | None]]) -> int:
    for i, (other, other_number) in enumerate(representatives):
        if number is not None and other_number is not None:
            continue  # two different numbers
        if _grade(other, answer):
            return i
    return len(representatives)


def _key_text(answer: str) -> str:
    return re.sub(r"\s+", "", clean(answer)) if len(answer) <= _LONGEST else answer


def _plain_number(answer: str) -> Number | None:
    return number_of(answer.strip()) if len(answer) <= _LONGEST else None


def _grade(key: str, answer: str) -> Verdict:
    if not key.strip() or not answer.strip():
        return Verdict(False, VerdictReason.EMPTY)
    if key.strip() == answer.strip():
        return Verdict(True, VerdictReason.SAME_TEXT)
    if len(key) > _LONGEST or len(answer) > _LONGEST:
        return Verdict(False, VerdictReason.NOT_UNDERSTOOD)
    fast_key, fast_answer = _plain_number(key), _plain_number(answer)
    if fast_key is not None and fast_answer is not None and "e" not in (key + answer).lower():
        return _compare_numbers(fast_key, fast_answer)
    clean_key, clean_answer = clean(key), clean(answer)
    if not clean_key or not clean_answer:
        return Verdict(False, VerdictReason.EMPTY)
    if re.sub(r"\s+", "", clean_key) == re.sub(r"\s+", "", clean_answer):
        return Verdict(True, VerdictReason.SAME_TEXT)
    return _compare_texts(clean_key, clean_answer)


def _compare_texts(key: str, answer: str) -> Verdict:
    choices = [_CHOICE.match(text) for text in (key, answer)]
    if choices[0] and choices[1]:
        return _verdict(choices[0][1] == choices[1][1], VerdictReason.SAME_TEXT)
    words = [_words(text) for text in (key, answer)]
    if words[0] is not None or words[1] is not None:
        return _verdict(words[0] == words[1], VerdictReason.SAME_TEXT)
    (key, key_unit), (answer, answer_unit) = split_unit(key), split_unit(answer)
    if "percent" in (key_unit, answer_unit):
        key, answer = (f"({text})/100" if unit == "percent" else text for text, unit in ((key, key_unit), (answer, answer_unit)))
    elif key_unit and answer_unit and key_unit != answer_unit:
        return Verdict(False, VerdictReason.DIFFERENT)
    best = Verdict(False, VerdictReason.DIFFERENT)
    for key_reading in readings(key):
        for answer_reading in readings(answer):
            best = _compare(key_reading, answer_reading)
            if best or best.reason is VerdictReason.TIMED_OUT:
                return best
    return best


def _words(text: str) -> str | None:
    """The words of an answer in words, in one form; None for mathematics."""
    plain = _TEXT.sub(lambda match: match[1], text).strip()
    plain = re.sub(r"^(?:the|an?)\s+", "", plain, flags=re.IGNORECASE)
    if not _WORDS.match(plain) or "\\" in plain:
        return None
    if "\\text" not in text and _VARIABLES.match(plain) and plain not in _SHORT_WORDS:
        return None
    return re.sub(r"[\W_]+", " ", plain).strip().casefold()


def _verdict(equal: bool, reason: VerdictReason) -> Verdict:
    return Verdict(equal, reason if equal else VerdictReason.DIFFERENT)


def _compare(key: Answer, answer: Answer) -> Verdict:
    if isinstance(key, Equation) or isinstance(answer, Equation):
        return _compare_equations(key, answer)
    if isinstance(key, Collection) or isinstance(answer, Collection):
        return _compare_collections(key, answer)
    if isinstance(key, Group) and isinstance(answer, Group):
        same = key.brackets == answer.brackets or {key.brackets, answer.brackets} in ({"v", "()"}, {"v", "[]"})
        if not same or len(key.items) != len(answer.items):
            return Verdict(False, VerdictReason.DIFFERENT)
        return _all(zip(key.items, answer.items, strict=True))
    if isinstance(key, Matrix) and isinstance(answer, Matrix):
        if [len(row) for row in key.rows] != [len(row) for row in answer.rows]:
            return Verdict(False, VerdictReason.DIFFERENT)
        entries = [entry for rows in zip(key.rows, answer.rows, strict=True) for entry in zip(*rows, strict=True)]
        return _all(entries)
    if isinstance(key, Value) and isinstance(answer, Value):
        return _compare_values(key.text, answer.text)
    return Verdict(False, VerdictReason.DIFFERENT)


def _compare_equations(key: Answer, answer: Answer) -> Verdict:
    if isinstance(key, Equation) and isinstance(answer, Equation):
        if key.name and answer.name:
            if key.name != answer.name:
                return Verdict(False, VerdictReason.DIFFERENT)
            return _compare(key.right, answer.right)
        if isinstance(key.right, Value) and isinstance(answer.right, Value):
            return mathematics(f"{key.left}={key.right.text}", f"{answer.left}={answer.right.text}")
        return Verdict(False, VerdictReason.DIFFERENT)
    equation, other = (key, answer) if isinstance(key, Equation) else (answer, key)
    assert isinstance(equation, Equation)
    if not equation.name:
        return Verdict(False, VerdictReason.DIFFERENT)
    return _compare(equation.right, other) if equation is key else _compare(other, equation.right)


def _compare_collections(key: Answer, answer: Answer) -> Verdict:
    """Every member of one has its equal in the other; both as long."""
    sides: list[tuple[Answer, ...]] = []
    for side, other in ((key, answer), (answer, key)):
        if isinstance(side, Collection):
            sides.append(side.items)
        elif side is answer and isinstance(side, Group) and side.brackets == "[]" and isinstance(other, Collection) and other.kind == ",":
            sides.append(side.items)  # a list as Python writes it; as a key it may be an interval
        elif isinstance(other, Collection) and len(other.items) == 1:
            sides.append((side,))
        else:
            return Verdict(False, VerdictReason.DIFFERENT)
    kinds = {side.kind for side in (key, answer) if isinstance(side, Collection)}
    if "cup" in kinds and len(kinds) > 1 or len(sides[0]) != len(sides[1]) or len(sides[0]) > _MOST_MEMBERS:
        return Verdict(False, VerdictReason.DIFFERENT)
    left = list(sides[1])
    worst = VerdictReason.SAME_TEXT
    for member in sides[0]:
        for i, candidate in enumerate(left):
            verdict = _compare(member, candidate)
            if verdict.reason is VerdictReason.TIMED_OUT:
                return verdict
            if verdict:
                worst = _weaker(worst, verdict.reason)
                del left[i]
                break
        else:
            return Verdict(False, VerdictReason.DIFFERENT)
    return Verdict(True, worst)


def _all(pairs: object) -> Verdict:
    worst = VerdictReason.SAME_TEXT
    for key, answer in pairs:  # type: ignore[attr-defined]
        verdict = _compare(key, answer)
        if not verdict:
            return verdict
        worst = _weaker(worst, verdict.reason)
    return Verdict(True, worst)


_ORDER = (VerdictReason.SAME_TEXT, VerdictReason.SAME_NUMBER, VerdictReason.SAME_MATHEMATICS)


def _weaker(a: VerdictReason, b: VerdictReason) -> VerdictReason:
    return max(a, b, key=_ORDER.index)


def _compare_values(key: str, answer: str) -> Verdict:
    if re.sub(r"\s+", "", key) == re.sub(r"\s+", "", answer):
        return Verdict(True, VerdictReason.SAME_TEXT)
    bases = [_BASE.match(text) for text in (key, answer)]
    if bases[0] or bases[1]:
        same = bases[0] and bases[1] and bases[0].groups() == bases[1].groups()
        return _verdict(bool(same), VerdictReason.SAME_TEXT)
    words = [_words(text) for text in (key, answer)]
    if words[0] is not None or words[1] is not None:
        return _verdict(words[0] == words[1], VerdictReason.SAME_TEXT)
    (key, key_unit), (answer, answer_unit) = split_unit(key), split_unit(answer)
    if key_unit and answer_unit and key_unit != answer_unit:
        return Verdict(False, VerdictReason.DIFFERENT)
    key_number, answer_number = number_of(key), number_of(answer)
    if key_number is not None and answer_number is not None:
        return _compare_numbers(key_number, answer_number)
    return mathematics(key, answer)


def _compare_numbers(key: Number, answer: Number) -> Verdict:
    if key.value == answer.value:
        return Verdict(True, VerdictReason.SAME_NUMBER)
    for exact, decimal in ((key, answer), (answer, key)):
        if exact.decimals is None and decimal.decimals is not None and not _ends(exact.value):
            # An unending value, and a decimal number that rounds it: at the key's precision, or closely.
            least = 2 if decimal is key else 6
            if decimal.decimals >= least and abs(exact.value - decimal.value) * 2 <= Fraction(1, 10**decimal.decimals):
                return Verdict(True, VerdictReason.SAME_NUMBER)
    return Verdict(False, VerdictReason.DIFFERENT)


def _ends(value: Fraction) -> bool:
    """Whether the decimal expansion ends."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1
