"""Stored trees -> what trains the next policy and the next PPM: SFT solutions and preference pairs."""

from rstar_fast.extraction.api import ExtractionSummary, extract
from rstar_fast.extraction.reference import read_reference_pairs, read_reference_sft

__all__ = ["ExtractionSummary", "extract", "read_reference_pairs", "read_reference_sft"]
