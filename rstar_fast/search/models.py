"""Policies, scorers and plain functions behind one face; what they return is checked here and nowhere else."""

from __future__ import annotations

import asyncio
import inspect
import logging
import numbers
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from rstar_fast.policies import load_policy
from rstar_fast.ppm import load_scorer
from rstar_fast.types import (
    Candidate,
    Failure,
    FailureKind,
    InvalidInput,
    Partial,
    PartialTooLong,
    Policy,
    PolicyError,
    Problem,
    RstarError,
    Scorer,
    ScorerError,
)

PolicyLike = str | Path | Policy | Callable[[Sequence[Partial], int], Any]
ScorerLike = str | Path | Scorer | Callable[[Sequence[Partial]], Any]

Answer = TypeVar("Answer")

_LOG = logging.getLogger(__name__)
_LONGEST_REASON = 1000  # characters: some libraries put whole tensors into their messages


class TooLong(Failure):
    """A partial solution exceeds the model's context: it cannot be continued, but others of its problem can."""

    __slots__ = ()


class _Model(Generic[Answer]):
    """A batched call into somebody's model: a failure is one partial's, never the batch's.

    A plain function is called from one thread at a time, as most models can bear no other; a coroutine function may be
    called again before it has returned.

    Args:
      function: the call, sync or async.
      owned: what to close at the end; None when the user brought the model.
    """

    kind: FailureKind
    error: type[RstarError]
    noun: str

    def __init__(self, function: Callable[..., Any], owned: Any = None) -> None:
        self._function, self._owned = function, owned
        self._plain_call = asyncio.Lock()

    async def aclose(self) -> None:
        """Closes a model that was opened by name; a user's own stays open."""
        close = getattr(self._owned, "aclose", None)
        if close is not None:
            await close()

    async def _ask(self, partials: Sequence[Partial], *arguments: Any) -> list[Answer | Failure]:
        """One checked answer for each of the B partials, or why it has none."""
        if not partials:
            return []
        try:
            return self._read(await self._call(partials, *arguments), len(partials), *arguments)
        except (Exception, asyncio.CancelledError) as error:  # the user's code may raise anything: a recorded failure
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # the search itself is cancelled
            if len(partials) == 1:
                return [self._failure(error)]
        # Which of them it was is found by asking for each alone; the others are not lost with it.
        alone = await asyncio.gather(*(self._ask([partial], *arguments) for partial in partials))
        return [answer for answers in alone for answer in answers]

    async def _call(self, *arguments: Any) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(*arguments)
        async with self._plain_call:
            result = await asyncio.to_thread(self._function, *arguments)  # a plain function must not hold up the loop
        return await result if isinstance(result, Awaitable) else result

    def _failure(self, error: BaseException) -> Failure:
        if isinstance(error, RstarError):
            return (TooLong if isinstance(error, PartialTooLong) else Failure)(self.kind, str(error))
        return Failure(self.kind, raised(f"the {self.noun}", error))

    def _read(self, answers: Any, count: int, *arguments: Any) -> list[Answer | Failure]:
        raise NotImplementedError


class PolicyModel(_Model[list[Candidate]]):
    """A policy whose answers are checked."""

    kind, error, noun = FailureKind.POLICY, PolicyError, "policy"

    def __init__(self, function: Callable[..., Any], owned: Any = None, merges_calls: bool = False) -> None:
        super().__init__(function, owned)
        self.merges_calls = merges_calls

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate] | Failure]:
        """At most n candidates for each of the B partials, or why there are none."""
        return await self._ask(partials, n)

    def _read(self, answers: Any, count: int, *arguments: Any) -> list[list[Candidate] | Failure]:
        (n,) = arguments
        if isinstance(answers, str) or not isinstance(answers, Sequence) or len(answers) != count:
            raise PolicyError(
                f"the policy returned {_shape(answers)} for {count} partial solutions: return one list of candidates for each"
            )
        return [self._candidates(candidates, n) for candidates in answers]

    def _candidates(self, candidates: Any, n: int) -> list[Candidate] | Failure:
        if isinstance(candidates, RstarError):
            return self._failure(candidates)
        if isinstance(candidates, str) or not isinstance(candidates, Sequence):
            return Failure(
                self.kind, f"the policy returned {_shape(candidates)} for a partial solution: return a list of Candidate"
            )
        if len(candidates) > n:
            return Failure(
                self.kind, f"the policy returned {len(candidates)} candidates where {n} were asked for: return no more"
            )
        for candidate in candidates:
            if (
                not isinstance(candidate, Candidate)
                or not isinstance(candidate.text, str)
                or not isinstance(candidate.stop, str | None)
                or not isinstance(candidate.tokens, numbers.Integral | None)
            ):
                found = repr(candidate)[:_LONGEST_REASON] if isinstance(candidate, Candidate) else _shape(candidate)
                return Failure(self.kind, f"the policy returned {found} as a candidate: return Candidate(text, stop)")
        return list(candidates)


