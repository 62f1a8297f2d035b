"""What searches are worth: accuracies with their intervals, per benchmark, level and type; comparisons; sweeps over compute."""

from rstar_fast.evaluation.intervals import bootstrap, paired_difference, sign_test, wilson
from rstar_fast.evaluation.verdicts import correctness, failed

__all__ = ["bootstrap", "correctness", "failed", "paired_difference", "sign_test", "wilson"]
