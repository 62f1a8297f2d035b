"""`rstar-fast train-policy`, `train-ppm` and `convert-ppm`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from rstar_fast.cli.config_file import load_config
from rstar_fast.cli.progress import duration
from rstar_fast.cli.rendering import one_line, this_command
from rstar_fast.config import Optimizer, PolicyTrainingConfig, PpmTrainingConfig

_EVERY_S = 10.0
_Settings = TypeVar("_Settings", PolicyTrainingConfig, PpmTrainingConfig)

_Data = Annotated[Path, typer.Argument(help="A .parquet or .jsonl file, as extract writes it, or microsoft/rStar's .json.")]
_Policy = Annotated[str, typer.Option(help="nano, or a checkpoint's folder or hub name.")]
_Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the checkpoint; a training found there goes on.")]
_Config = Annotated[Path | None, typer.Option(help="YAML file of training settings; options override it.")]
_Rate = Annotated[float | None, typer.Option(help="Highest learning rate.")]
_Epochs = Annotated[int | None, typer.Option(help="Passes over the data.")]
_MaxTokens = Annotated[int | None, typer.Option(help="Longer texts are left out.")]
_Optimizer = Annotated[Optimizer | None, typer.Option(help="muon trains small models faster.")]
_Lora = Annotated[bool | None, typer.Option("--lora/--full", help="Train low-rank adapters, or all weights.")]
_Bf16 = Annotated[bool | None, typer.Option("--bf16/--fp32", help="Compute in bfloat16: by default on a GPU.")]
_Checkpointing = Annotated[
    bool | None, typer.Option("--gradient-checkpointing/--no-gradient-checkpointing", help="Less memory, more time.")
]
_SaveMinutes = Annotated[float | None, typer.Option(help="Minutes between states that a killed training goes on from.")]
_Seed = Annotated[int | None, typer.Option(help="Of the order.")]


def train_policy(
    data: _Data,
    out: _Out,
    policy: _Policy = "nano",
    config: _Config = None,
    learning_rate: _Rate = None,
    epochs: _Epochs = None,
    max_tokens: _MaxTokens = None,
    batch: Annotated[int | None, typer.Option(help="Solutions of an update, over all devices.")] = None,
    device_batch: Annotated[int | None, typer.Option(help="Rows a device computes at a time: bounds its memory.")] = None,
    packing: Annotated[bool | None, typer.Option("--packing/--no-packing", help="Several solutions in a row.")] = None,
    optimizer: _Optimizer = None,
    lora: _Lora = None,
    bf16: _Bf16 = None,
    gradient_checkpointing: _Checkpointing = None,
    save_minutes: _SaveMinutes = None,
    seed: _Seed = None,
) -> None:
    """Train a policy on solutions.

    A training can be interrupted at any time; the same command goes on. Several GPUs: accelerate launch --module rstar_fast.cli
    train-policy ...
    """
    settings = _settings(PolicyTrainingConfig, config, locals())
    from rstar_fast.training.policy import train_policy

    try:
        train_policy(data, out, policy=policy, config=settings, progress=ProgressLine())
    except KeyboardInterrupt:
        _interrupted(out)
    if _is_main():
        typer.echo(f"policy   {one_line(str(out))}")


def train_ppm(
    data: _Data,
    out: _Out,
    policy: _Policy = "nano",
    heldout: Annotated[Path | None, typer.Option(help="Pairs of other problems, to measure the PPM on.")] = None,
    kind: Annotated[str | None, typer.Option(help="head, or channel: how likely the question is, given the solution.")] = None,
    solutions: Annotated[Path | None, typer.Option(help="Right solutions, from which a channel learns to read questions back.")] = None,
    config: _Config = None,
    learning_rate: _Rate = None,
    epochs: _Epochs = None,
    max_tokens: _MaxTokens = None,
    batch: Annotated[int | None, typer.Option(help="Groups of pairs of an update, over all devices.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens a device computes at a time: bounds its memory.")] = None,
    optimizer: _Optimizer = None,
    lora: _Lora = None,
    bf16: _Bf16 = None,
    gradient_checkpointing: _Checkpointing = None,
    save_minutes: _SaveMinutes = None,
    seed: _Seed = None,
) -> None:
    """Train a PPM, from a policy, on preference pairs.

    A training can be interrupted at any time; the same command goes on. Several GPUs: accelerate launch --module rstar_fast.cli
    train-ppm ...
    """
    settings = _settings(PpmTrainingConfig, config, locals())
    from rstar_fast.training.ppm import train_ppm

    try:
        found = train_ppm(
            data, out, policy=policy, heldout=heldout, solutions=solutions, config=settings, progress=ProgressLine()
        )
    except KeyboardInterrupt:
        _interrupted(out)
    if _is_main():
        lines = [f"PPM      {one_line(str(out))}"]
        if found is not None:
            pairs = {"all": found["pairs"]["all"], "steps": found["pairs"]["steps"], "final": found["pairs"]["final"]}
            pairs |= {f"depth {depth}": measured for depth, measured in found["pairs"]["steps_by_depth"].items()}
            lines += [f"{name:<9}{_accuracy(measured)}" for name, measured in pairs.items() if measured is not None]
            lines.append(f"calibration error {found['calibration']['error']:.3f} over {found['calibration']['steps']} steps")
        typer.echo("\n".join(lines))


def convert_ppm(
    source: Annotated[
        Path, typer.Argument(help="Folder of a PPM of microsoft/rStar: value_head.bin, or v_head.* in the weights.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the checkpoint.")],
    scale: Annotated[float, typer.Option(help="Score = tanh(logit / scale).")] = 5.0,
) -> None:
    """Write a PPM of microsoft/rStar as one that search, transformers and vLLM load."""
    from rstar_fast.ppm.convert import from_reference

    typer.echo(f"PPM      {one_line(str(from_reference(source, out, scale=scale)))}")


def _settings(kind: type[_Settings], config: Path | None, options: Mapping[str, Any]) -> _Settings:
    """Those of the file, and of a command's arguments those that are settings and were given."""
    settings = load_config(config) if config is not None else {}
    names = [field.name for field in dataclasses.fields(kind)]
    return kind.from_mapping({**settings, **{name: options[name] for name in names if options.get(name) is not None}})


class ProgressLine:
    """Tells of the progress on standard error: at the first update, the last, and now and then."""

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()
        self._first: int | None = None

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if self._first is not None and step < steps and now - self._told < _EVERY_S:
            return
        left = ""
        if self._first is None:  # a training that goes on does not begin with 1
            self._first, self._started = step, now
        elif step > self._first:
            left = f"  left: {duration((now - self._started) / (step - self._first) * (steps - step))}"
        self._told = now
        typer.echo(f"{step}/{steps} updates  loss {loss:.4f}{left}", err=True)


def _accuracy(measured: Mapping[str, Any]) -> str:
    return (
        f"{measured['accuracy']:.1%} of {measured['pairs']} pairs in order "
        f"(95% interval {measured['low']:.1%} to {measured['high']:.1%}; {measured['problems']} problems)"
    )


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _interrupted(out: Path) -> None:
    typer.echo(
        f"interrupted: its last state is kept in {one_line(str(out))}; to go on: {this_command()}",
        err=True,
    )
    raise typer.Exit(130)
