"""The summary of an evolution: what each round gained, as numbers with their intervals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar_fast.evaluation import paired_difference, wilson
from rstar_fast.evolution.config import EvolutionConfig, read_settings
from rstar_fast.evolution.rounds import problems_of
from rstar_fast.evolution.stages import Record, Records, load_settings
from rstar_fast.training.datasets import digest
from rstar_fast.types import InvalidInput

_FEW_DIFFERING = 5
FRONTIER = (0.30, 0.70)  # pass@n of round 1, between which a level belongs to the frontier


@dataclass(frozen=True, slots=True)
class Share:
    """A share of problems, with its 95% interval (Wilson)."""

    count: int
    total: int

    @property
    def value(self) -> float:
        return self.count / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.count, self.total)

    def __str__(self) -> str:
        if not self.total:
            return "-"
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more often the second is right than the first, on the same problems, with its 95% interval (paired bootstrap).

    Attributes:
      differing: problems of `total` on which they differ; where these are few, the bootstrap's interval is too narrow.
    """

    value: float
    low: float
    high: float
    differing: int
    total: int

    def __str__(self) -> str:
        if self.differing < _FEW_DIFFERING:
            return f"{100 * self.value:+.1f} ({self.differing} of {self.total} differ)"
        return f"{100 * self.value:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """What is known of a round, as far as it has come; measures that are not taken yet are absent.

    Attributes:
      round: counted from 1.
      solved: training problems with a right trajectory, all passes together; by level as well.
      difficulty: training problems by how the search fared: easy, medium, hard.
      measures: name -> level ("all" for all, "frontier" for those levels) -> share of held-out problems.
      ppm: pairs of held-out problems that the PPM orders rightly; None before it is trained.
      over_control: "greedy", "search" -> gain over the control, on all and on the frontier's problems.
      tokens: that policies generated in the round's searches and measurements.
      hours: that its stages took.
    """

    round: int
    solved: dict[str, Share] = field(default_factory=dict)
    difficulty: dict[str, int] = field(default_factory=dict)
    measures: dict[str, dict[str, Share]] = field(default_factory=dict)
    ppm: Mapping[str, Any] | None = None
    over_control: dict[str, dict[str, Gain]] = field(default_factory=dict)
    tokens: int = 0
    hours: float = 0.0


@dataclass(frozen=True, slots=True)
class EvolutionSummary:
    """What an evolution has come to.

    Attributes:
      folder: the evolution's.
      rounds: in order, as far as they have begun.
      frontier: the levels at the frontier.
      over_first: "greedy", "search" -> gain of the last measured round over the first, on all and on the frontier's problems.
    """

    folder: Path
    rounds: tuple[RoundSummary, ...]
    frontier: tuple[str, ...]
    over_first: dict[str, dict[str, Gain]]


def summarise(folder: str | Path) -> EvolutionSummary:
    """Reads what the stages of an evolution have recorded.

    Raises:
      InvalidInput: the folder holds no evolution, or its problem files are gone.
    """
    folder = Path(folder)
    settings = load_settings(folder)
    if settings is None:
        raise InvalidInput(f"{folder} holds no evolution: give the folder that `evolve` was given")
    config, records = read_settings(settings), Records(folder)
    changed = [path for path, digest in digests_of(config).items() if settings["files"].get(path) != digest]
    if changed:
        raise InvalidInput(f"{changed[0]} is not what {folder} was begun with: restore it from a copy")
    train, heldout = problems_of(config)
    levels = [heldout.labels.get(problem.id, {}).get("level", "") for problem in heldout.problems]
    frontier = _frontier(records.get(1, "samples"), levels)
    is_frontier = [level in frontier for level in levels]
    rounds = []
    for k in range(1, len(config.rounds) + 1):
        names = [path.stem for path in (records.folder(k) / "records").glob("*.json")]
        of_stage = {name: record for name in names if (record := records.get(k, name)) is not None}
        if of_stage:
            totals = Counter(train[k - 1].labels.get(problem.id, {}).get("level", "") for problem in train[k - 1].problems)
            rounds.append(_round(k, of_stage, levels, is_frontier, totals))
    measured = [k for k in range(1, len(rounds) + 1) if records.get(k, "evaluation") is not None]
    over_first = {}
    if len(measured) > 1:
        for name, stage in (("greedy", "greedy"), ("search", "evaluation")):
            first, last = records.get(1, stage), records.get(measured[-1], stage)
            assert first is not None and last is not None
            over_first[name] = _gains(first["correct"], last["correct"], is_frontier)
    return EvolutionSummary(folder, tuple(rounds), frontier, over_first)


def digests_of(config: EvolutionConfig) -> dict[str, str]:
    """What tells an evolution's files from others: their digests, by name.

    Raises:
      InvalidInput: one is missing.
    """
    found = {}
    for path in dict.fromkeys((*config.problem_files, config.heldout, config.base_data)):
        if path is not None:
            try:
                found[path] = digest(path)
            except OSError as error:
                raise InvalidInput(f"{path} cannot be read: {error.strerror or error}; restore it") from error
    return found


def _frontier(samples: Record | None, levels: Sequence[str]) -> tuple[str, ...]:
    """The levels whose share of problems with a right sample in round 1 lies between the bounds of FRONTIER."""
    if samples is None:
        return ()
    passed = [None if right is None else right > 0 for right in samples["right"]]
    low, high = FRONTIER
    shares = _by_level(passed, levels, [False] * len(levels))
    return tuple(level for level, share in shares.items() if level not in ("all", "frontier", "") and low <= share.value <= high)


def _round(k: int, stages: Mapping[str, Record], levels: Sequence[str], is_frontier: Sequence[bool], totals: Counter[str]) -> RoundSummary:
    searches = [record for name, record in stages.items() if name == "search" or name.startswith("search-")]
    solved = {"all": Share(sum(record["solved"] for record in searches), totals.total())} if "search" in stages else {}
    for level in sorted(set(totals) - {""}) if solved else ():
        solved[level] = Share(sum(record["solved_by_level"].get(level, 0) for record in searches), totals[level])
    measures: dict[str, dict[str, Share]] = {}
    lists = {"greedy": ("greedy", "correct"), "search": ("evaluation", "correct"), "control greedy": ("control-greedy", "correct")}
    lists["control search"] = ("control-evaluation", "correct")
    lists |= {name: ("samples", name.split()[0]) for name in ("majority", "ppm best of n", "logprob best of n")}
    for name, (stage, values) in lists.items():
        if stage in stages and values in stages[stage]:
            measures[name] = _by_level(stages[stage][values], levels, is_frontier)
    if "samples" in stages:
        passed = [None if right is None else right > 0 for right in stages["samples"]["right"]]
        measures[f"pass@{stages['samples']['samples']}"] = _by_level(passed, levels, is_frontier)
    over_control = {
        name: _gains(stages[f"control-{stage}"]["correct"], stages[stage]["correct"], is_frontier)
        for name, stage in (("greedy", "greedy"), ("search", "evaluation"))
        if stage in stages and f"control-{stage}" in stages
    }
    return RoundSummary(
        k,
        solved,
        dict(stages["extract"]["problems"]) if "extract" in stages else {},
        measures,
        stages["ppm"].get("evaluation") if "ppm" in stages else None,
        over_control,
        sum(record.get("tokens", 0) for name, record in stages.items() if name not in ("policy", "ppm", "control")),
        sum(record["seconds"] for record in stages.values()) / 3600,
    )


def _by_level(correct: Sequence[bool | None], levels: Sequence[str], is_frontier: Sequence[bool]) -> dict[str, Share]:
    """The share of right ones among those with a verdict: of all, of each level, of the frontier's."""

    def share(chosen: Callable[[int], bool]) -> Share:
        verdicts = [verdict for at, verdict in enumerate(correct) if verdict is not None and chosen(at)]
        return Share(sum(verdicts), len(verdicts))

    shares = {"all": share(lambda at: True)}
    shares |= {level: share(lambda at, level=level: levels[at] == level) for level in sorted(set(levels) - {""})}  # type: ignore[misc]
    return shares | ({"frontier": share(lambda at: is_frontier[at])} if any(is_frontier) else {})


