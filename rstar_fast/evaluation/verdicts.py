"""Whether the answers that searches chose are right."""

from __future__ import annotations

from collections.abc import Sequence

from rstar_fast.types import FailureKind, SearchResult


def correctness(answers: Sequence[str], results: Sequence[SearchResult]) -> list[bool | None]:
    """Whether each result's answer is right.

    Args:
      answers: the key of each of the results.

    Returns:
      [N] verdicts. A problem that failed because no solution gave an answer, or as the run's budget was used up, is wrong; one that
      failed for another reason (the policy, the scorer or the sandbox failed) says nothing about the search and is None.
    """
    from rstar_fast.grading import grade_many

    verdicts = grade_many([(answer, result.answer or "") for answer, result in zip(answers, results, strict=True)])
    return [
        None if failed(result) else verdict.equal
        for result, verdict in zip(results, verdicts, strict=True)
    ]


def failed(result: SearchResult) -> bool:
    """Whether a search broke: it failed for another reason than that no solution gave an answer within the budgets."""
    return result.failure is not None and result.failure.kind not in (FailureKind.NO_ANSWER, FailureKind.BUDGET)
