"""The nano generator: exact answers, disjoint splits, programs that run; the tokenizer, the trainer and the shipped policy."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import keyword
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from random import Random

import pytest

from rstar_fast import nano, steps
from rstar_fast.nano import generator
from rstar_fast.nano.family import _NAMES, _NOVEL_NAMES, _NOVEL_THINGS, _THINGS
from rstar_fast.nano.program import Program, Term, call, term
from rstar_fast.ppm import load_scorer
from rstar_fast.types import InvalidInput, Partial

TRAIN = nano.generate("train", 1000, seed=3)
HELD_OUT = nano.generate("heldout", 600, seed=3)
NOVEL = nano.generate("novel", 600, seed=3)
EVERY = TRAIN + HELD_OUT + NOVEL
BY_NAME = {family.name: family for family in nano.FAMILIES}


def steps_of(solution: str) -> list[str]:
    """The solution cut as a policy writes it: each step ends in its stop string, the sandbox's output is left out."""
    before, output, after = solution.partition(f"\n{steps.OUTPUT}")
    after = after[after.index(steps.END_OF_OUTPUT) + len(steps.END_OF_OUTPUT) :] if output else ""
    cuts = "|".join(map(re.escape, steps.STOPS))
    return re.findall(f"(?s).*?(?:{cuts})", before + after)


# --- the generator ---------------------------------------------------------------------------------------------------


def test_the_same_arguments_give_the_same_records_and_more_begin_with_fewer() -> None:
    assert nano.generate("train", 200, seed=3) == TRAIN[:200]
    assert nano.generate("train", 200, seed=4) != TRAIN[:200]


@pytest.mark.parametrize("split", nano.SPLITS)
def test_every_family_has_every_level_in_every_split(split: str) -> None:
    for family in nano.FAMILIES:
        records = nano.generate(split, 10, seed=0, families=[family.name])
        assert {record.family for record in records} == {family.name}
        assert Counter(record.level for record in records) == dict.fromkeys(nano.LEVELS, 2)


def test_all_families_occur() -> None:
    assert {record.family for record in TRAIN} == set(BY_NAME)
    assert len(BY_NAME) == len(nano.FAMILIES) >= 20


def test_levels_grow_longer() -> None:
    lengths = [sum(len(r.solution) for r in TRAIN if r.level == level) for level in nano.LEVELS]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("family", nano.FAMILIES, ids=lambda family: family.name)
def test_splits_are_disjoint_by_construction(family) -> None:
    """The parameters alone, without the seed, decide whether a problem may be in the train split."""
    random = Random(2)
    made = Counter()
    for attempt in range(150):
        parameters = family.draw(random, 1 + attempt % 5)
        fixed = dataclasses.replace(family, draw=lambda random, level, parameters=parameters: parameters)
        there = {split for split in nano.SPLITS for seed in range(3) if generator._make(fixed, 1, split, Random(seed))}
        assert there in (set(), {"train"}, {"heldout", "novel"})
        made.update(there)
    assert made["train"] > made["heldout"] > 0


def test_questions_and_wordings_of_the_splits_differ() -> None:
    train = {record.problem.question for record in TRAIN}
    assert len(train) == len(TRAIN)
    assert not train & {record.problem.question for record in HELD_OUT + NOVEL}
    unseen = re.compile("|".join(_NOVEL_NAMES + _NOVEL_THINGS))
    assert not any(unseen.search(record.problem.question) for record in TRAIN + HELD_OUT)
    assert sum(bool(unseen.search(record.problem.question)) for record in NOVEL) > 100
    blank = re.compile(r"\d+")
    shapes = {blank.sub("#", record.problem.question) for record in TRAIN + HELD_OUT}
    assert not shapes & {blank.sub("#", record.problem.question) for record in NOVEL}


def skeletons_of(family, level: int, novel: bool, count: int) -> set[str]:
    """The wordings of a family's questions, with numbers, names and things masked."""
    masks = (
        (re.compile(rf"\b(?:{'|'.join(_NAMES + _NOVEL_NAMES)})\b"), "NAME"),
        (re.compile(rf"\b(?:{'|'.join(_THINGS + _NOVEL_THINGS)})\b", re.IGNORECASE), "THINGS"),
        (re.compile(r"\d+"), "#"),
    )
    found = set()
    for seed in range(count):
        random = Random(seed)
        text = family.ask(family.draw(random, level), generator.Words(random, novel))
        for pattern, mask in masks:
            text = pattern.sub(mask, text)
        found.add(text)
    return found


