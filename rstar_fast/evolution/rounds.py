"""The stages of an evolution: what each makes, and of what.

    round-k/search, search-2 ...     run folders: the training problems, then those that are unsolved, with more rollouts
    round-k/data                     what is extracted from them
    round-k/policy                   trained on it from the base
    round-k/heldout-search, -data    the same of held-out problems, but for `heldout_search`: what the PPM's accuracy is measured on
    round-k/ppm                      trained on the pairs from the policy
    round-k/control                  the previous policy, trained on the previous data for as many updates
    round-k/greedy, samples, evaluation, control-greedy, control-evaluation
                                     run folders of what measures the round's models, and the control
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from rstar_fast.config import PpmKind, SearchConfig
from rstar_fast.evolution import measuring
from rstar_fast.evolution.config import EvolutionConfig, RoundConfig, seed_of
from rstar_fast.evolution.stages import Record, Records, Stage
from rstar_fast.extraction import EmptyDataSet, extract
from rstar_fast.storage import ProblemFile, read_problems
from rstar_fast.storage.atomic import remove_leftovers
from rstar_fast.training.datasets import digest
from rstar_fast.training.policy import train_policy
from rstar_fast.training.ppm import train_ppm
from rstar_fast.types import InvalidInput, Problem, ProgressEvent, RstarError, TrainingDiverged

# The parts of a round that draw: the seed of each is its own (`seed_of`). Passes of the search count on from SEARCH.
_POLICY, _PPM, _CONTROL, _HELDOUT, _GREEDY, _SAMPLES, _INFERENCE, _SEARCH = range(8)
_DATA_FORMAT = "parquet"
_AGAIN = "add a pass with more rollouts to its `again`, and the same command goes on"


class Rounds:
    """An evolution's stages, in order.

    Args:
      config: the evolution.
      records: its folder.
      problems: those to train on by round, and those held out (`problems_of`).
      progress: is told the events of searches, and how far trainings are: (stage, what).
    """

    def __init__(
        self,
        config: EvolutionConfig,
        records: Records,
        problems: tuple[Sequence[ProblemFile], ProblemFile],
        progress: Callable[[Stage, Any], object] | None = None,
    ) -> None:
        self._config, self._records, self._progress = config, records, progress
        self._train, self._heldout = problems

    def stages(self) -> Iterator[Stage]:
        """All stages, done or not."""
        for number, round_ in enumerate(self._config.rounds, 1):
            yield from self._round(number, round_)

    def _round(self, k: int, round_: RoundConfig) -> Iterator[Stage]:
        def stage(name: str, says: str, problems: int, work: Callable[..., Record], *arguments: Any) -> Stage:
            made = Stage(k, name, says, problems, lambda: work(made, *arguments))
            return made

        total, held = len(self._train[k - 1].problems), len(self._heldout.problems)
        yield stage("search", f"search {total} problems, {_said(round_.search)}", total, self._search, round_, 0)
        for at, rollouts in enumerate(round_.again, 1):
            before = [self._records.get(k, name) or {} for name in _passes(round_)[:at]]
            left = total - sum(record.get("solved", 0) for record in before)
            yield stage(f"search-{at + 1}", f"search the unsolved again, {rollouts} rollouts", left, self._search, round_, at)
        yield stage("extract", "extract solutions and pairs", 0, self._extract, round_)
        yield stage("policy", "train the policy from the base", 0, self._policy, round_)
        alike = self._config.heldout_search_of(round_)
        yield stage("heldout-search", f"search {held} held-out problems, {_said(alike)}", held, self._search_heldout, alike)
        yield stage("heldout-extract", "extract their pairs", 0, self._extract_heldout, round_)
        yield stage("ppm", "train the PPM from the policy", 0, self._ppm, round_)
        yield stage("greedy", "measure the policy, greedy", held, self._measure_greedy, "policy")
        yield stage("samples", f"measure the policy, {self._config.evaluation.samples} samples", held, self._measure_samples)
        yield stage("evaluation", "measure the policy and the PPM, search", held, self._measure_search, "policy")
        if self._config.control and self._previous_data(k) is not None:
            yield stage("control", "train the control: the previous policy, on the previous data", 0, self._control, round_)
            yield stage("control-greedy", "measure the control, greedy", held, self._measure_greedy, "control")
            yield stage("control-evaluation", "measure the control, search", held, self._measure_search, "control")

    # --- what the stages do ------------------------------------------------------------------------------------------

    def _search(self, stage: Stage, round_: RoundConfig, at: int) -> Record:
        given = self._train[stage.round - 1]
        problems: Sequence[Problem] = given.problems
        config = round_.search
        if at:
            unsolved = set(self._record(stage, _passes(round_)[at - 1])["unsolved"])
            problems = [problem for problem in problems if problem.id in unsolved]
            config = dataclasses.replace(config, rollouts=round_.again[at - 1])
        return self._searched(stage, problems, given, config, seed_of(self._config, stage.round, _SEARCH + at))

    def _searched(
        self, stage: Stage, problems: Sequence[Problem], given: ProblemFile, config: SearchConfig, seed: int
    ) -> dict[str, Any]:
        """Searches problems of a file with the models of the round before, into the run folder of the stage's name."""
        before = self._folder(stage, back=1)
        first = stage.round == 1
        policy = (self._config.bootstrap or self._config.base) if first else str(before / "policy")
        _, outcomes = measuring.searched(
            problems,
            policy=self._engine(policy),
            ppm="nano" if not config.annotation.needs_scorer else str(before / "ppm"),
            config=dataclasses.replace(config, seed=seed),
            answers={problem.id: given.answers[problem.id] for problem in problems},
            run_dir=self._folder(stage) / stage.name,
            progress=self._events(stage),
        )
        solved = {problem_id for problem_id, outcome in outcomes.items() if outcome.solved}
        return {
            "searched": len(problems),
            "solved": len(solved),
            "solved_by_level": Counter(given.labels.get(problem_id, {}).get("level", "") for problem_id in solved),
            "unsolved": [problem.id for problem in problems if problem.id not in solved],
            "failed": sum(bool(outcome.broke) for outcome in outcomes.values()),
            "tokens": sum(outcome.tokens for outcome in outcomes.values()),
        }

    def _extract(self, stage: Stage, round_: RoundConfig) -> Record:
        runs = [self._folder(stage) / name for name in _passes(round_)]
        for back in range(1, min(round_.earlier, stage.round - 1) + 1):
            runs += [self._folder(stage, back) / name for name in _passes(self._config.rounds[stage.round - back - 1])]
        if not sum(self._record(stage, name)["solved"] for name in _passes(round_)):
            raise RstarError(
                f"round {stage.round} solved no problem: {_AGAIN}; or begin in another folder with easier problems, "
                "or a better bootstrap policy"
            )
        seed = seed_of(self._config, stage.round, 0)
        out = self._folder(stage) / "data"
        remove_leftovers(out)
        try:
            found = extract(runs, out, config=dataclasses.replace(round_.extraction, format=_DATA_FORMAT, seed=seed))
        except EmptyDataSet:
            found = None
        # Told here, where extractions and passes may still be others: the trainings that lack them come hours later.
        if found is None or not found.solutions:
            raise RstarError(
                f"round {stage.round} found no solutions for the policy: let its extraction keep more (trajectories, mix), or {_AGAIN}"
            )
        if not found.pairs:
            raise RstarError(
                f"round {stage.round} found no pairs for the PPM: no problem has both right and wrong steps that its extraction takes. "
                f"Give that a lower min_margin or min_edit_distance, or final_step: true, or {_AGAIN}; or begin in another folder "
                "with harder problems"
            )
        return found.to_mapping()

    def _policy(self, stage: Stage, round_: RoundConfig) -> Record:
        config = dataclasses.replace(round_.policy_training, seed=seed_of(self._config, stage.round, _POLICY))
        return self._trained(stage, "policy", self._sft(stage), self._config.base, config)

    def _control(self, stage: Stage, round_: RoundConfig) -> Record:
        updates = self._record(stage, "policy")["updates"]
        config = dataclasses.replace(round_.policy_training, seed=seed_of(self._config, stage.round, _CONTROL), updates=updates)
        previous = self._config.base if stage.round == 1 else str(self._folder(stage, back=1) / "policy")
        data = self._previous_data(stage.round)
        assert data is not None
        return self._trained(stage, "control", data, previous, config)

    def _ppm(self, stage: Stage, round_: RoundConfig) -> Record:
        folder = self._folder(stage)
        config = dataclasses.replace(round_.ppm_training, seed=seed_of(self._config, stage.round, _PPM))
        pairs, heldout = (folder / data / f"pairs.{_DATA_FORMAT}" for data in ("data", "heldout-data"))
        measured = heldout if self._record(stage, "heldout-extract")["pairs"] else None
        files = {"heldout": measured, "solutions": self._sft(stage) if config.kind is PpmKind.CHANNEL else None}
        return self._trained(stage, "ppm", pairs, self._config.ppm_base or str(folder / "policy"), config, files)

    def _search_heldout(self, stage: Stage, search: SearchConfig) -> Record:
        seed = seed_of(self._config, stage.round, _HELDOUT)
        return self._searched(stage, self._heldout.problems, self._heldout, search, seed)

    def _extract_heldout(self, stage: Stage, round_: RoundConfig) -> Record:
        folder = self._folder(stage)
        if not self._record(stage, "heldout-search")["solved"]:
            return {"pairs": 0}  # a pair takes something right
        config = dataclasses.replace(round_.extraction, format=_DATA_FORMAT, mix={})
        remove_leftovers(folder / "heldout-data")
        try:
            return extract(folder / "heldout-search", folder / "heldout-data", config=config).to_mapping()
        except EmptyDataSet:
            return {"pairs": 0}

    def _measure_greedy(self, stage: Stage, model: str) -> Record:
        folder, settings = self._folder(stage), self._search_settings(stage, _GREEDY)
        return measuring.greedy(self._heldout, self._engine(str(folder / model)), settings, folder / stage.name, self._events(stage))

    def _measure_samples(self, stage: Stage) -> Record:
        folder, evaluation = self._folder(stage), self._config.evaluation
        settings = self._search_settings(stage, _SAMPLES)
        policy = self._engine(str(folder / "policy"))
        ppm, count = str(folder / "ppm"), evaluation.samples
        return measuring.samples(self._heldout, policy, ppm, count, settings, folder / stage.name, self._events(stage))

    def _measure_search(self, stage: Stage, model: str) -> Record:
        folder = self._folder(stage)
        config = self._search_settings(stage, _INFERENCE)
        policy = self._engine(str(folder / model))
        # The control is what there was before, trained longer: its PPM is that of the round before, where there is one.
        of = stage.round - 1 if model == "control" and stage.round > 1 else stage.round
        ppm = str(self._records.folder(of) / "ppm")
        return measuring.search(self._heldout, policy, ppm, config, folder / stage.name, self._events(stage))

    # --- what they share ---------------------------------------------------------------------------------------------

    def _trained(
        self, stage: Stage, kind: str, data: Path, policy: str, config: Any, files: Mapping[str, Path | None] | None = None
    ) -> Record:
        """Trains in this process, or by the launcher's command, which gets the same settings in a file.

        Args:
          files: further files that the training takes, by the name of its argument, those that are not None.
        """
        out = self._folder(stage) / stage.name
        further = {name: file for name, file in (files or {}).items() if file is not None}
        _remove_if_told_otherwise(out, policy, data, config)
        if stage.name == "control":  # the policy's settings, which are in what is done
            mend = "give control: false, and the same command goes on without controls"
        else:
            mend = f"give the round's {kind}_training a lower learning_rate, and the same command goes on"
        if not self._config.launcher:
            train: Callable[..., Any] = train_ppm if kind == "ppm" else train_policy
            try:
                train(data, out, policy=policy, config=config, progress=self._updates(stage), **further)
            except TrainingDiverged as error:
                raise TrainingDiverged(f"round {stage.round}, {stage.name}: {error}; here, {mend}") from error
        else:
            settings = self._folder(stage) / "records" / f"{stage.name}.yaml"
            settings.write_text(yaml.safe_dump(config.to_mapping()), "utf-8")
            command = [*self._config.launcher, "-m", "rstar_fast.cli", "train-ppm" if kind == "ppm" else "train-policy", str(data)]
            command += ["--policy", policy, "--out", str(out), "--config", str(settings)]
            command += [word for name, file in further.items() for word in (f"--{name}", str(file))]
            if shutil.which(command[0]) is None:
                raise InvalidInput(f"launcher {command[0]!r} cannot be started: there is no such command")
            watched = [sys.executable, "-P", "-m", "rstar_fast.evolution.launched", str(os.getpid()), *command]
            done = subprocess.run(watched, stdout=sys.stderr, check=False)
            if done.returncode:
                raise RstarError(
                    f"round {stage.round}, {stage.name}: the launcher ended with status {done.returncode}; what it wrote stands above. "
                    f"Where the training diverged, {mend}"
                )
        return measuring.training(out)

    def _sft(self, stage: Stage) -> Path:
        return self._folder(stage) / "data" / f"sft.{_DATA_FORMAT}"

    def _previous_data(self, k: int) -> Path | None:
        if k == 1:
            return Path(self._config.base_data) if self._config.base_data is not None else None
        return self._records.folder(k - 1) / "data" / f"sft.{_DATA_FORMAT}"

    def _record(self, stage: Stage, name: str) -> Record:
        record = self._records.get(stage.round, name)
        assert record is not None, f"{name} comes before {stage.name}"
        return record

    def _folder(self, stage: Stage, back: int = 0) -> Path:
        return self._records.folder(stage.round - back)

    def _engine(self, policy: str) -> str:
        return f"vllm:{policy}" if self._config.engine == "vllm" else policy

    def _search_settings(self, stage: Stage, part: int) -> SearchConfig:
        return dataclasses.replace(self._config.evaluation.search, seed=seed_of(self._config, stage.round, part))

    def _events(self, stage: Stage) -> Callable[[ProgressEvent], object] | None:
        return None if self._progress is None else partial(self._progress, stage)

    def _updates(self, stage: Stage) -> Callable[[int, int, float], None] | None:
        if self._progress is None:
            return None
        events = partial(self._progress, stage)

        def told(done: int, total: int, loss: float) -> None:
            events((done, total, loss))

        return told


