"""The benchmarks of the paper (rStar-Math, section 4) by name: from a local file, or from the Hugging Face hub.

A local copy may have our fields (question, answer, id, level, type) or those of the data set on the hub.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar_fast.grading import extract
from rstar_fast.storage import ProblemFile, looks_like_problem_file, problems_of, read_problems
from rstar_fast.types import InvalidInput, RstarError

_LOG = logging.getLogger(__name__)
_MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set, and where its fields are.

    Attributes:
      title: its name in tables.
      hub: its name on the hub.
      size: problems of the paper's evaluation.
      subsets: that make it up; "" for the only one.
      split: of each.
      fields: our field -> theirs, where they differ; of a list the first entry is taken, several answers are joined by commas.
      read_answer: takes the answer out of what stands in the answer's field.
    """

    title: str
    hub: str
    size: int
    subsets: tuple[str, ...] = ("",)
    split: str = "test"
    fields: Mapping[str, str] = field(default_factory=dict)
    read_answer: Callable[[str], str | None] | None = None

    def translate(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """A record of the data set, or one that has our fields already, as a record of a problem file."""
        ours = dict(record)
        for name, theirs in self.fields.items():
            value = record.get(theirs)
            if isinstance(value, list | tuple):
                value = ", ".join(map(str, value)) if name == "answer" else value[0] if value else None
            if isinstance(value, float) and name == "level":
                value = f"{value:g}"
            if value is not None and (name not in record or name == theirs):
                ours[name] = value
        if self.read_answer is not None and "answer" not in record and isinstance(ours.get("answer"), str):
            ours["answer"] = self.read_answer(ours["answer"])
        if "type" in self.fields:
            ours.pop("subject", None)  # which would be the type otherwise
        if isinstance(ours.get("level"), str):
            ours["level"] = ours["level"].removeprefix("Level ")
        return ours


# Names, splits and columns as loaders of others use them: the hub was out of reach where this was written. Omni-MATH's level is its difficulty, 1 to 10.
BENCHMARKS: Mapping[str, Benchmark] = {
    "gsm8k": Benchmark(title="GSM8K", hub="openai/gsm8k", size=1319, subsets=("main",)),
    "math": Benchmark(
        title="MATH",
        hub="EleutherAI/hendrycks_math",
        size=5000,
        subsets=_MATH_SUBJECTS,
        fields={"answer": "solution"},
        read_answer=extract,
    ),
    "math-500": Benchmark(title="MATH-500", hub="HuggingFaceH4/MATH-500", size=500, fields={"id": "unique_id"}),
    "aime-2024": Benchmark(title="AIME 2024", hub="HuggingFaceH4/aime_2024", size=30, split="train"),
    "amc-2023": Benchmark(title="AMC 2023", hub="math-ai/amc23", size=40),
    "olympiadbench": Benchmark(
        title="OlympiadBench",
        hub="Hothan/OlympiadBench",
        size=674,
        subsets=("OE_TO_maths_en_COMP",),
        split="train",
        fields={"answer": "final_answer", "type": "subfield", "level": "difficulty"},
    ),
    "college-math": Benchmark(title="College Math", hub="di-zhang-fdu/College_Math_Test", size=2818, fields={"type": "data_topic"}),
    "gaokao-2023-en": Benchmark(title="Gaokao 2023 En", hub="MARIO-Math-Reasoning/Gaokao2023-Math-En", size=385, split="train"),
    "omni-math": Benchmark(title="Omni-MATH", hub="KbsdJames/Omni-MATH", size=4428, fields={"level": "difficulty", "type": "domain"}),
}
_BY_LETTERS = {re.sub(r"\W|_", "", name): name for name in BENCHMARKS} | {"aime24": "aime-2024", "amc23": "amc-2023", "collegemath": "college-math"}


def benchmark_named(name: str) -> str | None:
    """The name in BENCHMARKS that is meant, whatever its case and its hyphens; None where none is, or a problem file."""
    return None if looks_like_problem_file(name) else _BY_LETTERS.get(re.sub(r"[\W_]", "", name.lower()))


def load_problems(data: str | Path, file: str | Path | None = None) -> ProblemFile:
    """The problems of a benchmark, or of a problem file.

    Of a data set the records without an answer are left out. It is logged as a warning, and so is where the hub's has another size than
    the paper's.

    Args:
      data: the benchmark's name, or the file.
      file: where the benchmark lies on this machine: a problem file, or a folder that `datasets` reads; None: on the hub.

    Raises:
      InvalidInput: there is no such benchmark or file, or it is unusable.
      RstarError: the benchmark is on the hub only, and cannot be had from there.
    """
    name = benchmark_named(str(data))
    if name is None:
        if file is not None:
            raise InvalidInput(f"{str(data)!r} is no benchmark, so its file cannot be another: give one of {', '.join(BENCHMARKS)}")
        if not looks_like_problem_file(str(data)) and not Path(data).exists():
            raise InvalidInput(f"{str(data)!r} is no benchmark and no file: give a problem file, or one of {', '.join(BENCHMARKS)}")
        return read_problems(data)
    benchmark = BENCHMARKS[name]
    if file is not None and not Path(file).is_dir():
        return read_problems(file, translate=benchmark.translate)
    source = benchmark.hub if file is None else str(file)
    found = problems_of(_records(benchmark, source, name), source, translate=benchmark.translate)
    count, left_out = len(found.problems) + len(found.malformed), len(found.malformed)
    if left_out:
        _LOG.warning("%d of the %d records of %s have no answer that can be read and are left out", left_out, count, source)
    if file is None and count != benchmark.size:
        sentence = "%s has %d problems and the paper's %s has %d: the numbers are not of the same problems"
        _LOG.warning(sentence, source, count, benchmark.title, benchmark.size)
    return found


def _records(benchmark: Benchmark, source: str, name: str) -> Iterator[Mapping[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise RstarError(f"{source} is read with datasets: pip install 'rstar_fast[train]', or give a problem file of {name}") from None
    for subset in benchmark.subsets:
        try:
            rows = load_dataset(source, subset or None, split=benchmark.split)
        except Exception as error:  # of the hub, of the network, of the files: all of them mean that the data is not to be had
            said = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise RstarError(
                f"{name} cannot be loaded from {source} ({said}): connect to the hub, or give a problem file of it on this machine"
            ) from error
        yield from rows
