"""Strategies that go down a level at a time, against plain models of them; trees that are several; budgets; adaptive ends."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watched_forest import Watched

import rstar_fast
from rstar_fast import Candidate, Partial, Problem, SearchResult, Stopped, Terminal
from rstar_fast.config import Aggregate, Choice
from rstar_fast.search import levels
from rstar_fast.search.adaptive import chance_of_change, verdict
from rstar_fast.search.answers import aggregated
from rstar_fast.storage import Run
from rstar_fast.types import FailureKind, Finished


class Words:
    """A policy that says words: what it says to a solution is a function of the seed, the solution and how often it was asked.

    A step is a letter; from the third on some are answers. Notes how many candidates it was asked for at each solution.
    """

    def __init__(self, seed: int, letters: str = "abcd", empty: float = 0.1) -> None:
        self.seed, self.letters, self.empty = seed, letters, empty
        self.asked: list[tuple[str, str, int]] = []
        self.turns: Counter[tuple[str, str]] = Counter()

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        self.asked += [(partial.problem.question, partial.solution, n) for partial in partials]
        return [[self.say(partial) for _ in range(n)] for partial in partials]

    def say(self, partial: Partial) -> Candidate:
        key = partial.problem.question, partial.solution
        random = Random(f"{self.seed}|{key}|{self.turns[key]}")
        self.turns[key] += 1
        if random.random() < self.empty:
            return Candidate("\n", None, 1, -3.0)
        if partial.solution.count("\n") >= 2 and random.random() < 0.5:
            return Candidate(f"\\boxed{{{random.randint(1, 3)}}}", None, 3, -1.0)
        letter = random.choice(self.letters)
        return Candidate(f"{letter}\n", None, 2, -0.5 * (1 + self.letters.index(letter)))

    def score(self, partials: Sequence[Partial]) -> list[float]:
        return [self.score_of(partial.solution) for partial in partials]

    def score_of(self, solution: str) -> float:
        return Random(f"{self.seed}|{solution}").choice([-0.75, -0.25, 0.25, 0.5, 0.875])


def search(problems: Any, words: Any, **given: Any) -> Any:
    return rstar_fast.search(problems, policy=words, ppm=words.score, **{"max_depth": 6, **given})


def solutions(result: SearchResult) -> list[str]:
    """The paths of all nodes below the root, as the tree holds them."""
    assert result.tree is not None
    return sorted(node.solution for node in result.tree if node.parent is not None)


# --- the models: a problem at a time, on texts ---------------------------------------------------------------------------


class Model:
    """What a strategy finds, written from the docstrings."""

    def __init__(self, seed: int, **kind: Any) -> None:
        self.words = Words(seed, **kind)
        self.nodes: list[str] = []

    def children(self, solution: str, n: int, attempts: int) -> list[tuple[str, int]]:
        """The distinct usable steps behind a solution, and how often each was said."""
        for _ in range(attempts):
            said = [self.words.say(Partial(Problem("q"), solution)).text for _ in range(n)]
            counts = Counter(text for text in said if text.strip())
            if counts:
                self.nodes += [solution + text for text in counts]
                return [(solution + text, count) for text, count in counts.items()]
        return []

    @staticmethod
    def ends(solution: str) -> bool:
        return "boxed" in solution or solution.count("\n") >= 6

    def value(self, solution: str, aggregate: Aggregate) -> float:
        """Of the scores of the steps; each is a line, an answer the last."""
        steps = solution.splitlines(keepends=True)
        return aggregated([self.words.score_of("".join(steps[: i + 1])) for i in range(len(steps))], aggregate)

    def beam(self, n: int, width: int, aggregate: Aggregate) -> None:
        level, wanted, found = [("", n)], n, 0
        while level:
            steps = [child for solution, count in level for child, _ in self.children(solution, count, 2)]
            found += sum("boxed" in step for step in steps)
            if found >= wanted:
                return
            open_steps = sorted((step for step in steps if not self.ends(step)), key=lambda step: -self.value(step, aggregate))
            level = [(step, width) for step in open_steps[: n // width]]

    def samples(self, n: int) -> Counter[str]:
        """The samples that gave an answer."""
        level, ended = [("", n)], Counter[str]()
        while level:
            steps = [child for solution, count in level for child in self.children(solution, count, 1)]
            ended.update({step: count for step, count in steps if "boxed" in step})
            level = [(step, count) for step, count in steps if not self.ends(step)]
        return ended


seeds = st.integers(0, 10**6)


@settings(max_examples=60)
@given(seed=seeds, beams=st.integers(1, 4), width=st.integers(1, 4), aggregate=st.sampled_from(Aggregate), batch=st.sampled_from([1, 2, 256]))
def test_step_beams_are_the_model(seed: int, beams: int, width: int, aggregate: Aggregate, batch: int) -> None:
    model = Model(seed)
    model.beam(beams * width, width, aggregate)
    result = search("q", Words(seed), strategy="beam", rollouts=beams * width, candidates=width, aggregate=aggregate, batch_leaves=batch)
    assert solutions(result) == sorted(model.nodes)
    assert [t.score for t in result.trajectories] == sorted((model.value(t.solution, aggregate) for t in result.trajectories), reverse=True)
    assert result.stats.rollouts == sum(node.terminal is not Terminal.NO for node in result.tree)


@settings(max_examples=60)
@given(seed=seeds, n=st.integers(1, 20), batch=st.sampled_from([1, 3, 256]), strategy=st.sampled_from(["best_of_n", "self_consistency"]))
def test_samples_are_counted_as_often_as_they_were_drawn(seed: int, n: int, batch: int, strategy: str) -> None:
    model = Model(seed)
    ended = model.samples(n)
    words = Words(seed)
    result = search("q", words, strategy=strategy, rollouts=n, batch_leaves=batch, choice="majority")
    assert solutions(result) == sorted(model.nodes)
    assert Counter(trajectory.solution for trajectory in result.trajectories) == ended
    assert all(trajectory.share == 1 / n for trajectory in result.trajectories)
    assert result.stats.rollouts == n and words.asked[0] == ("q", "", n)
    votes = Counter[str]()
    for solution, count in ended.items():
        votes[solution[-2]] += count
    assert result.votes == votes and list(result.votes.values()) == sorted(votes.values(), reverse=True)
    assert (result.failure is None) == bool(ended)
    for trajectory in result.trajectories:
        steps = trajectory.solution.splitlines()
        tokens = sum(3 if "boxed" in step else 2 for step in steps)
        said = sum(-1.0 if "boxed" in step else -0.5 * (1 + "abcd".index(step)) for step in steps)
        expected = model.value(trajectory.solution, Aggregate.LAST) if strategy == "best_of_n" else said / tokens
        assert trajectory.score == pytest.approx(expected)


@settings(max_examples=40)
@given(seed=seeds, trees=st.integers(1, 4), width=st.integers(1, 4))
def test_diverse_beams_follow_the_best_step_of_each_tree(seed: int, trees: int, width: int) -> None:
    """Each node that has children is a root, or the best of its siblings; and each tree goes on until its best step ends it."""
    words = Words(seed, empty=0.0)
    result = search("q", words, strategy="dvts", rollouts=trees * width, candidates=width)
    assert [n for _, solution, n in words.asked if solution == ""] == [width] * trees
    assert {n for _, _, n in words.asked} == {width}
    followed = Counter[int]()
    for node in result.tree:
        if node.parent is not None and node.children:
            followed[node.depth] += 1
            siblings = node.parent.children
            if node.depth > 1:
                assert node.score == max(sibling.score or -1.0 for sibling in siblings) and node == next(
                    sibling for sibling in siblings if sibling.score == node.score
                )
    assert all(followed[depth] >= followed[depth + 1] for depth in range(1, 6)) and followed[1] == trees
    assert result.failure is None or not result.trajectories


def test_equal_samples_are_asked_together_and_a_policy_that_gives_less_again() -> None:
    calls: list[int] = []

    def one_at_a_time(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        calls.append(n)
        return [[Candidate("so\n" if not partial.solution else "\\boxed{5}")] for partial in partials]

    result = rstar_fast.search("q", policy=one_at_a_time, strategy="self_consistency", rollouts=3)
    assert (calls, result.votes, result.answer) == ([3, 2, 1, 3, 2, 1], {"5": 3.0}, "5")


@pytest.mark.parametrize("strategy", ["self_consistency", "greedy"])
def test_without_a_ppm_none_is_loaded(strategy: str) -> None:
    result = rstar_fast.search("q", policy=Words(1, empty=0.0), ppm="./missing", strategy=strategy, rollouts=4)
    assert result.stats.partials_scored == 0 and result.stats.rollouts == (1 if strategy == "greedy" else 4)


def test_scores_of_steps_make_one_score() -> None:
    scores = [0.5, -0.5, 0.0]
    assert [aggregated(scores, aggregate) for aggregate in Aggregate] == [0.0, 0.0, -0.5, pytest.approx(2 * 0.75 * 0.25 * 0.5 - 1)]
    assert all(aggregated([value] * 3, aggregate) == value for value in (-1.0, 1.0) for aggregate in Aggregate)


# --- several trees -------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seed=seeds, trees=st.integers(1, 4), rollouts=st.integers(4, 12), in_flight=st.integers(1, 3), strategy=st.just("mcts") | st.just("best_of_n"))
def test_trees_of_a_problem_become_one(seed: int, trees: int, rollouts: int, in_flight: int, strategy: str) -> None:
    """Its root has the visits of all, its events name its nodes, its texts stand where they stood."""
    told: dict[str, tuple[str, float | None]] = {}

    def progress(event: Any) -> None:
        if isinstance(event, rstar_fast.Expansion):
            told.update({step.tag: (step.text, None if math.isnan(step.score) else step.score) for step in event.children})

    words = Words(seed, empty=0.0)
    kind = {"trees": trees, "in_flight": in_flight, "first_candidates": 0} if strategy == "mcts" else {"strategy": strategy, "adaptive": True, "least_gain": 0.0}
    (result,) = search(["q"], words, rollouts=rollouts, candidates=3, progress=progress, **kind)
    assert {node.tag: (node.text, node.score) for node in result.tree if node.parent is not None} == told
    if strategy == "mcts":
        assert result.tree.root.visits == result.stats.rollouts == rollouts
        assert sum(solution == "" for _, solution, _ in words.asked) == trees
        for node in result.tree:
            if node.children:
                assert node.visits - (node.parent is not None) == sum(child.visits - 1 for child in node.children)
    assert sum(child.proposals for child in result.tree.root.children) == sum(n for _, solution, n in words.asked if solution == "")


# --- budgets -------------------------------------------------------------------------------------------------------------

STRATEGIES = ["mcts", "beam", "dvts", "best_of_n", "self_consistency"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_problem_whose_budget_is_used_up_answers_from_what_it_has(strategy: str) -> None:
    whole = search("q", Words(3, empty=0.0), strategy=strategy, rollouts=16, candidates=4)
    assert whole.stats.stopped is None
    ends = set[Stopped | None]()
    for tokens in [*range(1, whole.stats.policy_tokens, 7), 2 * whole.stats.policy_tokens]:
        result = search("q", Words(3, empty=0.0), strategy=strategy, rollouts=16, candidates=4, budget={"tokens": tokens})
        ends.add(result.stats.stopped)
        if strategy in ("mcts", "beam"):  # the others begin nothing that the rest is not likely to pay for
            assert result.stats.policy_tokens >= min(tokens, whole.stats.policy_tokens)
        assert set(solutions(result)) <= set(solutions(whole)) and (result.answer is None) == (not result.trajectories)
        if result.failure is not None:
            assert result.failure.kind is FailureKind.NO_ANSWER and "before the problem's budget was used up" in result.failure.message
    assert ends == {Stopped.BUDGET, None} and result.stats.stopped is None
    assert set(solutions(result)) == set(solutions(whole))  # drawn in rounds, what two have in common stands there twice
    assert Counter(t.solution for t in result.trajectories) == Counter(t.solution for t in whole.trajectories)


@pytest.mark.parametrize("strategy", ["mcts", "dvts", "best_of_n", "self_consistency"])
@pytest.mark.parametrize("tokens", [60, 200, 700])
def test_a_token_budget_buys_solutions_whatever_the_strategy(strategy: str, tokens: int) -> None:
    """Samples that all go down together would all be cut short by a budget that pays for half of them."""
    kind = {"strategy": strategy, "candidates": 4}
    several = [search(f"q{i}", Words(3, empty=0.0), rollouts=4, **kind) for i in range(8)]
    of_one = sum(r.stats.policy_tokens for r in several) / sum(len(r.trajectories) for r in several)
    bought = [search(f"q{i}", Words(3, empty=0.0), rollouts=1024, budget={"tokens": tokens}, **kind) for i in range(8)]
    spent = sum(r.stats.policy_tokens for r in bought) / 8
    assert spent <= 1.6 * tokens + 4 * of_one
    assert sum(len(r.trajectories) for r in bought) / 8 >= 0.5 * tokens / of_one - 2
    if strategy != "mcts":  # a tree may have nothing left to be found
        assert all(r.stats.stopped is Stopped.BUDGET for r in bought)


def test_samples_that_a_budget_cuts_short_count_as_samples() -> None:
    """Else the short ones alone would be a problem's samples."""
    for tokens in range(1, 200, 7):
        words = Words(3, empty=0.0)
        result = search("q", words, strategy="self_consistency", rollouts=16, budget={"tokens": tokens})
        assert result.stats.rollouts == sum(n for _, solution, n in words.asked if solution == "")


