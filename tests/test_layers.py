"""The layers of the package, held by reading every import: each points to an earlier row, and none goes round in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import rstar_fast

PACKAGE = "rstar_fast"
REPOSITORY = Path(__file__).resolve().parents[1]

# Row by row, what may import all rows above it. A new part of the package gets its place here.
ROWS = (
    ("_core", "_sandbox", "kernels", "programs", "_callable_module", "_openmp", "__version__"),
    ("types", "config"),
    ("steps", "sandbox", "grading", "storage"),
    ("policies", "ppm", "nano"),
    ("search", "extraction", "training"),
    ("evaluation", "distributed", "viewer", "server"),
    ("evolution",),
    ("cli", "demo"),
)
ROW_OF = {part: row for row, parts in enumerate(ROWS) for part in parts}
STRANGERS = ROW_OF["search"]  # the parts of this row never import one another: they meet in files
RUNS_STEPS = "rstar_fast/sandbox/running.py"  # runs the code of steps, confined: the one place that may
RAY_FILE = "rstar_fast/distributed.py"
RUNS_TEXT = {"exec", "eval", "compile", "__import__"}
RUNS_TEXT_OF_SYMPY = {"parse_expr"}  # evaluates its text as Python


@dataclass(frozen=True)
class Import:
    """An import found in a file.

    Attributes:
      file: path in the repository.
      line: where it stands.
      target: dotted name of the module imported, as precise as the file tree tells.
      for_types_only: it stands under `if TYPE_CHECKING`.
    """

    file: str
    line: int
    target: str
    for_types_only: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}"


def sources(folder: str = PACKAGE) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def relative(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


def module_of(file: Path) -> str:
    """The dotted name a file is imported by; kernels/ installs as rstar_fast.kernels."""
    parts = list(file.relative_to(REPOSITORY).with_suffix("").parts)
    if parts[0] == "kernels":
        parts.insert(0, PACKAGE)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> frozenset[str]:
    return frozenset(module_of(file) for folder in (PACKAGE, "kernels") for file in sources(folder)) | {f"{PACKAGE}._core", f"{PACKAGE}._sandbox"}


def part_of(module: str) -> str:
    """The part of the package a module belongs to, e.g. "search" for rstar_fast.search.mcts."""
    return module.split(".")[1] if "." in module else ""


def resolve(module: str, name: str) -> str:
    """What `from module import name` imports: a submodule, the source of a public name of the package, or the module."""
    submodule = f"{module}.{name}"
    if submodule in modules():
        return submodule
    return rstar_fast._MODULE_OF.get(name, submodule) if module == PACKAGE else module


def imports_of(code: str, module: str, file: str) -> Iterator[Import]:
    """Every import of a file, those in functions and those of importlib.import_module("...") included."""
    package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
    tree = ast.parse(code, file)
    for_types_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            targets = [resolve(base, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            if ast.unparse(node.func).rpartition(".")[2] == "import_module":
                targets = [str(node.args[0].value)]
        for target in targets:
            yield Import(file, node.lineno, target, id(node) in for_types_only)


@cache
def all_imports() -> dict[str, tuple[Import, ...]]:
    """The imports of each module of the package; the package's own `__init__` is lazy and stands outside the rows."""
    files = [file for file in sources() if module_of(file) != PACKAGE] + sources("kernels")
    return {module_of(file): tuple(imports_of(file.read_text("utf-8"), module_of(file), relative(file))) for file in files}


def internal_imports() -> Iterator[tuple[str, Import]]:
    for module, imports in all_imports().items():
        for found in imports:
            if found.target.split(".")[0] == PACKAGE:
                yield module, found


