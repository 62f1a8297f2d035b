"""`rstar-fast search`: a question, or a file of problems into a run folder."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rstar_fast.cli.config_file import load_config
from rstar_fast.cli.progress import SearchProgress
from rstar_fast.cli.rendering import one_line, result_json, result_lines, this_command
from rstar_fast.cli.search_options import ADAPTIVE_HELP, Aggregated, Candidates, Chosen, MaxSeconds, MaxTokens, Rollouts, Trees, limited
from rstar_fast.config import Annotation, SearchConfig, Strategy
from rstar_fast.evaluation import failed, wilson
from rstar_fast.storage import ProblemFile, Run, looks_like_problem_file, read_problems
from rstar_fast.types import AnswerKey, Failure, InvalidInput, Problem, SearchResult

_FAILURES_LISTED = 20
_FILE_NAME = re.compile(r"[\w./~-]*\w\.[A-Za-z]\w{0,7}")  # one word with a suffix, e.g. problems.txt


def search(
    problems: Annotated[str, typer.Argument(help="A question, or a file of problems: .jsonl, .json, .csv or .parquet.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; a run found there is continued.")] = None,
    policy: Annotated[str, typer.Option(help="nano, a checkpoint, vllm:NAME, or the URL of a server.")] = "nano",
    ppm: Annotated[str, typer.Option(help="nano, a checkpoint, vllm:NAME, or the URL of a server.")] = "nano",
    config: Annotated[Path | None, typer.Option(help="YAML file of search settings; options override it.")] = None,
    annotation: Annotated[Annotation | None, typer.Option(help="Where the values of steps come from.")] = None,
    strategy: Annotated[Strategy | None, typer.Option(help="How solutions are found.")] = None,
    rollouts: Rollouts = None,
    candidates: Candidates = None,
    max_depth: Annotated[int | None, typer.Option(help="Most steps of a solution.")] = None,
    in_flight: Annotated[int | None, typer.Option(help="Rollouts in flight in one tree.")] = None,
    trees: Trees = None,
    choice: Chosen = None,
    aggregate: Aggregated = None,
    adaptive: Annotated[bool, typer.Option("--adaptive", help=ADAPTIVE_HELP)] = False,
    max_tokens: MaxTokens = None,
    max_seconds: MaxSeconds = None,
    seed: Annotated[int | None, typer.Option(help="Seeds the policy.")] = None,
    skip_malformed: Annotated[bool, typer.Option("--skip-malformed", help="Leave malformed lines out, and list them.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Search failed problems of the run again, and those its budget cut short; not those without an answer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results as JSON, one line each.")] = False,
) -> None:
    """Search for the answer of a question, or of every problem of a file.

    A run in a folder (--out) can be interrupted at any time; the same command continues it.
    """
    options = {"rollouts": rollouts, "candidates": candidates, "max_depth": max_depth, "in_flight": in_flight, "seed": seed}
    options |= {"annotation": annotation, "choice": choice, "strategy": strategy, "trees": trees, "aggregate": aggregate}
    options |= {"adaptive": adaptive or None}
    settings = _settings(config, {name: value for name, value in options.items() if value is not None})
    settings = limited(settings, max_tokens, max_seconds)
    given = _problems(problems, skip_malformed)
    if retry_failed:
        _forget_failures(out)
    results = _searched(given, policy, ppm, settings, out)
    if not looks_like_file(problems):
        _show_one(results[0], as_json)
    else:
        _show_many(results, given, out, as_json)


def looks_like_file(argument: str) -> bool:
    """Whether the argument means a file: it exists, has a suffix of problem files, or is one word like "problems.txt"."""
    if looks_like_problem_file(argument) or _FILE_NAME.fullmatch(argument):
        return True
    try:
        return bool(argument.strip()) and Path(argument).exists()
    except (OSError, ValueError):  # too long, or with a NUL: no file name
        return False


def _settings(path: Path | None, options: Mapping[str, Any]) -> SearchConfig:
    return SearchConfig.from_mapping({**(load_config(path) if path is not None else {}), **options})


def _problems(argument: str, skip_malformed: bool) -> ProblemFile:
    if not looks_like_file(argument):
        return ProblemFile((Problem(argument),), AnswerKey({}))
    given = read_problems(argument, skip_malformed=True)
    unit = "record" if Path(argument).suffix.lower() in (".json", ".parquet") else "line"  # what MalformedRow.line counts
    if given.malformed and not skip_malformed:
        first, more = given.malformed[0], len(given.malformed) - 1
        others = f" (and {more} more malformed {unit}{'s' if more > 1 else ''})" if more else ""
        raise InvalidInput(
            f"{argument}, {unit} {first.line}: {first.reason}{others}; "
            "mend the file, or search the rest of it with --skip-malformed"
        )
    for row in given.malformed:
        typer.echo(f"skipped {one_line(argument)}, {unit} {row.line}: {one_line(row.reason)}", err=True)
    return given


def _searched(given: ProblemFile, policy: str, ppm: str, settings: SearchConfig, out: Path | None) -> Sequence[SearchResult]:
    answers = None
    if settings.annotation.needs_key:
        answers = given.answers
        missing = sum(problem.id not in answers for problem in given.problems)
        if missing:
            raise InvalidInput(
                f"--annotation {settings.annotation.value} grades against a key, but {missing} of {len(given.problems)} "
                "problems have no answer: give a file whose records all have an 'answer'"
            )
    import rstar_fast  # the models' libraries take seconds to load: not before the input is known to be good

    progress = SearchProgress(len(given.problems), Console(stderr=True))
    try:
        with progress:
            return rstar_fast.search(
                list(given.problems), policy=policy, ppm=ppm, config=settings, answers=answers, run_dir=out, progress=progress
            )
    except KeyboardInterrupt:
        done, total = progress.meter.done, progress.meter.total
        if out is None:
            typer.echo("interrupted, nothing is kept: with --out FOLDER a run continues where it stopped", err=True)
        else:
            typer.echo(
                f"interrupted: {done} of {total} problems are finished and kept in {out}; to continue: {this_command()}", err=True
            )
        raise typer.Exit(130) from None


def _forget_failures(out: Path | None) -> None:
    if out is None:
        raise InvalidInput("--retry-failed needs the folder of the run: give --out FOLDER")
    with Run.open(out, None) as run:
        typer.echo(f"searching {run.forget_failures()} failed problems again", err=True)


def _show_one(result: SearchResult, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result_json(result)))
    else:
        typer.echo("\n".join(result_lines(result)))
    if result.failure is not None:
        raise typer.Exit(1)


@dataclass(slots=True)
class _Summary:
    """What became of the problems of a file.

    Attributes:
      failures: problem id -> why it failed.
      correct: problem id -> the key's verdict; failures other than "no answer" say nothing about the search and have none.
    """

    total: int
    failures: dict[str, Failure] = field(default_factory=dict)
    correct: dict[str, bool] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The summary for a reader."""
        lines = [f"solved    {self.total - len(self.failures)} of {self.total}"]
        if self.failures:
            counts = Counter(failure.kind.value for failure in self.failures.values())
            lines.append(f"failed    {', '.join(f'{count} {kind}' for kind, count in counts.most_common())}")
            for problem_id, failure in list(self.failures.items())[:_FAILURES_LISTED]:
                lines.append(f"  {one_line(problem_id)}: {one_line(str(failure))}")
            if len(self.failures) > _FAILURES_LISTED:
                lines.append(f"  and {len(self.failures) - _FAILURES_LISTED} more")
        if self.correct:
            right, graded = sum(self.correct.values()), len(self.correct)
            low, high = wilson(right, graded)
            lines.append(f"correct   {right} of {graded}, {right / graded:.1%} (95% interval {low:.1%} to {high:.1%})")
        return lines


