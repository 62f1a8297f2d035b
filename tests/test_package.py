"""The package as a user meets it: what importing it loads, the public names, and the compiled module's stubs."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rstar_fast
import rstar_fast._core
import rstar_fast.types


def run_python(code: str, folder: Path) -> str:
    """Runs code in a new interpreter started in a folder, with that folder on sys.path; what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_transformers_imports_from_the_repository_root(repository: Path) -> None:
    # kernels/ lies there, and transformers looks for a library of that name.
    code = "import transformers; from transformers import Qwen2ForCausalLM; print(Qwen2ForCausalLM.__name__)"
    assert run_python(code, repository) == "Qwen2ForCausalLM"


def test_kernels_is_no_top_level_module(tmp_path: Path) -> None:
    assert run_python("import importlib.util; print(importlib.util.find_spec('kernels'))", tmp_path) == "None"


def test_the_repository_root_is_not_put_on_sys_path(repository: Path, tmp_path: Path) -> None:
    paths = run_python("import sys; print('\\n'.join(sys.path))", tmp_path).splitlines()
    assert repository not in [Path(path).resolve() for path in paths]


def test_importing_loads_neither_torch_nor_transformers(tmp_path: Path) -> None:
    code = """if True:
        import sys
        import rstar_fast, rstar_fast.types, rstar_fast.config
        rstar_fast.SearchConfig, rstar_fast.PpmTrainingConfig, rstar_fast.Problem, dir(rstar_fast), rstar_fast.__version__
        heavy = {"torch", "transformers", "trl", "accelerate", "datasets", "peft"}
        print(sorted((heavy | {"numpy"}) & set(sys.modules)))"""
    assert run_python(code, tmp_path) == "['numpy']"


def test_the_version_is_that_of_pyproject(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    assert rstar_fast.__version__ == project["version"]


def test_dir_lists_the_public_names() -> None:
    assert set(rstar_fast.__all__) <= set(dir(rstar_fast))
    assert "no_such_name" not in dir(rstar_fast)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = rstar_fast.no_such_name


@pytest.mark.parametrize("name", rstar_fast.__all__)
def test_each_public_name_resolves(name: str) -> None:
    assert getattr(rstar_fast, name) is not None


def test_type_checkers_see_the_public_names(repository: Path) -> None:
    """The imports under TYPE_CHECKING and the table of lazy names say the same."""
    module = ast.parse((repository / "rstar_fast" / "__init__.py").read_text("utf-8"))
    block = next(node for node in module.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {(node.module, alias.asname) for node in imports for alias in node.names} == {
        (module, name) for name, module in rstar_fast._MODULE_OF.items()
    }
    assert all(alias.asname == alias.name for node in imports for alias in node.names)  # `as` marks a re-export


def test_every_error_is_public() -> None:
    errors = [value for value in vars(rstar_fast.types).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert {error.__name__ for error in errors} <= set(rstar_fast.__all__)
    assert all(issubclass(error, rstar_fast.RstarError) for error in errors)


@pytest.mark.parametrize(
    "imports",
    [
        "import rstar_fast",
        "import rstar_fast.search.mcts, rstar_fast",
        "import rstar_fast; rstar_fast.asearch; import rstar_fast.search.mcts",
        "from rstar_fast import search; import rstar_fast; assert rstar_fast.search is search",
        "from rstar_fast.search import search; import rstar_fast",
        "from rstar_fast import asearch, search; import rstar_fast.search",
        "import importlib, rstar_fast; importlib.import_module('rstar_fast.search'); importlib.invalidate_caches()",
    ],
)
def test_search_can_be_called_however_it_was_imported(imports: str, tmp_path: Path) -> None:
    code = f"""if True:
        {imports}
        from rstar_fast.search import search as function
        import inspect, rstar_fast.search.mcts
        for name in (rstar_fast.search, locals().get("search", function)):
            assert inspect.signature(name) == inspect.signature(function)
            try:
                name()
            except TypeError as error:
                print("called:", error)"""
    missing = "called: search() missing 1 required positional argument: 'problems'"
    assert run_python(code, tmp_path).splitlines() == [missing, missing]


def test_search_pickles_by_name_and_keeps_its_signature() -> None:
    assert pickle.loads(pickle.dumps(rstar_fast.search)) is rstar_fast.search
    assert list(inspect.signature(rstar_fast.search).parameters)[0] == "problems"


@pytest.mark.parametrize("module", ["_core", "_sandbox"])
def test_the_stub_matches_the_compiled_module(repository: Path, tmp_path: Path, module: str) -> None:
    """`make stubs` writes it; formatting may differ, and constants are without values, which are each machine's own."""
    script = Path(sys.executable).with_name("pybind11-stubgen")
    done = subprocess.run([script, f"rstar_fast.{module}", "--exit-code", "-o", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    generated, committed = (ast.parse((folder / "rstar_fast" / f"{module}.pyi").read_text("utf-8")) for folder in (tmp_path, repository))
    for statement in generated.body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target).isupper():
            statement.value = None
    assert ast.dump(generated) == ast.dump(committed), f"rstar_fast/{module}.pyi is out of date: run `make stubs`"
