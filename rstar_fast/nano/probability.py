"""Probabilities as fractions: balls drawn from a bag, dice."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, capital, listing
from rstar_fast.nano.program import Number, Program, Term, ratio, term

_COLOURS = ("red", "blue", "green", "white")

# --- balls: drawing from a bag ---------------------------------------------------------------------------------------


def _draw_balls(random: Random, level: int) -> Parameters:
    colours = (2, 3, 2, 3, 3)[level - 1]
    counts = tuple(random.randint(2, 6 + 3 * level) for _ in range(colours))
    kind = (
        "one",
        random.choice(("one", "not")),
        random.choice(("both", "differ")),
        random.choice(("both", "order")),
        random.choice(("same", "order", "least")),
    )[level - 1]
    which = random.sample(range(colours), 2)
    return (kind, counts, *which)


def _ask_balls(parameters: Parameters, words: Words) -> str:
    kind, counts, first, second = parameters
    noun = words.pick(("balls", "balls", "balls", "marbles"), ("balls",))
    ball, name = noun[:-1], words.name()
    each = [f"{count} {colour}" for count, colour in zip(counts, _COLOURS, strict=False)]
    bag = words.pick((f"{listing(each)} {noun}", listing([f"{part} {noun}" for part in each])), (f"{listing(each)} {noun}",))
    text = words.pick(
        (
            f"A bag holds {bag}.",
            f"A bag contains {bag}.",
            f"A box contains {bag}.",
            f"{name} has a bag with {bag}.",
            f"An urn is filled with {bag}.",
        ),
        (f"There are {bag} in a box.", f"In a drawer lie {bag}."),
    )
    one, other = _COLOURS[first], _COLOURS[second]
    if kind in ("one", "not"):
        is_ = f"is {'not ' if kind == 'not' else ''}{one}"
        drawn = f"a {ball} that is not {one}" if kind == "not" else f"a {one} {ball}"
        return f"{text} " + words.pick(
            (
                f"One {ball} is drawn. What is the probability that it {is_}?",
                f"One {ball} is drawn at random. Find the probability that it {is_}.",
                f"If one {ball} is picked at random, what is the probability that it {is_}?",
                f"{name} takes out a {ball} without looking. What is the probability that it {is_}?",
                f"What is the probability of drawing {drawn}?",
                f"Find the probability that a randomly chosen {ball} {is_}.",
            ),
            (
                f"Somebody takes one. What is the probability that it {is_}?",
                f"A hand grabs a single one. How likely is it that it {is_}?",
            ),
        )
    event = words.pick(
        {
            "both": (f"both are {one}", f"both {noun} are {one}", f"the two {noun} are {one}"),
            "differ": ("they differ in colour", "they have different colours", f"the two {noun} have different colours"),
            "order": (f"the first is {one} and the second is {other}", f"the first {ball} is {one} and the second {other}"),
            "same": ("they have the same colour", f"both {noun} have the same colour", "both are of the same colour"),
            "least": (f"at least one is {one}", f"at least one of them is {one}", f"at least one {ball} is {one}"),
        }[kind],
        {
            "both": (f"both are {one}", f"neither is anything but {one}"),
            "differ": ("they differ in colour", "their colours do not match"),
            "order": (f"the first is {one} and the second is {other}", f"a {one} one comes first and a {other} one next"),
            "same": ("they have the same colour", "their colours match"),
            "least": (f"at least one is {one}", f"one or both are {one}"),
        }[kind],
    )
    return f"{text} " + words.pick(
        (
            f"Two {noun} are drawn without putting back. What is the probability that {event}?",
            f"Two {noun} are drawn one after the other without replacement. What is the probability that {event}?",
            f"If two {noun} are drawn at random without replacement, what is the probability that {event}?",
            f"{name} draws two {noun} without putting the first one back. Find the probability that {event}.",
            f"Two {noun} are picked at random without replacement. Calculate the probability that {event}.",
        ),
        (
            f"Somebody takes two of them. What is the probability that {event}?",
            f"A hand grabs one and then another. How likely is it that {event}?",
        ),
    )


def _work_balls(parameters: Parameters, program: Program, words: Words) -> None:
    kind, counts, first, second = parameters
    total = term(counts[0])
    for count in counts[1:]:
        total = total + count
    one, other = f"{counts[first]} {_COLOURS[first]}", f"{counts[second]} {_COLOURS[second]}"
    program.step("All the balls", "from fractions import Fraction")
    n = program.let("n", total)
    if kind == "one":
        program.step(f"The {one} balls")
        program.show(program.let("p", ratio(counts[first], n)))
        return
    if kind == "not":
        program.step(f"All but the {one} balls")
        program.show(program.let("p", ratio(n - counts[first], n)))
        return
    pairs = program.let("pairs", n * (n - 1))
    if kind == "both":
        program.step(f"Pairs of the {one}")
        good = program.let("good", term(counts[first]) * (term(counts[first]) - 1))
    elif kind == "order":
        program.step(f"First one of {one}, then one of {other}")
        good = program.let("good", term(counts[first]) * counts[second])
    elif kind == "differ":
        program.step("One of each, in both orders")
        good = program.let("good", term(2) * counts[0] * counts[1])
    elif kind == "same":
        program.step("The pairs of each colour")
        sum_ = term(counts[0]) * (term(counts[0]) - 1)
        for count in counts[1:]:
            sum_ = sum_ + term(count) * (term(count) - 1)
        good = program.let("good", sum_)
    else:
        program.step(f"Pairs without the {one}")
        others = program.let("others", n - counts[first])
        good = program.let("good", pairs - others * (others - 1))
    program.step("Good pairs over all pairs")
    program.show(program.let("p", ratio(good, pairs)))


def _solve_balls(parameters: Parameters) -> Number:
    """Goes through every ball, or every ordered pair of different balls."""
    kind, counts, first, second = parameters
    balls = [colour for colour, count in enumerate(counts) for _ in range(count)]
    if kind in ("one", "not"):
        return Fraction(sum(1 for ball in balls if (ball == first) == (kind == "one")), len(balls))
    pairs = [(a, b) for i, a in enumerate(balls) for j, b in enumerate(balls) if i != j]
    good = {
        "both": lambda a, b: a == b == first,
        "differ": lambda a, b: a != b,
        "order": lambda a, b: a == first and b == second,
        "same": lambda a, b: a == b,
        "least": lambda a, b: first in (a, b),
    }[kind]
    return Fraction(sum(1 for a, b in pairs if good(a, b)), len(pairs))


# --- dice ------------------------------------------------------------------------------------------------------------


def _draw_dice(random: Random, level: int) -> Parameters:
    count = (1, 2, 2, 2, 3)[level - 1]
    sides = random.randint(6, (60, 12, 12, 20, 10)[level - 1])
    if level == 1:
        return ("multiple", count, sides, random.randint(2, 5))
    kind = random.choice((("sum",), ("sum", "more"), ("more", "product"), ("sum", "product"))[level - 2])
    limit = random.randint(5, 30) if kind == "product" else random.randint(count + 2, count * sides - 2)
    return (kind, count, sides, limit)


def _ask_dice(parameters: Parameters, words: Words) -> str:
    kind, count, sides, limit = parameters
    many = ("one", "two", "three")[count - 1]
    dice = words.pick(
        (
            f"{'a die' if count == 1 else f'{many} dice'} with {sides} sides",
            f"{many} {sides}-sided {'die' if count == 1 else 'dice'}",
            f"{'a die' if count == 1 else f'{many} dice'} with sides numbered from 1 to {sides}",
        ),
        (
            f"{'a fair die' if count == 1 else f'{many} fair dice'} with {sides} sides",
            f"{'a big die' if count == 1 else f'{many} big dice'} with {sides} faces",
        ),
    )
    are = "is" if count == 1 else "are"
    event = words.pick(
        {
            "multiple": (f"the number is a multiple of {limit}", f"the result is divisible by {limit}"),
            "sum": (f"the sum is {limit}", f"the sum of the numbers is {limit}", f"the numbers add up to {limit}"),
            "more": (
                f"the sum is more than {limit}",
                f"the sum is greater than {limit}",
                f"the sum of the numbers is more than {limit}",
            ),
            "product": (
                f"the product is a multiple of {limit}",
                f"the product of the numbers is divisible by {limit}",
                f"the product is divisible by {limit}",
            ),
        }[kind],
        {
            "multiple": (f"the number is a multiple of {limit}", f"{limit} divides what shows"),
            "sum": (f"the sum is {limit}", f"they show {limit} in all"),
            "more": (f"the sum is more than {limit}", f"they show over {limit} in all"),
            "product": (f"the product is a multiple of {limit}", f"{limit} divides the product of what shows"),
        }[kind],
    )
    return words.pick(
        (
            f"{capital(dice)} {are} thrown. What is the probability that {event}?",
            f"{capital(dice)} {are} rolled. What is the probability that {event}?",
            f"{words.name()} rolls {dice}. Find the probability that {event}.",
            f"If {dice} {are} rolled, what is the probability that {event}?",
            f"What is the probability that {event} when {dice} {are} thrown?",
            f"Find the probability that {event} if {dice} {are} rolled.",
            f"{capital(dice)} {are} rolled once. Calculate the probability that {event}.",
        ),
        (
            f"{capital(dice)} {'comes' if count == 1 else 'come'} to rest. What is the probability that {event}?",
            f"{capital(dice)} {'lands' if count == 1 else 'land'} on a table. How likely is it that {event}?",
        ),
    )


def _work_dice(parameters: Parameters, program: Program, words: Words) -> None:
    kind, count, sides, limit = parameters
    names = "abc"[:count]
    combined = {"multiple": "a", "product": " * ".join(names)}.get(kind, " + ".join(names))
    test = {
        "multiple": f"{combined} % {limit} == 0",
        "sum": f"{combined} == {limit}",
        "more": f"{combined} > {limit}",
        "product": f"{combined} % {limit} == 0",
    }[kind]
    if kind == "product":
        test = f"({combined}) % {limit} == 0"
    good = sum(1 for dice in product(range(1, sides + 1), repeat=count) if _hits(kind, dice, limit))
    program.step("The sides", "from fractions import Fraction", f"s = range(1, {sides} + 1)")
    loops = " ".join(f"for {name} in s" for name in names)
    if program.style == 0:
        program.step("Count the good throws", f"good = sum(1 {loops} if {test})")
    else:
        program.step("Count the good throws", f"good = len([a {loops} if {test}])")
    program.step("Divide by all throws")
    throws = term(sides) ** count if count > 1 else term(sides)
    program.show(program.let("p", ratio(Term("good", good), throws)))


def _hits(kind: str, dice: tuple[int, ...], limit: int) -> bool:
    if kind in ("multiple", "product"):
        return math.prod(dice) % limit == 0
    return sum(dice) == limit if kind == "sum" else sum(dice) > limit


def _solve_dice(parameters: Parameters) -> Number:
    """Adds one die at a time to the distribution of the sum or of the remainder of the product."""
    kind, count, sides, limit = parameters
    products = kind in ("multiple", "product")
    chances = {1 if products else 0: Fraction(1)}
    for _ in range(count):
        grown: dict[int, Fraction] = {}
        for value, chance in chances.items():
            for side in range(1, sides + 1):
                key = value * side % limit if products else value + side
                grown[key] = grown.get(key, Fraction(0)) + chance / sides
        chances = grown
    if products:
        return chances.get(0, Fraction(0))
    return sum((c for v, c in chances.items() if (v == limit if kind == "sum" else v > limit)), Fraction(0))


FAMILIES = (
    Family("balls", _draw_balls, _ask_balls, _work_balls, _solve_balls),
    Family("dice", _draw_dice, _ask_dice, _work_dice, _solve_dice),
)
