"""Settings of a search."""

from __future__ import annotations

import dataclasses
import enum
import math
from dataclasses import dataclass, field
from typing import Any, Self

from rstar_fast.config.base import Mapped, check_flag, check_integer, check_real, is_real
from rstar_fast.config.sandbox import SandboxConfig
from rstar_fast.config.strategies import Aggregate, Budget, Strategy
from rstar_fast.types import InvalidInput

# Settings that earlier versions did not have, and did not record: see SearchConfig.recorded.
_LATER = ("strategy", "first_candidates", "trees", "aggregate", "budget", "run_budget", "adaptive", "least_gain")
_MOST_SOLUTIONS = 2**14  # where a root is asked for all at once
_FIRST = 2  # candidates that are sampled first at inference
# What the counters and blocks of the C++ forest hold (csrc/node.h, arena.h).
_MOST = {"rollouts": 2**31, "candidates": 2**14, "max_depth": 60_000, "in_flight": 2**14}


class Annotation(enum.Enum):
    """Where the values of steps come from (rStar-Math, section 3.2)."""

    TERMINAL = "terminal"  # rounds 1, 2: steps start at 0, terminals are graded against the key
    PPM = "ppm"  # rounds 3, 4: steps start at their PPM score, terminals are graded against the key
    INFERENCE = "inference"  # the PPM values steps and terminals; no key is in reach

    @property
    def needs_key(self) -> bool:
        return self is not Annotation.INFERENCE

    @property
    def needs_scorer(self) -> bool:
        return self is not Annotation.TERMINAL


class Behaviour(enum.Enum):
    """Whose rules a search or an extraction follows."""

    DEFAULT = "default"  # as DESIGN.md, "The search, exactly"; extraction: as `rstar_fast.extract` says
    REFERENCE = "reference"  # as microsoft/rStar, its quirks included


