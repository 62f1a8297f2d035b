"""What an evolution is made of, to and from plain mappings (and so YAML)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rstar_fast.config import Annotation, ExtractionConfig, PolicyTrainingConfig, PpmTrainingConfig, SearchConfig
from rstar_fast.config.base import Mapped, check_flag, check_integer
from rstar_fast.types import InvalidInput

if TYPE_CHECKING:
    from rstar_fast.evolution.stages import Records


@dataclass(frozen=True, kw_only=True)
class RoundConfig(Mapped):
    """One round: search -> extract -> train the policy -> train the PPM.

    Attributes:
      search: how the training problems are searched. Its seed is the round's own.
      problems: file of the training problems that it searches; the evolution's by default.
      again: rollouts of further passes, each with a new seed, over the problems that no pass has solved.
      earlier: of so many rounds before it the trees are extracted from as well, >= 0; a problem in several has one tree of all. With it,
        and problems of its own, a round learns from more problems than it searches.
      extraction: what of the trees becomes training data.
      policy_training, ppm_training: how the two models are trained.

    Each is also given as a mapping of its settings.
    """

    _called = "round"

    search: SearchConfig = field(default_factory=lambda: SearchConfig(annotation=Annotation.TERMINAL))
    problems: str | None = None
    again: tuple[int, ...] = ()
    earlier: int = 0
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    policy_training: PolicyTrainingConfig = field(default_factory=PolicyTrainingConfig)
    ppm_training: PpmTrainingConfig = field(default_factory=PpmTrainingConfig)

    def __post_init__(self) -> None:
        self._take(**_SECTIONS)
        if not self.search.annotation.needs_key:
            raise InvalidInput('the search of a round has annotation="inference", which makes no training data: give "terminal" or "ppm"')
        if isinstance(self.again, str) or not isinstance(self.again, Sequence):
            raise InvalidInput(f"again is {self.again!r}: give a list of rollouts, e.g. [64, 128]")
        for rollouts in self.again:
            check_integer("rollouts in again", rollouts, 1)
        object.__setattr__(self, "again", tuple(self.again))
        check_integer("earlier", self.earlier, 0)
        check_name("problems", self)

    def to_mapping(self) -> dict[str, Any]:
        return super().to_mapping() | {"again": list(self.again)}


def check_name(name: str, config: Mapped) -> None:
    """Makes a setting that names a file or a model a text.

    Raises:
      InvalidInput: it is neither that nor None.
    """
    value = getattr(config, name)
    if isinstance(value, Path):
        object.__setattr__(config, name, value := str(value))
    if not isinstance(value, str | None) or value == "":
        raise InvalidInput(f"{name} is {value!r}: give the name of a file or a model")


_SECTIONS: Mapping[str, type[Mapped]] = {
    "search": SearchConfig,
    "extraction": ExtractionConfig,
    "policy_training": PolicyTrainingConfig,
    "ppm_training": PpmTrainingConfig,
}

# The four rounds of rStar-Math, section 3.4: what differs between them.
PAPER_ROUNDS: tuple[Mapping[str, Any], ...] = (
    {"search": {"annotation": "terminal", "rollouts": 8}},
    {"search": {"annotation": "terminal", "rollouts": 16}},
    {"search": {"annotation": "ppm", "rollouts": 16}},
    {"search": {"annotation": "ppm", "rollouts": 16}, "again": [64, 128]},
)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Mapped):
    """How the models of a round are measured on held-out problems.

    Attributes:
      problems: how many of them, from the beginning of the file, >= 1; all by default.
      samples: solutions per problem for pass@k, majority and best-of-n, >= 1.
      search: how they are searched at inference; also given as a mapping.
    """

    _called = "evaluation"

    problems: int | None = None
    samples: int = 16
    search: SearchConfig = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        self._take(search=SearchConfig)
        check_integer("samples", self.samples, 1)
        if self.problems is not None:
            check_integer("problems", self.problems, 1)
        if self.search.annotation.needs_key:
            raise InvalidInput(f'the search of an evaluation has annotation="{self.search.annotation.value}": give "inference"')


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig(Mapped):
    """A self-evolution (rStar-Math, section 3.4).

    Attributes:
      problems: file of training problems, all with answers (formats: `rstar_fast.storage.read_problems`), of all rounds that name none
        of their own.
      heldout: file of problems with answers that no training sees; what is reported is measured on them.
      base: policy from which every round's policy is trained: a folder or hub name.
      bootstrap: policy that searches in round 1; the base by default.
      ppm_base: checkpoint from which every round's PPM is trained; by default the round's policy.
      base_data: SFT data that the base has seen (as `extract` writes it); what the control of round 1 is trained on. Without it round 1
        has none.
      rounds: RoundConfigs, or mappings of settings; the four of the paper by default.
      evaluation: how each round is measured; also given as a mapping.
      heldout_search: settings in which the search for held-out pairs, which measure the PPM, differs from the round's own search: where
        that is narrow, a wider one finds more pairs.
      control: train and measure a control of equal compute each round: the previous policy, for as many updates, on the previous
        data.
      engine: "transformers", or "vllm" for the searches.
      launcher: command that starts trainings, e.g. ["accelerate", "launch", "--num_processes", "8"]; in this process by default.
      seed: of all that is drawn, >= 0.
      search, extraction, policy_training, ppm_training: settings of every round, which its own override; in mappings only.

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

    _called = "evolution"

    problems: str
    heldout: str
    base: str
    bootstrap: str | None = None
    ppm_base: str | None = None
    base_data: str | None = None
    rounds: tuple[RoundConfig, ...] = tuple(RoundConfig.from_mapping(settings) for settings in PAPER_ROUNDS)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    heldout_search: Mapping[str, Any] = field(default_factory=dict)
    control: bool = True
    engine: str = "transformers"
    launcher: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("problems", "heldout", "base", "bootstrap", "ppm_base", "base_data"):
            check_name(name, self)
        for name in ("problems", "heldout", "base"):
            if getattr(self, name) is None:
                raise InvalidInput(f"{name} is missing: an evolution needs problems, heldout and base")
        if isinstance(self.rounds, str | Mapping) or not isinstance(self.rounds, Sequence) or not self.rounds:
            raise InvalidInput(f"rounds is {self.rounds!r}: give a list with at least one round")
        rounds = [round_ if isinstance(round_, RoundConfig) else _round(round_, {}) for round_ in self.rounds]
        object.__setattr__(self, "rounds", tuple(rounds))
        if rounds[0].search.annotation.needs_scorer:
            raise InvalidInput('round 1 has annotation="ppm", but there is no PPM before it: give "terminal"')
        self._take(evaluation=EvaluationConfig)
        if not isinstance(self.heldout_search, Mapping) or {"annotation", "seed"} & set(self.heldout_search):
            raise InvalidInput(
                f"heldout_search is {self.heldout_search!r}: give a mapping of search settings other than annotation and seed, "
                "which are the round's"
            )
        for round_ in self.rounds:
            self.heldout_search_of(round_)
        check_flag("control", self.control)
        if self.engine not in ("transformers", "vllm"):
            raise InvalidInput(f"engine is {self.engine!r}: give 'transformers' or 'vllm'")
        if not isinstance(self.launcher, list | tuple) or not all(isinstance(word, str) for word in self.launcher):
            raise InvalidInput(f"launcher is {self.launcher!r}: give a list of words, e.g. ['accelerate', 'launch']")
        object.__setattr__(self, "launcher", tuple(self.launcher))
        check_integer("seed", self.seed, 0, 2**31)

    @property
    def problem_files(self) -> tuple[str, ...]:
        """The file of training problems of each round."""
        return tuple(round_.problems or self.problems for round_ in self.rounds)

    def heldout_search_of(self, round_: RoundConfig) -> SearchConfig:
        """How a round searches for held-out pairs."""
        return round_.search.replace(**self.heldout_search)

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        shared = {name: settings[name] for name in _SECTIONS if name in settings}
        own = {name: value for name, value in settings.items() if name not in _SECTIONS}
        missing = [name for name in ("problems", "heldout", "base") if own.get(name) is None]
        if missing:
            raise InvalidInput(f"{missing[0]} is missing: an evolution needs problems, heldout and base")
        rounds = own.get("rounds", PAPER_ROUNDS)
        if isinstance(rounds, Sequence) and not isinstance(rounds, str):
            own["rounds"] = tuple(_round(round_, shared) for round_ in rounds)
        return super().from_mapping(own)

    def to_mapping(self) -> dict[str, Any]:
        rounds = [round_.to_mapping() for round_ in self.rounds]
        return super().to_mapping() | {"rounds": rounds, "launcher": list(self.launcher), "heldout_search": dict(self.heldout_search)}


