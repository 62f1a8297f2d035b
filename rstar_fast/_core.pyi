"""
The search forest: many trees, selected, expanded and backed up in C++ without locks.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
__all__: list[str] = ['COMPILER', 'Forest', 'NODE_BYTES', 'SELECTORS', 'Trees', 'UsageError', 'differ_by', 'fault_of_tree', 'microbench_forest', 'microbench_handover', 'microbench_single', 'select_child']
class UsageError(ValueError):
    pass
class Forest:
    """
    Search trees under one set of rules; every method may be called from any thread.
    """
    def __init__(self, *, c: typing.SupportsFloat | typing.SupportsIndex = 2.0, first_play_urgency: typing.SupportsFloat | typing.SupportsIndex = 0.0, virtual_loss: typing.SupportsFloat | typing.SupportsIndex = 1.0, in_flight: typing.SupportsInt | typing.SupportsIndex = 1, own_visits: bool = False, reference: bool = False, max_expansions: typing.SupportsInt | typing.SupportsIndex = 0, most_out: typing.SupportsInt | typing.SupportsIndex = 0, notes: bool = False, log_table: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None) -> None:
        """
        in_flight: rollouts out at a time in a tree. most_out: leaves out at a time in all; 0 for no limit. notes: steps come with texts. own_visits: a new child with a value starts with one visit of it. log_table: [n] = ln(n) as float64, where selection must agree with another library's logarithm to the last bit.
        """
    def add_tree(self, rollouts: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Adds a tree that runs this many rollouts; its number.
        """
    def backup(self, tickets: numpy.typing.NDArray[numpy.int64], values: numpy.typing.NDArray[numpy.float64]) -> None:
        """
        Ends the rollouts at their leaves: adds values[b] float64 to every node from the leaf of tickets[b] to the root. The leaf stays unexpanded.
        """
    def cancel(self, ticket: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Gives the leaf back: its rollout never happened, and another may claim the leaf.
        """
    def claim(self, trees: numpy.typing.NDArray[numpy.uint32], lengths: numpy.typing.NDArray[numpy.uint32], nodes: numpy.typing.NDArray[numpy.uint32]) -> numpy.typing.NDArray[numpy.int64]:
        """
        Leaves that the caller chooses, as select hands them out: [B] int64 tickets. trees[b] uint32 is walked from its root over lengths[b] uint32 nodes, taken in order from nodes uint32. Where one is no leaf that may be had, UsageError says why, and nothing has changed.
        """
    def close(self, ticket: typing.SupportsInt | typing.SupportsIndex, terminal: typing.SupportsInt | typing.SupportsIndex, value: typing.SupportsFloat | typing.SupportsIndex) -> None:
        """
        Makes the leaf terminal, with the value of rollouts that end there.
        """
    def columns(self, tree: typing.SupportsInt | typing.SupportsIndex) -> dict:
        """
        The tree's columns by name, breadth-first, with its texts where the forest keeps notes; and `node`, the nodes' indices in the forest.
        """
    def expand(self, tickets: numpy.typing.NDArray[numpy.int64], counts: numpy.typing.NDArray[numpy.uint32], values: numpy.typing.NDArray[numpy.float64], scores: numpy.typing.NDArray[numpy.float32], terminals: numpy.typing.NDArray[numpy.uint8], notes: tuple | None = None) -> numpy.typing.NDArray[numpy.uint32]:
        """
        Gives counts[b] uint32 children to the leaf of tickets[b] int64, in order from values float64 (NaN: none), scores float32 (NaN: none) and terminals uint8; where the forest keeps notes, with the children's (texts, observations, answers, proposals uint32). Returns the first child of each leaf, [B] uint32; siblings are consecutive. A wrong ticket raises UsageError and changes nothing.
        """
    def extend(self, tree: typing.SupportsInt | typing.SupportsIndex, rollouts: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Gives a tree so many rollouts more, also one that was reported finished, and will be again; a stopped one more than it has started.
        """
    def in_flight(self, tree: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Virtual visits in the tree; 0 when no rollout is out.
        """
    def leave(self, tickets: numpy.typing.NDArray[numpy.int64]) -> None:
        """
        Ends the rollouts whose leaves by these tickets have been expanded or closed, where they stand and without a visit; before a select goes on with them.
        """
    def remove(self, tree: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Frees a tree none of whose leaves is out; its number may be given to a later tree.
        """
    def rollouts_ended(self, tree: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Rollouts that have come to their end.
        """
    def root(self, tree: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        The index of the tree's root.
        """
    def select(self, limit: typing.SupportsInt | typing.SupportsIndex, threads: typing.SupportsInt | typing.SupportsIndex = 1) -> tuple:
        """
        Up to `limit` leaves from all trees: (tickets [B] int64, trees [B], nodes [B], depths [B], finished [F]) with uint32 for all but the tickets; finished names each tree once, when its last rollout has ended.
        """
    def solutions(self, tickets: numpy.typing.NDArray[numpy.int64]) -> list:
        """
        The texts of the steps from the root to each leaf, one behind the other: [B] str. The tickets stay out.
        """
    def stop(self, tree: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        No rollout of the tree starts any more; those that wait end without a visit at the next select, which reports the tree finished once none of its leaves is out.
        """
class Trees:
    """
    Columns of many stored trees, one behind the other: those of types.TREE_COLUMNS that are needed; `starts` int64 [T + 1], the row where each tree begins; `problems` uint32 [T], never falling; for text, observation and answer <name>_starts int64 [T + 1], <name>_offsets int64 [N + T], <name>_bytes.
    """
    def __init__(self, columns: dict) -> None:
        """
        Checks the columns, row by row; UsageError says what does not fit. They become read-only.
        """
    def answers(self, rows: numpy.typing.NDArray[numpy.int64]) -> tuple:
        """
        As `solutions`, but the answers that the rows give.
        """
    def extract(self, correct: numpy.typing.NDArray[numpy.int8], *, trajectories: typing.SupportsInt | typing.SupportsIndex = 2, positives: typing.SupportsInt | typing.SupportsIndex = 2, negatives: typing.SupportsInt | typing.SupportsIndex = 2, final_step: bool = True, min_margin: typing.SupportsFloat | typing.SupportsIndex = 0.0, min_edit_distance: typing.SupportsInt | typing.SupportsIndex = 0, reference: bool = False) -> dict:
        """
        Trajectories and preference pairs, as arrays by name (csrc/extract.h). correct: int8 [N], 1 where a row's answer is right, 0 where it is wrong, -1 elsewhere.
        """
    def prefixes(self, rows: numpy.typing.NDArray[numpy.int64]) -> tuple:
        """
        As `solutions`, without each row's own step.
        """
    def rows(self, of_tree: numpy.typing.NDArray[numpy.uint32], tags: collections.abc.Sequence[str]) -> numpy.typing.NDArray[numpy.int64]:
        """
        The row of each tag in its tree, [B] int64; -1 where there is none.
        """
    def solutions(self, rows: numpy.typing.NDArray[numpy.int64]) -> tuple:
        """
        The solutions that end in each row, as (offsets int64 [B + 1], bytes): UTF-8, lone surrogates replaced.
        """
    def steps(self, rows: numpy.typing.NDArray[numpy.int64]) -> tuple:
        """
        As `solutions`, each row's own step only.
        """
def differ_by(a: str, b: str, least: typing.SupportsInt | typing.SupportsIndex) -> bool:
    """
    Whether the edit distance of two texts, in code points, is at least so much.
    """
def fault_of_tree(columns: dict) -> str:
    """
    What is wrong with a tree's columns: the first row that does not fit the others; an empty text where all fit. types.Tree says which columns, and checks their types and lengths before.
    """
def microbench_forest(*, trees: typing.SupportsInt | typing.SupportsIndex, simulations: typing.SupportsInt | typing.SupportsIndex, open: typing.SupportsInt | typing.SupportsIndex = 0, in_flight: typing.SupportsInt | typing.SupportsIndex = 1, batch: typing.SupportsInt | typing.SupportsIndex = 1024, threads: typing.SupportsInt | typing.SupportsIndex = 1, rollouts: bool = False, repeats: typing.SupportsInt | typing.SupportsIndex = 1, children: typing.SupportsInt | typing.SupportsIndex = 32, depth: typing.SupportsInt | typing.SupportsIndex = 16, c: typing.SupportsFloat | typing.SupportsIndex = 2.0) -> dict:
    """
    Threads that each select from, and give back to, one forest; its trees anew `repeats` times. The last time is measured. open: trees in the forest at a time, the others follow as trees end; 0: all from the start.
    """
def microbench_handover() -> float:
    """
    Nanoseconds that a cache line takes from core to core, between two threads; needs two cores.
    """
def microbench_single(simulations: typing.SupportsInt | typing.SupportsIndex, children: typing.SupportsInt | typing.SupportsIndex = 32, depth: typing.SupportsInt | typing.SupportsIndex = 16, c: typing.SupportsFloat | typing.SupportsIndex = 2.0) -> dict:
    """
    What the tree costs with a free evaluator (csrc/microbench.h): one tree, one simulation at a time.
    """
def select_child(selector: str, value_sums: numpy.typing.NDArray[numpy.float64], visits: numpy.typing.NDArray[numpy.uint32], in_flight: numpy.typing.NDArray[numpy.uint16], parent_visits: typing.SupportsInt | typing.SupportsIndex, rollouts: typing.SupportsInt | typing.SupportsIndex = 1, *, c: typing.SupportsFloat | typing.SupportsIndex = 2.0, first_play_urgency: typing.SupportsFloat | typing.SupportsIndex = 0.0, virtual_loss: typing.SupportsFloat | typing.SupportsIndex = 1.0) -> numpy.typing.NDArray[numpy.uint32]:
    """
    Positions of the children that UCT chooses for rollouts one after another, [rollouts] uint32, by one of SELECTORS: value_sums float64, visits uint32, in_flight uint16, all [n]. Each rollout sees those before it as virtual visits. All selectors give the same; searches use the first.
    """
COMPILER: str
NODE_BYTES: tuple
SELECTORS: tuple
