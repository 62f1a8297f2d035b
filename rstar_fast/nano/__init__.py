"""nano, the embedded default: a generator of math word problems and the tiny checkpoints trained on them."""

from pathlib import Path

from rstar_fast.nano.generator import FAMILIES, LEVELS, SPLITS, Record, generate

POLICY: Path = Path(__file__).parent / "policy"
PPM: Path = Path(__file__).parent / "ppm"

__all__ = ["FAMILIES", "LEVELS", "POLICY", "PPM", "SPLITS", "Record", "generate"]
