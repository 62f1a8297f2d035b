"""The evolution of nano: its problem files, from the generator, and its settings.

What is made here for training has questions and answers of all levels, and the worked programs that the bootstrap policy has read last
(the control's data): what the rounds learn comes from their search.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from rstar_fast.config.base import check_integer
from rstar_fast.evolution.config import EvolutionConfig
from rstar_fast.evolution.stages import FILE as EVOLUTION_FILE
from rstar_fast.nano import BOOTSTRAP, BOOTSTRAP_PPM, EVOLUTION, Record, generate, generator
from rstar_fast.nano.lessons import lines, read_last, worked
from rstar_fast.storage.atomic import write_whole
from rstar_fast.types import InvalidInput

FOLDER = "problems"  # in the evolution's, for its files
_MADE = "made.json"  # written last
# More from round to round: what a policy has learned from some, only many more different ones improve.
PROBLEMS: Sequence[int] = (700, 1400, 2100, 2800)
# Most problems, of those trained on and those measured on, are where the bootstrap policy sometimes succeeds.
_TRAIN_LEVELS = (1, 2, 3, *(4,) * 16, 5)
_HELDOUT_LEVELS = (1, 2, 3, *(4,) * 6, 5)


def nano_evolution(
    out: str | Path,
    *,
    base: str | Path = BOOTSTRAP,
    ppm_base: str | Path = BOOTSTRAP_PPM,
    problems: int | Sequence[int] = PROBLEMS,
    heldout: int = 160,
    seed: int = 0,
) -> EvolutionConfig:
    """Writes the problem files of an evolution of nano into its folder, and gives its settings.

    Args:
      out: the evolution's folder.
      base: the bootstrap policy, from which every round trains; by default the one shipped.
      ppm_base: the bootstrap PPM, of the kind "channel", from which every round's PPM is trained; by default the one shipped.
      problems: that each round searches, >= 1, one number or one for each round; PROBLEMS by default. Every round has others, and learns
        from those of the rounds before as well: so small a policy needs many different problems more than many solutions.
      heldout: problems to measure on, >= 1; most of them of level 4, where most is to be learned.
      seed: of the problems, and of all that is drawn.

    Raises:
      InvalidInput: a number is out of its range, or the folder is no folder, or of an evolution with other problems.
    """
    folder = Path(out) / FOLDER
    settings = yaml.safe_load(EVOLUTION.read_text("utf-8"))
    rounds = len(settings["rounds"])
    counts = list(problems) if isinstance(problems, list | tuple) else [problems] * rounds
    if len(counts) != rounds:
        raise InvalidInput(f"problems is {problems}, for {len(counts)} rounds: give one number, or {rounds}")
    for name, count in (*(("problems", count) for count in counts), ("heldout", heldout)):
        check_integer(name, count, 1)
    train = [folder / f"train-{k}.jsonl" for k in range(1, rounds + 1)]
    held, base_data = folder / "heldout.jsonl", folder / "base.jsonl"
    asked = {"problems": counts, "heldout": heldout, "seed": seed, "generator": generator.VERSION}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = _made(folder)
        if there != asked and (Path(out) / EVOLUTION_FILE).exists():
            raise InvalidInput(f"{out} was begun with {there}, not {asked}: continue it with the same, or give another folder")
        if there != asked:
            (folder / _MADE).unlink(missing_ok=True)
            seen = read_last()
            known = {record.problem.question for record in seen}
            wanted = sum(counts)
            drawn = generate("train", wanted + len(seen), seed, levels=_TRAIN_LEVELS)
            fresh = [record for record in drawn if record.problem.question not in known][:wanted]
            for path, count in zip(train, counts, strict=True):
                write_whole(path, _problems(fresh[:count]))
                del fresh[:count]
            write_whole(held, _problems(generate("heldout", heldout, seed, levels=_HELDOUT_LEVELS)))
            write_whole(base_data, worked(seen))
            write_whole(folder / _MADE, json.dumps(asked))
    except OSError as error:
        raise InvalidInput(f"{out} cannot be used for an evolution: {error}; give another folder") from error
    for round_, path in zip(settings["rounds"], train, strict=True):
        round_["problems"] = str(path)
    files = {"problems": str(train[0]), "heldout": str(held), "base_data": str(base_data)}
    return EvolutionConfig.from_mapping({**settings, **files, "base": str(base), "ppm_base": str(ppm_base), "seed": seed})


def _made(folder: Path) -> dict[str, object] | None:
    """What the files in the folder were made with; None where they are not all there."""
    try:
        made = json.loads((folder / _MADE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if isinstance(made["problems"], int):  # before each round could have its own number
        made["problems"] = [made["problems"]] * made.pop("rounds", 4)
    return made  # type: ignore[no-any-return]


def _problems(records: Sequence[Record]) -> str:
    """Questions with their keys and levels, one JSON object a line; no solutions."""
    return lines({"question": r.problem.question, "id": r.problem.id, "answer": r.answer, "level": r.level} for r in records)