@pytest.mark.parametrize("strategy", ["mcts", "best_of_n", "self_consistency"])
def test_rollouts_and_seconds_are_budgets_too(strategy: str) -> None:
    few = search("q", Words(3, empty=0.0), strategy=strategy, rollouts=16, budget={"rollouts": 5})
    assert (few.stats.rollouts, few.stats.stopped) == (5, Stopped.BUDGET)
    late = search("q", Words(3, empty=0.0), strategy=strategy, rollouts=16, budget={"seconds": 1e-9})
    assert late.stats.stopped is Stopped.BUDGET and late.stats.expansions <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_the_run_has_nothing_left_for_is_recorded_and_searched_later(strategy: str, tmp_path: Path) -> None:
    questions = list("abcdef")
    kind = {"strategy": strategy, "rollouts": 8, "candidates": 4, "open_problems": 1}
    whole = search(questions, Words(3, empty=0.0), **kind)
    if strategy in ("best_of_n", "self_consistency"):
        kind["candidates"] = 1  # one problem at a time
    tokens = sum(result.stats.policy_tokens for result in whole[:2]) + 1
    run = {**kind, "run_dir": tmp_path, "run_budget": {"tokens": tokens}}
    results = search(questions, Words(3, empty=0.0), **run)
    assert [r.stats.stopped for r in results] == [None, None, Stopped.RUN_BUDGET, None, None, None]
    assert [r.failure is not None and r.failure.kind is FailureKind.BUDGET for r in results[3:]] == [True] * 3
    assert str(results[3].failure).startswith("budget: the run's budget was used up before the problem was begun: search it again")
    assert [r.answer for r in results[:2]] == [r.answer for r in whole[:2]]
    again = Words(3, empty=0.0)
    assert [r.stats for r in search(questions, again, **run)] == [r.stats for r in results] and not again.asked
    with Run.open(tmp_path, None) as opened:
        assert opened.forget_failures() >= 3
    results = search(questions, again, **{**run, "run_budget": {"tokens": 10**6}})
    assert [r.answer for r in results[3:]] == [r.answer for r in whole[3:]]
    settings_ = json.loads((tmp_path / "manifest.json").read_text())["settings"]["search"]
    assert "run_budget" not in settings_


