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

_PROMPT = "<|user|>:\n{}\n<|assistant|>: Let's think step by step and solve the problem with code."
_BOXED = "\\boxed{"


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


def parse(text: str, solution: str) -> Step:
    """Parses the step `text` that continues `solution` ("" at the root).

    Code is what stands between `<code>` and `<end_of_code>`, in a block that may span several steps. Text outside a block
    is never run. A `\\boxed{}` with content outside a block is the answer.
    """
    prefix, is_open = _open_block(solution)
    code_parts, text_parts = [], []
    rest = text
    ends_code = False
    while rest:
        if is_open:
            part, closed, rest = rest.partition(END_OF_CODE)
            code_parts.append(part)
            is_open, ends_code = not closed, bool(closed)
        else:
            part, opened, rest = rest.partition(CODE)
            text_parts.append(part)
            if opened:
                is_open, prefix, code_parts = True, "", []
    code = "".join(code_parts).replace(END_OF_STEP, "")
    answer = boxed("".join(text_parts))
    return Step(text, code if code.strip() else None, prefix, ends_code, answer or None)


def render(step: Step, output: str) -> str:
    """The text of the node: the step, and behind a closed code block what the program printed."""
    if not step.ends_code:
        return step.text
    return f"{step.text}\n{OUTPUT}{output.strip()}{END_OF_OUTPUT}"


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
    start = solution.rfind(CODE)
    if start < 0 or solution.find(END_OF_CODE, start) >= 0:
        return "", False
    return solution[start + len(CODE) :].replace(END_OF_STEP, ""), True
