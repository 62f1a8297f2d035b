"""The text of an answer brought into one form: LaTeX without layout, one spelling of each command, braces around arguments."""

from __future__ import annotations

import re
import unicodedata

MOST_CHARACTERS = 2000
_DEEPEST = 50

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/", "∶": ":",
    "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ", "√": r"\sqrt ", "∅": r"\emptyset ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "λ": r"\lambda ", "ℝ": r"\mathbb{R}", "’": "'", "“": '"', "”": '"', "\0": " ",
}  # fmt: skip
_CHARACTER = re.compile("[" + "".join(_CHARACTERS) + "]")
_ROOT_OF_NUMBER = re.compile(r"√\s*(\d+(?:\.\d+)?)")

_SAME_COMMANDS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "leq": "le", "geq": "ge",
    "neq": "ne", "leqslant": "le", "geqslant": "ge", "lt": "<", "gt": ">", "varnothing": "emptyset", "to": "rightarrow",
    "ast": "cdot", "lbrace": "{", "rbrace": "}", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "langle": "(",
    "rangle": ")", "colon": ":", "mod": "pmod", "bmod": "pmod", "degree": "^\\circ", "lg": "log_{10}", "percent": "%",
    "Re": "Re", "infin": "infty", "pounds": "£", "euro": "€", "dots": "ldots", "cdots": "ldots",
    **dict.fromkeys("mbox hbox textbf textrm textit textsf texttt textnormal mathrm mathbf mathit mathsf".split(), "text"),
    **dict.fromkeys("mathtt operatorname boldsymbol bm rm".split(), "text"),
}  # fmt: skip
_WITHOUT_BACKSLASH = frozenset("<>|():£€") | {"^\\circ"}
_COMMAND = re.compile(r"\\([a-zA-Z]+)\*?")
_LAYOUT = re.compile(
    r"\\(?:left|right)\s*\.(?!\d)|\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|hfill|mathstrut|therefore)"
    r"(?![a-zA-Z])|\\!|\\label\{[^{}]*\}"
)
_SPACES = re.compile(r"\\(?:quad|qquad|enspace|thinspace|medspace|thickspace|hspace\{[^{}]*\})(?![a-zA-Z])|(?<!\\)\\[ ,;:>]|~")
_DIGIT_GROUPS = re.compile(r"(?<=\d)\s*(?:\\[,;: ]|\\!|\{\s*,\s*\}|,\s*\\!)\s*(?=\d{3}(?!\d))")
_SPACED_GROUPS = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?(?=$|\s*[^\s\d./,;])")
_MATRIX_NAME = re.compile(r"\\(begin|end)\{(?:bmatrix|matrix|array|smallmatrix|Bmatrix)\}(?:\{[clr| ]*\})?")
_ROMAN = re.compile(r"\\(?:mathrm|text|operatorname|mathbf|rm)\s*\{\s*(e|i|\\?%|\\\$|pi|\d+(?:\.\d+)?)\s*\}")
_NUMBER_SETS = re.compile(r"\\(?:mathbf|mathbb)\s*\{?\s*([RZNQ])\s*\}?")
_NAMED_OPERATORS = re.compile(
    r"\\(?:operatorname|mathrm|text)\s*\{\s*(sqrt|a?rc?(?:sin|cos|tan)h?|sec|csc|cot|log|ln|exp|gcd|lcm|max|min)\s*\}"
)
_CHOOSE = re.compile(r"\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}")
_PLAIN_FUNCTION = re.compile(
    r"(?<![\\a-zA-Z])(sqrt|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan)"
    r"(?=\s*(?:[({\\^_\d]|[a-zA-Z](?![a-zA-Z])))"
)
_PLAIN_NAMES = (
    (re.compile(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])"), r"\\pi "),
    (re.compile(r"(?<![\\a-zA-Z])(?:infinity|infty|oo)(?![a-zA-Z])"), r"\\infty "),
)
_DEGREE_WORD = re.compile(r"\^\s*\{?\s*\\text\s*\{\s*o\s*\}\s*\}?")
_CIRCLE = re.compile(r"\^\s*\{\s*\\circ\s*\}")
_WRAPPED = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ('"', '"'))
_SAID = re.compile(
    r"(?:\\text\s*\{\s*)?(?:(?:so|thus|hence|therefore),?\s+)?(?:the\s+|my\s+)?(?:final\s+|correct\s+)?answer(?:\s*(?:is|:|=)\s*:?|\s+(?=[\\$]))\s*\}?\s*",
    re.IGNORECASE,
)