# --- adaptive ends -------------------------------------------------------------------------------------------------------


@given(a=st.integers(0, 300), b=st.integers(0, 300))
def test_the_chance_of_change_is_a_sum_of_binomials(a: int, b: int) -> None:
    """I_1/2(a + 1, b + 1) = P(Bin(a + b + 1, 1/2) > a)."""
    exact = Fraction(sum(math.comb(a + b + 1, k) for k in range(a + 1, a + b + 2)), 2 ** (a + b + 1))
    assert chance_of_change({"4": float(a), "5": float(b)}, a + b) == pytest.approx(float(exact), rel=1e-9)


def test_when_a_vote_stands() -> None:
    def of(votes: dict[str, float], most: float, choice: Choice = Choice.MAJORITY, gain: float = 0.0, n: int = 9) -> Stopped | None:
        return verdict(votes, choice, n, most, gain)

    assert of({"4": 5.0, "5": 2.0}, 3.0) is None and of({"4": 5.0, "5": 2.0}, 2.0) is Stopped.DECIDED
    assert of({"4": 3.0}, 3.0) is None and of({"4": 3.0}, 2.0) is Stopped.DECIDED
    assert of({}, 4.0) is None and of({}, 0.0) is of({"4": 1.0, "5": 1.0}, 0.0) is Stopped.DECIDED
    assert of({"4": 0.5, "5": 0.2}, 9.0, Choice.BEST_SCORE, 1.0) is None
    assert of({"4": 1.0, "5": 0.2}, 9.0, Choice.BEST_SCORE) is Stopped.DECIDED
    assert of({"4": 4.0}, 99.0, gain=0.04) is Stopped.SMALL_GAIN and of({"4": 4.0}, 99.0, gain=0.03, n=4) is None  # 1 / 32
    assert chance_of_change({}, 0) == 0.5 and chance_of_change({"4": 0.3, "5": 0.3}, 8) == pytest.approx(0.5)
    assert chance_of_change({"4": 0.6}, 4) == pytest.approx(1 / 32)  # weights in proportion to counts


