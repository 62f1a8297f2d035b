"""The step format: what is code, what is an answer, and that parsing a solution's steps gives back what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_fast import steps
from rstar_fast.types import Partial, Problem

# Fragments that put together what belongs apart; a text made of them holds no whole marker unless it says so.
FRAGMENTS = [*"<>{}\\$'\"\n\r\x00\ud800é ", "<co", "de>", "<end_of_", "box", "ed{", "print(1)"]


def has_none(*markers: str) -> st.SearchStrategy[str]:
    """Texts without these markers, but with the other ones."""
    others = [marker for marker in (*steps.MARKERS, "\\boxed{") if marker not in markers]
    return (
        st.lists(st.sampled_from(FRAGMENTS + others), max_size=8)
        .map("".join)
        .filter(lambda text: not any(marker in text for marker in markers))
    )


plain = has_none(steps.CODE, steps.OUTPUT, "\\boxed{")
line = plain.filter(lambda text: text.strip() and steps.END_OF_STEP not in text)
code = has_none(steps.END_OF_CODE, steps.END_OF_STEP).filter(str.strip)  # <code> and \boxed{} in its strings, say
anything = has_none()


# --- prompt ---


def test_the_prompt_is_the_question_in_its_frame_and_the_solution() -> None:
    partial = Partial(Problem("What is {x} in $\\frac{x}{2} = 3$?"), "<code>\nx = 6\n")
    assert steps.prompt(partial) == (
        "<|user|>:\nWhat is {x} in $\\frac{x}{2} = 3$?\n"
        "<|assistant|>: Let's think step by step and solve the problem with code."
        "<code>\nx = 6\n"
    )
    assert steps.prompt_of(partial.problem.question) + partial.solution == steps.prompt(partial)


# --- parse and render ---


@given(
    blocks=st.lists(st.tuples(line, st.lists(code, min_size=1, max_size=4), anything), min_size=1, max_size=3),
    answer=plain,
)
def test_a_solution_comes_back_step_by_step(blocks: list[tuple[str, list[str], str]], answer: str) -> None:
    """Blocks of several steps each, with text before and output behind: whatever stands in the code and is printed."""
    solution = ""
    for text, codes, output in blocks:
        for i, piece in enumerate(codes):
            ends = i == len(codes) - 1
            written = ("" if i else f"{text}{steps.CODE}") + piece + (steps.END_OF_CODE if ends else steps.END_OF_STEP)
            step = steps.parse(written, solution)
            assert step == steps.Step(written, piece, "".join(codes[:i]), ends, None)
            node_text = steps.render(step, output)
            assert node_text.startswith(written)
            solution += node_text
        assert solution.endswith(steps.END_OF_OUTPUT)
    end = f"\n<answer>{answer}\\boxed{{7}}<end_of_answer>"
    assert steps.parse(end, solution) == steps.Step(end, None, "", False, "7")


@given(
    parts=st.lists(
        st.tuples(st.just("text"), plain)
        | st.tuples(st.just("code"), code)
        | st.tuples(st.just("output"), has_none(steps.END_OF_OUTPUT)),
        max_size=6,
    )
)
def test_text_outside_a_block_is_never_run(parts: list[tuple[str, str]]) -> None:
    """One step of any number of blocks: the last one is its code, and what is outside reaches neither code nor prefix."""
    around = {
        "text": ("outside", "outside"),
        "code": (steps.CODE, steps.END_OF_CODE),
        "output": (f"{steps.OUTPUT}outside", f"outside{steps.END_OF_OUTPUT}"),
    }
    text = "".join(around[kind][0] + content + around[kind][1] for kind, content in parts)
    step = steps.parse(text, "")
    codes = [content for kind, content in parts if kind == "code"]
    assert step == steps.Step(text, codes[-1] if codes else None, "", bool(codes), None)


@given(text=anything, solution=anything, output=anything)
def test_any_text_is_parsed_and_rendered(text: str, solution: str, output: str) -> None:
    step = steps.parse(text, solution)
    rendered = steps.render(step, output)
    assert step.text == text and rendered.startswith(text)
    if step.code is not None:
        assert steps.CODE in text or steps.CODE in solution
        assert step.code.replace(steps.END_OF_STEP, "") == step.code and steps.END_OF_CODE not in step.code
    if step.answer is not None:
        assert step.answer == step.answer.strip() != ""
        assert "\\boxed{" in text
    if step.ends_code:
        # What was printed opens and ends nothing: what follows is outside of a block.
        assert steps.parse("x = 1", solution + rendered).code is None
    else:
        assert rendered == text


@pytest.mark.parametrize(
    ("text", "solution", "code", "prefix", "ends_code"),
    [
        ("no code at all", "", None, "", False),
        ("<code>\nx = 1\n<end_of_step>", "", "\nx = 1\n", "", False),
        ("y = 2\n<end_of_step>", "<code>\nx = 1\n<end_of_step>", "y = 2\n", "\nx = 1\n", False),
        # a marker in a string is code like the rest; the end of the block is what it says
        ('print("<code>")\n<end_of_step>', "<code>\nx = 1\n<end_of_step>", 'print("<code>")\n', "\nx = 1\n", False),
        ("y = 2<end_of_code>", '<code>\nx = "<code>"\n<end_of_step>', "y = 2", '\nx = "<code>"\n', True),
        ("print('<end_of_code>')", "<code>x = 1<end_of_step>", "print('", "x = 1", True),
        # markers without their counterpart
        ("x = 1<end_of_code>", "", None, "", False),
        ("x = 1", "<code>x<end_of_code>", None, "", False),
        ("<code>", "", None, "", False),
        ("<code>a<end_of_code>then<code>b", "", "b", "", False),
        ("<code>a<end_of_code>then<code>", "", None, "", False),
        (
            "print(x)<end_of_code>",
            "<code>x = 1<end_of_code>\n<output><end_of_output><code>x = 2<end_of_step>",
            "print(x)",
            "x = 2",
            True,
        ),
        # what a program printed opens no block
        ("so it is 4", "<code>f()<end_of_code>\n<output><code>\n<end_of_output>", None, "", False),
        # a step that only ends the block still has the block run
        ("<end_of_code>", "<code>print(1)\n<end_of_step>", "", "print(1)\n", True),
        ("\n<end_of_code>", "<code>print(1)\n<end_of_step>", "\n", "print(1)\n", True),
        ("<code>\n<end_of_code>", "", None, "", True),
        ("\n", "<code>print(1)\n<end_of_step>", None, "print(1)\n", False),
    ],
)
def test_what_is_code(text: str, solution: str, code: str | None, prefix: str, ends_code: bool) -> None:
    assert steps.parse(text, solution) == steps.Step(text, code, prefix, ends_code, None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>It is $\\boxed{5}$.<end_of_answer>", "5"),
        ("first \\boxed{5}, no: \\boxed{6}", "6"),
        ("\\boxed{}", None),
        ("\\boxed{ \n}", None),
        ("\\boxed{5", None),
        ("boxed{5}", None),
        ("<code>\nprint('\\\\boxed{5}')\n<end_of_code>", None),
        ("<code>x<end_of_code>\n<output>\\boxed{5}<end_of_output>", None),
        ("<output>it is \\boxed{5}", "5"),  # no output: it does not end
        ("<code>x<end_of_code> \\boxed{5}", "5"),
        ("\\boxed{5} <code>x<end_of_code>", "5"),
        ("\\boxed{<code>x<end_of_code>5}", None),
    ],
)
def test_what_is_an_answer(text: str, answer: str | None) -> None:
    assert steps.parse(text, "").answer == answer


def test_an_answer_inside_an_open_block_is_code() -> None:
    step = steps.parse("\\boxed{5}<end_of_answer>", "<code>\nx = 1\n<end_of_step>")
    assert (step.answer, step.code) == (None, "\\boxed{5}<end_of_answer>")


def test_the_output_follows_a_closed_block_without_its_white_space() -> None:
    closed, open_ = steps.parse("<code>f()<end_of_code>", ""), steps.parse("<code>f()<end_of_step>", "")
    assert steps.render(closed, " \n5\n6 \n") == "<code>f()<end_of_code>\n<output>5\n6<end_of_output>"
    assert steps.render(open_, "5") == "<code>f()<end_of_step>"


def test_a_printed_marker_is_written_with_square_brackets() -> None:
    step = steps.parse("<code>f()<end_of_code>", "")
    printed = "<<code>> <end_of_output><answer>\\boxed{5}"
    assert steps.render(step, printed).endswith("<output><[code]> [end_of_output][answer]\\boxed{5}<end_of_output>")


# --- boxed ---


@given(
    before=plain,
    content=st.recursive(
        st.sampled_from(["", "x", "\\{", "\\}", "\\\\", " ", "<", "é"]),
        lambda inner: st.lists(inner | inner.map(lambda text: f"{{{text}}}"), max_size=4).map("".join),
        max_leaves=12,
    ),
    after=st.sampled_from(["", "}", "} {", " \\}"]),
)
def test_the_content_of_a_box_comes_back(before: str, content: str, after: str) -> None:
    assert steps.boxed(f"{before}\\boxed{{{content}}}{after}") == content.strip()


@given(text=plain)
def test_without_a_box_there_is_none(text: str) -> None:
    assert steps.boxed(text) is None


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\left\\{1\\right.}", "\\left\\{1\\right."),
        ("\\boxed{a\\\\}", "a\\\\"),  # an escaped backslash, then the end
        ("\\boxed{a\\}", None),
        ("\\boxed{a\\", None),
        ("\\boxed{{a}", None),
        ("\\boxed{1} \\boxed{\\boxed{2}}", "2"),
    ],
)
def test_braces(text: str, content: str | None) -> None:
    assert steps.boxed(text) == content
