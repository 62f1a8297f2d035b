"""rStar-Math: tree search over code-augmented reasoning steps, with a process preference model.

    import rstar_fast
    result = rstar_fast.search("What is the remainder when 7^100 is divided by 13?")
    print(result.answer, result.score)

The public names are loaded when they are first used: importing the package loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rstar_fast.config import Aggregate as Aggregate
    from rstar_fast.config import Annotation as Annotation
    from rstar_fast.config import Behaviour as Behaviour
    from rstar_fast.config import Budget as Budget
    from rstar_fast.config import Choice as Choice
    from rstar_fast.config import DataFormat as DataFormat
    from rstar_fast.config import Difficulty as Difficulty
    from rstar_fast.config import ExtractionConfig as ExtractionConfig
    from rstar_fast.config import Mix as Mix
    from rstar_fast.config import Optimizer as Optimizer
    from rstar_fast.config import PolicyTrainingConfig as PolicyTrainingConfig
    from rstar_fast.config import PpmTrainingConfig as PpmTrainingConfig
    from rstar_fast.config import Schedule as Schedule
    from rstar_fast.config import SearchConfig as SearchConfig
    from rstar_fast.config import Strategy as Strategy
    from rstar_fast.evaluation import Evaluation as Evaluation
    from rstar_fast.evaluation import evaluate as evaluate
    from rstar_fast.evolution import EvaluationConfig as EvaluationConfig
    from rstar_fast.evolution import EvolutionConfig as EvolutionConfig
    from rstar_fast.evolution import EvolutionSummary as EvolutionSummary
    from rstar_fast.evolution import RoundConfig as RoundConfig
    from rstar_fast.evolution import evolve as evolve
    from rstar_fast.extraction import ExtractionSummary as ExtractionSummary
    from rstar_fast.extraction import extract as extract
    from rstar_fast.grading import grade as grade
    from rstar_fast.policies import load_policy as load_policy
    from rstar_fast.ppm import load_scorer as load_scorer
    from rstar_fast.search import asearch as asearch
    from rstar_fast.search import search as search
    from rstar_fast.training.policy import train_policy as train_policy
    from rstar_fast.training.ppm import train_ppm as train_ppm
    from rstar_fast.types import AnswerKey as AnswerKey
    from rstar_fast.types import Candidate as Candidate
    from rstar_fast.types import CodeError as CodeError
    from rstar_fast.types import ErrorKind as ErrorKind
    from rstar_fast.types import Execution as Execution
    from rstar_fast.types import Executor as Executor
    from rstar_fast.types import Expansion as Expansion
    from rstar_fast.types import Failure as Failure
    from rstar_fast.types import FailureKind as FailureKind
    from rstar_fast.types import Finished as Finished
    from rstar_fast.types import InvalidInput as InvalidInput
    from rstar_fast.types import Node as Node
    from rstar_fast.types import OutOfSpace as OutOfSpace
    from rstar_fast.types import Partial as Partial
    from rstar_fast.types import PartialTooLong as PartialTooLong
    from rstar_fast.types import Policy as Policy
    from rstar_fast.types import PolicyError as PolicyError
    from rstar_fast.types import Problem as Problem
    from rstar_fast.types import Program as Program
    from rstar_fast.types import RstarError as RstarError
    from rstar_fast.types import Scorer as Scorer
    from rstar_fast.types import ScorerError as ScorerError
    from rstar_fast.types import SearchResult as SearchResult
    from rstar_fast.types import SearchStats as SearchStats
    from rstar_fast.types import Stopped as Stopped
    from rstar_fast.types import Terminal as Terminal
    from rstar_fast.types import TrainingDiverged as TrainingDiverged
    from rstar_fast.types import Trajectory as Trajectory
    from rstar_fast.types import Tree as Tree
    from rstar_fast.types import Verdict as Verdict
    from rstar_fast.types import VerdictReason as VerdictReason

    __version__: str

# What stands above, as data: module -> its public names.
_PUBLIC = {
    "rstar_fast.search": "search asearch",
    "rstar_fast.config": "Aggregate Annotation Behaviour Budget Choice DataFormat Difficulty ExtractionConfig Mix Optimizer "
    "PolicyTrainingConfig PpmTrainingConfig Schedule SearchConfig Strategy",
    "rstar_fast.extraction": "ExtractionSummary extract",
    "rstar_fast.evaluation": "Evaluation evaluate",
    "rstar_fast.evolution": "EvaluationConfig EvolutionConfig EvolutionSummary RoundConfig evolve",
    "rstar_fast.grading": "grade",
    "rstar_fast.policies": "load_policy",
    "rstar_fast.ppm": "load_scorer",
    "rstar_fast.training.policy": "train_policy",
    "rstar_fast.training.ppm": "train_ppm",
    "rstar_fast.types": "AnswerKey Candidate CodeError ErrorKind Execution Executor Expansion Failure FailureKind Finished "
    "InvalidInput Node OutOfSpace Partial PartialTooLong Policy PolicyError Problem Program RstarError Scorer ScorerError SearchResult "
    "SearchStats Stopped Terminal TrainingDiverged Trajectory Tree Verdict VerdictReason",
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = [*_MODULE_OF, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("rstar_fast")
    elif name in _MODULE_OF:
        module = import_module(_MODULE_OF[name])
        # `search` names the subpackage, which is callable: see _callable_module.py.
        value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
