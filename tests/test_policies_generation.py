"""Rows that share prompts, join and leave: the decoder against the models themselves, samples against those of a plain loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sampling import ARCHITECTURES, MIDDLE, OFTEN, PARTIALS, keys, model_of, plainly, prompts_of, random_model, same, sampled

from rstar_fast.policies import generation, graphs, groups
from rstar_fast.policies import prompts as batches_of_prompts
from rstar_fast.policies import sampler as sampling_loop
from rstar_fast.policies.decoder import Decoder
from rstar_fast.policies.generation import SharedRows
from rstar_fast.policies.prompt_cache import PromptCache
from rstar_fast.policies.sampler import Ask, Sampler
from rstar_fast.types import Candidate, Partial

pytestmark = pytest.mark.usefixtures("one_thread")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 40,
}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 2.0, "original_max_position_embeddings": 80}
DECODED: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "qwen2, tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2, yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "llama": ("Llama", {"num_key_value_heads": 4}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
    "llama, llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 24}),
    "phi3": ("Phi3", {}),
}
NOT_DECODED: dict[str, tuple[str, dict[str, Any]]] = {
    "windows": ("Mistral", {"sliding_window": 12}),
    "a layer with a window": ARCHITECTURES["qwen2, a layer with a window"],
    "capped scores": ARCHITECTURES["gemma2, capped scores"],
    "positions that depend on the length": (
        "Llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}},
    ),
    "heads rotated in part": (
        "Phi3",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}},
    ),
    "another activation": ("Llama", {"hidden_act": "gelu"}),
}


@pytest.mark.parametrize("name", DECODED)
def test_the_decoder_computes_what_the_model_does(name: str) -> None:
    model = model_of(*DECODED[name])
    for parameter in model.parameters():  # norms and biases are ones and zeros at first
        torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.3)
    ids = torch.randint(0, 90, (1, 70))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits[0]
        decoder = Decoder.of(model)
        assert decoder is not None

        def attend(layer: int, queries: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            heads = [x.transpose(0, 1)[None] for x in (queries, *others)]
            return (
                torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True)[0]
                .transpose(0, 1)
                .flatten(1)
            )

        for _ in range(2):  # with the table of rotations made, and found
            mine = model.lm_head(decoder(ids[0], torch.arange(70), attend))
            torch.testing.assert_close(mine, expected, atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(model(input_ids=ids).logits[0], expected)  # its own matrices are parts of those joined
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(
        p.numel() for p in model_of(*DECODED[name]).parameters()
    )


@pytest.mark.parametrize("name", NOT_DECODED)
def test_models_that_are_computed_otherwise_have_no_decoder(name: str) -> None:
    assert Decoder.of(model_of(*NOT_DECODED[name])) is None


def test_a_model_that_is_not_on_one_device_in_one_form_has_no_decoder() -> None:
    for change in (lambda model: model.model.layers[1].to("meta"), lambda model: model.model.layers[1].to(torch.float64)):
        model = model_of("Qwen2", {})
        change(model)
        assert Decoder.of(model) is None


def test_a_model_with_an_adapter_has_no_decoder() -> None:
    model = model_of("Qwen2", {})
    projection = model.model.layers[1].self_attn.q_proj
    model.model.layers[1].self_attn.q_proj = torch.nn.Sequential(projection, torch.nn.Identity())
    assert Decoder.of(model) is None


# Rows that join and leave


class Replays:
    """In the place of CUDA graphs: a step told in numbers, in the memory in which it was captured; the next overwrites its result."""

    def __init__(self) -> None:
        self.shapes = self.steps = 0
        self.seen: list[tuple[int, ...]] = []  # where the keys and values of each layer's attention are

    def __call__(self, compute: graphs.Compute, numbers: np.ndarray) -> Callable[[np.ndarray], torch.Tensor]:
        self.shapes += 1
        captured = self._memory(compute, numbers)
        kept: list[torch.Tensor] = []

        def replay(told: np.ndarray) -> torch.Tensor:
            assert told.dtype == np.int64 and len(told) == len(numbers)
            assert self._memory(compute, told) == captured
            logits = compute(torch.from_numpy(told))
            if kept:
                kept[0].copy_(logits)
            else:
                kept.append(logits)
            self.steps += 1
            return kept[0]

        return replay

    def _memory(self, compute: graphs.Compute, numbers: np.ndarray) -> list[tuple[int, ...]]:
        self.seen.clear()
        compute(torch.from_numpy(numbers))
        return list(self.seen)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Replays:
    """All short rows' steps are replayed."""
    made = Replays()
    attend, prepare = groups.Step.attend, Decoder.prepare

    def seen(self: groups.Step, *given: Any) -> torch.Tensor:
        made.seen.append((self.before.data_ptr(), self.own.data_ptr(), *self.before.shape, *self.own.shape))
        return attend(self, *given)

    def prepared(self: Decoder, end: int) -> tuple[int, int]:
        made.seen.append(prepare(self, end))
        return made.seen[-1]  # type: ignore[return-value]

    monkeypatch.setattr(groups.Step, "attend", seen)
    monkeypatch.setattr(Decoder, "prepare", prepared)
    monkeypatch.setattr(graphs, "_OFTEN", 1)
    monkeypatch.setattr(sampling_loop, "SharedRows", lambda *given: SharedRows(*given[:3], graphs.Graphs(made)))
    return made


