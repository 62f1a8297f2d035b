"""What an evolution would do and take, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass

from rstar_fast.config import SearchConfig
from rstar_fast.evolution.config import EvolutionConfig

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
    """All stages in order; checkpoints, whose size is the models', are not counted in `disk`."""

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


def plan_of(config: EvolutionConfig, problems: int, heldout: int) -> Plan:
    """The plan for so many training and held-out problems."""
    stages: list[PlannedStage] = []
    evaluation = config.evaluation
    for k, round_ in enumerate(config.rounds, 1):
        search = round_.search
        left = problems
        stages.append(_search(k, "search", left, search.rollouts, search))
        for at, rollouts in enumerate(round_.again, 2):
            left = round(left * _UNSOLVED)
            stages.append(_search(k, f"search-{at}", left, rollouts, search))
        rows = problems * round_.extraction.trajectories
        data = rows * _DEPTH * _STEP_BYTES * 3
        stages.append(PlannedStage(k, "extract", f"solutions and pairs of {problems:,} problems", disk=data))
        stages.append(PlannedStage(k, "policy", f"{config.base} on up to {rows:,} solutions, {round_.policy_training.epochs} epochs"))
        stages.append(_search(k, "heldout-search", heldout, search.rollouts, search))
        stages.append(PlannedStage(k, "ppm", f"round {k}'s policy on their pairs, {round_.ppm_training.epochs} epochs"))
        controlled = config.control and (k > 1 or config.base_data is not None)
        if controlled:
            stages.append(PlannedStage(k, "control", "the policy before on the data before, as many updates"))
        solutions = heldout * (2 if controlled else 1)
        stages.append(_sampled(k, "greedy", solutions))
        stages.append(_sampled(k, "samples", heldout * evaluation.samples))
        stages.append(_search(k, "evaluation", solutions, evaluation.search.rollouts, evaluation.search))
    return Plan(tuple(stages))


def _search(k: int, name: str, problems: int, rollouts: int, search: SearchConfig) -> PlannedStage:
    depth = min(_DEPTH, search.max_depth)
    expansions = problems * depth * (1 + (rollouts - 1) * _NEW_PART)
    candidates = round(expansions * search.candidates)
    says = f"{problems:,} problems, {rollouts} rollouts of {search.candidates} candidates, {search.annotation.value}"
    return PlannedStage(k, name, says, candidates * _STEP_TOKENS, candidates, candidates * (_NODE_BYTES + _STEP_BYTES))


def _sampled(k: int, name: str, solutions: int) -> PlannedStage:
    return PlannedStage(k, name, f"{solutions:,} solutions", solutions * _DEPTH * _STEP_TOKENS, solutions * _DEPTH)