class Choice(enum.Enum):
    """How the answer is chosen among the trajectories (over classes of equal answers)."""

    BEST_SCORE = "best_score"
    MAJORITY = "majority"
    WEIGHTED_VOTE = "weighted_vote"  # votes weighted by (1 + score) / 2
    MARGINAL_VOTE = "marginal_vote"  # votes weighted by the trajectory's share times (1 + score) / 2


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Mapped):
    """Settings of one search.

    Attributes:
      annotation: where values come from; also given as its name, e.g. "terminal". With strategy "mcts" any; "beam", "dvts" and
        "best_of_n" need the PPM: "inference" or "ppm"; "self_consistency" and "greedy" take no key, and no PPM: "inference".
      strategy: how solutions are found; also given as its name, e.g. "beam".
      rollouts: complete solutions per problem, 1 to 2^31 (16384 where strategy is not "mcts"): trajectories of the tree search,
        beams, samples; "greedy" makes one.
      candidates: steps sampled per expansion, 1 to 16384. Of "beam" and "dvts" the width of a beam: rollouts / candidates beams go
        on at a time, and candidates must divide rollouts. Of no effect where solutions are independent samples.
      first_candidates: of the candidates of an expansion of the tree search, those that are sampled first; the others only where
        these are not all one step. 0 to 16384; 0: all at once. None: 2 with annotation "inference", where a policy that is sure
        would say the same again and again; all with the others, whose trees are learned from.
      trees: independent trees of a problem with strategy "mcts", >= 1; `rollouts` is the total over them, and they become one tree
        under one root.
      max_depth: most steps in a trajectory, 1 to 60000.
      c: exploration constant of UCT, >= 0.
      max_consecutive_errors: a leaf is given up after this many proposals in a row of which every candidate failed, >= 1.
        (With the reference's behaviour: steps in a row whose code failed.) Of independent samples one failure is the end.
      in_flight: rollouts in flight in one tree at a time, 1 to 16384; with 1 the result is determined by the policy's output.
      open_problems: problems searched at the same time, >= 1; their leaves share the batches. Of independent samples
        open_problems * candidates are in the making.
      batch_leaves: most leaves in one call of the policy, >= 1.
      first_play_urgency: the UCT value of an unvisited child, any number, inf included.
      virtual_loss: value taken from a child per rollout in flight through it, >= 0.
      choice: how the answer is chosen at the end; "self_consistency" always takes the majority's.
      aggregate: at inference, how the score of a solution is made of those of its steps; also the order of beams.
      budget: what a problem may spend; also given as a mapping, e.g. {"tokens": 5000}. One that has used it up keeps its tree and
        answers from what it has; `stats.stopped` says so.
      run_budget: what the whole call may spend. Tokens and rollouts of restored results of a run folder count too, seconds are
        those of the call. Problems not begun when it is used up fail as `FailureKind.BUDGET`.
      adaptive: whether a problem ends when its vote can no longer change, or is not likely to (search/adaptive.py). What it leaves is
        saved; where there is a `run_budget` it goes, counted in rollouts, to problems that are undecided, which get at most as many
        again as they had. With annotation "inference" and strategy "mcts", "best_of_n" or "self_consistency". With choice
        "best_score", which is no vote, only the best score there is ends a problem, or that nothing new can come.
      least_gain: the probability that the leading answer changes below which an adaptive search ends, 0 to 1.
      behaviour: DEFAULT, or REFERENCE through `SearchConfig.reference`.
      sandbox: what the steps' code may use; also given as a mapping, e.g. {"timeout_s": 10, "require": "full"}.
      seed: seeds the policy when it is given by name.

    Raises:
      InvalidInput: a setting is out of its range or unknown, or two do not fit; names it, the value and the range.
    """

    _called = "search"

    annotation: Annotation = Annotation.INFERENCE
    strategy: Strategy = Strategy.MCTS
    rollouts: int = 16
    candidates: int = 8
    first_candidates: int | None = None
    trees: int = 1
    max_depth: int = 16
    c: float = 2.0
    max_consecutive_errors: int = 2
    in_flight: int = 1
    open_problems: int = 64
    batch_leaves: int = 256
    first_play_urgency: float = 0.0
    virtual_loss: float = 1.0
    choice: Choice = Choice.MARGINAL_VOTE
    aggregate: Aggregate = Aggregate.LAST
    budget: Budget = Budget()
    run_budget: Budget = Budget()
    adaptive: bool = False
    least_gain: float = 0.1
    behaviour: Behaviour = Behaviour.DEFAULT
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        self._take(annotation=Annotation, strategy=Strategy, choice=Choice, aggregate=Aggregate, behaviour=Behaviour)
        self._take(budget=Budget, run_budget=Budget, sandbox=SandboxConfig)
        for name in (
            "rollouts",
            "candidates",
            "trees",
            "max_depth",
            "max_consecutive_errors",
            "in_flight",
            "open_problems",
            "batch_leaves",
        ):
            check_integer(name, getattr(self, name), 1, _MOST.get(name))
        if self.first_candidates is not None:
            check_integer("first_candidates", self.first_candidates, 0, _MOST["candidates"])
        check_integer("seed", self.seed, 0)
        for name in ("c", "virtual_loss"):
            check_real(name, getattr(self, name))
        if not is_real(self.first_play_urgency) or math.isnan(self.first_play_urgency):
            raise InvalidInput(f"first_play_urgency is {self.first_play_urgency!r}: give a number, or inf")
        check_flag("adaptive", self.adaptive)
        if not is_real(self.least_gain) or not 0 <= self.least_gain <= 1:
            raise InvalidInput(f"least_gain is {self.least_gain!r}: give a probability, 0 to 1")
        self._check_strategy()
        if self.behaviour is Behaviour.REFERENCE:
            self._check_reference()

    @property
    def needs_scorer(self) -> bool:
        """Whether the PPM is asked."""
        return self.annotation.needs_scorer and self.strategy.uses_ppm

    @property
    def sampled_first(self) -> int:
        """`first_candidates`, where None has its meaning."""
        if self.first_candidates is not None:
            return self.first_candidates
        return _FIRST if self.annotation is Annotation.INFERENCE and self.behaviour is Behaviour.DEFAULT else 0

    @property
    def solutions(self) -> int:
        """Complete solutions that a problem is to have."""
        return 1 if self.strategy is Strategy.GREEDY else self.rollouts

    def recorded(self) -> dict[str, Any]:
        """The mapping that runs keep: settings that earlier versions did not have only where they are not as usual.

        What an earlier version recorded thus equals the same settings now; but not of an adaptive search, which has changed.
        """
        usual = type(self)().to_mapping()
        mapping = self.to_mapping()
        kept = ("least_gain",) if self.adaptive else ()
        return {name: value for name, value in mapping.items() if name not in _LATER or name in kept or value != usual[name]}

    def _check_strategy(self) -> None:
        """Whether the strategy fits the other settings."""
        name, annotation = self.strategy.value, self.annotation.value
        if self.strategy.samples and not self.strategy.uses_ppm and self.annotation is not Annotation.INFERENCE:
            raise InvalidInput(f'annotation="{annotation}" with strategy="{name}", which values nothing: leave the annotation out')
        if self.strategy is not Strategy.MCTS and not self.annotation.needs_scorer:
            raise InvalidInput(f'annotation="{annotation}" with strategy="{name}", which the PPM guides: give "inference" or "ppm"')
        if self.strategy is not Strategy.MCTS and self.rollouts > _MOST_SOLUTIONS:
            raise InvalidInput(f'rollouts is {self.rollouts}: give at most {_MOST_SOLUTIONS} with strategy="{name}"')
        if not self.strategy.takes_trees and self.trees != 1:
            raise InvalidInput(f'trees is {self.trees} with strategy="{name}": only "mcts" has several trees, give 1')
        if self.trees > self.rollouts:
            raise InvalidInput(f"trees is {self.trees} and rollouts is {self.rollouts}: give each tree a rollout at least")
        if self.strategy.takes_beams and self.rollouts % self.candidates:
            raise InvalidInput(
                f'rollouts is {self.rollouts} and candidates is {self.candidates}: with strategy="{name}" '
                "rollouts / candidates beams go on, give a multiple of candidates"
            )
        if self.adaptive and (self.annotation.needs_key or not self.strategy.may_adapt):
            raise InvalidInput(
                f'adaptive is true with annotation="{annotation}" and strategy="{name}": it is for annotation="inference" '
                'and strategy="mcts", "best_of_n" or "self_consistency"'
            )

    def _check_reference(self) -> None:
        """Whether the search is one that the reference knows."""
        if self.in_flight != 1:
            raise InvalidInput(f"in_flight is {self.in_flight}: the reference runs one rollout at a time, give 1")
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        for name in ("strategy", "first_candidates", "trees", "aggregate", "budget", "run_budget", "adaptive"):
            if getattr(self, name) != usual[name]:
                given = getattr(getattr(self, name), "value", getattr(self, name))
                raise InvalidInput(f"{name} is {given!r}: the reference's behaviour has no such setting, leave it out")

    @classmethod
    def reference(cls, annotation: Annotation | str, **settings: Any) -> Self:
        """The search exactly as microsoft/rStar runs it, quirks included (see tests/golden/README.md)."""
        return cls.from_mapping({"annotation": annotation, "behaviour": Behaviour.REFERENCE, **settings})
