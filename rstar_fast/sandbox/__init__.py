"""Runs the code of steps in confined processes; nothing else in this repository executes model-written code."""

from rstar_fast.sandbox.pool import Sandbox, SandboxLimits

__all__ = ["Sandbox", "SandboxLimits"]
