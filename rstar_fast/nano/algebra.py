"""Algebra: linear equations, systems of two, polynomials, sequences."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, requests, small
from rstar_fast.nano.program import Number, Program, Term, ratio, term

# --- equation: linear in one unknown ---------------------------------------------------------------------------------


def _draw_equation(random: Random, level: int) -> Parameters:
    kind = (
        "plain",
        random.choice(("plain", "both")),
        random.choice(("both", "bracket")),
        "brackets",
        random.choice(("brackets", "story")),
    )[level - 1]
    x = random.randint(2, 12 * level)
    a, b = random.randint(3, 5 + 4 * level), random.randint(2, 20 * level)
    if kind == "plain":
        return (kind, a, b, 0, a * x + b)
    c = random.randint(2, a - 1)
    if kind == "both":
        return (kind, a, b, c, (a - c) * x + b)
    if kind == "bracket":
        return (kind, a, b, c, a * (x + b) + c)
    return (kind, a, b, c, random.randint(2, 9 * level))


def _ask_equation(parameters: Parameters, words: Words) -> str:
    kind, a, b, c, d = parameters
    if kind == "story":
        name, more = words.name(), a * b + d
        return words.pick(
            (
                f"{name} thinks of a number, adds {b} and multiplies by {a}. "
                f"The result is the same as {c} times the number plus {more}. What is the number?",
                f"When {b} is added to a number and the sum is multiplied by {a}, "
                f"the result equals {c} times the number plus {more}. Find the number.",
                f"Find the number such that {a} times the sum of the number and {b} equals {c} times the number plus {more}.",
                f"{name} picks a number. Adding {b} and then multiplying by {a} gives the same result as "
                f"multiplying the number by {c} and then adding {more}. What number did {name} pick?",
                f"The product of {a} and the sum of a number and {b} is equal to {c} times the number plus {more}. "
                f"Determine the number.",
            ),
            (
                f"If {name} adds {b} to a number and multiplies by {a}, "
                f"the result is {more} more than {c} times the number. Which number is it?",
                f"A secret number, raised by {b} and then taken {a} times, is worth {c} times the secret number "
                f"and {more} besides. Which number does {name} hide?",
            ),
        )
    equation = {
        "plain": f"{a}x + {b} = {d}",
        "both": f"{a}x + {b} = {c}x + {d}",
        "bracket": f"{a}(x + {b}) + {c} = {d}",
        "brackets": f"{a}(x + {b}) = {c}(x + {d})",
    }[kind]
    return words.pick(
        (
            f"Solve {equation} for x.",
            f"What is x if {equation}?",
            f"Find x if {equation}.",
            f"If {equation}, what is x?",
            f"Solve the equation {equation}.",
            f"Solve for x: {equation}.",
            f"Given that {equation}, find x.",
            f"What value of x satisfies {equation}?",
            f"Determine the value of x when {equation}.",
        ),
        (f"The number x fits {equation}. Find x.", f"For which x is it true that {equation}?"),
    )


def _work_equation(parameters: Parameters, program: Program, words: Words) -> None:
    kind, a, b, c, d = parameters
    if kind == "plain":
        program.step("Take the number to the right")
        right = program.let("right", term(d) - b)
        program.step("Divide by the factor of x")
        program.show(program.let("x", right // a))
        return
    if kind == "bracket":
        program.step("Undo the addition")
        right = program.let("right", term(d) - c)
        program.step("Undo the factor")
        right = program.let("right", right // a)
        program.step("Undo the bracket")
        program.show(program.let("x", right - b))
        return
    fractions = kind != "both"
    program.step("Bring x to the left", *(["from fractions import Fraction"] if fractions else []))
    left = program.let("left", term(a) - c)
    program.step("Bring the numbers to the right")
    if kind == "both":
        right = term(d) - b
    elif kind == "story":
        right = term(a * b + d) - term(a) * b
    else:
        right = term(c) * d - term(a) * b
    right = program.let("right", right)
    program.step("Divide")
    program.show(program.let("x", ratio(right, left) if fractions else right // left))


def _solve_equation(parameters: Parameters) -> Number:
    """The zero of a linear function from its values at 0 and 1."""
    kind, a, b, c, d = parameters

    def gap(x: int) -> int:
        left = {"plain": a * x + b, "both": a * x + b, "bracket": a * (x + b) + c}.get(kind, a * (x + b))
        right = {"plain": d, "bracket": d, "both": c * x + d, "story": c * x + a * b + d}.get(kind, c * (x + d))
        return left - right

    return Fraction(-gap(0), gap(1) - gap(0))


# --- system: two linear equations ------------------------------------------------------------------------------------

_ANIMALS = {2: "birds", 4: "dogs", 6: "bees", 8: "spiders"}


def _draw_system(random: Random, level: int) -> Parameters:
    kind = ("sum", random.choice(("sum", "heads")), random.choice(("heads", "tickets")), "tickets", "system")[level - 1]
    x, y = random.randint(2, 15 * level), random.randint(2, 15 * level)
    if kind == "sum":
        x, y = max(x, y) + 1, min(x, y)
        return (kind, 1, 1, 1, -1, x + y, x - y, random.choice("xy"))
    if kind == "heads":
        return (kind, 1, 1, *random.choice(((2, 4), (2, 6), (4, 6), (2, 8))), x + y, 0, random.choice("xy"), x)
    while True:
        a, b, c, d = (random.randint(2, 5 + 3 * level) for _ in range(4))
        if kind == "tickets":
            a = b = 1
        if a * d != b * c:
            break
    return (
        kind,
        a,
        b,
        c,
        d,
        a * x + b * y,
        c * x + d * y,
        random.choice(("x", "y", "x + y", "xy") if kind == "system" else "xy"),
    )


def _coefficients(parameters: Parameters) -> tuple[int, int, int, int, int, int, str]:
    if parameters[0] == "heads":
        _, a, b, c, d, total, _, wanted, x = parameters
        return a, b, c, d, total, c * x + d * (total - x), wanted
    return parameters[1:]


def _ask_system(parameters: Parameters, words: Words) -> str:
    kind = parameters[0]
    a, b, c, d, e, f, wanted = _coefficients(parameters)
    if kind == "sum":
        which = "larger" if wanted == "x" else "smaller"
        left, right, thing = words.name(0), words.name(1), words.thing()
        who = left if wanted == "x" else right
        return words.pick(
            (
                f"The sum of two numbers is {e} and their difference is {f}. What is the {which} number?",
                f"Two numbers add up to {e} and differ by {f}. Find the {which} number.",
                f"Find the {which} of two numbers whose sum is {e} and whose difference is {f}.",
                f"One number is {f} more than another, and their sum is {e}. What is the {which} number?",
                f"{left} and {right} have {e} {thing} in total. {left} has {f} more than {right}. "
                f"How many {thing} does {who} have?",
                f"If x + y = {e} and x - y = {f}, what is {wanted}?",
                f"Given x + y = {e} and x - y = {f}, find {wanted}.",
            ),
            (
                f"Two numbers have the sum {e} and the difference {f}. Find the {which} one.",
                f"Two numbers lie {f} apart and together make {e}. Which is the {which} one?",
            ),
        )
    if kind == "heads":
        first, second = _ANIMALS[c], _ANIMALS[d]
        asked = first if wanted == "x" else second
        return words.pick(
            (
                f"There are {e} {first} and {second} with {f} legs in all. A {first[:-1]} has {c} legs and "
                f"a {second[:-1]} has {d}. How many {asked} are there?",
                f"A zoo has {e} {first} and {second}. Together they have {f} legs. Each {first[:-1]} has {c} legs and "
                f"each {second[:-1]} has {d} legs. How many {asked} does the zoo have?",
                f"Each {first[:-1]} has {c} legs and each {second[:-1]} has {d} legs. "
                f"A group of {e} {first} and {second} has {f} legs in total. Find the number of {asked}.",
                f"If {first} have {c} legs and {second} have {d} legs, "
                f"how many {asked} are in a group of {e} {first} and {second} with {f} legs?",
                f"{words.name()} counts {f} legs on {e} animals, all of them {first} or {second}. "
                f"With {c} legs per {first[:-1]} and {d} legs per {second[:-1]}, how many {asked} are there?",
            ),
            (
                f"Some {first} with {c} legs and {second} with {d} legs have {e} heads and {f} legs. "
                f"How many {asked} are there?",
                f"A picture shows {first} ({c} legs each) and {second} ({d} legs each): {e} animals on {f} legs. "
                f"How many {asked} can be seen?",
            ),
        )
    if kind == "tickets":
        asked = "adults" if wanted == "x" else "children"
        return words.pick(
            (
                f"Adults pay {c} dollars and children pay {d} dollars. {e} people pay {f} dollars in all. "
                f"How many {asked} are there?",
                f"Entry to a museum costs {c} dollars for adults and {d} dollars for children. "
                f"{e} visitors pay {f} dollars in total. How many {asked} are among them?",
                f"A zoo charges {c} dollars per adult and {d} dollars per child. "
                f"One day {e} people come and pay {f} dollars altogether. Find the number of {asked}.",
                f"If adults pay {c} dollars each and children pay {d} dollars each, "
                f"how many {asked} are in a group of {e} people that pays {f} dollars?",
                f"{e} people go to a concert and pay {f} dollars in total. Each adult pays {c} dollars and "
                f"each child pays {d} dollars. How many {asked} go to the concert?",
            ),
            (
                f"A show sells {e} tickets for {f} dollars. Tickets cost {c} dollars for adults and {d} for children. "
                f"How many {asked} come?",
                f"With {e} passengers, adults at {c} dollars and children at {d} dollars, a ferry earns {f} dollars. "
                f"How many {asked} does it carry?",
            ),
        )
    one, two = f"{a}x + {b}y = {e}", f"{c}x + {d}y = {f}"
    return words.pick(
        (
            f"If {one} and {two}, what is {wanted}?",
            f"Given {one} and {two}, find {wanted}.",
            f"Let x and y satisfy {one} and {two}. What is {wanted}?",
            f"Find {wanted} if {one} and {two}.",
            f"Solve the system {one}, {two}. What is {wanted}?",
            f"What is the value of {wanted} when {one} and {two}?",
            f"Suppose that {one} and {two}. Determine {wanted}.",
        ),
        (
            f"The numbers x and y fit {one} and {two}. Find {wanted}.",
            f"For the x and y that make both {one} and {two} true, how large is {wanted}?",
        ),
    )


def _work_system(parameters: Parameters, program: Program, words: Words) -> None:
    kind = parameters[0]
    a, b, c, d, e, f, wanted = _coefficients(parameters)
    if kind == "sum":
        if wanted == "x":
            program.step(f"Sum {e} plus difference {f}, halved")
            program.show(program.let("x", (term(e) + f) // 2))
        elif program.style == 0:
            program.step(f"Sum {e} minus difference {f}, halved")
            program.show(program.let("y", (term(e) - f) // 2))
        else:
            program.step("Half of sum plus difference is the larger")
            x = program.let("x", (term(e) + f) // 2)
            program.step("The smaller one")
            program.show(program.let("y", term(e) - x))
        return
    if kind in ("heads", "tickets"):
        first, second = (_ANIMALS[c], _ANIMALS[d]) if kind == "heads" else ("adults", "children")
        low, high, cheap, dear = (c, d, first, second) if c < d else (d, c, second, first)
        program.step(f"If all {e} were {cheap}")
        least = program.let("least", term(e) * low)
        program.step(f"The rest are {dear}")
        count = program.let(dear, (term(f) - least) // (term(high) - low))
        if dear != (first if wanted == "x" else second):
            program.step("The others")
            count = program.let(cheap, term(e) - count)
        program.show(count)
        return
    _work_equations((a, b, c, d, e, f), wanted, program)


def _work_equations(coefficients: tuple[int, ...], wanted: str, program: Program) -> None:
    """Cramer's rule with the numbers named once, so that the formulas are always the same."""
    a, b, c, d, e, f = (Term(name, value) for name, value in zip("abcdef", coefficients, strict=True))
    program.step(
        "The two equations", f"a, b, e = {a.value}, {b.value}, {e.value}", f"c, d, f = {c.value}, {d.value}, {f.value}"
    )
    program.step("The determinant")
    determinant = program.let("det", a * d - b * c)
    values: list[Term] = []
    if wanted != "y":
        program.step("Find x")
        values.append(program.let("x", (e * d - b * f) // determinant))
    if wanted != "x":
        program.step("Find y")
        values.append(program.let("y", (a * f - e * c) // determinant))
    if len(values) == 1:
        program.show(values[0])
        return
    program.step("Put both together")
    program.show(program.let("z", values[0] + values[1] if wanted == "x + y" else values[0] * values[1]))


def _solve_system(parameters: Parameters) -> Number:
    """Tries every x."""
    a, b, c, d, e, f, wanted = _coefficients(parameters)
    found = [(x, (e - a * x) // b) for x in range(0, 1000) if (e - a * x) % b == 0 and c * x + d * ((e - a * x) // b) == f]
    ((x, y),) = found
    return {"x": x, "y": y, "x + y": x + y, "xy": x * y}[wanted]


# --- polynomial: evaluation and composition --------------------------------------------------------------------------


def _draw_polynomial(random: Random, level: int) -> Parameters:
    kind = (
        "one",
        "one",
        random.choice(("sum", "gap")),
        random.choice(("inside", "sum")),
        random.choice(("inside", "twice")),
    )[level - 1]
    degree = (1, 2, 2, 2, 3)[level - 1]
    second = (2 if level == 5 else 1) if kind in ("inside", "twice") else degree
    f = tuple(random.randint(2, 4 + 3 * level) for _ in range(degree + 1))
    g = tuple(random.randint(2, 4 + 3 * level) for _ in range(second + 1)) if kind in ("inside", "twice") else ()
    at = (random.randint(2, 5 + 5 * level), random.randint(2, 5 + 5 * level))
    if kind == "gap":
        at = (max(at) + 1, min(at))
    if kind in ("one", "inside", "twice"):
        at = (at[0], 0)
    if kind == "twice":
        at = (random.randint(2, 6), 0)
    return (kind, f, g, at)


def _polynomial_text(coefficients: tuple[int, ...]) -> str:
    powers = {0: "", 1: "x"}
    top = len(coefficients) - 1
    return " + ".join(f"{c}{powers.get(top - i, f'x^{top - i}')}" for i, c in enumerate(coefficients))


def _ask_polynomial(parameters: Parameters, words: Words) -> str:
    kind, f, g, (a, b) = parameters
    definitions = f"f(x) = {_polynomial_text(f)}" + (f" and g(x) = {_polynomial_text(g)}" if g else "")
    wanted = {
        "one": f"f({a})",
        "sum": f"f({a}) + f({b})",
        "gap": f"f({a}) - f({b})",
        "inside": f"f(g({a}))",
        "twice": f"g(f({a})) + g({a})",
    }[kind]
    seen = [
        f"If {definitions}, what is {wanted}?",
        f"Let {definitions}. Find {wanted}.",
        f"Given {definitions}, find {wanted}.",
        f"Suppose {definitions}. What is {wanted}?",
        f"Find {wanted} if {definitions}.",
        f"Evaluate {wanted}, where {definitions}.",
        f"Let {definitions}. Calculate {wanted}.",
        f"Compute {wanted} if {definitions}.",
    ]
    if kind == "one":
        seen += [
            f"What is the value of {_polynomial_text(f)} when x = {a}?",
            f"Evaluate {_polynomial_text(f)} at x = {a}.",
        ]
    return words.pick(seen, (f"What is {wanted} for {definitions}?", f"How large is {wanted} with {definitions}?"))


def _at(coefficients: tuple[int, ...], x: Term) -> Term:
    top = len(coefficients) - 1
    total: Term | None = None
    for i, coefficient in enumerate(coefficients):
        power = top - i
        piece = term(coefficient) if power == 0 else term(coefficient) * x if power == 1 else term(coefficient) * x**power
        total = piece if total is None else total + piece
    assert total is not None
    return total


def _work_polynomial(parameters: Parameters, program: Program, words: Words) -> None:
    kind, f, g, (a, b) = parameters

    def evaluate(comment: str, name: str, coefficients: tuple[int, ...], x: Term | int) -> Term:
        program.step(comment)
        if program.style == 0:
            x = program.let("x", x)
        return program.let(name, _at(coefficients, term(x)))

    if kind == "one":
        program.show(evaluate("Put the number into f", "y", f, a))
    elif kind == "inside":
        inner = evaluate("The inner value g", "g", g, a)
        program.show(evaluate("Put it into f", "y", f, inner))
    elif kind == "twice":
        inner = evaluate("The inner value f", "f", f, a)
        outer = evaluate("Put it into g", "g", g, inner)
        other = evaluate("The other value of g", "h", g, a)
        program.step("Add both")
        program.show(program.let("y", outer + other))
    else:
        first = evaluate("The first value", "u", f, a)
        second = evaluate("The second value", "v", f, b)
        program.step("Add both" if kind == "sum" else "The difference")
        program.show(program.let("y", first + second if kind == "sum" else first - second))


def _solve_polynomial(parameters: Parameters) -> Number:
    """Horner's rule."""
    kind, f, g, (a, b) = parameters

    def horner(coefficients: tuple[int, ...], x: int) -> int:
        value = 0
        for coefficient in coefficients:
            value = value * x + coefficient
        return value

    return {
        "one": lambda: horner(f, a),
        "sum": lambda: horner(f, a) + horner(f, b),
        "gap": lambda: horner(f, a) - horner(f, b),
        "inside": lambda: horner(f, horner(g, a)),
        "twice": lambda: horner(g, horner(f, a)) + horner(g, a),
    }[kind]()


# --- sequence --------------------------------------------------------------------------------------------------------


def _draw_sequence(random: Random, level: int) -> Parameters:
    kind = random.choice((("term",), ("sum", "term"), ("sum", "rule"), ("rule", "squares"), ("pair", "squares"))[level - 1])
    first, step = small(random, level), small(random, level)
    if kind in ("term", "sum"):
        return (kind, first, step, 0, random.randint(5, 12 * level))
    if kind == "squares":
        return (
            kind,
            random.randint(2, 9),
            random.randint(1, 9),
            random.randint(0, 9) if level == 5 else 0,
            random.randint(6, 12 * level),
        )
    if kind == "rule":
        return (kind, random.randint(2, 9), random.randint(2, 4), random.randint(1, 9 * level), random.randint(4, 9))
    return (
        kind,
        random.randint(1, 9),
        random.randint(1, 9),
        (random.randint(1, 3), random.randint(2, 4)),
        random.randint(5, 10),
    )


def _ordinal(n: int) -> str:
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _ask_sequence(parameters: Parameters, words: Words) -> str:
    kind, first, step, extra, n = parameters
    if kind == "squares":
        each = f"{first}k^2 + {step}k" + (f" + {extra}" if extra else "")
        return words.pick(
            (
                *requests(f"the sum of {each} for k from 1 to {n}"),
                f"Find the sum of all values of {each} for k = 1 to {n}.",
                f"Compute the sum over k from 1 to {n} of {each}.",
                f"If k goes from 1 to {n}, what is the sum of all the values {each}?",
            ),
            (
                f"Add {each} over all k from 1 to {n}. What do you get?",
                f"Let k run through 1 up to {n}. How large are all the {each} put together?",
            ),
        )
    if kind == "sum":
        wanted = words.pick(
            (
                f"What is the sum of the first {n} terms?",
                f"Calculate the sum of the first {n} terms.",
                f"What do the first {n} terms add up to?",
                f"Work out the sum of its first {n} terms.",
                f"Determine the sum of the first {n} terms of the sequence.",
            ),
            (f"Find the sum of the first {n} terms.", f"How large are the first {n} terms put together?"),
        )
    else:
        wanted = words.pick(
            (
                f"What is term number {n}?",
                f"What is the {_ordinal(n)} term?",
                f"Calculate the {_ordinal(n)} term.",
                f"Determine term number {n} of the sequence.",
                f"What is the value of the {_ordinal(n)} term?",
                f"Work out term {n}.",
            ),
            (f"Find term number {n}.", f"Which number stands at place {n}?"),
        )
    if kind in ("term", "sum"):
        what = words.pick(
            (
                f"A sequence starts with {first} and each term is {step} more than the last.",
                f"An arithmetic sequence has first term {first} and common difference {step}.",
                f"The first term of an arithmetic sequence is {first} and the common difference is {step}.",
                f"A sequence begins with {first} and grows by {step} from each term to the next.",
                f"In a sequence, the first term is {first} and each term is the term before plus {step}.",
            ),
            (
                f"The first term is {first} and every next one is {step} larger.",
                f"At place 1 stands {first}, and at each later place {step} more than at the place before.",
            ),
        )
        name = words.name()
        saves = f"{name} saves {first} dollars in week 1 and {step} dollars more each week than the week before."
        asked = f"in week {n}" if kind == "term" else f"in the first {n} weeks together"
        told = f"{what} {wanted}"
        return words.pick((*(told,) * 6, f"{saves} How many dollars does {name} save {asked}?"), (told,))
    if kind == "rule":
        return words.pick(
            (
                f"A sequence starts with {first}. Each next term is {step} times the last plus {extra}. {wanted}",
                f"The first term of a sequence is {first}. "
                f"To get the next term, multiply the last one by {step} and add {extra}. {wanted}",
                f"In a sequence that begins with {first}, each term equals {step} times the term before plus {extra}. {wanted}",
                f"Let a_1 = {first} and a_(k+1) = {step} * a_k + {extra}. Find a_{n}.",
                f"If a_1 = {first} and a_(k+1) = {step} * a_k + {extra}, what is a_{n}?",
            ),
            (
                f"The first term is {first} and every next one is {step} times the last plus {extra}. {wanted}",
                f"At place 1 stands {first}, and at each later place {step} times the number before and {extra} besides. "
                f"{wanted}",
            ),
        )
    p, q = extra
    return words.pick(
        (
            f"A sequence starts with {first} and {step}. "
            f"Each next term is {p} times the last plus {q} times the one before. {wanted}",
            f"The first two terms of a sequence are {first} and {step}. "
            f"After that, each term is {p} times the previous term plus {q} times the term before that. {wanted}",
            f"A sequence begins {first}, {step}, and each later term equals {p} times the last term plus "
            f"{q} times the second to last. {wanted}",
            f"Let a_1 = {first}, a_2 = {step} and a_(k+2) = {p} * a_(k+1) + {q} * a_k. Find a_{n}.",
            f"If a_1 = {first}, a_2 = {step} and a_(k+2) = {p} * a_(k+1) + {q} * a_k, what is a_{n}?",
        ),
        (
            f"The first terms are {first} and {step} and "
            f"every next one is {p} times the last plus {q} times the one before. {wanted}",
            f"At places 1 and 2 stand {first} and {step}, and at each later place {p} times the number before and "
            f"{q} times the one ahead of that. {wanted}",
        ),
    )


def _work_sequence(parameters: Parameters, program: Program, words: Words) -> None:
    kind, first, step, extra, n = parameters
    value = _values(parameters)
    if kind in ("term", "sum"):
        program.step(f"Term number {n}")
        last = program.let("last", term(first) + (term(n) - 1) * step)
        if kind == "sum":
            program.step("The sum is the mean of first and last times their number")
            last = program.let("total", (term(first) + last) * n // 2)
        program.show(last)
    elif kind == "squares":
        each = f"{first} * k ** 2 + {step} * k" + (f" + {extra}" if extra else "")
        if program.style == 0:
            program.step("Add all terms")
            program.show(program.let("x", Term(f"sum({each} for k in range(1, {n} + 1))", value)))
        else:
            program.step("Start from zero", "x = 0")
            program.step("Add the terms", f"for k in range(1, {n} + 1):", f"    x = x + {each}")
            program.show(Term("x", value))
    elif kind == "rule":
        program.step("The first term", f"a = {first}")
        program.step("Apply the rule", f"for i in range({n} - 1):", f"    a = {step} * a + {extra}")
        program.show(Term("a", value))
    else:
        p, q = extra
        program.step("The first two terms", f"a = {first}", f"b = {step}")
        program.step("Apply the rule", f"for i in range({n} - 2):", f"    a, b = b, {p} * b + {q} * a")
        program.show(Term("b", value))


def _values(parameters: Parameters) -> int:
    kind, first, step, extra, n = parameters
    if kind == "squares":
        return sum(first * k**2 + step * k + extra for k in range(1, n + 1))
    if kind == "rule":
        for _ in range(n - 1):
            first = step * first + extra
        return first
    if kind == "pair":
        p, q = extra
        for _ in range(n - 2):
            first, step = step, p * step + q * first
        return step
    return 0


def _solve_sequence(parameters: Parameters) -> Number:
    """Term by term where the program has a formula, by formula where it goes term by term."""
    kind, first, step, extra, n = parameters
    if kind in ("term", "sum"):
        terms = list(range(first, first + step * n, step))
        return terms[-1] if kind == "term" else sum(terms)
    if kind == "squares":
        return first * n * (n + 1) * (2 * n + 1) // 6 + step * n * (n + 1) // 2 + extra * n
    if kind == "rule":
        fixed = Fraction(extra, 1 - step)
        return (first - fixed) * step ** (n - 1) + fixed
    p, q = extra
    memory = {1: first, 2: step}

    def at(index: int) -> int:
        if index not in memory:
            memory[index] = p * at(index - 1) + q * at(index - 2)
        return memory[index]

    return at(n)


FAMILIES = (
    Family("equation", _draw_equation, _ask_equation, _work_equation, _solve_equation),
    Family("system", _draw_system, _ask_system, _work_system, _solve_system),
    Family("polynomial", _draw_polynomial, _ask_polynomial, _work_polynomial, _solve_polynomial),
    Family("sequence", _draw_sequence, _ask_sequence, _work_sequence, _solve_sequence),
)
