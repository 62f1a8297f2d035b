"""`rstar_fast.extract`: runs in, a data set out."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rstar_fast.config import Difficulty, ExtractionConfig
from rstar_fast.extraction.batches import batches
from rstar_fast.extraction.files import DataFiles
from rstar_fast.extraction.rows import FINAL, extracted
from rstar_fast.extraction.sources import Source, open_source
from rstar_fast.storage.atomic import whole_folder
from rstar_fast.types import AnswerKey, InvalidInput, RstarError

SUMMARY = "summary.json"
FORMAT = "rstar_fast data set"


class EmptyDataSet(InvalidInput):
    """The runs give nothing that trains a model."""


@dataclass(frozen=True)
class ExtractionSummary:
    """What an extraction found.

    Attributes:
      folder: the data set.
      problems: how many there are of each difficulty.
      kept: how many of them the mix took.
      failed: problems left out, as their search failed for another reason than that no solution gave an answer.
      trajectories: complete solutions and those the search gave up, of all problems.
      correct: of them, with the right answer.
      solutions: rows of the SFT set.
      pairs: rows of preference pairs, those of whole trajectories included.
      final_pairs: those of whole trajectories.
      groups: groups of pairs.
      pairs_by_depth: pairs of steps, by the depth of the steps; 1 is the first.
    """

    folder: Path
    problems: Mapping[Difficulty, int]
    kept: Mapping[Difficulty, int]
    failed: int
    trajectories: int
    correct: int
    solutions: int
    pairs: int
    final_pairs: int
    groups: int
    pairs_by_depth: Mapping[int, int]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values; the folder is left out, as a data set may be moved."""
        counts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "folder"}
        for name in ("problems", "kept"):
            counts[name] = {difficulty.value: count for difficulty, count in counts[name].items()}
        return counts


def extract(
    runs: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    answers: AnswerKey | Mapping[str, str] | None = None,
    config: ExtractionConfig | None = None,
    **settings: Any,
) -> ExtractionSummary:
    """Extracts what trains the next policy and the next PPM from stored trees (rStar-Math, sections 3.2 and 3.3).

    The SFT set has for each problem the correct trajectories of the highest mean Q (ties: highest least Q), distinct and
    without an error in what their code printed. A pair has a step that leads to a right answer, of the highest Q among its
    siblings, against one below which everything is wrong, of the lowest Q, which must be below the first's: a step that leads
    to both is no mistake, and so no negative. Where the search gave up (too deep, too many errors, no candidates) counts as
    wrong, as its value of -1 does; but as whole trajectories only wrong answers stand against right ones. A problem in several
    runs has one tree of all: equal steps behind equal steps are one step. `ExtractionConfig.reference()` does as
    microsoft/rStar's scripts do instead.

    Args:
      runs: a run folder, or several; a .jsonl file of microsoft/rStar's trees serves as well.
      out: folder of the data set, replaced where it is one. It appears whole or not at all, with `sft` (prompt, completion),
        `pairs` (prompt, chosen, rejected; the P x N pairs of one prompt share a `group`), `problems` and summary.json.
      answers: problem id -> answer; needed for trees that were searched without a key.
      config: an ExtractionConfig; single settings (min_margin=0.3, ...) override it.

    Raises:
      EmptyDataSet: the runs hold nothing that can be extracted.
      InvalidInput: a problem has no key, a file is damaged, or a setting unknown.
      RstarError: the data set cannot be written, e.g. the disk is full; what was in `out` is as before.
    """
    chosen = _config(config, settings)
    if answers is not None and not isinstance(answers, AnswerKey):
        answers = AnswerKey(answers)
    sources = _sources(runs)
    folder = _out(Path(out))
    try:
        with whole_folder(folder) as partial:
            with DataFiles(partial, chosen.format, sum(len(source) for source in sources)) as files:
                summary = _write(sources, answers or {}, chosen, files, Path(out))
                files.finish()
            _check_any(summary, sources)
            about = {
                "format": FORMAT,
                **summary.to_mapping(),
                "config": chosen.to_mapping(),
                "runs": [source.identity() for source in sources],
                "rstar_fast": version("rstar_fast"),
                "pyarrow": version("pyarrow"),
            }
            (partial / SUMMARY).write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise RstarError(
            f"the data set {out} could not be written ({reason}): free some space, or give another folder"
        ) from error
    return summary