# Where the run has a budget, what problems leave goes to others.
SHARED = {"adaptive": True, "run_budget": {"rollouts": 10**6}}


class Decides:
    """Problems "sure..." have one answer, those "torn..." alternate between two. Solutions are two steps long."""

    def __init__(self) -> None:
        self.turn = self.begun = 0

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        return [[self.say(partial) for _ in range(n)] for partial in partials]

    def say(self, partial: Partial) -> Candidate:
        self.turn += 1
        if not partial.solution:
            self.begun += 1
            return Candidate(f"step {self.begun}\n", None, 1)
        number = int(partial.solution.split()[1])
        return Candidate(f"\\boxed{{{number % 2 if partial.problem.question.startswith('torn') else 5}}}", None, 1)

    def score(self, partials: Sequence[Partial]) -> list[float]:
        return [0.5] * len(partials)


@pytest.mark.parametrize("strategy", ["best_of_n", "self_consistency"])
def test_samples_end_when_the_vote_stands_and_others_get_what_is_left(strategy: str) -> None:
    kind = {"strategy": strategy, "rollouts": 16, "open_problems": 1, "candidates": 1, **SHARED}
    sure, torn, last = search(["sure", "torn", "sure too"], Decides(), **kind)
    assert [(r.stats.rollouts, r.stats.stopped) for r in (sure, last)] == [(3, Stopped.SMALL_GAIN)] * 2  # 1 / 16 < 0.1
    assert (torn.stats.rollouts, torn.stats.stopped) == (32, None)  # the 13 that the first left, and 3 of those of the last
    torn, sure, last = search(["torn", "sure", "sure too"], Decides(), **kind)
    assert (torn.stats.rollouts, last.stats.rollouts) == (32, 3)  # it has waited for what others would leave
    exact = search("sure", Decides(), **{**kind, "least_gain": 0.0})
    enough = 9 if strategy == "self_consistency" else 10  # 9 > 7; of weights 3 / 4, 10 * 3 / 4 > 6
    assert (exact.stats.rollouts, exact.stats.stopped) == (enough, Stopped.DECIDED)


