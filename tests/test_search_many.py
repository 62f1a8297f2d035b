"""Many problems: their results and events, the forest's memory, running event loops, and searches that are broken off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from watched_forest import Watched

import rstar_fast
from rstar_fast import Candidate, Expansion, Finished, Partial, Problem, SearchResult
from rstar_fast.search import api, mcts, models


class Counting:
    """A policy: `depth` steps, each with two candidates, then the answer. Counts what it is asked."""

    def __init__(self, depth: int = 1) -> None:
        self.depth = depth
        self.asked: Counter[tuple[str, str]] = Counter()

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        self.asked.update((partial.problem.question, partial.solution) for partial in partials)
        return [self.candidates(partial) for partial in partials]

    def candidates(self, partial: Partial) -> list[Candidate]:
        if partial.solution.count("\n") >= self.depth:
            return [Candidate(f"\\boxed{{{len(partial.problem.question)}}}", tokens=4)]
        return [Candidate("well\n", tokens=1), Candidate("so\n", tokens=1)]


def zeros(partials: Sequence[Partial]) -> list[float]:
    return [0.0] * len(partials)


def search(problems: Any, policy: Any, **settings: Any) -> Any:
    return rstar_fast.search(problems, policy=policy, ppm=zeros, **{"rollouts": 3, "first_candidates": 0, **settings})


def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The forest of the next search."""
    forest = Watched()
    monkeypatch.setattr(mcts, "Forest", forest)
    return forest


# --- problems and results ---


def test_a_problem_given_twice_is_searched_once() -> None:
    policy, finished = Counting(), []
    results = search(["a", Problem("a"), "bb", "a"], policy, progress=lambda event: finished.append(event))
    assert [result.answer for result in results] == ["1", "1", "2", "1"]
    assert results[0] is results[1] is results[3]
    assert policy.asked["a", ""] == policy.asked["bb", ""] == 1
    assert sum(isinstance(event, Finished) for event in finished) == 2


def test_the_same_question_under_two_ids_is_searched_twice() -> None:
    policy = Counting()
    results = search([Problem("a", "1"), Problem("a", "2")], policy)
    assert [result.problem.id for result in results] == ["1", "2"]
    assert policy.asked["a", ""] == 2


def test_one_question_has_one_result_and_a_list_of_one_a_list() -> None:
    assert isinstance(search("a", Counting()), SearchResult)
    assert isinstance(search(Problem("a"), Counting()), SearchResult)
    assert [result.answer for result in search(["a"], Counting())] == ["1"]


@pytest.mark.parametrize("settings", [{}, {"open_problems": 1}, {"batch_leaves": 1}, {"in_flight": 3, "open_problems": 5}])
def test_problems_of_different_sizes(settings: dict[str, Any]) -> None:
    """Some are solved at once, some take forty steps; results come in the order asked for, whoever finishes first."""

    class Uneven(Counting):
        def candidates(self, partial: Partial) -> list[Candidate]:
            self.depth = int(partial.problem.question)
            return super().candidates(partial)

    depths = [40, 0, 7, 1, 25, 3, 0]
    problems = [Problem(str(depth), f"number {i}") for i, depth in enumerate(depths)]
    finished = []
    results = search(problems, Uneven(), max_depth=50, progress=lambda event: finished.append(event), **settings)
    assert [result.problem for result in results] == problems
    for depth, result in zip(depths, results, strict=True):
        assert result.tree is not None and max(node.depth for node in result.tree) == depth + 1
        assert len(result.trajectories[0].q_values) == depth + 1
    assert Counter(event.result.problem.id for event in finished if isinstance(event, Finished)) == Counter(
        p.id for p in problems
    )


def test_solutions_of_thousands_of_steps_have_results() -> None:
    class Line(Counting):
        def candidates(self, partial: Partial) -> list[Candidate]:
            return super().candidates(partial)[:1]

    result = search("a", Line(depth=1500), rollouts=1, max_depth=2000)
    assert result.answer == "1"
    assert result.trajectories[0].tag == ".".join(["0"] + ["1"] * 1501)


