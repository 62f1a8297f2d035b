"""Settings as frozen dataclasses, to and from plain mappings (and so YAML). No I/O."""

from rstar_fast.config.extraction import DataFormat, Difficulty, ExtractionConfig, Mix
from rstar_fast.config.sandbox import Require, SandboxConfig
from rstar_fast.config.search import Annotation, Behaviour, Choice, SearchConfig
from rstar_fast.config.strategies import Aggregate, Budget, Strategy
from rstar_fast.config.training import Optimizer, PolicyTrainingConfig, PpmKind, PpmTrainingConfig, Schedule

__all__ = [
    "Aggregate",
    "Annotation",
    "Behaviour",
    "Budget",
    "Choice",
    "DataFormat",
    "Difficulty",
    "ExtractionConfig",
    "Mix",
    "Optimizer",
    "PolicyTrainingConfig",
    "PpmKind",
    "PpmTrainingConfig",
    "Require",
    "SandboxConfig",
    "Schedule",
    "SearchConfig",
    "Strategy",
]
