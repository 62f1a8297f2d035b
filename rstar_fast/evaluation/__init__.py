"""What searches are worth: accuracies with their intervals, per benchmark, level and type; comparisons; sweeps over compute."""

from rstar_fast.evaluation.api import Evaluation, evaluate, load_evaluation
from rstar_fast.evaluation.benchmarks import BENCHMARKS, Benchmark, load_problems
from rstar_fast.evaluation.intervals import bootstrap, paired_difference, sign_test, wilson
from rstar_fast.evaluation.verdicts import correctness, failed

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Evaluation",
    "bootstrap",
    "correctness",
    "evaluate",
    "failed",
    "load_evaluation",
    "load_problems",
    "paired_difference",
    "sign_test",
    "wilson",
]