@pytest.mark.parametrize("strategy", ["mcts", "best_of_n", "self_consistency"])
def test_without_a_budget_of_the_run_what_is_left_is_saved(strategy: str) -> None:
    kind = {"strategy": strategy, "rollouts": 12, "adaptive": True, "candidates": 4 if strategy == "mcts" else 1, "max_depth": 9}
    kind |= {"open_problems": 1} if strategy == "best_of_n" else {"open_problems": 1, "choice": "majority"}
    make = Wide if strategy == "mcts" else Decides
    sure, torn, last = search(["sure", "torn", "sure too"], make(), **kind)
    assert max(sure.stats.rollouts, last.stats.rollouts) < 12 and torn.stats.rollouts <= 12


def test_the_pool_gives_no_more_than_as_many_again() -> None:
    kind = {"strategy": "self_consistency", "rollouts": 8, "open_problems": 1, "candidates": 1, **SHARED}
    results = search(["sure 1", "sure 2", "sure 3", "torn 1", "torn 2"], Decides(), least_gain=0.15, **kind)
    assert [r.stats.rollouts for r in results] == [2, 2, 2, 16, 16 + 0] and [r.stats.stopped for r in results[3:]] == [None, None]


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("trees", [1, 2])
def test_a_tree_search_ends_when_the_vote_stands(trees: int, in_flight: int) -> None:
    kind = {"rollouts": 40, "candidates": 2, "trees": trees, "in_flight": in_flight, "adaptive": True, "open_problems": 1}
    sure, torn = search(["sure", "torn"], Decides(), choice="majority", **kind)
    assert sure.stats.stopped in (Stopped.SMALL_GAIN, Stopped.DECIDED) and 0 < sure.stats.rollouts < 12
    assert sure.answer == "5" and sure.tree is not None and sure.tree.root.visits == sure.stats.rollouts
    assert torn.stats.stopped is not None and torn.stats.rollouts < 40
    if trees == 1:  # both of its steps are expanded: nothing new can come
        assert torn.stats.stopped is Stopped.DECIDED and set(torn.votes) == {"0", "1"}


