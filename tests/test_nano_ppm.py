"""Training of the nano PPM: rollouts that survive a kill, preferences of equal prefix, and a training that learns."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rstar_fast import Partial, Problem, nano, steps
from rstar_fast.nano.program import completed
from rstar_fast.policies.checkpoint import load_model
from rstar_fast.ppm import load_scorer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.training import nano_ppm, nano_rollouts
from rstar_fast.training.nano_ppm import Group, PpmSettings
from rstar_fast.training.nano_rollouts import Rollouts, Solution
from rstar_fast.types import InvalidInput

QUESTION = "Ann has 3 pens and buys 4 more. How many pens does Ann have?"


def code(*parts: str) -> str:
    return f"{steps.CODE}\n" + f"{steps.END_OF_STEP}\n".join(part + "\n" for part in parts) + steps.END_OF_CODE


def solution(answer: str, count: int, *parts: str) -> Solution:
    return Solution(completed(code(*parts), answer), answer, answer == "7", count, -0.1)


ADD = solution("7", 5, "x = 3", "x = x + 4", "print(x)")
TAKE = solution("-1", 2, "x = 3", "x = x - 4", "print(x)")
WRONG_START = solution("8", 1, "x = 4", "x = x + 4", "print(x)")
ROLLOUTS = Rollouts(QUESTION, "7", 1, "stock", 0, (TAKE, ADD, WRONG_START))


def test_a_solution_is_cut_where_its_steps_end() -> None:
    texts = [ADD.text[:end] for end in nano_ppm.step_ends(ADD.text)]
    assert [text.endswith(steps.END_OF_STEP) for text in texts] == [True, True, False, False]
    assert texts[2].endswith(f"{steps.OUTPUT}7{steps.END_OF_OUTPUT}")
    assert texts[3] == ADD.text


def test_preferences_share_their_prefix(tokenizer: Any) -> None:
    found = nano_ppm.preferences(ROLLOUTS, tokenizer, per_side=5, margin=0.5)
    # What each step's number stands for, read back from the tokens.
    written = [tokenizer.decode(found.tokens[row][: position + 1]) for row, position in found.at]
    solutions = [text.removeprefix(steps.prompt_of(QUESTION)) for text in written]
    ends = {end for s in (ADD, TAKE, WRONG_START) for end in (s.text[:e] for e in nano_ppm.step_ends(s.text))}
    assert set(solutions) == ends and len(solutions) == len(ends)
    number = {text: i for i, text in enumerate(solutions)}
    first = [s.text[: nano_ppm.step_ends(s.text)[0]] for s in (ADD, TAKE, WRONG_START)]
    second = [s.text[: nano_ppm.step_ends(s.text)[1]] for s in (ADD, TAKE, WRONG_START)]
    # q("x = 3") = 2 * 5/7 - 1, and behind it adding is always right, taking always wrong.
    assert [group for group in found.groups if not group.is_answer] == [
        Group((number[first[0]],), (number[first[2]],), False, 0),
        Group((number[second[0]],), (number[second[1]],), False, 1),
    ]
    (answers,) = [group for group in found.groups if group.is_answer]
    assert set(zip(answers.better, answers.worse, strict=True)) == {
        (number[ADD.text], number[TAKE.text]),
        (number[ADD.text], number[WRONG_START.text]),
    }


def test_a_pair_needs_its_margin_and_both_sides(tokenizer: Any) -> None:
    close = dataclasses.replace(ROLLOUTS, solutions=(ADD, dataclasses.replace(TAKE, count=50)))
    groups = nano_ppm.preferences(close, tokenizer, per_side=5, margin=0.5).groups
    assert [group.depth for group in groups] == [1, -1]
    assert nano_ppm.preferences(dataclasses.replace(ROLLOUTS, solutions=(ADD,)), tokenizer, 5, 0.5).groups == []
    assert nano_ppm.preferences(dataclasses.replace(ROLLOUTS, solutions=(TAKE, WRONG_START)), tokenizer, 5, 0.5).groups == []


def test_a_step_has_one_reward_whatever_shares_its_batch(tokenizer: Any) -> None:
    model = ppm_model.from_policy(str(nano.POLICY)).eval()
    long = dataclasses.replace(ROLLOUTS, question=QUESTION * 3)
    problems = [nano_ppm.preferences(rollouts, tokenizer, 5, 0.5) for rollouts in (ROLLOUTS, long)]
    with torch.inference_mode():
        together, alone = (
            nano_ppm.rewards_of(model, nano_ppm.read(model, asked)[1], asked) for asked in (problems, problems[:1])
        )
    assert len(together) == 2 * len(alone)
    torch.testing.assert_close(together[: len(alone)], alone, atol=0.05, rtol=0.05)  # bfloat16


def test_the_loss_adds_calibration_and_language_to_the_pairs(tokenizer: Any) -> None:
    model = ppm_model.from_policy(str(nano.POLICY)).eval()
    found = nano_ppm.preferences(ROLLOUTS, tokenizer, per_side=5, margin=0.5)
    none = PpmSettings(value_weight=0.0, language_weight=0.0)
    with torch.inference_mode():
        losses = [
            nano_ppm.loss_of(model, [found], settings).item()
            for settings in (none, dataclasses.replace(none, value_weight=1.0), dataclasses.replace(none, language_weight=1.0))
        ]
        hidden = nano_ppm.read(model, [found])[1]
        belief = (1 + torch.tanh(hidden.float() @ model.score.weight[0] / ppm_model.scale_of(model))) / 2
    calibration = []
    for row, shares in enumerate(found.right):
        text = tokenizer.decode(found.tokens[row])
        assert tokenizer.decode(found.tokens[row][np.isnan(shares)]) == steps.prompt_of(QUESTION)
        for at in np.flatnonzero(~np.isnan(shares)):
            begin = tokenizer.decode(found.tokens[row][: at + 1])
            alike = [s for s in ROLLOUTS.solutions if (steps.prompt_of(QUESTION) + s.text).startswith(begin)]
            expected = sum(s.count for s in alike if s.correct) / sum(s.count for s in alike)
            assert shares[at] == pytest.approx(expected), text
            p = belief[row, at].item()
            calibration.append(-(expected * np.log(p) + (1 - expected) * np.log(1 - p)))
    assert losses[1] - losses[0] == pytest.approx(np.mean(calibration), abs=1e-4)
    (begin, end), *wrong = found.code
    assert wrong == [(0, 0)] * 2
    right_solution = torch.from_numpy(found.tokens[0])
    assert tokenizer.decode(right_solution[begin:end]) == ADD.text.split("\n<output>")[0]
    logits = load_model(AutoModelForCausalLM, str(nano.POLICY), "policy", "cpu", torch.float32)(
        right_solution[None]
    ).logits[0]
    expected = torch.nn.functional.cross_entropy(logits[begin : end - 1], right_solution[begin + 1 : end])
    assert losses[2] - losses[0] == pytest.approx(expected.item(), rel=0.05)


def test_training_learns_its_pairs_and_its_checkpoint_is_a_scorer(tmp_path: Path, tokenizer: Any) -> None:
    settings = PpmSettings(epochs=8, batch_tokens=2000, muon_lr=0.01)
    others = [
        dataclasses.replace(ROLLOUTS, question=f"Ann has 3 {thing} and buys 4 more. How many {thing} does Ann have?")
        for thing in ("books", "coins")
    ]
    log = list(nano_ppm.train(str(nano.POLICY), [ROLLOUTS, *others], [ROLLOUTS], tmp_path / "ppm", settings))
    assert [line["epoch"] for line in log[1:]] == list(range(1, 9))
    assert log[-1]["loss"] < log[1]["loss"] / 2
    assert log[-1]["pairs"]["steps"] == [1.0, 2] and log[-1]["pairs"]["solutions"] == [1.0, 2]
    assert log[-1]["answers"]["best PPM score"] == {"1": 1.0, "all": 1.0}
    assert log[-1]["answers"]["one sample"]["all"] == pytest.approx(5 / 8)
    scorer = load_scorer(tmp_path / "ppm", device="cpu")
    problem = Problem(QUESTION)
    scores = asyncio.run(scorer.score([Partial(problem, s.text) for s in (ADD, TAKE, WRONG_START)]))
    assert scores[0] > max(scores[1:])


def test_rollouts_without_a_preference_say_so(tmp_path: Path) -> None:
    alike = [dataclasses.replace(ROLLOUTS, solutions=(ADD,))]
    with pytest.raises(InvalidInput, match="both right and wrong"):
        list(nano_ppm.train(str(nano.POLICY), alike, alike, tmp_path / "ppm", PpmSettings()))
    assert not (tmp_path / "ppm").exists()


def test_a_broken_off_run_of_rollouts_goes_on(tmp_path: Path) -> None:
    class Stub:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def candidates(self, records: Sequence[nano.Record]) -> list[dict[str, tuple[int, float]]]:
            self.asked += [record.problem.question for record in records]
            right = [code(f"print({r.answer.partition('/')[0]})") for r in records]
            return [{text: (2, -0.5), code("print(1 / 0)"): (1, -2.0), code("x = 1"): (1, -3.0)} for text in right]

    records = nano.generate("train", 70, seed=11)
    out = tmp_path / "rollouts.jsonl"
    whole = Stub()
    asyncio.run(nano_rollouts.collect(whole, records, 4, out))  # type: ignore[arg-type]
    expected = nano_rollouts.read_rollouts(out)
    assert [rollouts.question for rollouts in expected] == whole.asked == [record.problem.question for record in records]
    for rollouts, record in zip(expected, records, strict=True):
        (only,) = rollouts.solutions
        assert (only.count, rollouts.failed, only.correct) == (2, 2, "/" not in record.answer)
        assert only.text == completed(code(f"print({only.answer})"), only.answer)
    lines = out.read_text("utf-8").splitlines(keepends=True)
    out.write_text("".join(lines[:40]) + lines[40][:50], "utf-8")  # killed while it wrote
    resumed = Stub()
    asyncio.run(nano_rollouts.collect(resumed, records, 4, out))  # type: ignore[arg-type]
    assert resumed.asked == whole.asked[40:]
    assert nano_rollouts.read_rollouts(out) == expected
    assert json.loads(lines[0])["question"] == expected[0].question


def test_sampled_code_is_whole_and_repeats_with_the_seed() -> None:
    records = nano.generate("train", 3, seed=1, levels=(1,))
    sampler = nano_rollouts.RolloutSampler(str(nano.POLICY), 6, 1.0, seed=5)
    found = sampler.candidates(records)
    assert found == sampler.candidates(records)
    for texts in found:
        assert sum(count for count, _ in texts.values()) <= 6
        assert all(text.endswith(steps.END_OF_CODE) and logprob <= 0.0 for text, (_, logprob) in texts.items())
    assert np.isfinite([logprob for texts in found for _, logprob in texts.values()]).all()
    assert sum(map(len, found)) > 0
