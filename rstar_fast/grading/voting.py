"""Groups the answers to one problem by equality, for votes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rstar_fast.grading.compare import LEAST_DECIMALS_OF_ANSWERS, Comparison
from rstar_fast.grading.numbers import Number, agree, number_of
from rstar_fast.grading.reading import normal_form

# For all answers together and for one text, so that 64 texts that blow up do not take 64 times the time of one.
_ALL_S, _TEXT_S = 10.0, 2.0


def classes(answers: Sequence[str]) -> list[int]:
    """Groups equal answers: the class of each, classes numbered in order of first appearance.

    None is a key, so decimals stand for what rounds to them from 6 decimals on only. Texts and numbers are compared as
    such; each other text is evaluated once. What exceeds the time for all of them is in a class of its own text.
    """
    comparison = Comparison(LEAST_DECIMALS_OF_ANSWERS, _ALL_S, _TEXT_S)
    by_form: dict[str, int] = {}
    by_number: dict[Fraction, int] = {}
    representatives: list[tuple[str, Number | None]] = []
    found: dict[str, int] = {}
    for answer in dict.fromkeys(answers):
        form = normal_form(answer) or answer
        if form not in by_form:
            number = number_of(form)
            known = by_number.get(number.value) if number is not None else None
            by_form[form] = _class_of(answer, number, representatives, comparison) if known is None else known
            if by_form[form] == len(representatives):
                representatives.append((answer, number))
            if number is not None:
                by_number.setdefault(number.value, by_form[form])
        found[answer] = by_form[form]
    return [found[answer] for answer in answers]


def _class_of(
    answer: str, number: Number | None, representatives: Sequence[tuple[str, Number | None]], comparison: Comparison
) -> int:
    for i, (other, other_number) in enumerate(representatives):
        if number is not None and other_number is not None:
            same = agree(other_number, number, LEAST_DECIMALS_OF_ANSWERS) or agree(
                number, other_number, LEAST_DECIMALS_OF_ANSWERS
            )
        else:
            same = bool(comparison.of(other, answer))
        if same:
            return i
    return len(representatives)