@pytest.mark.parametrize("family", nano.FAMILIES, ids=lambda family: family.name)
def test_no_seen_wording_is_a_novel_one_and_each_family_has_many(family) -> None:
    for level in nano.LEVELS:
        seen = skeletons_of(family, level, False, 300)
        assert len(seen) >= 5
        assert not seen & skeletons_of(family, level, True, 300)


def test_names_and_things_are_identifiers_of_their_own() -> None:
    pools = (_NAMES, _NOVEL_NAMES, _THINGS, _NOVEL_THINGS)
    words = [word for pool in pools for word in pool]
    assert len(set(words)) == len(words)
    assert all(word.isidentifier() and not keyword.iskeyword(word) and not hasattr(builtins, word) for word in words)


def test_the_readme_question_is_a_held_out_problem_of_level_1() -> None:
    parameters = (((1, 7, 100),), 0, 13)
    family = BY_NAME["power"]
    assert generator.is_held_out("power", parameters)
    wordings = {family.ask(parameters, generator.Words(Random(seed), novel=False)) for seed in range(20)}
    assert "What is the remainder when 7^100 is divided by 13?" in wordings
    assert family.solve(parameters) == 9


def test_answers_are_exact_and_not_easily_guessed() -> None:
    for record in EVERY:
        assert Fraction(record.answer) not in (0, 1)
        assert str(Fraction(record.answer)) == record.answer
    assert any("/" in record.answer for record in EVERY)
    assert Counter(record.answer for record in EVERY).most_common(1)[0][1] < len(EVERY) / 20


def test_a_program_that_disagrees_with_the_solver_is_caught() -> None:
    family = BY_NAME["shopping"]
    wrong = dataclasses.replace(family, solve=lambda parameters: family.solve(parameters) + 1)
    random = Random(0)
    with pytest.raises(AssertionError, match="shopping"):
        for _ in range(100):
            generator._make(wrong, 1, "train", random)


def test_the_solvers_never_look_at_the_program() -> None:
    """Each solver alone, from the parameters, gives the answer that the real interpreter prints (see the next test)."""
    random = Random(9)
    for family in nano.FAMILIES:
        for level in nano.LEVELS:
            for _ in range(8):
                parameters = family.draw(random, level)
                program = Program(random)
                words = generator.Words(random, novel=False)
                family.ask(parameters, words)
                family.work(parameters, program, words)
                assert family.solve(parameters) == program.value, (family.name, parameters)


def test_worked_programs_print_their_answers_in_a_real_interpreter(tmp_path) -> None:
    script = []
    for index, record in enumerate(EVERY):
        code = record.solution.partition(steps.CODE)[2].partition(steps.END_OF_CODE)[0].replace(steps.END_OF_STEP, "")
        body = "".join(f"    {line}\n" for line in code.splitlines())
        script.append(f"def program_{index}():\n{body}\nprogram_{index}()\nprint('@@')\n")
    path = tmp_path / "programs.py"
    path.write_text("".join(script))
    ran = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr[-500:]
    assert [output.strip() for output in ran.stdout.split("@@\n")[:-1]] == [record.answer for record in EVERY]


def test_solutions_parse_step_by_step_and_render_back() -> None:
    for record in EVERY:
        solution, code = "", ""
        parts = steps_of(record.solution)
        for text in parts:
            step = steps.parse(text, solution)
            assert step.ends_code == text.endswith(steps.END_OF_CODE)
            if text is not parts[-1]:
                assert step.code is not None and step.answer is None
                assert step.prefix == code
                code += step.code
            solution += steps.render(step, record.answer)
        assert (step.code, step.answer) == (None, record.answer)
        assert solution == record.solution


def test_harder_levels_have_more_steps() -> None:
    mean = {level: sum(len(steps_of(r.solution)) for r in TRAIN if r.level == level) / 200 for level in nano.LEVELS}
    assert mean[1] < mean[3] < mean[5]