def _config(config: ExtractionConfig | None, settings: Mapping[str, Any]) -> ExtractionConfig:
    if config is None:
        return ExtractionConfig.from_mapping(settings)
    if not isinstance(config, ExtractionConfig):
        raise InvalidInput(f"config is {config!r}: give an ExtractionConfig, or its settings one by one, e.g. min_margin=0.3")
    return config.replace(**settings)


def _sources(runs: str | Path | Iterable[str | Path]) -> list[Source]:
    if not isinstance(runs, str | Path | Iterable):
        raise InvalidInput(f"runs is {runs!r}: give the folder of a run, or several")
    paths = [runs] if isinstance(runs, str | Path) else list(runs)
    if not paths:
        raise InvalidInput("no run was given: name the folder of one run or more")
    sources = [open_source(path) for path in paths]
    if not any(len(source) for source in sources):
        raise InvalidInput(f"{' and '.join(source.name for source in sources)} hold no searched problem: search some first")
    return sources


def _out(out: Path) -> Path:
    """The folder to write, resolved.

    Raises:
      InvalidInput: something is there that is no data set of ours.
    """
    folder = out.resolve()
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{out} is a file: give a folder for the data set")
    if folder.is_dir() and any(folder.iterdir()) and not _is_data_set(folder):
        raise InvalidInput(f"{out} holds {min(os.listdir(folder))!r} but no data set: give a new or an empty folder")
    return folder


def _is_data_set(folder: Path) -> bool:
    try:
        return json.loads((folder / SUMMARY).read_text("utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(
    sources: Sequence[Source], answers: Mapping[str, str], config: ExtractionConfig, files: DataFiles, out: Path
) -> ExtractionSummary:
    """Extracts batch by batch, and counts."""
    problems, kept = dict.fromkeys(Difficulty, 0), dict.fromkeys(Difficulty, 0)
    counts: Counter[str] = Counter()
    depths: Counter[int] = Counter()
    groups_before = 0  # of problems that are not kept as well: numbers with gaps
    for batch in batches(sources, answers):
        counts["failed"] += batch.failed
        if batch.trees is None:
            continue
        found = extracted(batch, config)
        sft = found.sft()
        files.write("problems", found.problems())
        files.write("sft", sft)
        for pairs in found.pairs(groups_before):
            files.write("pairs", pairs)
        groups_before += found.groups
        for difficulty, is_kept in zip(map(Difficulty, found.difficulty), found.kept, strict=True):
            problems[difficulty] += 1
            kept[difficulty] += int(is_kept)
        counts["trajectories"] += int(found.arrays["problem_trajectories"].sum())
        counts["correct"] += int(found.arrays["problem_correct"].sum())
        counts["solutions"] += sft.num_rows
        counts["groups"] += found.kept_groups
        depths.update(found.depth_of_pairs().tolist())
    final = depths.pop(FINAL, 0)
    return ExtractionSummary(
        out,
        problems,
        kept,
        failed=counts["failed"],
        trajectories=counts["trajectories"],
        correct=counts["correct"],
        solutions=counts["solutions"],
        pairs=final + depths.total(),
        final_pairs=final,
        groups=counts["groups"],
        pairs_by_depth=dict(sorted(depths.items())),
    )


def _check_any(summary: ExtractionSummary, sources: Sequence[Source]) -> None:
    if summary.solutions or summary.pairs:
        return
    total, kept = sum(summary.problems.values()), sum(summary.kept.values())
    names = " and ".join(source.name for source in sources)
    raise EmptyDataSet(
        f"{names} give an empty data set: {total} problems with {summary.correct} right of {summary.trajectories} "
        f"trajectories, {kept} kept by the mix, {summary.failed} failed; search with more rollouts, or ask for less"
    )
