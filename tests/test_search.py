"""The default search against a plain, single-threaded model of it, written from DESIGN.md and the docstrings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rstar_fast
from rstar_fast import Candidate, CodeError, ErrorKind, Execution, Partial, Problem, SearchConfig, SearchResult, Terminal
from rstar_fast.config import Annotation, Choice
from rstar_fast.types import FailureKind, Program

KEY = "7"

# --- the script: a policy, a scorer and an executor that are functions of a seed ----------------------------------------


class Script:
    """What policy, scorer and executor say, as a function of the seed, the solution and how often it was asked for.

    Programs print what their `print(...)`s name, and fail where a line says `raise`.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.asked: Counter[tuple[str, str]] = Counter()

    def candidates(self, question: str, solution: str, n: int) -> list[Candidate]:
        random = Random(f"{self.seed}|{question}|{solution}|{self.asked[question, solution]}")
        self.asked[question, solution] += 1
        if random.random() < 0.05:
            return []
        kinds = ["open", "go on", "close", "fail", "answer", "text", "nothing", "again"]
        if random.random() < 0.15:
            kinds = ["fail", "nothing"]
        kinds = random.choices(kinds, k=random.randint(1, n))
        drawn: list[Candidate] = []
        for kind in kinds:
            number = random.randint(0, 9)
            drawn.append(
                {
                    "open": Candidate(f"<code>\nprint({number})\n", "<end_of_step>", 3),
                    "go on": Candidate(f"print({number})\n", "<end_of_step>", 2),
                    "close": Candidate(random.choice([f"print({number})\n", "", "\n"]), "<end_of_code>", 2),
                    "fail": Candidate(f"<code>\nraise {number}\n", "<end_of_step>", 3),
                    "answer": Candidate(f"<answer>\\boxed{{{random.choice([7, 7, 7, 8, 9, ''])}}}", "<end_of_answer>", 5),
                    "text": Candidate(f"thinking {number}\n", None, 1),
                    "nothing": Candidate("\n", "<end_of_step>", 1),
                    "again": drawn[-1] if drawn else Candidate("thinking", None, None),
                }[kind]
            )
        return drawn

    def score(self, question: str, solution: str) -> float:
        random = Random(f"{self.seed}|{question}|{solution}")
        return random.choice([-1.0, -0.5, 0.25, 0.25, 1.0, random.uniform(-1, 1)])

    @staticmethod
    def execution(code: str) -> Execution:
        printed = "".join(f"{number}\n" for number in re.findall(r"print\((\d)\)", code))
        error = CodeError(ErrorKind.RAISED, "ValueError", "raised") if "raise" in code else None
        return Execution(printed, error)

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        return [self.candidates(partial.problem.question, partial.solution, n) for partial in partials]

    def scorer(self, partials: Sequence[Partial]) -> np.ndarray:
        return np.array([self.score(partial.problem.question, partial.solution) for partial in partials])

    async def run_batch(self, programs: Sequence[Program]) -> list[Execution]:
        return [self.execution(program.prefix + program.code) for program in programs]


# --- the model ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class ModelNode:
    parent: ModelNode | None
    tag: str
    text: str = ""
    observation: str = ""
    answer: str | None = None
    terminal: Terminal = Terminal.NO
    terminal_value: float = 0.0
    score: float | None = None
    correct: bool | None = None
    visits: int = 0
    value_sum: float = 0.0
    first_value: float = 0.0
    proposals: int = 1
    children: list[ModelNode] = field(default_factory=list)

    @property
    def path(self) -> list[ModelNode]:
        return [] if self.parent is None else [*self.parent.path, self]

    @property
    def solution(self) -> str:
        return "".join(node.text for node in self.path)

    @property
    def share(self) -> float:
        """The product over its steps of how often each was proposed, divided by how often it and its siblings were."""
        if self.parent is None:
            return 1.0
        return self.parent.share * self.proposals / sum(sibling.proposals for sibling in self.parent.children)

    def visit(self, value: float) -> None:
        if self.visits == 0:
            self.first_value = value
        self.visits += 1
        self.value_sum += value


