"""Integers: expressions, and with conditions counting multiples, congruences, chains of named numbers."""

from __future__ import annotations

import math
from itertools import combinations
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, listing, requests
from rstar_fast.nano.program import Number, Program, Term, call, term

# --- multiples: counting with conditions -----------------------------------------------------------------------------


def _draw_multiples(random: Random, level: int) -> Parameters:
    kind = random.choice((("one",), ("or", "and"), ("or", "not"), ("or not", "and not"), ("or not", "between"))[level - 1])
    low = random.randint(20, 300) if level >= 4 or (level == 3 and random.randrange(2) == 0) else 1
    high = low + random.randint(30, (99, 300, 600, 900, 1900)[level - 1])
    numbers = tuple(random.sample(range(2, 13 if level < 5 else 16), {"one": 1, "or not": 3, "and not": 3}.get(kind, 2)))
    return (kind, low, high, numbers)


def _ask_multiples(parameters: Parameters, words: Words) -> str:
    kind, low, high, n = parameters
    head, by = words.pick((("divisible", "by "), ("divisible", "by "), ("multiples", "of ")), (("divisible", "by "),))
    again = words.pick((by, ""), (by,))
    a, b = f"{head} {by}{n[0]}", f"{again}{n[1]}" if len(n) > 1 else ""
    both = f"{a} and {b}" if again else f"{head} {by}both {n[0]} and {b}"
    condition = {
        "one": lambda: a,
        "or": lambda: f"{a} or {b}",
        "and": lambda: both,
        "not": lambda: f"{a} but not {by}{n[1]}",
        "or not": lambda: f"{a} or {b} but not {by}{n[2]}",
        "and not": lambda: f"{both} but not {by}{n[2]}",
        "between": lambda: f"{head} {by}exactly one of {n[0]} and {n[1]}",
    }[kind]()
    return words.pick(
        (
            f"How many integers from {low} to {high} are {condition}?",
            f"Count the integers from {low} to {high} that are {condition}.",
            f"How many whole numbers from {low} to {high} are {condition}?",
            f"Find the number of integers from {low} to {high} that are {condition}.",
            f"How many numbers between {low} and {high}, inclusive, are {condition}?",
            f"Determine how many integers n with {low} <= n <= {high} are {condition}.",
            f"What is the number of integers between {low} and {high} inclusive that are {condition}?",
        ),
        (
            f"Among the integers from {low} to {high}, how many are {condition}?",
            f"Somebody writes down all integers from {low} up to {high}. How many of these are {condition}?",
        ),
    )


def _multiples_test(kind: str, n: tuple[int, ...]) -> tuple[str, ...]:
    first = {"and": "and", "or": "or", "or not": "or", "and not": "and"}.get(kind)
    if kind == "between":
        return (f"(k % {n[0]} == 0) != (k % {n[1]} == 0)",)
    head = f"k % {n[0]} == 0" + (f" {first} k % {n[1]} == 0" if first else "")
    return (head, f"k % {n[-1]} != 0") if kind.endswith("not") else (head,)


def _work_multiples(parameters: Parameters, program: Program, words: Words) -> None:
    kind, low, high, n = parameters
    tests = _multiples_test(kind, n)
    value = sum(1 for k in range(low, high + 1) if _has(kind, n, [k % m == 0 for m in n]))
    if program.style == 0:
        program.step("The numbers", f"ks = [k for k in range({low}, {high} + 1) if {tests[0]}]")
        if len(tests) > 1:
            program.step("Without the others", f"ks = [k for k in ks if {tests[1]}]")
        program.step("Count them")
        program.show(program.let("x", Term("len(ks)", value)))
    else:
        program.step("Go through the numbers and count", "x = 0", f"for k in range({low}, {high} + 1):")
        if len(tests) > 1:
            program.line(f"    if ({tests[0]}) and {tests[1]}:")
        else:
            program.line(f"    if {tests[0]}:")
        program.line("        x = x + 1")
        program.show(Term("x", value))


def _has(kind: str, n: tuple[int, ...], divides: list[bool]) -> bool:
    if kind == "between":
        return divides[0] != divides[1]
    head = {"and": all, "or": any, "or not": any, "and not": all}.get(kind)
    fits = head(divides[:2]) if head else divides[0]
    return fits and not (kind.endswith("not") and divides[-1])


