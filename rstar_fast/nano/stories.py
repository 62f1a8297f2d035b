"""Word problems in which the order and choice of operations is the difficulty: stories, relations, shopping, wages."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, capital, listing, size, small
from rstar_fast.nano.program import Number, Program, Term, term

_FRACTIONS = {2: "half", 3: "a third", 4: "a quarter"}
_TIMES = {2: "twice", 3: "3 times", 4: "4 times", 5: "5 times"}
_MULTIPLIES = {2: "doubles", 3: "triples", 4: "quadruples"}


# --- stock: a number of things goes through events -------------------------------------------------------------------


def _draw_stock(random: Random, level: int) -> Parameters:
    start = size(random, level)
    count, events = start, []
    for _ in range((1, 2, random.choice((3, 4)), 5, 7)[level - 1]):
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
        (
            f"{name} has {start} {thing}",
            f"{name} starts with {start} {thing}",
            f"{name} begins with {start} {thing}",
            f"{name} has collected {start} {thing}",
            f"{name} has a box with {start} {thing}",
        ),
        (f"There are {start} {thing} on the table of {name}", f"In front of {name} lie {start} {thing}"),
    )
    phrases = [_event_phrase(event, name, thing, words) for event in events]
    sentences = [
        words.pick(
            (f"{name} {phrase}.", f"Then {name} {phrase}.", f"{name} then {phrase}.", f"After that, {name} {phrase}."),
            (f"{phrase}.",),
        )
        for phrase in phrases
    ]
    last = words.pick(
        (
            f"How many {thing} does {name} have?",
            f"How many {thing} does {name} have now?",
            f"How many {thing} does {name} have at the end?",
            f"What is the number of {thing} that {name} has now?",
            f"Find the number of {thing} {name} has at the end.",
            f"Work out how many {thing} {name} has now.",
        ),
        (f"How many {thing} are there in the end?", f"With how many {thing} does {name} finish?"),
    )
    told = " ".join([f"{first}.", *sentences, last])
    seen = [told, told, " ".join([f"{first} and {phrases[0]}.", *sentences[1:], last])]
    if len(events) <= 2:
        happens = " and then ".join(phrases)
        seen += [
            f"If {first} and {happens}, how many {thing} does {name} have?",
            f"How many {thing} does {name} have if {first} and {happens}?",
        ]
    return words.pick(seen, (told,))


def _event_phrase(event: tuple[str, int, int], name: str, thing: str, words: Words) -> str:
    """What happens, to be told after the name; in novel a sentence of its own."""
    match event:
        case ("add", n, _):
            return words.pick(
                (
                    f"buys {n} more",
                    f"gets {n} more",
                    f"finds {n} more",
                    f"buys another {n}",
                    f"receives {n} more from a friend",
                    f"adds {n} more {thing}",
                ),
                (f"{name} picks up {n} more", f"A friend hands {name} {n} others"),
            )
        case ("take", n, _):
            return words.pick(
                (
                    f"gives away {n}",
                    f"loses {n}",
                    f"sells {n}",
                    f"gives {n} to a friend",
                    f"uses {n} of them",
                    f"gives {n} {thing} to a neighbour",
                ),
                (f"{name} throws away {n}", f"{name} parts with {n}"),
            )
        case ("boxes", n, k):
            return words.pick(
                (
                    f"buys {k} boxes of {n}",
                    f"gets {k} bags of {n}",
                    f"buys {k} packs with {n} {thing} in each",
                    f"receives {k} boxes that hold {n} {thing} each",
                    f"adds {k} packs of {n} {thing} each",
                ),
                (f"{name} picks up {k} bags of {n}", f"{k} crates of {n} each arrive for {name}"),
            )
        case ("times", n, _):
            return words.pick(
                (
                    f"{_MULTIPLIES[n]} the number of {thing}",
                    f"brings the number of {thing} up to {_TIMES[n]} as many",
                    f"ends up with {_TIMES[n]} as many",
                    f"trades them for {_TIMES[n]} as many",
                ),
                (f"Soon {name} has {_TIMES[n]} as many", f"A while later there are {_TIMES[n]} as many"),
            )
    part = _FRACTIONS[event[1]]
    return words.pick(
        (
            f"gives away {part} of the {thing}",
            f"loses {part} of the {thing}",
            f"sells {part} of them",
            f"gives {part} of the {thing} to a friend",
            f"uses up {part} of the {thing}",
        ),
        (f"{name} throws away {part} of the {thing}", f"{name} parts with {part} of the {thing}"),
    )


def _event_comment(event: tuple[str, int, int]) -> str:
    match event:
        case ("add", n, _):
            return f"{n} more"
        case ("take", n, _):
            return f"{n} fewer"
        case ("boxes", n, k):
            return f"{k} boxes of {n}"
        case ("times", n, _):
            return f"{n} times as many"
    return capital(f"{_FRACTIONS[event[1]]} goes away")


def _work_stock(parameters: Parameters, program: Program, words: Words) -> None:
    start, events = parameters
    program.step(f"{start} at the start")
    count = program.let("x", start)
    for event in events:
        program.step(_event_comment(event))
        count = program.let("x", _changed(count, event))
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
    extra = (0, 0, random.choice((0, 1)), 1, 1)[level - 1]
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
    start = words.name(0)
    facts = [
        words.pick(
            (
                f"{start} has {base} {thing}",
                f"{start} has exactly {base} {thing}",
                f"{start} has collected {base} {thing}",
                f"the number of {thing} {start} has is {base}",
            ),
            (f"{start} owns {base} {thing}", f"{base} {thing} belong to {start}"),
        )
    ]
    facts += [_relation(words.name(index), kind, n, words.name(of), thing, words) for index, kind, n, of in relations]
    name = words.name(asked)
    if together >= 0:
        both = f"{name} and {words.name(together)}"
        question = words.pick(
            (
                f"How many {thing} do {both} have together?",
                f"How many {thing} do {both} have in total?",
                f"How many {thing} do {both} have altogether?",
                f"What is the total number of {thing} that {both} have?",
                f"Find the total number of {thing} {both} have together.",
            ),
            (f"How many {thing} do {both} own together?", f"Added up, how many {thing} belong to {both}?"),
        )
    else:
        question = words.pick(
            (
                f"How many {thing} does {name} have?",
                f"What is the number of {thing} that {name} has?",
                f"Find the number of {thing} {name} has.",
                f"Determine how many {thing} {name} has.",
                f"Work out how many {thing} {name} has.",
            ),
            (f"How many {thing} does {name} own?", f"How many {thing} belong to {name}?"),
        )
    facts = [facts[i] for i in order]
    told = " ".join([*(f"{capital(fact)}." for fact in facts), question])
    seen = [told, told, told]
    if len(facts) == 2:
        seen += [
            f"If {' and '.join(facts)}, how many {thing} does {name} have?",
            f"How many {thing} does {name} have if {' and '.join(facts)}?",
        ]
    return words.pick(seen, (told,))


def _relation(left: str, kind: str, n: int, right: str, thing: str, words: Words) -> str:
    """The fact that `left` has n more or fewer than, or n times as many as, `right`."""
    much, than = (f"{_TIMES[n]} as many", "as") if kind == "times" else (f"{n} {kind}", "than")
    seen = [
        f"{left} has {much} {thing} {than} {right}",
        f"{left} has {much} {thing} {than} {right} has",
        f"{left} has {much} {than} {right}",
        f"{left} has collected {much} {thing} {than} {right}",
        f"compared with {right}, {left} has {much} {thing}",
    ]
    if kind == "times":
        seen.append(f"{left} has {_TIMES[n].replace('twice', '2 times')} the number of {thing} that {right} has")
    return words.pick(seen, (f"{left} owns {much} {than} {right}", f"{much} {thing} belong to {left} {than} to {right}"))


def _work_relations(parameters: Parameters, program: Program, words: Words) -> None:
    base, relations, _, asked, together = parameters
    # The way back from the person asked for is read off the sentences one by one; the program then goes it forwards.
    back = " from ".join(words.name(index) for index in range(asked, -1, -1))
    program.step(back)
    known = [program.let(words.name(0), base)]
    for index, kind, n, of in relations[:asked]:
        much = f"{n} times as many as" if kind == "times" else f"{n} {kind} than"
        program.step(f"{words.name(index)} has {much} {words.name(of)}")
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
    is_reduced = level >= 4 or (level == 3 and random.randrange(2) == 0)
    while True:
        items = tuple((small(random, level), small(random, level)) for _ in range(kinds))
        total = sum(n * price for n, price in items)
        percent = random.choice((5, 10, 20, 25, 30, 40)) if is_reduced else 0
        if total * percent % 100 == 0:
            break
    total -= total * percent // 100
    wants_change = level == 5 or (level == 3 and not is_reduced) or (level <= 2 and random.randrange(2) == 0)
    paid = total + random.randint(3, 60) if wants_change else 0
    return (items, percent, paid)


def _ask_shopping(parameters: Parameters, words: Words) -> str:
    items, percent, paid = parameters
    name = words.name()
    goods = words.pick(
        (
            listing([f"{n} {words.thing(i)} at {price} dollars each" for i, (n, price) in enumerate(items)]),
            listing([f"{n} {words.thing(i)} for {price} dollars each" for i, (n, price) in enumerate(items)]),
            listing([f"{n} {words.thing(i)} priced at {price} dollars each" for i, (n, price) in enumerate(items)]),
            listing([f"{n} {words.thing(i)} at ${price} apiece" for i, (n, price) in enumerate(items)]),
        ),
        (
            ", ".join(f"{n} {words.thing(i)} that cost {price} dollars each" for i, (n, price) in enumerate(items)),
            ", ".join(f"{n} {words.thing(i)} with a price tag of {price} dollars each" for i, (n, price) in enumerate(items)),
        ),
    )
    prices = listing([f"{words.thing(i)} cost {price} dollars each" for i, (_, price) in enumerate(items)])
    numbers = listing([f"{n} {words.thing(i)}" for i, (n, _) in enumerate(items)])
    text = words.pick(
        (
            f"{name} buys {goods}.",
            f"{name} purchases {goods}.",
            f"{name} goes to a shop and buys {goods}.",
            f"At the market, {name} buys {goods}.",
            f"{name} orders {goods}.",
            f"In a shop, {prices}. {name} buys {numbers}.",
        ),
        (f"{name} takes home {goods}.", f"Into the basket of {name} go {goods}."),
    )
    if percent:
        text += words.pick(
            (
                f" There is a discount of {percent}% on the total.",
                f" The shop takes {percent}% off the total.",
                f" A coupon gives {percent}% off the total price.",
                f" The store gives a {percent}% discount on the whole purchase.",
            ),
            (f" The total is then reduced by {percent}%.", f" At the till {percent}% of the bill is waived."),
        )
    text += _shopping_question(name, paid, words)
    if percent or paid:
        return text
    pays = f"how many dollars does {name} pay"
    return words.pick((text, text, text, f"If {name} buys {goods}, {pays}?", f"{capital(pays)} for {goods}?"), (text,))


def _shopping_question(name: str, paid: int, words: Words) -> str:
    if not paid:
        return words.pick(
            (
                f" How many dollars does {name} pay?",
                " How many dollars is that in all?",
                " What is the total cost in dollars?",
                f" How many dollars does {name} spend?",
                f" How much does {name} pay in dollars?",
                " Find the total price in dollars.",
            ),
            (f" How many dollars does {name} owe?", " What sum in dollars is on the bill?"),
        )
    pays = words.pick(
        (
            f" {name} pays with {paid} dollars.",
            f" {name} gives the shop {paid} dollars.",
            f" {name} gives the cashier {paid} dollars.",
            f" {name} pays with ${paid}.",
        ),
        (f" {name} hands over {paid} dollars.", f" {name} puts {paid} dollars on the counter."),
    )
    change = words.pick(
        (
            " How many dollars of change are there?",
            " How many dollars does the shop give back?",
            f" How many dollars does {name} get back?",
            f" How much change does {name} get, in dollars?",
            " Find the change in dollars.",
        ),
        (" How many dollars come back as change?", f" Which sum in dollars is returned to {name}?"),
    )
    return words.pick(
        (
            *(pays + change,) * 4,
            f" {name} had {paid} dollars before paying. How many dollars are left?",
            f" If {name} had {paid} dollars, how many dollars does {name} have left?",
        ),
        (pays + change,),
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
            program.step(f"The {words.thing(i)}")
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
    has_bonus = random.randrange(2) == 0  # at level 3: a bonus or costs; from level 4 on both
    bonus = size(random, level) if level >= 4 or (level == 3 and has_bonus) else 0
    cost = random.randint(2, first[0] * first[1] - 1) if level >= 4 or (level == 3 and not has_bonus) else 0
    second = job() if level == 5 else ()
    compare = random.choice(("together", "more")) if second else ""
    if compare == "more":
        gap = first[0] * first[1] * first[2] + bonus - cost * first[2] - second[0] * second[1] * second[2]
        compare = "more" if gap > 1 else "together"
    return (first, bonus, cost, second, compare)


def _ask_wages(parameters: Parameters, words: Words) -> str:
    first, bonus, cost, second, compare = parameters
    name, other = words.name(0), words.name(1)
    text = _job(name, *first, words)
    if bonus:
        text += words.pick(
            (
                f" {name} also gets a bonus of {bonus} dollars.",
                f" There is a bonus of {bonus} dollars.",
                f" {name} also receives a bonus of {bonus} dollars.",
                f" The boss adds a bonus of {bonus} dollars.",
                f" In addition, {name} gets {bonus} dollars as a bonus.",
            ),
            (f" At the end {name} gets a bonus of {bonus} dollars.", f" {bonus} dollars come on top for {name}."),
        )
    if cost:
        text += words.pick(
            (
                f" Each day {name} spends {cost} dollars.",
                f" {name} spends {cost} dollars a day.",
                f" Lunch costs {name} {cost} dollars every day.",
                f" {name} pays {cost} dollars per day for travel.",
                f" Every day {name} spends {cost} dollars on food.",
            ),
            (f" {name} needs {cost} dollars each day.", f" Each of the days takes {cost} dollars from {name}."),
        )
    if second:
        text += " " + _job(other, *second, words)
        if compare == "together":
            return text + words.pick(
                (
                    f" How many dollars do {name} and {other} have together?",
                    f" How many dollars do {name} and {other} have in total?",
                    f" How much money do {name} and {other} have in all, in dollars?",
                    f" Find the total number of dollars {name} and {other} have.",
                ),
                (
                    f" How many dollars have {name} and {other} together?",
                    f" Put together, which sum in dollars is that for {name} and {other}?",
                ),
            )
        return text + words.pick(
            (
                f" How many dollars more than {other} does {name} have?",
                f" How many more dollars does {name} have than {other}?",
                f" Find how many more dollars {name} has than {other}.",
                f" How much more money does {name} have than {other}, in dollars?",
            ),
            (
                f" By how many dollars does {name} have more than {other}?",
                f" By which sum in dollars is {name} ahead of {other}?",
            ),
        )
    told = text + words.pick(
        (
            f" How many dollars does {name} have at the end?",
            f" How many dollars does {name} have?",
            f" How much money does {name} have in the end, in dollars?",
            f" How many dollars does {name} have in all?",
            f" Find the number of dollars {name} has.",
        ),
        (f" How many dollars are left for {name}?", f" Which sum in dollars can {name} keep?"),
    )
    hours, rate, days = first
    if bonus or cost or days > 1:
        return told
    return words.pick(
        (
            told,
            told,
            f"How many dollars does {name} earn in {hours} hours at {rate} dollars per hour?",
            f"If {name} earns {rate} dollars per hour, how many dollars does {name} earn in {hours} hours?",
        ),
        (told,),
    )


def _job(name: str, hours: int, rate: int, days: int, words: Words) -> str:
    if days == 1:
        return words.pick(
            (
                f"{name} works {hours} hours and earns {rate} dollars an hour.",
                f"{name} earns {rate} dollars an hour and works {hours} hours.",
                f"{name} works for {hours} hours at {rate} dollars per hour.",
                f"{name} makes {rate} dollars per hour. {name} works for {hours} hours.",
                f"For each hour of work {name} gets {rate} dollars. {name} works {hours} hours.",
            ),
            (
                f"{name} is paid {rate} dollars an hour and stays {hours} hours.",
                f"A job brings {name} {rate} dollars an hour, and it takes {hours} hours.",
            ),
        )
    return words.pick(
        (
            f"{name} works {hours} hours a day for {days} days and earns {rate} dollars an hour.",
            f"{name} earns {rate} dollars an hour and works {hours} hours a day for {days} days.",
            f"{name} works {days} days, {hours} hours each day, and makes {rate} dollars per hour.",
            f"{name} makes {rate} dollars per hour. {name} works {hours} hours daily for {days} days.",
            f"Working at {rate} dollars an hour, {name} puts in {hours} hours every day for {days} days.",
            f"{name} has a job at {rate} dollars per hour and works for {days} days, {hours} hours per day.",
        ),
        (
            f"For {days} days {name} works {hours} hours a day and is paid {rate} dollars an hour.",
            f"A job brings {name} {rate} dollars an hour, and it takes {hours} hours on each of {days} days.",
        ),
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