def _round(settings: Any, shared: Mapping[str, Any]) -> RoundConfig:
    """A round of its own settings and those of every round."""
    if isinstance(settings, RoundConfig):
        return settings
    if not isinstance(settings, Mapping):
        raise InvalidInput(f"a round is {settings!r}: give a mapping such as {{search: {{annotation: terminal, rollouts: 8}}}}")
    merged = dict(settings)
    for name, usual in shared.items():
        own = settings.get(name, {})
        if not isinstance(usual, Mapping) or not isinstance(own, Mapping):
            raise InvalidInput(f"{name} is {usual if not isinstance(usual, Mapping) else own!r}: give a mapping of its settings")
        merged[name] = {**usual, **own}
    if isinstance(merged.get("search", {}), Mapping):
        merged["search"] = {"annotation": "terminal", **merged.get("search", {})}
    return RoundConfig.from_mapping(merged)


def seed_of(config: EvolutionConfig, round_: int, part: int) -> int:
    """The seed of a part of a round, rounds counted from 1: no two parts draw alike."""
    return (config.seed * 1_000 + round_ * 50 + part) % 2**31


# Settings that earlier versions did not have, of a round, of its ppm_training and of the evolution: recorded where they are not as usual, so that what such a
# version began equals the same settings now.
_LATER = {"problems": None, "earlier": 0}
_LATER_OF_PPM = {name: PpmTrainingConfig().to_mapping()[name] for name in ("kind", "bias", "reading_weight")}
_LATER_OF_ALL = {"heldout_search": {}, "ppm_base": None}
# What changes no result, or only by rounding.
_FREE = ("launcher", "control", *PolicyTrainingConfig.changes_no_result, *PpmTrainingConfig.changes_no_result)
# Settings by their beginning -> the stages that use them first.
_USED_BY = {
    "search": ("search",),
    "again": ("search-2",),
    "earlier": ("extract",),
    "extraction": ("extract",),
    "policy_training": ("policy",),
    "ppm_training": ("ppm",),
    "evaluation": ("greedy", "samples", "evaluation"),
    "bootstrap": ("search",),
    "base": ("policy",),
    "ppm_base": ("ppm",),
    "base_data": ("control",),
    "heldout": ("heldout-search",),
    "heldout_search": ("heldout-search",),
}