def test_the_memory_of_finished_trees_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 problems, five at a time: the nodes of all have their place in what five trees take."""
    forest = watched(monkeypatch)
    results = search([f"{number}" for number in range(200)], Counting(depth=2), rollouts=8, open_problems=5)
    assert [result.answer for result in results] == [str(len(f"{number}")) for number in range(200)]
    nodes = [len(result.tree) for result in results]
    assert min(nodes) == max(nodes) == 1 + 2 + 4 + 4
    assert len(forest.removed) == 200 and len(set(forest.removed)) == 5
    assert forest.highest < 5 * 4 * nodes[0]  # a block takes four nodes at least
    assert forest.handed_out == forest.given_back and set(forest.given_back.values()) == {1}


# --- events ---


def test_events_tell_the_whole_search() -> None:
    events: list[Any] = []
    results = search(["a", "bb"], Counting(depth=2), rollouts=6, progress=events.append)
    for result in results:
        mine = [event for event in events if isinstance(event, Expansion) and event.problem == result.problem]
        told = {
            step.tag: (step.text, step.observation, step.answer, step.terminal) for event in mine for step in event.children
        }
        assert told == {n.tag: (n.text, n.observation, n.answer, n.terminal) for n in result.tree if n.tag != "0"}
        assert all(step.tag == f"{event.parent_tag}.{i}" for event in mine for i, step in enumerate(event.children, 1))
        assert sum(event.policy_tokens for event in mine) == result.stats.policy_tokens > 0
        assert len(mine) == result.stats.expansions
    assert [event.result for event in events if isinstance(event, Finished)] == results
    assert not any(event.restored for event in events if isinstance(event, Finished))


# --- what a search opens, it closes ---


def test_the_embedded_policy_and_a_sandbox_of_its_own() -> None:
    """Whatever nano makes of it: the code it writes is run, and nothing stays open."""
    before = set(threading.enumerate())
    result = rstar_fast.search("What is 12 + 30?", ppm=zeros, rollouts=2, candidates=2, max_depth=4)
    assert result.tree is not None and result.stats.rollouts == 2
    assert result.stats.candidates >= 2 and result.stats.policy_tokens > 0 and result.stats.steps_run > 0
    assert (result.answer is None) == (result.failure is not None)
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("way", ["to its end", "the PPM is missing", "progress raises", "sampled"])
def test_models_and_sandbox_are_closed_at_the_end(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, closed = [], []

    class Opened(Counting):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__()
            opened.append(self)

        def score(self, partials: Sequence[Partial]) -> list[float]:
            return zeros(partials)

        async def aclose(self) -> None:
            closed.append(self)

    def progress(event: Any) -> None:
        if way == "progress raises":
            raise ZeroDivisionError

    def load_scorer(name: str) -> Opened:
        if way == "the PPM is missing":
            raise rstar_fast.InvalidInput("missing")
        return Opened()

    monkeypatch.setattr(models, "load_policy", Opened)
    monkeypatch.setattr(models, "load_scorer", load_scorer)
    monkeypatch.setattr(api, "Sandbox", Opened)
    with contextlib.suppress(ZeroDivisionError, rstar_fast.InvalidInput):
        if way == "sampled":
            rstar_fast.search.sample("a", policy="named")
        else:
            rstar_fast.search("a", policy="named", ppm="named", progress=progress, rollouts=1)
    assert len(opened) == {"the PPM is missing": 1, "sampled": 2}.get(way, 3)
    assert Counter(map(id, closed)) == Counter(map(id, opened))
    users_own = Opened()
    rstar_fast.search.sample("a", policy=users_own)
    assert users_own not in closed


class Keeping:
    """A scorer that is told which problems have been searched."""

    def __init__(self, fails: bool = False) -> None:
        self.asked: list[str] = []
        self.released: list[str] = []
        self.fails = fails

    async def score(self, partials: Sequence[Partial]) -> list[float]:
        assert not {partial.problem.id for partial in partials} & set(self.released), "a problem was released too early"
        self.asked += [partial.problem.id for partial in partials]
        return zeros(partials)

    def release(self, problem: rstar_fast.Problem) -> None:
        self.released.append(problem.id)
        if self.fails:
            raise ZeroDivisionError("no room")


@pytest.mark.parametrize("fails", [False, True])
def test_a_scorer_is_told_which_problems_have_been_searched(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    scorer = Keeping(fails)
    results = rstar_fast.search(["a", "bb", "ccc"], policy=Counting(), ppm=scorer, rollouts=3, open_problems=2)
    assert sorted(scorer.released) == sorted(result.problem.id for result in results) == sorted(set(scorer.asked))
    assert all(result.failure is None for result in results)
    warned = [record.getMessage() for record in caplog.records if record.name == models.__name__]
    assert warned == ["the scorer's release raised ZeroDivisionError: no room"] * (3 if fails else 0)


# --- event loops ---


def test_search_works_where_an_event_loop_runs() -> None:
    """As in a notebook; the loop of the search is another one, in a thread of its own."""
    threads = []

    def policy(partials: Sequence[Partial], n: int) -> Any:
        threads.append(threading.current_thread())
        return asyncio.sleep(0, [[Candidate("\\boxed{5}")]] * len(partials))

    async def cell() -> Any:
        result = search("a", policy)
        with pytest.raises(rstar_fast.InvalidInput, match="needs a question"):
            search("", policy)
        return result, rstar_fast.search.greedy("a", policy=policy)

    assert [result.answer for result in asyncio.run(cell())] == ["5", "5"]
    assert threading.main_thread() not in threads
    assert not [thread for thread in threading.enumerate() if thread.name == "rstar_fast.search"]


def test_asearch_is_the_coroutine() -> None:
    async def both() -> Any:
        return await asyncio.gather(*(rstar_fast.asearch(q, policy=Counting(), ppm=zeros) for q in ("a", ["a", "bb"])))

    one, many = asyncio.run(both())
    assert (one.answer, [result.answer for result in many]) == ("1", ["1", "2"])


# --- broken off ---


class BreaksOff(Counting):
    """Calls `act` when it is asked for the last of the problems."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        if any(partial.problem.question == "last" for partial in partials):
            await self.act()
        return await super().propose(partials, n)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_the_search_and_what_is_finished_has_been_told(error: type[BaseException]) -> None:
    async def act() -> None:
        raise error

    told: list[Any] = []
    with pytest.raises(error):
        search(["a", "bb", "last"], BreaksOff(act), open_problems=1, progress=told.append)
    assert [event.result.answer for event in told if isinstance(event, Finished)] == ["1", "2"]


