"""`rstar_fast.evaluate`: searches the problems of a benchmark, grades what is found, and says how good that is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rstar_fast.config import Annotation, SearchConfig, Strategy
from rstar_fast.evaluation.benchmarks import BENCHMARKS, benchmark_named, load_problems
from rstar_fast.evaluation.metrics import metrics_of
from rstar_fast.evaluation.outcomes import RESULTS, Outcome, outcome_of, read_outcomes
from rstar_fast.search import search
from rstar_fast.search.api import merged_settings, model_name
from rstar_fast.storage import ProblemFile, Run
from rstar_fast.storage.atomic import write_whole
from rstar_fast.storage.manifest import FILE as MANIFEST
from rstar_fast.types import AnswerKey, Executor, Finished, InvalidInput, Problem, ProgressEvent

SUMMARY = "evaluation.json"
_CLOCK = "seconds.json"
FORMAT, FORMAT_VERSION = "rstar_fast evaluation", 1
Problems = str | Path | ProblemFile | Iterable[Problem]
_LIBRARIES = ("rstar_fast", "numpy", "torch", "transformers", "math-verify", "sympy")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation.

    Attributes:
      summary: settings, data, metrics with intervals, by level and type, failures, what it cost, versions: plain values, as in
        evaluation.json.
      outcomes: what came of each problem, in the order given.
      folder: where it lies; None in memory.
    """

    summary: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]
    folder: Path | None = None

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """Name -> value, low, high, problems (`metrics_of`)."""
        return self.summary["metrics"]  # type: ignore[no-any-return]

    @property
    def accuracy(self) -> float | None:
        """The share of chosen answers that are right; None where every search broke."""
        return self.metrics["accuracy"]["value"]  # type: ignore[no-any-return]

    @property
    def verdicts(self) -> dict[str, bool | None]:
        """Problem id -> whether the chosen answer is right; None where the search broke."""
        return {outcome.id: outcome.right for outcome in self.outcomes}