def test_rollouts_that_end_where_others_did_are_no_evidence() -> None:
    """A tree of which one of two steps ends at once, well scored: the other, less so, leads to all other solutions."""

    async def propose(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        return [
            [Candidate("\\boxed{9}" if i % 2 == 0 and not partial.solution else f"\\boxed{{5}} {i}" if partial.solution else "on\n", None, 1) for i in range(n)]
            for partial in partials
        ]

    def score(partials: Sequence[Partial]) -> list[float]:
        return [0.9 if "9" in partial.solution else -0.3 for partial in partials]

    kind = {"rollouts": 40, "candidates": 6, "adaptive": True, "c": 0.5}
    result = rstar_fast.search("q", policy=propose, ppm=score, **kind)
    assert result.stats.stopped is not Stopped.SMALL_GAIN or {t.answer for t in result.trajectories} == {"9", "5"}


@pytest.mark.parametrize("letters", ["a", "abcd"])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_more_candidates_are_asked_for_where_the_first_differ(letters: str, first: int) -> None:
    words = Words(5, letters, empty=0.2)
    search("q", words, rollouts=6, candidates=8, first_candidates=first)
    asked: dict[str, list[int]] = {}
    for _, solution, n in words.asked:
        asked.setdefault(solution, []).append(n)
    same = 0
    for solution, counts in asked.items():
        again = Words(5, letters, empty=0.2)
        said = {c.text for c in (again.say(Partial(Problem("q"), solution)) for _ in range(first)) if c.text.strip()}
        assert counts == [first, 8 - first] if len(said) != 1 else [first]
        same += len(said) == 1
    assert same and (letters == "a" or first == 1 or same < len(asked))
    whole, parts = (search("q", Words(5, letters), rollouts=6, candidates=8, first_candidates=n) for n in (0, 8))
    assert solutions(whole) == solutions(parts) and whole.votes == parts.votes


class Wide(Decides):
    """As Decides, but trees never run out of leaves: solutions go on for ever until chance ends them."""

    def say(self, partial: Partial) -> Candidate:
        self.turn += 1
        if partial.solution.count("\n") < 5:
            return Candidate(f"step {self.turn}\n", None, 1)
        return super().say(partial)


def test_a_tree_search_that_ends_undecided_goes_on_with_what_others_left() -> None:
    kind = {"rollouts": 10, "candidates": 4, "open_problems": 1, "max_depth": 9, "choice": "majority", **SHARED}
    sure, torn = search(["sure", "torn"], Wide(), least_gain=0.04, **kind)
    assert sure.stats.stopped is Stopped.SMALL_GAIN and sure.stats.rollouts < 10
    left = 10 - sure.stats.rollouts
    assert torn.stats.rollouts <= 10 + left and (torn.stats.stopped is not None or torn.stats.rollouts == 10 + left)
    early, _, _ = search(["torn", "sure", "sure too"], Wide(), least_gain=0.04, **kind)
    assert early.stats.rollouts > 10 and early.tree is not None and early.tree.root.visits == early.stats.rollouts


@pytest.mark.parametrize("strategy", ["mcts", "self_consistency"])
def test_no_more_problems_wait_for_others_than_may_be_open(strategy: str) -> None:
    kind = {"strategy": strategy, "rollouts": 12, "candidates": 4 if strategy == "mcts" else 1, **SHARED}
    kind |= {"max_depth": 9, "choice": "majority", "open_problems": 1}
    results = search([f"torn {k}" for k in range(5)] + ["sure"], Wide() if strategy == "mcts" else Decides(), **kind)
    more = [r.stats.rollouts - 12 for r in results[:5]]
    left = 12 - results[5].stats.rollouts
    assert more[:4] == [0, 0, 0, 0] and 0 < more[4] <= left


class Leaning(Decides):
    """Problems "leaning" end three to two; "late K" alternate in their first 16 K solutions, and have one answer from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.solutions: Counter[str] = Counter()

    def say(self, partial: Partial) -> Candidate:
        self.turn += 1
        if not partial.solution:
            return Candidate(f"step {self.turn}\n", None, 1)
        question = partial.problem.question
        self.solutions[question] += 1
        if question == "leaning":
            answer = 5 if self.solutions[question] % 5 < 3 else 3
        else:
            answer = self.solutions[question] % 2 if self.solutions[question] <= 16 * int(question.split()[1]) else 7
        return Candidate(f"\\boxed{{{answer}}} {self.turn}", None, 1)


@pytest.mark.parametrize("late", range(8))
def test_a_problem_waits_until_enough_is_left_to_change_its_vote(late: int) -> None:
    """The less there is, the surer the vote: with one rollout more it stands, with ten it does not."""
    kind = {"rollouts": 10, "candidates": 16, "max_depth": 2, "open_problems": 1, "choice": "majority", **SHARED}
    leaning, other = search(["leaning", f"late {late}"], Leaning(), **kind)
    assert 10 <= leaning.stats.rollouts <= 10 + max(0, 10 - other.stats.rollouts)


@pytest.mark.parametrize("strategy", ["best_of_n", "self_consistency"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_waits_for_others_when_a_search_breaks_off_gets_as_much_when_it_goes_on(strategy: str, after: int, tmp_path: Path) -> None:
    kind = {"strategy": strategy, "rollouts": 16, "open_problems": 1, "candidates": 1, **SHARED}
    questions = ["torn", "sure", "sure too", "sure as well"]
    whole = [result.stats.rollouts for result in search(questions, Decides(), **kind)]
    assert whole == [32, 3, 3, 3]
    finished: list[str] = []

    def told(event: Any) -> None:
        if isinstance(event, Finished):
            finished.append(event.result.problem.question)
            if len(finished) == after + 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(questions, Decides(), run_dir=tmp_path, progress=told, **kind)
    assert finished[0] == "sure"
    assert [result.stats.rollouts for result in search(questions, Decides(), run_dir=tmp_path, **kind)] == whole



@pytest.mark.parametrize("strategy", ["best_of_n", "self_consistency"])
def test_a_problem_that_has_spent_its_budget_does_not_wait_for_more(strategy: str) -> None:
    kind = {"strategy": strategy, "rollouts": 16, "open_problems": 1, "candidates": 1, "budget": {"tokens": 30}, **SHARED}
    torn, *_ = search(["torn", "sure", "sure too"], Decides(), **kind)
    assert (torn.stats.rollouts, torn.stats.policy_tokens, torn.stats.stopped) == (15, 30, Stopped.BUDGET)


@pytest.mark.parametrize("strategy", ["mcts", "self_consistency"])
def test_a_run_that_is_continued_goes_on_with_its_pool(strategy: str, tmp_path: Path) -> None:
    kind = {"strategy": strategy, "rollouts": 12, "open_problems": 1, "candidates": 4 if strategy == "mcts" else 1, **SHARED}
    kind |= {"max_depth": 9, "choice": "majority"}
    make: Callable[[], Any] = Wide if strategy == "mcts" else Decides
    questions = ["sure 1", "sure 2", "torn 1", "sure 3", "torn 2"]

    def outcome(results: Sequence[SearchResult]) -> list[Any]:
        return [(r.answer is None, r.stats.rollouts, r.stats.stopped, len(r.trajectories)) for r in results]

    expected = outcome([search(question, make(), **kind) for question in questions[:2]])
    whole = outcome(search(questions, make(), run_dir=tmp_path / "whole", **kind))
    assert whole[:2] == expected
    for end in range(1, len(questions)):
        folder = tmp_path / str(end)
        search(questions[:end], make(), run_dir=folder, **kind)
        assert [row[1] for row in outcome(search(questions, make(), run_dir=folder, **kind))] == [row[1] for row in whole]


# --- ends of all kinds ---------------------------------------------------------------------------------------------------


class Breaks(Words):
    """Fails, or is interrupted, where it is asked for a solution of three steps of the question "c"."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__(3, empty=0.0)
        self.error = error

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        await asyncio.sleep(0)
        if self.error is not None and any(p.problem.question == "c" and p.solution.count("\n") == 2 for p in partials):
            raise self.error
        return await super().propose(partials, n)


@pytest.mark.parametrize("strategy", ["beam", "dvts", "best_of_n", "self_consistency", "greedy"])
@pytest.mark.parametrize("end", ["policy fails", "interrupt", "progress raises", "result raises"])
def test_every_leaf_is_given_back_once_however_it_ends(end: str, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forest = Watched()
    monkeypatch.setattr(levels, "Forest", forest)
    told: list[Any] = []

    def progress(event: Any) -> None:
        told.append(event)
        kind = rstar_fast.Expansion if end == "progress raises" else rstar_fast.Finished
        if end.endswith("raises") and sum(isinstance(event, kind) for event in told) == 3:
            raise ZeroDivisionError

    error = {"policy fails": ValueError("no luck"), "interrupt": KeyboardInterrupt()}.get(end)
    expected = {"interrupt": KeyboardInterrupt, "progress raises": ZeroDivisionError, "result raises": ZeroDivisionError}.get(end)
    words = Breaks(error)
    kind = {"strategy": strategy, "rollouts": 8, "candidates": 4, "open_problems": 3, "batch_leaves": 3, "progress": progress}
    if expected is not None:
        with pytest.raises(expected):
            search(list("abcde"), words, **kind)
    else:
        results = search(list("abcde"), words, **kind)
        assert [result.failure is None or result.failure.kind is FailureKind.NO_ANSWER for result in results] == [True, True, False, True, True]
        assert str(results[2].failure) == "policy: the policy raised ValueError: no luck"
    assert forest.handed_out == forest.given_back and set(forest.given_back.values()) == {1}
    if end == "policy fails":
        whole = search(list("abde"), Breaks(None), **{**kind, "progress": None})
        assert [r.trajectories for r in whole] == [r.trajectories for i, r in enumerate(results) if i != 2]


@pytest.mark.parametrize("strategy", ["beam", "dvts", "best_of_n", "self_consistency", "greedy"])
def test_a_run_continues_with_what_is_not_finished(strategy: str, tmp_path: Path) -> None:
    kind = {"strategy": strategy, "rollouts": 8, "candidates": 4, "open_problems": 2}
    whole = search(list("abcde"), Words(5), **kind)

    def stop(event: Any) -> None:
        if isinstance(event, rstar_fast.Finished) and event.result.problem.question == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(list("abcde"), Words(5), run_dir=tmp_path, progress=stop, **kind)
    words = Words(5)
    results = search(list("abcde"), words, run_dir=tmp_path, **kind)
    assert "b" not in {question for question, _, _ in words.asked}
    assert [(r.answer, r.trajectories, r.votes) for r in results] == [(r.answer, r.trajectories, r.votes) for r in whole]