def test_cancelling_ends_the_search() -> None:
    told: list[Any] = []

    async def run() -> None:
        reached = asyncio.Event()

        async def act() -> None:
            reached.set()
            await asyncio.Event().wait()  # for ever

        problems = ["a", "bb", "last"]
        task = asyncio.create_task(
            rstar_fast.asearch(problems, policy=BreaksOff(act), ppm=zeros, open_problems=1, progress=told.append)
        )
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert [event.result.answer for event in told if isinstance(event, Finished)] == ["1", "2"]


def test_an_interrupt_in_a_notebook_ends_the_search() -> None:
    async def act() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await asyncio.Event().wait()  # for ever

    async def cell() -> None:
        with pytest.raises(KeyboardInterrupt):
            search(["a", "last"], BreaksOff(act), open_problems=1)

    loop = asyncio.new_event_loop()  # not asyncio.run, which would take the signal for itself
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
    try:
        loop.run_until_complete(cell())
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "rstar_fast.search"]


@pytest.mark.parametrize("settings", [{}, {"in_flight": 4}, {"batch_leaves": 2}, {"open_problems": 2, "in_flight": 3}])
@pytest.mark.parametrize("end", ["cancelled", "progress raises", "result raises", "policy fails", "policy interrupts"])
def test_every_leaf_is_given_back_once_however_the_search_ends(
    end: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    forest = watched(monkeypatch)
    calls = 0
    search_task: asyncio.Task[Any] | None = None

    async def act() -> None:
        if end == "policy fails":
            raise ValueError
        if end == "policy interrupts":
            raise KeyboardInterrupt
        if end == "cancelled" and search_task is not None:
            search_task.cancel()
        await asyncio.sleep(0)

    def progress(event: Any) -> None:
        nonlocal calls
        calls += isinstance(event, Expansion if end == "progress raises" else Finished)
        if calls == 3 and end in ("progress raises", "result raises"):
            raise ZeroDivisionError

    async def run() -> None:
        nonlocal search_task
        problems = ["a", "b", "c", "last", "d", "e"]
        search_task = asyncio.create_task(
            rstar_fast.asearch(problems, policy=BreaksOff(act), ppm=zeros, progress=progress, rollouts=5, **settings)
        )
        await search_task

    ends = {
        "cancelled": asyncio.CancelledError,
        "progress raises": ZeroDivisionError,
        "result raises": ZeroDivisionError,
        "policy interrupts": KeyboardInterrupt,
    }
    with pytest.raises(ends[end]) if end in ends else contextlib.nullcontext():
        asyncio.run(run())
    assert forest.handed_out == forest.given_back and set(forest.given_back.values()) == {1}


@pytest.mark.parametrize("kind", [Expansion, Finished])
def test_a_progress_callback_that_raises_ends_the_search(kind: type) -> None:
    """With its own exception, and without a word of asyncio about others."""

    def progress(event: Any) -> None:
        if isinstance(event, kind):
            raise ZeroDivisionError("mine")

    said: list[Any] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        with pytest.raises(ZeroDivisionError, match="mine"):
            await rstar_fast.asearch(list("abcdef"), policy=Counting(), ppm=zeros, batch_leaves=2, progress=progress)

    asyncio.run(run())
    gc.collect()
    assert said == []
