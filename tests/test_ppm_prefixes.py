"""Prefix trees of tokens, their slots and pages, without a model: what is planned can be computed, and is computed once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_fast.ppm.prefixes import PAGE_TOKENS, Prefixes, Run

Sequence = tuple[str, tuple[int, ...]]  # a problem and its tokens


@dataclass
class Pool:
    """Stands for the model: a token's score follows from all tokens up to it, which are read where they are said to lie."""

    pages: int
    prefixes: Prefixes = field(init=False)
    memory: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    computed: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prefixes = Prefixes(self.pages)

    def run_pass(self, problem_of: dict[Run, str], runs: list[Run]) -> None:
        scores = []
        for run in runs:  # all keys are there before anybody attends, as in a layer
            path = tuple(int(token) for before in run.path() for token in before.tokens)
            assert run.slots is not None and len(run.slots) == len(run.tokens) > 0
            for place, slot in enumerate(run.slots.tolist()):
                assert 0 <= slot < self.pages * PAGE_TOKENS
                self.memory[slot] = (problem_of[run.path()[0]], path[: run.start + place + 1])
        for run in runs:
            before = [slot for above in run.path() for slot in above.slots.tolist()]  # type: ignore[union-attr]
            assert len(set(before)) == len(before)
            for position, slot in enumerate(before):
                problem, seen = self.memory[slot]
                assert len(seen) == position + 1
            end = self.memory[before[-1]]
            assert all(self.memory[slot] == (end[0], end[1][: position + 1]) for position, slot in enumerate(before))
            for position in range(run.start, run.end):
                self.computed.append((end[0], end[1][: position + 1]))
                scores.append(score_of(end[0], end[1][: position + 1]))
        self.prefixes.commit(runs, np.array(scores, np.float32))

    def score(self, sequences: list[Sequence], most: int) -> list[float]:
        ends = {sequence: self.prefixes.insert(sequence[0], np.array(sequence[1], np.int32)) for sequence in sequences}
        scores: dict[Sequence, float] = {}
        while True:
            for sequence, end in ends.items():
                if sequence not in scores and (values := self.prefixes.values(end, 1)) is not None:
                    scores[sequence] = values.item()
            waiting = [sequence for sequence in ends if sequence not in scores]
            if not waiting:
                break
            runs = self.prefixes.plan([ends[sequence] for sequence in waiting], most)
            assert runs and sum(len(run.tokens) for run in runs) <= most and len(set(runs)) == len(runs)
            for run in runs:
                assert run.values is None and run.parent is not None
                assert run.parent.parent is None or run.parent.slots is not None
            # Of the roots' children, by whom they are known.
            problem_of = {ends[sequence].path()[0]: sequence[0] for sequence in ends}
            self.run_pass(problem_of, runs)
            self.check()
        self.prefixes.prune(list(ends.values()))
        self.check()
        return [scores[sequence] for sequence in sequences]

    def check(self) -> None:
        """No two runs share a slot, and pages are in use exactly where one holds something."""
        held = [slot for run in self.prefixes._computed for slot in run.slots.tolist()]  # type: ignore[union-attr]
        assert len(set(held)) == len(held)
        assert self.prefixes.pages_in_use == len({slot // PAGE_TOKENS for slot in held}) <= self.pages
        for run in self.prefixes._computed:
            assert run.parent is not None and (run.parent.parent is None or run.parent.slots is not None)


def score_of(problem: str, tokens: tuple[int, ...]) -> float:
    return float(np.float32(hash((problem, tokens)) % 65_521))


def unique(sequences: list[Sequence]) -> set[Sequence]:
    return {(problem, tokens[: n + 1]) for problem, tokens in sequences for n in range(len(tokens))}


SEQUENCES = st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 2), min_size=1, max_size=40).map(tuple))
BATCHES = st.lists(st.lists(SEQUENCES, min_size=1, max_size=8), min_size=1, max_size=4)


@given(BATCHES, st.integers(1, 60))
def test_with_room_each_token_is_computed_once(batches: list[list[Sequence]], most: int) -> None:
    pool = Pool(400)
    for batch in batches:
        assert pool.score(batch, most) == [score_of(*sequence) for sequence in batch]
    everything = list(itertools.chain(*batches))
    assert len(pool.computed) == len(unique(everything)) and set(pool.computed) == unique(everything)


@given(BATCHES, st.integers(1, 60), st.integers(3, 8))
def test_without_room_scores_are_the_same(batches: list[list[Sequence]], most: int, pages: int) -> None:
    pool = Pool(pages)  # the longest sequence fits, and little else
    for batch in batches:
        assert pool.score(batch, most) == [score_of(*sequence) for sequence in batch]
        assert set(pool.computed) <= unique(list(itertools.chain(*batches)))


@given(BATCHES, st.integers(1, 60), st.integers(3, 8), st.data())
def test_what_is_forgotten_or_given_up_frees_its_pages(
    batches: list[list[Sequence]], most: int, pages: int, data: st.DataObject
) -> None:
    pool = Pool(pages)
    for batch in batches:
        if data.draw(st.booleans(), "a pass that fails"):
            problem, tokens = batch[0]
            end = pool.prefixes.insert(problem, np.array(tokens, np.int32))
            if pool.prefixes.values(end, 1) is None:
                pool.prefixes.discard(pool.prefixes.plan([end], most))
            pool.prefixes.prune([end])
            pool.check()
        assert pool.score(batch, most) == [score_of(*sequence) for sequence in batch]
        forgotten = data.draw(st.sampled_from("abc"), "forgotten")
        pool.prefixes.forget(forgotten)
        pool.check()
        assert forgotten not in pool.prefixes.problems
    for problem in "ab":
        pool.prefixes.forget(problem)
    assert pool.prefixes.pages_in_use == 0 and not pool.prefixes.problems


def test_what_was_used_longest_ago_goes_first() -> None:
    pool = Pool(3)
    first, second, third, fourth = (("a", (n,) * PAGE_TOKENS) for n in range(4))
    for sequence in (first, second, third, first, fourth):
        pool.score([sequence], 100)
    assert len(pool.computed) == 4 * PAGE_TOKENS
    pool.score([first, third, fourth], 100)
    assert len(pool.computed) == 4 * PAGE_TOKENS  # they are there: the second went
    pool.score([second], 100)
    assert len(pool.computed) == 5 * PAGE_TOKENS


def test_a_path_grown_token_by_token_takes_no_more_pages_than_its_tokens() -> None:
    pool = Pool(3)
    tokens = tuple(range(3 * PAGE_TOKENS))
    for n in range(1, len(tokens) + 1):
        assert pool.score([("a", tokens[:n])], 5) == [score_of("a", tokens[:n])]
    assert len(pool.computed) == len(tokens) and pool.prefixes.pages_in_use == 3


def test_a_path_longer_than_the_pool_is_an_error() -> None:
    prefixes = Prefixes(2)
    end = prefixes.insert("a", np.arange(2 * PAGE_TOKENS + 1, dtype=np.int32))
    with pytest.raises(MemoryError, match="^a pool of 2 pages holds less than one path$"):
        prefixes.plan([end], 100)
