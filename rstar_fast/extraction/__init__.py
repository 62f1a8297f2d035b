"""Stored trees -> what trains the next policy and the next PPM: SFT solutions and preference pairs."""

from rstar_fast.extraction.api import EmptyDataSet, ExtractionSummary, extract

__all__ = ["EmptyDataSet", "ExtractionSummary", "extract"]
