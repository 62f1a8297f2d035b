"""Self-evolution: the rounds of search and training, as a state machine on disk."""

from rstar_fast.evolution.api import evolve, plan
from rstar_fast.evolution.config import EvaluationConfig, EvolutionConfig, RoundConfig
from rstar_fast.evolution.summary import EvolutionSummary, RoundSummary, summarise

__all__ = ["EvaluationConfig", "EvolutionConfig", "EvolutionSummary", "RoundConfig", "RoundSummary", "evolve", "plan", "summarise"]
