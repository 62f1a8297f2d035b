"""Compares answers: cheap paths on text and numbers, structure, and for the mathematics math-verify in a confined process."""

from rstar_fast.grading.compare import classes, grade, grade_many
from rstar_fast.grading.extract import extract, normalise

__all__ = ["classes", "extract", "grade", "grade_many", "normalise"]
