"""Combinatorics: committees, arrangements, grid paths."""

from __future__ import annotations

import math
from itertools import product
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, listing
from rstar_fast.nano.program import Number, Program, Term, call, term


def _comb(n: Term | int, k: Term | int) -> Term:
    return call("comb", math.comb, n, k)


# --- committee: choosing from one or two groups ----------------------------------------------------------------------


def _draw_committee(random: Random, level: int) -> Parameters:
    kind = (
        "one",
        "two",
        random.choice(("two", "least")),
        random.choice(("least", "most")),
        random.choice(("least", "most", "not all")),
    )[level - 1]
    top = (12, 9, 9, 11, 14)[level - 1]
    a, b = random.randint(4, top), random.randint(4, top)
    if kind == "one":
        return (kind, a, 0, random.randint(2, a - 2), 0)
    if kind == "two":
        return (kind, a, b, random.randint(1, a - 1), random.randint(1, b - 1))
    chosen = random.randint(3, min(6, a, b))
    if kind == "not all":
        return (kind, a, b, chosen, 0)
    return (kind, a, b, chosen, random.randint(1, 2) if level < 5 else random.randint(1, chosen - 1))


def _people(women: int, men: int) -> tuple[str, str]:
    return f"{women} {'woman' if women == 1 else 'women'}", f"{men} {'man' if men == 1 else 'men'}"


def _ask_committee(parameters: Parameters, words: Words) -> str:
    kind, a, b, k, m = parameters
    if kind == "one":
        return words.pick(
            (
                f"In how many ways can {k} people be chosen from {a}?",
                f"How many teams of {k} can be chosen from {a} people?",
                f"Find the number of ways to choose {k} people from a group of {a}.",
                f"A club has {a} members. How many committees of {k} members can be formed?",
                f"How many ways are there to select {k} students out of {a}?",
                f"What is {a} choose {k}?",
                f"A coach picks {k} players from a squad of {a}. How many different teams are possible?",
                f"Calculate the number of groups of {k} that can be made from {a} people.",
            ),
            (
                f"From {a} people a team of {k} is to be chosen. How many ways are there?",
                f"There are {k} equal seats on a council and {a} who want one. How many councils are possible?",
            ),
        )
    group = words.pick((f"{a} women and {b} men",), (f"a group of {a} women and {b} men",))
    if kind == "two":
        women, men = _people(k, m)
        return words.pick(
            (
                f"In how many ways can {women} and {men} be chosen from {group}?",
                f"How many committees of {women} and {men} can be formed from {group}?",
                f"A club has {group}. How many teams of {women} and {men} can be chosen?",
                f"Find the number of ways to select {women} and {men} out of {group}.",
                f"There are {group} in a choir. How many ways are there to pick {women} and {men}?",
                f"If a team must have {women} and {men}, how many teams can be chosen from {group}?",
            ),
            (
                f"From {group}, in how many ways can {women} and {men} be chosen?",
                f"Out of {group}, {women} and {men} shall sit on a council. How many councils are possible?",
            ),
        )
    if kind == "not all":
        condition = words.pick(
            ("at least one woman and at least one man", "at least one member of each sex"),
            ("at least one woman and at least one man",),
        )
    else:
        which = words.pick(
            (f"at {kind}", "no fewer than" if kind == "least" else "no more than"),
            (f"at {kind}",),
        )
        condition = f"{which} {m} {'woman' if m == 1 else 'women'}"
    return words.pick(
        (
            f"How many teams of {k} with {condition} can be chosen from {group}?",
            f"A team of {k} is chosen from {group}. How many teams have {condition}?",
            f"A club has {group}. How many committees of {k} members have {condition}?",
            f"In how many ways can a team of {k} be chosen from {group} if it must have {condition}?",
            f"Find the number of committees of {k} people with {condition} that can be formed from {group}.",
            f"How many ways are there to select {k} people out of {group} so that the selection has {condition}?",
        ),
        (
            f"From {group} a team of {k} with {condition} is to be chosen. How many ways are there?",
            f"Out of {group}, {k} shall sit on a council with {condition}. How many councils are possible?",
        ),
    )


