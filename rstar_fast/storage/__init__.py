"""Problems in, runs out: problem files of four formats, and run folders of Parquet shards that survive being killed."""

from rstar_fast.storage.problems import MalformedRow, ProblemFile, looks_like_problem_file, problems_of, read_problems
from rstar_fast.storage.reference_trees import export_reference_trees, import_reference_trees, read_reference_trees
from rstar_fast.storage.run import Run, RunResults, load_run

__all__ = [
    "MalformedRow",
    "ProblemFile",
    "Run",
    "RunResults",
    "export_reference_trees",
    "import_reference_trees",
    "load_run",
    "looks_like_problem_file",
    "problems_of",
    "read_problems",
    "read_reference_trees",
]
