"""Two evaluations of the same problems, compared problem by problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_fast.evaluation.api import Evaluation, load_evaluation
from rstar_fast.evaluation.intervals import paired_difference, sign_test
from rstar_fast.evaluation.metrics import OPTIONAL_STOPPING, Samples, is_biased
from rstar_fast.evaluation.outcomes import Outcome
from rstar_fast.types import InvalidInput


@dataclass(frozen=True, slots=True)
class Difference:
    """How two evaluations differ in one measure, on the problems that both have a verdict on.

    Attributes:
      first, second: their means.
      difference, low, high: second minus first, with its 95% interval (`paired_difference`).
      wins, losses: problems on which the second is better, and worse.
      p_value: of the exact two-sided sign test on those; for verdicts McNemar's test.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    wins: int
    losses: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations, the second against the first.

    Attributes:
      first, second: where they lie, or what they are called.
      problems: that both have a verdict on; only these are compared.
      only_first, only_second: problems that the other does not have.
      broken: problems of both where a search broke.
      accuracy: of the chosen answers.
      pass_at_1: the chance that a solution of a problem is right: one of its samples, or of a tree's solutions one drawn by its share.
        None where one of the two is of adaptive samples, from which it cannot be told without bias.
      gained, lost: ids of the problems that only the second, only the first has right.
      tokens: that each spent on the problems compared.
    """

    first: str
    second: str
    problems: int
    only_first: int
    only_second: int
    broken: int
    accuracy: Difference
    pass_at_1: Difference | None
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    tokens: tuple[int, int]

    @property
    def notes(self) -> list[str]:
        """What is missing, and why."""
        return [OPTIONAL_STOPPING] if self.pass_at_1 is None else []

    def to_mapping(self) -> dict[str, Any]:
        """The comparison as plain values."""
        return dataclasses.asdict(self) | {"notes": self.notes}


def compare(first: Evaluation | str | Path, second: Evaluation | str | Path, *, seed: int = 0) -> Comparison:
    """Compares two evaluations on the problems that they share, by id.

    Args:
      first, second: evaluations, or their folders.
      seed: of the bootstrap.

    Raises:
      InvalidInput: one is no finished evaluation, they share no problem with verdicts, or have different keys for one.
    """
    names = [_name(given, at) for given, at in ((first, "the first"), (second, "the second"))]
    evaluations = [given if isinstance(given, Evaluation) else load_evaluation(given) for given in (first, second)]
    by_id = [{outcome.id: outcome for outcome in evaluation.outcomes} for evaluation in evaluations]
    shared = [(outcome, by_id[1][name]) for name, outcome in by_id[0].items() if name in by_id[1]]
    for a, b in shared:
        if a.key != b.key:
            raise InvalidInput(f"problem {a.id!r} has the key {a.key!r} in {names[0]} and {b.key!r} in {names[1]}: evaluate both on one file")
    pairs = verdict_pairs(*evaluations)
    if shared and not pairs:
        raise InvalidInput(
            f"of each of the {len(shared)} problems that {names[0]} and {names[1]} share one search or the other broke: evaluate again "
            "with --retry-failed (retry_failed=True), which searches these again"
        )
    if not pairs:
        raise InvalidInput(f"{names[0]} and {names[1]} share no problem that both have a verdict on: evaluate both on the same problems")
    biased = any(is_biased(one.outcomes, one.summary["settings"]["search"].get("adaptive", False)) for one in evaluations)
    return Comparison(
        first=names[0],
        second=names[1],
        problems=len(pairs),
        only_first=len(by_id[0]) - len(shared),
        only_second=len(by_id[1]) - len(shared),
        broken=len(shared) - len(pairs),
        accuracy=accuracy_difference(pairs, seed),
        pass_at_1=None if biased else _difference([(_pass_at_1(a), _pass_at_1(b)) for a, b in pairs], seed),
        gained=tuple(a.id for a, b in pairs if b.right and not a.right),
        lost=tuple(a.id for a, b in pairs if a.right and not b.right),
        tokens=(sum(a.tokens for a, _ in pairs), sum(b.tokens for _, b in pairs)),
    )


def verdict_pairs(first: Evaluation, second: Evaluation) -> list[tuple[Outcome, Outcome]]:
    """The outcomes of the problems that both have a verdict on."""
    others = {outcome.id: outcome for outcome in second.outcomes if outcome.right is not None}
    return [(outcome, others[outcome.id]) for outcome in first.outcomes if outcome.right is not None and outcome.id in others]


def accuracy_difference(pairs: Sequence[tuple[Outcome, Outcome]], seed: int) -> Difference:
    """How the chosen answers differ on problems, one at least, that both have a verdict on."""
    return _difference([(float(bool(a.right)), float(bool(b.right))) for a, b in pairs], seed)


def _pass_at_1(outcome: Outcome) -> float:
    samples = Samples(outcome)
    return samples.estimates(1, False, 0)["pass"] if outcome.samples else samples.one_of_tree()


def _difference(pairs: Sequence[tuple[float, float]], seed: int) -> Difference:
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    difference, low, high = paired_difference(firsts, seconds, seed)
    wins, losses = sum(b > a for a, b in pairs), sum(b < a for a, b in pairs)
    return Difference(
        sum(firsts) / len(pairs), sum(seconds) / len(pairs), difference, low, high, wins, losses, sign_test(wins, losses)
    )


def _name(given: Evaluation | str | Path, otherwise: str) -> str:
    if isinstance(given, Evaluation):
        return otherwise if given.folder is None else str(given.folder)
    return str(given)
