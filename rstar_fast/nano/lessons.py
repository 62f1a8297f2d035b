"""The worked programs that nano may learn from: none of a level that its own search is to open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from random import Random

from rstar_fast import steps
from rstar_fast.nano.generator import FAMILIES, Record, generate
from rstar_fast.types import Partial

# The levels whose worked programs any training may read. The bootstrap policy has read a great many of the fluent ones and two of
# each family of the last: there it succeeds sometimes, as a large model does where it has to think. Those of the other levels nano
# finds by its own search.
FLUENT_LEVELS: tuple[int, ...] = (1, 2, 3)
WORKED_LEVELS: tuple[int, ...] = (*FLUENT_LEVELS, 4)


def read_last() -> list[Record]:
    """The worked programs that the bootstrap policy has read last: two of each family at the last worked level, and easier ones."""
    hard = [record for family in FAMILIES for record in generate("train", 2, 11, levels=WORKED_LEVELS[-1:], families=[family.name])]
    return hard + generate("train", 5 * len(hard), 12, levels=(1, 2, 3, 3))


def worked(records: Sequence[Record]) -> str:
    """Worked programs as SFT data.

    Raises:
      ValueError: one is of a level whose programs nano may learn from its own search only.
    """
    _check(records, WORKED_LEVELS)
    return lines({"prompt": steps.prompt_of(r.problem.question), "completion": r.solution, "problem": r.problem.id} for r in records)


def turned(records: Sequence[Record], seed: int) -> str:
    """Worked programs, half of them cut after one of their steps, and the questions behind them, as SFT data of a PPM that reads questions back.

    Raises:
      ValueError: one is not of a fluent level.
    """
    _check(records, FLUENT_LEVELS)
    random, rows = Random(seed), []
    for record in records:
        begun = steps.begun(record.solution)
        solution = random.choice(begun) if begun and random.random() < 0.5 else record.solution
        before, question = steps.read_back(Partial(record.problem, solution))
        rows.append({"prompt": before, "completion": question, "problem": record.problem.id})
    random.shuffle(rows)
    return lines(rows)


def _check(records: Sequence[Record], levels: Sequence[int]) -> None:
    hard = [record.level for record in records if record.level not in levels]
    if hard:
        raise ValueError(f"a worked program of level {hard[0]}: only those of levels {tuple(levels)} may be trained on")


def lines(rows: Iterable[Mapping[str, object]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
