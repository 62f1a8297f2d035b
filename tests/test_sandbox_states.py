"""States of steps: what a step gives is what the whole program gives, however it is cut into steps and whatever was kept."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_fast.config import SandboxConfig
from rstar_fast.sandbox import Sandbox
from rstar_fast.types import CodeError, ErrorKind, Execution, Program

LIMITS = SandboxConfig(timeout_s=60.0, cpu_s=60.0, memory_mb=128)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(1, LIMITS) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def fresh() -> Iterator[Sandbox]:
    """A sandbox that keeps next to nothing."""
    with Sandbox(1, SandboxConfig(timeout_s=60.0, cpu_s=60.0, memory_mb=128, snapshots=1)) as sandbox:
        yield sandbox


def run(sandbox: Sandbox, code: str, prefix: str = "") -> Execution:
    return asyncio.run(sandbox.run(code, prefix))


def said(execution: Execution) -> tuple[str, CodeError | None]:
    return execution.output, execution.error


def value_of_reference(program: str) -> str:
    """What microsoft/rStar shows of a program of ours that does not fail: what it prints, then the last expression's value."""
    import ast

    tree = ast.parse(program)
    names: dict[str, object] = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(ast.unparse(ast.Module(tree.body[:-1], [])), names)
        last = ast.unparse(ast.Module(tree.body[-1:], []))
        try:
            value = eval(last, names)
        except SyntaxError:
            exec(last, names)
            value = None
    return printed.getvalue() + ("" if value is None else str(value))


@pytest.mark.parametrize(
    "program",
    [
        "1 + 1",
        "x = 2\nx",
        "print('a')\n[1, 'b']",
        "print('a')",
        "x = [1]\nx.append(2)",
        "x = [1]\nx.pop()",
        "'text'",
        "None",
        "if True:\n    5",
        "for i in range(3):\n    i",
        "(1 +\n 2)",
        "max(1,\n    2)",
        "x = '''\nprint(1)\n'''",
        "def f():\n    return 3\nf()",
        "print('a', end='')\n7",
        "print(1); 2",
        "x = 1; x",
        "import sympy\ny = sympy.Symbol('y')\nsympy.expand((y + 1)**2)",
        "# nothing\n5\n# but a number\n",
        "print = lambda *a: 4\nprint(3)",
    ],
)
def test_the_last_expression_s_value_stands_behind_the_output(sandbox: Sandbox, program: str) -> None:
    wanted = value_of_reference(program)
    assert said(run(sandbox, program)) == (wanted, None)
    for cut in (i for i, letter in enumerate(program) if letter == "\n"):
        assert said(run(sandbox, program[cut + 1 :], program[: cut + 1])) == (wanted, None)


def test_values_of_earlier_steps_are_not_shown(sandbox: Sandbox) -> None:
    assert said(run(sandbox, "5")) == ("5", None)
    assert said(run(sandbox, "print(6)", "5\n")) == ("6\n", None)
    assert said(run(sandbox, "", "5\n")) == ("5", None)  # the last statement of the whole


def test_a_long_value_is_cut_in_the_middle(sandbox: Sandbox) -> None:
    output = run(sandbox, "'a' * 3000 + 'b' * 3000").output
    assert output.startswith("a" * 2000) and output.endswith("b" * 2000) and "left out" in output and len(output) < 4200


def test_a_large_value_comes_whole_where_it_may() -> None:
    with Sandbox(1, SandboxConfig(output_chars=200_000)) as large:
        assert run(large, "'a' * 150_000").output == "a" * 150_000
        assert run(large, "'\\0' * 90_000").output == "\0" * 90_000
    with Sandbox(1, SandboxConfig(output_chars=100)) as small:
        output = run(small, "print('p' * 30)\n'v' * 1000").output
        assert output == "p" * 30 + "\n" + "v" * 19 + "\n... 931 bytes left out ...\n" + "v" * 50


