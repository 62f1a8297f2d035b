"""Whatever goes wrong ends in one clear sentence, or in a problem recorded as failed; the other problems lose nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rstar_fast
from rstar_fast import Candidate, Execution, InvalidInput, Partial, PartialTooLong, Problem, SearchConfig, SearchResult
from rstar_fast.policies.http import HttpPolicy
from rstar_fast.types import FailureKind, Program, Terminal

CODE = Candidate("<code>\nprint(5)\n", "<end_of_code>")
ANSWER = Candidate("<answer>\\boxed{5}", "<end_of_answer>")


def good_policy(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
    """Two steps, then the answer."""
    return [[ANSWER] if partial.solution else [CODE, Candidate("well\n")] for partial in partials]


def good_scorer(partials: Sequence[Partial]) -> np.ndarray:
    return np.zeros(len(partials), np.float32)


class GoodExecutor:
    async def run_batch(self, programs: Sequence[Program]) -> list[Execution]:
        return [Execution("5") for _ in programs]


def search(problems: Any = "q", **settings: Any) -> Any:
    """A search in which everything is good but what is given."""
    return rstar_fast.search(
        problems, **{"policy": good_policy, "ppm": good_scorer, "executor": GoodExecutor(), "rollouts": 4, **settings}
    )


def for_bad_ones(bad: Callable[[], Any]) -> Callable[..., Any]:
    """A policy that does `bad` for problems named so, and is good for the others."""

    def policy(partials: Sequence[Partial], n: int) -> Any:
        found = good_policy(partials, n)
        return [
            bad() if partial.problem.question == "bad" else candidates
            for partial, candidates in zip(partials, found, strict=True)
        ]

    return policy


def fails_alone(kind: FailureKind, said: str, **settings: Any) -> SearchResult:
    """Of five problems searched together the bad one fails, and says so; its failure is as when it is searched alone."""
    results = search(["a", "b", "bad", "c", "d"], **settings)
    for result in results:
        if result.problem.question != "bad":
            assert (result.answer, result.failure, result.stats.rollouts) == ("5", None, 4)
    bad = results[2]
    assert bad.failure is not None and bad.failure.kind is kind
    assert said in bad.failure.message and "\n" not in bad.failure.message
    assert (bad.answer, bad.score, bad.votes) == (None, None, {})
    assert bad.tree is not None
    assert search("bad", **settings).failure == bad.failure
    return bad


def refused(said: str, problems: Any = "q", **settings: Any) -> None:
    with pytest.raises(InvalidInput, match=said) as error:
        search(problems, **settings)
    assert "\n" not in str(error.value)


def test_the_good_ones_are_good() -> None:
    assert search().answer == "5"


# --- problems, settings, answers ---


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        ("", "needs a question"),
        (" \n", "needs a question"),
        (["q", ""], "problem 2 is ''.* needs a question"),
        (["q", 3], "problem 2 is 3: give a question or a Problem"),
        ([["q"]], "problem 1 is \\['q'\\]"),
        (b"q", "problem 1 is 113"),
        (3, "problems is 3: give a question, a Problem, or a sequence of them"),
        (None, "problems is None"),
        (Path("q.jsonl"), "give a question, a Problem, or a sequence of them"),
        ([Problem("q", "same"), Problem("r", "same")], "two different problems have the id 'same'"),
    ],
)
def test_unusable_problems(problems: Any, said: str) -> None:
    refused(said, problems)


def test_no_problems_have_no_results() -> None:
    assert search([]) == []
    assert search(iter([])) == []


def test_any_iterable_of_problems_serves() -> None:
    assert [result.answer for result in search(Problem(name) for name in "abc")] == ["5"] * 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rollouts": 0}, "rollouts is 0: give an integer >= 1"),
        ({"rollout": 4}, "unknown search setting 'rollout': the settings are"),
        ({"annotation": "terminl"}, "annotation is 'terminl': give one of 'terminal', 'ppm', 'inference'"),
        ({"config": {"rollouts": 4}}, "config is {'rollouts': 4}: give a SearchConfig, or its settings one by one"),
        ({"config": {}}, "config is {}: give a SearchConfig"),
        ({"config": SearchConfig(), "rollouts": -1}, "rollouts is -1"),
        ({"policy": None}, "policy is None: give a name, an object with propose\\(\\), or a function policy\\(partials, n\\)"),
        ({"ppm": 3}, "ppm is 3: give a name, an object with score\\(\\), or a function scorer\\(partials\\)"),
        ({"policy": HttpPolicy}, "policy is the class HttpPolicy: give an object of it"),
        ({"executor": 3}, "executor is 3: give an object with run_batch"),
        ({"policy": "./no such folder"}, "there is no policy checkpoint at './no such folder': give its folder, or a name"),
        ({"ppm": "/no such folder"}, "there is no PPM checkpoint at '/no such folder'"),
        ({"policy": "ftp://host/v1"}, "no policy checkpoint at 'ftp://host/v1'"),
        ({"policy": "http://"}, "http://"),
        ({"annotation": "terminal"}, "grades against a key: give answers"),
        ({"annotation": "ppm", "answers": {"x": "5"}}, "answers lack 1 of 1 problems, the first with id"),
        ({"annotation": "ppm", "answers": ["5"]}, "answers is \\['5'\\]: give a mapping"),
        ({"annotation": "ppm", "answers": {"x": 5}}, "the key of problem 'x' is 5: give its answer as non-empty text"),
        ({"answers": {"x": "5"}}, 'answers were given with annotation="inference"'),
    ],
)
def test_unusable_settings(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Before anything is searched, and before a run folder is made."""
    refused(said, **settings)
    refused(said, **settings, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    refused("is a folder without config.json: give the folder of a checkpoint", policy=tmp_path / "empty")
    refused("there is no PPM checkpoint at", ppm=tmp_path / "file")


# --- policies ---


class Raises(Exception):
    def __str__(self) -> str:
        return "first line\n  second line"


def raising(error: BaseException) -> Callable[[], Any]:
    def bad() -> Any:
        raise error

    return bad


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (raising(Raises()), "the policy raised Raises: first line second line"),
        (raising(KeyError("x")), "the policy raised KeyError: 'x'"),
        (raising(ValueError()), "the policy raised ValueError"),
        (raising(asyncio.CancelledError()), "the policy raised CancelledError"),
        (raising(ValueError("x" * 5000)), "xxx ..."),
        (raising(PartialTooLong("the partial is too long")), "the partial is too long"),
        (lambda: PartialTooLong("this one is too long"), "this one is too long"),
        (lambda: None, "the policy returned nothing for a partial solution: return a list of Candidate"),
        (lambda: "text", "the policy returned a str for a partial solution"),
        (lambda: iter([CODE]), "the policy returned a list_iterator for a partial solution"),
        (lambda: [CODE] * 9, "the policy returned 9 candidates where 2 were asked for: return no more"),
        (lambda: ["text"], "the policy returned a str as a candidate: return Candidate(text, stop)"),
        (lambda: [CODE, None], "the policy returned nothing as a candidate"),
        (lambda: [("text", None)], "the policy returned a tuple of 2 as a candidate"),
        (lambda: [Candidate(3)], "the policy returned Candidate(text=3, stop=None"),  # type: ignore[arg-type]
        (lambda: [Candidate("x", 3)], "stop=3"),  # type: ignore[arg-type]
        (lambda: [Candidate("x", None, "many")], "tokens='many'"),  # type: ignore[arg-type]
    ],
)
def test_a_policy_that_fails_for_one_problem(bad: Callable[[], Any], said: str) -> None:
    failed = fails_alone(FailureKind.POLICY, said, policy=for_bad_ones(bad))
    assert len(failed.failure.message) < 1200  # type: ignore[union-attr]


