"""Word problems in which the order and choice of operations is the difficulty: stories, relations, shopping, wages."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, size, small
from rstar_fast.nano.program import Number, Program, Term, term

_FRACTIONS = {2: "half", 3: "a third", 4: "a quarter"}
_TIMES = {2: "twice", 3: "3 times", 4: "4 times", 5: "5 times"}


# --- stock: a number of things goes through events -------------------------------------------------------------------


def _draw_stock(random: Random, level: int) -> Parameters:
    start = size(random, level)
    count, events = start, []
    for _ in range((1, 2, 3, 5, 7)[level - 1]):
        kind = random.choice(("add", "take", "boxes", "times", "part"))
        n, k = size(random, level), 0
        if kind == "take" and n >= count:
            kind = "add"
        if kind == "part":
            divisors = [d for d in _FRACTIONS if count % d == 0]
            if divisors:
                n = random.choice(divisors)
            else:
                kind = "add"
        if kind == "times":
            n = random.randint(2, 4)
        if kind == "boxes":
            k, n = small(random, 1), small(random, level)
        events.append((kind, n, k))
        count = _after(Fraction(count), (kind, n, k)).numerator
    return (start, tuple(events))


def _after(count: Fraction, event: tuple[str, int, int]) -> Fraction:
    kind, n, k = event
    return {"add": count + n, "take": count - n, "boxes": count + k * n, "times": count * n, "part": count - count / n}[kind]


def _ask_stock(parameters: Parameters, words: Words) -> str:
    start, events = parameters
    name, thing = words.name(), words.thing()
    first = words.pick(
        (f"{name} has {start} {thing}.", f"{name} starts with {start} {thing}."),
        (f"There are {start} {thing} on the table of {name}.",),
    )
    sentences = [first, *(_event_sentence(event, name, thing, words) for event in events)]
    last = words.pick(
        (f"How many {thing} does {name} have now?", f"How many {thing} does {name} have at the end?"),
        (f"How many {thing} are there in the end?",),
    )
    return " ".join([*sentences, last])


def _event_sentence(event: tuple[str, int, int], name: str, thing: str, words: Words) -> str:
    match event:
        case ("add", n, _):
            seen = (f"{name} buys {n} more.", f"{name} gets {n} more.", f"{name} finds {n} more.")
            return words.pick(seen, (f"{name} picks up {n} more.",))
        case ("take", n, _):
            seen = (f"{name} gives away {n}.", f"{name} loses {n}.", f"{name} sells {n}.")
            return words.pick(seen, (f"{name} throws away {n}.",))
        case ("boxes", n, k):
            seen = (f"{name} buys {k} boxes of {n}.", f"{name} gets {k} bags of {n}.")
            return words.pick(seen, (f"{name} picks up {k} bags of {n}.",))
        case ("times", n, _):
            seen = (f"Then the number of {thing} grows to {_TIMES[n]} as many.", f"Then {name} has {_TIMES[n]} as many.")
            return words.pick(seen, (f"Soon {name} has {_TIMES[n]} as many.",))
    part = _FRACTIONS[event[1]]
    seen = (f"{name} gives away {part} of the {thing}.", f"{name} loses {part} of the {thing}.")
    return words.pick(seen, (f"{name} throws away {part} of the {thing}.",))


_EVENT_COMMENTS = {
    "add": "More are added",
    "take": "Some are taken away",
    "boxes": "Add the boxes",
    "times": "Multiply",
    "part": "A part goes away",
}


def _work_stock(parameters: Parameters, program: Program, words: Words) -> None:
    start, events = parameters
    variable = words.thing() if program.style == 0 else "x"
    program.step("The number at the start")
    count = program.let(variable, start)
    for event in events:
        program.step(_EVENT_COMMENTS[event[0]])
        count = program.let(variable, _changed(count, event))
    program.show(count)


def _changed(count: Term, event: tuple[str, int, int]) -> Term:
    match event:
        case ("add", n, _):
            return count + n
        case ("take", n, _):
            return count - n
        case ("boxes", n, k):
            return count + term(k) * n
        case ("times", n, _):
            return count * n
    return count - count // event[1]


def _solve_stock(parameters: Parameters) -> Number:
    """Composes the events to one map x -> factor * x + offset, from the last event to the first."""
    start, events = parameters
    factor, offset = Fraction(1), Fraction(0)
    for kind, n, k in reversed(events):
        slope, shift = {
            "add": (1, n),
            "take": (1, -n),
            "boxes": (1, k * n),
            "times": (n, 0),
            "part": (1 - Fraction(1, n), 0),
        }[kind]
        factor, offset = factor * slope, factor * shift + offset
    return factor * start + offset


# --- relations: who has how many, the sentences in any order ---------------------------------------------------------


def _draw_relations(random: Random, level: int) -> Parameters:
    needed = (1, 2, 3, 4, 5)[level - 1]
    extra = (0, 0, 0, 1, 1)[level - 1]
    base = size(random, level)
    values, relations = [base], []
    for index in range(1, needed + 1 + extra):
        of = index - 1 if index <= needed else random.randrange(index - 1)
        kind = random.choice(("more", "fewer", "times"))
        n = random.randint(2, 5) if kind == "times" else size(random, level)
        if kind == "fewer" and n >= values[of]:
            kind = "more"
        values.append({"more": values[of] + n, "fewer": values[of] - n, "times": values[of] * n}[kind])
        relations.append((index, kind, n, of))
    order = list(range(len(relations) + 1))
    random.shuffle(order)
    together = random.randrange(needed) if level >= 3 and random.randrange(2) else -1
    return (base, tuple(relations), tuple(order), needed, together)


def _ask_relations(parameters: Parameters, words: Words) -> str:
    base, relations, order, asked, together = parameters
    thing = words.thing()
    facts = [f"{words.name(0)} has {base} {thing}."]
    for index, kind, n, of in relations:
        left, right = words.name(index), words.name(of)
        much = _TIMES[n] + " as many" if kind == "times" else f"{n} {kind}"
        than = "as" if kind == "times" else "than"
        facts.append(words.pick((f"{left} has {much} {thing} {than} {right}.",), (f"{left} owns {much} {than} {right}.",)))
    name = words.name(asked)
    if together >= 0:
        question = words.pick(
            (f"How many {thing} do {name} and {words.name(together)} have together?",),
            (f"How many {thing} do {name} and {words.name(together)} own together?",),
        )
    else:
        question = words.pick((f"How many {thing} does {name} have?",), (f"How many {thing} does {name} own?",))
    return " ".join([*(facts[i] for i in order), question])


def _work_relations(parameters: Parameters, program: Program, words: Words) -> None:
    base, relations, _, asked, together = parameters
    program.step(f"Start with {words.name(0)}" if program.style == 0 else "Start with what is known")
    known = [program.let(words.name(0), base)]
    for index, kind, n, of in relations[:asked]:
        program.step(
            f"Find {words.name(index)} from {words.name(of)}" if program.style == 0 else f"Next is {words.name(index)}"
        )
        source = known[of]
        value = {"more": source + n, "fewer": source - n, "times": source * n}[kind]
        known.append(program.let(words.name(index), value))
    if together >= 0:
        program.step("Add both")
        program.show(program.let("total", known[asked] + known[together]))
    else:
        program.show(known[asked])


def _solve_relations(parameters: Parameters) -> Number:
    """Gaussian elimination on one linear equation per sentence, instead of following the chain."""
    base, relations, _, asked, together = parameters
    count = len(relations) + 1
    rows = [[Fraction(int(j == 0)) for j in range(count)] + [Fraction(base)]]
    for index, kind, n, of in relations:
        row = [Fraction(0)] * (count + 1)
        row[index] += 1
        row[of] -= n if kind == "times" else 1
        row[count] = Fraction({"more": n, "fewer": -n, "times": 0}[kind])
        rows.append(row)
    for column in reversed(range(count)):
        pivot = next(i for i in range(column + 1) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i in range(count):
            if i != column and rows[i][column]:
                rows[i] = [a - rows[i][column] * b for a, b in zip(rows[i], rows[column], strict=True)]
    return rows[asked][count] + (rows[together][count] if together >= 0 else 0)


# --- shopping: cost, discount, change --------------------------------------------------------------------------------


def _draw_shopping(random: Random, level: int) -> Parameters:
    kinds = (1, 2, random.choice((2, 3)), 3, 4)[level - 1]
    while True:
        items = tuple((small(random, level), small(random, level)) for _ in range(kinds))
        total = sum(n * price for n, price in items)
        percent = random.choice((5, 10, 20, 25, 30, 40)) if level >= 4 else 0
        if total * percent % 100 == 0:
            break
    total -= total * percent // 100
    wants_change = level in (3, 5) or (level <= 2 and random.randrange(2) == 0)
    paid = total + random.randint(3, 60) if wants_change else 0
    return (items, percent, paid)


def _ask_shopping(parameters: Parameters, words: Words) -> str:
    items, percent, paid = parameters
    name = words.name()
    goods = words.pick(
        (
            " and ".join(f"{n} {words.thing(i)} at {price} dollars each" for i, (n, price) in enumerate(items)),
            " and ".join(f"{n} {words.thing(i)} for {price} dollars each" for i, (n, price) in enumerate(items)),
        ),
        (", ".join(f"{n} {words.thing(i)} that cost {price} dollars each" for i, (n, price) in enumerate(items)),),
    )
    text = words.pick((f"{name} buys {goods}.",), (f"{name} takes home {goods}.",))
    if percent:
        text += words.pick(
            (f" There is a discount of {percent}% on the total.", f" The shop takes {percent}% off the total."),
            (f" The total is then reduced by {percent}%.",),
        )
    if paid:
        text += words.pick(
            (f" {name} pays with {paid} dollars.", f" {name} gives the shop {paid} dollars."),
            (f" {name} hands over {paid} dollars.",),
        )
        return text + words.pick(
            (" How many dollars of change are there?", " How many dollars does the shop give back?"),
            (" How many dollars come back as change?",),
        )
    return text + words.pick(
        (f" How many dollars does {name} pay?", " How many dollars is that in all?"),
        (f" How many dollars does {name} owe?",),
    )


def _work_shopping(parameters: Parameters, program: Program, words: Words) -> None:
    items, percent, paid = parameters
    if program.style == 0:
        program.step("The total cost")
        cost = term(items[0][0]) * items[0][1]
        for n, price in items[1:]:
            cost = cost + term(n) * price
        cost = program.let("cost", cost)
    else:
        costs = []
        for i, (n, price) in enumerate(items):
            program.step(f"The cost of the {words.thing(i)}")
            costs.append(program.let(words.thing(i), term(n) * price))
        cost = costs[0]
        if len(costs) > 1:
            program.step("Add the costs")
            for other in costs[1:]:
                cost = cost + other
            cost = program.let("cost", cost)
    if percent:
        program.step("Take off the discount")
        cost = program.let("cost", cost - cost * percent // 100)
    if paid:
        program.step("The change")
        cost = program.let("change", term(paid) - cost)
    program.show(cost)


def _solve_shopping(parameters: Parameters) -> Number:
    """Adds the prices one thing at a time, each already reduced."""
    items, percent, paid = parameters
    total = Fraction(0)
    for n, price in items:
        for _ in range(n):
            total += price * Fraction(100 - percent, 100)
    return paid - total if paid else total


# --- wages: hours, days, bonus, costs, two people --------------------------------------------------------------------


def _draw_wages(random: Random, level: int) -> Parameters:
    def job() -> tuple[int, int, int]:
        return (random.randint(2, 9), small(random, level) + 3, random.randint(2, 6) if level >= 2 else 1)

    first = job()
    bonus = size(random, level) if level >= 3 else 0
    cost = random.randint(2, first[0] * first[1] - 1) if level >= 4 else 0
    second = job() if level == 5 else ()
    compare = random.choice(("together", "more")) if second else ""
    if compare == "more":
        gap = first[0] * first[1] * first[2] + bonus - cost * first[2] - second[0] * second[1] * second[2]
        compare = "more" if gap > 1 else "together"
    return (first, bonus, cost, second, compare)


def _ask_wages(parameters: Parameters, words: Words) -> str:
    first, bonus, cost, second, compare = parameters

    def job(name: str, hours: int, rate: int, days: int) -> str:
        if days == 1:
            return words.pick(
                (
                    f"{name} works {hours} hours and earns {rate} dollars an hour.",
                    f"{name} earns {rate} dollars an hour and works {hours} hours.",
                ),
                (f"{name} is paid {rate} dollars an hour and stays {hours} hours.",),
            )
        return words.pick(
            (
                f"{name} works {hours} hours a day for {days} days and earns {rate} dollars an hour.",
                f"{name} earns {rate} dollars an hour and works {hours} hours a day for {days} days.",
            ),
            (f"For {days} days {name} works {hours} hours a day and is paid {rate} dollars an hour.",),
        )

    name, other = words.name(0), words.name(1)
    text = job(name, *first)
    if bonus:
        text += words.pick(
            (f" {name} also gets a bonus of {bonus} dollars.", f" There is a bonus of {bonus} dollars."),
            (f" At the end {name} gets a bonus of {bonus} dollars.",),
        )
    if cost:
        text += words.pick(
            (f" Each day {name} spends {cost} dollars.", f" {name} spends {cost} dollars a day."),
            (f" {name} needs {cost} dollars each day.",),
        )
    if second:
        text += " " + job(other, *second)
        if compare == "together":
            return text + words.pick(
                (f" How many dollars do {name} and {other} have together?",),
                (f" How many dollars have {name} and {other} together?",),
            )
        return text + words.pick(
            (f" How many dollars more than {other} does {name} have?",),
            (f" By how many dollars does {name} have more than {other}?",),
        )
    return text + words.pick(
        (f" How many dollars does {name} have at the end?", f" How many dollars does {name} have?"),
        (f" How many dollars are left for {name}?",),
    )


def _work_wages(parameters: Parameters, program: Program, words: Words) -> None:
    first, bonus, cost, second, compare = parameters

    def pay(name: str, hours: int, rate: int, days: int) -> Term:
        if days == 1:
            program.step("Hours times rate")
            return program.let(name, term(hours) * rate)
        if program.style == 0:
            program.step("Hours times days times rate")
            return program.let(name, term(hours) * days * rate)
        program.step("The hours")
        worked = program.let("hours", term(hours) * days)
        program.step("The pay")
        return program.let(name, worked * rate)

    total = pay("pay", *first)
    if bonus:
        program.step("Add the bonus")
        total = program.let("pay", total + bonus)
    if cost:
        program.step("Take off the costs")
        total = program.let("pay", total - term(cost) * first[2])
    if second:
        other = pay("other", *second)
        program.step("Put both together" if compare == "together" else "The difference")
        total = program.let("total", total + other if compare == "together" else total - other)
    program.show(total)


def _solve_wages(parameters: Parameters) -> Number:
    """Goes through the days and hours one by one."""
    first, bonus, cost, second, compare = parameters
    balance = bonus
    for _ in range(first[2]):
        balance -= cost
        for _ in range(first[0]):
            balance += first[1]
    if second:
        sign = 1 if compare == "together" else -1
        for _ in range(second[2] * second[0]):
            balance += sign * second[1]
    return balance


FAMILIES = (
    Family("stock", _draw_stock, _ask_stock, _work_stock, _solve_stock),
    Family("relations", _draw_relations, _ask_relations, _work_relations, _solve_relations),
    Family("shopping", _draw_shopping, _ask_shopping, _work_shopping, _solve_shopping),
    Family("wages", _draw_wages, _ask_wages, _work_wages, _solve_wages),
)
