"""Grading: other people's kinds of labelled pairs, properties, keys of public data, extraction and votes."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rstar_fast.grading import classes, compare, extract, grade, grade_many, normalise, process
from rstar_fast.types import Verdict, VerdictReason

EQUAL_REASONS = {VerdictReason.SAME_TEXT, VerdictReason.SAME_NUMBER, VerdictReason.SAME_MATHEMATICS}


def _pairs() -> dict[str, list[dict[str, object]]]:
    by_why = defaultdict(list)
    text = Path(__file__).with_name("grading").joinpath("pairs.jsonl").read_text(encoding="utf-8")
    for line in text.splitlines():
        pair = json.loads(line)
        by_why[pair["why"]].append(pair)
    return dict(by_why)


PAIRS = _pairs()


@pytest.mark.parametrize("why", PAIRS)
def test_labelled_pairs(why: str) -> None:
    wrong = [(pair["key"], pair["answer"]) for pair in PAIRS[why] if grade(pair["key"], pair["answer"]).equal != pair["equal"]]
    assert wrong == []


@pytest.mark.parametrize("why", PAIRS)
def test_labelled_pairs_the_other_way_round(why: str) -> None:
    two_way = [pair for pair in PAIRS[why] if not pair.get("one_way")]
    wrong = [(pair["answer"], pair["key"]) for pair in two_way if grade(pair["answer"], pair["key"]).equal != pair["equal"]]
    assert wrong == []


def test_pairs_are_many_and_of_both_kinds() -> None:
    pairs = list(itertools.chain.from_iterable(PAIRS.values()))
    assert len(pairs) >= 600
    assert len({(pair["key"], pair["answer"]) for pair in pairs}) == len(pairs)
    assert min(sum(bool(pair["equal"]) is equal for pair in pairs) for equal in (True, False)) >= 300


@pytest.mark.parametrize(
    ("key", "answer", "reason"),
    [
        ("5", "5", VerdictReason.SAME_TEXT),
        (r"\frac12", r"\dfrac{1}{2}", VerdictReason.SAME_TEXT),
        ("0.5", "1/2", VerdictReason.SAME_NUMBER),
        (r"\sqrt{8}", r"2\sqrt{2}", VerdictReason.SAME_MATHEMATICS),
        ("(1, x+1)", "(1.0, 1+x)", VerdictReason.SAME_MATHEMATICS),
        ("5", "6", VerdictReason.DIFFERENT),
        ("5", r"\frac{", VerdictReason.NOT_UNDERSTOOD),
        ("5", "__import__('os')", VerdictReason.NOT_UNDERSTOOD),
        ("5", " ", VerdictReason.EMPTY),
        ("", "", VerdictReason.EMPTY),
        (r"\boxed{}", "5", VerdictReason.EMPTY),
        ("5", "(" * 1000, VerdictReason.NOT_UNDERSTOOD),
        ("5", "x" * 100_000, VerdictReason.NOT_UNDERSTOOD),
    ],
)
def test_reasons(key: str, answer: str, reason: VerdictReason) -> None:
    assert grade(key, answer) == Verdict(reason in EQUAL_REASONS, reason)


def test_grade_many_keeps_the_order_and_grades_a_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graded = []

    def counted(key: str, answer: str) -> Verdict:
        graded.append((key, answer))
        return grade(key, answer)

    monkeypatch.setattr(compare, "grade", counted)
    verdicts = grade_many([("1", "1"), ("1", "2"), ("1", "1"), ("2", "2.0")])
    assert [verdict.equal for verdict in verdicts] == [True, False, True, True]
    assert graded == [("1", "1"), ("1", "2"), ("2", "2.0")]


# --- threads ---------------------------------------------------------------------------------------------------------------


def test_threads_get_the_same_verdicts() -> None:
    pairs = [(rf"\sqrt{{{2 * i * i}}}", rf"{i + i % 2}\sqrt{{2}}") for i in range(1, 25)]
    expected = [i % 2 == 0 for i in range(1, 25)]
    with ThreadPoolExecutor(7) as pool:
        assert [verdict.equal for verdict in pool.map(lambda pair: grade(*pair), pairs)] == expected


def test_event_loop() -> None:
    async def run() -> list[Verdict]:
        return await asyncio.to_thread(grade_many, [(r"\frac{\pi}{2}", r"0.5\pi"), (r"\frac{\pi}{2}", r"\pi")])

    assert [verdict.equal for verdict in asyncio.run(run())] == [True, False]


# --- properties ------------------------------------------------------------------------------------------------------------

FRAGMENTS = (
    *"0123456789xyzabeiABC+-*/^_=<>(){}[],.;:|!% $&~'\"\\",
    *(
        r"\frac",
        r"\sqrt",
        r"\pi",
        r"\text{ cm}",
        r"\text{and}",
        r"\cup",
        r"\infty",
        r"\pm",
        r"\le",
        r"\\",
        r"\{",
        r"\}",
        r"\begin{pmatrix}",
    ),
    *(
        r"\end{pmatrix}",
        r"\sin",
        r"\overline",
        r"\boxed{",
        "$",
        " and ",
        " or ",
        "the answer is ",
        "²",
        "½",
        "√",
        "\n",
        "\0",
        "\ud800",
    ),
)
latex = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


@settings(max_examples=150)
@given(latex | st.text(max_size=30), latex | st.text(max_size=30))
def test_never_raises_and_its_reason_fits(key: str, answer: str) -> None:
    verdict = grade(key, answer)
    assert verdict.equal == (verdict.reason in EQUAL_REASONS)
    assert normalise(key) != normalise(answer) or not normalise(key) or verdict.equal or verdict.reason is VerdictReason.EMPTY


@settings(max_examples=100)
@given(latex | st.text(max_size=60))
def test_every_text_equals_itself_unless_blank(text: str) -> None:
    assert grade(text, text).equal == bool(text.strip())


@settings(max_examples=60)
@given(latex, latex)
def test_votes_do_not_depend_on_who_comes_first(a: str, b: str) -> None:
    assert classes([a, b])[1] == classes([b, a])[1]


@given(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=5, max_size=12), st.data())
def test_words_are_equal_only_to_themselves(word: str, data: st.DataObject) -> None:
    assume("\\" not in normalise(word))  # "infty" and "sqrtx" are mathematics
    at = data.draw(st.integers(0, len(word) - 1))
    other = word[:at] + data.draw(st.sampled_from("qxz").filter(lambda letter: letter != word[at])) + word[at + 1 :]
    assert grade(rf"\text{{{word}}}", word.upper())
    assert not grade(rf"\text{{{word}}}", other)


@given(st.integers(-99, 99), st.integers(1, 60), st.integers(-99, 99), st.integers(1, 60))
def test_fractions_are_equal_as_numbers_are(a: int, b: int, c: int, d: int) -> None:
    assert grade(rf"\frac{{{a}}}{{{b}}}", f"{c}/{d}").equal == (Fraction(a, b) == Fraction(c, d))
    assert grade(rf"\dfrac{{{a}}}{{{b}}}", rf"\frac{{{2 * a}}}{{{2 * b}}}")


@settings(max_examples=40)
@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-1, 1), st.integers(-1, 1))
def test_products_equal_their_expansions(a: int, b: int, off_linear: int, off_constant: int) -> None:
    expanded = f"x^2+({a + b + off_linear})x+({a * b + off_constant})"
    assert grade(f"(x+({a}))(x+({b}))", expanded).equal == (off_linear == off_constant == 0)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_lists_have_no_order_and_tuples_have(values: list[int], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    texts = [", ".join(map(str, order)) for order in (values, shuffled)]
    assert grade(texts[0], texts[1])
    assert grade(f"({texts[0]})", f"({texts[1]})").equal == (values == shuffled)
    assert not grade(texts[0], f"{texts[1]}, 99")


@given(st.sampled_from("(["), st.sampled_from(")]"), st.sampled_from("(["), st.sampled_from(")]"))
def test_interval_ends_count(a: str, b: str, c: str, d: str) -> None:
    assert grade(f"{a}0, 1{b}", rf"\left{c} 0, 1 \right{d}").equal == (a == c and b == d)


@given(st.integers(-(10**18), 10**18))
def test_thousands_separators(value: int) -> None:
    for separator in (",", r"\,", "{,}", r",\!"):
        assert grade(str(value), f"{value:,}".replace(",", separator))
        assert not grade(str(value + 1), f"{value:,}".replace(",", separator))


@given(st.integers(1, 10**6), st.integers(1, 999))
def test_what_a_program_prints_of_a_fraction_is_that_fraction(a: int, b: int) -> None:
    assert grade(rf"\frac{{{a}}}{{{b}}}", repr(a / b))
    assert not grade(rf"\frac{{{a}}}{{{b}}}", repr(a / b * 1.0001))


# --- keys of public data ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(data_dir: Path) -> list[str]:
    found = [
        json.loads(line)["answer"]
        for path in sorted(data_dir.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return list(dict.fromkeys(found))


def _rewritings(key: str) -> list[str]:
    written = [f"${key}$", rf"\boxed{{{key}}}", f"{key}.", f"  {key} ", rf"\[{key}\]", f"The answer is ${key}$."]
    written += [
        re.sub(r"\\d?frac", r"\\dfrac", key),
        key.replace(r"\left", "").replace(r"\right", ""),
        key.replace("(", r"\left(").replace(")", r"\right)"),
    ]
    written.append(re.sub(r"\\(?:text|mbox)\{ [a-z]+\}(?:\^2)?|\^\\circ|\\\$", "", key))
    if re.fullmatch(r"-?\d{4,}", key):
        written += [f"{int(key):,}", f"{int(key):,}".replace(",", r"{,}"), f"{key}.0"]
    if fraction := re.fullmatch(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}", key):
        value = Fraction(int(fraction[2]), int(fraction[3]))
        written += [
            f"{fraction[1]}{fraction[2]}/{fraction[3]}",
            rf"{fraction[1]}\frac{{{2 * value.numerator}}}{{{2 * value.denominator}}}",
        ]
        if 10**9 % value.denominator == 0:
            written.append(fraction[1] + f"{float(value):.9f}")
    if re.fullmatch(r"[-\d, ]+", key) and ", " in key:
        written.append(", ".join(reversed(key.split(", "))))
    return written


def test_keys_equal_their_rewritings(keys: list[str]) -> None:
    wrong = [(key, written) for key in keys for written in _rewritings(key) if not grade(key, written)]
    assert wrong == []


def test_keys_equal_no_other_key(keys: list[str]) -> None:
    def bare(key: str) -> str:
        text = (
            re.sub(r"\\mbox\{.*|\^\\circ|\\\$|\\!|\s|^x=", "", key)
            .replace(r"\frac14", r"\frac{1}{4}")
            .replace("10,080", "10080")
        )
        return ",".join(sorted(text.split(","))) if re.fullmatch(r"[-\d,]+", text) else text

    def units_differ(a: str, b: str) -> bool:
        return {"circ" in a, "$" in a} == {"circ" in b, "$" in b} == {True, False} and ("circ" in a) != ("circ" in b)

    comparison = compare.Comparison(2, 60.0)  # as grade() makes one for each pair, but reads each key once
    wrong = []
    for a, b in itertools.permutations(keys, 2):
        if comparison.of(a, b).equal != (bare(a) == bare(b) and not units_differ(a, b)):
            wrong.append((a, b))
    assert wrong == []


# --- extraction and normal form --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}} and then \boxed{\{3, 4\}}.", r"\{3, 4\}"),
        (r"The answer is 5. But \boxed{6}", "6"),
        ("He has 3.\n#### 1,234\nDone", "1,234"),
        ("#### 1\nno:\n#### 2", "2"),
        ("The answer is 17.", "17"),
        ("the final answer is: $x+1$. I hope so.", "$x+1$"),
        ("**Answer:** 3/4", "3/4"),
        ("Answer: 3.5", "3.5"),
        ("Answer: **B**", "B"),
        ("the answer is 3. Wait, the answer is 4.", "4"),
        ("nothing here", None),
        ("", None),
        ("####", None),
        (r"\boxed{", None),
        (r"\boxed{}", None),
        ("the answer is", None),
        ("the answer is\n5", None),
    ],
)
def test_extract(text: str, answer: str | None) -> None:
    assert extract(text) == answer


@given(st.text())
def test_extract_never_raises_nor_gives_a_blank(text: str) -> None:
    for said in (text, f"answer is {text}", f"#### {text}", rf"\boxed{{{text}}}"):
        answer = extract(said)
        assert answer is None or answer.strip()


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"$\left( 3, \frac\pi2 \right)$.", r"(3,\frac{\pi}{2})"),
        (r"\boxed{x = 5}", "x=5"),
        ("1 2", "1 2"),
        (r"10\,0", "10 0"),
        (r"1{,}000", "1000"),
        ("3 \\sqrt 2", r"3\sqrt{2}"),
        ("x²", "x^{2}"),
        ("(" * 1000, "(" * 1000),
    ],
)
def test_normalise(text: str, form: str) -> None:
    assert normalise(text) == form
    assert normalise(form) == form


# --- votes -----------------------------------------------------------------------------------------------------------------


def test_classes_number_equal_answers_in_order_of_appearance() -> None:
    answers = ["1/2", "3", r"\frac{1}{2}", "yes", "0.5", "3.0", r"\text{Yes}", r"\sqrt{8}", "no", r"2\sqrt2", "(A)", "A", "1/2"]
    assert classes(answers) == [0, 1, 0, 2, 0, 1, 2, 3, 4, 3, 5, 5, 0]
    assert classes([]) == []
    assert classes(["", " ", "5"]) == [0, 1, 2]


def test_votes_do_not_round_as_a_key_does() -> None:
    assert classes(["0.33", "1/3", "0.333"]) == [0, 1, 2]
    assert classes(["1/3", "0.333333", "0.3333333333333333"]) == [0, 0, 0]
    assert classes(["1.97", "1.97423402868049"]) == [0, 1]


def test_votes_ask_the_process_for_no_text_and_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(text: str, timeout_s: float) -> None:
        pytest.fail(f"{text!r} was evaluated")

    monkeypatch.setattr(process, "evaluate", refused)
    answers = (
        [str(i % 40) for i in range(64)] + [f"{i}/7" for i in range(64)] + [rf"\text{{case {'abc'[i % 3]}}}" for i in range(64)]
    )
    assert len(set(classes(answers))) == 40 + 64 - 10 + 3


def test_votes_evaluate_each_answer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = process._Evaluator._ask

    def counted(self: process._Evaluator, text: str, timeout_s: float) -> object:
        asked.append(text)
        return ask(self, text, timeout_s)

    monkeypatch.setattr(process._Evaluator, "_ask", counted)
    answers = [rf"{i}\sqrt{{7}}+{i % 8}" for i in range(32)] + [rf"{i % 8}+\sqrt{{{7 * i * i}}}" for i in range(32)]
    assert classes(answers) == [*range(32)] * 2
    assert len(asked) == len(set(asked)) <= len(answers)