class TooComplex(Exception):
    """A text is nested deeper than any answer."""


def clean(answer: str) -> str:
    """The answer without layout: Unicode as LaTeX, wrappers and spacing commands gone, one spelling of each command.

    Raises:
      TooComplex: it is nested deeper than any answer, or longer than MOST_CHARACTERS.
    """
    text = _from_unicode(answer)
    if len(text) > MOST_CHARACTERS or _depth(text) > _DEEPEST:
        raise TooComplex
    text = _DIGIT_GROUPS.sub("", _single_backslashes(text))
    text = _SPACES.sub(" ", _LAYOUT.sub("", text))
    text = _NUMBER_SETS.sub(r"\\mathbb{\1}", text)
    text = _NAMED_OPERATORS.sub(r"\\\1 ", text)
    text = _ROMAN.sub(lambda match: " " + match[1].replace("pi", "\\pi") + " " if match[1].isalpha() else match[1], text)
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    text = _COMMAND.sub(_same_command, text)
    text = _MATRIX_NAME.sub(r"\\\1{pmatrix}", text)
    text = _CIRCLE.sub(r"^\\circ ", _DEGREE_WORD.sub(r"^\\circ ", text))
    text = _unwrapped(" ".join(text.split()))
    text = _plain_functions(text)
    text = _SPACED_GROUPS.sub(lambda match: match[0].replace(" ", ""), text, count=1) if _SPACED_GROUPS.match(text) else text
    return " ".join(_complete_arguments(text).split())


def squeeze(text: str) -> str:
    """The text without spaces, but for those that part words, numbers, or a comma from what may be thousands."""
    text = re.sub(r"\s+", " ", text.strip())
    return re.sub(r"(?<![\w.]) (?!\d{3}(?!\d))|(?<=[^\w.,]) | (?![\w.])|(?<=\d) (?=[a-zA-Z])", "", text)


def _from_unicode(answer: str) -> str:
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", answer)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run[0].translate(_SUBSCRIPTS) + "}", text)
    text = re.sub("[¼-¾⅐-⅞]", lambda vulgar: _vulgar(vulgar[0]), text)
    text = _ROOT_OF_NUMBER.sub(r"\\sqrt{\1}", text)
    return _CHARACTER.sub(lambda character: _CHARACTERS[character[0]], unicodedata.normalize("NFKC", text))


def _single_backslashes(text: str) -> str:
    """The text without the second backslashes that it has from a string literal; those between the rows of a matrix stay."""
    runs = [len(run) for run in re.findall(r"\\+", text)]
    if runs and all(length % 2 == 0 for length in runs) and re.search(r"\\\\[a-zA-Z]", text):
        text = text.replace(r"\\", "\\")
    return text if r"\begin" in text else re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)


def _vulgar(character: str) -> str:
    numerator, _, denominator = unicodedata.normalize("NFKC", character).partition("⁄")
    return f" \\frac{{{numerator}}}{{{denominator}}}"


def _same_command(command: re.Match[str]) -> str:
    name = _SAME_COMMANDS.get(command[1], command[1])
    return name if name in _WITHOUT_BACKSLASH else "\\" + name


def _plain_functions(text: str) -> str:
    """Backslashes before function names and pi outside of words: sqrt(2) -> \\sqrt(2)."""
    parts = re.split(r"(\\text\s*\{[^{}]*\})", text)
    for i in range(0, len(parts), 2):
        parts[i] = _PLAIN_FUNCTION.sub(r"\\\1 ", parts[i])
        for pattern, name in _PLAIN_NAMES:
            parts[i] = pattern.sub(name, parts[i])
    return "".join(parts)


