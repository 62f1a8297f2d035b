"""The PPM's scoring on a GPU: checked, then timed: python benchmarks/bench_gpu.py [--tiny] [--only 1.5B]

Models in the shape of Qwen2.5 1.5B and 7B, random, bfloat16; 16 problems of 32 siblings of 80 tokens after 1,000 that they share:

  padded        transformers with SDPA, each sibling with its whole prefix, in padded batches of like lengths
  flex          the packed token trees of ours through flex_attention, compiled, with the same mask
  token trees   rstar_fast.ppm.PpmScorer with the Triton kernels

The ways must agree. The model's rate is given against the measured rate of matrix products, tree_attention's against that of
FlashAttention (SDPA's) over the same keys and queries. Writes results/gpu.json and prints a table; --tiny runs all on any device with small
shapes, to test the script itself, and writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from bench import write
from rstar_fast.kernels.token_tree import TokenTree
from rstar_fast.kernels.tree_attention import Tiling
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, Qwen2Config, Qwen2ForSequenceClassification

from rstar_fast import kernels
from rstar_fast.kernels import reference
from rstar_fast.ppm.scorer import PpmScorer
from rstar_fast.ppm.scores import text_of
from rstar_fast.types import Partial, Problem


@dataclass(frozen=True)
class Shape:
    """What is measured."""

    problems: int
    siblings: int
    prefix: int
    step: int
    batch_tokens: int


FULL, TINY = Shape(16, 32, 1000, 80, 65_536), Shape(2, 3, 20, 5, 64)
MODELS: dict[str, dict[str, int]] = {
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2},
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4},
}
TINY_MODEL = {"hidden_size": 256, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
VOCABULARY = 4096  # the embedding computes nothing: a small one leaves memory
HEAD_SIZE = 64, 80, 96, 128


class Numbers:
    """A tokenizer of texts that are numbers. It keeps what it has read: the other ways get tokens, and no way's time holds this."""

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[np.ndarray]]:
        for text in texts:
            if text not in self._kept:
                self._kept[text] = np.array(re.findall(r"\d+", text), np.int32)
        return {"input_ids": [self._kept[text] for text in texts]}


def model_of(sizes: dict[str, int], device: str, dtype: torch.dtype) -> Qwen2ForSequenceClassification:
    config = Qwen2Config(vocab_size=VOCABULARY, max_position_embeddings=4096, num_labels=1, pad_token_id=0, **sizes)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Qwen2ForSequenceClassification(config).eval()
    finally:
        torch.set_default_dtype(before)
    return model


def partials_of(shape: Shape, seed: int = 0) -> list[Partial]:
    draw = np.random.default_rng(seed)

    def text(count: int) -> str:
        return " ".join(map(str, draw.integers(1, VOCABULARY, count)))

    found = []
    for problem in range(shape.problems):
        question = Problem(text(1), id=f"p{problem}")
        prefix = text(shape.prefix - 1)
        # Siblings part at their first token.
        found += [Partial(question, f" {prefix} {sibling + 1} {text(shape.step - 1)}") for sibling in range(shape.siblings)]
    return found


def seconds_of(run: Callable[[], Any], device: str, repeats: int) -> list[float]:
    """Wall-clock seconds of each of some runs after one that does not count."""
    found = []
    for _ in range(repeats + 1):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        found.append(time.perf_counter() - started)
    return found[1:]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# The ways


