"""Number theory: powers modulo m, common divisors and multiples, divisors, digits."""

from __future__ import annotations

import math
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, listing, requests
from rstar_fast.nano.program import Number, Program, Term, call, term

# --- power: the remainder of a sum of powers -------------------------------------------------------------------------


def _draw_power(random: Random, level: int) -> Parameters:
    terms = []
    for _ in range((1, 1, 2, 2, 3)[level - 1]):
        factor = random.randint(2, 30) if level >= 4 or (level == 2 and random.randrange(2)) else 1
        terms.append(
            (
                factor,
                random.randint(2, (12, 30, 30, 60, 99)[level - 1]),
                random.randint(10, (120, 300, 200, 400, 900)[level - 1]),
            )
        )
    extra = random.randint(2, 99) if level >= 3 and random.randrange(2) else 0
    return (tuple(terms), extra, random.randint(7, (30, 60, 60, 99, 200)[level - 1]))


def _ask_power(parameters: Parameters, words: Words) -> str:
    terms, extra, modulus = parameters
    total = " + ".join(_power_text(*term_) for term_ in terms) + (f" + {extra}" if extra else "")
    whole = f"({total})" if "+" in total else total
    return words.pick(
        (
            f"What is the remainder when {total} is divided by {modulus}?",
            f"Find the remainder when {total} is divided by {modulus}.",
            f"Find the remainder of {total} divided by {modulus}.",
            f"Compute {whole} mod {modulus}.",
            f"What is {whole} mod {modulus}?",
            f"What remainder does {total} leave when divided by {modulus}?",
            f"Determine the remainder of {total} on division by {modulus}.",
            f"Divide {total} by {modulus}. What is the remainder?",
            f"Calculate the remainder after {total} is divided by {modulus}.",
        ),
        (
            f"If {total} is divided by {modulus}, what is the remainder?",
            f"Taking {modulus} out of {total} as often as possible, how much is left over?",
        ),
    )


def _power_text(factor: int, base: int, exponent: int) -> str:
    return f"{base}^{exponent}" if factor == 1 else f"{factor} * {base}^{exponent}"


def _work_power(parameters: Parameters, program: Program, words: Words) -> None:
    terms, extra, modulus = parameters
    rests: list[Term] = []
    for index, (factor, base, exponent) in enumerate(terms):
        program.step(f"The term {_power_text(factor, base, exponent)}")
        power = call("pow", pow, base, exponent, modulus)
        if program.style == 0 or factor == 1:
            rests.append(program.let("abc"[index], power if factor == 1 else term(factor) * power))
        else:
            rest = program.let("abc"[index], power)
            program.step(f"Multiply by {factor}")
            rests.append(program.let("abc"[index], rest * factor))
    if len(rests) == 1 and not extra and terms[0][0] == 1:
        program.show(rests[0])
        return
    total = rests[0]
    for rest in rests[1:]:
        total = total + rest
    if extra:
        total = total + extra
    program.step(f"Add {extra} and divide" if extra else "The remainder of the whole")
    program.show(program.let("x", total % modulus))


def _solve_power(parameters: Parameters) -> Number:
    """Multiplies one factor at a time, instead of squaring."""
    terms, extra, modulus = parameters
    total = extra
    for factor, base, exponent in terms:
        rest = factor
        for _ in range(exponent):
            rest = rest * base % modulus
        total += rest
    return total % modulus


# --- gcd and lcm -----------------------------------------------------------------------------------------------------


def _draw_common(random: Random, level: int) -> Parameters:
    unit = random.randint(2, 6 * level)
    if level >= 4:
        numbers = tuple(unit * k for k in random.sample(range(2, 13), 3))
    else:
        numbers = tuple(unit * k for k in random.sample(range(2, (10, 16, 31)[level - 1]), 2))
    kind = random.choice((("gcd", "lcm"), ("gcd", "lcm"), ("sum", "bells"), ("gcd", "lcm"), ("sum", "bells"))[level - 1])
    extra = random.randint(2, 90) if kind == "bells" else 0
    return (kind, numbers, extra)