def recorded_settings(config: EvolutionConfig, digests: Mapping[str, str]) -> dict[str, Any]:
    """What makes an evolution what it is: its settings, rounds by number, and the digests of its files."""
    settings = config.to_mapping()
    rounds = {str(k): round_ for k, round_ in enumerate(settings.pop("rounds"), 1)}
    settings["evaluation"]["search"] = config.evaluation.search.recorded()
    for round_, given in zip(rounds.values(), config.rounds, strict=True):
        round_["search"] = given.search.recorded()
        round_["again"] = {str(at): rollouts for at, rollouts in enumerate(round_["again"], 1)}
        _without_usual(round_, _LATER)
        _without_usual(round_["ppm_training"], _LATER_OF_PPM)
    _without_usual(settings, _LATER_OF_ALL)
    return settings | {"launcher": list(config.launcher), "rounds": rounds, "files": dict(digests)}


def _without_usual(settings: dict[str, Any], usual: Mapping[str, Any]) -> None:
    for name, value in usual.items():
        if settings[name] == value:
            del settings[name]


def read_settings(recorded: Mapping[str, Any]) -> EvolutionConfig:
    """The settings in what `recorded_settings` gave."""
    rounds = [round_ | {"again": list(round_["again"].values())} for round_ in recorded["rounds"].values()]
    return EvolutionConfig.from_mapping({**{name: value for name, value in recorded.items() if name != "files"}, "rounds": rounds})


def may_change(name: str, config: EvolutionConfig, records: Records) -> bool:
    """Whether a setting, by its dotted name in `recorded_settings`, may be another after what has been done or begun.

    Args:
      config: the settings as they are to be. A file that they do not name is no matter: the setting that named it is another as well.
      records: what has been done.
    """
    if name.startswith("files."):
        users = _users_of_file(name.removeprefix("files."), config)
    elif name == "problems":
        users = [(k, "search") for k, round_ in enumerate(config.rounds, 1) if round_.problems is None]
    elif name == "engine":  # changes results by rounding, but is in the name under which a run folder has its policy
        return not records.is_searching()
    else:
        parts = name.split(".")
        if parts[-1] in _FREE or parts[0] in _FREE:
            return True
        k = 1
        if parts[0] == "rounds":
            k, parts = int(parts[1]), parts[2:]
        stages = _USED_BY.get(parts[0] if parts else "search", ("search",))
        if parts and parts[0] == "again":
            stages = (f"search-{int(parts[1]) + 1}" if len(parts) > 1 else "search-2", "extract")
        if parts == ["base"] and config.bootstrap is None:
            stages = ("search", *stages)
        users = [(k, stage) for stage in stages]
    return not any(records.is_begun(*user) for user in users)


def _users_of_file(path: str, config: EvolutionConfig) -> list[tuple[int, str]]:
    """The stages that read a file first, by round and name."""
    users = [(k, "search") for k, of_round in enumerate(config.problem_files, 1) if of_round == path]
    users += [(1, "heldout-search")] if config.heldout == path else []
    return users + ([(1, "control")] if config.base_data == path else [])