def circle(graph: dict[str, set[str]]) -> str:
    """One circle in a graph as text; "" when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def test_every_part_has_a_row() -> None:
    unplaced = sorted({part_of(module) for module in modules()} - set(ROW_OF) - {""})
    assert not unplaced, f"give {', '.join(unplaced)} a row here and in the design"


def test_imports_point_to_an_earlier_row() -> None:
    wrong = []
    for module, found in internal_imports():
        here, there = part_of(module), part_of(found.target)
        if here == there:
            continue
        if not there:  # `import rstar_fast` reaches everything, unseen by this test
            if ROW_OF[here] != ROW_OF["cli"]:
                wrong.append(f"{found} as a whole: import the part that is needed")
        elif there not in ROW_OF:
            wrong.append(f"{found}, which does not exist")
        elif ROW_OF[there] > ROW_OF[here]:
            wrong.append(f"{found}, which is in a later row")
        elif ROW_OF[there] == ROW_OF[here] == STRANGERS:
            wrong.append(f"{found}: these two never import one another, they meet in files")
    assert not wrong, "\n".join(wrong)


def test_parts_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module, found in internal_imports():
        here, there = part_of(module), part_of(found.target)
        if there and here != there:
            graph.setdefault(here, set()).add(there)
    assert not circle(graph)


def test_files_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module, found in internal_imports():
        if found.target != module and not found.for_types_only:
            graph.setdefault(module, set()).add(found.target)
    assert not circle(graph)


def test_kernels_import_nothing_of_the_package() -> None:
    wrong = [
        str(found)
        for module, found in internal_imports()
        if found.file.startswith("kernels/") and part_of(found.target) != "kernels"
    ]
    assert not wrong, "\n".join(wrong)


def test_kernels_is_not_importable_as_a_top_level_package() -> None:
    assert not (REPOSITORY / "kernels" / "__init__.py").exists()


def test_only_distributed_imports_ray() -> None:
    imports = [found for found_in_module in all_imports().values() for found in found_in_module]
    wrong = [str(found) for found in imports if found.target.split(".")[0] == "ray" and found.file != RAY_FILE]
    assert not wrong, "\n".join(wrong)


def text_runners(tree: ast.AST) -> Iterator[ast.AST]:
    """Uses of what runs a text as Python: called, passed on, or fetched from `builtins`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load) and node.id in RUNS_TEXT | RUNS_TEXT_OF_SYMPY:
                yield node
        elif isinstance(node, ast.Attribute):
            of_builtins = isinstance(node.value, ast.Name) and node.value.id in ("builtins", "__builtins__")
            if node.attr in RUNS_TEXT_OF_SYMPY or (of_builtins and node.attr in RUNS_TEXT):
                yield node
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if names & RUNS_TEXT_OF_SYMPY or (node.module == "builtins" and names & RUNS_TEXT):
                yield node


def test_only_the_sandbox_worker_runs_text_as_code() -> None:
    wrong = [
        f"{relative(file)}:{node.lineno}: {ast.unparse(node)}"
        for folder in (PACKAGE, "kernels")
        for file in sources(folder)
        if relative(file) != RUNS_STEPS
        for node in text_runners(ast.parse(file.read_text("utf-8")))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "code",
    ["exec('1')", "f = eval", "compile(a, b, c)", "builtins.exec(a)", "from builtins import eval as e", "sympy.parse_expr(a)"],
)
def test_running_text_is_recognised(code: str) -> None:
    assert list(text_runners(ast.parse(code)))


@pytest.mark.parametrize("code", ["re.compile('a')", "model.eval()", "torch.compile(model)", "evaluate(a)", "compile = 1"])
def test_harmless_names_are_not(code: str) -> None:
    assert not list(text_runners(ast.parse(code)))


@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("import rstar_fast.types", "rstar_fast.types"),
        ("from rstar_fast import types", "rstar_fast.types"),
        ("from rstar_fast import Problem", "rstar_fast.types"),
        ("from rstar_fast.types import Problem", "rstar_fast.types"),
        ("from .. import types", "rstar_fast.types"),
        ("from ..types import Problem", "rstar_fast.types"),
        ("from .mcts import anything", "rstar_fast.search.mcts"),
        ("import rstar_fast", "rstar_fast"),
        ("def f():\n    from rstar_fast import __version__", "rstar_fast.__version__"),
        ("if TYPE_CHECKING:\n    import rstar_fast.config", "rstar_fast.config"),
        ("importlib.import_module('rstar_fast.types')", "rstar_fast.types"),
        ("import numpy.random", "numpy.random"),
    ],
)
def test_imports_are_read_precisely(code: str, target: str) -> None:
    assert [found.target for found in imports_of(code, "rstar_fast.search.beam", "beam.py")] == [target]


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}}) == ""
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}).count(" -> ") == 3
