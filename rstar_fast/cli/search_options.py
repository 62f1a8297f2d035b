"""Options of a search that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from rstar_fast.config import Aggregate, Choice, SearchConfig

Rollouts = Annotated[int | None, typer.Option(help="Complete solutions per problem.")]
Candidates = Annotated[int | None, typer.Option(help="Steps proposed at each node.")]
Trees = Annotated[int | None, typer.Option(help="Independent trees of a problem, with --strategy mcts.")]
Chosen = Annotated[Choice | None, typer.Option(help="How the answer is chosen.")]
Aggregated = Annotated[Aggregate | None, typer.Option(help="How a solution's score is made of those of its steps.")]
MaxTokens = Annotated[int | None, typer.Option(help="Tokens the policy may generate for a problem.")]
MaxSeconds = Annotated[float | None, typer.Option(help="Seconds that a problem may take.")]

ADAPTIVE_HELP = "End a problem when its vote stands. What it leaves is saved, or others get it where there is a run_budget."


def limited(config: SearchConfig, max_tokens: int | None, max_seconds: float | None) -> SearchConfig:
    """The settings with what a problem may spend, where options say so.

    Raises:
      InvalidInput: a limit is out of its range.
    """
    given = {name: limit for name, limit in (("tokens", max_tokens), ("seconds", max_seconds)) if limit is not None}
    return config.replace(budget=config.budget.replace(**given)) if given else config
