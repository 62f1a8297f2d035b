"""No answer key is in reach of a search at inference, nor of policies, scorers and executors in training."""

from __future__ import annotations

import dataclasses
import gc
import inspect
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any

import pytest

import rstar_fast
from rstar_fast import AnswerKey, Candidate, Execution, Finished, InvalidInput, Partial, Problem
from rstar_fast.search import api
from rstar_fast.search.mcts import TreeSearch
from rstar_fast.search.values import InferenceValuation, TerminalReward

PROBLEM = Problem("What is 2 + 3?", "p")


def in_reach(*objects: Any) -> list[Any]:
    """Everything that can be got at from objects, without modules and what functions see of them."""
    seen: dict[int, Any] = {}
    waiting = list(objects)
    while waiting:
        at = waiting.pop()
        if id(at) in seen or isinstance(at, ModuleType | type):
            continue
        seen[id(at)] = at
        if isinstance(at, FunctionType):
            waiting += [at.__closure__, at.__defaults__, at.__kwdefaults__, at.__dict__]
        else:
            waiting += gc.get_referents(at)
    return list(seen.values())


def secrets(*objects: Any) -> list[Any]:
    """The keys, and the texts that hold the answer, in reach of objects."""
    return [
        at
        for at in in_reach(*objects)
        if isinstance(at, AnswerKey | TerminalReward) or (isinstance(at, str) and "SECRET" in at)
    ]


class Seen:
    """A policy, scorer, executor and listener that keep all they were handed."""

    def __init__(self) -> None:
        self.policy: list[Any] = []
        self.scorer: list[Any] = []
        self.executor: list[Any] = []
        self.searches: list[TreeSearch] = []

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        self.policy.append((partials, n))
        step = [Candidate("<code>\nprint(5)\n", "<end_of_code>"), Candidate("well\n")]
        return [[Candidate("\\boxed{5}")] if partial.solution else step for partial in partials]

    def score(self, partials: Sequence[Partial]) -> list[float]:
        self.scorer.append(partials)
        return [0.5] * len(partials)

    async def run_batch(self, programs: Any) -> list[Execution]:
        self.executor.append(programs)
        return [Execution("5")] * len(programs)

    def search(self, monkeypatch: pytest.MonkeyPatch, annotation: str, **settings: Any) -> Any:
        seen = self

        class Kept(TreeSearch):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                seen.searches.append(self)

        monkeypatch.setattr(api, "TreeSearch", Kept)
        return rstar_fast.search(PROBLEM, policy=self, ppm=self, executor=self, annotation=annotation, rollouts=4, **settings)


def test_answers_are_refused_at_inference() -> None:
    seen = Seen()
    for answers in ({"p": "5"}, AnswerKey({"p": "5"}), {}):
        with pytest.raises(InvalidInput, match="search must not see them: leave them out"):
            rstar_fast.search(PROBLEM, policy=seen, ppm=seen, executor=seen, answers=answers)
    assert seen.policy == []


def test_a_search_at_inference_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    assert seen.search(monkeypatch, "inference").answer == "5"
    (search,) = seen.searches
    assert secrets(search, seen.policy, seen.scorer, seen.executor) == []
    assert any(isinstance(at, InferenceValuation) for at in in_reach(search))  # the walk gets to what could hold one


@pytest.mark.parametrize("annotation", ["terminal", "ppm"])
def test_in_training_the_search_alone_holds_the_key(monkeypatch: pytest.MonkeyPatch, annotation: str) -> None:
    seen = Seen()
    result = seen.search(monkeypatch, annotation, answers={"p": "SECRET 5"})
    assert [trajectory.correct for trajectory in result.trajectories] == [False] * len(result.trajectories)
    (search,) = seen.searches
    assert len(secrets(search)) >= 3  # the reward, the key and the answer in it: the walk finds them where they are
    assert len(seen.policy) > 1 and len(seen.executor) == 1 and len(seen.scorer) == (annotation == "ppm")
    assert secrets(seen.policy, seen.scorer, seen.executor) == []
    assert secrets(result) == []


def test_events_and_results_hold_no_key() -> None:
    seen, events = Seen(), []
    rstar_fast.search(
        PROBLEM,
        policy=seen,
        ppm=seen,
        executor=seen,
        annotation="ppm",
        answers={"p": "SECRET"},
        progress=events.append,
        rollouts=2,
    )
    assert isinstance(events[-1], Finished) and len(events) > 2
    assert secrets(events) == []


def test_by_type_no_key_can_be_given_to_inference() -> None:
    assert list(inspect.signature(InferenceValuation).parameters) == ["scorer"]
    for record in (Problem, Partial, Candidate):
        assert not [field.name for field in dataclasses.fields(record) if "answer" in field.name]
