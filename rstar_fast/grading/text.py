"""The text of an answer brought into one form: LaTeX without layout, one way to write a fraction, units apart."""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/",
    "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ", "√": r"\sqrt", "∅": r"\emptyset ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "λ": r"\lambda ", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u2009": " ", "\u202f": " ",
}  # fmt: skip
_SAME_COMMANDS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "geq": "ge", "neq": "ne", "leqslant": "le",
    "geqslant": "ge", "varnothing": "emptyset", "mbox": "text", "textbf": "text", "textrm": "text", "textit": "text",
    "mathrm": "text", "operatorname": "text", "mathbf": "text", "bmatrix": "pmatrix", "to": "rightarrow", "ast": "cdot",
}  # fmt: skip
_LAYOUT = re.compile(
    r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|biggl?|biggr?|displaystyle|textstyle|limits|nolimits|hfill|mathstrut)(?![a-zA-Z])"
)
_SPACES = re.compile(r"\\(?:quad|qquad|enspace|thinspace)(?![a-zA-Z])|(?<!\\)\\[ ;:>]|~|\\\\$")
_DIGIT_GROUPS = re.compile(r"(?<=\d)(?:\\,|\\!|\{,\}|,\\!)\s*(?=\d{3}(?!\d))")
_WRAPPED = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_FRACTION = re.compile(r"\\frac\s*(?:(\d)\s*(\d)|(\d)\s*(\{)|(\\[a-zA-Z]+)\s*(\d))")


def clean(answer: str) -> str:
    """The answer without layout: Unicode as LaTeX, wrappers and spacing commands gone, one spelling of each command."""
    text = answer.replace("\0", " ")
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run[0].translate(_SUBSCRIPTS) + "}", text)
    text = re.sub("[¼-¾⅐-⅞]", lambda vulgar: _vulgar(vulgar[0]), text)
    for character, latex in _CHARACTERS.items():
        text = text.replace(character, latex)
    text = unicodedata.normalize("NFKC", text)
    text = _DIGIT_GROUPS.sub("", text)
    text = _LAYOUT.sub("", text).replace(r"\!", "").replace(r"\,", " ")
    text = _SPACES.sub(" ", text)
    text = re.sub(r"\\([a-zA-Z]+)", lambda command: "\\" + _SAME_COMMANDS.get(command[1], command[1]), text)
    text = re.sub(r"\\(begin|end)\{(?:bmatrix|vmatrix|matrix|array|smallmatrix)\}(?:\{[clr|]*\})?", r"\\\1{pmatrix}", text)
    return _complete_arguments(_unwrapped(" ".join(text.split())))


def _vulgar(character: str) -> str:
    numerator, _, denominator = unicodedata.normalize("NFKC", character).partition("⁄")
    return f" \\frac{{{numerator}}}{{{denominator}}}"


def _unwrapped(text: str) -> str:
    """Without dollar signs and boxes around the whole, a full stop behind it, an equals sign before it."""
    while True:
        before = text
        text = text.strip()
        for begin, end in _WRAPPED:
            if len(text) > len(begin) + len(end) and text.startswith(begin) and text.endswith(end):
                inner = text[len(begin) : -len(end)]
                if begin not in inner and end not in inner:
                    text = inner
        for command in (r"\boxed{", r"\fbox{"):
            if text.startswith(command) and closing(text, len(command) - 1) == len(text) - 1:
                text = text[len(command) : -1]
        text = re.sub(r"(?<![.])[.,;:]$", "", text.strip()).strip()
        text = re.sub(r"^(?:=|\\approx(?![a-zA-Z]))\s*", "", text)
        if text == before:
            return text


def _complete_arguments(text: str) -> str:
    r"""Braces around every argument: \frac12 -> \frac{1}{2}, \sqrt2 -> \sqrt{2}, x^2 as it is."""
    out: list[str] = []
    at = 0
    while at < len(text):
        match = re.compile(r"\\(frac|sqrt|binom)(?![a-zA-Z])").match(text, at)
        if not match:
            out.append(text[at])
            at += 1
            continue
        out.append(match[0])
        at = match.end()
        if match[1] == "sqrt" and text[at : at + 1] == "[":
            end = text.find("]", at)
            if end < 0:
                continue
            out.append(text[at : end + 1])
            at = end + 1
        for _ in range(1 if match[1] == "sqrt" else 2):
            argument, at = _argument(text, at)
            out.append("{" + _complete_arguments(argument) + "}")
    return "".join(out)


def _argument(text: str, at: int) -> tuple[str, int]:
    """The argument of a command that begins at `at`: braces, brackets of a plain root, one command, or one character."""
    while at < len(text) and text[at] == " ":
        at += 1
    if at < len(text) and text[at] in "{(":
        end = closing(text, at)
        if end is not None:
            return text[at + 1 : end], end + 1
    command = re.compile(r"\\[a-zA-Z]+").match(text, at)
    if command:
        return command[0], command.end()
    return text[at : at + 1], at + 1


_OPENING, _CLOSING = "([{", ")]}"