def evaluate(
    problems: Problems,
    *,
    answers: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    policy: Any = "nano",
    ppm: Any = "nano",
    strategy: Strategy | str | None = None,
    config: SearchConfig | None = None,
    file: str | Path | None = None,
    sample: int | None = None,
    seed: int | None = None,
    retry_failed: bool = False,
    progress: Callable[[ProgressEvent], object] | None = None,
    executor: Executor | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluates a policy, a PPM and a way to search on problems with a key.

    Args:
      problems: the name of a benchmark ("gsm8k", "math-500", ...; `benchmarks.BENCHMARKS`), a problem file, a `ProblemFile`, or
        `Problem`s, whose key is `answers`.
      answers: the key of `Problem`s, problem id -> answer.
      out: the evaluation's folder: the run of the search, results.jsonl with a line for each problem, evaluation.json. An evaluation
        found there goes on where it was interrupted. In memory only when None.
      name: what the problems are called; where they come from by default.
      policy, ppm, executor: as `rstar_fast.search` takes them.
      strategy: how solutions are found (`Strategy`): "mcts", "best_of_n", "greedy", ...; by default what `config` says.
      config: settings of the search; single ones (rollouts=16, ...) override it.
      file: a local copy of the benchmark, a file or a data set's folder, instead of the one on the hub.
      sample: only so many of the problems, drawn by `seed`, each level as far as possible with its share.
      seed: of the problems drawn, of the policy given by name, and of the bootstrap; that of `config` by default.
      retry_failed: search problems again whose search broke or was cut short by the run's budget.
      progress: told a `ProgressEvent` at every expansion and finished problem.

    Raises:
      InvalidInput: an argument is unusable, a problem lacks its answer, or `out` holds something else.
    """
    if seed is None:
        seed = config.seed if isinstance(config, SearchConfig) else 0
    asked = config_of(config, {"seed": seed, **settings, **({} if strategy is None else {"strategy": strategy})})
    given = drawn(given_problems(problems, answers, file), sample, seed)
    check_key(given)
    folder = None if out is None else Path(out)
    told = {
        "data": name or data_name(problems),
        "strategy": asked.strategy.value,
        "policy": model_name(policy),
        "ppm": model_name(ppm) if asked.needs_scorer else None,
        "sample": sample,
        "seed": seed,
        "search": _unusual(asked),
    }
    digest = digest_of(given)
    _check_same_problems(folder, digest)
    if retry_failed and folder is not None and (folder / MANIFEST).exists():
        # Searches nothing, but refuses a run with other settings: what a refused call would have forgotten is lost.
        search([], policy=policy, ppm=ppm, config=asked, run_dir=folder, executor=executor)
        with Run.open(folder, None) as run:
            run.finished(given.problems)
            (folder / SUMMARY).unlink(missing_ok=True)  # until the retry has ended, nothing here is finished
            run.forget_failures()
    clock = _Clock(folder)
    with clock.running():
        results = search(
            given.problems, policy=policy, ppm=ppm, config=asked, run_dir=folder, progress=clock.told(progress), executor=executor
        )
        outcomes = tuple(
            outcome_of(result, given.answers[result.problem.id], given.labels.get(result.problem.id, {}), asked.strategy.samples)
            for result in results
        )
    summary = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "settings": told,
        "problems": {"count": len(given.problems), "digest": digest},
        **metrics_of(outcomes, seed, asked.adaptive),
        "wall_seconds": round(clock.seconds, 3),
        "versions": versions(),
    }
    summary = json.loads(json.dumps(summary))
    if folder is not None:
        write_whole(folder / RESULTS, "".join(f"{outcome.to_json()}\n" for outcome in outcomes))
        write_whole(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
    return Evaluation(summary, outcomes, folder)


def given_problems(problems: Problems, answers: Mapping[str, str] | None = None, file: str | Path | None = None) -> ProblemFile:
    """Problems and their key, however they are given.

    Raises:
      InvalidInput: they are no problems, or a key is given where there is one, or twice the same id.
    """
    if isinstance(problems, str | Path | ProblemFile):
        if answers is not None:
            raise InvalidInput("answers are the key of Problem objects: a benchmark and a file have their own, leave them out")
        return problems if isinstance(problems, ProblemFile) else load_problems(problems, file)
    asked = list(problems) if isinstance(problems, Iterable) else [problems]
    for problem in asked:
        if not isinstance(problem, Problem):
            raise InvalidInput(f"problems hold {problem!r}: give the name of a benchmark, a problem file, or Problem objects with answers")
    if not asked or len({problem.id for problem in asked}) < len(asked):
        raise InvalidInput("problems are none, or two have the same id: give at least one, and each its own")
    return ProblemFile(tuple(asked), AnswerKey(answers or {}))


def load_evaluation(folder: str | Path) -> Evaluation:
    """Reads a finished evaluation.

    Raises:
      InvalidInput: the folder holds none, it is damaged, or a newer rstar_fast wrote it.
    """
    folder = Path(folder)
    outcomes = read_outcomes(folder)
    path = folder / SUMMARY
    try:
        summary = json.loads(path.read_text("utf-8"))
        if summary["format"] != FORMAT:
            raise ValueError(f"its format is {summary['format']!r}")
        newer = summary["format_version"] > FORMAT_VERSION
        if not newer and not isinstance(summary["metrics"], dict):
            raise ValueError("it has no metrics")
    except FileNotFoundError:
        raise InvalidInput(f"{folder} holds no finished evaluation: the same command that began it ends it") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{path} is no evaluation ({error}): evaluate into the folder again") from None
    if newer:
        raise InvalidInput(f"{path} has format version {summary['format_version']}, this rstar_fast reads up to {FORMAT_VERSION}: upgrade it")
    return Evaluation(summary, tuple(outcomes), folder)


def _check_same_problems(folder: Path | None, digest: str) -> None:
    """Whether an evaluation that the folder holds is of the same problems.

    Raises:
      InvalidInput: it is of others.
    """
    if folder is None:
        return
    try:
        there = json.loads((folder / SUMMARY).read_text("utf-8"))["problems"]["digest"]
    except (OSError, ValueError, TypeError, KeyError):
        return  # none is finished there
    if there != digest:
        raise InvalidInput(f"{folder} holds an evaluation of other problems, or of others of them: give another folder")


def drawn(given: ProblemFile, sample: int | None, seed: int) -> ProblemFile:
    """So many of the problems, in their order: each level with its share, by largest remainders; all with None.

    Raises:
      InvalidInput: there are not so many.
    """
    if sample is None:
        return given
    total = len(given.problems)
    if not isinstance(sample, int) or isinstance(sample, bool) or not 1 <= sample <= total:
        raise InvalidInput(f"sample is {sample!r}: give 1 to {total}, the number of problems")
    by_level: dict[str, list[int]] = {}
    for at, problem in enumerate(given.problems):
        by_level.setdefault(given.labels.get(problem.id, {}).get("level", ""), []).append(at)
    shares = {level: sample * len(of_level) / total for level, of_level in by_level.items()}
    taken = {level: int(share) for level, share in shares.items()}
    for level in sorted(shares, key=lambda level: (taken[level] - shares[level], level))[: sample - sum(taken.values())]:
        taken[level] += 1
    chance = random.Random(seed)
    kept = sorted(at for level in sorted(by_level) for at in chance.sample(by_level[level], taken[level]))
    problems = tuple(given.problems[at] for at in kept)
    ids = {problem.id for problem in problems}
    answers = AnswerKey({name: given.answers[name] for name in given.answers if name in ids})
    return ProblemFile(problems, answers, given.malformed, {name: labels for name, labels in given.labels.items() if name in ids})


def check_key(given: ProblemFile) -> None:
    """Whether every problem has an answer.

    Raises:
      InvalidInput: one has none.
    """
    missing = [problem.id for problem in given.problems if problem.id not in given.answers]
    if missing:
        raise InvalidInput(
            f"{len(missing)} of {len(given.problems)} problems have no answer, the first has the id {missing[0]!r}: "
            "an evaluation grades against a key, give each record an 'answer'"
        )


def parted_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`evaluate`'s settings: those of the search, and those of its own; the seed is of both."""
    own = ("policy", "ppm", "sample", "retry_failed", "executor", "seed")
    of_search = {name: value for name, value in settings.items() if name not in own or name == "seed"}
    return of_search, {name: value for name, value in settings.items() if name in own}


def config_of(config: SearchConfig | None, settings: Mapping[str, Any]) -> SearchConfig:
    """The settings of an evaluation's search.

    Raises:
      InvalidInput: one is unknown or out of its range, two do not fit, or the search would be shown the key.
    """
    merged = merged_settings(config, settings)
    if merged.annotation is not Annotation.INFERENCE:
        raise InvalidInput(f'annotation is "{merged.annotation.value}": an evaluation searches without the key, give "inference"')
    return merged


def of_strategy(usual: SearchConfig, strategy: Strategy, rollouts: int) -> SearchConfig:
    """The settings of a search by one of several strategies: where it does not take what is asked of all, it goes without.

    Beams and subtrees are as wide as `beam_width` says.

    Raises:
      InvalidInput: the rollouts are out of their range.
    """
    return usual.replace(
        strategy=strategy,
        rollouts=1 if strategy is Strategy.GREEDY else rollouts,
        trees=min(usual.trees, rollouts) if strategy.takes_trees else 1,
        adaptive=usual.adaptive and strategy.may_adapt,
        candidates=beam_width(usual.candidates, rollouts) if strategy.takes_beams else usual.candidates,
    )


def beam_width(candidates: int, rollouts: int) -> int:
    """The steps asked for at each beam where a sweep gives beams and subtrees so many rollouts.

    The largest divisor of the rollouts that is at most `candidates` and at most their square root, which is one of the two widths of
    Snell et al. (2024, arXiv 2408.03314, section 5.2): there are no fewer beams than steps asked for at each.
    """
    widest = min(candidates, math.isqrt(rollouts))
    return next(width for width in range(widest, 0, -1) if rollouts % width == 0)


def _unusual(config: SearchConfig) -> dict[str, Any]:
    """The settings of a search that are not as usual, without those that stand elsewhere in the record."""
    usual = SearchConfig().to_mapping()
    elsewhere = ("seed", "strategy")
    return {name: value for name, value in config.to_mapping().items() if value != usual[name] and name not in elsewhere}


def digest_of(given: ProblemFile) -> str:
    """Tells sets of problems and keys apart."""
    lines = [json.dumps([problem.id, problem.question, given.answers[problem.id]]) for problem in given.problems]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def versions() -> dict[str, str]:
    """The versions of what a number may depend on."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def data_name(problems: Problems) -> str:
    """What problems are called where no name is given."""
    if not isinstance(problems, str | Path):
        return "problems"
    benchmark = benchmark_named(str(problems))
    return str(problems) if benchmark is None else BENCHMARKS[benchmark].title


class _Clock:
    """Wall-clock time of an evaluation over all the calls that it took; that of a killed one is lost."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / _CLOCK
        self.seconds = 0.0
        self._searched = False
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                self.seconds = float(json.loads(self._path.read_text("utf-8")))

    def told(self, progress: Callable[[ProgressEvent], object] | None) -> Callable[[ProgressEvent], object]:
        """`progress`, through which the clock learns whether anything was searched: reading what is there is no work."""

        def tell(event: ProgressEvent) -> None:
            self._searched |= not (isinstance(event, Finished) and event.restored)
            if progress is not None:
                progress(event)

        return tell

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            if self._searched:
                self.seconds += time.monotonic() - started
            if self._searched and self._path is not None and self._path.parent.is_dir():
                write_whole(self._path, json.dumps(self.seconds))
