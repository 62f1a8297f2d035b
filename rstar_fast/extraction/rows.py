"""What was extracted from a batch as rows of the data sets, made in Arrow: no text passes through Python one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rstar_fast import steps
from rstar_fast.config import Behaviour, Difficulty, ExtractionConfig
from rstar_fast.extraction.batches import Batch

_SLICE = 8192  # pairs whose texts are in memory at a time; prefixes repeat, and may be long

FINAL = -1  # in place of a depth: pairs of whole trajectories

SFT = pa.schema(
    [
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("problem", pa.string()),
        ("difficulty", pa.string()),
        ("q_mean", pa.float64()),
        ("q_min", pa.float64()),
    ]
)
PAIRS = pa.schema(
    [
        ("prompt", pa.string()),  # question and prefix; of a final pair the question alone
        ("chosen", pa.string()),  # a step; of a final pair a whole solution
        ("rejected", pa.string()),
        ("problem", pa.string()),
        ("difficulty", pa.string()),
        ("depth", pa.int32()),  # of the step, 1 for the first; of a final pair the steps of `chosen`
        ("group", pa.int64()),  # the pairs of one prefix share it, and stand together
        ("q_chosen", pa.float64()),
        ("q_rejected", pa.float64()),
        ("final", pa.bool_()),
        ("positives", pa.int32()),  # in the group, those included that margin and edit distance left without a pair
        ("negatives", pa.int32()),
    ]
)
PROBLEMS = pa.schema(
    [
        ("problem", pa.string()),
        ("question", pa.string()),
        ("difficulty", pa.string()),
        ("trajectories", pa.int32()),
        ("correct", pa.int32()),
        ("kept", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Extracted:
    """What the trees of a batch of P problems give.

    Attributes:
      batch: the trees.
      arrays: by name, as csrc/extract.h has them.
      difficulty: [P] of Difficulty values.
      kept: [P] bool, whether the mix takes the problem.
    """

    batch: Batch
    arrays: Mapping[str, np.ndarray]
    difficulty: np.ndarray
    kept: np.ndarray

    def problems(self) -> pa.RecordBatch:
        """A row of PROBLEMS for each problem."""
        columns = [
            pa.array(list(map(steps.without_surrogates, self.batch.ids))),
            pa.array(list(map(steps.without_surrogates, self.batch.questions))),
            pa.array(self.difficulty, pa.string()),
            pa.array(self.arrays["problem_trajectories"].astype(np.int32)),
            pa.array(self.arrays["problem_correct"].astype(np.int32)),
            pa.array(self.kept),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=PROBLEMS)

    def sft(self) -> pa.RecordBatch:
        """A row of SFT for each chosen solution of the kept problems, best first."""
        rank, problem = self.arrays["trajectory_rank"], self.arrays["trajectory_problem"]
        at = ((rank > 0) & self.kept[problem]).nonzero()[0]
        at = at[np.lexsort((rank[at], problem[at]))]
        names, questions, difficulty = self._of_problems(problem[at])
        columns = [
            questions,
            self._texts("solutions", self.arrays["trajectory_row"][at]),
            names,
            difficulty,
            pa.array(self.arrays["trajectory_q_mean"][at]),
            pa.array(self.arrays["trajectory_q_min"][at]),
        ]
        return _batch(columns, SFT)

    def pairs(self, first_group: int) -> Iterator[pa.RecordBatch]:
        """Rows of PAIRS of the kept problems, group by group.

        Args:
          first_group: the number of the batch's first group.
        """
        kept = self.kept[self.arrays["pair_problem"]].nonzero()[0]
        for begin in range(0, len(kept), _SLICE):
            at = kept[begin : begin + _SLICE]
            yield self._pairs(at, first_group)

    @property
    def groups(self) -> int:
        """Groups of pairs in the batch, those of problems that are not kept included."""
        groups = self.arrays["pair_group"]
        return int(groups[-1]) + 1 if len(groups) else 0

    @property
    def kept_groups(self) -> int:
        """Groups of pairs of the kept problems."""
        return len(np.unique(self.arrays["pair_group"][self.kept[self.arrays["pair_problem"]]]))

    def depth_of_pairs(self) -> np.ndarray:
        """For each pair of the kept problems the depth of its step, 1 for the first; FINAL without one."""
        kept = self.kept[self.arrays["pair_problem"]]
        depth = self.batch.depth[self.arrays["pair_chosen"][kept]].astype(np.int64)
        return np.where(self.arrays["pair_final"][kept] > 0, FINAL, depth)

    def _pairs(self, at: np.ndarray, first_group: int) -> pa.RecordBatch:
        arrays = {name.removeprefix("pair_"): array[at] for name, array in self.arrays.items() if name.startswith("pair_")}
        names, questions, difficulty = self._of_problems(arrays["problem"])
        final = arrays["final"] > 0
        prefix = self._texts("prefixes", arrays["chosen"], ~final)
        columns = [
            pc.binary_join_element_wise(questions, prefix, pa.scalar("", pa.large_string())),
            self._sides(arrays["chosen"], final),
            self._sides(arrays["rejected"], final),
            names,
            difficulty,
            pa.array(self.batch.depth[arrays["chosen"]].astype(np.int32)),
            pa.array(arrays["group"].astype(np.int64) + first_group),
            pa.array(arrays["q_chosen"]),
            pa.array(arrays["q_rejected"]),
            pa.array(final),
            pa.array(arrays["positives"].astype(np.int32)),
            pa.array(arrays["negatives"].astype(np.int32)),
        ]
        return _batch(columns, PAIRS)

    def _sides(self, rows: np.ndarray, final: np.ndarray) -> pa.Array:
        """The texts of one side of pairs: steps, or of final pairs whole solutions."""
        return pc.if_else(pa.array(final), self._texts("solutions", rows, final), self._texts("steps", rows, ~final))

    def _of_problems(self, numbers: np.ndarray) -> tuple[pa.Array, pa.Array, pa.Array]:
        """The id, prompt and difficulty of each problem named."""
        present, places = np.unique(numbers, return_inverse=True)
        names = [steps.without_surrogates(self.batch.ids[number]) for number in present.tolist()]
        prompts = [steps.without_surrogates(steps.prompt_of(self.batch.questions[number])) for number in present.tolist()]
        at = pa.array(places)
        difficulty = pa.array(self.difficulty[numbers], pa.string())
        return pa.array(names, pa.string()).take(at), pa.array(prompts, pa.large_string()).take(at), difficulty

    def _texts(self, part: str, rows: np.ndarray, wanted: np.ndarray | None = None) -> pa.Array:
        """The texts of rows; empty where they are not wanted."""
        assert self.batch.trees is not None
        asked = rows if wanted is None else rows[wanted]
        offsets, data = getattr(self.batch.trees, part)(asked)
        texts = pa.Array.from_buffers(pa.large_string(), len(asked), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        if wanted is None:
            return texts
        places = np.cumsum(wanted) - 1
        return pc.fill_null(texts.take(pa.array(places, mask=~wanted)), "")


def _batch(columns: list[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def extracted(batch: Batch, config: ExtractionConfig) -> Extracted:
    """Extracts from the trees of a batch of one problem or more."""
    assert batch.trees is not None
    arrays = batch.trees.extract(
        batch.correct,
        trajectories=config.trajectories,
        positives=config.positives,
        negatives=config.negatives,
        final_step=config.final_step,
        min_margin=config.min_margin,
        min_edit_distance=config.min_edit_distance,
        reference=config.behaviour is Behaviour.REFERENCE,
    )
    correct, trajectories = arrays["problem_correct"], arrays["problem_trajectories"]
    names = [difficulty.value for difficulty in (Difficulty.HARD, Difficulty.EASY, Difficulty.MEDIUM)]
    difficulty = np.where(correct == 0, names[0], np.where(correct == trajectories, names[1], names[2])).astype(object)
    kept = [
        _is_drawn(problem_id, config.mix.of(Difficulty(kind)), config.seed)
        for problem_id, kind in zip(batch.ids, difficulty, strict=True)
    ]
    return Extracted(batch, arrays, difficulty, np.array(kept, bool))


def _is_drawn(problem_id: str, share: float, seed: int) -> bool:
    """Whether a problem is in the share that is kept: its own number from [0, 1) decides, not what stands beside it."""
    digest = hashlib.blake2b(f"{seed} {problem_id}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56 < share