TEXT = [Candidate("thinking\n"), Candidate("more\n"), Candidate("\\boxed{7}", "<end_of_answer>")]


def too_long(partial: Partial, limit: int) -> bool:
    return len(partial.solution) > limit


def test_a_solution_that_outgrows_the_policys_context_ends_alone() -> None:
    def policy(partials: Sequence[Partial], n: int) -> list[Any]:
        return [PartialTooLong("too long") if too_long(partial, 20) else TEXT for partial in partials]

    result = rstar_fast.search("question", policy=policy, ppm=lambda partials: np.zeros(len(partials)), rollouts=40, max_depth=9, first_candidates=0)
    assert result.failure is None and result.answer == "7"
    assert result.tree is not None
    ends = [node for node in result.tree if node.terminal is Terminal.TOO_DEEP]
    assert ends and all(len(node.solution) > 20 and not node.children for node in ends)
    only_text = rstar_fast.search.sample(
        "question", 5, policy=lambda partials, n: [answers if isinstance(answers, PartialTooLong) else answers[:1] for answers in policy(partials, n)]
    )
    assert only_text.failure is not None and only_text.failure.kind is FailureKind.NO_ANSWER


def test_a_solution_that_outgrows_the_scorers_context_ends_alone() -> None:
    def scorer(partials: Sequence[Partial]) -> np.ndarray:
        if any(too_long(partial, 40) for partial in partials):
            raise PartialTooLong("too long")
        return np.zeros(len(partials))

    result = rstar_fast.search("question", policy=lambda partials, n: [TEXT] * len(partials), ppm=scorer, rollouts=40, first_candidates=0)
    assert result.failure is None and result.answer == "7"
    assert result.tree is not None
    assert max(len(node.solution) for node in result.tree) <= 40
    assert any(node.terminal is Terminal.TOO_DEEP for node in result.tree)
    alone = rstar_fast.search("question", policy=lambda partials, n: [[Candidate("x" * 50)]] * len(partials), ppm=scorer)
    assert alone.failure is not None and str(alone.failure) == "scorer: too long"


