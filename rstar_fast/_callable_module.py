"""A package that shares its name with the function it defines: calling the package calls the function.

`rstar_fast.search` is a public function and a subpackage. Python binds a subpackage to its name in the parent whenever it is
first imported, by whomever, so no function of that name can stand there for good. The name therefore always means the
package, and the package is callable.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module `package.name` that forwards calls to its own function `name`."""

    def _function(self) -> Any:
        return vars(self)[self.__name__.rpartition(".")[2]]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function())

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return importlib.import_module, (self.__name__,)  # pickles by name, as the function does


def make_callable(module_name: str) -> None:
    """Makes the loaded module callable; it calls this at its end, with `__name__`, once its function is defined."""
    module = sys.modules[module_name]
    module.__class__ = CallableModule
    module._function()  # type: ignore[attr-defined]  # a KeyError here names the function the module lacks
