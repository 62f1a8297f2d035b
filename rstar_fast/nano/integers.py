"""Integers with conditions: counting multiples, congruences, chains of named numbers."""

from __future__ import annotations

import math
from itertools import combinations
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words
from rstar_fast.nano.program import Number, Program, Term, call, term

# --- multiples: counting with conditions -----------------------------------------------------------------------------


def _draw_multiples(random: Random, level: int) -> Parameters:
    kind = random.choice((("one",), ("or", "and"), ("or", "not"), ("or not", "and not"), ("or not", "between"))[level - 1])
    low = random.randint(20, 300) if level >= 4 else 1
    high = low + random.randint(30, (99, 300, 600, 900, 1900)[level - 1])
    numbers = tuple(random.sample(range(2, 13 if level < 5 else 16), {"one": 1, "or not": 3, "and not": 3}.get(kind, 2)))
    return (kind, low, high, numbers)


def _ask_multiples(parameters: Parameters, words: Words) -> str:
    kind, low, high, n = parameters
    condition = {
        "one": lambda: f"divisible by {n[0]}",
        "or": lambda: f"divisible by {n[0]} or by {n[1]}",
        "and": lambda: f"divisible by {n[0]} and by {n[1]}",
        "not": lambda: f"divisible by {n[0]} but not by {n[1]}",
        "or not": lambda: f"divisible by {n[0]} or by {n[1]} but not by {n[2]}",
        "and not": lambda: f"divisible by {n[0]} and by {n[1]} but not by {n[2]}",
        "between": lambda: f"divisible by exactly one of {n[0]} and {n[1]}",
    }[kind]()
    return words.pick(
        (
            f"How many integers from {low} to {high} are {condition}?",
            f"Count the integers from {low} to {high} that are {condition}.",
        ),
        (f"Among the integers from {low} to {high}, how many are {condition}?",),
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
    rests = " and ".join(
        words.pick((f"remainder {r} when divided by {m}",), (f"rest {r} when divided by {m}",)) for m, r in conditions
    )
    bound = words.pick((f"integer greater than {least}",), (f"integer above {least}",)) if least else "positive integer"
    return words.pick(
        (f"What is the smallest {bound} that has {rests}?", f"Find the smallest {bound} that leaves {rests}."),
        (f"Which is the smallest {bound} with {rests}?",),
    )


def _work_congruence(parameters: Parameters, program: Program, words: Words) -> None:
    conditions, least = parameters
    value = least + 1
    while any(value % m != r for m, r in conditions):
        value += 1
    if program.style == 0:
        program.step("Start from the smallest number", f"n = {least + 1}")
        program.step(
            "Go on until all the remainders are right",
            f"while {' or '.join(f'n % {m} != {r}' for m, r in conditions)}:",
            "    n = n + 1",
        )
    else:
        program.step("Start from the smallest number", f"n = {least + 1}")
        (m, r), *others = conditions
        program.step("Go to the first remainder", f"while n % {m} != {r}:", "    n = n + 1")
        stride = f"{m}"
        for m, r in others:
            program.step("Keep it and go to the next", f"while n % {m} != {r}:", f"    n = n + {stride}")
            stride += f" * {m}"
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
        "gcd": lambda: f"the greatest common divisor of {a} and {b}",
        "digits": lambda: f"the sum of the digits of {a * b}",
        "remainder": lambda: f"the remainder of {a} divided by {b}",
    }[kind]()
    be = words.pick(("Let {} be {}.",), ("Call {} what is {}.",))
    sentences = [be.format("A", first)]
    for index, (link, n) in enumerate(links, 1):
        sentences.append(be.format(_LETTERS[index], _link_phrase(link, n, _LETTERS[index - 1])))
    return " ".join(sentences) + words.pick(
        (f" What is {_LETTERS[len(links)]}?", f" Find {_LETTERS[len(links)]}."),
        (f" Which number is {_LETTERS[len(links)]}?",),
    )


def _link_phrase(link: str, n: int, last: str) -> str:
    return {
        "times": f"{n} times {last}",
        "plus": f"the sum of {n} and {last}",
        "square": f"the square of {last}",
        "remainder": f"the remainder of {last} divided by {n}",
        "digits": f"the sum of the digits of {last}",
    }[link]


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
        program.step("The greatest common divisor", "from math import gcd")
        value = call("gcd", math.gcd, a, b)
    elif kind == "digits":
        program.step("The digits")
        value = _digit_sum(a * b)
    else:
        program.step("The remainder")
        value = term(a) % b
    value = program.let("A", value)
    for index, (link, n) in enumerate(links, 1):
        program.step(
            {
                "times": "The product",
                "plus": "The sum",
                "square": "The square",
                "remainder": "The remainder",
                "digits": "The digits",
            }[link]
        )
        result = _linked(link, n, value, program.style)
        value = program.let(_LETTERS[index], result)
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


FAMILIES = (
    Family("multiples", _draw_multiples, _ask_multiples, _work_multiples, _solve_multiples),
    Family("congruence", _draw_congruence, _ask_congruence, _work_congruence, _solve_congruence),
    Family("chain", _draw_chain, _ask_chain, _work_chain, _solve_chain),
)