def _ask_common(parameters: Parameters, words: Words) -> str:
    kind, numbers, extra = parameters
    listed, count = listing(numbers), len(numbers)
    commas = ", ".join(map(str, numbers))
    if kind == "bells":
        what, do = words.pick(
            (
                ("bells", "ring"),
                ("bells", "ring"),
                ("alarms", "go off"),
                ("machines", "beep"),
                ("buses", "leave a station"),
                ("signs", "light up"),
            ),
            (("lamps", "flash"), ("clocks", "chime")),
        )
        return words.pick(
            (
                f"{count} {what} {do} every {listed} minutes. They {do} together {extra} minutes after noon. "
                f"How many minutes after noon do they {do} together again?",
                f"If {count} {what} {do} every {listed} minutes and {do} together {extra} minutes after noon, "
                f"how many minutes after noon do they next {do} together?",
                f"{count} {what} {do} at the same time {extra} minutes after noon. They {do} every {listed} minutes. "
                f"How many minutes after noon do they {do} at the same time again?",
                f"There are {count} {what} that {do} every {listed} minutes. They all {do} {extra} minutes after noon. "
                f"Find the next time, in minutes after noon, when they all {do}.",
                f"How many minutes after noon do {count} {what} {do} together again if they {do} every {listed} minutes "
                f"and {do} together {extra} minutes after noon?",
            ),
            (
                f"Every {listed} minutes {count} {what} {do}. They {do} together {extra} minutes after noon. "
                f"When do they {do} together again, in minutes after noon?",
                f"With gaps of {listed} minutes {count} {what} {do}, and all of them did {extra} minutes past noon. "
                f"Which is their next joint time, in minutes past noon?",
            ),
        )
    if kind == "sum":
        return words.pick(
            (
                *requests(f"the sum of the gcd and the lcm of {listed}"),
                f"What is the sum of the greatest common divisor and the least common multiple of {listed}?",
                f"Compute gcd({commas}) + lcm({commas}).",
                f"Let g be the gcd and m the lcm of {listed}. Find g + m.",
                f"If g is the greatest common divisor and m the least common multiple of {listed}, what is g + m?",
            ),
            (
                f"Add the gcd and the lcm of {listed}. What do you get?",
                f"How large are the gcd and the lcm of {listed} put together?",
            ),
        )
    name = {"gcd": "greatest common divisor", "lcm": "least common multiple"}[kind]
    other = {"gcd": "greatest common factor", "lcm": "smallest common multiple"}[kind]
    meaning = {
        "gcd": f"What is the largest integer that divides each of {listed}?",
        "lcm": f"What is the smallest positive integer that is divisible by each of {listed}?",
    }[kind]
    return words.pick(
        (
            *requests(f"the {name} of {listed}"),
            f"What is the {kind} of {listed}?",
            f"Find the {kind} of {listed}.",
            f"Compute {kind}({commas}).",
            f"What is the {other} of {listed}?",
            meaning,
        ),
        (f"The numbers are {listed}. What is their {name}?", f"Take {listed}. Which {name} do they have?"),
    )


def _work_common(parameters: Parameters, program: Program, words: Words) -> None:
    kind, numbers, extra = parameters

    def fold(name: str) -> Term:
        function = getattr(math, name)
        if program.style == 0 or len(numbers) == 2:
            program.step(f"The {name}", f"from math import {name}")
            return program.let("g" if name == "gcd" else "m", call(name, function, *numbers))
        program.step(f"The {name} of the first two", f"from math import {name}")
        first = program.let("g" if name == "gcd" else "m", call(name, function, *numbers[:2]))
        program.step("Now with the third")
        return program.let(first.text, call(name, function, first, numbers[2]))

    if kind == "gcd":
        result = fold("gcd")
    elif kind == "lcm":
        result = fold("lcm")
    elif kind == "sum":
        divisor, multiple = fold("gcd"), fold("lcm")
        program.step("Add them")
        result = program.let("x", divisor + multiple)
    else:
        multiple = fold("lcm")
        program.step("Add it to the first time")
        result = program.let("x", multiple + extra)
    program.show(result)


def _solve_common(parameters: Parameters) -> Number:
    """Tries every divisor from above and every multiple from below."""
    kind, numbers, extra = parameters
    divisor = next(d for d in range(min(numbers), 0, -1) if all(n % d == 0 for n in numbers))
    multiple = max(numbers)
    while any(multiple % n for n in numbers):
        multiple += max(numbers)
    return {"gcd": divisor, "lcm": multiple, "sum": divisor + multiple, "bells": multiple + extra}[kind]


