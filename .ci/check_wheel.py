"""Uses the installed wheel from a folder outside the repository, whose path is the only argument."""

import importlib.util
import sys
from importlib.metadata import distribution
from pathlib import Path

repository = Path(sys.argv[1]).resolve()

import rstar_fast  # noqa: E402

package = Path(rstar_fast.__file__).resolve().parent
assert repository not in package.parents, f"rstar_fast was imported from the repository: {package}"
assert not {"torch", "transformers"} & set(sys.modules), "importing rstar_fast loads torch or transformers"

installed = {str(path) for path in distribution("rstar_fast").files or ()}
top_level = {path.split("/")[0] for path in installed}
assert not [path for path in installed if path.startswith("kernels")], "kernels/ was installed as a top-level package"
assert top_level <= {"rstar_fast", f"rstar_fast-{rstar_fast.__version__}.dist-info", "..", "bin"}, sorted(top_level)
sources = {f"rstar_fast/{path.relative_to(repository / 'rstar_fast')}" for path in (repository / "rstar_fast").rglob("*.py")}
kernels = {f"rstar_fast/kernels/{path.name}" for path in (repository / "kernels").glob("*.py")}
needed = sources | kernels | {"rstar_fast/py.typed", "rstar_fast/_core.pyi", "rstar_fast/_sandbox.pyi"}
assert needed <= installed, f"not in the wheel: {sorted(needed - installed)}"
for module in ("_core", "_sandbox"):
    compiled = [path for path in installed if path.startswith(f"rstar_fast/{module}.") and path.endswith(".so")]
    assert compiled, f"{module} is not in the wheel"
for model in ("bootstrap", "bootstrap_ppm", "policy", "ppm"):
    assert f"rstar_fast/nano/{model}/model.safetensors" in installed, f"nano's {model} is not in the wheel"
print(f"{len(installed)} files, {sum((package.parent / path).stat().st_size for path in installed) / 1e6:.1f} MB")

import transformers  # noqa: E402, F401

import rstar_fast._core  # noqa: E402
import rstar_fast.kernels.reference  # noqa: E402

for module in (rstar_fast._core, rstar_fast.kernels.reference):
    assert repository not in Path(module.__file__).resolve().parents, module.__file__
assert importlib.util.find_spec("kernels") is None, "a top-level `kernels` can be imported"

result = rstar_fast.search("Tom has 3 apples and buys 4 more. How many apples does Tom have?", rollouts=2, candidates=4)
print(f"answer {result.answer!r}, score {result.score}, {len(result.tree)} nodes, failure {result.failure}")
assert result.tree is not None and len(result.tree) > 1, "the search grew no tree"
assert (result.answer is None) == (result.failure is not None)