class Model:
    def __init__(self, script: Script, question: str, config: SearchConfig) -> None:
        self.script, self.question, self.config = script, question, config
        self.root = ModelNode(None, "0")
        self.stats: Counter[str] = Counter()
        for _ in range(config.rollouts):
            self.rollout()

    def rollout(self) -> None:
        """From the root down by UCT, expanding every unexpanded node, to a terminal; its value is added on the way back."""
        node = self.root
        while node.terminal is Terminal.NO:
            if node.children:
                values = [self.uct(node, child) for child in node.children]
                node = node.children[values.index(max(values))]  # ties go to the first child
            else:
                self.expand(node)
        end: ModelNode | None = node
        while end is not None:
            end.visit(node.terminal_value)
            end = end.parent
        self.stats["rollouts"] += 1

    def uct(self, parent: ModelNode, child: ModelNode) -> float:
        if child.visits == 0:
            return self.config.first_play_urgency
        exploration = math.sqrt(math.log(parent.visits) / child.visits) if parent.visits else 0.0
        return child.value_sum / child.visits + self.config.c * exploration

    def expand(self, node: ModelNode) -> None:
        """A leaf none of whose candidates is usable is proposed for again, then given up."""
        self.stats["expansions"] += 1
        ran = 0
        for attempt in range(self.config.max_consecutive_errors):
            seen: dict[str, ModelNode | None] = {}
            for candidate in self.proposed(node.solution, in_parts=attempt == 0):
                self.stats["candidates"] += 1
                self.stats["policy_tokens"] += candidate.tokens or 0
                if candidate.text.strip() == "" and candidate.stop != "<end_of_code>":
                    self.stats["failed_steps"] += 1
                elif candidate.step not in seen:
                    count = len(node.children)
                    ran += self.add_child(node, candidate.step)
                    seen[candidate.step] = node.children[-1] if len(node.children) > count else None
                elif (child := seen[candidate.step]) is not None:
                    child.proposals += 1
            if node.children:
                break
        self.stats["steps_run"] += ran
        if not node.children:
            node.terminal = Terminal.TOO_MANY_ERRORS if ran else Terminal.NO_CANDIDATES
            node.terminal_value = -1.0

    def proposed(self, solution: str, in_parts: bool) -> list[Candidate]:
        """What the policy says: the first few candidates alone where these are one step."""
        config = self.config
        first = config.first_candidates
        if first is None:
            first = 2 if config.annotation is Annotation.INFERENCE else 0
        if not in_parts or first == 0 or first >= config.candidates:
            return self.script.candidates(self.question, solution, config.candidates)
        said = self.script.candidates(self.question, solution, first)
        if len({c.step for c in said if c.text.strip() or c.stop == "<end_of_code>"}) == 1:
            return said
        return said + self.script.candidates(self.question, solution, config.candidates - first)

    def add_child(self, node: ModelNode, step: str) -> bool:
        """Makes a node of the step unless its code fails; whether there was code to run."""
        program, outside, ends_code = self.read(node.solution, step)
        text, observation = step, ""
        if program is not None:
            execution = self.script.execution(program)
            if execution.error is not None:
                self.stats["failed_steps"] += 1
                return True
            observation = execution.output.strip()
        if ends_code:
            text = f"{step}\n<output>{observation}<end_of_output>"
        child = ModelNode(node, f"{node.tag}.{len(node.children) + 1}", text, observation)
        node.children.append(child)
        boxed = re.findall(r"\\boxed\{([^}]*)\}", outside)
        if boxed and boxed[-1]:
            child.answer, child.terminal = boxed[-1], Terminal.ANSWER
        elif len(child.path) >= self.config.max_depth:
            child.terminal = Terminal.TOO_DEEP
        self.value(child)
        return program is not None

    @staticmethod
    def read(solution: str, step: str) -> tuple[str | None, str, bool]:
        """The program that the step asks to run, its text outside of code, and whether it ends the block.

        No text here has a block within a block: what is open at the end of `solution` is what its last `<code>` opened.
        """
        block = re.compile(r"<code>(.*?)(<end_of_code>|\Z)", re.DOTALL)
        whole = f"{solution}\0{step}"  # \0: where the step begins
        outside = block.sub("", whole).partition("\0")[2]
        found = [match for match in block.finditer(whole) if match.end() > len(solution) + 1 or match[2] == ""]
        if not found:
            return None, outside, False
        before, _, new = found[-1][1].rpartition("\0")
        before, new = before.replace("<end_of_step>", ""), new.replace("<end_of_step>", "")
        ends = found[-1][2] != ""
        has_code = new.strip() != "" or (ends and before.strip() != "")
        return before + new if has_code else None, outside, ends

    def value(self, child: ModelNode) -> None:
        """terminal: no value, terminals graded. ppm: PPM score, terminals graded. inference: the PPM values answers too."""
        annotation = self.config.annotation.value
        if child.terminal is Terminal.TOO_DEEP:
            child.terminal_value = -1.0
        elif child.terminal is Terminal.ANSWER and annotation != "inference":
            child.correct = child.answer == KEY
            child.terminal_value = 1.0 if child.correct else -1.0
        elif annotation != "terminal":
            child.score = child.terminal_value = self.script.score(self.question, child.solution)
            self.stats["partials_scored"] += 1
        if annotation != "terminal":
            child.visit(child.terminal_value)  # the step's own visit, on itself only

    def nodes(self) -> list[ModelNode]:
        nodes = [self.root]
        for node in nodes:
            nodes.extend(node.children)
        return nodes


