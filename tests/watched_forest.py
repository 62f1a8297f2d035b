"""The C++ forest, and what a search does with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rstar_fast._core import Forest


class Watched:
    """The forest, and what is done with it: leaves handed out and given back, trees removed, the highest node of them."""

    def __init__(self) -> None:
        self.handed_out, self.given_back = Counter[int](), Counter[int]()
        self.removed: list[int] = []
        self.highest = 0

    def __call__(self, **rules: Any) -> Watched:
        self._forest = Forest(**rules)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._forest, name)

    def select(self, limit: int) -> Any:
        selected = self._forest.select(limit)
        self.handed_out.update(selected[0].tolist())
        return selected

    def claim(self, *arguments: Any) -> Any:
        tickets = self._forest.claim(*arguments)
        self.handed_out.update(tickets.tolist())
        return tickets

    def expand(self, tickets: Any, *columns: Any) -> Any:
        self.given_back.update(tickets.tolist())
        return self._forest.expand(tickets, *columns)

    def close(self, ticket: int, *why: Any) -> None:
        self.given_back[ticket] += 1
        self._forest.close(ticket, *why)

    def cancel(self, ticket: int) -> None:
        self.given_back[ticket] += 1
        self._forest.cancel(ticket)

    def columns(self, tree: int) -> dict[str, Any]:
        columns = self._forest.columns(tree)
        self.highest = max(self.highest, int(columns["node"].max()))
        return columns

    def remove(self, tree: int) -> None:
        self.removed.append(tree)
        self._forest.remove(tree)
