"""Which tokens of which problems have been computed, and where their keys and values lie: a prefix tree of token ids a problem.

    question --- step --- step      tokens without a branch between them are a Run; each has a slot in a pool, and a value
            `--- step --- step      slots lie in pages; a run begins in what is left of its parent's last page, or in a new one

Nothing here knows a model: `plan` says what to compute next, `commit` takes what came of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PAGE_TOKENS = 16
_PLACES = np.arange(PAGE_TOKENS, dtype=np.int32)


@dataclass(eq=False, slots=True)
class Run:
    """Tokens that follow each other without a branch.

    Attributes:
      tokens: [n] int32.
      start: position of the first.
      parent: what stands before; None at the root, which is empty.
      children: by their first token.
      slots: [n] int32, where keys and values lie; None while they are not computed. What stands before a computed run is computed.
      values: [n] float32, what the PPM makes of each token.
      asked: whose last tokens, so many, a score is made of.
      last: what the PPM keeps of the last token, where tokens that are asked for follow in another run.
    """

    tokens: np.ndarray
    start: int
    parent: Run | None
    children: dict[int, Run] = field(default_factory=dict)
    slots: np.ndarray | None = None
    values: np.ndarray | None = None
    asked: int = 0
    last: Any = None

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    def path(self) -> list[Run]:
        """All runs from the first after the root to this one."""
        found, run = [], self
        while run.parent is not None:
            found.append(run)
            run = run.parent
        return found[::-1]


class Prefixes:
    """The prefix trees of all problems, and the pages of the pool that they share.

    Args:
      pages: of the pool, PAGE_TOKENS tokens each.
    """

    def __init__(self, pages: int) -> None:
        self._roots: dict[str, Run] = {}
        self._free = list(range(pages - 1, -1, -1))
        # Lists: most runs lie in a few pages, for which calls of numpy cost more than loops.
        self._held = [0] * pages  # tokens in each page that are still of use
        self._filled = [0] * pages  # places of each page, from its beginning, that have been given out
        self._computed: dict[Run, None] = {}  # the runs that have slots, least recently used first, children before parents
        self._dropped: list[Run] = []  # since the last `prune`

    @property
    def pages_in_use(self) -> int:
        return len(self._held) - len(self._free)

    @property
    def problems(self) -> list[str]:
        """Of which something is known."""
        return list(self._roots)

    def insert(self, problem: str, tokens: np.ndarray, asked: int = 1) -> Run:
        """The run that ends with the last of these tokens, [n] int32, n >= 1; made, uncomputed, where it is not there.

        Runs are split where tokens part, which leaves their ends as they are.

        Args:
          asked: so many of the last tokens make up the score, 1 to n.
        """
        end = self._end(problem, tokens)
        run: Run | None = end
        while run is not None and asked > 0:
            run.asked = max(run.asked, min(asked, len(run.tokens)))
            asked -= len(run.tokens)
            run = run.parent
        return end

    def values(self, end: Run, count: int) -> np.ndarray | None:
        """The values of the last tokens up to a run's end, [count] float32, which so count as used; None while they are not computed."""
        if end.values is None:
            return None
        path = end.path()
        self._touch(path)
        found: list[np.ndarray] = []
        for run in reversed(path):  # what stands before a computed run is computed
            assert run.values is not None
            found.append(run.values[-count:])
            count -= len(found[-1])
            if not count:
                break
        return np.concatenate(found[::-1])

    def _end(self, problem: str, tokens: np.ndarray) -> Run:
        run = self._roots.setdefault(problem, Run(np.empty(0, np.int32), 0, None))
        while run.end < len(tokens):
            child = run.children.get(int(tokens[run.end]))
            if child is None:
                child = run.children[int(tokens[run.end])] = Run(tokens[run.end :], run.end, run)
                return child
            wanted = tokens[child.start : child.end]
            differs = child.tokens[: len(wanted)] != wanted
            same = int(differs.argmax())
            if not differs[same]:
                same = len(wanted)
            run = child if same == len(child.tokens) else self._split(child, same)
        return run

    def plan(self, ends: Sequence[Run], most_tokens: int) -> list[Run]:
        """What to compute next so that these runs have values: uncomputed runs, parents first, `most_tokens` tokens at most.

        They have slots from now on. Where the pool is full, runs that are not needed lose theirs, least recently used first. At
        least one run is planned if one of `ends` has no value. What is planned is to be committed, or discarded.

        Raises:
          MemoryError: the pool holds less than one of the paths.
        """
        planned: list[Run] = []
        needed: set[Run] = set()  # what this pass stands on
        left = most_tokens
        for end in ends:
            path = end.path()
            needed.update(path)
            self._touch(path)
            for run in path:
                if run.slots is not None:
                    continue
                if left == 0:
                    return planned
                if len(run.tokens) > left:
                    run = self._split(run, left)
                    needed.add(run)
                if not self._take(run, needed):
                    if planned:
                        return planned
                    # Alone in the pool, and laid out anew from its beginning, a path leaves no place unused.
                    path = end.path()
                    self.discard(path)
                    run = path[0] if len(path[0].tokens) <= left else self._split(path[0], left)
                    if not self._take(run, {run}):
                        raise MemoryError(f"a pool of {len(self._held)} pages holds less than one path")
                    return [run]
                self._touch(run.path())  # what it stands on must not look older than it
                planned.append(run)
                left -= len(run.tokens)
        return planned

    def commit(self, planned: Sequence[Run], values: np.ndarray) -> None:
        """Takes the values of all tokens of planned runs, one run after the other, [T] float32."""
        at = 0
        for run in planned:
            run.values = values[at : at + len(run.tokens)]
            at += len(run.tokens)

    def discard(self, runs: Sequence[Run]) -> None:
        """Gives back what runs have in the pool; parents first, as `plan` and `Run.path` have them."""
        for run in reversed(runs):
            self._drop(run)

    def forget(self, problem: str) -> None:
        """Frees all pages of a problem."""
        root = self._roots.pop(problem, None)
        if root is not None:
            for run in list(_below(root)):
                self._drop(run)

    def prune(self, ends: Sequence[Run]) -> None:
        """Removes what is not computed from the trees, `ends` included: such runs are not to be used again."""
        for run in (*self._dropped, *ends):
            while run.parent is not None and run.slots is None and not run.children:
                run.parent.children.pop(int(run.tokens[0]), None)
                run = run.parent
        self._dropped.clear()
        self._roots = {problem: root for problem, root in self._roots.items() if root.children}

    def _split(self, run: Run, at: int) -> Run:
        """Divides a run, 0 < at < n; returns the first part, which is new."""
        assert run.parent is not None
        before = Run(run.tokens[:at], run.start, run.parent)
        if run.slots is not None:
            before.slots, run.slots = run.slots[:at], run.slots[at:]
            self._computed[before] = None
        if run.values is not None:
            before.values, run.values = run.values[:at], run.values[at:]
        behind = len(run.tokens) - at
        before.asked, run.asked = max(0, run.asked - behind), min(run.asked, behind)
        run.parent.children[int(before.tokens[0])] = before
        run.tokens, run.start, run.parent = run.tokens[at:], run.start + at, before
        before.children[int(run.tokens[0])] = run
        return before

    def _touch(self, path: Sequence[Run]) -> None:
        for run in reversed(path):
            if run.slots is not None:
                del self._computed[run]
                self._computed[run] = None

    def _take(self, run: Run, needed: set[Run]) -> bool:
        """Gives a run slots; False where no pages can be freed for it."""
        rest = range(0)  # of the parent's last page
        if run.parent is not None and run.parent.slots is not None:
            page, place = divmod(int(run.parent.slots[-1]), PAGE_TOKENS)
            if self._filled[page] == place + 1:
                rest = range(page * PAGE_TOKENS + place + 1, (page + 1) * PAGE_TOKENS)[: len(run.tokens)]
        pages = math.ceil((len(run.tokens) - len(rest)) / PAGE_TOKENS)
        if len(self._free) < pages:
            self._evict(pages, needed)
        if len(self._free) < pages:
            return False
        taken = [self._free.pop() for _ in range(pages)]
        fresh = np.add.outer(np.array(taken, np.int32) * PAGE_TOKENS, _PLACES).ravel()
        run.slots = np.concatenate([np.array(rest, np.int32), fresh]) if rest else fresh
        if rest:
            page = rest[0] // PAGE_TOKENS
            self._held[page] += len(rest)
            self._filled[page] += len(rest)
        for page in taken:
            self._held[page] = self._filled[page] = PAGE_TOKENS
        behind = len(run.slots) - len(run.tokens)  # places of the last page
        if behind:
            run.slots = run.slots[:-behind]
            self._held[taken[-1]] -= behind
            self._filled[taken[-1]] -= behind
        self._computed[run] = None
        return True

    def _evict(self, pages: int, needed: set[Run]) -> None:
        """Frees pages, so many if there are: of runs that nothing computed stands on, least recently used first."""
        for run in list(self._computed):
            if len(self._free) >= pages:
                return
            if run not in needed and all(child.slots is None for child in run.children.values()):
                self._drop(run)

    def _drop(self, run: Run) -> None:
        if run.slots is None:
            return
        # A run's places in a page follow each other: a stretch for each page.
        page_of = run.slots // PAGE_TOKENS
        begins = [0, *(np.flatnonzero(page_of[1:] != page_of[:-1]) + 1).tolist()]
        for begin, end, page in zip(begins, [*begins[1:], len(page_of)], page_of[begins].tolist(), strict=True):
            self._held[page] -= end - begin
            if not self._held[page]:
                self._filled[page] = 0
                self._free.append(page)
        run.slots = run.values = None
        del self._computed[run]
        self._dropped.append(run)


def _below(run: Run) -> Iterator[Run]:
    for child in run.children.values():
        yield child
        yield from _below(child)