def check(result: SearchResult, model: Model) -> None:
    """The result is the model's to the last bit."""
    tree = result.tree
    assert tree is not None
    expected = model.nodes()
    columns = tree.columns()
    assert [node.tag for node in tree] == [node.tag for node in expected]
    assert [node.text for node in tree] == [node.text for node in expected]
    assert columns["visits"].tolist() == [node.visits for node in expected]
    assert columns["value_sum"].tolist() == [node.value_sum for node in expected]
    assert columns["proposals"].tolist() == [node.proposals for node in expected]
    assert columns["value"].tolist() == [node.first_value for node in expected]
    assert [node.terminal for node in tree] == [node.terminal for node in expected]
    assert [node.observation for node in tree] == [node.observation for node in expected]
    assert [node.answer for node in tree] == [node.answer for node in expected]
    single = [None if node.score is None else float(np.float32(node.score)) for node in expected]
    assert [node.score for node in tree] == single
    check_answers(result, model, {node.tag: score for node, score in zip(expected, single, strict=True)})
    counted = {name: getattr(result.stats, name) for name in model.stats}
    assert counted == dict(model.stats)


def check_answers(result: SearchResult, model: Model, scores: dict[str, float | None]) -> None:
    found = [
        (node, scores[node.tag] if node.correct is None else node.terminal_value)
        for node in model.nodes()
        if node.answer is not None
    ]
    found.sort(key=lambda pair: -(pair[1] or 0.0))
    assert [(t.tag, t.solution, t.answer, t.score, t.correct) for t in result.trajectories] == [
        (node.tag, node.solution, node.answer, score, node.correct) for node, score in found
    ]
    assert [trajectory.share for trajectory in result.trajectories] == pytest.approx([node.share for node, _ in found])
    q_values = [tuple(step.value_sum / step.visits if step.visits else 0.0 for step in node.path) for node, _ in found]
    assert [trajectory.q_values for trajectory in result.trajectories] == q_values
    if not found:
        assert result.failure is not None and result.failure.kind is FailureKind.NO_ANSWER
        assert (result.answer, result.score, result.votes) == (None, None, {})
        return
    votes: dict[str, float] = {}
    for node, score in found:  # the key must not choose: without the PPM's scores, each trajectory has one vote
        weight = (1 + (score or 0.0)) / 2 if node.correct is None else 1.0
        if node.correct is None and model.config.choice is Choice.MARGINAL_VOTE:
            weight *= node.share
        votes[str(node.answer)] = votes.get(str(node.answer), 0.0) + weight
    assert result.failure is None
    assert result.votes == pytest.approx(votes)
    assert list(result.votes.values()) == sorted(result.votes.values(), reverse=True)
    assert result.answer == max(votes, key=lambda answer: votes[answer])  # the first of equals is that of the best score


def search(script: Script, problems: Any, config: SearchConfig, **settings: Any) -> Any:
    """A search with nothing but the script; each question's key is 7."""
    asked = problems if isinstance(problems, list) else [problems]
    answers = {(problem if isinstance(problem, Problem) else Problem(problem)).id: KEY for problem in asked}
    return rstar_fast.search(
        problems,
        policy=script,  # type: ignore[arg-type]
        ppm=script.scorer,
        config=config,
        answers=answers if config.annotation.needs_key else None,
        executor=script,
        **settings,
    )


