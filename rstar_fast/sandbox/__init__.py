"""Runs the code of steps in confined processes; nothing else in this repository executes model-written code."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rstar_fast.sandbox.pool import Sandbox as Sandbox

__all__ = ["Sandbox"]


def __getattr__(name: str) -> Any:
    # When it is first used: the worker processes, which are forked for every program, shall not load what they do not need.
    if name != "Sandbox":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rstar_fast.sandbox.pool import Sandbox

    return Sandbox