@pytest.mark.parametrize(
    "settings", [{"in_flight": 7}, {"open_problems": 1}, {"batch_leaves": 1}, {"in_flight": 3, "open_problems": 2}]
)
def test_a_policy_that_fails_further_down(settings: dict[str, Any]) -> None:
    """While others of the problem's leaves are out; the tree so far is kept, with its trajectories."""

    def policy(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        if any(partial.problem.question == "bad" and partial.solution == "well\n" for partial in partials):
            raise ValueError("deep")
        return good_policy(partials, n)

    bad = fails_alone(FailureKind.POLICY, "deep", policy=policy, **settings)
    assert bad.tree is not None and {"0", "0.1", "0.2"} <= {node.tag for node in bad.tree}


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "the policy returned nothing for 1 partial solutions: return one list of candidates for each"),
        ([], "the policy returned a list of 0 for 1 partial solutions"),
        ([[CODE], [CODE]], "the policy returned a list of 2 for 1 partial solutions"),
        ("a", "the policy returned a str for 1 partial solutions"),
        (np.zeros(1), "the policy returned an array of shape (1,) for 1 partial solutions"),
        ({0: [CODE]}, "the policy returned a dict for 1 partial solutions"),
        (3, "the policy returned a int for 1 partial solutions"),
    ],
)
def test_a_policy_that_returns_the_wrong_thing(returned: Any, said: str) -> None:
    for result in search(["a", "b", "c"], policy=lambda partials, n: returned):
        assert str(result.failure) == f"policy: {said}" or str(result.failure).startswith(f"policy: {said}: ")


