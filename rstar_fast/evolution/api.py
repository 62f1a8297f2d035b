"""`rstar_fast.evolve`: policy and PPM get better round after round on data that the search made itself (rStar-Math, section 3.4)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rstar_fast.config import PpmKind
from rstar_fast.evolution.config import EvolutionConfig, may_change, recorded_settings
from rstar_fast.evolution.page import write_page
from rstar_fast.evolution.plan import Plan, plan_of
from rstar_fast.evolution.rounds import Rounds, problems_of
from rstar_fast.evolution.stages import Record, Records, Stage, opened
from rstar_fast.evolution.summary import EvolutionSummary, digests_of, summarise
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.ppm.attention import check_model
from rstar_fast.training.datasets import read_table
from rstar_fast.training.models import check_packing, outline, outline_of_ppm
from rstar_fast.training.session import require_libraries
from rstar_fast.types import InvalidInput, RstarError


def evolve(
    config: EvolutionConfig | Mapping[str, Any],
    out: str | Path,
    *,
    progress: Callable[[Stage, Any], object] | None = None,
    done: Callable[[Stage, Record, bool], object] | None = None,
) -> EvolutionSummary:
    """Runs a self-evolution, or goes on with it: each round searches, extracts, trains the policy and the PPM, and is measured.

    It may be killed at any instant: the same call goes on. Stages that are done are not done again.

    Args:
      config: the evolution, also as a mapping of its settings.
      out: its folder. It gets round-1, round-2, ... with their runs, data sets and checkpoints, and after every round summary.html,
        summary.png and summary.json.
      progress: is told with the stage at work a `ProgressEvent` of a search, or (updates done, updates in all, loss) of a training.
      done: is told each stage that is done, what it recorded, and whether that was before this call.

    Returns:
      What the rounds have come to.

    Raises:
      InvalidInput: a setting, a problem file, or a model is unusable, or `out` belongs to another evolution.
      RstarError: a stage failed, e.g. a training diverged or the disk is full; what is done is kept.
    """
    config = config if isinstance(config, EvolutionConfig) else EvolutionConfig.from_mapping(config)
    problems = problems_of(config)  # all that it names is looked at before the hours of the first search
    _check_models(config)
    folder = Path(out)

    def changes(name: str, records: Records) -> bool:
        return may_change(name, config, records)

    with opened(folder, recorded_settings(config, digests_of(config)), changes) as records:
        at = 0
        try:
            for stage in Rounds(config, records, problems, progress).stages():
                if stage.round > at > 0:
                    _page(folder)
                at = stage.round
                record = records.get(stage.round, stage.name)
                before = record is not None
                if record is None:
                    record = records.do(stage)
                if done is not None:
                    done(stage, record, before)
        except RstarError:
            with contextlib.suppress(RstarError):  # what is done so far can be looked at
                _page(folder)
            raise
        return _page(folder)


def _check_models(config: EvolutionConfig) -> None:
    """Whether the models are there that an evolution begins with, of an architecture that can be trained, and what trains them.

    Raises:
      InvalidInput: something is not.
    """
    require_libraries()
    models = {}
    for policy in dict.fromkeys(name for name in (config.base, config.bootstrap, config.ppm_base) if name is not None):
        load_tokenizer(policy, "policy")
        models[policy] = outline(policy)
    for kind in {round_.ppm_training.kind for round_ in config.rounds}:
        outlined = outline if kind is PpmKind.CHANNEL else outline_of_ppm
        check_model(outlined(config.ppm_base or config.base))
    if any(round_.policy_training.packing for round_ in config.rounds):
        check_packing(models[config.base])
    if config.base_data is not None:
        read_table(config.base_data, ("prompt", "completion"))
    if config.launcher and shutil.which(config.launcher[0]) is None:
        raise InvalidInput(f"launcher {config.launcher[0]!r} is no command: give one that is installed, or none to train in this process")


def plan(config: EvolutionConfig | Mapping[str, Any]) -> Plan:
    """What `evolve` would do, with estimates of tokens, steps and disk; nothing is begun.

    Raises:
      InvalidInput: a setting, a problem file or the base is unusable.
    """
    config = config if isinstance(config, EvolutionConfig) else EvolutionConfig.from_mapping(config)
    return plan_of(config)


def _page(folder: Path) -> EvolutionSummary:
    summary = summarise(folder)
    try:
        write_page(summary)
    except OSError as error:
        raise RstarError(f"the summary page could not be written to {folder}: {error.strerror or error}; the rounds are kept") from error
    return summary
