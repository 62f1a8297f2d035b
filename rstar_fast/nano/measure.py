"""Quantities: travel and average speed, percentages, averages, shares in a ratio, rectangles and boxes."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, capital, listing, requests, size, small
from rstar_fast.nano.program import Number, Program, ratio, term

# --- travel: distances, then average speed ---------------------------------------------------------------------------


def _draw_travel(random: Random, level: int) -> Parameters:
    legs = (1, random.choice((2, 3)), 2, 3, 4)[level - 1]
    parts = tuple((random.randint(5, 20 + 20 * level), random.randint(2, 3 + 2 * level)) for _ in range(legs))
    kind = ("distance", "distance", *(random.choice(("rest", "average")) for _ in range(2)), "average")[level - 1]
    total = sum(speed * hours for speed, hours in parts) + random.randint(2, 200) if kind == "rest" else 0
    return (kind, parts, total)


def _ask_travel(parameters: Parameters, words: Words) -> str:
    kind, parts, total = parameters
    name = words.name()
    who, later, verb = words.pick(
        (
            (name, name, "drives"),
            (name, name, "rides"),
            (name, name, "travels"),
            ("a car", "the car", "drives"),
            ("a train", "the train", "travels"),
            ("a bus", "the bus", "goes"),
        ),
        ((name, name, "cycles"), (name, name, "sails")),
    )
    leg, glue = words.pick(
        (
            ("{hours} hours at {speed} km per hour", " and then "),
            ("at {speed} km per hour for {hours} hours", " and then "),
            ("for {hours} hours at {speed} km per hour", ", then "),
            ("at a speed of {speed} km/h for {hours} hours", " and then "),
            ("for {hours} hours at {speed} km/h", " and "),
            ("for {hours} hours at a speed of {speed} km per hour", " and then "),
        ),
        (
            ("{hours} hours with a speed of {speed} km per hour", ", then "),
            ("at a pace of {speed} km per hour during {hours} hours", ", later "),
        ),
    )
    does = f"{verb} {glue.join(leg.format(hours=hours, speed=speed) for speed, hours in parts)}"
    text = f"{capital(who)} {does}."
    if kind == "rest":
        return words.pick(
            (
                f"A trip is {total} km long. {text} How many km are left?",
                f"{text} The whole trip is {total} km long. How many km are still to go?",
                f"A journey of {total} km is planned. {text} How many km of the journey are left?",
                f"Two cities are {total} km apart. {capital(who)} sets out from one of them towards the other and {does}. "
                f"How many km is {later} from the other city then?",
                f"{text} If the whole trip is {total} km long, how many km are left?",
            ),
            (
                f"The way is {total} km. {text} How many km remain?",
                f"A tour measures {total} km. {text} Which distance in km lies ahead?",
            ),
        )
    if kind == "average":
        return words.pick(
            (
                f"{text} What is the average speed in km per hour?",
                f"{text} Find the average speed of the trip in km per hour.",
                f"{text} What is the average speed of {later} in km/h?",
                f"{text} Calculate the average speed for the whole trip in km per hour.",
                f"{text} Determine the average speed over the whole trip in km per hour.",
                f"What is the average speed in km per hour if {who} {does}?",
                f"If {who} {does}, what is the average speed in km per hour?",
            ),
            (
                f"{text} How many km per hour is that on average?",
                f"{text} Which steady speed in km per hour would take just as long?",
            ),
        )
    return words.pick(
        (
            f"{text} How many km does {later} travel?",
            f"{text} How long is the trip in km?",
            f"{text} What is the total distance in km?",
            f"{text} How far does {later} travel, in km?",
            f"{text} Find the distance travelled in km.",
            f"How many km does {who} travel if {later} {does}?",
            f"If {who} {does}, how many km does {later} travel?",
        ),
        (f"{text} How far is that in km for {name}?", f"{text} What is the length of this tour in km?"),
    )


def _work_travel(parameters: Parameters, program: Program, words: Words) -> None:
    kind, parts, total = parameters
    if program.style == 0 or len(parts) == 1:
        program.step("The distance is speed times time")
        distance = term(parts[0][0]) * parts[0][1]
        for speed, hours in parts[1:]:
            distance = distance + term(speed) * hours
        distance = program.let("distance", distance)
    else:
        program.step("The distance of each part")
        pieces = [program.let(f"d{i}", term(speed) * hours) for i, (speed, hours) in enumerate(parts, 1)]
        program.step("Add the distances")
        distance = pieces[0]
        for piece in pieces[1:]:
            distance = distance + piece
        distance = program.let("distance", distance)
    if kind == "rest":
        program.step("What is left of the trip")
        distance = program.let("rest", term(total) - distance)
    if kind == "average":
        program.step("Add the times")
        time = term(parts[0][1])
        for _, hours in parts[1:]:
            time = time + hours
        time = program.let("time", time)
        program.step("Divide distance by time", "from fractions import Fraction")
        distance = program.let("speed", ratio(distance, time))
    program.show(distance)


def _solve_travel(parameters: Parameters) -> Number:
    """Moves hour by hour."""
    kind, parts, total = parameters
    speeds = [speed for speed, hours in parts for _ in range(hours)]
    if kind == "average":
        return sum((Fraction(speed, len(speeds)) for speed in speeds), Fraction(0))
    for speed in speeds:
        total = total - speed if kind == "rest" else total + speed
    return total


# --- percent: rises and falls in a row -------------------------------------------------------------------------------


def _draw_percent(random: Random, level: int) -> Parameters:
    kind = random.choice((("part",), ("part", "change"), ("change", "before"), ("change",), ("change", "before"))[level - 1])
    count = (1, 1, 1 if kind == "before" else 2, 3, 3)[level - 1]
    while True:
        start = random.randint(2, 30 * level) * random.choice((10, 20, 50, 100))
        changes = tuple((random.choice((-1, 1)), random.choice((5, 10, 15, 20, 25, 30, 40, 50, 60))) for _ in range(count))
        value = Fraction(start)
        whole = True
        for sign, percent in changes:
            value *= Fraction(100 + sign * percent, 100)
            whole = whole and value.denominator == 1
        if whole:
            break
    return (kind, value.numerator if kind == "before" else start, changes)


def _ask_percent(parameters: Parameters, words: Words) -> str:
    kind, start, changes = parameters
    if kind == "part":
        percent, thing = changes[0][1], words.thing()
        return words.pick(
            (
                *requests(f"{percent}% of {start}"),
                f"What number is {percent}% of {start}?",
                f"A shop has {start} {thing} and sells {percent}% of them. How many {thing} does it sell?",
                f"Of {start} {thing}, {percent}% are new. How many {thing} are new?",
                f"{words.name()} has {start} {thing}, and {percent}% of them are red. How many red {thing} are there?",
            ),
            (f"How much is {percent} percent of {start}?", f"{start} is given. Which number makes up {percent} percent of it?"),
        )
    what = words.pick(("price", "number", "price", "number", "quantity", "population"), ("value",))
    up, down = words.pick(
        (
            ("rises", "falls"),
            ("increases", "decreases"),
            ("grows", "shrinks"),
            ("is increased", "is decreased"),
            ("is raised", "is reduced"),
        ),
        (("goes up", "goes down"), ("climbs", "drops")),
    )
    moves = words.pick((" and then ", " and then ", ", then "), (" and then ",)).join(
        f"{up if sign > 0 else down} by {percent}%" for sign, percent in changes
    )
    if kind == "before":
        return words.pick(
            (
                f"A {what} {moves}. Now it is {start}. What was it before?",
                f"A {what} {moves}. The result is {start}. Find the original {what}.",
                f"After a {what} {moves}, it is {start}. What was the {what} originally?",
                f"If a {what} {moves} and ends at {start}, what was it at the start?",
                f"A {what} becomes {start} after it {moves}. What was the {what} before that?",
                f"What was the original {what} if it {moves} and is then {start}?",
            ),
            (
                f"A {what} {moves} and is {start} at last. What was it at first?",
                f"A {what} {moves}, and {start} comes out. Which {what} was there first?",
            ),
        )
    return words.pick(
        (
            f"A {what} is {start}. It {moves}. What is it now?",
            f"A {what} of {start} {moves}. What is it at the end?",
            f"If a {what} of {start} {moves}, what is the new {what}?",
            f"What is the final {what} if a {what} of {start} {moves}?",
            f"A {what} is {start} and {moves}. Find the new {what}.",
            f"The {what} was {start} at first. It {moves}. Calculate the final {what}.",
        ),
        (
            f"A {what} starts at {start} and {moves}. What does it become?",
            f"To begin with, a {what} stands at {start}. Then it {moves}. Where does it stand after that?",
        ),
    )


def _work_percent(parameters: Parameters, program: Program, words: Words) -> None:
    kind, start, changes = parameters
    program.step("The number at the end" if kind == "before" else "The number given")
    value = program.let("x", start)
    if kind == "part":
        program.step(f"Take {changes[0][1]}% of it")
        program.show(program.let("x", value * changes[0][1] // 100))
        return
    for sign, percent in reversed(changes) if kind == "before" else changes:
        move = "rise" if sign > 0 else "fall"
        if kind == "before":
            program.step(f"Undo the {move} by {percent}%")
            factor = term(100) + percent if sign > 0 else term(100) - percent
            value = program.let("x", value * 100 // factor)
        elif program.style == 0:
            program.step(f"{capital(move)} by {percent}%")
            change = value * percent // 100
            value = program.let("x", value + change if sign > 0 else value - change)
        else:
            program.step(f"It {move}s by {percent}%")
            factor = term(100) + percent if sign > 0 else term(100) - percent
            value = program.let("x", value * factor // 100)
    program.show(value)


def _solve_percent(parameters: Parameters) -> Number:
    """One exact fraction for all changes together."""
    kind, start, changes = parameters
    if kind == "part":
        return sum((Fraction(start, 100) for _ in range(changes[0][1])), Fraction(0))
    numerator = denominator = 1
    for sign, percent in changes:
        numerator, denominator = numerator * (100 + sign * percent), denominator * 100
    return Fraction(start * denominator, numerator) if kind == "before" else Fraction(start * numerator, denominator)


# --- average ---------------------------------------------------------------------------------------------------------


def _draw_average(random: Random, level: int) -> Parameters:
    kind = ("mean", "mean", random.choice(("mean", "missing")), "missing", "groups")[level - 1]
    if kind == "groups":
        return (kind, tuple(random.randint(2, 60) for _ in range(4)), 0)
    most = 4 if kind == "missing" else 5
    numbers = tuple(size(random, level) for _ in range((3, 4, random.randint(3, most), 5)[level - 1]))
    if kind == "missing":
        least = sum(numbers) // (len(numbers) + 1) + 1
        return (kind, numbers, least + random.randint(1, 10 * level))
    return (kind, numbers, 0)


def _ask_average(parameters: Parameters, words: Words) -> str:
    kind, numbers, mean = parameters
    name = words.name()
    if kind == "groups":
        n, a, m, b = numbers
        return words.pick(
            (
                f"The average of {n} numbers is {a}. The average of {m} other numbers is {b}. "
                f"What is the average of all the numbers?",
                f"If {n} numbers have an average of {a} and {m} other numbers have an average of {b}, "
                f"what is the average of all of them?",
                f"In one class {n} students have an average score of {a}. In another class {m} students have "
                f"an average score of {b}. What is the average score of all these students?",
                f"The mean of {n} numbers is {a} and the mean of {m} more numbers is {b}. Find the mean of all the numbers.",
                f"{name} plays {n} games with an average of {a} points and then {m} games with an average of {b} points. "
                f"Calculate the average over all the games.",
                f"Find the average of all the numbers if {n} of them have the mean {a} and the other {m} have the mean {b}.",
            ),
            (
                f"A group of {n} numbers has the average {a} and another group of {m} has the average {b}. "
                f"What is the average of both groups together?",
                f"Of some numbers, {n} average {a} while the remaining {m} average {b}. What do they average as a whole?",
            ),
        )
    listed = listing(numbers)
    if kind == "missing":
        count = len(numbers) + 1
        return words.pick(
            (
                f"The average of {count} numbers is {mean}. All but one of them are {listed}. What is the last number?",
                f"The mean of {count} numbers is {mean}. The other numbers besides x are {listed}. What is x?",
                f"If the average of the {count} numbers {', '.join(map(str, numbers))} and x is {mean}, what is x?",
                f"Find x if the {count} numbers {', '.join(map(str, numbers))} and x have the average {mean}.",
                f"{count} numbers have an average of {mean}. All of them except one are known: {listed}. "
                f"Find the missing number.",
                f"{name} has an average of {mean} points in {count} games. The points in all but the last game are {listed}. "
                f"How many points does {name} get in the last game?",
            ),
            (
                f"All but one of {count} numbers are {listed}. Their average is {mean}. Find the other number.",
                f"With one more number besides {listed}, all {count} average {mean}. Which number is it?",
            ),
        )
    return words.pick(
        (
            *requests(f"the average of {listed}"),
            f"What is the mean of {listed}?",
            f"Find the mean of the numbers {listed}.",
            f"What is the average of the {len(numbers)} numbers {listed}?",
            f"{name} gets {listed} points in {len(numbers)} games. What is the average number of points?",
        ),
        (f"The numbers are {listed}. What is their average?", f"How large are {listed} on average?"),
    )


def _work_average(parameters: Parameters, program: Program, words: Words) -> None:
    kind, numbers, mean = parameters
    if kind == "groups":
        n, a, m, b = numbers
        program.step("The sum of all the numbers")
        total = program.let("total", term(n) * a + term(m) * b)
        program.step("How many there are")
        count = program.let("count", term(n) + m)
        program.step("The average", "from fractions import Fraction")
        program.show(program.let("mean", ratio(total, count)))
        return
    total = term(numbers[0])
    for number in numbers[1:]:
        total = total + number
    if kind == "missing" and program.style == 1:
        program.step("The sum of all the numbers")
        whole = program.let("whole", term(mean) * (len(numbers) + 1))
        program.step("The sum of the known numbers")
        total = program.let("total", total)
        program.step("The difference is the missing number")
        program.show(program.let("x", whole - total))
        return
    program.step("The sum of the numbers")
    total = program.let("total", total)
    if kind == "missing":
        program.step("The missing number")
        program.show(program.let("x", term(mean) * (len(numbers) + 1) - total))
    else:
        program.step("Divide by how many there are", "from fractions import Fraction")
        program.show(program.let("mean", ratio(total, len(numbers))))


def _solve_average(parameters: Parameters) -> Number:
    """Distances from a mean sum to zero."""
    kind, numbers, mean = parameters
    if kind == "groups":
        n, a, m, b = numbers
        return a + Fraction((b - a) * m, n + m)
    if kind == "missing":
        return mean + sum(mean - number for number in numbers)
    middle = numbers[0]
    return middle + sum((Fraction(number - middle, len(numbers)) for number in numbers), Fraction(0))


# --- ratio: something is shared --------------------------------------------------------------------------------------


def _draw_ratio(random: Random, level: int) -> Parameters:
    kind = random.choice((("share",), ("share", "gap"), ("share", "gap", "gift"), ("gap", "gift"), ("gift", "from"))[level - 1])
    people = 2 if level <= 2 or (level == 3 and kind == "gift") else 3
    parts = tuple(random.randint(1, 5 + 2 * level) for _ in range(people))
    while len(set(parts)) < people:
        parts = tuple(random.randint(1, 5 + 2 * level) for _ in range(people))
    unit = random.randint(2, 8 * level)
    who, other = random.sample(range(people), 2)
    if kind == "gap" and parts[who] < parts[other]:
        who, other = other, who
    if kind == "from" and parts[who] < parts[other]:
        who, other = other, who
    gift = random.randint(2, 9 * level) if kind == "gift" else 0
    given = (parts[who] - parts[other]) * unit if kind == "from" else sum(parts) * unit
    return (kind, parts, given, who, other, gift)


def _ask_ratio(parameters: Parameters, words: Words) -> str:
    kind, parts, given, who, other, gift = parameters
    thing = words.thing()
    people = [words.name(i) for i in range(len(parts))]
    group, one, two = listing(people), people[who], people[other]
    proportion = words.pick((":", ":", " to "), (":",)).join(map(str, parts))
    among = "between" if len(parts) == 2 else "among"
    many = "some" if kind == "from" else str(given)
    shares = words.pick(
        (
            f"{group} share {many} {thing} in the ratio {proportion}",
            f"{many} {thing} are shared {among} {group} in the ratio {proportion}",
            f"{group} divide {many} {thing} in the ratio {proportion}",
            f"{many} {thing} are divided {among} {group} in the ratio {proportion}",
            f"{group} split {many} {thing} in the ratio {proportion}",
        ),
        (
            f"{many} {thing} go to {group} in the ratio {proportion}",
            f"{many} {thing} are dealt out as {proportion} for {group}",
        ),
    )
    text = f"{capital(shares)}."
    if kind == "from":
        text += words.pick(
            (
                f" {one} gets {given} more than {two}.",
                f" {one} receives {given} more {thing} than {two}.",
                f" The share of {one} is {given} more than the share of {two}.",
            ),
            (f" {one} has {given} more than {two}.", f" {one} is ahead of {two} by {given}."),
        )
        return f"{text} " + words.pick(
            (
                f"How many {thing} are there in all?",
                f"How many {thing} are there altogether?",
                f"What is the total number of {thing}?",
                f"Find the total number of {thing}.",
                f"How many {thing} do they share?",
            ),
            (f"How many {thing} have they in all?", f"How many {thing} does that make for everybody?"),
        )
    if kind == "gap":
        question = words.pick(
            (
                f"how many more does {one} get than {two}?",
                f"how many more {thing} does {one} get than {two}?",
                f"how many more {thing} does {one} receive than {two}?",
                f"what is the difference between the shares of {one} and {two}?",
            ),
            (f"by how many does {one} get more than {two}?", f"by what number of {thing} is {one} ahead of {two}?"),
        )
    elif kind == "gift":
        text += words.pick(
            (
                f" Then {one} gets {gift} more.",
                f" After that, {one} buys {gift} more {thing}.",
                f" {one} then finds {gift} more.",
                f" Then {one} receives another {gift} {thing}.",
            ),
            (f" Later {one} gets {gift} more.", f" Some time on, {one} picks up {gift} extra."),
        )
        return f"{text} " + words.pick(
            (
                f"How many {thing} does {one} have then?",
                f"How many {thing} does {one} have now?",
                f"How many {thing} does {one} have at the end?",
                f"Find the number of {thing} {one} has now.",
            ),
            (f"How many has {one} then?", f"With how many {thing} does {one} finish?"),
        )
    else:
        question = words.pick(
            (
                f"how many {thing} does {one} get?",
                f"how many {thing} does {one} receive?",
                f"what is the share of {one}?",
                f"what number of {thing} does {one} get?",
            ),
            (f"how many go to {one}?", f"which number of {thing} falls to {one}?"),
        )
    told = f"{text} {capital(question)}"
    return words.pick((told, told, f"If {shares}, {question}", f"{capital(question)[:-1]} if {shares}?"), (told,))


def _work_ratio(parameters: Parameters, program: Program, words: Words) -> None:
    kind, parts, given, who, other, gift = parameters
    one, two = words.name(who), words.name(other)
    total = term(parts[0])
    for part in parts[1:]:
        total = total + part
    if kind == "from":
        program.step(f"{one} has {parts[who]} parts, {two} {parts[other]}")
        count = program.let("parts", term(parts[who]) - parts[other])
        program.step("One part")
        unit = program.let("unit", term(given) // count)
        program.step("All parts together")
        program.show(program.let("total", unit * total))
        return
    program.step(f"Parts: {', '.join(f'{words.name(i)} {part}' for i, part in enumerate(parts))}")
    count = program.let("parts", total)
    program.step("One part")
    unit = program.let("unit", term(given) // count)
    if kind == "gap":
        if program.style == 0:
            program.step(f"{one} has {parts[who]} parts, {two} {parts[other]}")
            share = program.let("gap", unit * (term(parts[who]) - parts[other]))
        else:
            program.step(f"The shares of {one} and {two}")
            first, second = program.let("a", unit * parts[who]), program.let("b", unit * parts[other])
            program.step("The difference")
            share = program.let("gap", first - second)
    else:
        program.step(f"The share of {one} is {parts[who]} parts")
        share = program.let("share", unit * parts[who])
    if kind == "gift":
        program.step(f"Then {gift} more")
        share = program.let("share", share + gift)
    program.show(share)


def _solve_ratio(parameters: Parameters) -> Number:
    """Deals the things out round by round."""
    kind, parts, given, who, other, gift = parameters
    shares = [0] * len(parts)
    while (shares[who] - shares[other] if kind == "from" else sum(shares)) < given:
        shares = [share + part for share, part in zip(shares, parts, strict=True)]
    return {"from": sum(shares), "gap": shares[who] - shares[other]}.get(kind, shares[who] + gift)


# --- rectangles and boxes --------------------------------------------------------------------------------------------


def _draw_rectangle(random: Random, level: int) -> Parameters:
    kind = random.choice(
        (
            ("area", "perimeter"),
            ("area", "perimeter", "volume"),
            ("volume", "path", "fence"),
            ("surface", "path", "fence"),
            ("surface", "path", "cut"),
        )[level - 1]
    )
    a, b = small(random, level) + 2, small(random, level) + 2
    c = random.randint(2, 9) if kind in ("volume", "surface", "path", "fence", "cut") else 0
    d = random.randint(2, 9) if kind == "fence" or (kind in ("path", "surface") and level == 5) else 0
    if kind == "cut":
        a, b = 2 * c + random.randint(2, 20), 2 * c + random.randint(2, 20)
    return (kind, a, b, c, d)


def _ask_rectangle(parameters: Parameters, words: Words) -> str:
    kind, a, b, c, d = parameters
    if kind in ("volume", "surface"):
        return _ask_box(parameters, words)
    if kind == "cut":
        what = words.pick(("sheet", "sheet of paper", "piece of cardboard", "metal sheet"), ("plate",))
    elif kind in ("path", "fence"):
        what = words.pick(("garden", "field", "park", "meadow"), ("yard", "lawn"))
    else:
        what = words.pick(("rectangle", "garden", "field", "floor", "room"), ("yard", "lawn"))
    shape = words.pick(
        (
            f"A {what} is {a} m long and {b} m wide.",
            f"A {what} has a length of {a} m and a width of {b} m.",
            f"The length of a {what} is {a} m and its width is {b} m.",
            f"A {what} has sides of {a} m and {b} m.",
            f"A {what} has length {a} m and width {b} m.",
        ),
        (f"A {what} is {a} m by {b} m.", f"A {what} spans {a} m times {b} m."),
    )
    if kind in ("area", "perimeter"):
        return words.pick(
            (
                *(f"{shape} {request}" for request in requests(f"its {kind}")),
                f"{shape} What is the {kind} of the {what}?",
                f"What is the {kind} of a {what} that is {a} m long and {b} m wide?",
                f"Find the {kind} of a {what} with length {a} m and width {b} m.",
                f"If a {what} is {a} m long and {b} m wide, what is its {kind}?",
            ),
            (f"{shape} How large is the {kind}?", f"{shape} Which {kind} does that make?"),
        )
    if kind == "fence":
        return shape + words.pick(
            (
                f" A fence with a gate of {c} m goes around it. One m of fence costs {d} dollars. What does the fence cost?",
                f" A fence goes all around it except for a gate of {c} m. The fence costs {d} dollars per m. "
                f"What is the cost of the fence in dollars?",
                f" A fence is built around it with a gap of {c} m for the gate. Each m of fence costs {d} dollars. "
                f"How many dollars does the fence cost?",
                f" {words.name()} fences it all around but leaves {c} m open for a gate. If a fence costs {d} dollars per m, "
                f"how many dollars does {words.name()} pay?",
                f" It is fenced on all sides, only a gate of {c} m needs no fence. "
                f"Find the cost of the fence at {d} dollars per m.",
            ),
            (
                f" All around it, but for a gate of {c} m, goes a fence for {d} dollars per m. What is the cost?",
                f" Its border, less a gate of {c} m, gets fenced. With {d} dollars due for one m, which sum is due?",
            ),
        )
    if kind == "cut":
        return shape + words.pick(
            (
                f" A square of side {c} m is cut from each corner and the sides are folded up. What is the volume of the box?",
                f" Squares with side {c} m are cut out of its four corners and the sides are folded up to make an open box. "
                f"Find the volume of the box.",
                f" After a square of side {c} m is removed at every corner, it is folded into an open box. "
                f"Calculate the volume of the box.",
                f" An open box is made by cutting a square of side {c} m out of each corner and folding up the sides. "
                f"What is its volume?",
                f" If a square with sides of {c} m is cut off at each corner and the edges are folded up, "
                f"what is the volume of the open box?",
            ),
            (
                f" From each corner a square of side {c} m is cut. Folded up it is a box. Find the volume of the box.",
                f" It loses a square of side {c} m at each corner and is bent up to a tray. "
                f"How large is the volume of the tray?",
            ),
        )
    text = shape + words.pick(
        (
            f" A path {c} m wide goes around it.",
            f" A path of width {c} m runs all around the outside.",
            f" It is surrounded by a path that is {c} m wide.",
            f" Around it there is a path with a width of {c} m.",
        ),
        (f" Outside goes a path of {c} m.", f" It is ringed by a path of {c} m."),
    )
    if d:
        return text + words.pick(
            (
                f" A square m of path costs {d} dollars. What does the path cost?",
                f" The path costs {d} dollars per square m. What is the total cost in dollars?",
                f" Each square m of the path costs {d} dollars. Find the cost of the path.",
                f" If the path costs {d} dollars per square m, how many dollars does the whole path cost?",
            ),
            (
                f" At {d} dollars per square m, what is the cost of the path?",
                f" With {d} dollars due for a square m of path, which sum is due?",
            ),
        )
    return text + words.pick(
        (*(f" {request}" for request in requests("the area of the path")), " How many square m does the path cover?"),
        (" How large is the area of the path?", " Which area lies under this path?"),
    )


def _ask_box(parameters: Parameters, words: Words) -> str:
    kind, a, b, c, d = parameters
    name = "volume" if kind == "volume" else "surface area"
    what = words.pick(("box", "box", "block", "crate", "chest"), ("box", "trunk"))
    shape = words.pick(
        (
            f"A {what} is {a} m long, {b} m wide and {c} m high.",
            f"A {what} has length {a} m, width {b} m and height {c} m.",
            f"The length, width and height of a {what} are {a} m, {b} m and {c} m.",
            f"A {what} has a length of {a} m, a width of {b} m and a height of {c} m.",
            f"The sides of a {what} are {a} m, {b} m and {c} m.",
        ),
        (f"A {what} measures {a} m by {b} m by {c} m.", f"A {what} spans {a} m times {b} m times {c} m."),
    )
    if d:
        return shape + words.pick(
            (
                f" Paint costs {d} dollars per square m. What does it cost to paint the whole surface?",
                f" Painting costs {d} dollars per square m. How many dollars does it cost to paint its whole surface?",
                f" Its whole surface is painted at {d} dollars per square m. What is the total cost in dollars?",
                f" It costs {d} dollars to paint one square m. Find the cost of painting all of its surface.",
            ),
            (
                f" Its whole surface gets paint for {d} dollars per square m. What is the cost?",
                f" A coat for all of it is due at {d} dollars for a square m. Which sum is due?",
            ),
        )
    return words.pick(
        (
            *(f"{shape} {request}" for request in requests(f"its {name}")),
            f"{shape} What is the {name} of the {what}?",
            f"What is the {name} of a {what} that is {a} m long, {b} m wide and {c} m high?",
            f"Find the {name} of a {what} with length {a} m, width {b} m and height {c} m.",
            f"If a {what} is {a} m long, {b} m wide and {c} m high, what is its {name}?",
        ),
        (f"{shape} How large is the {name}?", f"{shape} Which {name} does that make?"),
    )


def _work_rectangle(parameters: Parameters, program: Program, words: Words) -> None:
    kind, a, b, c, d = parameters
    if kind == "area":
        program.step("Length times width")
        result = program.let("area", term(a) * b)
    elif kind == "perimeter":
        program.step("Twice the sum of the sides")
        result = program.let("perimeter", term(2) * (term(a) + b))
    elif kind == "volume":
        program.step("Multiply the three sides")
        result = program.let("volume", term(a) * b * c)
    elif kind == "surface":
        program.step("Each pair of sides, twice")
        result = program.let("surface", term(2) * (term(a) * b + term(a) * c + term(b) * c))
    elif kind == "fence":
        program.step("The length without the gate")
        result = program.let("length", term(2) * (term(a) + b) - c)
    elif kind == "cut":
        program.step("The sides of the bottom")
        length = program.let("length", term(a) - term(2) * c)
        width = program.let("width", term(b) - term(2) * c)
        program.step("The volume")
        result = program.let("volume", length * width * c)
    elif program.style == 0:
        program.step("The area with the path")
        outer = program.let("outer", (term(a) + term(2) * c) * (term(b) + term(2) * c))
        program.step("Take off the garden")
        result = program.let("path", outer - term(a) * b)
    else:
        program.step("The two long sides, the two short sides and the corners")
        result = program.let("path", term(2) * a * c + term(2) * b * c + term(4) * c * c)
    if d:
        program.step("The cost")
        result = program.let("cost", result * d)
    program.show(result)


def _solve_rectangle(parameters: Parameters) -> Number:
    """Counts unit squares, unit lengths or unit cubes."""
    kind, a, b, c, d = parameters
    cost = d or 1
    if kind == "area":
        return sum(b for _ in range(a))
    if kind == "perimeter":
        return a + b + a + b
    if kind == "volume":
        return sum(c for _ in product(range(a), range(b)))
    if kind == "surface":
        return cost * ((a + 2) * (b + 2) * (c + 2) - a * b * c - 4 * (a + b + c) - 8)
    if kind == "fence":
        return sum(d for _ in range(a + b + a + b - c))
    if kind == "cut":
        return sum(c for x, y in product(range(a), range(b)) if c <= x < a - c and c <= y < b - c)
    wide = product(range(a + 2 * c), range(b + 2 * c))
    return cost * sum(1 for x, y in wide if not (c <= x < a + c and c <= y < b + c))


FAMILIES = (
    Family("travel", _draw_travel, _ask_travel, _work_travel, _solve_travel),
    Family("percent", _draw_percent, _ask_percent, _work_percent, _solve_percent),
    Family("average", _draw_average, _ask_average, _work_average, _solve_average),
    Family("ratio", _draw_ratio, _ask_ratio, _work_ratio, _solve_ratio),
    Family("rectangle", _draw_rectangle, _ask_rectangle, _work_rectangle, _solve_rectangle),
)