def _gains(first: Sequence[bool | None], second: Sequence[bool | None], is_frontier: Sequence[bool]) -> dict[str, Gain]:
    both = [(a, b, near) for a, b, near in zip(first, second, is_frontier, strict=True) if a is not None and b is not None]

    def gain(pairs: Iterable[tuple[bool, bool, bool]]) -> Gain | None:
        pairs = list(pairs)
        if not pairs:
            return None
        differing = sum(a != b for a, b, _ in pairs)
        return Gain(*paired_difference([a for a, _, _ in pairs], [b for _, b, _ in pairs]), differing, len(pairs))

    found = {"all": gain(both), "frontier": gain(pair for pair in both if pair[2])}
    return {name: value for name, value in found.items() if value is not None}


def to_mapping(summary: EvolutionSummary) -> dict[str, Any]:
    """The summary as plain values, e.g. for a JSON file."""

    def shares(of: Mapping[str, Share]) -> dict[str, Any]:
        return {name: {"share": round(s.value, 4), "low": round(s.interval[0], 4), "high": round(s.interval[1], 4), "of": s.total} for name, s in of.items() if s.total}

    def gains(of: Mapping[str, Mapping[str, Gain]]) -> dict[str, Any]:
        return {what: {name: [round(g.value, 4), round(g.low, 4), round(g.high, 4)] for name, g in by.items()} for what, by in of.items()}

    rounds = [
        {
            "round": r.round,
            "solved": shares(r.solved),
            "difficulty": r.difficulty,
            "measures": {name: shares(of) for name, of in r.measures.items()},
            "ppm": r.ppm,
            "over_control": gains(r.over_control),
            "tokens": r.tokens,
            "hours": round(r.hours, 3),
        }
        for r in summary.rounds
    ]
    return json.loads(json.dumps({"rounds": rounds, "frontier": list(summary.frontier), "over_first": gains(summary.over_first)}))  # type: ignore[no-any-return]
