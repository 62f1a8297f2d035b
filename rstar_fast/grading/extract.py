"""The final answer of a free text, and an answer's normal form."""

from __future__ import annotations

import re

from rstar_fast import steps
from rstar_fast.grading.reading import normal_form

_SAID = re.compile(r"answer[ \t]*(?:is|:|=)[ \t]*:?[ \t]*(\S.*?)(?:\.\s|\.?$)", re.IGNORECASE | re.MULTILINE)


def extract(text: str) -> str | None:
    """The final answer: the last \\boxed{}, else what follows the last "####", else the last "the answer is"; else None."""
    boxed = steps.boxed(text)
    if boxed:
        return boxed
    if "####" in text:
        tail = text.rpartition("####")[2].strip()
        return tail.splitlines()[0].strip() if tail else None
    said = _SAID.findall(text)
    return said[-1].strip().strip("*").strip() or None if said else None


def normalise(answer: str) -> str:
    """The answer's text in one form: equal normal forms are equal answers, different ones may be."""
    form = normal_form(answer)
    return answer.strip() if form is None else form
