"""Steps verified a second on one core, against other ways of running a step's code: python benchmarks/bench_sandbox.py [--seconds S]

A step of depth d is the last of d steps of one solution; what it costs to verify is running it with all before it in place. The
ways:

  new process   a new `python -c` for the whole program, which is what a script would do
  in process    exec of the whole program in this process, unconfined: microsoft/rStar's way
  warm fork     the whole program in a confined child forked from a warm worker
  states        the step alone, in a child forked from the state its parent left: rstar_fast.sandbox

All run on one core, the caller included. Three kinds of steps: trivial ones; such as use sympy, a mixture of what solutions do with
it; and the mixture's heaviest, an equation solved in every step. No two steps are equal, so that no cache answers for another.
Every way must print the same.

And a pool of two workers runs 10,000 steps while its memory is watched. Writes results/sandbox.json. With --caller instead: what a step
takes of the caller's own time, one step at a time, by the number of workers that wait for one; writes results/sandbox_caller.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import write

from rstar_fast.config import SandboxConfig
from rstar_fast.sandbox import Sandbox
from rstar_fast.types import Program

DEPTHS = (1, 8, 16)
SIBLINGS = 8  # candidates of one node, which come together
Way = Callable[[str, Sequence[str]], list[str]]  # of a prefix and some steps after it, what is printed

# In the style of a model's steps: each imports what it needs, names things of its own, prints what it found. {n} is new in each.
SOLVE = """# Solve the quadratic equation.
import sympy as sp
x{n} = sp.symbols('x{n}')
roots{n} = sp.solve(sp.Eq(x{n}**2 - ({a} + {b})*x{n} + {a}*{b}, 0), x{n})
print(sorted(roots{n}))
"""
MIXTURE = (
    SOLVE,
    """# Add the fractions.
from sympy import Rational
sum{n} = Rational({a}, 7) + Rational({b}, {a} + 1)
print(sum{n}, float(sum{n}))
""",
    """# Expand the product.
from sympy import symbols, expand
t{n} = symbols('t{n}')
product{n} = expand((t{n} - {a})*(t{n} + {b}))
print(product{n})
""",
    """# Evaluate the expression at the given point.
from sympy import symbols
y{n} = symbols('y{n}')
value{n} = (y{n}**3 - {a}*y{n} + 1).subs(y{n}, {b})
print(value{n})
""",
    """# Find the divisors and the greatest common divisor.
from sympy import divisors, factorint, gcd
number{n} = {n}
print(factorint(number{n}), len(divisors(number{n})), gcd(number{n}, {a}))
""",
    """# Simplify the length of the diagonal.
from sympy import sqrt
length{n} = sqrt({a}**2 * 2 * {b}**2)
print(length{n}, length{n}.evalf(5))
""",
    """# Count the ways to choose.
from sympy import binomial, factorial
ways{n} = binomial({a} + 8, 4) * factorial(5) // {b}
print(ways{n})
""",
    """# Find the slope of the curve.
from sympy import symbols, diff
z{n} = symbols('z{n}')
slope{n} = diff(z{n}**4 - {a}*z{n}**2, z{n}).subs(z{n}, {b})
print(slope{n})
""",
)
TRIVIAL = "# Add.\nvalue{n} = {a} + 17 * {b}\nprint(value{n})\n"
KINDS = {"trivial": (TRIVIAL,), "sympy": MIXTURE, "solve": (SOLVE,)}


@dataclass
class Steps:
    """Steps of a kind, each new; those of a depth are an even mixture."""

    templates: tuple[str, ...]
    count: int = 100_000

    def step(self, turn: int) -> str:
        self.count += 1
        n = self.count
        return self.templates[turn % len(self.templates)].format(n=n, a=n % 89 + 5, b=n % 53 + 3)

    def solution(self, depth: int, turn: int) -> tuple[str, list[str]]:
        """The code before the steps of a depth, and some such steps."""
        prefix = "".join(self.step(turn + at) for at in range(depth - 1))
        return prefix, [self.step(turn + depth + sibling) for sibling in range(SIBLINGS)]


def in_new_process(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def in_this_process(program: str) -> str:
    """Of our own programs only: nothing confines them here."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(program, "<step>", "exec"), {"__name__": "__main__"})
    return output.getvalue()


