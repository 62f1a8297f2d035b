"""The entry points: `search`, `asearch`, and for the two baselines without a PPM `greedy` and `sample`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from rstar_fast.config import Annotation, SandboxConfig, SearchConfig, Strategy
from rstar_fast.config.base import check_integer
from rstar_fast.sandbox import Sandbox
from rstar_fast.search.budgets import Spending
from rstar_fast.search.dialect import dialect_of
from rstar_fast.search.expand import Expander
from rstar_fast.search.levels import LevelSearch
from rstar_fast.search.mcts import TreeSearch
from rstar_fast.search.models import PolicyLike, PolicyModel, ScorerLike, ScorerModel, policy_model, scorer_model
from rstar_fast.search.values import InferenceValuation, PpmValuation, TerminalReward, TerminalValuation, Valuation
from rstar_fast.storage import Run
from rstar_fast.storage.manifest import FILE as MANIFEST
from rstar_fast.types import AnswerKey, Executor, Finished, InvalidInput, Problem, ProgressEvent, SearchResult

# Settings of the sandbox that a result may depend on.
_LIMITS = ("timeout_s", "cpu_s", "memory_mb", "output_chars", "scratch_mb")

Problems = str | Problem | Iterable[str | Problem]
Progress = Callable[[ProgressEvent], object]

T = TypeVar("T")


@overload
def search(problems: str | Problem, **settings: Any) -> SearchResult: ...
@overload
def search(problems: Iterable[str | Problem], **settings: Any) -> Sequence[SearchResult]: ...
def search(
    problems: Problems,
    *,
    policy: PolicyLike = "nano",
    ppm: ScorerLike = "nano",
    config: SearchConfig | None = None,
    answers: AnswerKey | Mapping[str, str] | None = None,
    run_dir: str | Path | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
    **settings: Any,
) -> SearchResult | Sequence[SearchResult]:
    """Searches for answers: by tree search (DESIGN: "The search, exactly"), or by another strategy (`SearchConfig.strategy`).

    Also works where an event loop is running (notebooks); `asearch` is the coroutine.

    Args:
      problems: a question, a Problem, or any number of either. A problem given twice is searched once.
      policy: proposes steps: "nano", a checkpoint's folder or hub name, "vllm:NAME", the URL of an OpenAI-compatible server,
        a `Policy`, or a function policy(partials, n).
      ppm: scores steps: "nano", a checkpoint's folder or hub name, "vllm:NAME", the URL of a server that classifies, a `Scorer`,
        or a function scorer(partials). Not loaded where it is not asked: under annotation="terminal", and with the strategies
        "self_consistency" and "greedy".
      config: the settings; single ones (rollouts=16, candidates=32, ...) override it.
      answers: the key, problem id -> answer; taken only, and needed, with annotation="terminal" or "ppm".
      run_dir: a folder that results are streamed to and lazily read back from. Problems finished there are not searched
        again, so a run that was killed continues.
      progress: called with a ProgressEvent at every expansion and every finished problem.
      executor: runs the steps' code; a `Sandbox` of default limits when None.

    Returns:
      A SearchResult for a single question or Problem; else a sequence of them, in the order given. A problem that could not
      be solved has its `failure` set and costs the others nothing.

    Raises:
      InvalidInput: an argument is unusable, before anything is searched.
    """
    arguments = {name: value for name, value in locals().items() if name not in ("problems", "settings")}
    return run_anywhere(asearch(problems, **arguments, **settings))


async def asearch(
    problems: Problems,
    *,
    policy: PolicyLike = "nano",
    ppm: ScorerLike = "nano",
    config: SearchConfig | None = None,
    answers: AnswerKey | Mapping[str, str] | None = None,
    run_dir: str | Path | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
    **settings: Any,
) -> SearchResult | Sequence[SearchResult]:
    """`search` as a coroutine."""
    asked = _problems(problems)
    config = merged_settings(config, settings)
    _check_executor(executor)
    reward = _reward(config.annotation, answers, asked)
    distinct = list({problem.id: problem for problem in asked}.values())
    results: dict[str, SearchResult] = {}
    run: Run | None = None

    def keep(result: SearchResult) -> None:
        if run is not None:
            run.add(result)
        else:
            results[result.problem.id] = result
        if progress is not None:
            progress(Finished(result))

    async with _Opened() as opened:
        # A new run begins once its models are there: a mistyped name must not be what the run was made with.
        begun = run_dir is not None and Path(run_dir, MANIFEST).exists()
        models = None if begun or not asked else opened.models(config, policy, ppm)
        if run_dir is not None:
            run = opened.run(run_dir, _manifest(config, policy, ppm))
        finished = run.finished(distinct) if run is not None else frozenset()
        if run is not None and progress is not None:
            for result in run.read([problem for problem in distinct if problem.id in finished]):
                progress(Finished(result, restored=True))
        to_do = [problem for problem in distinct if problem.id not in finished]
        if to_do:
            proposer, scorer = models or opened.models(config, policy, ppm)
            # Of independent samples a failure is the end.
            dialect = dialect_of(config.replace(max_consecutive_errors=1) if config.strategy.samples else config)
            valuation = _valuation(scorer, reward)
            runner = opened.executor(executor, config.sandbox)
            expander = Expander(proposer, runner, dialect, valuation, fills=config.strategy.samples)
            restored = [] if run is None else [stats for problem_id, stats in run.stats() if problem_id in finished]
            spending = Spending(config, restored)
            strategy = TreeSearch if config.strategy is Strategy.MCTS else LevelSearch

            def settled(result: SearchResult) -> None:
                if scorer is None:
                    keep(result)
                    return
                stats = dataclasses.replace(result.stats, ppm_tokens=scorer.tokens_of(result.problem))
                keep(dataclasses.replace(result, stats=stats))
                scorer.release(result.problem)

            await strategy(config, expander, dialect, spending, progress).run(to_do, settled)
        found: Sequence[SearchResult] = run.read(asked) if run is not None else [results[problem.id] for problem in asked]
    return found[0] if isinstance(problems, str | Problem) else found


def greedy(
    problems: Problems,
    *,
    policy: PolicyLike = "nano",
    executor: Executor | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> SearchResult | Sequence[SearchResult]:
    """The policy's most likely solution of each problem, without search; its code is run.

    `search` with strategy="greedy": a policy given by name is loaded with temperature 0; any other is asked for one candidate at a
    time as it is.

    Args:
      problems, policy, executor, progress: as `search` takes them.
      **settings: settings of SearchConfig; max_depth, open_problems, budget and seed matter here.
    """
    return search(problems, policy=policy, executor=executor, progress=progress, **{**settings, "strategy": Strategy.GREEDY})


def sample(
    problems: Problems,
    samples: int = 16,
    *,
    policy: PolicyLike = "nano",
    executor: Executor | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> SearchResult | Sequence[SearchResult]:
    """Self-consistency: the majority's answer among `samples` independent solutions (Wang et al. 2022, arXiv 2203.11171).

    `search` with strategy="self_consistency". Each sample that gave an answer is a trajectory.

    Args:
      samples: solutions per problem, 1 to 16384.
      problems, policy, executor, progress, settings: as for `greedy`.
    """
    check_integer("samples", samples, 1)
    settings = {**settings, "strategy": Strategy.SELF_CONSISTENCY, "rollouts": samples}
    return search(problems, policy=policy, executor=executor, progress=progress, **settings)


class _Opened(contextlib.AsyncExitStack):
    """Closes, at the end of a search, the run, the sandbox and the models that the search itself opened."""

    def policy(self, policy: PolicyLike, **settings: Any) -> PolicyModel:
        model = policy_model(policy, **settings)
        self.push_async_callback(model.aclose)
        return model

    def models(self, config: SearchConfig, policy: PolicyLike, ppm: ScorerLike) -> tuple[PolicyModel, ScorerModel | None]:
        named: dict[str, Any] = {"seed": config.seed}
        if config.strategy is Strategy.GREEDY:
            named["temperature"] = 0.0
        elif config.strategy is Strategy.SELF_CONSISTENCY and isinstance(policy, str) and policy.startswith("vllm:"):
            named["logprobs"] = True  # the only policy that has to be asked for what the trajectories' score is made of
        proposer = self.policy(policy, **named)
        if not config.needs_scorer:
            return proposer, None
        scorer = scorer_model(ppm)
        self.push_async_callback(scorer.aclose)
        return proposer, scorer

    def executor(self, executor: Executor | None, config: SandboxConfig) -> Executor:
        if executor is not None:
            return executor
        sandbox = Sandbox(config=config)
        self.push_async_callback(sandbox.aclose)
        return sandbox

    def run(self, folder: str | Path, settings: Mapping[str, Any]) -> Run:
        run = Run.open(folder, settings)
        self.callback(run.close)
        return run


def _check_executor(executor: Executor | None) -> None:
    if executor is not None and not callable(getattr(executor, "run_batch", None)):
        raise InvalidInput(f"executor is {executor!r}: give an object with run_batch(programs), e.g. a Sandbox")


def merged_settings(config: SearchConfig | None, settings: Mapping[str, Any]) -> SearchConfig:
    """A search's settings: those of `config`, single ones overriding it.

    Raises:
      InvalidInput: `config` is none, or a setting is unknown or out of its range.
    """
    if config is None:
        return SearchConfig.from_mapping(settings)
    if not isinstance(config, SearchConfig):
        raise InvalidInput(f"config is {config!r}: give a SearchConfig, or its settings one by one, e.g. rollouts=16")
    return config.replace(**settings)


def _problems(problems: Problems) -> list[Problem]:
    if isinstance(problems, str | Problem):
        problems = [problems]
    if not isinstance(problems, Iterable):
        raise InvalidInput(f"problems is {problems!r}: give a question, a Problem, or a sequence of them")
    asked: list[Problem] = []
    by_id: dict[str, Problem] = {}
    for problem in problems:
        if isinstance(problem, str):
            if not problem.strip():
                raise InvalidInput(
                    f"problem {len(asked) + 1} is {problem!r}: a problem needs a question, give a non-empty string"
                )
            problem = Problem(problem)
        if not isinstance(problem, Problem):
            raise InvalidInput(f"problem {len(asked) + 1} is {problem!r}: give a question or a Problem")
        if by_id.setdefault(problem.id, problem).question != problem.question:
            raise InvalidInput(f"two different problems have the id {problem.id!r}: give each its own")
        asked.append(problem)
    return asked


def _reward(
    annotation: Annotation, answers: AnswerKey | Mapping[str, str] | None, asked: Sequence[Problem]
) -> TerminalReward | None:
    if not annotation.needs_key:
        if answers is not None:
            raise InvalidInput(
                'answers were given with annotation="inference", where search must not see them: leave them out, or give '
                'annotation="terminal" or "ppm"'
            )
        return None
    if answers is None:
        raise InvalidInput(f'annotation="{annotation.value}" grades against a key: give answers={{problem id: answer}}')
    if not isinstance(answers, Mapping):
        raise InvalidInput(f"answers is {answers!r}: give a mapping from problem id to answer")
    reward = TerminalReward(answers if isinstance(answers, AnswerKey) else AnswerKey(answers))
    missing = reward.missing(asked)
    if missing:
        raise InvalidInput(f"answers lack {len(missing)} of {len(asked)} problems, the first with id {missing[0]!r}: add them")
    return reward


def _valuation(scorer: ScorerModel | None, reward: TerminalReward | None) -> Valuation | None:
    if scorer is None:
        return None if reward is None else TerminalValuation(reward)
    return InferenceValuation(scorer) if reward is None else PpmValuation(scorer, reward)


def _manifest(config: SearchConfig, policy: PolicyLike, ppm: ScorerLike) -> dict[str, Any]:
    """What makes two runs the same: the settings and the models' names."""
    ppm_name = model_name(ppm) if config.needs_scorer else None
    settings, usual = config.recorded(), SandboxConfig().to_mapping()
    # Of the sandbox what may change a result, where it is not as usual.
    unusual = {name: settings["sandbox"][name] for name in _LIMITS if settings["sandbox"][name] != usual[name]}
    del settings["sandbox"]
    settings.pop("run_budget", None)  # it says how many are searched, not how: a run may be given more
    return {"search": settings | ({"sandbox": unusual} if unusual else {}), "policy": model_name(policy), "ppm": ppm_name}


def model_name(model: Any) -> str:
    """A model's name for the record: as it was given, or that of its function or class."""
    if isinstance(model, str | Path):
        return str(model)
    return getattr(model, "__qualname__", type(model).__qualname__)


def run_anywhere(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end; in a thread of its own where this one already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                outcome.set_result(runner.run(_await(task)))
        except BaseException as error:  # handed to the waiting thread, which raises it
            outcome.set_exception(error)

    thread = threading.Thread(target=work, name="rstar_fast.search")
    thread.start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        with contextlib.suppress(RuntimeError):  # the loop has just been closed: there is nothing left to cancel
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()


async def _await(task: asyncio.Task[T]) -> T:
    return await task