# --- divisors --------------------------------------------------------------------------------------------------------

_DIVISOR_CONDITIONS = ("", "even", "odd", "more", "less", "multiple")


def _draw_divisors(random: Random, level: int) -> Parameters:
    kind = random.choice(("count", "sum"))
    condition = "" if level <= 2 else random.choice(_DIVISOR_CONDITIONS[1:])
    number = random.randint(*((10, 60), (40, 200), (30, 300), (100, 600), (200, 999))[level - 1])
    if condition == "even":
        number += number % 2
    limit = random.randint(3, 9) if condition == "multiple" else random.randint(4, 30) if condition in ("more", "less") else 0
    second = random.randint(50, 400) if level == 5 else 0
    return (kind, number, condition, limit, second)


def _divisor_tail(parameters: Parameters, words: Words) -> tuple[str, str]:
    """The adjective before "divisors" and the condition after them."""
    _, _, condition, limit, _ = parameters
    tail = {
        "more": words.pick(
            (f" that are greater than {limit}", f" that are larger than {limit}", f" greater than {limit}"),
            (f" that exceed {limit}", f" that are above {limit}"),
        ),
        "less": words.pick(
            (f" that are less than {limit}", f" that are smaller than {limit}", f" less than {limit}"),
            (f" that stay below {limit}", f" that are under {limit}"),
        ),
        "multiple": words.pick(
            (f" that are multiples of {limit}", f" that are divisible by {limit}", f" divisible by {limit}"),
            (f" in which {limit} goes without rest", f" that have {limit} as a factor"),
        ),
    }.get(condition, "")
    return (f"{condition} " if condition in ("even", "odd") else ""), tail


def _ask_divisors(parameters: Parameters, words: Words) -> str:
    kind, number, _, _, second = parameters
    adjective, tail = _divisor_tail(parameters, words)
    noun = f"{adjective}common " if second else adjective
    noun += words.pick(("divisors", "divisors", "positive divisors", "factors"), ("divisors",))
    of = f"{number} and {second}" if second else f"{number}"
    phrase = f"{noun} of {of}{tail}"
    if kind == "count":
        return words.pick(
            (
                f"How many {phrase} are there?",
                f"What is the number of {phrase}?",
                f"Find the number of {phrase}.",
                f"Determine how many {phrase} there are.",
                f"How many {noun} {'do' if second else 'does'} {of} have{tail}?",
                f"Calculate the number of {phrase}.",
            ),
            (f"Count the {phrase}. How many are there?", f"Somebody writes down the {phrase}. How long is the list?"),
        )
    return words.pick(
        (
            *requests(f"the sum of the {phrase}"),
            f"What is the sum of all {phrase}?",
            f"Find the sum of all the {phrase}.",
        ),
        (f"Add all the {phrase}. What do you get?", f"Somebody writes down the {phrase}. How much are they in all?"),
    )


def _divisor_tests(parameters: Parameters) -> tuple[list[str], list[int]]:
    _, number, condition, limit, second = parameters
    tests = [f"{number} % d == 0"]
    if second:
        tests.append(f"{second} % d == 0")
    tests += {
        "even": ["d % 2 == 0"],
        "odd": ["d % 2 == 1"],
        "more": [f"d > {limit}"],
        "less": [f"d < {limit}"],
        "multiple": [f"d % {limit} == 0"],
    }.get(condition, [])
    found = [
        d
        for d in range(1, number + 1)
        if number % d == 0
        and (not second or second % d == 0)
        and {
            "even": d % 2 == 0,
            "odd": d % 2 == 1,
            "more": d > limit,
            "less": d < limit,
            "multiple": d % (limit or 1) == 0,
        }.get(condition, True)
    ]
    return tests, found


def _work_divisors(parameters: Parameters, program: Program, words: Words) -> None:
    kind, number, *_ = parameters
    tests, found = _divisor_tests(parameters)
    program.step("All the divisors", f"ds = [d for d in range(1, {number} + 1) if {tests[0]}]")
    if len(tests) > 1:
        if program.style == 0:
            program.step("Keep those with the condition", f"ds = [d for d in ds if {' and '.join(tests[1:])}]")
        else:
            for test in tests[1:]:
                program.step("Keep those with the condition", f"ds = [d for d in ds if {test}]")
    program.step("Count them" if kind == "count" else "Add them")
    program.show(program.let("x", Term("len(ds)", len(found)) if kind == "count" else Term("sum(ds)", sum(found))))


