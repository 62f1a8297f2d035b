"""Compares answers: cheap paths on text and numbers, structure, and for the mathematics math-verify in a confined process."""

from rstar_fast.grading.compare import grade, grade_many
from rstar_fast.grading.extract import extract, normalise
from rstar_fast.grading.process import GraderUnavailable
from rstar_fast.grading.voting import classes

__all__ = ["GraderUnavailable", "classes", "extract", "grade", "grade_many", "normalise"]