@torch.inference_mode()
def score_padded(model: Qwen2ForSequenceClassification, rows: torch.Tensor, batch_tokens: int, scale: float) -> np.ndarray:
    """Sequences of one length: no padding is needed, which is the padded way at its best."""
    scores = []
    for batch in rows.split(max(1, batch_tokens // rows.shape[1])):
        hidden = model.base_model(input_ids=batch, use_cache=False).last_hidden_state[:, -1]
        scores.append(torch.tanh(model.score(hidden)[:, 0].float() / scale))
    return torch.cat(scores).cpu().numpy()


def flex_scorer(model: Qwen2ForSequenceClassification, shape: Shape, rows: torch.Tensor, scale: float) -> Callable[[], np.ndarray]:
    """The packed trees of all problems in one pass through flex_attention, as little as it needs: the mask is made once."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    device, length = rows.device, shape.prefix + shape.siblings * shape.step
    tree_of = torch.arange(shape.problems * length, device=device) // length
    place = torch.arange(shape.problems * length, device=device) % length
    step_of = torch.where(place < shape.prefix, -1, (place - shape.prefix) // shape.step)
    position = torch.where(step_of < 0, place, shape.prefix + (place - shape.prefix) % shape.step)

    def sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (tree_of[query] == tree_of[key]) & (key <= query) & ((step_of[key] < 0) | (step_of[key] == step_of[query]))

    total = shape.problems * length
    mask = torch.compile(create_block_mask)(sees, 1, None, total, total, device=device)  # uncompiled it makes all of it
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, scaling: float | None = None, **_: Any) -> Any:
        return compiled(query, key, value, block_mask=mask, scale=scaling, enable_gqa=True).transpose(1, 2), None

    AttentionInterface.register("bench_flex", attend)
    by_tree = rows.view(shape.problems, shape.siblings, -1)
    tokens = torch.cat([by_tree[:, 0, : shape.prefix], by_tree[:, :, shape.prefix :].flatten(1)], 1).flatten()
    ends = (step_of >= 0) & (position == shape.prefix + shape.step - 1)

    @torch.inference_mode()
    def score() -> np.ndarray:
        model.config._attn_implementation = "bench_flex"
        try:
            hidden = model.base_model(input_ids=tokens[None], position_ids=position[None], use_cache=False).last_hidden_state[0]
        finally:
            model.config._attn_implementation = "sdpa"
        return torch.tanh(model.score(hidden[ends])[:, 0].float() / scale).cpu().numpy()

    return score


# Rates


def products_rate(sizes: dict[str, int], tokens: int, device: str, dtype: torch.dtype) -> float:
    """FLOP/s of the model's own largest matrix product, on so many tokens."""
    a = torch.randn(tokens, sizes["hidden_size"], device=device, dtype=dtype)
    b = torch.randn(sizes["hidden_size"], sizes["intermediate_size"], device=device, dtype=dtype)
    seconds = statistics.median(seconds_of(lambda: [a @ b for _ in range(10)], device, 5)) / 10
    return 2 * tokens * sizes["hidden_size"] * sizes["intermediate_size"] / seconds


def flops_of(model: Qwen2ForSequenceClassification, shape: Shape) -> tuple[float, float]:
    """FLOPs of scoring all trees, each token once: of the matrix products, and of attention."""
    weights = sum(parameter.numel() for name, parameter in model.named_parameters() if "proj" in name and parameter.dim() == 2)
    tokens = shape.problems * (shape.prefix + shape.siblings * shape.step)
    return 2.0 * weights * tokens, model.config.num_hidden_layers * attention_flops(model, shape)


def attention_flops(model: Qwen2ForSequenceClassification, shape: Shape) -> float:
    """Of one layer: 4 x head size x heads for each token and each token that it sees."""
    of_prefix = shape.prefix * (shape.prefix + 1) / 2
    of_steps = shape.siblings * shape.step * (shape.prefix + (shape.step + 1) / 2)
    return 4.0 * model.config.hidden_size * shape.problems * (of_prefix + of_steps)


def steps_after_prefixes(
    heads: int, key_heads: int, size: int, shape: Shape, device: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, TokenTree]:
    """What `tree_attention` takes for the steps of all trees, their prefixes computed before."""
    per_tree = shape.prefix + shape.siblings * shape.step
    pages = -(-shape.problems * per_tree // 16)
    keys, values = (torch.randn(pages, 16, key_heads, size, device=device, dtype=dtype) for _ in range(2))
    queries = shape.siblings * shape.step
    query = torch.randn(shape.problems * queries, heads, size, device=device, dtype=dtype)
    slots = torch.arange(shape.problems * per_tree, dtype=torch.int32).view(shape.problems, per_tree)
    segments = shape.problems * shape.siblings
    tree = TokenTree(
        starts=torch.arange(0, segments * shape.step + 1, shape.step, dtype=torch.int32),
        slots=slots[:, shape.prefix :].flatten(),
        paths=slots[:, : shape.prefix].flatten(),
        path_starts=torch.arange(segments, dtype=torch.int32) // shape.siblings * shape.prefix,
        path_lengths=torch.full((segments,), shape.prefix, dtype=torch.int32),
        longest=shape.step,
    )
    return query, keys, values, tree.to(device)


def attention_alone(model: Qwen2ForSequenceClassification, shape: Shape, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """tree_attention of the steps after computed prefixes, and SDPA's FlashAttention of the same queries over the prefixes."""
    config = model.config
    heads, key_heads, size = config.num_attention_heads, config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    query, keys, values, tree = steps_after_prefixes(heads, key_heads, size, shape, device, dtype)
    queries = shape.siblings * shape.step
    ours = seconds_of(lambda: kernels.tree_attention(query, keys, values, tree), device, 10)
    flops = 4.0 * size * heads * shape.problems * queries * (shape.prefix + (shape.step + 1) / 2)
    # The same queries over the prefixes, dense: what FlashAttention is best at.
    q = query.view(shape.problems, queries, heads, size).transpose(1, 2).contiguous()
    k = torch.randn(shape.problems, key_heads, shape.prefix, size, device=device, dtype=dtype)
    backends = [SDPBackend.FLASH_ATTENTION] if device == "cuda" else [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]
    with sdpa_kernel(backends):
        dense = seconds_of(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k, enable_gqa=True), device, 10)
    dense_flops = 4.0 * size * heads * shape.problems * queries * shape.prefix
    rate, dense_rate = flops / statistics.median(ours), dense_flops / statistics.median(dense)
    return {"seconds": ours, "tflops": rate / 1e12, "flash_seconds": dense, "flash_tflops": dense_rate / 1e12, "share": rate / dense_rate}


def tilings(shape: Shape, device: str, dtype: torch.dtype, seconds: float) -> list[dict[str, Any]]:
    """tree_attention's TFLOP/s with other tilings than the one it chooses, which comes first; until the time is up."""
    module = cast(Any, sys.modules["rstar_fast.kernels.tree_attention"])  # rstar_fast.kernels has a function of this name
    chosen = module.tiling
    end = time.monotonic() + seconds
    found = []
    for size in (64, 128):
        heads, key_heads = 12, 2
        query, keys, values, tree = steps_after_prefixes(heads, key_heads, size, shape, device, dtype)
        run = partial(kernels.tree_attention, query, keys, values, tree)
        flops = 4.0 * size * heads * shape.problems * shape.siblings * shape.step * (shape.prefix + (shape.step + 1) / 2)
        own = chosen(dtype, size, tree.longest * heads // key_heads, module._capability(query.device))
        others = [
            Tiling(rows, columns, warps, stages)
            for stages in (4, 3, 2)
            for columns in (32, 64, 128)
            for rows, warps in ((64, 4), (128, 8), (128, 4), (256, 8))
        ]
        for cut in [own, *(other for other in others if other != own)]:
            if time.monotonic() > end:
                return found
            module.tiling = lambda *_, cut=cut: cut
            try:
                times = seconds_of(run, device, 10)
                found.append({"size": size, **asdict(cut), "tflops": flops / statistics.median(times) / 1e12})
                print(found[-1], flush=True)
            except Exception as error:  # too large for the device, say
                found.append({"size": size, **asdict(cut), "error": f"{type(error).__name__}: {str(error)[:100]}"})
            finally:
                module.tiling = chosen
    return found


# Checks


def check_kernels(device: str) -> list[dict[str, Any]]:
    """Largest difference of each kernel from the reference in float32, for dtypes and head sizes."""
    rows = []
    draw = torch.Generator().manual_seed(1)
    tree = TokenTree(
        starts=torch.tensor([0, 70, 71, 200], dtype=torch.int32),
        slots=torch.randperm(400, generator=draw)[:200].int() + 300,
        paths=torch.randperm(300, generator=draw)[:257].int(),
        path_starts=torch.tensor([0, 0, 100], dtype=torch.int32),
        path_lengths=torch.tensor([0, 100, 157], dtype=torch.int32),
        longest=129,
    )
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for size in HEAD_SIZE:
            query, keys, values = (
                torch.randn(*shape, generator=draw).to(dtype) for shape in ((200, 6, size), (44, 16, 2, size), (44, 16, 2, size))
            )
            for window in (None, 50):
                expected = reference.tree_attention(query.float(), keys.float(), values.float(), tree, window=window)
                found = kernels.tree_attention(query.to(device), keys.to(device), values.to(device), tree.to(device), window=window)
                rows.append(_row("tree_attention", dtype, f"head size {size}, window {window}", found, expected))
        hidden, weight, bias = torch.randn(50, 1000, generator=draw).to(dtype), torch.randn(1000, generator=draw).to(dtype), torch.ones(1)
        at = torch.randint(50, (33,), generator=draw)
        expected = reference.value_head(hidden, at, weight / 30, 5.0, bias)
        found = kernels.value_head(hidden.to(device), at.to(device), (weight / 30).to(device), 5.0, bias.to(device))
        rows.append(_row("value_head", dtype, "hidden size 1000", found, expected))
    return rows


def _row(kernel: str, dtype: torch.dtype, case: str, found: torch.Tensor, expected: torch.Tensor) -> dict[str, Any]:
    most = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}[dtype]
    difference = float((found.cpu().float() - expected.float()).abs().max())
    assert difference <= most, f"{kernel} of {dtype}, {case}: {difference} from the reference"
    return {"kernel": kernel, "dtype": str(dtype), "case": case, "difference": difference}


def clocks() -> str:
    query = "name,clocks.sm,clocks.max.sm,clocks.mem,power.limit,driver_version"
    done = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True)
    return done.stdout.strip()


def measure(name: str, sizes: dict[str, int], shape: Shape, device: str, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    model = model_of(sizes, device, dtype)
    partials = partials_of(shape)
    tokens = shape.problems * (shape.prefix + shape.siblings * shape.step)
    rows = torch.from_numpy(np.stack(Numbers()([text_of(each) for each in partials])["input_ids"]).astype(np.int64)).to(device)
    times: dict[str, list[float]] = {}
    scores: dict[str, np.ndarray] = {}

    with asyncio.Runner() as runner:
        scorer = PpmScorer(model, Numbers(), batch_tokens=shape.batch_tokens, kept_tokens=2 * tokens)  # type: ignore[arg-type]

        def ours() -> None:
            for problem in {each.problem for each in partials}:
                scorer.release(problem)  # all is to be computed
            scores["token trees"] = runner.run(scorer.score(partials))

        times["token trees"] = seconds_of(ours, device, repeats)
        assert scorer.stats.tokens_computed == (repeats + 1) * tokens, "a token was computed twice, or not at all"

        def padded() -> None:
            scores["padded"] = score_padded(model, rows, shape.batch_tokens, 5.0)

        times["padded"] = seconds_of(padded, device, max(1, repeats // 2))
        try:
            flex = flex_scorer(model, shape, rows, 5.0)

            def through_flex() -> None:
                scores["flex"] = flex()

            times["flex"] = seconds_of(through_flex, device, repeats)
        except Exception as error:  # a comparison: its absence is told, and does not end the run
            print(f"flex_attention: {type(error).__name__}: {str(error)[:200]}")
    differences = {way: float(np.abs(found - scores["padded"]).max()) for way, found in scores.items()}
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    assert differences["token trees"] < tolerance, differences
    products, attending = flops_of(model, shape)
    rate = products_rate(sizes, min(shape.batch_tokens, tokens), device, dtype)
    median = {way: statistics.median(found) for way, found in times.items()}
    return {
        "model": name,
        "tokens": tokens,
        "seconds": times,
        "differences": differences,
        "over_padded": median["padded"] / median["token trees"],
        "over_flex": median["flex"] / median["token trees"] if "flex" in median else None,
        "products_tflops": rate / 1e12,
        "share_of_products": (products + attending) / median["token trees"] / rate,
        "attention": attention_alone(model, shape, device, dtype),
    }


def profiled(sizes: dict[str, int], shape: Shape, device: str, dtype: torch.dtype) -> str:
    """Where the time of one scoring goes, by operation."""
    model = model_of(sizes, device, dtype)
    scorer = PpmScorer(model, Numbers(), batch_tokens=shape.batch_tokens)  # type: ignore[arg-type]
    partials = partials_of(shape)
    scorer._score(partials[: shape.siblings])
    with torch.profiler.profile() as profile:
        scorer._score(partials)
    order = "self_cuda_time_total" if device == "cuda" else "self_cpu_time_total"
    return str(profile.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=60))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small shapes, on any device; writes nothing")
    parser.add_argument("--only", choices=MODELS, help="one model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tilings", type=float, default=0, metavar="SECONDS", help="try other tilings of tree_attention for so long")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not given.tiny:
        parser.error("torch finds no GPU here: give --tiny to test the script itself")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    shape = TINY if given.tiny else FULL
    models = {"tiny": TINY_MODEL} if given.tiny else {name: sizes for name, sizes in MODELS.items() if given.only in (None, name)}
    started = time.time()
    row: dict[str, Any] = {"shape": asdict(shape), "checks": check_kernels(device)}
    if device == "cuda":
        row |= {"device": clocks(), "cuda": torch.version.cuda, "triton": _version("triton")}
    row["models"] = []
    for name, sizes in models.items():
        found = measure(name, sizes, shape, device, dtype, 1 if given.tiny else given.repeats)
        row["models"].append(found)
        alone = found["attention"]
        flex = f"{found['over_flex']:.2f}" if found["over_flex"] is not None else "not run"
        print(
            f"{name}: {statistics.median(found['seconds']['token trees']):.3f} s; padded / ours {found['over_padded']:.2f}, flex / ours {flex}; "
            f"{100 * found['share_of_products']:.0f}% of {found['products_tflops']:.1f} TFLOP/s; tree_attention {alone['tflops']:.1f} TFLOP/s, "
            f"{100 * alone['share']:.0f}% of flash; differences {found['differences']}",
            flush=True,
        )
    if device == "cuda":
        torch.cuda.empty_cache()
        row["profile"] = profiled(next(iter(models.values())), shape, device, dtype)
        print(row["profile"])
        row["clocks_after"] = clocks()
    row["took_s"] = round(time.time() - started)
    print(json.dumps(row["checks"][:1]), f"{len(row['checks'])} checks, {row['took_s']} s")
    if not given.tiny:
        print(write("gpu", row))
    if given.tilings:
        row["tilings"] = tilings(shape, device, dtype, given.tilings)
        if not given.tiny:
            write("gpu", row)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


if __name__ == "__main__":
    main()
