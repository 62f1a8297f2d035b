"""The evolution of nano: its problem files, from the generator, and its settings.

What is made here for training has questions and answers of all levels, and the worked programs that the bootstrap policy has read last
(the control's data): what the rounds learn comes from their search.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import yaml

from rstar_fast.config.base import check_integer
from rstar_fast.evolution.config import EvolutionConfig
from rstar_fast.evolution.stages import FILE as EVOLUTION_FILE
from rstar_fast.nano import BOOTSTRAP, EVOLUTION, Record, generate, generator
from rstar_fast.nano.lessons import lines, read_last, worked
from rstar_fast.storage.atomic import write_whole
from rstar_fast.types import InvalidInput

FOLDER = "problems"  # in the evolution's, for its files
_MADE = "made.json"  # written last
# Most problems, of those trained on and those measured on, are where the bootstrap policy sometimes succeeds.
_TRAIN_LEVELS = (1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5)
_HELDOUT_LEVELS = (1, 2, 3, 4, 4, 4, 4, 5)


def nano_evolution(out: str | Path, *, problems: int = 2400, heldout: int = 200, seed: int = 0) -> EvolutionConfig:
    """Writes the problem files of an evolution of nano into its folder, and gives its settings.

    Args:
      out: the evolution's folder.
      problems: to train on, >= 1.
      heldout: problems to measure on, >= 1; half of them of level 4, where most is to be learned.
      seed: of the problems, and of all that is drawn.

    Raises:
      InvalidInput: a number is out of its range, or the folder is no folder, or of an evolution with other problems.
    """
    for name, count in (("problems", problems), ("heldout", heldout)):
        check_integer(name, count, 1)
    folder = Path(out) / FOLDER
    paths = {name: folder / name for name in ("train.jsonl", "heldout.jsonl", "base.jsonl")}
    asked = {"problems": problems, "heldout": heldout, "seed": seed, "generator": generator.VERSION}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = _made(folder)
        if there != asked and (Path(out) / EVOLUTION_FILE).exists():
            raise InvalidInput(f"{out} was begun with {there}, not {asked}: continue it with the same, or give another folder")
        if there != asked:
            (folder / _MADE).unlink(missing_ok=True)
            base = read_last()
            known = {record.problem.question for record in base}
            fresh = (r for r in generate("train", problems + len(base), seed, levels=_TRAIN_LEVELS) if r.problem.question not in known)
            write_whole(paths["train.jsonl"], _problems(list(islice(fresh, problems))))
            write_whole(paths["heldout.jsonl"], _problems(generate("heldout", heldout, seed, levels=_HELDOUT_LEVELS)))
            write_whole(paths["base.jsonl"], worked(base))
            write_whole(folder / _MADE, json.dumps(asked))
    except OSError as error:
        raise InvalidInput(f"{out} cannot be used for an evolution: {error}; give another folder") from error
    settings = yaml.safe_load(EVOLUTION.read_text("utf-8"))
    files = {"problems": str(paths["train.jsonl"]), "heldout": str(paths["heldout.jsonl"]), "base_data": str(paths["base.jsonl"])}
    return EvolutionConfig.from_mapping({**settings, **files, "base": str(BOOTSTRAP), "seed": seed})


def _made(folder: Path) -> dict[str, object] | None:
    """What the files in the folder were made with; None where they are not all there."""
    try:
        return json.loads((folder / _MADE).read_text("utf-8"))  # type: ignore[no-any-return]
    except (FileNotFoundError, ValueError):
        return None


def _problems(records: Sequence[Record]) -> str:
    """Questions with their keys and levels, one JSON object a line; no solutions."""
    return lines({"question": r.problem.question, "id": r.problem.id, "answer": r.answer, "level": r.level} for r in records)
