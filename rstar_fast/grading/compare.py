"""Decides whether two answers are equal: same text, same number, same structure, same mathematics; in this order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

from rstar_fast.grading import evaluation, process
from rstar_fast.grading.numbers import Number, agree, number_of, rounds_to
from rstar_fast.grading.reading import Reading, Term, read_answer, read_term
from rstar_fast.grading.structure import Answer, Collection, Equation, Group, Inequality, Matrix, Value
from rstar_fast.grading.text import squeeze
from rstar_fast.types import Verdict, VerdictReason

PAIR_S = 5.0
_LEAST_DECIMALS, LEAST_DECIMALS_OF_ANSWERS = 2, 6
_MOST_MEMBERS = 64
_PLAIN = re.compile(r"[-+]?\d{1,300}(?:\.\d{1,300})?")
_DIFFERENT = Verdict(False, VerdictReason.DIFFERENT)
_SAME_TEXT = Verdict(True, VerdictReason.SAME_TEXT)


def grade(key: str, answer: str) -> Verdict:
    """Whether an answer equals the key.

    Equal are: the same text up to LaTeX's layout; the same number however written (thousands separators, fractions, mixed
    numbers, words); tuples, intervals, vectors and matrices entry by entry, brackets included; sets, unions and lists without
    order; equations up to a factor; expressions with the same value wherever they have one. A unit, a currency or `x =` may
    be missing on one side; where both sides have one they must agree. "50%" is 0.5 and not 50. A decimal key of two or more
    decimals equals an irrational or unending answer that rounds to it; any other pair of numbers must agree exactly, to 6
    decimals of an unending key, or to the last digits of a float.

    Args:
      key: the true answer, as text or LaTeX.
      answer: the answer to be graded; may be hostile.

    Returns:
      The verdict with its reason; never equal because parsing failed. TIMED_OUT where 5 seconds or a gigabyte do not suffice.

    Raises:
      GraderUnavailable: the process that evaluates expressions cannot be started.
    """
    return Comparison(_LEAST_DECIMALS, PAIR_S).of(key, answer)


def grade_many(pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
    """`grade` for each (key, answer), in order; a pair that occurs again is graded once."""
    distinct = {pair: grade(*pair) for pair in dict.fromkeys(pairs)}
    return [distinct[pair] for pair in pairs]


class Comparison:
    """Compares pairs of answers, with one budget of time for all that is evaluated.

    Args:
      least_decimals: how many decimals the first answer of a pair needs to stand for what rounds to it.
      seconds: of wall-clock time for evaluations.
      text_seconds: the most for one text; None without such a limit.
    """

    def __init__(self, least_decimals: int, seconds: float, text_seconds: float | None = None) -> None:
        self._least_decimals = least_decimals
        self._left_s = seconds
        self._text_s = seconds if text_seconds is None else text_seconds
        self._read_already: dict[str, Reading | None] = {}
        self._terms: dict[str, Term] = {}

    def of(self, key: str, answer: str) -> Verdict:
        """Compares two answers as they were written."""
        if not key.strip() or not answer.strip():
            return Verdict(False, VerdictReason.EMPTY)
        if key.strip() == answer.strip():
            return _SAME_TEXT
        if _PLAIN.fullmatch(key) and _PLAIN.fullmatch(answer):
            numbers = number_of(key), number_of(answer)
            assert numbers[0] is not None and numbers[1] is not None
            return self._numbers(*numbers)
        readings = [self._read(text) for text in (key, answer)]
        if readings[0] is None or readings[1] is None:
            return Verdict(False, VerdictReason.NOT_UNDERSTOOD)
        try:
            return self._readings(readings[0], readings[1])
        except RecursionError:
            return Verdict(False, VerdictReason.NOT_UNDERSTOOD)

    def _read(self, text: str) -> Reading | None:
        if text not in self._read_already:
            self._read_already[text] = read_answer(text)
        return self._read_already[text]

    def _readings(self, key: Reading, answer: Reading) -> Verdict:
        if not key.form or not answer.form:
            return Verdict(False, VerdictReason.EMPTY)
        if key.form == answer.form or key.folded is not None and key.folded == answer.folded:
            return _SAME_TEXT
        if key.choice and answer.choice:
            return _verdict(key.choice == answer.choice, VerdictReason.SAME_TEXT)
        if (key.choice or answer.choice) and (key.choice or key.labelled) == (answer.choice or answer.labelled):
            return _SAME_TEXT
        if key.clock and answer.clock:
            return _verdict(key.clock.same(answer.clock), VerdictReason.SAME_TEXT)
        if key.words is not None or answer.words is not None:
            return _verdict(key.words == answer.words, VerdictReason.SAME_TEXT)
        verdict = _DIFFERENT
        for key_reading in key.answers:
            for answer_reading in answer.answers:
                verdict = self._answers(key_reading, answer_reading)
                if verdict or verdict.reason is VerdictReason.TIMED_OUT:
                    return verdict
        return verdict

    def _answers(self, key: Answer, answer: Answer) -> Verdict:
        if isinstance(key, Inequality) or isinstance(answer, Inequality):
            return self._inequalities(key, answer)
        if isinstance(key, Equation) or isinstance(answer, Equation):
            return self._equations(key, answer)
        if isinstance(key, Collection) or isinstance(answer, Collection):
            return self._collections(key, answer)
        if isinstance(key, Group) and isinstance(answer, Group):
            same = _alike(key, answer) and len(key.items) == len(answer.items)
            return self._all(zip(key.items, answer.items, strict=True)) if same else _DIFFERENT
        if isinstance(key, Matrix) and isinstance(answer, Matrix):
            if [len(row) for row in key.rows] != [len(row) for row in answer.rows]:
                return _DIFFERENT
            return self._all(entry for rows in zip(key.rows, answer.rows, strict=True) for entry in zip(*rows, strict=True))
        if isinstance(key, Matrix | Value) and isinstance(answer, Matrix | Value):
            if isinstance(key, Value) and isinstance(answer, Value):
                return self._values(key.text, answer.text)
            return self._mathematics(key.text, answer.text)
        return _DIFFERENT

    def _inequalities(self, key: Answer, answer: Answer) -> Verdict:
        if isinstance(key, Inequality) and isinstance(answer, Inequality):
            if key.values is not None and answer.values is not None:
                return self._answers(key.values, answer.values) if key.name == answer.name else _DIFFERENT
            if not key.sign or key.sign != answer.sign:
                return _DIFFERENT
            return self._proportional(key.left, key.right, answer.left, answer.right, positive=key.sign != "!=")
        bounded, other = (key, answer) if isinstance(key, Inequality) else (answer, key)
        assert isinstance(bounded, Inequality)
        is_set = isinstance(other, Group | Value) or isinstance(other, Collection) and other.kind == "cup"
        if bounded.values is None or not is_set:
            return _DIFFERENT
        return self._answers(bounded.values, other) if bounded is key else self._answers(other, bounded.values)

    def _equations(self, key: Answer, answer: Answer) -> Verdict:
        sides = []
        for side in (key, answer):
            if isinstance(side, Equation) and len(side.rights) > 1:  # x = 10/2 = 5
                consistent = self._all(zip(side.rights, side.rights[1:], strict=False))
                if not consistent:
                    return consistent
                side = Equation(side.left, side.rights[-1:], side.name)
            sides.append(side)
        key, answer = sides
        if isinstance(key, Equation) and isinstance(answer, Equation):
            if key.name and key.name == answer.name:
                verdict = self._answers(key.rights[0], answer.rights[0])
                if verdict or verdict.reason is VerdictReason.TIMED_OUT:
                    return verdict
            if isinstance(key.rights[0], Value) and isinstance(answer.rights[0], Value):
                return self._proportional(key.left, key.rights[0].text, answer.left, answer.rights[0].text, positive=False)
            return _DIFFERENT
        equation, other = (key, answer) if isinstance(key, Equation) else (answer, key)
        assert isinstance(equation, Equation)
        if not equation.name and not (isinstance(other, Value) and self._holds(equation)):
            return _DIFFERENT
        if isinstance(other, Collection) and any(isinstance(item, Equation) for item in other.items):
            return self._collections(key, answer)
        right = equation.rights[0]
        if isinstance(right, Value) and len(equation.name) == 1 and equation.name in re.sub(r"\\[a-zA-Z]+", "", right.text):
            return _DIFFERENT  # x = x + 7 says nothing of what x is
        return self._answers(right, other) if equation is key else self._answers(other, right)

    def _holds(self, equation: Equation) -> bool:
        """Whether it is a computation, "2+3 = 5", whose result may stand for it."""
        right = equation.rights[0]
        left = number_of(equation.left)
        result = number_of(right.text) if isinstance(right, Value) else None
        return left is not None and result is not None and left.value == result.value and equation.left.strip() != right.text

    def _collections(self, key: Answer, answer: Answer) -> Verdict:
        """Every member of one has its equal in the other; both as long. Values by name have the order of their names."""
        by_name = [_by_name(side) for side in (key, answer)]
        if by_name[0] is not None or by_name[1] is not None:
            if by_name[0] is None or by_name[1] is None:
                named, other = (by_name[0], answer) if by_name[0] is not None else (by_name[1], key)
                assert named is not None
                listed = (
                    isinstance(other, Collection)
                    and other.kind == ","
                    or isinstance(other, Group)
                    and other.brackets in ("()", "v")
                )
                if not listed or len(other.items) != len(named):  # type: ignore[union-attr]
                    return _DIFFERENT
                pairs = list(zip(named.values(), other.items, strict=True))  # type: ignore[union-attr]
                return self._all(pairs if named is by_name[0] else [(b, a) for a, b in pairs])
            if set(by_name[0]) != set(by_name[1]):
                return _DIFFERENT
            return self._all((value, by_name[1][name]) for name, value in by_name[0].items())
        items = [_items(side, other) for side, other in ((key, answer), (answer, key))]
        kinds = {side.kind for side in (key, answer) if isinstance(side, Collection)}
        if items[0] is None or items[1] is None or "cup" in kinds and len(kinds) > 1 or len(items[0]) != len(items[1]):
            return _DIFFERENT
        return self._matching(items[0], list(items[1])) if len(items[0]) <= _MOST_MEMBERS else _DIFFERENT

    def _matching(self, members: Sequence[Answer], left: list[Answer]) -> Verdict:
        worst = VerdictReason.SAME_TEXT
        for member in members:
            for i, candidate in enumerate(left):
                verdict = self._answers(member, candidate)
                if verdict.reason is VerdictReason.TIMED_OUT:
                    return verdict
                if verdict:
                    worst = _weaker(worst, verdict.reason)
                    del left[i]
                    break
            else:
                return _DIFFERENT
        return Verdict(True, worst)

    def _all(self, pairs: Iterable[tuple[Answer, Answer]]) -> Verdict:
        worst = VerdictReason.SAME_TEXT
        for key, answer in pairs:
            verdict = self._answers(key, answer)
            if not verdict:
                return verdict
            worst = _weaker(worst, verdict.reason)
        return Verdict(True, worst)

    def _values(self, key_text: str, answer_text: str) -> Verdict:
        key, answer = self._term(key_text), self._term(answer_text)
        if key.form == answer.form:
            return _SAME_TEXT
        if key.choice and answer.choice:
            return _verdict(key.choice == answer.choice, VerdictReason.SAME_TEXT)
        if key.based or answer.based:
            return _verdict(key.based == answer.based, VerdictReason.SAME_TEXT)
        if key.unit and answer.unit and key.unit != answer.unit:
            return _DIFFERENT
        if key.words is not None or answer.words is not None:
            return _verdict(key.words == answer.words, VerdictReason.SAME_TEXT)
        if squeeze(key.text) == squeeze(answer.text):
            return _SAME_TEXT
        if key.number is not None and answer.number is not None:
            return self._numbers(key.number, answer.number)
        return self._mathematics(key.text, answer.text, key.number, answer.number)

    def _term(self, text: str) -> Term:
        if text not in self._terms:
            self._terms[text] = read_term(text)
        return self._terms[text]

    def _numbers(self, key: Number, answer: Number) -> Verdict:
        same = agree(key, answer, self._least_decimals)
        if not same and self._least_decimals == LEAST_DECIMALS_OF_ANSWERS:
            same = agree(answer, key, self._least_decimals)  # neither is the key
        return _verdict(same, VerdictReason.SAME_NUMBER)

    def _mathematics(
        self, key: str, answer: str, key_number: Number | None = None, answer_number: Number | None = None
    ) -> Verdict:
        evaluated = []
        for text, number in ((key, key_number), (answer, answer_number)):
            evaluated.append(self._evaluate(text if number is None else f"{number.value.numerator}/{number.value.denominator}"))
            if evaluated[-1].failure is not None:
                return Verdict(False, evaluated[-1].failure)
        for number, other, least in (
            (key_number, evaluated[1], self._least_decimals),
            (answer_number, evaluated[0], LEAST_DECIMALS_OF_ANSWERS),
        ):
            if number is not None and number.decimals is not None and other.real is not None:
                irrational = Fraction(other.real)
                return _verdict(not other.exact and rounds_to(irrational, number, least), VerdictReason.SAME_MATHEMATICS)
        return _verdict(evaluation.equal(*evaluated), VerdictReason.SAME_MATHEMATICS)

    def _proportional(self, key_left: str, key_right: str, answer_left: str, answer_right: str, positive: bool) -> Verdict:
        """Whether one difference of sides is a multiple of the other: one equation, or one inequality if positive."""
        differences = []
        for left, right in ((key_left, key_right), (answer_left, answer_right)):
            differences.append(self._evaluate(f"({left})-({right})"))
            if differences[-1].failure is not None:
                return Verdict(False, differences[-1].failure)
        factor = evaluation.ratio(*differences)
        if factor is None:
            return _DIFFERENT
        return _verdict(not positive or factor[0] > 0 and factor[1] == 0, VerdictReason.SAME_MATHEMATICS)

    def _evaluate(self, text: str) -> evaluation.Evaluation:
        evaluated, seconds = process.evaluate(text, min(self._left_s, self._text_s))
        self._left_s -= seconds
        return evaluated


def _verdict(equal: bool, reason: VerdictReason) -> Verdict:
    return Verdict(equal, reason if equal else VerdictReason.DIFFERENT)


_ORDER = (VerdictReason.SAME_TEXT, VerdictReason.SAME_NUMBER, VerdictReason.SAME_MATHEMATICS)


def _weaker(a: VerdictReason, b: VerdictReason) -> VerdictReason:
    return max(a, b, key=_ORDER.index)


def _alike(a: Group, b: Group) -> bool:
    """Whether brackets mean the same: a vector may be written as a tuple, and three values in [] are no interval."""
    if a.brackets == b.brackets:
        return True
    vectors = ("()", "[]", "v")
    return a.brackets in vectors and b.brackets in vectors and ("v" in (a.brackets, b.brackets) or len(a.items) > 2)


def _by_name(side: Answer) -> dict[str, Answer] | None:
    """The values of x = 1, y = 2 or (x, y) = (1, 2) by name; None for anything else, as x = 1, x = 2."""
    if isinstance(side, Equation) and isinstance(side.rights[-1], Group):
        names = [name for name in re.split(r"[(),]", side.name) if name]
        return dict(zip(names, side.rights[-1].items, strict=True)) if len(names) == len(side.rights[-1].items) > 1 else None
    if not isinstance(side, Collection) or side.kind != ",":
        return None
    named = {item.name: item.rights[-1] for item in side.items if isinstance(item, Equation) and item.name}
    numbered = all(re.fullmatch(r"[a-z]_\{?\d+\}?", name) and name[0] == next(iter(named))[0] for name in named)
    return named if len(named) == len(side.items) > 1 and not numbered else None


def _items(side: Answer, other: Answer) -> tuple[Answer, ...] | None:
    """The members that a side of a comparison of collections has; None where it has none."""
    if isinstance(side, Collection):
        return side.items
    if not isinstance(other, Collection):
        return None
    if isinstance(side, Group) and side.brackets == "[]" and other.kind == "," and len(side.items) > 2:
        return side.items  # a list as Python writes it; two values may be an interval
    return (side,) if len(other.items) == 1 else None