def problems_of(config: EvolutionConfig) -> tuple[tuple[ProblemFile, ...], ProblemFile]:
    """The training problems of each round, and those held out.

    Raises:
      InvalidInput: a problem has no answer, or a problem or an id is in both.
    """
    read = {}
    for path in dict.fromkeys((*config.problem_files, config.heldout)):
        read[path] = read_problems(path)
        without = [problem.id for problem in read[path].problems if problem.id not in read[path].answers]
        if without:
            raise InvalidInput(f"{len(without)} of {len(read[path].problems)} problems of {path} have no answer, the first {without[0]!r}: add them")
    heldout = read[config.heldout]
    for path in dict.fromkeys(config.problem_files):
        for what, of in (("questions", lambda problem: problem.question), ("ids", lambda problem: problem.id)):
            there = set(map(of, read[path].problems))
            both = [of(problem) for problem in heldout.problems if of(problem) in there]
            if both:
                raise InvalidInput(
                    f"{len(both)} {what} of {config.heldout} are in {path} as well, the first {both[0][:80]!r}: hold out others"
                    + (", or leave ids out of both files" if what == "ids" else "")
                )
    most = config.evaluation.problems
    chosen = heldout if most is None else dataclasses.replace(heldout, problems=heldout.problems[:most])
    return tuple(read[path] for path in config.problem_files), chosen


def _remove_if_told_otherwise(out: Path, policy: str, data: Path, config: Any) -> None:
    """Removes a training that was begun with another policy, data or settings: it is not done, and its folder is the evolution's."""
    try:
        before = json.loads((out / "training.json").read_text("utf-8"))
    except (OSError, ValueError):
        return
    told = {"policy": policy, "data": digest(data), **config.to_mapping()}
    if any(before.get(name) != value for name, value in told.items() if name not in config.changes_no_result):
        remove_leftovers(out)
        out.rename(out.with_name(f".{out.name}.partial-before"))  # in one step: after a kill, half of a state could be gone on from
        remove_leftovers(out)


def _passes(round_: RoundConfig) -> list[str]:
    """The run folders of a round's searches."""
    return ["search", *(f"search-{at + 2}" for at in range(len(round_.again)))]


def _said(config: SearchConfig) -> str:
    return f"{config.rollouts} rollouts of {config.candidates} candidates, annotation {config.annotation.value}"
