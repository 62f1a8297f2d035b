"""Prints how right three graders are on pairs.jsonl: this package's, math-verify alone, and a chain as the reference has it.

Run by hand: python tests/grading/compare_graders.py [--misses GRADER]. The chain is written afresh after what rstar_deepthink
calls: MATH's string normalisation, equality of numbers within 1e-4 with percentages either way, brackets member by member,
equality by sympy; any of them suffices. Both others run in this process, on its main thread, as their users run them.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

PAIRS = Path(__file__).with_name("pairs.jsonl")
_CHAIN_S = 3


def math_verify_alone(key: str, answer: str) -> bool:
    """math-verify with its defaults, both sides between dollar signs."""
    from math_verify import parse, verify

    return bool(verify(parse(f"${key}$"), parse(f"${answer}$")))


def reference_chain(key: str, answer: str) -> bool:
    """Any of string, number, structure and sympy, in both orders, before and after normalisation."""
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(_CHAIN_S)
    try:
        stripped = _strip(key), _strip(answer)
        if key.strip() == answer.strip() or stripped[0] == stripped[1]:
            return True
        if key in list("ABCDE") and (letters := re.findall(r"\b([A-E])\b", answer.upper())) and letters[-1] == key:
            return True
        return any(_math_equal(a, b) for a, b in ((key, answer), (answer, key), stripped, stripped[::-1]))
    except TimeoutError:
        return False
    finally:
        signal.alarm(0)


def _stop(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


def _strip(text: str) -> str:
    """MATH's normalisation: layout, units, percent signs and short left sides away; \\frac12, a/b and 0.5 as \\frac{}{}."""
    text = text.replace("\n", "").replace("\\!", "").replace("\\ ", "").replace("tfrac", "frac").replace("dfrac", "frac")
    text = re.sub(r"\\(?:left|right)|\^\{?\\circ\}?|\\?\$|\\?%|\\(?:text|mbox)\{ [^{}]*\}.*$", "", text)
    text = re.sub(r"\\text\{(.*?)\}", r"\1", text)
    text = re.sub(r"(?<![\d])\.(?=\d)", "0.", text)
    sides = text.split("=")
    text = sides[1] if len(sides) == 2 and len(sides[0].strip()) <= 2 else text
    text = re.sub(r"\\sqrt(\d|[a-z])", r"\\sqrt{\1}", text).replace(" ", "").rstrip(".")
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", "\\frac{1}{2}" if text == "0.5" else text)
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)


def _number(text: str) -> float | None:
    text = text.replace(",", "").strip()
    scale = 100 if text.endswith("%") else 1
    try:
        return float(text.rstrip("%").rstrip("\\")) / scale
    except ValueError:
        return None


def _math_equal(key: str, answer: str) -> bool:
    if not answer.strip():
        return False
    numbers = _number(key), _number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return any(math.isclose(numbers[0] * scale, numbers[1], rel_tol=1e-4) for scale in (0.01, 1, 100))
    bare = [re.sub(r"[{}()]", "", text).lower() for text in (key, answer)]
    if bare[0] == bare[1]:
        return True
    if all(re.fullmatch(r"[(\[].+[)\]]", text) for text in (key, answer)):
        members = [text[1:-1].split(",") for text in (key, answer)]
        return len(members[0]) == len(members[1]) and all(map(_math_equal, *members))
    matrices = [re.fullmatch(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", text, re.DOTALL) for text in (key, answer)]
    if matrices[0] and matrices[1]:
        entries = [re.split(r"&|\\\\", match[1]) for match in matrices if match]
        return len(entries[0]) == len(entries[1]) and all(map(_math_equal, *entries))
    sides = [text.split("=") for text in (key, answer)]
    if len(sides[0]) == 2 and len(sides[1]) == 2:
        differences = [f"{left}-({right})" for left, right in sides]
        return _sympy_equal(*differences) or _sympy_equal(f"-({differences[0]})", differences[1])
    for with_sign, other in (sides, sides[::-1]):
        if len(with_sign) == 2 and len(with_sign[0].strip()) <= 2 and len(other) == 1:
            return _math_equal(with_sign[1], other[0])
    return _sympy_equal(key, answer)


def _sympy_equal(key: str, answer: str) -> bool:
    import sympy
    from latex2sympy2_extended import latex2sympy
    from sympy.parsing.sympy_parser import implicit_multiplication_application, parse_expr, standard_transformations

    parsed = []
    for text in (key, answer):
        for parse in (
            latex2sympy,
            lambda t: parse_expr(
                t.replace("^", "**"), transformations=(*standard_transformations, implicit_multiplication_application)
            ),
        ):
            if parse is not latex2sympy and re.search(r"__|import|[\"';]", text):
                continue  # parse_expr evaluates what it reads
            try:
                parsed.append(parse(text))
                break
            except TimeoutError:
                raise
            except Exception:  # what the chain does not read, it calls different
                continue
        else:
            return False
    try:
        if parsed[0] == parsed[1] or sympy.simplify(parsed[0] - parsed[1]) == 0:
            return True
        return math.isclose(float(sympy.N(parsed[0])), float(sympy.N(parsed[1])), rel_tol=1e-4)
    except TimeoutError:
        raise
    except Exception:
        return False


def ours(key: str, answer: str) -> bool:
    """This package."""
    from rstar_fast.grading import grade

    return bool(grade(key, answer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--misses", choices=("ours", "math_verify_alone", "reference_chain"))
    misses = parser.parse_args().misses
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.set_int_max_str_digits(100_000)
    pairs = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    graders: tuple[Callable[[str, str], bool], ...] = (ours, math_verify_alone, reference_chain)
    print(f"{len(pairs)} pairs, {sum(pair['equal'] for pair in pairs)} equal")
    print(f"{'grader':<20}{'accuracy':>10}{'false equals':>14}{'missed':>9}{'raised':>9}{'ms a pair':>11}")
    for grader in graders:
        false_equals = missed = raised = 0
        begin = time.perf_counter()
        for pair in pairs:
            try:
                equal = grader(pair["key"], pair["answer"])
            except Exception:  # counted: a grader must not raise
                equal, raised = False, raised + 1
            if equal != pair["equal"] and grader.__name__ == misses:
                print(pair)
            false_equals += equal and not pair["equal"]
            missed += pair["equal"] and not equal
        right = 1 - (false_equals + missed) / len(pairs)
        ms = (time.perf_counter() - begin) * 1000 / len(pairs)
        print(f"{grader.__name__:<20}{right:>10.2%}{false_equals:>14}{missed:>9}{raised:>9}{ms:>11.1f}")


if __name__ == "__main__":
    main()
