"""What a family of problems is, and the words its questions are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from rstar_fast.nano.program import Number, Program

T = TypeVar("T")
Parameters = tuple[Any, ...]

# Names and things are variables in worked programs: identifiers that no program uses for anything else.
# fmt: off
_NAMES = (
    "Ann", "Ben", "Carl", "Dora", "Emma", "Fred", "Gina", "Hugo", "Ivan", "Jane", "Kate", "Liam", "Mary", "Nina", "Omar",
    "Paul", "Tom", "Sam", "Max", "Leo", "Amy", "Eva", "Mia", "Ella", "Lucy", "Anna", "Maria", "Sarah", "Laura", "Julia",
    "Sofia", "Olivia", "Isabella", "Charlotte", "Elizabeth", "Alexander", "Christopher", "Benjamin", "Daniel", "David",
    "Michael", "James", "John", "Peter", "Robert", "William", "Jack", "Noah", "Lucas", "Oscar", "Ali", "Ahmed", "Fatima",
    "Aisha", "Chen", "Ravi", "Priya", "Diego", "Carlos", "Kenji", "Yuki",
)
_NOVEL_NAMES = (
    "Zoe", "Yusuf", "Walter", "Vera", "Tariq", "Selma", "Rosa", "Quinn", "Bruno", "Ingrid", "Marcus", "Wendy",
)
_THINGS = (
    "apples", "pens", "books", "coins", "cards", "stamps", "marbles", "shells", "eggs", "cakes", "beads", "stones", "oranges",
    "bananas", "pears", "cookies", "pencils", "stickers", "balloons", "flowers", "roses", "cups", "plates", "bottles", "shirts",
    "hats", "socks", "toys", "dolls", "notebooks", "envelopes", "magnets", "bricks", "keys", "ribbons", "postcards", "muffins",
    "crayons", "brushes", "mugs", "stools", "chairs",
)
_NOVEL_THINGS = (
    "lemons", "tickets", "candles", "buttons", "peaches", "spoons", "carrots", "lanterns", "scarves", "kites", "whistles",
    "pumpkins",
)
# fmt: on


class Words:
    """Draws the wording of a question: from what training sees, or from what it never sees.

    Args:
      random: the source of the choices.
      novel: draw templates, names and things that the train split never uses.
    """

    def __init__(self, random: Random, novel: bool) -> None:
        self._random, self._novel = random, novel
        self._names = random.sample(_NOVEL_NAMES if novel else _NAMES, 8)
        self._things = random.sample(_NOVEL_THINGS if novel else _THINGS, 6)

    def name(self, index: int = 0) -> str:
        """The name of person `index` < 8; different persons have different names."""
        return self._names[index]

    def thing(self, index: int = 0) -> str:
        """The plural of kind of thing `index` < 6."""
        return self._things[index]

    def pick(self, seen: Sequence[T], novel: Sequence[T]) -> T:
        """One of the wordings: of `seen` in train and heldout, of `novel` in the novel split."""
        return self._random.choice(novel if self._novel else seen)


@dataclass(frozen=True, slots=True)
class Family:
    """Problems of one kind.

    Attributes:
      name: unique among families.
      draw: parameters of a problem of a level 1 to 5; the question follows from them and the words alone.
      ask: the question.
      work: writes the worked program.
      solve: the exact answer by another algorithm than the program's.
    """

    name: str
    draw: Callable[[Random, int], Parameters]
    ask: Callable[[Parameters, Words], str]
    work: Callable[[Parameters, Program, Words], None]
    solve: Callable[[Parameters], Number]


def size(random: Random, level: int) -> int:
    """A number whose size grows with the level."""
    return random.randint(*((3, 20), (5, 60), (10, 150), (15, 400), (20, 900))[level - 1])


def small(random: Random, level: int) -> int:
    """A factor, rate or count whose size grows with the level."""
    return random.randint(*((2, 9), (2, 12), (3, 20), (3, 30), (4, 40))[level - 1])


def listing(parts: Sequence[object]) -> str:
    """The parts in words: "a", "a and b", "a, b and c"."""
    *most, last = map(str, parts)
    return f"{', '.join(most)} and {last}" if most else last


def capital(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def requests(what: str) -> tuple[str, ...]:
    """Ways to ask for a quantity; wordings that training sees."""
    return (
        f"What is {what}?",
        f"Find {what}.",
        f"Calculate {what}.",
        f"Compute {what}.",
        f"Determine {what}.",
        f"Work out {what}.",
    )
