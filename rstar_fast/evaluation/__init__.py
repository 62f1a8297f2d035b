"""What searches are worth: accuracies with their intervals, per benchmark, level and type; comparisons; sweeps over compute."""

from rstar_fast.evaluation.api import Evaluation, evaluate, load_evaluation
from rstar_fast.evaluation.benchmarks import BENCHMARKS, Benchmark, load_problems
from rstar_fast.evaluation.comparing import Comparison, compare
from rstar_fast.evaluation.intervals import bootstrap, paired_difference, sign_test, wilson
from rstar_fast.evaluation.paper import paper_table
from rstar_fast.evaluation.sweeping import sweep
from rstar_fast.evaluation.verdicts import correctness, failed

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Comparison",
    "Evaluation",
    "bootstrap",
    "compare",
    "correctness",
    "evaluate",
    "failed",
    "load_evaluation",
    "load_problems",
    "paired_difference",
    "paper_table",
    "sign_test",
    "sweep",
    "wilson",
]
