"""What stands around the value of an answer: units, percent, currency, degrees, "million"."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CANONICAL = {
    name: unit
    for unit, names in {
        "degree": "degrees deg degs", "percent": "percentage pct", "dollar": "dollars usd buck bucks", "cent": "cents",
        "euro": "euros eur", "pound": "pounds lb lbs", "meter": "meters metre metres m",
        "kilometer": "kilometers kilometre kilometres km kms",
        "centimeter": "centimeters centimetre centimetres cm cms",
        "millimeter": "millimeters millimetres mm", "inch": "inches in",
        "foot": "feet ft", "yard": "yards yd yds", "mile": "miles mi", "second": "seconds sec secs s",
        "minute": "minutes min mins",
        "hour": "hours hr hrs h", "day": "days", "week": "weeks wk wks", "month": "months", "year": "years yr yrs",
        "gram": "grams g",
        "kilogram": "kilograms kg kgs", "milligram": "milligrams mg", "ounce": "ounces oz", "liter": "liters litre litres l",
        "milliliter": "milliliters ml", "gallon": "gallons gal", "radian": "radians rad rads", "unit": "units",
        "watt": "watts w",
        "newton": "newtons n", "volt": "volts v", "joule": "joules j", "kelvin": "k", "hertz": "hz", "ampere": "amperes amps",
        "am": "", "pm": "", "acre": "acres", "ton": "tons", "people": "person persons",
        "child": "children", "man": "men", "woman": "women",
    }.items()
    for name in [unit, *names.split()]
}  # fmt: skip
# One letter is a unit in \text{}; outside it is a variable, but for these after a numeral and a space.
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_BARE_LETTERS = frozenset("mshg")
_COMPOUND = {"mph": "mile/hour", "kph": "kilometer/hour", "kmph": "kilometer/hour", "mpg": "mile/gallon"}
_JOINING = frozenset("of an the each in total per".split())
_POWERS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}
# A tail with one of these words says more than what is counted.
_NO_UNIT = frozenset(
    "and or not no none nor to if then than more less fewer least most from except at when where every any all otherwise"
    " but between minus plus over point mod factorial is are was as only either neither both with without by for undefined"
    " infinity below above under negative zero dozen half halves third thirds quarter quarters tenths hundredths score choose"
    " power powers remainder base".split()
)
_MOST_WORDS = 8
_MAGNITUDES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}

_DEGREES = re.compile(r"\s*\^\s*\\circ(?![a-zA-Z])\s*(?:\\text\s*\{\s*([CFK])\s*\}|([CFK]))?\s*$")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_PERCENT = re.compile(r"\s*\\?%\s*$")
_DOLLAR = r"(?:\\\$|\$)"
_CURRENCY_FIRST = re.compile(rf"^([-+]?)\s*(?:({_DOLLAR})|(€)|(£)|([A-Z]{{3}})\s)\s*(?=[-+\d.(\\])")
_CURRENCY_LAST = re.compile(rf"^(.*\d)\s*(?:({_DOLLAR})|(€)|(£)|(¢))$")
_CURRENCIES = ("dollar", "euro", "pound", "cent")
_CODES = {"USD": "dollar", "EUR": "euro", "GBP": "pound"}
_NUMERAL = re.compile(r"[-+]?(?:\d[\d.,/ ]*|\.\d+|\\frac\{\d+\}\{\d+\})")
_POWER = r"(?:\^\s*\{?\s*-?\d\s*\}?\s*)?"
_TEXT_TAIL = re.compile(rf"(?:\\text\s*\{{[^{{}}]*\}}\s*{_POWER}(?:/|\\cdot(?![a-z]))?\s*)++$")
_BARE_TAIL = re.compile(rf"(?<![A-Za-z\\^_{{.])(?:[A-Za-z]++\.?\s*{_POWER}/?\s*)++$")
_WORD = re.compile(r"([A-Za-z]+)\s*(?:\^\s*\{?\s*(-?\d)\s*\}?)?|(/)")


@dataclass(frozen=True, slots=True)
class Measured:
    """An answer's value and its unit.

    Attributes:
      value: the text without the unit.
      unit: in one spelling, "" where there is none; "percent" is left to the reader of the value.
    """

    value: str
    unit: str = ""


def measured(text: str) -> Measured:
    r"""A cleaned answer's value and unit: "15 \text{ cm}^2" -> ("15", "centimeter^2"); `million` is worked into the value."""
    degrees = _DEGREES.search(text)
    if degrees and degrees.start() and not _TRIGONOMETRIC.search(text):
        scale = degrees[1] or degrees[2] or ""
        return Measured(text[: degrees.start()].strip(), f"degree {scale}".strip())
    percent = _PERCENT.search(text)
    if percent and percent.start():
        return Measured(text[: percent.start()].strip(), "percent")
    currency = _currency(text)
    if currency is not None:
        return currency
    value, words = _tail(text)
    first, _, rest = words.partition(" ")
    if first.lower() in _MAGNITUDES:
        value, words = f"({value})*10^{{{_MAGNITUDES[first.lower()]}}}", rest
    unit = _unit(words)
    return Measured(value, unit) if unit or first != words else Measured(text)


