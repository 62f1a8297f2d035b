"""The settings: their ranges, and their way to a plain mapping and back."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rstar_fast.config import (
    Aggregate,
    Annotation,
    Behaviour,
    Budget,
    Choice,
    DataFormat,
    Difficulty,
    ExtractionConfig,
    Mix,
    Require,
    SandboxConfig,
    SearchConfig,
    Strategy,
)
from rstar_fast.types import InvalidInput

INTEGERS = {
    "rollouts": (1, 2**31),
    "candidates": (1, 2**14),
    "max_depth": (1, 60_000),
    "max_consecutive_errors": (1, None),
    "in_flight": (1, 2**14),
    "open_problems": (1, None),
    "batch_leaves": (1, None),
    "seed": (0, None),
}
REALS = ("c", "virtual_loss", "first_play_urgency")

finite = st.floats(0, allow_infinity=False, allow_nan=False) | st.integers(0, 2**40)
valid = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.integers(least, most or 2**40) for name, (least, most) in INTEGERS.items()},
        "annotation": st.sampled_from(Annotation) | st.sampled_from([member.value for member in Annotation]),
        "sandbox": st.fixed_dictionaries({}, optional={"timeout_s": st.floats(0.1, 1e6), "require": st.sampled_from(["full", "none"])}),
        "choice": st.sampled_from(Choice) | st.sampled_from([member.value for member in Choice]),
        "c": finite,
        "virtual_loss": finite,
        "first_play_urgency": st.floats(allow_nan=False) | st.integers(-(2**40), 2**40),
        "aggregate": st.sampled_from(Aggregate) | st.sampled_from([member.value for member in Aggregate]),
        "run_budget": st.fixed_dictionaries({}, optional={"tokens": st.integers(1, 2**40), "seconds": st.floats(0.1, 1e6)}),
        "budget": st.builds(Budget, rollouts=st.none() | st.integers(1, 99)),
        "least_gain": st.floats(0, 1),
    },
)


@given(settings=valid)
def test_a_config_comes_back_from_its_mapping_from_yaml_and_from_json(settings: dict[str, Any]) -> None:
    config = SearchConfig(**settings)
    mapping = config.to_mapping()
    plain = [*mapping.values(), *mapping["sandbox"].values(), *mapping["budget"].values(), *mapping["run_budget"].values()]
    nested = [mapping[name] for name in ("sandbox", "budget", "run_budget")]
    assert all(type(value) in (str, int, float, bool, type(None)) or value in nested for value in plain)
    assert SearchConfig.from_mapping(mapping) == config
    assert SearchConfig.from_mapping(yaml.safe_load(yaml.safe_dump(mapping))) == config
    assert SearchConfig.from_mapping(json.loads(json.dumps(mapping))) == config
    assert config.replace() == config
    assert hash(config) == hash(SearchConfig.from_mapping(mapping))


def test_every_setting_is_in_the_mapping_and_documented() -> None:
    names = [field.name for field in dataclasses.fields(SearchConfig)]
    assert list(SearchConfig().to_mapping()) == names
    assert set(names) == {
        *(*INTEGERS, *REALS, "annotation", "choice", "behaviour", "sandbox"),
        *("strategy", "first_candidates", "trees", "aggregate", "budget", "run_budget", "adaptive", "least_gain"),
    }
    assert all(f"\n      {name}: " in (SearchConfig.__doc__ or "") for name in names)


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_have_their_ranges(name: str) -> None:
    least, most = INTEGERS[name]
    for good in (least, least + 1, most or 10**9):
        assert getattr(SearchConfig(**{name: good}), name) == good
    for bad in (least - 1, -(10**9), 1.0, 1.5, "4", None, True, math.nan, [1]):
        with pytest.raises(InvalidInput, match=rf"^{name} is .*: give an integer >= {least}$"):
            SearchConfig(**{name: bad})
    if most is not None:
        with pytest.raises(InvalidInput, match=f"^{name} is {most + 1}: give at most {most}$"):
            SearchConfig(**{name: most + 1})


@pytest.mark.parametrize("name", REALS)
def test_numbers_have_their_ranges(name: str) -> None:
    for good in (0, 0.0, 2, 1e-3):
        assert getattr(SearchConfig(**{name: good}), name) == good
    for bad in (math.nan, "2", None, True, 10**400):
        with pytest.raises(InvalidInput, match=f"^{name} is "):
            SearchConfig(**{name: bad})


@pytest.mark.parametrize("name", ["c", "virtual_loss"])
def test_only_first_play_urgency_may_be_negative_or_without_end(name: str) -> None:
    for value in (-1.0, math.inf, -math.inf):
        with pytest.raises(InvalidInput, match=f"^{name} is .*: give a finite number >= 0"):
            SearchConfig(**{name: value})
        assert SearchConfig(first_play_urgency=value).first_play_urgency == value


def test_names_stand_for_enums() -> None:
    config = SearchConfig(annotation="ppm", choice="majority", behaviour="default")  # type: ignore[arg-type]
    assert (config.annotation, config.choice, config.behaviour) == (Annotation.PPM, Choice.MAJORITY, Behaviour.DEFAULT)


@pytest.mark.parametrize("name", ["annotation", "choice", "behaviour", "strategy", "aggregate"])
@pytest.mark.parametrize("value", ["PPM", "", None, 3, [], {}])
def test_unknown_names_are_said_with_the_known_ones(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} is .*: give one of '"):
        SearchConfig(**{name: value})


@pytest.mark.parametrize("make", [SearchConfig.from_mapping, lambda settings: SearchConfig().replace(**settings)])
def test_unknown_settings_are_said_with_the_known_ones(make: Any) -> None:
    with pytest.raises(InvalidInput, match="unknown search setting 'rollout': the settings are adaptive, .*, rollouts, "):
        make({"rollouts": 3, "rollout": 4})


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SearchConfig().rollouts = 3  # type: ignore[misc]


def test_replace_changes_what_it_is_given() -> None:
    config = SearchConfig(rollouts=3, c=1.0)
    assert config.replace(c=0.5) == SearchConfig(rollouts=3, c=0.5)
    assert config == SearchConfig(rollouts=3, c=1.0)
    with pytest.raises(InvalidInput, match="rollouts is 0"):
        config.replace(rollouts=0)


def test_the_reference_runs_one_rollout_at_a_time() -> None:
    config = SearchConfig.reference("ppm", rollouts=3)
    assert (config.behaviour, config.annotation, config.rollouts) == (Behaviour.REFERENCE, Annotation.PPM, 3)
    assert SearchConfig.from_mapping(config.to_mapping()) == config
    with pytest.raises(InvalidInput, match="in_flight is 2: the reference runs one rollout at a time"):
        SearchConfig.reference("ppm", in_flight=2)
    with pytest.raises(InvalidInput, match="unknown search setting 'rollout'"):
        SearchConfig.reference("ppm", rollout=3)


def test_who_needs_what() -> None:
    needs = {annotation.value: (annotation.needs_key, annotation.needs_scorer) for annotation in Annotation}
    assert needs == {"terminal": (True, False), "ppm": (True, True), "inference": (False, True)}


def test_numpy_integers_are_refused_with_the_type_shown() -> None:
    """They would not come back from JSON; the message shows what it is that looks like a number."""
    with pytest.raises(InvalidInput, match=r"rollouts is np.int64\(4\)"):
        SearchConfig(rollouts=np.int64(4))  # type: ignore[arg-type]


# Strategies and budgets


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strategy": "greedy", "annotation": "ppm"}, 'annotation="ppm" with strategy="greedy", which values nothing: leave the annotation out'),
        ({"strategy": "self_consistency", "annotation": "terminal"}, 'annotation="terminal" with strategy="self_consistency", which'),
        ({"strategy": "beam", "annotation": "terminal"}, 'annotation="terminal" with strategy="beam", which the PPM guides: give "inf'),
        ({"strategy": "beam", "rollouts": 9}, 'rollouts is 9 and candidates is 8: with strategy="beam" rollouts / candidates beams'),
        ({"strategy": "dvts", "rollouts": 4}, 'rollouts is 4 and candidates is 8: with strategy="dvts" rollouts / candidates beams'),
        ({"strategy": "best_of_n", "rollouts": 20_000}, 'rollouts is 20000: give at most 16384 with strategy="best_of_n"'),
        ({"strategy": "beam", "trees": 2}, 'trees is 2 with strategy="beam": only "mcts" has several trees, give 1'),
        ({"trees": 17}, "trees is 17 and rollouts is 16: give each tree a rollout at least"),
        ({"trees": 0}, "trees is 0: give an integer >= 1"),
        ({"adaptive": 1}, "adaptive is 1: give true or false"),
        ({"adaptive": True, "annotation": "ppm"}, 'adaptive is true with annotation="ppm" and strategy="mcts": it is for annotation="inf'),
        ({"adaptive": True, "strategy": "beam"}, 'adaptive is true with annotation="inference" and strategy="beam": it is for'),
        ({"least_gain": 1.5}, "least_gain is 1.5: give a probability, 0 to 1"),
        ({"budget": {"tokens": 0}}, "tokens is 0: give an integer >= 1"),
        ({"budget": {"seconds": 0}}, "seconds is 0: give a finite number > 0"),
        ({"run_budget": {"minutes": 1}}, "unknown budget setting 'minutes': the settings are rollouts, seconds, tokens"),
        ({"budget": 5}, "budget is 5: give a Budget, or a mapping of its settings"),
        ({"behaviour": "reference", "trees": 2}, "trees is 2: the reference's behaviour has no such setting, leave it out"),
        ({"behaviour": "reference", "strategy": "beam"}, "strategy is 'beam': the reference's behaviour has no such setting"),
    ],
)
def test_settings_that_do_not_fit_are_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        SearchConfig(**settings)
    assert str(error.value).startswith(said)


def test_candidates_are_asked_for_in_parts_at_inference_alone() -> None:
    assert (SearchConfig().sampled_first, SearchConfig(first_candidates=0).sampled_first) == (2, 0)
    assert SearchConfig(annotation="terminal").sampled_first == SearchConfig(annotation="ppm").sampled_first == 0  # type: ignore[arg-type]
    assert SearchConfig(annotation="terminal", first_candidates=3).sampled_first == 3  # type: ignore[arg-type]
    assert SearchConfig.reference("inference").sampled_first == 0
    for bad in (-1, 2**14 + 1, 1.5, True, "2"):
        with pytest.raises(InvalidInput, match="^first_candidates is "):
            SearchConfig(first_candidates=bad)  # type: ignore[arg-type]


def test_which_strategies_ask_the_ppm() -> None:
    asking = {strategy.value for strategy in Strategy if SearchConfig(strategy=strategy).needs_scorer}
    assert asking == {"mcts", "beam", "dvts", "best_of_n"}
    assert not SearchConfig(annotation=Annotation.TERMINAL).needs_scorer


def test_what_earlier_versions_recorded_is_what_is_recorded_now() -> None:
    names = {*INTEGERS, *REALS, "annotation", "choice", "behaviour", "sandbox"}
    assert set(SearchConfig().recorded()) == names
    assert SearchConfig(strategy="best_of_n", adaptive=True).recorded()["least_gain"] == 0.1  # it has been another
    changed = SearchConfig(strategy="beam", budget={"tokens": 3}).recorded()  # type: ignore[arg-type]
    assert {name: changed[name] for name in changed.keys() - names} == {
        "strategy": "beam",
        "budget": {"tokens": 3, "rollouts": None, "seconds": None},
    }
    assert SearchConfig.from_mapping(changed) == SearchConfig(strategy="beam", budget=Budget(tokens=3))  # type: ignore[arg-type]


# The sandbox's own settings


def test_the_sandbox_s_settings_are_nested() -> None:
    config = SearchConfig(sandbox={"require": "full", "timeout_s": 1})  # type: ignore[arg-type]
    assert config.sandbox == SandboxConfig(require=Require.FULL, timeout_s=1)
    assert SearchConfig().sandbox == SandboxConfig()
    names = [field.name for field in dataclasses.fields(SandboxConfig)]
    assert all(f"\n      {name}: " in (SandboxConfig.__doc__ or "") for name in names)
    for bad, message in (
        ({"require": "much"}, "^require is 'much': give one of 'full', 'basic', 'none'$"),
        ({"snapshot": 4}, "^unknown sandbox setting 'snapshot': the settings are cpu_s, "),
        (7, "^sandbox is 7: give a SandboxConfig, or a mapping of its settings$"),
    ):
        with pytest.raises(InvalidInput, match=message):
            SearchConfig(sandbox=bad)  # type: ignore[arg-type]


shares = st.fixed_dictionaries({}, optional={difficulty.value: st.floats(0, 1) for difficulty in Difficulty})
valid_extraction = st.fixed_dictionaries(
    {},
    optional={
        "trajectories": st.integers(0, 2**31),
        **{name: st.integers(1, 2**31) for name in ("positives", "negatives")},
        **{name: st.integers(0, 2**62) for name in ("min_edit_distance", "seed")},
        "final_step": st.booleans(),
        "min_margin": st.floats(0, 2) | st.integers(0, 2),
        "mix": shares | st.builds(Mix),
        "format": st.sampled_from(DataFormat) | st.sampled_from([member.value for member in DataFormat]),
    },
)


@given(settings=valid_extraction)
def test_an_extraction_config_comes_back(settings: dict[str, Any]) -> None:
    for config in (ExtractionConfig(**settings), ExtractionConfig.reference(**settings)):
        mapping = config.to_mapping()
        assert ExtractionConfig.from_mapping(yaml.safe_load(yaml.safe_dump(mapping))) == config
        assert ExtractionConfig.from_mapping(json.loads(json.dumps(mapping))) == config
        assert config.replace() == config and hash(config.replace()) == hash(config)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ExtractionConfig)])
def test_every_extraction_setting_is_documented_and_checked(name: str) -> None:
    assert f"      {name}: " in (ExtractionConfig.__doc__ or "")
    for value in (None, "x", -1, 2**63, float("nan")):
        with pytest.raises(InvalidInput, match=f"{name} is .*: give "):
            ExtractionConfig(**{name: value})


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "all", None, True])
def test_a_share_is_checked(share: Any) -> None:
    with pytest.raises(InvalidInput, match="the mix's share of hard problems is .*: give a number from 0 to 1"):
        ExtractionConfig(mix={"hard": share})