@pytest.mark.parametrize("name", ["qwen2", "llama", "phi3"])
@pytest.mark.parametrize("seed", range(4))
def test_rows_whose_steps_are_replayed_have_the_same_samples(
    name: str, seed: int, tokenizer: Any, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_rows_that_join_and_leave_change_no_sample(name, seed, tokenizer, monkeypatch)
    assert replays.shapes > 1 and replays.steps > 10


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["qwen2", "llama", "phi3"])
def test_cuda_graphs_change_no_sample(name: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_OFTEN", 2)
    monkeypatch.setattr(generation, "_SHORT", 12)
    prompts = prompts_of(tokenizer) * 8
    of_prompt = [keys(3, i) for i in range(len(prompts))]
    plain, graphed = (
        Sampler(random_model(name).to("cuda"), tokenizer, OFTEN[-1:], 1.0, 1.0, 0, cuda_graphs=cuda_graphs)
        for cuda_graphs in (False, True)
    )
    for _ in range(3):  # of the second time all shapes are known
        for mine, expected in zip(
            sampled(graphed, prompts, of_prompt, 20), sampled(plain, prompts, of_prompt, 20), strict=True
        ):
            same(mine, expected)
    assert graphed._graphs is not None and graphed._graphs._captured


def test_what_cannot_be_captured_is_computed_step_by_step(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> Any:
        raise RuntimeError("an operation that no graph has")

    monkeypatch.setattr(graphs, "_OFTEN", 2)
    monkeypatch.setattr(sampling_loop, "SharedRows", lambda *given: SharedRows(*given[:3], graphs.Graphs(failing)))
    test_rows_that_join_and_leave_change_no_sample("qwen2", 0, tokenizer, monkeypatch)
    assert len(caplog.records) == 1 and "an operation that no graph has" in caplog.text


def test_graphs_that_are_not_used_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_OFTEN", 2)
    monkeypatch.setattr(graphs, "_MOST", 3)
    captured: list[int] = []

    def capture(compute: graphs.Compute, numbers: np.ndarray) -> Callable[[np.ndarray], torch.Tensor]:
        captured.append(int(numbers[0]))
        return lambda told: compute(torch.from_numpy(told))

    made = graphs.Graphs(capture)

    def step(shape: int) -> torch.Tensor | None:
        return made.logits(shape, lambda told: torch.ones(4, 8), np.array([shape]))

    assert step(1) is None and step(1) is not None and captured == [1]
    for shape in (2, 2, 3, 3, 1, 4, 4):
        step(shape)
    assert captured == [1, 2, 3, 4] and step(1) is not None and step(2) is None and captured == [1, 2, 3, 4]
    monkeypatch.setattr(graphs, "_MOST_BYTES", 200)  # of two of them
    assert step(5) is None and step(5) is not None and step(1) is None and step(5) is not None
    made.forget()
    assert step(5) is None


@given(st.integers(1, 5000), st.integers(0, 5))
def test_sizes_are_rounded_up_to_few(count: int, power: int) -> None:
    least = 1 << power
    size = groups._rounded(count, least)
    assert size >= count and (size == least or 2 * size <= 3 * count + 2 * least)
    assert size in {least << k for k in range(14)} | {3 * least << k >> 1 for k in range(14)}


@pytest.mark.parametrize("name", ["qwen2", "llama", "phi3", "phi3, sliding window"])
@pytest.mark.parametrize("seed", range(4))
def test_rows_that_join_and_leave_change_no_sample(
    name: str, seed: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples asked for at any time, in more groups than there is room for; some are dropped, many become stragglers."""
    monkeypatch.setattr(generation, "_SHORT", 4)
    monkeypatch.setattr(generation, "WIDEST", 2)
    random = np.random.default_rng(seed)
    model = random_model(name)
    oracle = copy.deepcopy(model)
    sampler = Sampler(model, tokenizer, OFTEN, 1.0, 1.0, 0, PromptCache(10**6), max_rows=int(random.integers(3, 12)))
    prompts = [np.array(prompt, np.int32) for prompt in prompts_of(tokenizer)]
    asks = [
        Ask(
            prompts[random.integers(3)][: random.integers(5, 200)],
            keys(int(random.integers(0, 5)), i),
            int(random.integers(1, 16)),
        )
        for i in range(12)
    ]
    came: dict[Ask, dict[int, Candidate]] = {ask: {} for ask in asks}
    waiting, dropped = list(asks), set()
    while waiting or sampler.is_busy:
        if waiting and random.random() < 0.4:
            sampler.add([waiting.pop() for _ in range(min(len(waiting), int(random.integers(1, 4))))])
        if random.random() < 0.05:
            dropped.add(asks[random.integers(12)])
            sampler.drop({ask for ask in dropped if ask not in waiting})
        for ask, number, candidate in sampler.step():
            assert number not in came[ask]
            came[ask][number] = candidate
    for ask in asks:
        if ask not in dropped or len(came[ask]) == len(ask.keys):
            assert sorted(came[ask]) == list(range(len(ask.keys)))
        expected = [plainly(oracle, tokenizer, ask.prompt.tolist(), ask.keys[i], OFTEN, ask.max_tokens) for i in came[ask]]
        same(list(came[ask].values()), expected)
    assert sorted(sampler._free) == list(range(len(sampler._free))) and not sampler._asks


@pytest.fixture
def overflowing() -> tuple[SharedRows, int]:
    """Rows of a model, and a token whose numbers are none."""
    model = model_of("Llama", {})
    with torch.no_grad():
        model.model.embed_tokens.weight[89] = float("inf")
    decoder = Decoder.of(model)
    assert decoder is not None
    return SharedRows(decoder, model.lm_head, None), 89


def joined(rows: SharedRows, *lengths: int) -> None:
    """Rows behind prompts of these lengths, a row each."""
    first = int(rows.names.max(initial=-1)) + 1
    prompts = [np.arange(1, length + 1, dtype=np.int32) % 80 for length in lengths]
    rows.join(prompts, [np.array([first + i]) for i in range(len(lengths))], [None] * len(lengths))


@pytest.mark.parametrize("replayed", [False, True])
@torch.inference_mode()
def test_what_is_no_number_is_gone_with_its_row(overflowing: tuple[SharedRows, int], replays: Replays, replayed: bool) -> None:
    rows, bad = overflowing
    rows._graphs = graphs.Graphs(replays) if replayed else None
    joined(rows, 5, 3)
    for _ in range(6):
        rows.advance(np.array([4, bad]))
    assert rows.logits.isfinite().all(-1).tolist() == [True, False]
    rows.leave(np.array([1]))
    joined(rows, 4)
    rows.advance(np.array([4, 4]))
    assert rows.logits.isfinite().all()


@torch.inference_mode()
def test_room_is_for_what_is_there_now(overflowing: tuple[SharedRows, int]) -> None:
    rows, _ = overflowing
    joined(rows, *[10] * 100)
    rows.leave(np.arange(99))
    joined(rows, 400)
    assert rows._short._before.shape[1] < 10
    rows.leave(np.array([0, 1]))
    assert rows._short._before.numel() == 0 and rows._short._own.numel() == 0


@given(st.data())
def test_those_that_stay_keep_their_places(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 20))
    gone = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1)))) if count else [], np.int64)
    order = groups.filled_up(count, gone)
    assert sorted(order) == sorted(set(range(count)) - set(gone.tolist()))
    assert all(order[i] == i for i in range(len(order)) if i not in gone)


# Prompts of which something is known


def grown(tokenizer: Any, partial: Partial, steps_: Sequence[str]) -> list[list[int]]:
    """The prompts of a partial and of each one step longer."""
    return [
        prompts_of(tokenizer, [Partial(partial.problem, partial.solution + "".join(steps_[:n]))])[0]
        for n in range(len(steps_) + 1)
    ]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("room", "most"), [(0, 1 << 24), (20_000, 1 << 24), (10**9, 1 << 24), (10**9, 5_000), (0, 0)])
def test_neither_what_is_known_of_prompts_nor_how_they_are_batched_changes_a_sample(
    name: str, room: int, most: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_of_prompts, "_NEW_ALONE", ())
    monkeypatch.setattr(batches_of_prompts, "_MOST_SCORES", most)
    plain = Sampler(random_model(name), tokenizer, OFTEN, 1.0, 1.0, 0)
    sampler = Sampler(random_model(name), tokenizer, OFTEN, 1.0, 1.0, 0, PromptCache(room))
    branches = [grown(tokenizer, partial, ["x = 4\n<end_of_step>\n", "y = 5 * x\n<end_of_step>\n"]) for partial in PARTIALS]
    longer, other = branches[0][1] + [9, 9], branches[0][0] + [8]
    asked = [  # of each call the prompts and whose they are: they grow from call to call
        [(0, branches[0][0]), (0, branches[0][0])],
        [(0, branches[0][1]), (1, branches[1][0]), (1, branches[1][1]), (2, branches[2][0])],
        [(1, branches[1][2]), (0, longer), (2, branches[2][2]), (0, other)],
    ]
    for number, call in enumerate(asked):
        of_call, prompts = zip(*call, strict=True)
        of_prompt = [keys(2, 10 * number + i) for i in range(len(prompts))]
        for mine, expected in zip(
            sampled(sampler, prompts, of_prompt, 9, of_call), sampled(plain, prompts, of_prompt, 9), strict=True
        ):
            same(mine, expected)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 400), st.booleans()), min_size=1, max_size=40), st.integers(0, 10**6))
def test_batches_of_prompts_hold_all_and_are_bounded(prompts: list[tuple[int, int, bool]], most: int) -> None:
    new, known, alone = map(np.array, zip(*prompts, strict=True))
    lengths = new + known
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_of_prompts, "_MOST_SCORES", most)
        batches = batches_of_prompts._alike(new, lengths, 4, alone)
    assert sorted(np.concatenate(batches)) == list(range(len(prompts)))
    for batch in batches:
        padded = len(batch) * int(new[batch].max()) * int(lengths[batch].max())
        assert len(batch) == 1 or (4 * padded <= most and not alone[batch].any())
        assert padded <= 2 * int((new * lengths)[batch].sum())
    like = (new == new[0]) & (lengths == lengths[0])
    if like.all() and not alone.any() and 4 * len(prompts) * new[0] * lengths[0] <= most:
        assert len(batches) == 1


def test_of_a_longer_prompt_only_what_is_new_is_computed(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(random_model("qwen2"), tokenizer, OFTEN, 1.0, 1.0, 0, PromptCache(10**9))
    first, second, third = grown(tokenizer, MIDDLE, ["x = 4\n<end_of_step>\n", "y = 5 * x\n<end_of_step>\n"])
    passes: list[int] = []
    decode = Decoder.__call__

    def seen(self: Decoder, ids: torch.Tensor, *others: Any) -> torch.Tensor:
        passes.append(len(ids))
        return decode(self, ids, *others)

    def computed(prompts: list[list[int]], owners: list[str]) -> list[int]:
        passes.clear()
        sampled(sampler, prompts, [keys(1)] * len(prompts), 1, owners)
        return list(passes)

    monkeypatch.setattr(Decoder, "__call__", seen)
    assert computed([first], ["a"]) == [len(first)]
    assert computed([first, third], ["a", "a"]) == [1 + len(third) - len(first)]  # the first's last token: for its logits
    assert computed([second], ["b"]) == [len(second)]  # of another owner
    assert computed([second, third, third], ["a", "b", "c"]) == [2 * len(third) - len(first)]


def test_of_a_part_only_itself_is_remembered() -> None:
    whole = torch.arange(2 * 5 * 40 * 2.0).view(2, 5, 40, 2)
    cache = PromptCache(2 * whole[:, :1].nbytes)
    cache.add("a", np.arange(40, dtype=np.int32), whole[:, 1:2])
    found = cache.longest("a", np.arange(41, dtype=np.int32))
    assert found is not None and torch.equal(found, whole[:, 1:2]) and found.untyped_storage().nbytes() == whole[:, :1].nbytes
    alone = torch.ones(2, 1, 40, 2)
    cache.add("b", np.arange(40, dtype=np.int32), alone)
    found = cache.longest("b", np.arange(41, dtype=np.int32))
    assert found is not None and found.data_ptr() == alone.data_ptr()


@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 1), min_size=1, max_size=6)), max_size=30),
    st.integers(0, 400),
)
def test_the_longest_beginning_is_found_and_the_room_is_kept(asked: list[tuple[int, list[int]]], room: int) -> None:
    """Against a list in order of use."""
    cache = PromptCache(room)
    known: list[tuple[int, list[int]]] = []  # the least recently used first
    for owner, tokens in asked:
        found = cache.longest(owner, np.array(tokens, np.int32))
        begins = [entry for entry in known if entry[0] == owner and entry[1] == tokens[: len(entry[1])]]
        if begins:
            longest = max(begins, key=lambda entry: len(entry[1]))
            known.remove(longest)
            known.append(longest)
            length = min(len(longest[1]), len(tokens) - 1)
            if length:
                assert found is not None and found[0, 0, :, 0].tolist() == longest[1][:length]
        if not begins or len(tokens) == 1:
            assert found is None
        tensor = torch.tensor(tokens, dtype=torch.float32).view(1, 1, -1, 1).expand(2, 1, -1, 2).clone()  # 16 bytes a token
        cache.add(owner, np.array(tokens, np.int32), tensor)
        if (owner, tokens) not in known and 16 * len(tokens) <= room:
            known.append((owner, tokens))
            while sum(16 * len(text) for _, text in known) > room:
                known.pop(0)
    kept = {(owner, key) for owner, of_owner in cache._of_owner.items() for key in of_owner}
    assert kept == {(owner, np.array(tokens, np.int32).tobytes()) for owner, tokens in known} == set(cache._tensors)