def rounds_of(run: Way, prepares: bool, steps: Steps, depth: int, seconds: float, rounds: int) -> list[float]:
    """Steps a second in each of some rounds of `seconds`; a way that keeps states has that of the prefix when time begins."""
    rates = []
    for at in range(rounds + 1):
        count, spent, turn = 0, 0.0, at
        while spent < seconds:
            prefix, siblings = steps.solution(depth, turn)
            turn += 1
            if prepares:
                run(prefix, ["0"])
            started = time.perf_counter()
            run(prefix, siblings)
            spent += time.perf_counter() - started
            count += len(siblings)
        rates.append(count / spent)
    return rates[1:]  # what is done once is not counted


def processes_below(parent: int) -> Iterator[int]:
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from processes_below(child)


def memory_mb(parent: int) -> float:
    """What all processes below take together, shared pages divided among those that share them."""
    total = 0
    for process in processes_below(parent):
        with contextlib.suppress(OSError):  # it ended
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


async def watch(total: int) -> list[dict[str, float]]:
    """Memory of a pool of two workers over many steps: 250 solutions of 5 depths at a time, 8 siblings each."""
    steps, seen, done = Steps(MIXTURE), [], 0
    async with Sandbox(workers=2) as sandbox:
        while done < total:
            programs = []
            for turn in range(6):
                prefix, siblings = steps.solution(1 + (done // 48 + turn) % 6, turn)
                programs += [Program(step, prefix) for step in siblings]
            for execution in await sandbox.run_batch(programs):
                assert execution.error is None, execution.error
            done += len(programs)
            if done % (total // 20) < len(programs):
                seen.append({"steps": done, "memory_mb": round(memory_mb(os.getpid()), 1)})
                print(f"after {done:6} steps  {seen[-1]['memory_mb']:7.1f} MB")
    return seen


async def of_caller_ms(workers: int, total: int = 400) -> float:
    """This process's own CPU time for a step, in milliseconds."""
    async with Sandbox(workers) as sandbox:
        await sandbox.run_batch([Program(f"z = {i}") for i in range(4 * workers)])  # all of them are there
        started = time.process_time()
        for i in range(total):
            await sandbox.run(f"x = {i}")
        return 1000 * (time.process_time() - started) / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--watched", type=int, default=10_000, help="steps of the pool whose memory is watched")
    parser.add_argument("--caller", action="store_true", help="only what a step takes of the caller's time")
    given = parser.parse_args()
    if given.caller:
        found = {workers: [round(asyncio.run(of_caller_ms(workers)), 3) for _ in range(given.rounds)] for workers in (2, 16)}
        print(found, write("sandbox_caller", {"caller_ms_by_workers": found}))
        return
    rows = []
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})  # inherited by the workers
    config = SandboxConfig(timeout_s=60.0, cpu_s=60.0)
    with Sandbox(1, config) as sandbox, asyncio.Runner() as runner:

        def in_states(prefix: str, siblings: Sequence[str]) -> list[str]:
            executions = runner.run(sandbox.run_batch([Program(step, prefix) for step in siblings]))
            assert all(execution.error is None for execution in executions), executions
            return [execution.output for execution in executions]

        def in_warm_fork(prefix: str, siblings: Sequence[str]) -> list[str]:
            return in_states("", [prefix + step for step in siblings])

        ways: dict[str, Way] = {
            "new process": lambda prefix, siblings: [in_new_process(prefix + step) for step in siblings],
            "in process": lambda prefix, siblings: [in_this_process(prefix + step) for step in siblings],
            "warm fork": in_warm_fork,
            "states": in_states,
        }
        for kind, templates in KINDS.items():
            steps = Steps(templates)
            for depth in DEPTHS:
                prefix, siblings = steps.solution(depth, 0)
                assert len({tuple(run(prefix, siblings)) for run in ways.values()}) == 1, "the ways do not print the same"
                for way, run in ways.items():
                    rates = rounds_of(run, way == "states", steps, depth, given.seconds, given.rounds)
                    rows.append({"steps": kind, "depth": depth, "way": way, "steps_per_second": rates})
                    print(f"{kind:8} depth {depth:2}  {way:13} {statistics.median(rates):8.1f} steps/s", flush=True)
    os.sched_setaffinity(0, cores)
    memory = asyncio.run(watch(given.watched))
    print(write("sandbox", {"seconds": given.seconds, "measurements": rows, "memory": memory}))


if __name__ == "__main__":
    main()