def _solve_multiples(parameters: Parameters) -> Number:
    """Inclusion and exclusion over the subsets of the divisors, without visiting the integers."""
    kind, low, high, n = parameters
    total = 0
    indices = range(len(n))
    for length in range(len(n) + 1):
        for chosen in combinations(indices, length):
            if not _has(kind, n, [i in chosen for i in indices]):
                continue
            rest = [i for i in indices if i not in chosen]
            for extra in range(len(rest) + 1):
                for added in combinations(rest, extra):
                    multiple = math.lcm(*(n[i] for i in (*chosen, *added)))
                    total += (-1) ** extra * (high // multiple - (low - 1) // multiple)
    return total


# --- congruences -----------------------------------------------------------------------------------------------------


def _draw_congruence(random: Random, level: int) -> Parameters:
    count = (1, 2, 2, 3, 3)[level - 1]
    while True:
        moduli = tuple(random.randint(3, (9, 9, 19, 15, 23)[level - 1]) for _ in range(count))
        if math.lcm(*moduli) == math.prod(moduli):
            break
    least = random.randint(20, 90) if level == 1 else random.choice((0, random.randint(100, 900))) if level in (3, 5) else 0
    return (tuple((m, random.randint(1, m - 1)) for m in moduli), least)


def _ask_congruence(parameters: Parameters, words: Words) -> str:
    conditions, least = parameters

    def all_of(phrase: str) -> str:
        return listing([phrase.format(m=m, r=r) for m, r in conditions])

    above = f" {words.pick(('greater than', 'greater than', 'larger than'), ('above', 'past'))} {least}" if least else ""
    noun = words.pick(("integer", "integer", "whole number", "number"), ("integer",))
    noun = noun if least else f"positive {noun}"
    bound, bound_n = f"{noun}{above}", f"{noun} n{above}"
    rests = all_of(words.pick(("remainder {r} when divided by {m}", "a remainder of {r} when divided by {m}"), ("{r}",)))
    return words.pick(
        (
            f"What is the smallest {bound} that has {rests}?",
            f"Find the smallest {bound} that leaves {rests}.",
            f"What is the least {bound} that leaves {all_of('remainder {r} on division by {m}')}?",
            f"Determine the smallest {bound_n} such that {all_of('n mod {m} = {r}')}.",
            f"A number leaves {rests}. What is the smallest such {bound}?",
            f"Find the smallest {bound_n} such that {all_of('n divided by {m} leaves remainder {r}')}.",
            f"If n is the smallest {bound} that leaves {rests}, what is n?",
            f"When n is divided {all_of('by {m} the remainder is {r}')}. What is the smallest {bound} that n can be?",
        ),
        (
            f"Which is the smallest {bound} with {all_of('rest {r} when divided by {m}')}?",
            f"Sharing things out {all_of('among {m} leaves {r} over')}. "
            f"Which is the smallest {bound} that can be their number?",
        ),
    )


def _work_congruence(parameters: Parameters, program: Program, words: Words) -> None:
    conditions, least = parameters
    value = least + 1
    while any(value % m != r for m, r in conditions):
        value += 1
    program.step(f"Greater than {least}" if least else "Start from 1", f"n = {least} + 1" if least else "n = 1")
    if program.style == 0:
        program.step(
            f"Remainder {', '.join(f'{r} by {m}' for m, r in conditions)}",
            f"while {' or '.join(f'n % {m} != {r}' for m, r in conditions)}:",
            "    n = n + 1",
        )
    else:
        stride = "1"
        for m, r in conditions:
            program.step(f"Remainder {r} by {m}", f"while n % {m} != {r}:", f"    n = n + {stride}")
            stride = f"{m}" if stride == "1" else f"{stride} * {m}"
    program.show(Term("n", value))


def _solve_congruence(parameters: Parameters) -> Number:
    """The Chinese remainder theorem with inverses."""
    conditions, least = parameters
    product = math.prod(m for m, _ in conditions)
    value = sum(r * (product // m) * pow(product // m, -1, m) for m, r in conditions) % product
    return value + max(0, -((value - least - 1) // product)) * product


# --- chain: named numbers, each from the one before ------------------------------------------------------------------

_LETTERS = "ABCDEFG"


def _draw_chain(random: Random, level: int) -> Parameters:
    start = (random.choice(("gcd", "digits", "remainder")), random.randint(20, 400 * level), random.randint(7, 60 * level))
    links = []
    for _ in range((1, 2, 3, 4, 5)[level - 1]):
        kind = random.choice(("times", "plus", "square", "remainder", "digits"))
        if links and links[-1][0] in ("digits", "remainder") and kind in ("digits", "remainder"):
            kind = "times"
        n = {"times": random.randint(3, 40), "plus": random.randint(10, 900), "remainder": random.randint(20, 99)}.get(kind, 0)
        links.append((kind, n))
    return (start, tuple(links))


def _ask_chain(parameters: Parameters, words: Words) -> str:
    (kind, a, b), links = parameters
    first = {
        "gcd": words.pick(
            (f"the greatest common divisor of {a} and {b}", f"the gcd of {a} and {b}"),
            (f"the greatest common divisor of {a} and {b}", f"the largest divisor that {a} and {b} share"),
        ),
        "digits": words.pick(
            (f"the sum of the digits of {a * b}", f"the digit sum of {a * b}"),
            (f"the sum of the digits of {a * b}", f"all digits of {a * b} added up"),
        ),
        "remainder": words.pick(
            (
                f"the remainder of {a} divided by {b}",
                f"the remainder when {a} is divided by {b}",
                f"{a} mod {b}",
            ),
            (f"the remainder of {a} divided by {b}", f"the rest of {a} on division by {b}"),
        ),
    }[kind]
    last = _LETTERS[len(links)]
    names = [*zip(_LETTERS, (first, *(_link_phrase(*link, _LETTERS[i], words) for i, link in enumerate(links))), strict=False)]
    be = words.pick(
        ("Let {} be {}.", "{} is {}.", "Let {} denote {}.", "{} equals {}.", "Define {} as {}.", "The number {} is {}."),
        ("Call {} what is {}.", "By {} we mean {}."),
    )
    told = " ".join(be.format(name, phrase) for name, phrase in names) + words.pick(
        (
            f" What is {last}?",
            f" Find {last}.",
            f" Calculate {last}.",
            f" What is the value of {last}?",
            f" Determine {last}.",
            f" Compute the value of {last}.",
        ),
        (f" Which number is {last}?", f" How large is {last}?"),
    )
    joined = listing([f"{name} is {phrase}" for name, phrase in names])
    if len(links) > 2:
        return told
    return words.pick((told, told, told, f"If {joined}, what is {last}?", f"What is {last} if {joined}?"), (told,))


def _link_phrase(link: str, n: int, last: str, words: Words) -> str:
    return words.pick(
        {
            "times": (f"{n} times {last}", f"the product of {n} and {last}"),
            "plus": (f"the sum of {n} and {last}", f"{n} more than {last}"),
            "square": (f"the square of {last}", f"{last} squared"),
            "remainder": (
                f"the remainder of {last} divided by {n}",
                f"the remainder when {last} is divided by {n}",
                f"{last} mod {n}",
            ),
            "digits": (f"the sum of the digits of {last}", f"the digit sum of {last}"),
        }[link],
        {
            "times": (f"{n} times {last}", f"{last} multiplied by {n}"),
            "plus": (f"the sum of {n} and {last}", f"{last} increased by {n}"),
            "square": (f"the square of {last}", f"{last} times itself"),
            "remainder": (f"the remainder of {last} divided by {n}", f"the rest of {last} on division by {n}"),
            "digits": (f"the sum of the digits of {last}", f"all digits of {last} added up"),
        }[link],
    )


def _linked(link: str, n: int, value: Term, style: int) -> Term:
    if link == "times":
        return term(n) * value
    if link == "plus":
        return term(n) + value
    if link == "square":
        return value**2 if style == 0 else value * value
    return value % n if link == "remainder" else _digit_sum(value)


def _digit_sum(name: Term | int) -> Term:
    name = term(name)
    return Term(f"sum(int(d) for d in str({name.text}))", sum(int(digit) for digit in str(name.value)))


def _work_chain(parameters: Parameters, program: Program, words: Words) -> None:
    (kind, a, b), links = parameters
    if kind == "gcd":
        program.step("A: the gcd", "from math import gcd")
        value = call("gcd", math.gcd, a, b)
    elif kind == "digits":
        program.step("A: the digits")
        value = _digit_sum(a * b)
    else:
        program.step("A: the remainder")
        value = term(a) % b
    value = program.let("A", value)
    for index, (link, n) in enumerate(links, 1):
        comment = {
            "times": f"{n} times {value.text}",
            "plus": f"{n} more than {value.text}",
            "square": f"{value.text} squared",
            "remainder": f"{value.text} mod {n}",
            "digits": f"the digits of {value.text}",
        }[link]
        program.step(f"{_LETTERS[index]}: {comment}")
        value = program.let(_LETTERS[index], _linked(link, n, value, program.style))
    program.show(value)


def _solve_chain(parameters: Parameters) -> Number:
    """Subtraction for gcd and remainder, repeated addition for products, digits by division."""

    def digits(number: int) -> int:
        return 0 if number == 0 else number % 10 + digits(number // 10)

    (kind, a, b), links = parameters
    if kind == "gcd":
        while a and b:
            a, b = (a - b, b) if a >= b else (a, b - a)
        value = a + b
    else:
        value = digits(a * b) if kind == "digits" else a - b * (a // b)
    for link, n in links:
        if link == "times":
            value = sum(value for _ in range(n))
        elif link == "plus":
            value -= -n
        elif link == "square":
            value = value * (value + 1) - value
        else:
            value = digits(value) if link == "digits" else value - n * (value // n)
    return value


# --- expression: sums of numbers and products, as they are written ----------------------------------------------------


def _draw_expression(random: Random, level: int) -> Parameters:
    """Terms with a sign: a number or a product of two; from level 4 on the last two in brackets, times a number."""
    count = (random.choice((2, 3)), random.choice((3, 4, 5)), random.choice((4, 5, 6, 7)), 6, 8)[level - 1]
    top = (99, 999, 9999, 999, 9999)[level - 1]
    terms = []
    for _ in range(count):
        number = random.randint(2, 10 ** random.randint(1, len(str(top))) - 1)
        factor = random.randint(2, 99) if level >= 2 and random.randrange(3) == 0 else 0
        terms.append((random.choice((1, 1, -1)) if terms else 1, number, factor))
    if level < 4:
        return (tuple(terms), 0)
    terms[-2] = (1, *terms[-2][1:])  # the bracket's first: the same question is of the same parameters
    return (tuple(terms), random.randint(2, 20 * level))


def _expression(parameters: Parameters) -> Term:
    terms, times = parameters

    def joined(part: tuple[tuple[int, int, int], ...], value: Term | None) -> Term:
        for sign, number, factor in part:
            new = term(number) * factor if factor else term(number)
            value = new if value is None else value + new if sign > 0 else value - new
        assert value is not None
        return value

    if not times:
        return joined(terms, None)
    return joined(terms[:-2], None) + term(times) * joined(terms[-2:], None)


def _ask_expression(parameters: Parameters, words: Words) -> str:
    text = _expression(parameters).text
    return words.pick((*requests(text), f"Evaluate {text}.", f"What is the value of {text}?"), (f"Tell the value of {text}.",))


def _work_expression(parameters: Parameters, program: Program, words: Words) -> None:
    program.step("The value")
    program.show(program.let("x", _expression(parameters)))


def _solve_expression(parameters: Parameters) -> Number:
    """All terms added up on their own, products as repeated addition."""
    terms, times = parameters
    values = [sign * (sum(number for _ in range(factor)) if factor else number) for sign, number, factor in terms]
    if times:
        values[-2:] = [times * (values[-2] + values[-1])]
    return sum(values)


FAMILIES = (
    Family("expression", _draw_expression, _ask_expression, _work_expression, _solve_expression),
    Family("multiples", _draw_multiples, _ask_multiples, _work_multiples, _solve_multiples),
    Family("congruence", _draw_congruence, _ask_congruence, _work_congruence, _solve_congruence),
    Family("chain", _draw_chain, _ask_chain, _work_chain, _solve_chain),
)
