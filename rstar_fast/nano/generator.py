"""Math word problems with exact answers: every worked program is checked by an independent solver.

The split of a problem follows from a hash of its family and parameters, so "train" and "heldout" share no problem whatever
the seeds; "novel" takes held-out parameters and words them with templates, names and things that training never sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rstar_fast.nano import algebra, counting, integers, measure, number_theory, probability, stories
from rstar_fast.nano.family import Family, Parameters, Words
from rstar_fast.nano.program import Program
from rstar_fast.types import InvalidInput, Problem

FAMILIES: tuple[Family, ...] = (
    *stories.FAMILIES,
    *measure.FAMILIES,
    *number_theory.FAMILIES,
    *integers.FAMILIES,
    *counting.FAMILIES,
    *probability.FAMILIES,
    *algebra.FAMILIES,
)
LEVELS: tuple[int, ...] = (1, 2, 3, 4, 5)
SPLITS: tuple[str, ...] = ("train", "heldout", "novel")

VERSION = "nano-7"  # the same arguments give the same problems as long as it stays
_SPLIT = "nano-6"  # as long as it stays, what was held out is held out
_HELDOUT_PART = 8  # one problem in so many is held out
_LARGEST_ANSWER = 10**12
_MOST_TRIES = 2000


@dataclass(frozen=True, slots=True)
class Record:
    """A generated problem.

    Attributes:
      problem: the question.
      answer: the exact answer: an integer, or a fraction such as "7/3".
      level: 1 (one small step) to 5.
      family: the name of its family.
      solution: a worked solution in the code-augmented format, from `<code>` to `<end_of_answer>`.
    """

    problem: Problem
    answer: str
    level: int
    family: str
    solution: str


def generate(
    split: str,
    count: int,
    seed: int,
    levels: Sequence[int] = LEVELS,
    families: Sequence[str] | None = None,
) -> list[Record]:
    """Generates problems; the same arguments give the same records, and a larger count begins with those of a smaller.

    Args:
      split: "train", "heldout" or "novel".
      count: how many, >= 0. The levels take turns; no question occurs twice.
      seed: any integer.
      levels: the levels wanted, each 1 to 5.
      families: names of the families wanted, one named twice twice as often; each family once by default.

    Raises:
      InvalidInput: an unknown split, level or family, or more different problems asked for than there are.
    """
    if split not in SPLITS:
        raise InvalidInput(f"split is {split!r}: give one of {', '.join(SPLITS)}")
    if not levels or any(level not in LEVELS for level in levels):
        raise InvalidInput(f"levels is {levels!r}: give at least one of 1 to 5")
    by_name = {family.name: family for family in FAMILIES}
    chosen = [by_name[name] for name in (by_name if families is None else families) if name in by_name]
    if not chosen or (families is not None and len(chosen) < len(families)):
        raise InvalidInput(f"families is {families!r}: the families are {', '.join(family.name for family in FAMILIES)}")
    random = Random(f"{split} {seed}")
    records: list[Record] = []
    seen: set[str] = set()
    while len(records) < count:
        level = levels[len(records) % len(levels)]
        for _ in range(_MOST_TRIES):
            record = _make(random.choice(chosen), level, split, random)
            if record is not None and record.problem.question not in seen:
                break
        else:
            raise InvalidInput(f"there are not {count} different problems of level {level} in these families: ask for fewer")
        seen.add(record.problem.question)
        records.append(record)
    return records


def is_held_out(family: str, parameters: Parameters) -> bool:
    """Whether the train split never holds the problem of these parameters."""
    digest = hashlib.blake2b(f"{_SPLIT} {family} {parameters!r}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % _HELDOUT_PART == 0


def _make(family: Family, level: int, split: str, random: Random) -> Record | None:
    """One problem; None when the draw is of another split or its answer is easily guessed, unwieldy or in doubt."""
    parameters = family.draw(random, level)
    if is_held_out(family.name, parameters) != (split != "train"):
        return None
    words = Words(random, novel=split == "novel")
    program = Program(random)
    question = family.ask(parameters, words)
    family.work(parameters, program, words)
    answer = program.value
    if answer in (0, 1) or abs(answer) > _LARGEST_ANSWER:
        return None
    checked = family.solve(parameters)
    if checked != answer:
        raise AssertionError(f"{family.name} {parameters}: the program gives {answer}, the solver {checked}")
    return Record(Problem(question), str(answer), level, family.name, program.solution())
