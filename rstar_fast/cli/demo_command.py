"""`rstar-fast demo`: trees growing in the terminal, then greedy against search on held-out problems. CPU, no download."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Drawing

from rstar_fast.cli.progress import SearchProgress, duration
from rstar_fast.cli.rendering import headline, result_lines, visible
from rstar_fast.config import SandboxConfig, SearchConfig
from rstar_fast.evaluation import correctness, wilson
from rstar_fast.types import Expansion, NewStep, Problem, ProgressEvent, SearchResult

if TYPE_CHECKING:
    from rstar_fast.nano import Record

_SHOWN_PROBLEMS = 3
_QUESTION, _KEY = "What is the remainder when 7^100 is divided by 13?", "9"
_CHILDREN_SHOWN = 3  # of a node, besides those that grew on
_HEADLINE = 56


def demo(
    problems: Annotated[int, typer.Option(min=1, help="Held-out problems for greedy against search.")] = 40,
    rollouts: Annotated[int, typer.Option(min=1, help="Complete solutions per problem.")] = 8,
    candidates: Annotated[int, typer.Option(min=1, help="Steps proposed at each node.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the problems and the policy.")] = 1,
) -> None:
    """Search a few problems live, then measure greedy against search on held-out nano problems. Needs no GPU."""
    console = Console()
    started = time.monotonic()
    console.print("loading the nano models ...", style="dim")
    from rstar_fast.nano import generate

    records = generate("heldout", _SHOWN_PROBLEMS + problems, seed)
    # The steps of these problems take milliseconds: one that loops for ever does not hold up the others.
    config = SearchConfig(rollouts=rollouts, candidates=candidates, seed=seed, sandbox=SandboxConfig(timeout_s=1.0))
    shown = [(record.problem, record.answer) for record in records[:_SHOWN_PROBLEMS]]
    for problem, key in [*shown, (Problem(_QUESTION), _KEY)]:
        _show(console, problem, key, config)
    _measure(console, records[_SHOWN_PROBLEMS:], config)
    console.print(f"the demo took {duration(time.monotonic() - started)}", style="dim")


class GrowingTree:
    """A progress callback that draws the tree of one problem as it grows; live on a terminal, once at the end elsewhere."""

    def __init__(self, console: Console, problem: Problem) -> None:
        self._console, self._problem = console, problem
        self._steps: dict[str, NewStep] = {}
        self._children: dict[str, list[str]] = {}
        # A live drawing taller than the terminal would flicker: its end is cut off, the final one is whole.
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
        elif kind is None:
            self._console.print(self.drawing())

    def __call__(self, event: ProgressEvent) -> None:
        if not isinstance(event, Expansion):
            return
        for child in event.children:
            self._steps[child.tag] = child
        self._children[event.parent_tag] = [child.tag for child in event.children]
        if self._live is not None:
            self._live.update(self.drawing(), refresh=True)

    def drawing(self) -> Drawing:
        """The tree so far: of each node the children that grew on, and the best-valued of the others."""
        root = Drawing(Text(visible(self._problem.question), style="bold"))
        waiting = [("0", root)]
        while waiting:
            tag, branch = waiting.pop()
            for child in self._chosen(tag):
                waiting.append((child, branch.add(self._label(self._steps[child]))))
            left_out = len(self._children.get(tag, ())) - len(self._chosen(tag))
            if left_out > 0:
                branch.add(Text(f"and {left_out} more", style="dim"))
        return root

    def _chosen(self, tag: str) -> list[str]:
        children = self._children.get(tag, [])
        grown = [child for child in children if child in self._children]
        others = [child for child in children if child not in self._children]
        others.sort(key=lambda child: -_or_least(self._steps[child].score))
        kept = {*grown, *others[: max(0, _CHILDREN_SHOWN - len(grown))]}
        return [child for child in children if child in kept]

    @staticmethod
    def _label(step: NewStep) -> Text:
        label = Text()
        if not math.isnan(step.score):
            label.append(f"{step.score:+.2f}  ", style="green" if step.score > 0 else "red")
        label.append(headline(step.text, _HEADLINE))
        printed = step.observation.strip()
        if printed:
            label.append(f"  prints {visible(' '.join(printed.split()))[:24]}", style="cyan")
        if step.answer is not None:
            label.append(f"  answer {visible(step.answer)[:24]}", style="bold yellow")
        elif step.terminal.failed:
            label.append("  given up", style="dim")
        return label


def _or_least(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def _show(console: Console, problem: Problem, key: str, config: SearchConfig) -> None:
    import rstar_fast
    from rstar_fast.grading import grade

    console.print()
    with GrowingTree(console, problem) as growing:
        result = rstar_fast.search(problem, config=config, progress=growing)
    console.print()
    console.print(Text("\n".join(result_lines(result))))
    if result.failure is None:
        right = grade(key, result.answer or "").equal
        console.print(Text(f"right: the answer is {key}" if right else f"wrong: the answer is {key}", style="green" if right else "red"))
    console.rule(style="dim")


def _measure(console: Console, records: Sequence[Record], config: SearchConfig) -> None:
    import rstar_fast

    problems = [record.problem for record in records]
    console.print(f"\n{len(problems)} held-out problems, first greedily, then by search:")
    with SearchProgress(len(problems), console, "greedy") as progress:
        # A few at a time, so that the bar moves.
        greedy = rstar_fast.search.greedy(
            problems, progress=progress, seed=config.seed, max_depth=config.max_depth, open_problems=8, candidates=1, sandbox=config.sandbox
        )
    with SearchProgress(len(problems), console, "search") as progress:
        searched = rstar_fast.search(problems, config=config, progress=progress)
    console.print()
    console.print(accuracy_table(records, {"greedy": greedy, "search": searched}))


def accuracy_table(records: Sequence[Record], methods: dict[str, Sequence[SearchResult]]) -> Group:
    """How many problems each method got right, by level and in all, with 95% intervals.

    A problem that failed for want of an answer is not right; one that failed for another reason is left out and said.
    """
    table = Table("level", *methods)
    correct = {name: correctness([record.answer for record in records], results) for name, results in methods.items()}
    for level in sorted({record.level for record in records}):
        at = [i for i, record in enumerate(records) if record.level == level]
        table.add_row(str(level), *(_share([verdicts[i] for i in at]) for verdicts in correct.values()))
    table.add_section()
    table.add_row("all", *(_share(verdicts) for verdicts in correct.values()))
    table.add_row("95%", *(_interval(verdicts) for verdicts in correct.values()), style="dim")
    left_out = [f"{name}: {verdicts.count(None)}" for name, verdicts in correct.items() if None in verdicts]
    return Group(table, *([Text(f"failed and left out: {', '.join(left_out)}")] if left_out else []))


def _share(verdicts: Sequence[bool | None]) -> str:
    graded = [verdict for verdict in verdicts if verdict is not None]
    return f"{sum(graded)}/{len(graded)}  {sum(graded) / len(graded):.0%}" if graded else "-"


def _interval(verdicts: Sequence[bool | None]) -> str:
    graded = [verdict for verdict in verdicts if verdict is not None]
    low, high = wilson(sum(graded), len(graded))
    return f"{low:.0%} to {high:.0%}"