def closing(text: str, at: int) -> int | None:
    """Where the bracket that opens at `at` closes, brackets of all kinds counted alike; None when it does not."""
    depth = 0
    position = at
    while position < len(text):
        if text[position] == "\\" and text[position + 1 : position + 2] in "{}":
            position += 1
        if text[position] in _OPENING:
            depth += 1
        elif text[position] in _CLOSING:
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None


def split(text: str, separators: re.Pattern[str]) -> list[str]:
    """Splits at separators that stand outside all brackets; parts are stripped."""
    parts, depth, begin, position = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        if depth == 0 and (found := separators.match(text, position)) and found.end() > position:
            parts.append(text[begin:position].strip())
            begin = position = found.end()
            continue
        position += 1
    return [*parts, text[begin:].strip()]


# --- units ---------------------------------------------------------------------------------------------------------------

_UNIT_WORDS = {
    name: unit
    for unit, names in {
        "degree": "degrees deg", "percent": "percentage", "dollar": "dollars usd buck bucks", "cent": "cents",
        "euro": "euros", "pound": "pounds lb lbs", "meter": "meters metre metres m", "kilometer": "kilometers kilometre kilometres km",
        "centimeter": "centimeters centimetre centimetres cm", "millimeter": "millimeters mm", "inch": "inches in", "foot": "feet ft",
        "yard": "yards yd", "mile": "miles mi", "second": "seconds sec s", "minute": "minutes min mins", "hour": "hours hr hrs h",
        "day": "days", "week": "weeks", "month": "months", "year": "years yr", "gram": "grams g", "kilogram": "kilograms kg",
        "ounce": "ounces oz", "liter": "liters litre litres", "milliliter": "milliliters ml", "gallon": "gallons",
        "mph": "", "radian": "radians rad", "unit": "units", "kph": "", "watt": "watts", "newton": "newtons", "volt": "volts",
        "acre": "acres", "ton": "tons", "point": "points", "people": "person persons", "student": "students", "apple": "apples",
        "way": "ways", "time": "times", "book": "books", "ball": "balls", "page": "pages", "number": "numbers", "term": "terms",
        "solution": "solutions", "side": "sides", "triangle": "triangles", "coin": "coins", "card": "cards", "car": "cars",
        "child": "children", "man": "men", "woman": "women", "step": "steps", "piece": "pieces", "egg": "eggs", "cup": "cups",
        "game": "games", "ticket": "tickets", "tree": "trees", "marble": "marbles", "line": "lines", "integer": "integers",
    }.items()
    for name in [unit, *names.split()]
}  # fmt: skip
_JOINING_WORDS = {"square", "squared", "sq", "cubic", "cubed", "per", "of", "a", "the", "each", "in", "total"}
_DEGREES = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))")
_CURRENCY = re.compile(r"^([-+]?)\s*(?:\\\$|\$|€|£|\\pounds|\\text\{\s*\\?\$\s*\})\s*|\s*(?:\\\$|€)$")
_TAIL = re.compile(r"^(.*?[\d})\].a-z])\s*((?:\\text\s*\{[^{}]*\}|(?:(?<=[\s\d})])[A-Za-z]{1,12}\.?\s*)+)(?:\s*\^\s*\{?[23]\}?)?\s*)$")
_PERCENT = re.compile(r"\s*\\?%$")


def split_unit(text: str) -> tuple[str, str]:
    """A cleaned answer as (what it says, its unit): "15 \\text{ cm}^2" -> ("15", "centimeter 2"); unit "" where there is none."""
    without = _DEGREES.sub("", text)
    if without != text and not re.search(r"\\(?:sin|cos|tan)", text):
        return without.strip(), "degree"
    without = _PERCENT.sub("", text)
    if without != text:
        return without.strip(), "percent"
    without = _CURRENCY.sub(r"\1", text)
    if without != text and re.search(r"\d", without):
        return split_unit(without)[0], "dollar"
    match = _TAIL.match(text)
    if not match or not re.search(r"\d", match[1]):
        return text, ""
    power = re.search(r"\^\s*\{?([23])\}?\s*$", match[2])
    words = re.findall(r"[a-z]+", re.sub(r"\\text|\^.*$", " ", match[2]).lower())
    units = [_UNIT_WORDS[word] for word in words if word in _UNIT_WORDS and not (word in _JOINING_WORDS and len(words) > 1)]
    in_text = "\\text" in match[2]
    if not words or (not in_text and any(word not in _UNIT_WORDS and word not in _JOINING_WORDS for word in words)):
        return text, ""
    if not in_text and len(words) == 1 and len(words[0]) == 1 and not match[1].endswith((" ", "}")) and text[len(match[1])] != " ":
        return text, ""  # "2m" is a product
    dimension = power[1] if power else "2" if {"square", "squared", "sq"} & set(words) else "3" if {"cubic", "cubed"} & set(words) else ""
    unit = " ".join([*(units or words), dimension]).strip()
    return match[1].strip(), "percent" if unit == "percent" else unit