def test_a_value_s_text_leaves_no_trace_in_later_steps(sandbox: Sandbox) -> None:
    prefix = "class A:\n n = 0\n def __str__(self):\n  A.n += 1\n  print('asked')\n  return 'v'\na = A()\n"
    assert run(sandbox, "a", prefix).output == "asked\nv"
    assert run(sandbox, "print(A.n)", prefix + "a\n").output == "0\n"


def test_what_the_compiler_judges_by_the_whole_is_so_judged(sandbox: Sandbox) -> None:
    failed = run(sandbox, "global x\nx = 2\nprint(x)", "x = 1\n").error
    assert failed is not None and failed.type == "SyntaxError"
    assert run(sandbox, "y: int = 3\nprint(__annotations__)", "x = 1\n").output == "{'y': <class 'int'>}\n"


def test_lines_are_those_of_the_program(sandbox: Sandbox) -> None:
    raises = "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError: print(traceback.format_exc().count('line 4'))"
    assert run(sandbox, raises, "x = 1\n").output == "1\n"
    assert run(sandbox, "x = 1\nimport sys\nprint(sys._getframe().f_lineno)", "\n\n").output == "5\n"


def test_what_was_printed_is_there_whatever_happens(sandbox: Sandbox) -> None:
    for _ in range(2):
        execution = run(sandbox, "print('b', end='')\nimport os\nos._exit(0)", "print('a', end='')\n")
        assert execution.output == "ab" and execution.error is not None
        run(sandbox, "0", "print('a', end='')\n")


LINES = st.sampled_from(
    [
        "x = 1",
        "x += 1",
        "print(x)",
        "x",
        "y = [x]",
        "y.append(x)",
        "print(y)",
        "for i in range(2):",
        "    x += i",
        "    print('in', i)",
        "if x > 2:",
        "else:",
        "    pass",
        "def f(a):",
        "    return a + x",
        "print(f(3))",
        "f(2)",
        '"""text',
        'more"""',
        "x = (1 +",
        "     2)",
        "# a comment",
        "",
        "    ",
        "import math; print(math.pi)",
        "print(__doc__)",
        "'a docstring'",
        "from __future__ import annotations",
        "1 / 0",
        "raise SystemExit",
        "import sys; sys.exit(3)",
        "x = \\",
        "@staticmethod",
        "try:",
        "except ZeroDivisionError: print('caught')",
    ]
)


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(LINES, min_size=1, max_size=8), data=st.data())
def test_a_program_cut_into_steps_is_the_program(
    sandbox: Sandbox, fresh: Sandbox, lines: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(lines)), max_size=4)))
    lines = [line + "\n" for line in lines]
    # From nothing: another program in between leaves no state behind.
    run(fresh, "0")
    wanted = said(run(fresh, "".join(lines)))
    results = []
    for begin, end in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        results.append(said(run(sandbox, "".join(lines[begin:end]), "".join(lines[:begin]))))
    assert results[-1] == wanted
    # And in any order: the last step alone, and again with all states there.
    begin = cuts[-1] if cuts else 0
    assert said(run(fresh, "".join(lines[begin:]), "".join(lines[:begin]))) == wanted


def test_the_first_statement_of_the_whole_is_its_docstring(sandbox: Sandbox) -> None:
    assert run(sandbox, "'doc'").output == "doc"
    assert run(sandbox, "print(__doc__)", "'doc'\n").output == "doc\n"
    assert run(sandbox, "'no doc'\nprint(__doc__)", "x = 1\n").output == "None\n"


def test_a_step_runs_only_its_own_code(sandbox: Sandbox) -> None:
    """Seen by the clock: a prefix that takes long is run once."""
    prefix = "import time\ntime.sleep(0.3)\nx = 1\n"
    first = run(sandbox, "print(x)", prefix)
    later = [run(sandbox, f"print(x + {i})", prefix) for i in range(5)]
    assert first.output == "1\n" and [execution.output for execution in later] == [f"{1 + i}\n" for i in range(5)]
    assert first.seconds > 0.3 > sum(execution.seconds for execution in later)


