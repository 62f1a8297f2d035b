"""
The parts of the sandbox: what a process gives up, the confined side and the side that watches it.
"""
from __future__ import annotations
import collections.abc
import typing
__all__: list[str] = ['End', 'GUEST_END', 'GUEST_ERRORS', 'GUEST_INPUT', 'GUEST_OUTPUT', 'GUEST_PROGRAM', 'GUEST_REPORTS', 'NEW_IPC', 'NEW_MOUNTS', 'NEW_NAMES', 'NEW_NETWORK', 'NEW_PROCESSES', 'NEW_USER', 'Outcome', 'Output', 'Supervisor', 'await_supervisor', 'can_place_blocks', 'change_root', 'drop_capabilities', 'fix_addresses', 'gather_memory', 'hear', 'install_filter', 'leave_blocks', 'leave_namespaces', 'limit_resources', 'mount_base', 'name_blocks', 'next_program', 'open_channels', 'place_blocks', 'prepare_forks', 'prepare_guest', 'report', 'report_value', 'restrict_files', 'spread_blocks', 'take_descriptor', 'written_blocks']
class Output:
    """
    Of a stream of bytes its beginning and its end, `limit` bytes together.
    """
    def __init__(self, limit: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def add(self, data: bytes) -> None:
        ...
    def copy(self) -> Output:
        """
        A copy that goes on by itself.
        """
    def skip(self, bytes: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        As if so many bytes came that nobody will ask for.
        """
    @property
    def parts(self) -> typing.Any:
        """
        (beginning, number of bytes left out, end)
        """
class End:
    """
    How a run ended.
    
    Members:
    
      REPORTED
    
      DIED
    
      TIMED_OUT
    
      NO_CHILD
    """
    DIED: typing.ClassVar[End]
    NO_CHILD: typing.ClassVar[End]
    REPORTED: typing.ClassVar[End]
    TIMED_OUT: typing.ClassVar[End]
    __members__: typing.ClassVar[dict[str, End]]
    @typing.overload
    def __eq__(self, other: End) -> bool:
        ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool:
        ...
    def __getstate__(self) -> int:
        ...
    def __hash__(self) -> int:
        ...
    def __index__(self) -> int:
        ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def __int__(self) -> int:
        ...
    @typing.overload
    def __ne__(self, other: End) -> bool:
        ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool:
        ...
    def __repr__(self) -> str:
        ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def __str__(self) -> str:
        ...
    @property
    def name(self) -> str:
        ...
    @property
    def value(self) -> int:
        ...
class Outcome:
    """
    What came of a run.
    """
    @property
    def child(self) -> int:
        """
        the child that has reported, -1 without
        """
    @property
    def end(self) -> End:
        ...
    @property
    def guest_waits(self) -> bool:
        """
        the guest that was forked waits as before; else it is to be ended
        """
    @property
    def may_be_kept(self) -> bool:
        """
        what the child is can be forked
        """
    @property
    def private_bytes(self) -> int:
        """
        at most so much memory is the child's alone
        """
    @property
    def processor_s(self) -> float:
        ...
    @property
    def report(self) -> bytes:
        ...
    @property
    def status(self) -> int:
        """
        of a child that died, as os.wait has it
        """
    @property
    def used_up(self) -> bool:
        """
        it timed out as it had used more processor time than it might
        """
    @property
    def value(self) -> bytes:
        ...
class Supervisor:
    """
    Has programs run in children of guests, and decides what they may.
    """
    def __init__(self, *, output: typing.SupportsInt | typing.SupportsIndex, reports: typing.SupportsInt | typing.SupportsIndex, program: typing.SupportsInt | typing.SupportsIndex, guest_program: typing.SupportsInt | typing.SupportsIndex, listener: typing.SupportsInt | typing.SupportsIndex, owner: typing.SupportsInt | typing.SupportsIndex, keeper: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def adopt(self, guest: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Makes a guest known that waits to be forked.
        """
    def end(self, guest: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Kills a guest and waits for its end.
        """
    def end_all(self) -> None:
        """
        Kills all guests and waits for their ends; nothing can be run after.
        """
    def end_kept(self, guest: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Kills a guest that was kept; its end may come later.
        """
    def run(self, guest: typing.SupportsInt | typing.SupportsIndex, program: bytes, timeout_s: typing.SupportsFloat | typing.SupportsIndex, processor_s: typing.SupportsFloat | typing.SupportsIndex, output: Output) -> Outcome:
        """
        Runs a program in a child of `guest`; what it prints goes on from `output`.
        """
def await_supervisor() -> None:
    """
    Waits until the supervisor wakes it.
    """
def can_place_blocks() -> bool:
    """
    Whether this Python's memory is laid out in a way that is known here.
    """
def change_root(base: str, readable: collections.abc.Sequence[str]) -> None:
    """
    Makes base/root the root: in it the `readable` paths, read-only, some devices, and the scratch folder as /scratch and /tmp.
    """
def drop_capabilities() -> None:
    """
    Gives up all capabilities, for good.
    """
def fix_addresses() -> bool:
    """
    Has what this process executes from now on lie at the same addresses in every run; False where it does already, or cannot.
    """
def gather_memory() -> None:
    """
    Has Python's memory from now on lie in one piece, which huge pages then fill.
    """
def hear(reports: typing.SupportsInt | typing.SupportsIndex) -> bytes:
    """
    The next report of a guest that is not yet forked; empty when it has ended.
    """
def install_filter(*, supervised: bool, may_write: bool) -> int:
    """
    Installs the system-call filter; returns the descriptor at which the supervisor is asked, -1 where there is none.
    """
def leave_blocks() -> None:
    """
    Has blocks lie where Python puts them from now on.
    """
def leave_namespaces(flags: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Leaves the namespaces that `flags` (NEW_...) name for new ones.
    """
def limit_resources(*, memory_bytes: typing.SupportsInt | typing.SupportsIndex, file_bytes: typing.SupportsInt | typing.SupportsIndex, processor_seconds: typing.SupportsInt | typing.SupportsIndex, descriptors: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Sets resource limits; memory is counted on top of what is mapped now.
    """
def mount_base(base: str, scratch_bytes: typing.SupportsInt | typing.SupportsIndex, scratch_files: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Mounts a file system in memory over the folder `base`, with base/root, empty, and base/scratch, limited.
    """
def name_blocks(loaded: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Says what is being loaded, from which blocks of memory have their names.
    """
def next_program() -> bytes:
    """
    Waits to be forked; returns in the child, with its program.
    """
def open_channels() -> tuple[int, int, int, int, int, int]:
    """
    Descriptors of the supervisor's end and the guests' end of each: the pipe for output, the socket for reports, the program.
    """
def place_blocks(names: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]) -> None:
    """
    Has the blocks of these names, in rising order, lie side by side from now on.
    """
def prepare_forks() -> None:
    """
    Arranges this process's memory so that forks of it, and of its children, are cheap.
    """
def prepare_guest() -> None:
    """
    Once, in the first guest: remembers what a fork has to set right.
    """
def report(result: bytes) -> None:
    """
    Tells the supervisor what came of the program.
    """
def report_value(piece: bytes) -> None:
    """
    Tells the supervisor a piece of the value's text, 32 KiB at most, before the report.
    """
def restrict_files(readable: collections.abc.Sequence[str], writable: str) -> int:
    """
    Landlock; `writable` may be empty. Returns the version of the kernel's.
    """
def spread_blocks() -> None:
    """
    Has each block of memory lie on a page of its own from now on.
    """
def take_descriptor(process: typing.SupportsInt | typing.SupportsIndex, descriptor: typing.SupportsInt | typing.SupportsIndex) -> int:
    """
    A descriptor of another process, as one of this process.
    """
def written_blocks() -> list[int]:
    """
    Of the spread blocks, the names of those that a fork has written.
    """
GUEST_END: int
GUEST_ERRORS: int
GUEST_INPUT: int
GUEST_OUTPUT: int
GUEST_PROGRAM: int
GUEST_REPORTS: int
NEW_IPC: int
NEW_MOUNTS: int
NEW_NAMES: int
NEW_NETWORK: int
NEW_PROCESSES: int
NEW_USER: int