def _unwrapped(text: str) -> str:
    """Without "the answer is", dollar signs and boxes, a full stop behind it, an equals sign before it."""
    for _ in range(20):  # layers; the twenty-first is no answer
        before = text
        text = _SAID.sub("", text, count=1) if _SAID.match(text) else text
        for begin, end in _WRAPPED:
            if len(text) > len(begin) + len(end) and text.startswith(begin) and text.endswith(end):
                inner = text[len(begin) : -len(end)]
                if begin not in inner and end not in inner and not inner.endswith("\\"):
                    text = inner.strip()
        for command in (r"\boxed{", r"\fbox{", r"\text{", "{"):
            if text.startswith(command) and closing(text, len(command) - 1) == len(text) - 1:
                inner = text[len(command) : -1].strip()
                if command != "{" or "," not in inner:
                    text = inner
        text = re.sub(r"\\boxed\{([^{}]*)\}", r"\1", text) if text.count(r"\boxed") == 1 else text
        text = re.sub(r"\\\\$|[,;]+$|(?<!\.)\.$", "", text).strip()
        text = re.sub(r"^(?:=(?!=)|\\approx(?![a-zA-Z]))\s*", "", text)
        dollars = re.findall(r"(?<!\\)\$", text)
        if dollars and len(dollars) % 2 == 0:
            text = re.sub(r"(?<!\\)\$", " ", text).strip()
        if text == before:
            break
    return text


_COMMAND_OR_NUMBER = re.compile(r"\\[a-zA-Z]+|\d+")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,.])")
_ARGUMENTS = re.compile(r"\\(frac|sqrt|binom|overline|bar|pmod|log_)(?![a-zA-Z])")


def _complete_arguments(text: str, depth: int = 0) -> str:
    r"""Braces around every argument: \frac12 -> \frac{1}{2}, \sqrt2 -> \sqrt{2}, \log_2 8 -> \log_{2} 8, x^2 as it is."""
    if depth > _DEEPEST:
        raise TooComplex
    out: list[str] = []
    at = 0
    while command := _ARGUMENTS.search(text, at):
        out.append(text[at : command.start()])
        completed, at = _completed(text, command, depth)
        out.append(completed)
    return "".join(out) + text[at:]


def _completed(text: str, command: re.Match[str], depth: int) -> tuple[str, int]:
    """A command with braces around its arguments, and where it ends."""
    out, at = command[0], command.end()
    if command[1] == "sqrt" and text[at : at + 1] == "[":
        end = text.find("]", at)
        if end < 0:
            return out, at
        out, at = out + text[at : end + 1], end + 1
    for _ in range(2 if command[1] in ("frac", "binom") else 1):
        argument, at = _argument(text, at, depth, whole=command[1] == "pmod")
        out += "{" + argument + "}"
    return out, at


def _argument(text: str, at: int, depth: int, whole: bool) -> tuple[str, int]:
    """The completed argument at `at`, and its end: braces, brackets, a command, one character or, if `whole`, one number."""
    if depth > _DEEPEST:
        raise TooComplex
    while at < len(text) and text[at] == " ":
        at += 1
    if at < len(text) and text[at] in "{(":
        end = closing(text, at)
        if end is not None:
            argument = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text[at + 1 : end])
            return _complete_arguments(argument, depth + 1), end + 1
    command = _ARGUMENTS.match(text, at)
    if command:
        return _completed(text, command, depth + 1)
    token = (_COMMAND_OR_NUMBER if whole else _COMMAND).match(text, at)
    if token:
        return token[0], token.end()
    return text[at : at + 1], at + 1


_OPENING, _CLOSING = "([{", ")]}"


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _CLOSING:
            depth -= 1
    return deepest


def closing(text: str, at: int) -> int | None:
    """Where the bracket that opens at `at` closes, brackets of all kinds counted alike; None when it does not."""
    depth = 0
    for position in range(at, len(text)):
        if text[position] in _OPENING:
            depth += 1
        elif text[position] in _CLOSING:
            depth -= 1
            if depth == 0:
                return position
    return None


def split(text: str, separators: re.Pattern[str]) -> list[str]:
    """Splits at separators that stand outside all brackets; parts are stripped."""
    parts, depth, begin, position = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        if depth == 0 and (found := separators.match(text, position)) and found.end() > position:
            parts.append(text[begin:position].strip())
            begin = position = found.end()
            continue
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        position += 1
    return [*parts, text[begin:].strip()]
