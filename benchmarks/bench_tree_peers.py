"""The search tree beside mctx, which searches a batch of trees in lockstep under jax: the same work, in one run.

    pip install mctx && python benchmarks/bench_tree_peers.py [--runs N]

Both search trees of 32 children a node to a depth of 16, 64 simulations each, with a free evaluator: a child's value is a hash
of the way to it. mctx runs compiled, on the CPU, in single precision, its MuZero policy without noise; rstar_fast in doubles.
Both use as many threads as they like up to the cores there are. Writes results/tree_peers.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from importlib.metadata import version

from bench import write

from rstar_fast import _core

ACTIONS, DEPTH, SIMULATIONS = 32, 16, 64


def mctx_seconds(batch: int, runs: int) -> list[float]:
    """Seconds of each of some runs over `batch` trees, compilation left out."""
    import jax
    import jax.numpy as jnp
    import mctx

    def mixed(x: jax.Array) -> jax.Array:
        x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
        return (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)

    def value_of(x: jax.Array) -> jax.Array:
        return x.astype(jnp.float32) / 2.0**31 - 1.0

    def recurrent(_: object, __: object, action: jax.Array, embedding: jax.Array) -> tuple[mctx.RecurrentFnOutput, jax.Array]:
        below = mixed(embedding * jnp.uint32(31) + action.astype(jnp.uint32) + jnp.uint32(1))
        shape = action.shape
        priors = jnp.zeros((*shape, ACTIONS))
        return mctx.RecurrentFnOutput(
            reward=jnp.zeros(shape), discount=jnp.ones(shape), prior_logits=priors, value=value_of(below)
        ), below

    @jax.jit
    def search(key: jax.Array, roots: jax.Array) -> jax.Array:
        root = mctx.RootFnOutput(prior_logits=jnp.zeros((batch, ACTIONS)), value=jnp.zeros(batch), embedding=roots)
        policy = mctx.muzero_policy(
            (), key, root, recurrent, num_simulations=SIMULATIONS, max_depth=DEPTH, dirichlet_fraction=0.0, temperature=0.0
        )
        return policy.action

    key, roots = jax.random.PRNGKey(0), jnp.arange(batch, dtype=jnp.uint32)
    search(key, roots).block_until_ready()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        search(key, roots).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return seconds


def our_seconds(batch: int, threads: int, runs: int) -> list[float]:
    """The same of the forest: all trees at once, up to 64 leaves a select, and so few that all threads find some."""
    return [
        float(
            _core.microbench_forest(
                trees=batch,
                simulations=SIMULATIONS,
                batch=max(1, min(64, batch // (2 * threads))),
                threads=min(threads, batch),
                repeats=2,
                children=ACTIONS,
                depth=DEPTH,
            )["seconds"]
        )
        for _ in range(runs)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    threads = len(os.sched_getaffinity(0))
    rows = []
    batches = (1, 16, 128, 1024)
    all_ours = [our_seconds(batch, threads, runs) for batch in batches]  # first: jax's threads stay
    for batch, ours in zip(batches, all_ours, strict=True):
        theirs = mctx_seconds(batch, runs)
        simulations = batch * SIMULATIONS
        rows.append({"trees": batch, "mctx_seconds": theirs, "rstar_fast_seconds": ours})
        fast, slow = statistics.median(ours), statistics.median(theirs)
        rates = [simulations / seconds / 1e3 for seconds in (slow, fast)]
        print(f"{batch:5d} trees: mctx {rates[0]:7.0f} k/s, rstar_fast {rates[1]:7.0f} k/s, {slow / fast:.0f} times")
    setting = {"children": ACTIONS, "depth": DEPTH, "simulations": SIMULATIONS, "threads": threads}
    print(write("tree_peers", {"mctx": version("mctx"), "jax": version("jax"), "setting": setting, "measurements": rows}))


if __name__ == "__main__":
    main()
