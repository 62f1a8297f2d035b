"""nano, the embedded default: a generator of math word problems and the tiny checkpoints trained on them."""

from pathlib import Path

from rstar_fast.nano.generator import FAMILIES, LEVELS, SPLITS, Record, generate
from rstar_fast.nano.lessons import FLUENT_LEVELS, WORKED_LEVELS

BOOTSTRAP: Path = Path(__file__).parent / "bootstrap"  # the policy with which evolution starts
BOOTSTRAP_PPM: Path = Path(__file__).parent / "bootstrap_ppm"  # from which the PPM of each of its rounds is trained
EVOLUTION: Path = Path(__file__).parent / "evolution.yaml"
POLICY: Path = Path(__file__).parent / "policy"
PPM: Path = Path(__file__).parent / "ppm"

__all__ = [
    "BOOTSTRAP",
    "BOOTSTRAP_PPM",
    "EVOLUTION",
    "FAMILIES",
    "FLUENT_LEVELS",
    "LEVELS",
    "POLICY",
    "PPM",
    "SPLITS",
    "WORKED_LEVELS",
    "Record",
    "generate",
]
