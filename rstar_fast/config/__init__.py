"""Settings as frozen dataclasses, to and from plain mappings (and so YAML). No I/O."""

from rstar_fast.config.extraction import DataFormat, Difficulty, ExtractionConfig, Mix
from rstar_fast.config.search import Annotation, Behaviour, Choice, Require, SandboxConfig, SearchConfig
from rstar_fast.config.training import Optimizer, PolicyTrainingConfig, PpmTrainingConfig, Schedule

__all__ = [
    "Annotation",
    "Behaviour",
    "Choice",
    "DataFormat",
    "Difficulty",
    "ExtractionConfig",
    "Mix",
    "Optimizer",
    "PolicyTrainingConfig",
    "PpmTrainingConfig",
    "Require",
    "SandboxConfig",
    "Schedule",
    "SearchConfig",
]