def test_a_whole_program_starts_from_what_has_run_of_it(sandbox: Sandbox) -> None:
    """As the reference's way of searching gives them: without a prefix."""
    begin = "import time\ntime.sleep(0.3)\ny = 4\n"
    first = run(sandbox, begin + "print(y)")
    run(sandbox, begin)
    later = [run(sandbox, f"{begin}print(y + {i})") for i in range(5)] + [run(sandbox, begin + "print(y + 1)")]
    assert first.output == "4\n" and [execution.output for execution in later] == [f"{4 + i}\n" for i in (0, 1, 2, 3, 4, 1)]
    assert first.seconds > 0.3 > sum(execution.seconds for execution in later)
    assert run(sandbox, f"{begin}    print(y)").error is not None  # an indented line goes on with nothing


def test_states_last_through_many_steps(sandbox: Sandbox) -> None:
    prefix, wanted = "total = 0\n", ""
    for depth in range(40):  # deeper than a search goes
        code = f"total += {depth}\nprint(total)\n"
        wanted += f"{sum(range(depth + 1))}\n"
        assert said(run(sandbox, code, prefix)) == (wanted, None)
        prefix += code


def test_each_step_has_its_own_time() -> None:
    with Sandbox(1, SandboxConfig(timeout_s=1.0)) as sandbox:
        prefix = "import time\n"
        for _ in range(4):
            assert run(sandbox, "time.sleep(0.4)\n", prefix).error is None
            prefix += "time.sleep(0.4)\n"
        assert run(sandbox, "time.sleep(1.5)", prefix).timed_out


def test_a_prefix_that_fails_is_the_result(sandbox: Sandbox) -> None:
    assert said(run(sandbox, "print(2)", "print(1)\n1 / 0\n")) == (
        "1\n",
        CodeError(ErrorKind.RAISED, "ZeroDivisionError", "division by zero"),
    )
    assert said(run(sandbox, "print(2)", "print(1)\nimport sys; sys.exit()\n")) == ("1\n", None)


def test_what_a_fork_does_not_copy_is_run_again(sandbox: Sandbox) -> None:
    prefix = "import threading\nt = threading.Thread(target=print, args=('from a thread',))\nt.start()\nt.join()\n"
    for i in range(2):
        assert said(run(sandbox, f"print({i})", prefix)) == (f"from a thread\n{i}\n", None)
    assert said(run(sandbox, "print(open('a').read())", "with open('a', 'w') as f: f.write('text')\n")) == ("text\n", None)
    assert said(run(sandbox, "import os\nprint(os.listdir('.'))")) == ("[]\n", None)


def test_numpy_is_there_whenever_it_is_named(sandbox: Sandbox) -> None:
    look = "import sys\nprint('num' + 'py' in sys.modules)\n"
    assert run(sandbox, "print(1)", look).output == "False\n1\n"
    assert run(sandbox, "import numpy as np\nprint(np.arange(3))", look).output == "True\n[0 1 2]\n"
    draws = "import numpy\nprint(numpy.random.rand())\n"
    assert run(sandbox, draws).output == run(sandbox, draws, "x = 1\n").output


def test_many_workers_agree() -> None:
    """The same steps in any order over workers that steal from each other: the same results."""
    chains = [[f"x{i} = {i}\nprint(x{i})\n", f"y = x{i} * 2\nprint(y)\n", "print(y + 1)\n"] for i in range(6)]
    programs = [
        Program(chain[depth], "".join(chain[:depth]))
        for depth in range(3)
        for chain in chains
        for _ in range(2)
        if depth < len(chain)
    ]
    programs += [Program(f"print(x{i} + {j})", "".join(chains[i][:1])) for i in range(6) for j in range(8)]
    with Sandbox(1, LIMITS) as one, Sandbox(3, LIMITS) as three:
        wanted = [said(e) for e in asyncio.run(one.run_batch(programs))]
        assert [said(e) for e in asyncio.run(three.run_batch(programs))] == wanted
        assert [said(e) for e in asyncio.run(three.run_batch(programs[::-1]))] == wanted[::-1]
