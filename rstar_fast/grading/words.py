"""Answers that are no formula: words, numbers in words, the letters of choices, times of the day."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_PHRASE = re.compile(r"[^\W\d_]+(?:[\s'.,-]+[^\W\d_]+)*+[.!]?")
# Letters that stand for variables: a product of these is told from a word by having no vowel but a, and by its length.
_VARIABLES = re.compile(r"[a-dk-np-z]{2,3}|[b-df-hj-np-tv-z]{2,4}")
_SHORT_WORDS = frozenset("no on an as at by my am pm do up us all any two ten man dad".split())
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_TEENS = "seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMERALS = {word: i for i, word in enumerate(f"{_ONES} {_TEENS}".split())} | {
    word: 10 * i for i, word in enumerate(_TENS.split(), 2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_MEANINGS = {
    "infinity": r"\infty", "positive infinity": r"\infty", "negative infinity": r"-\infty", "minus infinity": r"-\infty",
    "empty set": r"\emptyset", "null set": r"\emptyset", "all real numbers": r"\mathbb{R}", "all reals": r"\mathbb{R}",
    "real numbers": r"\mathbb{R}", "set of all real numbers": r"\mathbb{R}", "reals": r"\mathbb{R}",
}  # fmt: skip
_SAME_PHRASES = {"does not exist": "dne", "no solutions": "no solution", "no real solutions": "no real solution"}
_CHOICE = re.compile(r"[(\[]?\s*([A-J])\s*[)\]]?\s*[.:]?")
_CHOSEN = re.compile(r"(?:[(\[]\s*([A-J])\s*[)\]]|([A-J])\s*[).:])\s+[\w\\$(].*", re.DOTALL)
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-J](?![A-Za-z])")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2})(?::(\d{2}))?)?\s*(?:([ap])\.?\s*m\.?)?", re.IGNORECASE)
_WORD = re.compile(r"(?<![A-Za-z\\])(?=[A-Za-z]*[eiouEIOU])[A-Za-z]{4,}(?![A-Za-z])")


def plain(text: str) -> str:
    r"""The text with the contents of \text{} in the open."""
    return " ".join(_TEXT.sub(r" \1 ", text).split())


def choice(text: str) -> str | None:
    """The letter of an answer that is one choice: "C", "(C)", "C."; None for anything else."""
    match = _CHOICE.fullmatch(plain(text))
    return match[1] if match else None


def labelled_choice(text: str) -> str | None:
    """The letter of a choice with what it stands for, "(C) 12"; None where no or several letters are named."""
    match = _CHOSEN.fullmatch(plain(text))
    return match[1] or match[2] if match and len(_LETTER.findall(plain(text))) == 1 else None


def folded(text: str) -> str | None:
    """An answer in which words and numbers stand together, as a date, without regard to case; None without a word."""
    words = plain(text)
    return words.casefold() if _WORD.search(words) and "\\" not in words else None


def phrase(text: str) -> str | None:
    """The words of an answer in words, in one form; None for mathematics."""
    words = plain(text)
    if not _PHRASE.fullmatch(words) or len(words) < 2 or _is_product(words, in_text="\\text" in text):
        return None
    said = re.sub(r"[\W_]+", " ", words).strip().casefold()
    said = re.sub(r"^(?:the|an?) ", "", said)
    return _SAME_PHRASES.get(said, said)


def _is_product(text: str, in_text: bool) -> bool:
    words = re.findall(r"[^\W\d_]+", text)
    if all(len(word) == 1 for word in words):
        return True
    return not in_text and all(len(word) == 1 or (_VARIABLES.fullmatch(word) and word not in _SHORT_WORDS) for word in words)


def meaning(said: str) -> str | None:
    """What a phrase stands for in mathematics: a number in words, the empty set; None where it is only words."""
    if said in _MEANINGS:
        return _MEANINGS[said]
    written = _with_digits(said.split())
    return written if written != said else None


@dataclass
class _Spoken:
    """A number as it is said, word by word."""

    total: int = 0
    group: int = 0
    heard: bool = False

    def hear(self, word: str) -> bool:
        """Takes the next word; False when it does not continue the number."""
        if word in _NUMERALS:
            value, place = _NUMERALS[word], 10 if self.group % 100 >= 20 and _NUMERALS[word] < 10 else 100
            if self.group % place or (self.heard and value == 0):
                return False
            self.group += value
        elif word == "hundred" and self.group < 10:
            self.group = 100 * max(self.group, 1)
        elif word in _SCALES and (self.group or not self.heard):
            self.total += max(self.group, 1) * _SCALES[word]
            self.group = 0
        else:
            return False
        self.heard = True
        return True


def _with_digits(words: list[str]) -> str:
    """The words, numbers among them in digits: "twenty one days" -> "21 days"."""
    out: list[str] = []
    number = _Spoken()
    for i, word in enumerate(words):
        if number.hear(word):
            continue
        following = words[i + 1] if i + 1 < len(words) else ""
        if word == "and" and number.group >= 100 and following in _NUMERALS:
            continue
        if number.heard:
            out.append(str(number.total + number.group))
            number = _Spoken()
            if number.hear(word):
                continue
        out.append(word)
    if number.heard:
        out.append(str(number.total + number.group))
    return " ".join(out)


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of the day; `half` is "a", "p" or "" where it is not said."""

    hour: int
    minute: int
    second: int
    half: str

    def same(self, other: Clock) -> bool:
        """Whether both may be the same time: one that does not say its half of the day fits both."""
        if (self.minute, self.second) != (other.minute, other.second):
            return False
        if self.half and other.half or not (self.half or other.half):
            return self.hour == other.hour and self.half == other.half
        spoken, silent = (self, other) if self.half else (other, self)
        return silent.hour == spoken.hour or silent.hour == spoken.hour % 12 + (12 if spoken.half == "p" else 0)


def clock(text: str) -> Clock | None:
    """The time an answer gives; None for anything else."""
    match = _CLOCK.fullmatch(plain(text))
    if not match or not (match[2] or match[4]):
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    return Clock(hour, minute, second, (match[4] or "").lower()) if hour <= 24 and minute <= 59 and second <= 59 else None
