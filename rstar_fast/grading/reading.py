"""All that is read from one answer before it is compared with others: its normal form, its words, its structure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rstar_fast.grading.numbers import Number, number_of
from rstar_fast.grading.structure import Answer, readings
from rstar_fast.grading.text import MOST_CHARACTERS, TooComplex, clean, squeeze
from rstar_fast.grading.units import measured
from rstar_fast.grading.words import Clock, choice, clock, folded, labelled_choice, meaning, phrase, plain

_BASE_WORDS = {word: str(i) for i, word in enumerate("two three four five six seven eight nine ten eleven twelve".split(), 2)}
_BASE = re.compile(r"\(?\s*([0-9A-F]+)\s*\)?\s*_\s*\{?\s*(\d{1,2}|[a-z]+)\s*\}?")


@dataclass(frozen=True)
class Reading:
    """One answer.

    Attributes:
      form: its cleaned text without spaces; equal forms are equal answers.
      choice: its letter, if it is one choice; `labelled` if it says more than the letter.
      clock: the time of the day, if it is one.
      words: what it says, if in words that mean nothing else; a number in words is no such.
      folded: its text without regard to case, if it has words.
      answers: the ways to read it as mathematics.
    """

    form: str
    choice: str | None = None
    labelled: str | None = None
    clock: Clock | None = None
    words: str | None = None
    folded: str | None = None
    answers: tuple[Answer, ...] = ()


def normal_form(answer: str) -> str | None:
    """The cleaned text of an answer without spaces; None where it is too long or too deep to be read."""
    cleaned = _cleaned(answer)
    return None if cleaned is None else squeeze(cleaned)


def read_answer(answer: str) -> Reading | None:
    """Reads an answer; None where it is too long or too deep."""
    cleaned = _cleaned(answer)
    if cleaned is None:
        return None
    said = phrase(cleaned)
    meant = meaning(said) if said is not None else None
    try:
        answers = tuple(readings(meant or cleaned)) if said is None or meant else ()
    except RecursionError:
        return None
    words = said if meant is None else None
    return Reading(squeeze(cleaned), choice(cleaned), labelled_choice(cleaned), clock(cleaned), words, folded(cleaned), answers)


def _cleaned(answer: str) -> str | None:
    if len(answer) > MOST_CHARACTERS:
        return None
    try:
        return clean(answer)
    except (TooComplex, RecursionError):
        return None


@dataclass(frozen=True)
class Term:
    """One expression of an answer: the answer itself, or a member, an entry, a bound.

    Attributes:
      form: its text without spaces.
      choice: its letter, if it is one choice.
      based: its digits and base, of 1011_2.
      unit: in one spelling; "" without.
      words: what it says, if in words.
      text: the expression without unit, a percentage divided by 100.
      number: its exact value, if it is plain arithmetic.
    """

    form: str
    choice: str | None
    based: tuple[str, str] | None
    unit: str
    words: str | None
    text: str
    number: Number | None


def read_term(text: str) -> Term:
    """Reads one expression."""
    side = measured(text)
    said = phrase(side.value)
    meant = meaning(said) if said is not None else None
    value = side.value if meant is None else meant
    number = number_of(value)
    if side.unit == "percent":
        value, number = f"({value})/100", number.percent() if number is not None else None
    words = said if meant is None else None
    return Term(squeeze(text), choice(text), _based(text), "" if side.unit == "percent" else side.unit, words, value, number)


def _based(text: str) -> tuple[str, str] | None:
    """Digits and base of 1011_2; None for anything else."""
    match = _BASE.fullmatch(plain(text))
    if not match:
        return None
    base = {**_BASE_WORDS, "sixteen": "16"}.get(match[2], match[2])
    return (match[1], base) if base.isdigit() and not match[1].isalpha() else None