def _work_committee(parameters: Parameters, program: Program, words: Words) -> None:
    kind, a, b, k, m = parameters
    if kind == "one":
        program.step("Choose the people", "from math import comb")
        program.show(program.let("x", _comb(a, k)))
    elif kind == "two":
        if program.style == 0:
            program.step("Choose the women and the men", "from math import comb")
            program.show(program.let("x", _comb(a, k) * _comb(b, m)))
        else:
            program.step("Choose the women", "from math import comb")
            women = program.let("women", _comb(a, k))
            program.step("Choose the men")
            men = program.let("men", _comb(b, m))
            program.step("Multiply")
            program.show(program.let("x", women * men))
    elif kind == "not all":
        program.step("All teams", "from math import comb")
        total = program.let("total", _comb(term(a) + b, k))
        program.step("Without those of one kind")
        program.show(program.let("x", total - _comb(a, k) - _comb(b, k)))
    else:
        numbers = range(m, k + 1) if kind == "least" else range(0, m + 1)
        span = f"range({m}, {k} + 1)" if kind == "least" else f"range(0, {m} + 1)"
        value = sum(math.comb(a, i) * math.comb(b, k - i) for i in numbers)
        if program.style == 0:
            program.step("Sum over the number of women", "from math import comb")
            program.show(program.let("x", Term(f"sum(comb({a}, i) * comb({b}, {k} - i) for i in {span})", value)))
        else:
            program.step("Start with no teams", "from math import comb", "x = 0")
            program.step("Add the teams with i women", f"for i in {span}:", f"    x = x + comb({a}, i) * comb({b}, {k} - i)")
            program.show(Term("x", value))


def _solve_committee(parameters: Parameters) -> Number:
    """Adds the people one by one, counting teams by (women, men)."""
    kind, a, b, k, m = parameters
    teams = {(0, 0): 1}
    for woman in [1] * a + [0] * b:
        grown = dict(teams)
        for (women, men), count in teams.items():
            team = (women + woman, men + 1 - woman)
            grown[team] = grown.get(team, 0) + count
        teams = grown
    if kind == "two":
        return teams[k, m]
    fits = {
        "one": lambda w: True,
        "not all": lambda w: 0 < w < k,
        "least": lambda w: w >= m,
        "most": lambda w: w <= m,
    }[kind]
    return sum(count for (women, men), count in teams.items() if women + men == k and fits(women))


# --- arrange: rows and codes -----------------------------------------------------------------------------------------


def _draw_arrange(random: Random, level: int) -> Parameters:
    kind = random.choice(
        (("row", "code"), ("some", "code"), ("together", "some"), ("apart", "letters"), ("letters", "apart"))[level - 1]
    )
    if kind == "row":
        return (kind, random.randint(4, 12), 0)
    if kind == "code":
        return (kind, random.randint(3, 12), random.randint(2, 6))
    if kind == "letters":
        counts = tuple(random.randint(2, 2 + level) for _ in range(level - 2))
        return (kind, sum(counts), counts)
    n = random.randint(5, 8 + level)
    return (kind, n, random.randint(2, min(n - 2, 5)))


def _ask_arrange(parameters: Parameters, words: Words) -> str:
    kind, n, k = parameters
    if kind == "row":
        return words.pick(
            (
                f"In how many ways can {n} people stand in a row?",
                f"How many orders of {n} people are there?",
                f"In how many ways can {n} different {words.thing()} be arranged in a row?",
                f"Find the number of ways to line up {n} children.",
                f"In how many different orders can {n} runners finish a race?",
                f"Compute {n}!.",
                f"How many permutations of {n} objects are there?",
                f"How many ways are there to arrange {n} people in a line?",
            ),
            (f"{n} people form a row. How many ways are there?", f"{n} people queue up. How many queues are possible?"),
        )
    if kind == "code":
        return words.pick(
            (
                f"How many codes of {k} signs can be made from {n} signs if signs may repeat?",
                f"How many passwords of {k} characters can be made from {n} characters if characters may repeat?",
                f"A lock has {k} wheels with {n} symbols each. How many settings are possible?",
                f"How many strings of length {k} can be formed from an alphabet of {n} letters?",
                f"Find the number of codes with {k} places if each place can be any of {n} signs.",
                f"If a word may use a letter more than once, how many words of {k} letters can be made from {n} letters?",
                f"There are {k} questions with {n} possible answers each. In how many ways can the test be filled in?",
            ),
            (
                f"A code has {k} signs out of {n} and signs may repeat. How many codes are there?",
                f"Each of {k} lamps in a row shines in one of {n} colours. How many patterns does that allow?",
            ),
        )
    if kind == "some":
        return words.pick(
            (
                f"In how many ways can {k} of {n} people stand in a row?",
                f"How many codes of {k} signs can be made from {n} signs if no sign repeats?",
                f"In how many ways can {k} people be chosen from {n} and lined up?",
                f"{n} runners are in a race. In how many ways can the first {k} places be filled?",
                f"How many ways are there to arrange {k} of {n} different {words.thing()} in a row?",
                f"If no letter may be used twice, how many words of {k} letters can be made from {n} letters?",
                f"Find the number of ordered lists of {k} different numbers from 1 to {n}.",
            ),
            (
                f"{k} of {n} people form a row. How many ways are there?",
                f"Out of {n} people, {k} queue up. How many queues are possible?",
            ),
        )
    if kind == "letters":
        colours = listing([f"{count} {colour}" for count, colour in zip(k, _COLOURS, strict=False)])
        what = words.pick(("balls", "balls", "flags", "tiles"), ("balls",))
        return words.pick(
            (
                f"In how many orders can {colours} {what} lie in a row?",
                f"How many ways are there to arrange {colours} {what} in a row?",
                f"How many different rows can be made from {colours} {what}?",
                f"{words.name()} lines up {colours} {what}. How many different orders are possible?",
                f"Find the number of ways to line up {colours} {what} if {what} of the same colour look alike.",
                f"If {what} of one colour are equal, in how many ways can {colours} {what} be put in a line?",
            ),
            (
                f"A row is made of {colours} {what}. How many orders are there?",
                f"Somebody threads {colours} {what} one after the other. How many patterns does that allow?",
            ),
        )
    stand = words.pick(("stand", "stand", "sit"), ("stand",))
    condition = {"together": f"{stand} together", "apart": f"do not all {stand} together"}[kind]
    must = {"together": f"must all {stand} together", "apart": f"must not all {stand} together"}[kind]
    return words.pick(
        (
            f"In how many ways can {n} people {stand} in a row if {k} of them {condition}?",
            f"In how many ways can {n} people {stand} in a line if a certain {k} of them {must}?",
            f"How many ways are there to arrange {n} people in a row so that {k} of them {condition}?",
            f"{n} children {stand} in a row, and {k} of them are sisters who {must}. How many orders are possible?",
            f"Find the number of orders in which {n} people can {stand} in a row if {k} of them {must}.",
            f"If {k} of {n} people {must}, in how many ways can all {n} {stand} in a row?",
        ),
        (
            f"{n} people form a row and {k} of them {condition}. How many ways are there?",
            f"{n} people queue up, and {k} of them {condition}. How many queues are possible?",
        ),
    )


