"""The code-augmented chain of thought: the one prompt, the stop strings, and the parsing and rendering of steps.

A solution reads

    <code>
    # comment and Python                    one step
    <end_of_step>
    # comment and Python, printing the answer
    <end_of_code>
    <output>what the program printed<end_of_output>
    <answer>... \\boxed{the answer} ...<end_of_answer>

which is the format of the released rStar-Math datasets. A step's text runs up to and includes its stop string; after
`<end_of_code>` the sandbox, not the policy, writes the output.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rstar_fast.types import Partial

CODE = "<code>"
END_OF_STEP = "<end_of_step>"
END_OF_CODE = "<end_of_code>"
OUTPUT = "<output>"
END_OF_OUTPUT = "<end_of_output>"
ANSWER = "<answer>"
END_OF_ANSWER = "<end_of_answer>"

STOPS: tuple[str, ...] = (END_OF_STEP, END_OF_CODE, END_OF_ANSWER)
MARKERS: tuple[str, ...] = (CODE, END_OF_STEP, END_OF_CODE, OUTPUT, END_OF_OUTPUT, ANSWER, END_OF_ANSWER)

_SPEAKER = "<|user|>"
USER = f"{_SPEAKER}:\n"  # the first line of a prompt
_PROMPT = USER + "{}\n<|assistant|>: Let's think step by step and solve the problem with code."
_BOXED = "\\boxed{"
_MARKER = re.compile("|".join(map(re.escape, MARKERS)))
_END = re.compile(f"{re.escape(END_OF_STEP)}|{re.escape(END_OF_OUTPUT)}")
_CODE_OR_OUTPUT = re.compile(f"{re.escape(CODE)}|{re.escape(OUTPUT)}.*?{re.escape(END_OF_OUTPUT)}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """A parsed candidate.

    Attributes:
      text: the step as the policy wrote it, stop string included.
      code: the Python code it adds to the open block; None when it adds none.
      prefix: the code of the earlier steps of the same block.
      ends_code: the step closes the code block, so its output belongs into the solution.
      answer: the answer it gives; None when it gives none.
    """

    text: str
    code: str | None
    prefix: str
    ends_code: bool
    answer: str | None


def prompt(partial: Partial) -> str:
    """The text the policy continues and the PPM reads: the question in its frame, then the solution so far."""
    return prompt_of(partial.problem.question) + partial.solution


def prompt_of(question: str) -> str:
    """The prompt of a question with nothing solved yet."""
    return _PROMPT.format(question)


def taken_apart(prompt: str) -> tuple[str, str] | None:
    """The question of a prompt, and the solution so far; None where it is no prompt of ours."""
    before, behind = _PROMPT.split("{}")
    question, found, solution = prompt.removeprefix(before).partition(behind)
    return (question, solution) if found and prompt.startswith(before) else None


def read_back(partial: Partial) -> tuple[str, str]:
    """What a PPM of the kind "channel" reads: the solution so far up to where the user speaks, and the question, which stands behind it.

    A user who speaks in the solution is no user.
    """
    solution = partial.solution.replace(_SPEAKER, f"[{_SPEAKER[2:-2]}]")
    return f"{solution}\n{USER}", partial.problem.question


def begun(solution: str) -> list[str]:
    """What stands of a solution after each of its steps but the last, outputs included."""
    return [solution[: found.end()] for found in _END.finditer(solution) if found.end() < len(solution)]


def without_surrogates(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates, which no tokenizer takes, as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def parse(text: str, solution: str) -> Step:
    """Parses the step `text` that continues `solution` ("" at the root).

    Code is what stands between `<code>` and the next `<end_of_code>`, in a block that may span several steps; of several
    blocks in one step the last counts. Text outside a block is never run. A `\\boxed{}` with content, outside of blocks and of
    `<output>…<end_of_output>`, is the answer.
    """
    prefix, is_open = _open_block(solution)
    code, ends_code = "", False
    texts: list[str] = []
    for number, (in_code, part, closed) in enumerate(_parts(text, is_open)):
        if not in_code:
            texts.append(part)
            continue
        code, ends_code = part, closed
        if number or not is_open:  # a block of its own
            prefix = ""
    code = code.replace(END_OF_STEP, "")
    # A step may close the block and add nothing: what the block prints belongs into the solution all the same.
    runs = code.strip() or (ends_code and prefix.strip())
    answer = next((found for part in reversed(texts) if (found := boxed(part)) is not None), None)
    return Step(text, code if runs else None, prefix, ends_code, answer or None)


def render(step: Step, output: str) -> str:
    """The text of the node: the step, and behind a closed code block what the program printed.

    Markers that the program printed are written as [code], [end_of_code] ..., so that they end and open nothing.
    """
    if not step.ends_code:
        return step.text
    printed = _MARKER.sub(lambda match: f"[{match[0][1:-1]}]", output.strip())
    return f"{step.text}\n{OUTPUT}{printed}{END_OF_OUTPUT}"


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{}`, stripped; None when there is none or its braces do not close."""
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    depth = 0
    begin = start + len(_BOXED)
    position = begin
    while position < len(text):
        character = text[position]
        if character == "\\":  # an escaped brace is part of the content
            position += 2
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                return text[begin:position].strip()
            depth -= 1
        position += 1
    return None


def _open_block(solution: str) -> tuple[str, bool]:
    """The code of the block that is open at the end of `solution`, and whether one is."""
    code, is_open = "", False
    for in_code, part, closed in _parts(solution, False):
        code, is_open = part, in_code and not closed
    return (code.replace(END_OF_STEP, ""), True) if is_open else ("", False)


def _parts(text: str, in_code: bool) -> Iterator[tuple[bool, str, bool]]:
    """Splits a text into code and what stands outside of it; outputs are left out.

    Args:
      in_code: the text begins in an open block.

    Yields:
      Whether the part is code, the part without its markers, whether it is code whose block ends.
    """
    while True:
        if in_code:
            part, closed, text = text.partition(END_OF_CODE)
            yield True, part, bool(closed)
            if not closed:
                return
            in_code = False
        found = _CODE_OR_OUTPUT.search(text)
        if found is None:
            yield False, text, False
            return
        yield False, text[: found.start()], False
        in_code, text = found[0] == CODE, text[found.end() :]