def test_too_few_lists_are_not_given_to_the_wrong_partials() -> None:
    """A batch with one list too few says nothing about whose it is: each partial is asked for alone, and comes to its end."""

    def policy(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        return good_policy(partials, n)[: max(1, len(partials) - 1)]

    assert [result.answer for result in search(["a", "b", "c"], policy=policy)] == ["5"] * 3


@pytest.mark.parametrize("candidates", [[], [Candidate("")], [Candidate(" \n", "<end_of_step>")]])
def test_a_policy_with_nothing_usable(candidates: list[Candidate]) -> None:
    asked = []

    def policy(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        asked.extend(partials)
        return [candidates] * len(partials)

    result = search(policy=policy, max_consecutive_errors=3, first_candidates=0)
    assert str(result.failure) == "no answer: no solution gave an answer: 1 ended where the policy proposed nothing usable"
    assert (len(asked), result.tree.root.terminal, result.stats.failed_steps) == (
        3,
        Terminal.NO_CANDIDATES,
        3 * len(candidates),
    )


def test_a_policy_that_cannot_be_called_so() -> None:
    assert "the policy raised TypeError: " in str(search(policy=lambda partials: None).failure)


def test_functions_and_objects_sync_and_async_serve() -> None:
    async def later(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        await asyncio.sleep(0)
        return good_policy(partials, n)

    class Called:
        async def __call__(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
            return good_policy(partials, n)

    class Plain:
        def propose(self, partials: Sequence[Partial], n: int) -> tuple[tuple[Candidate, ...], ...]:
            return tuple(map(tuple, good_policy(partials, n)))

    async def scored_later(partials: Sequence[Partial]) -> list[float]:
        return [0.0] * len(partials)

    for policy in (good_policy, later, Called(), Plain(), lambda partials, n: later(partials, n)):
        for ppm in (good_scorer, scored_later):
            assert search(policy=policy, ppm=ppm).answer == "5"


def test_a_plain_function_is_called_from_one_thread_at_a_time() -> None:
    """Most models can bear no other. Each call waits a little for another one to come in."""
    inside, second = threading.Semaphore(1), threading.Event()

    def policy(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        if not inside.acquire(blocking=False):
            second.set()
            raise ValueError("two at a time")
        second.wait(0.02)
        inside.release()
        if len(partials) > 1:
            raise ValueError("one at a time, please")
        return good_policy(partials, n)

    results = search(["a", "b", "c"], policy=policy, rollouts=1)
    assert not second.is_set()
    assert [result.answer for result in results] == ["5"] * 3


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    async def at_once(seconds: float) -> None:
        pass

    results = search(["a", "b"], policy=HttpPolicy(f"http://127.0.0.1:{port}/v1#tiny", api_key="", sleep=at_once))
    for result in results:
        assert str(result.failure).startswith(f"policy: cannot connect to http://127.0.0.1:{port}/v1 (")
        assert "check the address, and that the server is running" in str(result.failure)


# --- scorers ---


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "the scorer returned nan for a partial solution: return a number in [-1, 1]"),
        (1.5, "the scorer returned 1.5 for a partial solution"),
        (-2, "the scorer returned -2.0 for a partial solution"),
        (float("inf"), "the scorer returned inf"),
        (None, "the scorer returned nan"),
        ("high", "the scorer returned a list of 1 for 1 partial solutions: return one number for each"),
        ([0.1, 0.2], "the scorer returned a list of 1 for 1 partial solutions"),
    ],
)
def test_a_scorer_that_fails_for_one_problem(value: Any, said: str) -> None:
    def scorer(partials: Sequence[Partial]) -> list[Any]:
        return [value if partial.problem.question == "bad" and partial.solution == "well\n" else 0.0 for partial in partials]

    # One at a time, so that what is said of a batch has the same number in it.
    def scorer_of_one(partials: Sequence[Partial]) -> list[Any]:
        if len(partials) > 1:
            raise ValueError("one at a time, please")
        return scorer(partials)

    fails_alone(FailureKind.SCORER, said, ppm=scorer_of_one)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "the scorer returned nothing for "),
        ([], "the scorer returned a list of 0 for "),
        (0.5, "the scorer returned a float for "),
        (np.zeros((1, 1)), "the scorer returned an array of shape (1, 1) for "),
        (np.zeros(7), "the scorer returned an array of shape (7,) for "),
        ("0.5", "the scorer returned a str for "),
    ],
)
def test_a_scorer_of_the_wrong_shape(returned: Any, said: str) -> None:
    for result in search(["a", "b"], ppm=lambda partials: returned):
        assert str(result.failure).startswith(f"scorer: {said}1 partial solutions: return one number for each")


def test_a_scorer_that_raises() -> None:
    def scorer(partials: Sequence[Partial]) -> list[float]:
        if any(partial.problem.question == "bad" for partial in partials):
            raise RuntimeError("out of memory")
        return [0.0] * len(partials)

    fails_alone(FailureKind.SCORER, "the scorer raised RuntimeError: out of memory", ppm=scorer)


# --- executors ---


class BadExecutor:
    """Gives back what it is made with, or raises it."""

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    async def run_batch(self, programs: Sequence[Program]) -> Any:
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (OSError("no\nprocess"), "the executor raised OSError: no process"),
        (None, "the executor returned a NoneType for 1 programs: return one Execution for each"),
        ([], "the executor returned a list of 0 for 1 programs"),
        ([Execution("5")] * 2, "the executor returned a list of 2 for 1 programs"),
        (["5"], "the executor returned a list of 1 for 1 programs: return one Execution for each"),
        (3, "the executor returned a int for 1 programs"),
    ],
)
def test_an_executor_that_fails(returned: Any, said: str) -> None:
    """Problems that had nothing to run do not fail with the others."""

    def policy(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        return [[ANSWER] if partial.problem.question == "no code" else [CODE] for partial in partials]

    result, other = search(["code", "no code"], policy=policy, executor=BadExecutor(returned), open_problems=2)
    assert result.failure is not None and result.failure.kind is FailureKind.SANDBOX
    assert result.failure.message.startswith(said)
    assert (other.answer, other.failure) == ("5", None)