def _currency(text: str) -> Measured | None:
    first, last = _CURRENCY_FIRST.match(text), _CURRENCY_LAST.match(text)
    if first:
        unit = next(
            (name for name, sign in zip(_CURRENCIES, first.groups()[1:4], strict=False) if sign), _CODES.get(first[5] or "")
        )
        if unit is None:
            return None
        inner = measured(text[first.end() :])
        return Measured(first[1] + inner.value, unit)
    if last:
        unit = next(name for name, sign in zip(_CURRENCIES, last.groups()[1:], strict=True) if sign)
        return Measured(last[1].strip(), unit)
    code = re.search(r"\s([A-Z]{3})$", text)
    if code and code[1] in _CODES:
        return Measured(text[: code.start()].strip(), _CODES[code[1]])
    return None


def _tail(text: str) -> tuple[str, str]:
    """What stands before the words at the end of a text, and these words; "" where they are no unit."""
    tail = _TEXT_TAIL.search(text)
    if tail is None:
        tail = _BARE_TAIL.search(text)
        if tail is None or not _counts(text[: tail.start()], tail[0]):
            return text, ""
    value = text[: tail.start()].strip()
    words = re.sub(r"\\text|\\cdot|[{}~.]", lambda part: "" if part[0] == "." else " ", tail[0]).strip()
    if any(len(word) == 1 and word.isalpha() and word.lower() not in _CANONICAL for word in words.split()):
        return text, ""
    if (
        len(words.split()) > _MOST_WORDS
        or not value
        or value[-1] in "=+-*/^_,<>(&"
        or _NO_UNIT & set(re.findall("[a-z]+", words.lower()))
    ):
        return text, ""
    return value, words


def _counts(value: str, tail: str) -> bool:
    """Whether bare words after a value say what it counts; the letters of a product do not."""
    words = [match[1].lower() for match in _WORD.finditer(tail) if match[1]]
    attached = value == value.rstrip()
    if not re.search(r"[\d})]\s*$|\\pi\s*$", value) or any(word in _LETTERS and word not in _BARE_LETTERS for word in words):
        return False
    if attached and (len(words[0]) < 3 or words[0] not in _CANONICAL):
        return False
    if words[0] in _BARE_LETTERS and not _NUMERAL.fullmatch(value.strip()):
        return False
    known = all(word in _CANONICAL or word in _COMPOUND or word in _JOINING or word in _POWERS for word in words)
    return known or (
        _NUMERAL.fullmatch(value.strip()) is not None and all(len(word) >= 3 or word in _JOINING for word in words)
    )


def _unit(text: str) -> str:
    """A unit in one spelling: "miles per hour" and "mph" -> "hour^-1 mile"; words it does not know, without plural."""
    powers: dict[str, int] = {}
    sign, pending = 1, 1
    for word, power, slash in _WORD.findall(text):
        name = word.lower()
        if slash or name == "per":
            sign = -1
        elif name in _POWERS:
            if name.endswith("d") and powers:  # "cm squared"
                powers[next(reversed(powers))] *= _POWERS[name]
            else:
                pending = _POWERS[name]
        elif name not in _JOINING or (name == "in" and len(text.split()) == 1):
            unit = _COMPOUND.get(name) or _CANONICAL.get(name) or (name[:-1] if len(name) > 3 and name.endswith("s") else name)
            for i, part in enumerate(unit.split("/")):
                powers[part] = powers.get(part, 0) + sign * pending * int(power or 1) * (-1 if i else 1)
            pending = 1
    return " ".join(unit if power == 1 else f"{unit}^{power}" for unit, power in sorted(powers.items()))
