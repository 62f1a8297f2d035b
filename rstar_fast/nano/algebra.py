"""Algebra: linear equations, systems of two, polynomials, sequences."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, small
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
        name = words.name()
        return words.pick(
            (
                f"{name} thinks of a number, adds {b} and multiplies by {a}. "
                f"The result is the same as {c} times the number plus {a * b + d}. What is the number?",
            ),
            (
                f"If {name} adds {b} to a number and multiplies by {a}, "
                f"the result is {a * b + d} more than {c} times the number. Which number is it?",
            ),
        )
    equation = {
        "plain": f"{a}x + {b} = {d}",
        "both": f"{a}x + {b} = {c}x + {d}",
        "bracket": f"{a}(x + {b}) + {c} = {d}",
        "brackets": f"{a}(x + {b}) = {c}(x + {d})",
    }[kind]
    return words.pick((f"Solve {equation} for x.", f"What is x if {equation}?"), (f"The number x fits {equation}. Find x.",))


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
        return words.pick(
            (f"The sum of two numbers is {e} and their difference is {f}. What is the {which} number?",),
            (f"Two numbers have the sum {e} and the difference {f}. Find the {which} one.",),
        )
    if kind == "heads":
        animals = {2: "birds", 4: "dogs", 6: "bees", 8: "spiders"}
        first, second = animals[c], animals[d]
        asked = first if wanted == "x" else second
        return words.pick(
            (
                f"There are {e} {first} and {second} with {f} legs in all. A {first[:-1]} has {c} legs and "
                f"a {second[:-1]} has {d}. How many {asked} are there?",
            ),
            (
                f"Some {first} with {c} legs and {second} with {d} legs have {e} heads and "
                f"{f} legs. How many {asked} are there?",
            ),
        )
    if kind == "tickets":
        asked = "adults" if wanted == "x" else "children"
        return words.pick(
            (
                f"Adults pay {c} dollars and children pay {d} dollars. "
                f"{e} people pay {f} dollars in all. How many {asked} are there?",
            ),
            (
                f"A show sells {e} tickets for {f} dollars. Tickets cost {c} dollars for adults and "
                f"{d} for children. How many {asked} come?",
            ),
        )
    return words.pick(
        (f"If {a}x + {b}y = {e} and {c}x + {d}y = {f}, what is {wanted}?",),
        (f"The numbers x and y fit {a}x + {b}y = {e} and {c}x + {d}y = {f}. Find {wanted}.",),
    )


def _work_system(parameters: Parameters, program: Program, words: Words) -> None:
    kind = parameters[0]
    a, b, c, d, e, f, wanted = _coefficients(parameters)
    if kind == "sum":
        if wanted == "x":
            program.step("Half of sum plus difference")
            program.show(program.let("x", (term(e) + f) // 2))
        elif program.style == 0:
            program.step("Half of sum minus difference")
            program.show(program.let("y", (term(e) - f) // 2))
        else:
            program.step("Half of sum plus difference is the larger")
            x = program.let("x", (term(e) + f) // 2)
            program.step("The smaller one")
            program.show(program.let("y", term(e) - x))
        return
    if kind in ("heads", "tickets"):
        low, high, name = (c, d, "y") if c < d else (d, c, "x")
        program.step("If all were the cheaper kind")
        least = program.let("least", term(e) * low)
        program.step("The rest comes from the other kind")
        count = program.let(name, (term(f) - least) // (term(high) - low))
        if name != wanted:
            program.step("The others")
            count = program.let(wanted, term(e) - count)
        program.show(count)
        return
    program.step("The determinant")
    determinant = program.let("det", term(a) * d - term(b) * c)
    values: list[Term] = []
    if wanted != "y":
        program.step("Find x")
        values.append(program.let("x", (term(e) * d - term(b) * f) // determinant))
    if wanted != "x":
        program.step("Find y")
        values.append(program.let("y", (term(a) * f - term(e) * c) // determinant))
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
    return words.pick(
        (f"If {definitions}, what is {wanted}?", f"Let {definitions}. Find {wanted}."),
        (f"What is {wanted} for {definitions}?",),
    )


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


def _ask_sequence(parameters: Parameters, words: Words) -> str:
    kind, first, step, extra, n = parameters
    if kind in ("term", "sum"):
        what = words.pick(
            (f"A sequence starts with {first} and each term is {step} more than the last.",),
            (f"The first term is {first} and every next one is {step} larger.",),
        )
        if kind == "term":
            return f"{what} " + words.pick((f"What is term number {n}?",), (f"Find term number {n}.",))
        return f"{what} " + words.pick(
            (f"What is the sum of the first {n} terms?",), (f"Find the sum of the first {n} terms.",)
        )
    if kind == "squares":
        each = f"{first}k^2 + {step}k" + (f" + {extra}" if extra else "")
        return words.pick(
            (f"What is the sum of {each} for k from 1 to {n}?",),
            (f"Add {each} over all k from 1 to {n}. What do you get?",),
        )
    if kind == "rule":
        return words.pick(
            (
                f"A sequence starts with {first}. Each next term is {step} times the last plus {extra}. "
                f"What is term number {n}?",
            ),
            (f"The first term is {first} and every next one is {step} times the last plus {extra}. Find term number {n}.",),
        )
    p, q = extra
    return words.pick(
        (
            f"A sequence starts with {first} and {step}. "
            f"Each next term is {p} times the last plus {q} times the one before. What is term number {n}?",
        ),
        (
            f"The first terms are {first} and {step} and "
            f"every next one is {p} times the last plus {q} times the one before. Find term number {n}.",
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
