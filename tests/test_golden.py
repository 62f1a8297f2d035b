"""The reference's trees, node by node, through the public API with scripted policies and scorers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rstar_fast
from rstar_fast import Candidate, Partial, Problem, SearchConfig
from rstar_fast.sandbox import Sandbox

GOLDEN = Path(__file__).parent / "golden"
MODES = ("terminal", "ppm", "inference")


def read(mode: str) -> list[dict[str, Any]]:
    with gzip.open(GOLDEN / f"{mode}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class ScriptedPolicy:
    def __init__(self, goldens: Sequence[dict[str, Any]]) -> None:
        self._candidates = {
            (golden["question"], entry["solution"]): [Candidate(c["text"], c["stop"] or None) for c in entry["candidates"]]
            for golden in goldens
            for entry in golden["policy"]
        }

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        found = [self._candidates[p.problem.question, p.solution] for p in partials]
        assert all(len(candidates) <= n for candidates in found)
        return found


class ScriptedScorer:
    def __init__(self, goldens: Sequence[dict[str, Any]]) -> None:
        self._scores = {
            (golden["question"], entry["solution"]): entry["score"] for golden in goldens for entry in golden["ppm"]
        }

    async def score(self, partials: Sequence[Partial]) -> np.ndarray:
        return np.array([self._scores[p.problem.question, p.solution] for p in partials])


@pytest.fixture(scope="module")
def sandbox() -> Any:
    with Sandbox(workers=2) as sandbox:
        yield sandbox


@pytest.mark.parametrize("mode", MODES)
def test_every_tree_is_reproduced(mode: str, sandbox: Sandbox) -> None:
    """All problems of one settings group are searched together: what shares a batch must not touch another's tree."""
    goldens = read(mode)
    assert len(goldens) == 24
    groups: dict[str, list[dict[str, Any]]] = {}
    for golden in goldens:
        groups.setdefault(json.dumps(golden["settings"], sort_keys=True), []).append(golden)
    for group in groups.values():
        problems = [Problem(golden["question"], f"{mode} {golden['seed']} {i}") for i, golden in enumerate(group)]
        answers = {problem.id: golden["answer"] for problem, golden in zip(problems, group, strict=True)}
        results = rstar_fast.search(
            problems,
            policy=ScriptedPolicy(group),
            ppm=ScriptedScorer(group),
            config=SearchConfig.reference(mode, **group[0]["settings"]),
            answers=None if mode == "inference" else answers,
            executor=sandbox,
        )
        for result, golden in zip(results, group, strict=True):
            check(result, golden)


def check(result: rstar_fast.SearchResult, golden: dict[str, Any]) -> None:
    tree = result.tree
    assert tree is not None
    nodes = {node.tag: node for node in tree}
    assert set(nodes) == set(golden["tree"])
    for tag, expected in golden["tree"].items():
        node = nodes[tag]
        found = {
            "text": node.text,
            "final_answer": node.answer or "",
            "observation": node.observation,
            "visit_count": node.visits,
        }
        wanted = {name: expected.get(name) or type(found[name])() for name in found}
        assert found == wanted, f"{golden['question']} {tag}"
        assert node.value == pytest.approx(expected["value"], abs=1e-9), f"{golden['question']} {tag}"
        assert node.q == pytest.approx(expected["q_value"], abs=1e-9), f"{golden['question']} {tag}"


def test_the_scripts_are_not_all_alike() -> None:
    """The golden trees hold what they are there for: failed steps, answers, depth limits."""
    answers = [node.get("final_answer") for mode in MODES for golden in read(mode) for node in golden["tree"].values()]
    assert sum("consecutive" in (answer or "") for answer in answers) > 100
    assert sum("limited steps" in (answer or "") for answer in answers) > 10
    assert sum((answer or "").isdigit() for answer in answers) > 500
