"""The Triton kernels compiled ahead of time, as their launchers would, for GPUs that need not be there; test_kernels_triton.py
runs this file. What the interpreter accepts may not compile; what compiles may spill."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from rstar_fast.kernels.launch import FUSED
from rstar_fast.kernels.pairwise_loss import _ENTRIES as LOSS_ENTRIES
from rstar_fast.kernels.pairwise_loss import _PAIRS, _gradient, _losses
from rstar_fast.kernels.pairwise_loss import _ROWS as LOSS_ROWS
from rstar_fast.kernels.tree_attention import _tree_attention, constants, tiling
from rstar_fast.kernels.value_head import _COLUMNS, _ENTRIES, _ROWS, _hidden_gradient, _scores, _weight_gradient
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Target:
    """A GPU: Triton's name for it, CUDA's capability (None on AMD), and the bytes of shared memory that a program may have."""

    gpu: GPUTarget
    capability: tuple[int, int] | None
    shared: int


TARGETS = {
    "sm_80": Target(GPUTarget("cuda", 80, 32), (8, 0), 163 * 1024),
    "sm_90": Target(GPUTarget("cuda", 90, 32), (9, 0), 227 * 1024),
    "gfx942": Target(GPUTarget("hip", "gfx942", 64), None, 64 * 1024),
}


@pytest.fixture(params=TARGETS.values(), ids=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    return request.param


def compiled(kernel: Any, target: Target, types: Mapping[str, str], constexprs: Mapping[str, Any], **options: int) -> Any:
    """A kernel compiled for arguments of `types`; pointers, and numbers typed "i32/16", are multiples of 16."""
    signature = {name: types[name].partition("/")[0] if name in types else "constexpr" for name in kernel.arg_names}
    is_aligned = {name: kind.startswith("*") or kind == "i32/16" for name, kind in types.items()}
    aligned = [at for at, name in enumerate(kernel.arg_names) if is_aligned.get(name)]
    source = ASTSource(kernel, signature, dict(constexprs), {(at,): [["tt.divisibility", 16]] for at in aligned})
    return triton.compile(source, target=target.gpu, options={**FUSED, **options})


def check_fits(kernel: Any, target: Target, name: str, folder: Path) -> None:
    """That nothing spills, and that registers and shared memory last."""
    assert kernel.metadata.shared <= target.shared
    if target.capability is None:
        counts = {key: int(count) for key, count in re.findall(r"^ +\.(\w+): +(\d+)$", kernel.asm["amdgcn"], re.MULTILINE)}
        registers, spilled = counts["vgpr_count"], counts["vgpr_spill_count"] + counts["sgpr_spill_count"]
        assert counts["private_segment_fixed_size"] == 0
    else:
        (folder / "kernel.ptx").write_text(kernel.asm["ptx"])
        arch = re.search(r"^\.target (\w+)", kernel.asm["ptx"], re.MULTILINE)[1]  # type: ignore[index]
        ptxas = [get_ptxas(target.gpu.arch).path, "-v", f"-arch={arch}", "kernel.ptx", "-o", "kernel.cubin"]
        said = subprocess.run(ptxas, cwd=folder, capture_output=True, text=True, check=True).stderr
        registers = int(re.search(r"Used (\d+) registers", said)[1])  # type: ignore[index]
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", said)))
        assert len(re.findall(r"\b0 bytes stack frame", said)) == 1, said
        assert len(kernel.asm["cubin"]) > 0
    print(f"COUNTS {name}: {registers} registers, {kernel.metadata.shared} bytes of shared memory")
    assert spilled == 0 and registers <= 255


@pytest.mark.parametrize(
    ("dtype", "size", "rows", "windowed"),
    [
        (torch.bfloat16, 64, 700, True),
        (torch.bfloat16, 80, 700, False),
        (torch.bfloat16, 96, 700, True),
        (torch.bfloat16, 128, 700, False),
        (torch.float16, 128, 7, True),
        (torch.float32, 128, 700, True),
    ],
)
def test_tree_attention(target: Target, dtype: torch.dtype, size: int, rows: int, windowed: bool, tmp_path: Path) -> None:
    cut = tiling(dtype, size, rows, target.capability)
    numbers = dict.fromkeys(("query", "keys", "values", "attended"), f"*{NAMES[dtype]}")
    integers = dict.fromkeys(("tiles", "starts", "slots", "paths", "path_starts", "path_lengths"), "*i32")
    strides = {f"{name}_{of}": "i32/16" for name in ("query", "attended") for of in ("token", "head")}
    strides |= {f"{name}_{of}": "i32/16" for name in ("keys", "values") for of in ("slot", "head")}
    kernel = compiled(
        _tree_attention,
        target,
        numbers | integers | strides | {"scale": "fp32", "window": "i32"},
        constants(dtype, size, 7, cut, windowed, target.capability),
        num_warps=cut.warps,
        num_stages=cut.stages,
    )
    name = f"tree_attention {target.gpu.arch} {NAMES[dtype]} {size} {rows} {'windowed' if windowed else ''} {cut}"
    check_fits(kernel, target, name, tmp_path)
    if target.capability is not None:
        # Keys and values come in pieces of 16 bytes while the tile before is computed.
        copied = re.findall(r"async_copy_global_to_local .*contiguity = (\d+).*: tensor<\d+x\d+x", kernel.asm["ttgir"])
        assert copied and {int(count) * dtype.itemsize for count in copied} == {16}
    # Neither a key's address nor a query's is computed in 32 bits.
    assert re.search(r"tt\.addptr .*, tensor<\d+x1xi64>", kernel.asm["ttir"])
    assert not re.search(r"tt\.addptr .*, tensor<\d+x1xi32>", kernel.asm["ttir"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_value_head(target: Target, dtype: torch.dtype, tmp_path: Path) -> None:
    number = f"*{NAMES[dtype]}"
    sizes = {"tokens": "i32", "steps": "i32", "size": "i32/16"}
    given = {"hidden": number, "at": "*i64", "weight": number, "bias": number, "hidden_token": "i32/16"}
    summed = {"slopes": "*fp32", "order": "*i64", "first": "*i64"}
    for kernel, types, constexprs in (
        (_scores, {"scores": "*fp32", "inverse_scale": "fp32"}, {"BIASED": True, "ROWS": _ROWS, "COLUMNS": _COLUMNS}),
        (_hidden_gradient, {**summed, "gradient": number}, {"ROWS": _ROWS, "COLUMNS": _COLUMNS, "ENTRIES": _ENTRIES}),
        (_weight_gradient, {"slopes": "*fp32", "parts": "*fp32"}, {"PART": 64, "ROWS": 16, "COLUMNS": _COLUMNS // 4}),
    ):
        every = {name: kind for name, kind in {**given, **sizes, **types}.items() if name in kernel.arg_names}
        name = f"value_head{kernel.fn.__name__} {target.gpu.arch} {NAMES[dtype]}"
        check_fits(compiled(kernel, target, every, constexprs, num_warps=4), target, name, tmp_path)
        # Triton compiles a number that is 1 in.
        ones = {number: 1 for number, kind in every.items() if kind.startswith("i32")}
        others = {name: kind for name, kind in every.items() if name not in ones}
        compiled(kernel, target, others, {**constexprs, **ones}, num_warps=4)


def test_pairwise_loss(target: Target, tmp_path: Path) -> None:
    indices = dict.fromkeys(("better", "worse", "group"), "*i64")
    numbers = {"rewards": "*fp32", "share": "*fp32", "losses": "*fp32", "slopes": "*fp32", "steps": "i32", "pairs": "i32"}
    kernel = compiled(_losses, target, indices | numbers, {"PAIRS": _PAIRS}, num_warps=4)
    check_fits(kernel, target, f"pairwise_loss_losses {target.gpu.arch}", tmp_path)
    del numbers["steps"], numbers["pairs"]
    compiled(_losses, target, indices | numbers, {"PAIRS": _PAIRS, "steps": 1, "pairs": 1}, num_warps=4)
    types = {"slopes": "*fp32", "order": "*i64", "first": "*i64", "gradient": "*fp32", "steps": "i32"}
    kernel = compiled(_gradient, target, types, {"ROWS": LOSS_ROWS, "ENTRIES": LOSS_ENTRIES}, num_warps=4)
    check_fits(kernel, target, f"pairwise_loss_gradient {target.gpu.arch}", tmp_path)