configs = st.builds(
    SearchConfig,
    annotation=st.sampled_from(["terminal", "ppm", "inference"]),
    rollouts=st.integers(1, 24),
    candidates=st.integers(1, 5),
    first_candidates=st.none() | st.integers(0, 4),
    max_depth=st.integers(1, 6),
    c=st.sampled_from([0.0, 0.7, 2.0]),
    max_consecutive_errors=st.integers(1, 3),
    first_play_urgency=st.sampled_from([0.0, -1.0, 1.0, math.inf]),
    virtual_loss=st.sampled_from([0.0, 1.0]),  # of no effect with one rollout in flight
    choice=st.sampled_from([Choice.WEIGHTED_VOTE, Choice.MARGINAL_VOTE]),
)


@settings(max_examples=150)
@given(seed=st.integers(0, 10**6), config=configs)
def test_with_one_rollout_in_flight_the_search_is_the_model(seed: int, config: SearchConfig) -> None:
    check(search(Script(seed), "a question", config), Model(Script(seed), "a question", config))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    config=configs,
    problems=st.integers(1, 6),
    open_problems=st.integers(1, 4),
    batch=st.integers(1, 3),
)
def test_problems_searched_together_do_not_touch_each_other(
    seed: int, config: SearchConfig, problems: int, open_problems: int, batch: int
) -> None:
    questions = [f"question {number}" for number in range(problems)]
    results = search(Script(seed), questions, config.replace(open_problems=open_problems, batch_leaves=batch))
    assert [result.problem.question for result in results] == questions
    for question, result in zip(questions, results, strict=True):
        check(result, Model(Script(seed), question, config))


def test_the_script_holds_what_it_is_there_for() -> None:
    """Over the seeds, trees have every terminal, steps that only close a block, ties and several attempts."""
    config = SearchConfig(annotation="inference", rollouts=12, candidates=4, first_candidates=0, max_depth=5)
    seen: Counter[Any] = Counter()
    for seed in range(60):
        model = Model(Script(seed), "a question", config)
        seen.update(node.terminal for node in model.nodes())
        seen["closes only"] += sum(
            node.text.lstrip().startswith("<end_of_code>") and node.observation != "" for node in model.nodes()
        )
        seen["two blocks"] += sum(node.solution.count("<code>") > 1 for node in model.nodes())
        seen["attempts"] += max(model.script.asked.values()) > 1
    wanted = [kind for kind in Terminal if kind is not Terminal.EXHAUSTED] + ["closes only", "two blocks", "attempts"]
    assert {str(kind): seen[kind] for kind in wanted if seen[kind] < 10} == {}


# --- many rollouts in flight --------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    config=configs,
    in_flight=st.sampled_from([2, 4, 7]),
    problems=st.integers(1, 5),
    open_problems=st.integers(1, 3),
    batch=st.integers(1, 4),
)
def test_nothing_is_lost_with_many_rollouts_in_flight(
    seed: int, config: SearchConfig, in_flight: int, problems: int, open_problems: int, batch: int
) -> None:
    script = Script(seed)
    config = config.replace(in_flight=in_flight, open_problems=open_problems, batch_leaves=batch)
    results = search(script, [f"question {number}" for number in range(problems)], config)
    assert [result.problem.question for result in results] == [f"question {number}" for number in range(problems)]
    for result in results:
        conserves(result, config)
    # No leaf was expanded twice: its first attempt may have two parts.
    assert max(script.asked.values()) <= config.max_consecutive_errors + (config.sampled_first > 0)


def conserves(result: SearchResult, config: SearchConfig) -> None:
    """Every rollout ended once, at one terminal, and was counted on the way; no virtual visit is left in a count or value."""
    assert result.tree is not None and result.stats.rollouts == config.rollouts
    nodes = list(result.tree)

    def backed_up(node: rstar_fast.Node) -> int:
        has_own_visit = config.annotation.needs_scorer and node.parent is not None
        assert node.visits >= has_own_visit
        return node.visits - has_own_visit

    assert nodes[0].visits == config.rollouts
    for node in nodes:
        assert abs(node.q) <= 1
        assert node.depth <= config.max_depth
        assert not (node.children and node.terminal is not Terminal.NO)
        if node.children:
            assert backed_up(node) == sum(map(backed_up, node.children))
        elif node.terminal is Terminal.NO:
            assert backed_up(node) == 0
    assert sum(backed_up(node) for node in nodes if node.terminal is not Terminal.NO) == config.rollouts
    assert len(result.trajectories) == sum(node.terminal is Terminal.ANSWER for node in nodes)