def _summary(results: Iterable[SearchResult], answers: AnswerKey, total: int) -> _Summary:
    summary = _Summary(total)
    pairs: dict[str, tuple[str, str]] = {}
    for result in results:
        problem_id = result.problem.id
        if result.failure is not None:
            summary.failures[problem_id] = result.failure
        if problem_id in answers and not failed(result):
            pairs[problem_id] = (answers[problem_id], result.answer or "")
    if pairs:
        from rstar_fast.grading import grade_many

        verdicts = grade_many(list(pairs.values()))
        summary.correct = {problem_id: verdict.equal for problem_id, verdict in zip(pairs, verdicts, strict=True)}
    return summary


def _show_many(results: Sequence[SearchResult], given: ProblemFile, out: Path | None, as_json: bool) -> None:
    summary = _summary(results, given.answers, len(given.problems))
    if as_json:
        for result in results:
            typer.echo(json.dumps(result_json(result, summary.correct.get(result.problem.id))))
    elif out is None:
        for result in results:
            if result.failure is None:
                typer.echo(f"{one_line(result.problem.id)}  {one_line(result.answer or '')}")
    lines = summary.lines()
    if out is not None:
        lines.append(f"results   {one_line(str(out))}")
    typer.echo("\n".join(lines), err=as_json)
    if len(summary.failures) == summary.total:
        raise typer.Exit(1)