class ScorerModel(_Model[float]):
    """A scorer whose answers are checked."""

    kind, error, noun = FailureKind.SCORER, ScorerError, "scorer"

    def __init__(
        self,
        function: Callable[..., Any],
        owned: Any = None,
        release: Callable[[Problem], object] | None = None,
        tokens_of: Callable[[Problem], int] | None = None,
    ) -> None:
        super().__init__(function, owned)
        self._release, self._tokens_of = release, tokens_of

    def tokens_of(self, problem: Problem) -> int:
        """How many tokens the scorer has computed for a problem since it was last released; 0 where it does not say."""
        return 0 if self._tokens_of is None else int(self._tokens_of(problem))

    def release(self, problem: Problem) -> None:
        """Tells the scorer that no partial solution of a problem will come any more, if it wants to know."""
        if self._release is not None:
            try:
                self._release(problem)
            except Exception as error:  # the user's code; what it keeps does not change what the search has found
                _LOG.warning("%s", raised("the scorer's release", error))

    async def score(self, partials: Sequence[Partial]) -> list[float | Failure]:
        """The score of each of the B partials, in [-1, 1], or why there is none."""
        return await self._ask(partials)

    def _read(self, answers: Any, count: int, *arguments: Any) -> list[float | Failure]:
        try:
            scores = np.asarray(answers, np.float64)
        except (TypeError, ValueError):
            scores = np.empty(())
        if scores.shape != (count,):
            raise ScorerError(
                f"the scorer returned {_shape(answers)} for {count} partial solutions: return one number for each"
            )
        return [
            score
            if -1.0 <= score <= 1.0  # also false for NaN
            else Failure(self.kind, f"the scorer returned {score} for a partial solution: return a number in [-1, 1]")
            for score in scores.tolist()
        ]


def policy_model(policy: PolicyLike, **settings: Any) -> PolicyModel:
    """A policy by name (loaded with `settings`), a Policy, or a function policy(partials, n)."""
    if isinstance(policy, str | Path):
        loaded = load_policy(policy, **settings)
        return PolicyModel(loaded.propose, loaded, _merges_calls(loaded))
    return PolicyModel(_function_of(policy, "propose", "policy", "policy(partials, n)"), merges_calls=_merges_calls(policy))


def scorer_model(scorer: ScorerLike) -> ScorerModel:
    """A scorer by name, a Scorer, or a function scorer(partials)."""
    if isinstance(scorer, str | Path):
        loaded = load_scorer(scorer)
        return ScorerModel(loaded.score, loaded, getattr(loaded, "release", None), getattr(loaded, "tokens_of", None))
    function = _function_of(scorer, "score", "ppm", "scorer(partials)")
    return ScorerModel(function, None, getattr(scorer, "release", None), getattr(scorer, "tokens_of", None))


def raised(who: str, error: BaseException) -> str:
    """What somebody's code raised, in one line."""
    said = " ".join(str(error).split())
    said = said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]} ..."
    return f"{who} raised {type(error).__name__}{': ' if said else ''}{said}"


def _merges_calls(policy: Any) -> bool:
    return bool(getattr(policy, "merges_calls", False))


def _function_of(model: Any, method: str, name: str, signature: str) -> Callable[..., Any]:
    if isinstance(model, type) and hasattr(model, method):
        raise InvalidInput(f"{name} is the class {model.__qualname__}: give an object of it")
    function = getattr(model, method, model)
    if not callable(function):
        raise InvalidInput(f"{name} is {model!r}: give a name, an object with {method}(), or a function {signature}")
    return function


def _shape(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}" if value is not None else "nothing"
