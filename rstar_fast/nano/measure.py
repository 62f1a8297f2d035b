"""Quantities: travel and average speed, percentages, averages, shares in a ratio, rectangles and boxes."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from random import Random

from rstar_fast.nano.family import Family, Parameters, Words, size, small
from rstar_fast.nano.program import Number, Program, ratio, term

# --- travel: distances, then average speed ---------------------------------------------------------------------------


def _draw_travel(random: Random, level: int) -> Parameters:
    legs = (1, 2, 2, 3, 4)[level - 1]
    parts = tuple((random.randint(5, 20 + 20 * level), random.randint(2, 3 + 2 * level)) for _ in range(legs))
    kind = ("distance", "distance", "average", random.choice(("rest", "average")), "average")[level - 1]
    total = sum(speed * hours for speed, hours in parts) + random.randint(2, 200) if kind == "rest" else 0
    return (kind, parts, total)


def _ask_travel(parameters: Parameters, words: Words) -> str:
    kind, parts, total = parameters
    name = words.name()
    verb = words.pick(("drives", "rides"), ("cycles",))
    legs = words.pick(
        (
            " and then ".join(f"{hours} hours at {speed} km per hour" for speed, hours in parts),
            " and then ".join(f"at {speed} km per hour for {hours} hours" for speed, hours in parts),
        ),
        (", then ".join(f"{hours} hours with a speed of {speed} km per hour" for speed, hours in parts),),
    )
    text = f"{name} {verb} {legs}."
    if kind == "rest":
        return words.pick(
            (f"A trip is {total} km long. {text} How many km are left?",),
            (f"The way is {total} km. {text} How many km remain?",),
        )
    if kind == "average":
        return f"{text} " + words.pick(
            ("What is the average speed in km per hour?", "Find the average speed of the trip in km per hour."),
            ("How many km per hour is that on average?",),
        )
    return f"{text} " + words.pick(
        (f"How many km does {name} travel?", "How long is the trip in km?"), (f"How far is that in km for {name}?",)
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
    kind = ("part", random.choice(("part", "change")), "change", "change", random.choice(("change", "before")))[level - 1]
    count = (1, 1, 2, 3, 3)[level - 1]
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
        return words.pick(
            (f"What is {changes[0][1]}% of {start}?", f"Find {changes[0][1]}% of {start}."),
            (f"How much is {changes[0][1]} percent of {start}?",),
        )
    what = words.pick(("price", "number"), ("value",))
    moves = " and then ".join(
        words.pick(
            (f"{'rises' if sign > 0 else 'falls'} by {percent}%",),
            (f"{'goes up' if sign > 0 else 'goes down'} by {percent}%",),
        )
        for sign, percent in changes
    )
    if kind == "before":
        return words.pick(
            (f"A {what} {moves}. Now it is {start}. What was it before?",),
            (f"A {what} {moves} and is {start} at last. What was it at first?",),
        )
    return words.pick(
        (f"A {what} is {start}. It {moves}. What is it now?", f"A {what} of {start} {moves}. What is it at the end?"),
        (f"A {what} starts at {start} and {moves}. What does it become?",),
    )


def _work_percent(parameters: Parameters, program: Program, words: Words) -> None:
    kind, start, changes = parameters
    program.step("The number given")
    value = program.let("x", start)
    if kind == "part":
        program.step("Take the percentage")
        program.show(program.let("x", value * changes[0][1] // 100))
        return
    for sign, percent in reversed(changes) if kind == "before" else changes:
        if kind == "before":
            program.step(f"Undo the {'rise' if sign > 0 else 'fall'}")
            factor = term(100) + percent if sign > 0 else term(100) - percent
            value = program.let("x", value * 100 // factor)
        elif program.style == 0:
            program.step("Rise" if sign > 0 else "Fall")
            change = value * percent // 100
            value = program.let("x", value + change if sign > 0 else value - change)
        else:
            program.step("It rises" if sign > 0 else "It falls")
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
    numbers = tuple(size(random, level) for _ in range((3, 4, 4, 5)[level - 1]))
    if kind == "missing":
        least = sum(numbers) // (len(numbers) + 1) + 1
        return (kind, numbers, least + random.randint(1, 10 * level))
    return (kind, numbers, 0)


def _ask_average(parameters: Parameters, words: Words) -> str:
    kind, numbers, mean = parameters
    if kind == "groups":
        n, a, m, b = numbers
        return words.pick(
            (
                f"The average of {n} numbers is {a}. The average of {m} other numbers is {b}. "
                f"What is the average of all the numbers?",
            ),
            (
                f"A group of {n} numbers has the average {a} and another group of {m} has the average {b}. "
                f"What is the average of both groups together?",
            ),
        )
    listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
    if kind == "missing":
        return words.pick(
            (
                f"The average of {len(numbers) + 1} numbers is {mean}. "
                f"All but one of them are {listed}. What is the last number?",
            ),
            (f"All but one of {len(numbers) + 1} numbers are {listed}. Their average is {mean}. Find the other number.",),
        )
    return words.pick(
        (f"What is the average of {listed}?", f"Find the average of {listed}."),
        (f"The numbers are {listed}. What is their average?",),
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
    people = 2 if level <= 2 else 3
    parts = tuple(random.randint(1, 5 + 2 * level) for _ in range(people))
    while len(set(parts)) < people:
        parts = tuple(random.randint(1, 5 + 2 * level) for _ in range(people))
    unit = random.randint(2, 8 * level)
    who, other = random.sample(range(people), 2)
    kind = (
        "share",
        random.choice(("share", "gap")),
        random.choice(("share", "gap")),
        random.choice(("gap", "gift")),
        random.choice(("gift", "from")),
    )[level - 1]
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
    group = ", ".join(people[:-1]) + f" and {people[-1]}"
    proportion = ":".join(map(str, parts))
    if kind == "from":
        return words.pick(
            (
                f"{group} share {thing} in the ratio {proportion}. "
                f"{people[who]} gets {given} more than {people[other]}. How many {thing} are there in all?",
            ),
            (
                f"Some {thing} go to {group} in the ratio {proportion}. "
                f"{people[who]} has {given} more than {people[other]}. How many {thing} have they in all?",
            ),
        )
    text = words.pick(
        (f"{group} share {given} {thing} in the ratio {proportion}.",),
        (f"{given} {thing} go to {group} in the ratio {proportion}.",),
    )
    if kind == "gap":
        return f"{text} " + words.pick(
            (f"How many more does {people[who]} get than {people[other]}?",),
            (f"By how many does {people[who]} get more than {people[other]}?",),
        )
    if kind == "gift":
        text += words.pick((f" Then {people[who]} gets {gift} more.",), (f" Later {people[who]} gets {gift} more.",))
        return f"{text} " + words.pick(
            (f"How many {thing} does {people[who]} have then?",), (f"How many has {people[who]} then?",)
        )
    return f"{text} " + words.pick((f"How many {thing} does {people[who]} get?",), (f"How many go to {people[who]}?",))


def _work_ratio(parameters: Parameters, program: Program, words: Words) -> None:
    kind, parts, given, who, other, gift = parameters
    if kind == "from":
        program.step("The difference in parts")
        count = program.let("parts", term(parts[who]) - parts[other])
        program.step("One part")
        unit = program.let("unit", term(given) // count)
        program.step("All parts together")
        total = term(parts[0])
        for part in parts[1:]:
            total = total + part
        program.show(program.let("total", unit * total))
        return
    program.step("The number of parts")
    total = term(parts[0])
    for part in parts[1:]:
        total = total + part
    count = program.let("parts", total)
    program.step("One part")
    unit = program.let("unit", term(given) // count)
    if kind == "gap":
        if program.style == 0:
            program.step("The difference")
            share = program.let("gap", unit * (term(parts[who]) - parts[other]))
        else:
            program.step("Both shares")
            first, second = program.let("a", unit * parts[who]), program.let("b", unit * parts[other])
            program.step("The difference")
            share = program.let("gap", first - second)
    else:
        program.step(f"The share of {words.name(who)}")
        share = program.let("share", unit * parts[who])
    if kind == "gift":
        program.step("Add the rest")
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
    sides = words.pick((f"{a} m long and {b} m wide",), (f"{a} m by {b} m",))
    if kind in ("area", "perimeter"):
        what = words.pick(("rectangle", "garden"), ("yard",))
        return f"A {what} is {sides}. " + words.pick(
            (f"What is its {kind}?", f"Find its {kind}."), (f"How large is the {kind}?",)
        )
    if kind in ("volume", "surface"):
        name = "volume" if kind == "volume" else "surface area"
        text = words.pick((f"A box is {a} m long, {b} m wide and {c} m high.",), (f"A box measures {a} m by {b} m by {c} m.",))
        if d:
            text += words.pick(
                (f" Paint costs {d} dollars per square m. What does it cost to paint the whole surface?",),
                (f" Its whole surface gets paint for {d} dollars per square m. What is the cost?",),
            )
            return text
        return f"{text} " + words.pick((f"What is its {name}?", f"Find its {name}."), (f"How large is the {name}?",))
    if kind == "fence":
        return words.pick(
            (
                f"A garden is {sides}. A fence with a gate of {c} m goes around it. "
                f"A m of fence costs {d} dollars. What does the fence cost?",
            ),
            (
                f"A yard is {sides}. All around it, but for a gate of {c} m, "
                f"goes a fence for {d} dollars per m. What is the cost?",
            ),
        )
    if kind == "cut":
        return words.pick(
            (
                f"A sheet is {sides}. A square of side {c} m is cut from each corner and "
                f"the sides are folded up. What is the volume of the box?",
            ),
            (
                f"From each corner of a sheet of {a} m by {b} m a square of side {c} m is cut. "
                f"Folded up it is a box. Find the volume of the box.",
            ),
        )
    text = words.pick(
        (f"A garden is {sides}. A path {c} m wide goes around it.",),
        (f"Around a yard of {a} m by {b} m goes a path of {c} m.",),
    )
    if d:
        return text + words.pick(
            (f" A square m of path costs {d} dollars. What does the path cost?",),
            (f" At {d} dollars per square m, what is the cost of the path?",),
        )
    return text + words.pick((" What is the area of the path?",), (" How large is the area of the path?",))


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