def _solve_divisors(parameters: Parameters) -> Number:
    """Multiplies out the prime factorisation instead of trying every number."""
    kind, number, condition, limit, second = parameters
    rest, divisors, prime = math.gcd(number, second) if second else number, [1], 2
    while rest > 1:
        power, powers = 1, [1]
        while rest % prime == 0:
            rest //= prime
            power *= prime
            powers.append(power)
        divisors = [d * p for d in divisors for p in powers]
        prime += 1
    if condition in ("even", "odd"):
        divisors = [d for d in divisors if (d & 1) == (condition == "odd")]
    elif condition:
        multiples = set(range(0, number + 1, limit))
        divisors = [
            d
            for d in divisors
            if (d in multiples if condition == "multiple" else d > limit if condition == "more" else d < limit)
        ]
    return len(divisors) if kind == "count" else sum(divisors)


# --- digits: the digit sum of an expression --------------------------------------------------------------------------


def _draw_digits(random: Random, level: int) -> Parameters:
    kind = (("number",), ("product", "power"), ("product", "power"), ("mixed",), ("mixed",))[level - 1]
    kind = random.choice(kind)
    if kind == "number":
        return (kind, (random.randint(100, 99999),))
    if kind == "power":
        return (kind, (random.randint(2, 9 * level), random.randint(4, 5 * level)))
    top = (0, 99, 400, 500, 999)[level - 1]
    return (kind, tuple(random.randint(11, top) for _ in range(2 if kind == "product" else level - 1)))


def _ask_digits(parameters: Parameters, words: Words) -> str:
    kind, numbers = parameters
    text = _digit_text(kind, numbers)
    return words.pick(
        (
            *requests(f"the sum of the digits of {text}"),
            f"Find the digit sum of {text}.",
            f"What is the digit sum of {text}?",
            f"Let n = {text}. Find the sum of the digits of n.",
            f"If n = {text}, what is the sum of the digits of n?",
            f"The number n is {text}. What is the sum of its digits?",
        ),
        (f"Add up the digits of {text}. What do you get?", f"Which total do the digits of {text} make?"),
    )


def _digit_text(kind: str, numbers: tuple[int, ...]) -> str:
    if kind == "power":
        return f"{numbers[0]}^{numbers[1]}"
    if kind == "mixed":
        return f"{numbers[0]} * {numbers[1]} + {numbers[2]}" + (f" * {numbers[3]}" if len(numbers) == 4 else "")
    return " * ".join(map(str, numbers))


def _work_digits(parameters: Parameters, program: Program, words: Words) -> None:
    kind, numbers = parameters
    program.step("The number")
    number = term(numbers[0])
    if kind == "power":
        number = number ** numbers[1]
    elif kind == "product":
        number = number * numbers[1]
    elif kind == "mixed":
        number = number * numbers[1] + (term(numbers[2]) * numbers[3] if len(numbers) == 4 else term(numbers[2]))
    number = program.let("n", number)
    value = sum(int(digit) for digit in str(number.value))
    if program.style == 0:
        program.step("Add its digits")
        program.show(program.let("x", Term("sum(int(d) for d in str(n))", value)))
    else:
        program.step("Add its digits one by one", "x = 0", "while n > 0:", "    x = x + n % 10", "    n = n // 10")
        program.show(Term("x", value))


def _solve_digits(parameters: Parameters) -> Number:
    """n minus 9 times the sum of its tails: digit sum = n - 9 * sum of n // 10^k."""
    kind, numbers = parameters
    if kind == "power":
        number = math.prod([numbers[0]] * numbers[1])
    elif kind == "mixed":
        number = numbers[0] * numbers[1] + math.prod(numbers[2:])
    else:
        number = math.prod(numbers)
    tails, tail = 0, number // 10
    while tail:
        tails, tail = tails + tail, tail // 10
    return number - 9 * tails


FAMILIES = (
    Family("power", _draw_power, _ask_power, _work_power, _solve_power),
    Family("common", _draw_common, _ask_common, _work_common, _solve_common),
    Family("divisors", _draw_divisors, _ask_divisors, _work_divisors, _solve_divisors),
    Family("digits", _draw_digits, _ask_digits, _work_digits, _solve_digits),
)
