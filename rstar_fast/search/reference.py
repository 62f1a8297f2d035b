"""Facts of microsoft/rStar's reading of steps that the default does not share (see tests/golden/README.md)."""

from __future__ import annotations

from rstar_fast import steps
from rstar_fast.types import Execution

_TEXT = "\\text{"


def final_answer(text: str) -> str:
    """The answer of a step in which "boxed" occurs; "" where the box is empty.

    Only what stands before the first ".\\n" is looked at, and without a `\\boxed{` there, that whole text is the answer.
    """
    head = text.split(".\n")[0].strip().removesuffix(".").strip()
    start = head.rfind("\\boxed{")
    if start < 0:
        return _without_text(head)
    content = _braced(head, start + len("\\boxed"))
    return _without_text(content if content is not None else head[start:])


def program(text: str) -> str:
    """The lines between `<code>` and `<end_of_code>`; the whole text where there are none.

    Lines that hold one of the two markers are dropped as a whole.
    """
    lines: list[str] = []
    inside = False
    whole = text.replace(steps.END_OF_STEP, "")
    for line in whole.split("\n"):
        if steps.CODE in line:
            inside = True
        elif steps.END_OF_CODE in line:
            inside = False
        elif inside:
            lines.append(line)
    return "\n".join(lines).strip() or whole.strip()


def observation(execution: Execution) -> str:
    """What the reference shows of a run: the exception alone, or the output, a lone number rounded to four decimals."""
    if execution.error is not None:
        return str(execution.error)
    output = execution.output.strip()
    try:
        rounded = str(round(float(output), 4))
    except (ValueError, OverflowError):
        return output
    return output if len(output) <= len(rounded) else rounded


def _braced(text: str, start: int) -> str | None:
    """The content of the braces that open at `start`; None when they do not close."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : position]
    return None


def _without_text(answer: str) -> str:
    """Unwraps the first `\\text{...}`; drops it when it says "and"."""
    start = answer.find(_TEXT)
    if start < 0:
        return answer
    content = _braced(answer, start + len(_TEXT) - 1)
    if content is None:
        return answer
    kept = "" if content.strip() == "and" else content.strip()
    return (answer[:start] + kept + answer[start + len(_TEXT) + len(content) + 1 :]).strip()
