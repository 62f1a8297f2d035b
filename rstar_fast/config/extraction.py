"""Settings of an extraction."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Self

from rstar_fast.config.base import Mapped, check_flag, check_integer, is_real
from rstar_fast.config.search import Behaviour
from rstar_fast.types import InvalidInput


class Difficulty(enum.Enum):
    """How a search fared with a problem (rStar-Math, section 3.4)."""

    EASY = "easy"  # all its trajectories are right
    MEDIUM = "medium"
    HARD = "hard"  # none is right


class DataFormat(enum.Enum):
    """How extracted data sets are written."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    REFERENCE = "reference"  # the JSON that microsoft/rStar's training scripts read


@dataclass(frozen=True, kw_only=True)
class Mix(Mapped):
    """Which share of the problems of each difficulty goes into the data sets, 0 to 1 each; drawn by the problem's id."""

    _called = "mix"

    easy: float = 1.0
    medium: float = 1.0
    hard: float = 1.0

    def __post_init__(self) -> None:
        for difficulty in Difficulty:
            share = self.of(difficulty)
            if not is_real(share) or not 0 <= share <= 1:
                raise InvalidInput(f"the mix's share of {difficulty.value} problems is {share!r}: give a number from 0 to 1")

    def of(self, difficulty: Difficulty) -> float:
        """The share of a difficulty."""
        return getattr(self, difficulty.value)


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig(Mapped):
    """Settings of an extraction.

    Attributes:
      trajectories: most solutions per problem in the SFT set, >= 0.
      positives: most steps of a prefix that lead to a right answer, 1 to 2^31.
      negatives: most steps of a prefix that lead to a wrong one, 1 to 2^31.
      final_step: pair whole trajectories as well, right against wrong (rStar-Math, section 3.3).
      min_margin: least difference between the Q of a pair, 0 to 2. A positive's Q is above its negative's in any case.
      min_edit_distance: least edit distance between the texts of a pair, in characters, >= 0.
      mix: shares of easy, medium and hard problems that are kept; also given as a mapping, e.g. {"easy": 0.5}.
      format: also given by name, e.g. "jsonl".
      behaviour: DEFAULT, or REFERENCE through `ExtractionConfig.reference`.
      seed: draws the mix, >= 0.

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

    _called = "extraction"

    trajectories: int = 2
    positives: int = 2
    negatives: int = 2
    final_step: bool = True
    min_margin: float = 0.0
    min_edit_distance: int = 0
    mix: Mix = field(default_factory=Mix)
    format: DataFormat = DataFormat.PARQUET
    behaviour: Behaviour = Behaviour.DEFAULT
    seed: int = 0

    def __post_init__(self) -> None:
        self._take(format=DataFormat, behaviour=Behaviour, mix=Mix)
        check_integer("trajectories", self.trajectories, 0, 2**31)
        for name in ("positives", "negatives"):
            check_integer(name, getattr(self, name), 1, 2**31)
        for name in ("min_edit_distance", "seed"):
            check_integer(name, getattr(self, name), 0, 2**62)
        check_flag("final_step", self.final_step)
        if not is_real(self.min_margin) or not 0 <= self.min_margin <= 2:
            raise InvalidInput(f"min_margin is {self.min_margin!r}: give a number from 0 to 2")

    @classmethod
    def reference(cls, **settings: Any) -> Self:
        """The extraction exactly as microsoft/rStar's scripts do it, quirks included (csrc/extract.h lists them)."""
        usual = {"behaviour": Behaviour.REFERENCE, "final_step": False, "min_margin": 0.5, "min_edit_distance": 20}
        return cls.from_mapping({**usual, **settings})