class Failing(Script):
    """A script of which one in so many calls for a partial fails, in the policy, the scorer or the executor."""

    def fails(self, place: str, *what: str) -> bool:
        return Random(f"{self.seed}|{place}|{what}").random() < 0.04

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        if any(self.fails("policy", partial.problem.question, partial.solution) for partial in partials):
            raise ValueError("a policy's")
        return await super().propose(partials, n)

    def scorer(self, partials: Sequence[Partial]) -> np.ndarray:
        failing = [self.fails("scorer", partial.problem.question, partial.solution) for partial in partials]
        return np.where(failing, np.nan, super().scorer(partials))

    async def run_batch(self, programs: Sequence[Program]) -> list[Execution]:
        if any(self.fails("executor", program.code, program.prefix) for program in programs):
            raise ValueError("an executor's")
        return await super().run_batch(programs)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    config=configs,
    in_flight=st.sampled_from([1, 2, 7]),
    problems=st.integers(1, 8),
    open_problems=st.integers(1, 3),
    batch=st.integers(1, 4),
)
def test_failures_anywhere_cost_the_others_nothing(
    seed: int, config: SearchConfig, in_flight: int, problems: int, open_problems: int, batch: int
) -> None:
    config = config.replace(in_flight=in_flight, open_problems=open_problems, batch_leaves=batch)
    questions = [f"question {number}" for number in range(problems)]
    events: list[rstar_fast.types.ProgressEvent] = []
    results = search(Failing(seed), questions, config, progress=events.append)
    assert [result.problem.question for result in results] == questions
    told = [event.result.problem.question for event in events if isinstance(event, rstar_fast.Finished)]
    assert sorted(told) == questions  # each once
    for result in results:
        if result.failure is None or result.failure.kind is FailureKind.NO_ANSWER:
            conserves(result, config)
        else:
            assert result.failure.kind in (FailureKind.POLICY, FailureKind.SCORER, FailureKind.SANDBOX)
            assert result.tree is not None and result.stats.rollouts <= config.rollouts


# --- single rules of selection ------------------------------------------------------------------------------------------


class Wide:
    """At the root `width` steps that go on; below each an answer. Notes what is asked for in one call."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.calls: list[list[str]] = []

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        self.calls.append([partial.solution for partial in partials])
        first = [Candidate(f"step {number}\n") for number in range(1, self.width + 1)]
        return [[Candidate("\\boxed{7}")] if partial.solution else first for partial in partials]

    def visits(self, scores: dict[str, float], **settings: Any) -> list[int]:
        """The visits of the root's children behind a search with these scores, by solution; 0 without one."""
        result = rstar_fast.search(
            "q",
            policy=self,
            ppm=lambda partials: [scores.get(p.solution, 0.0) for p in partials],
            candidates=self.width,
            first_candidates=0,
            **settings,
        )
        assert result.tree is not None
        return [child.visits for child in result.tree.root.children]


def test_ties_go_to_the_first_child() -> None:
    assert Wide(3).visits({}, rollouts=1) == [2, 1, 1]  # the PPM's own visits, and the rollout
    assert Wide(3).visits({}, rollouts=2, c=0.0) == [3, 1, 1]
    assert Wide(3).visits({"step 2\n": 0.5, "step 3\n": 0.5}, rollouts=1) == [1, 2, 1]


@pytest.mark.parametrize(("urgency", "visits"), [(math.inf, [1, 1, 1]), (0.5, [3, 0, 0]), (-1.0, [3, 0, 0])])
def test_first_play_urgency_is_the_value_of_the_unvisited(urgency: float, visits: list[int]) -> None:
    """Without PPM visits; the first child answers correctly, Q = 1, and without exploration keeps what it has."""
    rules = {"annotation": "terminal", "rollouts": 3, "c": 0.0, "candidates": 3, "first_play_urgency": urgency}
    result = rstar_fast.search(Problem("q", "q"), policy=Wide(3), answers={"q": "7"}, **rules)
    assert result.tree is not None
    assert [child.visits for child in result.tree.root.children] == visits


@pytest.mark.parametrize(("virtual_loss", "together"), [(1.0, ["step 1\n", "step 2\n", "step 3\n"]), (0.0, ["step 1\n"])])
def test_virtual_loss_keeps_rollouts_in_flight_apart(virtual_loss: float, together: list[str]) -> None:
    """Without it, and without exploration, all follow the first to the leaf that it holds, and wait there."""
    policy = Wide(3)
    visits = policy.visits({}, rollouts=3, in_flight=6, c=0.0, virtual_loss=virtual_loss)
    assert policy.calls[:2] == [[""], together]
    assert sum(visits) == 3 + 3