@pytest.mark.parametrize(
    "arguments",
    [
        {"split": "test"},
        {"levels": []},
        {"levels": [0]},
        {"levels": [6]},
        {"families": ["riddles"]},
        {"families": []},
        {"families": ["arrange"], "levels": [1], "count": 5000},
    ],
)
def test_bad_arguments_are_named(arguments: dict) -> None:
    with pytest.raises(InvalidInput):
        nano.generate(**{"split": "train", "count": 5, "seed": 0, **arguments})


def test_importing_nano_stays_light() -> None:
    code = "import sys, rstar_fast.nano; print(sorted({'torch', 'transformers', 'sympy'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr


# --- expressions -----------------------------------------------------------------------------------------------------


def test_terms_put_brackets_where_python_needs_them() -> None:
    a, b = Term("a", 7), Term("b", 5)
    assert ((a + b) * 2).text == "(a + b) * 2"
    assert (a - (b - 2)).text == "a - (b - 2)"
    assert (a - b - 2).text == "a - b - 2"
    assert (a * (b // 2)).text == "a * (b // 2)"
    assert (a * b // 2 % 3).text == "a * b // 2 % 3"
    assert (a * term(-3)).text == "a * (-3)"
    assert ((a * b) ** 2).text == "(a * b) ** 2"
    assert (call("max", max, a + b, 4) - 1).text == "max(a + b, 4) - 1"


# --- the shipped pair ------------------------------------------------------------------------------------------------


def test_the_shipped_pair_is_small_and_in_bfloat16() -> None:
    from safetensors import safe_open

    total = 0
    for folder in (nano.POLICY, nano.PPM):
        total += sum(file.stat().st_size for file in folder.iterdir())
        with safe_open(folder / "model.safetensors", "pt") as weights:
            tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118  # not a mapping
        assert {str(tensor.dtype) for tensor in tensors} == {"torch.bfloat16"}
        assert 1e6 < sum(tensor.numel() for tensor in tensors) < 5e6
    assert total <= 12e6


def test_the_shipped_pair_answers_a_question_by_search() -> None:
    import rstar_fast

    record = nano.generate("heldout", 1, seed=0, levels=(1,))[0]
    result = rstar_fast.search(record.problem, rollouts=2, candidates=4)
    assert result.failure is None and result.tree is not None and len(result.tree) > 2
    assert all(node.score is not None for node in result.tree if node.tag != "0")
    assert len({node.score for node in result.tree if node.score is not None}) > 2  # it tells steps apart


def test_the_bootstrap_policy_writes_programs_of_easy_levels() -> None:
    """A solution that is right by chance is rare; how often it is right, and at which levels, is measured elsewhere."""
    import rstar_fast

    assert sum(file.stat().st_size for file in nano.BOOTSTRAP.iterdir()) <= 6e6
    records = nano.generate("heldout", 16, seed=1, levels=(1,))
    results = rstar_fast.search.sample([record.problem for record in records], 4, policy=str(nano.BOOTSTRAP))
    right = [
        any(trajectory.answer == record.answer for trajectory in result.trajectories)
        for record, result in zip(records, results, strict=True)
    ]
    assert sum(right) >= 4


def test_the_bootstrap_ppm_tells_a_solution_from_that_of_other_numbers() -> None:
    """Of held-out problems, where a number of the question stands in the worked program, whole and begun: another one is worse."""
    assert sum(file.stat().st_size for file in nano.BOOTSTRAP_PPM.iterdir()) <= 6e6
    partials, random = [], Random(0)
    for record in nano.generate("heldout", 120, seed=2, levels=(2, 3)):
        found = re.search(r"\d+", record.solution)
        if found is None or found.group() not in record.problem.question:
            continue
        other = str(int(found.group()) + random.choice((1, 2, 3)))
        begun = next((text for text in steps.begun(record.solution) if len(text) > found.end()), record.solution)
        for text in (begun, record.solution):
            wrong = text[: found.start()] + other + text[found.end() :]
            partials += [Partial(record.problem, text), Partial(record.problem, wrong)]
    scores = asyncio.run(load_scorer(str(nano.BOOTSTRAP_PPM)).score(partials)).reshape(-1, 2)
    assert len(scores) > 100 and (scores[:, 0] > scores[:, 1]).mean() > 0.9
