"""What an evolution would do and take, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rstar_fast.config import SearchConfig
from rstar_fast.evolution.config import EvolutionConfig
from rstar_fast.evolution.rounds import Rounds, problems_of
from rstar_fast.evolution.stages import Records

# Estimates where nothing is known of the models: nano's steps, measured, are half of these; a 7B model's are about these.
_STEP_TOKENS = 60  # that the policy generates for a step
_STEP_BYTES = 200  # of a step's text in a run folder
_NODE_BYTES = 40
_DEPTH = 6  # steps of a solution
_NEW_PART = 0.5  # of the steps of a later rollout, those that are not in the tree yet
_UNSOLVED = 0.25  # of the problems, those left to the next pass


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage, and what it is estimated to take.

    Attributes:
      tokens: that policies generate.
      steps: of code that the sandbox runs.
      disk: bytes.
    """

    round: int
    name: str
    says: str
    tokens: int = 0
    steps: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All stages in order. Data sets and checkpoints are not counted in `disk`: a round keeps up to three models of the base's size."""

    stages: tuple[PlannedStage, ...]

    @property
    def tokens(self) -> int:
        return sum(stage.tokens for stage in self.stages)

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def disk(self) -> int:
        return sum(stage.disk for stage in self.stages)


def plan_of(config: EvolutionConfig) -> Plan:
    """The plan: the stages themselves, none of them done.

    Raises:
      InvalidInput: a problem file is unusable.
    """
    planned = []
    nothing_done = Records(Path())
    for stage in Rounds(config, nothing_done, problems_of(config)).stages():
        round_, evaluation = config.rounds[stage.round - 1], config.evaluation
        tokens = steps = disk = 0
        if stage.name == "samples":
            tokens, steps = _solutions(stage.problems * evaluation.samples)
        elif stage.name.endswith("greedy"):
            tokens, steps = _solutions(stage.problems)
        elif stage.name.endswith("evaluation"):
            tokens, steps, disk = _search(stage.problems, evaluation.search.rollouts, evaluation.search)
        elif stage.name.startswith("search-"):
            again = int(stage.name.removeprefix("search-")) - 1
            unsolved = round(stage.problems * _UNSOLVED**again)
            tokens, steps, disk = _search(unsolved, round_.again[again - 1], round_.search)
        elif stage.problems:
            tokens, steps, disk = _search(stage.problems, round_.search.rollouts, round_.search)
        planned.append(PlannedStage(stage.round, stage.name, stage.says, tokens, steps, disk))
    return Plan(tuple(planned))


def _search(problems: int, rollouts: int, search: SearchConfig) -> tuple[int, int, int]:
    """Tokens, steps and bytes of a search."""
    expansions = problems * min(_DEPTH, search.max_depth) * (1 + (rollouts - 1) * _NEW_PART)
    candidates = round(expansions * search.candidates)
    return candidates * _STEP_TOKENS, candidates, candidates * (_NODE_BYTES + _STEP_BYTES)


def _solutions(count: int) -> tuple[int, int]:
    """Tokens and steps of solutions without a tree."""
    return count * _DEPTH * _STEP_TOKENS, count * _DEPTH