_COLOURS = ("red", "blue", "green", "white")


def _work_arrange(parameters: Parameters, program: Program, words: Words) -> None:
    kind, n, k = parameters

    def factorial(number: Term | int) -> Term:
        return call("factorial", math.factorial, number)

    if kind == "row":
        program.step("All orders", "from math import factorial")
        result = program.let("x", factorial(n))
    elif kind == "code":
        program.step("Each sign is free")
        result = program.let("x", term(n) ** k)
    elif kind == "some" and program.style == 0:
        program.step("Choose them in order", "from math import perm")
        result = program.let("x", call("perm", math.perm, n, k))
    elif kind == "some":
        program.step("All orders over the orders of the rest", "from math import factorial")
        result = program.let("x", factorial(n) // factorial(term(n) - k))
    elif kind == "letters":
        program.step("All orders", "from math import factorial")
        total = term(k[0])
        for count in k[1:]:
            total = total + count
        result = program.let("x", factorial(total))
        for count, colour in zip(k, _COLOURS, strict=False):
            program.step(f"The {count} {colour} are equal")
            result = program.let("x", result // factorial(count))
    else:
        program.step("Take the group as one", "from math import factorial")
        blocks = program.let("blocks", factorial(term(n) - k + 1))
        program.step("Orders within the group")
        result = program.let("near", blocks * factorial(k))
        if kind == "apart":
            program.step("Take them from all orders")
            result = program.let("x", factorial(n) - result)
    program.show(result)


def _solve_arrange(parameters: Parameters) -> Number:
    """Places one person, sign or ball after the other."""
    kind, n, k = parameters

    def rows(free: int, places: int) -> int:
        return 1 if places == 0 else free * rows(free - 1, places - 1)

    if kind == "row":
        return rows(n, n)
    if kind == "code":
        return math.prod([n] * k)
    if kind == "some":
        return rows(n, k)
    if kind == "letters":
        orders = {(0,) * len(k): 1}
        for _ in range(n):
            grown: dict[tuple[int, ...], int] = {}
            for used, count in orders.items():
                for i in range(len(k)):
                    if used[i] < k[i]:
                        key = (*used[:i], used[i] + 1, *used[i + 1 :])
                        grown[key] = grown.get(key, 0) + count
            orders = grown
        return orders[tuple(k)]
    near = sum(rows(k, k) * rows(n - k, n - k) for _ in range(n - k + 1))  # by the group's first place
    return near if kind == "together" else rows(n, n) - near


# --- paths in a grid -------------------------------------------------------------------------------------------------


def _draw_paths(random: Random, level: int) -> Parameters:
    kind = ("free", "free", "through", "avoid", random.choice(("avoid", "two")))[level - 1]
    top = (6, 10, 8, 9, 10)[level - 1]
    a, b = random.randint(2, top), random.randint(2, top)
    if kind != "free":
        a, b = a + 2, b + 2
    if kind == "two":
        a, b = a + 2, b + 2
        x, y = random.randint(1, a - 3), random.randint(1, b - 3)
        return (kind, a, b, ((x, y), (random.randint(x + 1, a - 1), random.randint(y + 1, b - 1))))
    points = () if kind == "free" else ((random.randint(1, a - 1), random.randint(1, b - 1)),)
    return (kind, a, b, points)


def _ask_paths(parameters: Parameters, words: Words) -> str:
    kind, a, b, points = parameters
    start, end = "(0, 0)", f"({a}, {b})"
    through = listing([f"({x}, {y})" for x, y in points]) if points else ""
    if kind == "free":
        return words.pick(
            (
                f"How many paths go from {start} to {end} with steps right and up?",
                f"Moving only right or up one unit at a time, in how many ways can you get from {start} to {end}?",
                f"Find the number of grid paths from {start} to {end} that use only steps right and up.",
                f"A robot starts at {start} and moves one unit right or up each time. In how many ways can it reach {end}?",
                f"In how many ways can an ant walk from {start} to {end} if it only goes right and up?",
                f"How many shortest paths are there on a grid from {start} to {end}?",
                f"If each step goes right or up, how many paths from {start} to {end} are there?",
            ),
            (
                f"How many paths are there that lead from {start} to {end} with steps right and up?",
                f"A token at {start} is pushed right or up until it lies at {end}. How many routes does that allow?",
            ),
        )
    no = kind == "avoid"
    plural = f"{'do not ' if no else ''}pass through {through}"
    single = f"{'does not pass' if no else 'passes'} through {through}"
    return words.pick(
        (
            f"How many paths from {start} to {end} with steps right and up {plural}?",
            f"Moving only right or up, how many paths from {start} to {end} {plural}?",
            f"Find the number of grid paths from {start} to {end} with steps right and up that {plural}.",
            f"A robot moves from {start} to {end} in steps right and up. How many of its possible paths {plural}?",
            f"In how many ways can an ant walk from {start} to {end}, only right and up, if it {single}?",
            f"If each step goes right or up, how many paths from {start} to {end} {plural}?",
        ),
        (
            f"Count the paths that lead from {start} to {end} with steps right and up that {plural}. How many are there?",
            f"A token at {start} is pushed right or up until it lies at {end}. How many of the routes {plural}?",
        ),
    )


def _work_paths(parameters: Parameters, program: Program, words: Words) -> None:
    kind, a, b, points = parameters
    at, product_, names = (0, 0), None, iter("pqr")
    for index, (x, y) in enumerate((*points, (a, b))):
        dx, dy = x - at[0], y - at[1]
        if index == 0:
            program.step("Paths to the first point" if points else "Choose the steps to the right", "from math import comb")
            right, up = term(x), term(y)
        else:
            program.step("From there to the end" if (x, y) == (a, b) else "From there to the next point")
            right, up = term(x) - at[0], term(y) - at[1]
        total = program.let("n", right + up) if program.style == 1 and index else right + up
        assert total.value == dx + dy
        ways = program.let(next(names), _comb(total, right))
        product_ = ways if product_ is None else product_ * ways
        at = (x, y)
    assert product_ is not None
    if kind == "free":
        program.show(product_)
        return
    if kind == "avoid":
        program.step("Take them from all paths")
        program.show(program.let("x", _comb(term(a) + b, a) - product_))
        return
    program.step("Multiply")
    program.show(program.let("x", product_))


def _solve_paths(parameters: Parameters) -> Number:
    """Counts from corner to corner of the grid."""
    kind, a, b, points = parameters
    states: dict[tuple[int, int], int] = {}
    for x, y in product(range(a + 1), range(b + 1)):
        count = 1 if x == y == 0 else states.get((x - 1, y), 0) + states.get((x, y - 1), 0)
        if kind == "avoid" and (x, y) in points:
            count = 0
        if kind in ("through", "two") and any((x >= p) != (y >= q) and (x > p or y > q) for p, q in points):
            count = 0  # beyond a point in one direction only: it was missed
        states[x, y] = count
    return states[a, b]


FAMILIES = (
    Family("committee", _draw_committee, _ask_committee, _work_committee, _solve_committee),
    Family("arrange", _draw_arrange, _ask_arrange, _work_arrange, _solve_arrange),
    Family("paths", _draw_paths, _ask_paths, _work_paths, _solve_paths),
)
