"""Wrong solutions without a policy: a worked program for a problem that was misread.

A family's parameters are changed in one place (a number, a word, the order, a part left out), and the family writes its program
for what was read. The program is consistent in itself, shares its beginning with the right one, and its answer is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from rstar_fast.nano.family import Family, Parameters, Words
from rstar_fast.nano import algebra, integers, measure, stories
from rstar_fast.nano.generator import LEVELS, is_held_out
from rstar_fast.nano.program import Program
from rstar_fast.training.nano_rollouts import Rollouts, Solution

_LARGEST_ANSWER = 10**12
# As often as a policy would write the right solution for each misreading: the steps that both share are right.
_RIGHT_COUNT = 1000
_MOST_TRIES = 40
# Those whose programs count or try cases are left out: for what was misread that may not come to an end.
_FAMILIES = (*stories.FAMILIES, *measure.FAMILIES, *algebra.FAMILIES, *(f for f in integers.FAMILIES if f.name == "chain"))


def misread_problems(count: int, seed: int, wrong: int = 3, levels: tuple[int, ...] = LEVELS) -> Iterator[Rollouts]:
    """Problems of the train split, each with its worked solution and up to `wrong` misreadings of it, at least one.

    Args:
      count: how many problems.
      seed: any integer; the same arguments give the same problems.
      levels: taking turns.
    """
    random = Random(f"misread {seed}")
    made = 0
    while made < count:
        family, level = random.choice(_FAMILIES), levels[made % len(levels)]
        found = _misread(family, level, wrong, random)
        if found is not None:
            made += 1
            yield found


def _misread(family: Family, level: int, wrong: int, random: Random) -> Rollouts | None:
    parameters = family.draw(random, level)
    if is_held_out(family.name, parameters):
        return None
    words = Words(random, novel=False)
    question = family.ask(parameters, words)
    style = random.randrange(2**32)
    right = _worked(family, parameters, words, style)
    if right is None or right[1] in ("0", "1"):
        return None
    texts = {right[0]}
    solutions = [Solution(right[0], right[1], True, _RIGHT_COUNT, 0.0)]
    for _ in range(_MOST_TRIES):
        if len(solutions) > wrong:
            break
        read = _changed(parameters, family.draw(random, level), random)
        found = _worked(family, read, words, style) if read != parameters else None
        if found is not None and found[0] not in texts:
            texts.add(found[0])
            solutions.append(Solution(found[0], found[1], found[1] == right[1], 1, 0.0))
    if all(solution.correct for solution in solutions):
        return None
    return Rollouts(question, right[1], level, family.name, 0, tuple(solutions))


def _worked(family: Family, parameters: Parameters, words: Words, style: int) -> tuple[str, str] | None:
    """The worked solution and its answer; None where the parameters make no sense."""
    program = Program(Random(style))
    try:
        family.work(parameters, program, words)
        if abs(program.value) > _LARGEST_ANSWER:
            return None
        return program.solution(), str(program.value)
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError):
        return None


def _changed(parameters: Parameters, other: Parameters, random: Random) -> Parameters:
    """The parameters changed in one place: a part from another draw, a number's neighbour, two parts swapped, one left out."""
    places = list(_places(parameters))
    path, value = random.choice(places)
    if isinstance(value, tuple):
        parts = list(value)
        if len(parts) > 1 and random.random() < 0.7:
            first, second = random.sample(range(len(parts)), 2)
            parts[first], parts[second] = parts[second], parts[first]
        elif parts:
            del parts[random.randrange(len(parts))]
        return _replaced(parameters, path, tuple(parts))
    same = [found for _, found in _places(parameters) if type(found) is type(value) and found != value]
    drawn = [found for _, found in _places(other) if type(found) is type(value) and found != value]
    if isinstance(value, int) and not isinstance(value, bool) and random.random() < 0.2:
        return _replaced(parameters, path, value + random.choice((-10, -1, 1, 10)))
    choices = same if same and (random.random() < 0.6 or not drawn) else drawn
    return _replaced(parameters, path, random.choice(choices)) if choices else parameters


def _places(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Each part of nested tuples and where it stands, the outermost left out."""
    if path:
        yield path, value
    if isinstance(value, tuple):
        for at, part in enumerate(value):
            yield from _places(part, (*path, at))


def _replaced(value: Any, path: tuple[int, ...], by: Any) -> Any:
    if not path:
        return by
    at = path[0]
    return (*value[:at], _replaced(value[at], path[1:], by), *value[at + 1 :])
