"""Steps verified a second on one core, against other ways of running a step's code: python benchmarks/bench_sandbox.py [--seconds S]

A step of depth d is the last of d steps of one solution; what it costs to verify is running it with all before it in place. The
alternatives:

  new process  a new `python -c` for the whole program, which is what a script would do
  in process   exec of the whole program in this process, unconfined: microsoft/rStar's way
  re-execution the whole program in a confined child forked from a warm worker
               (what rstar_fast.sandbox does)

Two kinds of steps: such that use sympy, and trivial ones. Every way must print the same. Writes results/sandbox.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from bench import write

from rstar_fast.sandbox import Sandbox

DEPTHS = (1, 8, 16)


def sympy_step(number: int) -> str:
    """A step in the style of a model: new names, an equation solved, the result printed."""
    return (
        f"# Step {number}: solve an equation.\n"
        f"import sympy as sp\nx{number} = sp.symbols('x{number}')\n"
        f"roots{number} = sp.solve(sp.Eq(x{number}**2 - {number + 3}*x{number} + {number + 2}, 0), x{number})\n"
        f"print(sorted(roots{number}))\n"
    )


def trivial_step(number: int) -> str:
    return f"# Step {number}: add.\nvalue{number} = {number} + 17 * {number}\nprint(value{number})\n"


def in_new_process(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def in_this_process(program: str) -> str:
    """Of our own programs only: nothing confines them here."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(program, "<step>", "exec"), {"__name__": "__main__"})
    return output.getvalue()


def rate(run: Callable[[str], str], programs: list[str], seconds: float, rounds: int) -> list[float]:
    """Steps a second in each of some rounds of `seconds`."""
    run(programs[0])  # what is done once is not counted
    rates = []
    for _ in range(rounds):
        count, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds:
            run(programs[count % len(programs)])
            count += 1
        rates.append(count / spent)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rows = []
    with Sandbox(workers=1) as sandbox, asyncio.Runner() as runner:

        def in_sandbox(program: str) -> str:
            execution = runner.run(sandbox.run(program))
            assert execution.error is None, execution.error
            return execution.output

        ways = {"new process": in_new_process, "in process": in_this_process, "re-execution": in_sandbox}
        for kind, step in (("sympy", sympy_step), ("trivial", trivial_step)):
            for depth in DEPTHS:
                # Solutions that differ, so that nothing is answered from a cache of the mathematics.
                programs = ["".join(step(100 * solution + at) for at in range(1, depth + 1)) for solution in range(20)]
                assert len({run(programs[0]) for run in ways.values()}) == 1, "the ways do not print the same"
                for way, run in ways.items():
                    rates = rate(run, programs, given.seconds, given.rounds)
                    rows.append({"steps": kind, "depth": depth, "way": way, "steps_per_second": rates})
                    print(f"{kind:8} depth {depth:2}  {way:13} {statistics.median(rates):8.1f} steps/s")
    print(write("sandbox", {"seconds": given.seconds, "measurements": rows}))


if __name__ == "__main__":
    main()
