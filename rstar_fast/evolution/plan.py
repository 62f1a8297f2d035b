"""What an evolution would do and take, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rstar_fast.config import PolicyTrainingConfig, PpmKind, PpmTrainingConfig, SearchConfig
from rstar_fast.evolution.config import EvolutionConfig, RoundConfig
from rstar_fast.evolution.rounds import Rounds, problems_of
from rstar_fast.evolution.stages import Records
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.training.models import dtype_of, outline

# Estimates where nothing is known of the models: nano's steps, measured, are half of these; a 7B model's are about these.
_STEP_TOKENS = 60  # that the policy generates for a step
_PROMPT_TOKENS = 100
_STEP_BYTES = 200  # of a step's text in a run folder
_NODE_BYTES = 40
_DEPTH = 6  # steps of a solution
_NEW_PART = 0.5  # of the steps of a later rollout, those that are not in the tree yet
_UNSOLVED = 0.25  # of the problems, those left to the next pass
_WITH_PAIRS = 0.5  # of the problems, those that are neither always nor never solved
_STATE_BYTES = 12  # of a trained weight: itself and the optimizer's two, in float32
_STATES = 3  # two are kept, and the next is written before the older goes


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage, and what it is estimated to take.

    Attributes:
      tokens: that policies generate.
      trained: tokens that a training learns from, all epochs together.
      steps: of code that the sandbox runs.
      disk: bytes that stay: of a run folder, or of a checkpoint.
      states: bytes of a training's states, at most; they go when it is done.
    """

    round: int
    name: str
    says: str
    tokens: int = 0
    trained: int = 0
    steps: int = 0
    disk: int = 0
    states: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All stages in order. Data sets, small beside the rest, are not counted in `disk`."""

    stages: tuple[PlannedStage, ...]

    @property
    def tokens(self) -> int:
        return sum(stage.tokens for stage in self.stages)

    @property
    def trained(self) -> int:
        return sum(stage.trained for stage in self.stages)

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def disk(self) -> int:
        return sum(stage.disk for stage in self.stages)

    @property
    def states(self) -> int:
        """Of the largest training: one is at work at a time."""
        return max(stage.states for stage in self.stages)


def plan_of(config: EvolutionConfig) -> Plan:
    """The plan: the stages themselves, none of them done.

    Raises:
      InvalidInput: a problem file or the base is unusable.
    """
    planned = []
    nothing_done = Records(Path())
    problems = problems_of(config)
    load_tokenizer(config.base, "policy")  # tells what is wrong with a name
    base = _Base(config.base)
    ppm_base = base if config.ppm_base is None else _Base(config.ppm_base)
    for stage in Rounds(config, nothing_done, problems).stages():
        round_, evaluation = config.rounds[stage.round - 1], config.evaluation
        tokens = trained = steps = disk = states = 0
        if stage.name in ("policy", "ppm", "control"):
            learned_from = problems[0][max(0, stage.round - 1 - round_.earlier) : stage.round]
            count = len({problem.id for given in learned_from for problem in given.problems})
            if stage.name == "ppm":
                trained, model, training = _ppm_tokens(count, round_), ppm_base, round_.ppm_training
            else:
                trained, model, training = _solutions_tokens(count, round_), base, round_.policy_training
            disk, states = model.disk, model.states(training)
        elif stage.name == "samples":
            tokens, steps, disk = _solutions(stage.problems * evaluation.samples)
        elif stage.name.endswith("greedy"):
            tokens, steps, disk = _solutions(stage.problems)
        elif stage.name.endswith("evaluation"):
            tokens, steps, disk = _search(stage.problems, evaluation.search.rollouts, evaluation.search)
        elif stage.name.startswith("search-"):
            again = int(stage.name.removeprefix("search-")) - 1
            unsolved = round(stage.problems * _UNSOLVED**again)
            tokens, steps, disk = _search(unsolved, round_.again[again - 1], round_.search)
        elif stage.problems:
            search = config.heldout_search_of(round_) if stage.name == "heldout-search" else round_.search
            tokens, steps, disk = _search(stage.problems, search.rollouts, search)
        planned.append(PlannedStage(stage.round, stage.name, stage.says, tokens, trained, steps, disk, states))
    return Plan(tuple(planned))


class _Base:
    """How large the models are that are trained from a base: a PPM's head is small beside its body."""

    def __init__(self, name: str) -> None:
        model = outline(name)
        self._weights = model.num_parameters()
        self.disk = self._weights * dtype_of(name).itemsize
        embeddings = [layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
        matrices = [weight for weight in model.parameters() if weight.dim() == 2]
        self._linear = [weight.shape for weight in matrices if not any(weight is embedding for embedding in embeddings)]

    def states(self, config: PolicyTrainingConfig | PpmTrainingConfig) -> int:
        """Bytes of a training's states."""
        trained = sum(config.lora_rank * sum(shape) for shape in self._linear) if config.lora else self._weights
        return _STATES * _STATE_BYTES * trained


def _solutions_tokens(problems: int, round_: RoundConfig) -> int:
    """Tokens that a policy's training learns from."""
    config, each = round_.policy_training, _PROMPT_TOKENS + _DEPTH * _STEP_TOKENS
    if config.updates is not None:
        return config.updates * config.batch * each
    return config.epochs * problems * round_.extraction.trajectories * each


def _ppm_tokens(problems: int, round_: RoundConfig) -> int:
    """Tokens that a PPM's training learns from: a group at each depth, and one of whole solutions; of the kind "channel" also solutions.

    There the question stands behind each branch, else once before all.
    """
    config, extraction = round_.ppm_training, round_.extraction
    reads_back = config.kind is PpmKind.CHANNEL
    sides = extraction.positives + extraction.negatives
    questions = _PROMPT_TOKENS * (sides if reads_back else 1)
    of_steps = sum(questions + (depth + sides) * _STEP_TOKENS for depth in range(_DEPTH))
    of_solutions = questions + sides * _DEPTH * _STEP_TOKENS if extraction.final_step else 0
    # A solution, whole and in part.
    read = extraction.trajectories * (2 * _PROMPT_TOKENS + _DEPTH * _STEP_TOKENS) if reads_back else 0
    return round(config.epochs * problems * (_WITH_PAIRS * (of_steps + of_solutions) + read))


def _search(problems: int, rollouts: int, search: SearchConfig) -> tuple[int, int, int]:
    """Tokens, steps and bytes of a search."""
    expansions = problems * min(_DEPTH, search.max_depth) * (1 + (rollouts - 1) * _NEW_PART)
    candidates = round(expansions * search.candidates)
    return candidates * _STEP_TOKENS, candidates, candidates * (_NODE_BYTES + _STEP_BYTES)


def _solutions(count: int) -> tuple[int, int, int]:
    """Tokens, steps and bytes of independent solutions."""
    return count * _DEPTH * _STEP_TOKENS, count * _DEPTH, count * _DEPTH * (_NODE_BYTES + _STEP_BYTES)
