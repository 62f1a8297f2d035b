"""Programs that mean harm: each is contained, what became of it is told, and correct normal runs follow.

Every attack is made three times: as a first step, as a later step, and as a step that has others after it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import below

from rstar_fast.config import SandboxConfig
from rstar_fast.sandbox import Sandbox
from rstar_fast.types import CodeError, ErrorKind, Execution, Program

LIMITS = SandboxConfig(timeout_s=2.0, cpu_s=10.0, memory_mb=128, output_chars=2000, scratch_mb=4)
PREFIX = "import sympy\nx = sympy.Symbol('x')\nprint('begun')\n"
RAISED, TIMED_OUT, NO_MEMORY, CRASHED = ErrorKind.RAISED, ErrorKind.TIMED_OUT, ErrorKind.OUT_OF_MEMORY, ErrorKind.CRASHED


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(2, LIMITS) as sandbox:
        yield sandbox


def run(sandbox: Sandbox, code: str, prefix: str = "") -> Execution:
    return asyncio.run(sandbox.run(textwrap.dedent(code), prefix))


def is_sound(sandbox: Sandbox) -> None:
    """Normal programs give what they should, in every worker, from nothing and from states that were kept before the attack."""
    programs = [
        Program("print(sympy.solve(x**2 - 5*x + 6, x), sum([1, 2]), len('abc'))", PREFIX),
        Program("import json\nprint(json.dumps({'a': [1, None]}), json.loads('[2]'))", PREFIX),
        Program("import math, os\nprint(math.sqrt(16), os.listdir('.'), round(2.5), sorted({3, 1}))"),
        Program("import random\nprint(random.random())\nx = 5\nx"),
    ]
    for execution, wanted in zip(
        asyncio.run(sandbox.run_batch(programs)),
        (
            "begun\n[2, 3] 3 3\n",
            'begun\n{"a": [1, null]} [2]\n',
            "4.0 [] 2 [1, 3]\n",
            "0.8444218515250481\n5",
        ),
        strict=True,
    ):
        assert execution.error is None and execution.output == wanted, execution


@dataclass(frozen=True)
class Attack:
    """A program, and the kinds of end it may come to; None where it comes to its end."""

    name: str
    code: str
    ends: tuple[ErrorKind | None, ...] = (RAISED,)
    types: tuple[str, ...] = ("PermissionError",)
    output: str | None = None


LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
GONE = ("FileNotFoundError",)
READ_ONLY = ("OSError", "PermissionError")  # of a file system that is read-only, or of Landlock

ATTACKS = [
    # processes
    Attack("fork bomb", "import os\nwhile True: os.fork()"),
    Attack(
        "fork bomb in C",
        LIBC + "for _ in range(1000): assert libc.fork() == -1 and libc.vfork() == -1\nprint('no')",
        (None,),
        (),
    ),
    Attack("subprocess", "import subprocess\nsubprocess.run(['true'])"),
    Attack("exec", "import os\nos.execv('/bin/true', ['true'])", (RAISED,), ("PermissionError", "FileNotFoundError")),
    Attack("spawn", "import os\nos.posix_spawn('/bin/true', ['true'], {})"),
    Attack("shell", "import os\nassert os.system('true') != 0", (None,), ()),
    Attack("multiprocessing", "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()"),
    Attack(
        "thread bomb",
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        (RAISED,),
        ("RuntimeError",),
    ),
    # time
    Attack("loop", "while True:\n    try:\n        while True: pass\n    except BaseException: pass", (TIMED_OUT,), ()),
    Attack("power", "3 ** 10**9", (TIMED_OUT, NO_MEMORY), ()),
    Attack("regular expression", "import re\nre.match('(a+)+b', 'a' * 60)", (TIMED_OUT,), ()),
    Attack(
        "sympy without end",
        "import sympy\nsympy.factorint(sympy.nextprime(10**40) * sympy.nextprime(10**42))",
        (TIMED_OUT,),
        (),
    ),
    Attack("sleep", "import time\ntime.sleep(1e6)", (TIMED_OUT,), ()),
    Attack("stop", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", (TIMED_OUT,), ()),
    # memory and output
    Attack("one allocation", "x = bytearray(1 << 40)", (NO_MEMORY,), ("MemoryError",)),
    Attack("many allocations", "x = []\nwhile True: x.append(bytearray(1 << 16))", (NO_MEMORY,), ("MemoryError",)),
    Attack("flood", "while True: print('x' * 10_000)", (TIMED_OUT,), ()),
    Attack("recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", (NO_MEMORY, CRASHED, TIMED_OUT), ()),
    Attack("recursion in C", "x = []\nfor _ in range(10**6): x = [x]\nrepr(x)", (RAISED, CRASHED), ("RecursionError", "Crash")),
    # leaving
    Attack("_exit", "import os\nos._exit(0)", (CRASHED,), ("Crash",)),
    Attack("exit", "import sys\nsys.exit('no')", (RAISED,), ("SystemExit",)),
    Attack("kill itself", "import os\nos.kill(os.getpid(), 9)", (CRASHED,), ("Crash",)),
    Attack("terminate itself", "import os\nos.kill(os.getpid(), 15)", (CRASHED,), ("Crash",)),
    Attack("abort", "import os\nos.abort()", (CRASHED,), ("Crash",)),
    Attack("segmentation fault", "import ctypes\nctypes.string_at(0)", (CRASHED,), ("Crash",)),
    Attack("alarm", "import signal, time\nsignal.alarm(1)\ntime.sleep(99)", (CRASHED,), ("Crash",)),
    # signals to others
    *(
        Attack(f"kill {target}", f"import os\nos.kill({target}, 9)", (RAISED,), ("PermissionError", "ProcessLookupError"))
        for target in ("os.getppid()", "0", "-1", "1", "2", "3", "-os.getpgrp()")
    ),
    Attack(
        "kill all",
        "import os\nfor n in range(1, 300):\n    if n != os.getpid():\n        try: os.kill(n, 9)\n        except OSError: pass",
        (None,),
        (),
    ),
    Attack("queue a signal", LIBC + "import os\nassert libc.sigqueue(2, 9, 0) == -1\nos.setsid()"),
    # descriptors
    Attack("close all", "import os\nos.closerange(0, 64)", (CRASHED,), ("Crash",)),
    Attack("close the output", "import os\nos.close(1)\nprint('unheard')", (RAISED,), ("OSError",)),
    Attack(
        "write to all",
        "import os\nfor n in range(2, 64):\n    for data in (b'junk', b'h', b'f', b'', b'r'[:0]):\n        try: os.write(n, data)\n        except OSError: pass",
        (None, CRASHED),
        ("Crash",),
    ),
    Attack("output without waiting", "import fcntl, os\nfcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK)"),
    Attack("larger pipe", "import fcntl\nfcntl.fcntl(1, 1031, 1 << 20)"),
    # files
    *(
        Attack(f"read {path}", f"open({path!r}, 'rb').read()", (RAISED,), ("FileNotFoundError", "PermissionError"))
        for path in (
            "/etc/passwd",
            "/etc/shadow",
            "/root/.bashrc",
            "/home",
            "/proc/1/environ",
            "/proc/self/environ",
            "/proc/self/mem",
            __file__,
        )
    ),
    Attack(
        "list the root",
        "import os\nprint(os.listdir('/home'), os.listdir('/'))",
        (RAISED,),
        ("FileNotFoundError", "PermissionError"),
    ),
    Attack("environment", "import os\nassert not os.environ and not os.environb", (None,), ()),
    *(
        Attack(f"write {path}", f"open({path!r}, 'w')", (RAISED,), (*READ_ONLY, "FileNotFoundError"))
        for path in ("/x", "/usr/lib/x", "/etc/x", "/dev/shm/x", os.__file__, "/proc/self/oom_score_adj")
    ),
    Attack("change a library", "import os, sympy\nos.unlink(sympy.__file__)", (RAISED,), READ_ONLY),
    Attack("change rights", "import os, sympy\nos.chmod(sympy.__file__, 0)"),
    Attack("links", "import os\nos.symlink('/etc', 'etc')"),
    Attack("hard links", "import os, sympy\nos.link(sympy.__file__, 'sympy')"),
    Attack(
        "fill the scratch folder",
        "with open('x', 'wb') as f:\n    while True: f.write(bytes(1 << 16))",
        (RAISED,),
        ("OSError",),
    ),
    Attack("many files", "for i in range(10**5): open(f'f{i}', 'w').close()", (RAISED,), ("OSError",)),
    Attack(
        "leave files",
        "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('left')\nopen('/tmp/d', 'w').write('left')",
        (None,),
        (),
    ),
    Attack("mount", LIBC + "assert libc.mount(b'x', b'/scratch', b'tmpfs', 0, 0) == -1\nraise OSError(ctypes.get_errno(), '')"),
    # network
    *(
        Attack(f"socket {family}", f"import socket\nsocket.socket(socket.{family})")
        for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK")
    ),
    Attack("abstract socket", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0x')"),
    Attack("socket pair", "import socket\nsocket.socketpair()"),
    Attack("event loop", "import asyncio\nasyncio.run(asyncio.sleep(0))"),
    Attack("pipe", "import os\nos.pipe()"),
    Attack("shared file in memory", "import os\nos.memfd_create('x')"),
    Attack(
        "limits",
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))",
        (RAISED,),
        ("PermissionError", "ValueError"),
    ),
    Attack("clock", "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)"),
    # what comes later
    Attack(
        "falsify builtins",
        "import builtins, math, os\nbuiltins.print = builtins.sum = builtins.len = lambda *a, **k: 41\n"
        "math.sqrt = os.listdir = builtins.round = builtins.sorted = lambda *a: 41",
        (None,),
        (),
    ),
    Attack(
        "falsify sympy",
        "import sympy, sympy.solvers.solvers as s\nsympy.solve = s.solve = lambda *a, **k: [41]\nsympy.Symbol.__str__ = lambda self: 'y'\n"
        "sympy.Integer.__str__ = sympy.Integer.__repr__ = lambda self: '41'",
        (None,),
        (),
    ),
    Attack(
        "falsify json",
        "import json, sys\njson.dumps = json.loads = json.JSONEncoder.encode = lambda *a, **k: '{}'\nsys.modules['json'] = None",
        (None,),
        (),
    ),
    Attack(
        "falsify the sandbox",
        "import sys\nfrom rstar_fast import _sandbox as s\nfor name in dir(s): setattr(s, name, None)",
        (None, CRASHED),
        ("Crash",),
    ),
    Attack(
        "no builtins",
        "import builtins\nfor name in dir(builtins): delattr(builtins, name)",
        (None, CRASHED, RAISED),
        ("Crash", "NameError", "ImportError"),
    ),
    Attack(
        "no modules",
        "import sys\nsys.modules.clear()",
        (None, CRASHED, RAISED),
        ("Crash", "ImportError", "KeyError", "RuntimeError"),
    ),
    Attack(
        "threads that stay",
        "import threading, time\ndef late():\n    while True: print('late'); time.sleep(0.001)\nthreading.Thread(target=late).start()",
        (None,),
        (),
    ),
    Attack(
        "daemons that stay",
        "import threading\ndef late():\n    while True: print('late')\nthreading.Thread(target=late, daemon=True).start()",
        (None,),
        (),
    ),
    Attack(
        "timers that stay",
        "import signal\nsignal.signal(signal.SIGALRM, lambda *a: print('late'))\nsignal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)",
        (None,),
        (),
    ),
    Attack("at exit", "import atexit\n_ = atexit.register(print, 'late')", (None,), (), ""),
    Attack("never finished", "class Odd:\n    def __del__(self): print('late')\nodd = Odd()", (None,), ()),
    # forgery
    Attack("markers", "print('<end_of_output>\\n{\"error\": null}\\n... 5 bytes left out ...')", (None,), ()),
    Attack("pickle", "import os, pickle\nos.write(3, b'r' + pickle.dumps(print))\nos._exit(0)", (CRASHED,), ("Crash",)),
    Attack("hello", "import os\nfor _ in range(100): os.write(3, b'h')", (None,), ()),
    Attack(
        "empty and stale messages",
        "import os\nos.write(3, b'r{}')\nos.write(3, b'')\nfor _ in range(200): os.write(3, b'h')\nwhile True: pass",
        (None,),
        (),
    ),
    Attack("signals in a queue", LIBC + "import os\nassert libc.sigqueue(os.getpid(), 35, 0) == -1", (None,), ()),
    Attack("huge pages", "import mmap\nmmap.mmap(-1, 1 << 22, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).madvise(14)"),
    Attack("cold pages", "import mmap\nmmap.mmap(-1, 1 << 22, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).madvise(21)"),
    Attack("advice on files", "import os, string\nos.posix_fadvise(os.open(string.__file__, 0), 0, 0, 4)"),
    Attack("failure", "import os\nfor _ in range(100): os.write(3, b'f')", (None,), ()),
    Attack("a result before the end", "import os\nos.write(3, b'r{}')\nwhile True: pass", (None,), ()),
    Attack(
        "a state that does not go on", "import os, signal\nos.write(3, b'r{}')\nsignal.sigwait([signal.SIGUSR2])", (None,), ()
    ),
    Attack(
        "a state that kills its children",
        LIBC + "import os, signal\nsignal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])",
        (None,),
        (),
    ),
    Attack(
        "a state that wakes by itself",
        "import os, signal\nos.write(3, b'r{}')\nwhile True:\n    signal.sigtimedwait([signal.SIGUSR2], 0.001)\n    print('late')",
        (None,),
        (),
    ),
    Attack(
        "a state that is woken and stays awake",
        "import os, signal\nos.write(3, b'r{}')\nsignal.sigwaitinfo([signal.SIGUSR1])\nwhile True: print('late')",
        (None,),
        (),
    ),
    Attack("hostile text", "class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd", (RAISED,), ("Odd",)),
    Attack(
        "hostile value", "class Odd:\n    def __str__(self): raise RuntimeError('text')\nOdd()", (RAISED,), ("RuntimeError",)
    ),
    Attack(
        "hostile output",
        "import sys\nsys.stdout.buffer.write(b'\\x00\\xff\\xfe \\xed\\xa0\\x80 \\xf0\\x9f') and None",
        (None,),
        (),
    ),
    Attack("NUL and surrogates", "print('\\0 \\ud800 \\U0001f3b2')", (None,), (), "\0 \\ud800 \U0001f3b2\n"),
]
assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


def has_ended(attack: Attack, execution: Execution) -> None:
    kind = execution.error.kind if execution.error is not None else None
    assert kind in attack.ends, execution
    if execution.error is not None and attack.types and kind in (RAISED, CRASHED):
        assert execution.error.type in attack.types, execution
    assert len(execution.output) < 2 * LIMITS.output_chars
    assert execution.seconds < 30


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_contained(sandbox: Sandbox, attack: Attack) -> None:
    first, later = asyncio.run(sandbox.run_batch([Program(attack.code), Program(attack.code, PREFIX)]))
    has_ended(attack, first)
    has_ended(attack, later)
    if attack.output is not None:
        assert (first.output, later.output) == (attack.output, "begun\n" + attack.output)
    # Steps after it see what it did to its own process, whatever that be; they come to an end, and so does nobody else.
    after = [Program(f"print({i})", PREFIX + attack.code + "\n") for i in range(2)]
    for execution in asyncio.run(sandbox.run_batch(after)):
        assert execution.error is None or execution.error.kind is not ErrorKind.LOST, execution
    is_sound(sandbox)


SYSTEM_CALLS = {  # x86-64, AArch64
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "io_uring_setup": (425, 425),
    "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "fsopen": (430, 430), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kcmp": (312, 272), "seccomp": (317, 277), "setuid": (105, 146),
    "capset": (126, 91), "personality": (135, 92), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "reboot": (169, 142),
    "init_module": (175, 105), "kexec_load": (246, 104), "swapon": (167, 224), "quotactl": (179, 60), "acct": (163, 89),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "eventfd2": (290, 19), "signalfd4": (289, 74),
    "epoll_create1": (291, 20), "inotify_init1": (294, 26), "timerfd_create": (283, 85), "fanotify_init": (300, 262), "splice": (275, 76),
    "vmsplice": (316 - 38, 75), "tee": (276, 77), "sendfile": (40, 71), "flock": (73, 32), "mlock": (149, 228), "setrlimit": (160, 164),
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "ioprio_set": (251, 30),
    "execveat": (322, 281), "landlock_create_ruleset": (444, 444), "memfd_secret": (447, 447), "process_mrelease": (448, 448),
    "futex_waitv": (449, 449), "cachestat": (451, 451), "statmount": (457, 457), "nobody knows": (1234, 1234),
}  # fmt: skip


@pytest.mark.parametrize("name", SYSTEM_CALLS)
def test_a_system_call_that_is_not_listed_is_refused(sandbox: Sandbox, name: str) -> None:
    number = SYSTEM_CALLS[name][("x86_64", "aarch64").index(platform.machine())]
    code = f"print(libc.syscall({number}, 0, 0, 0, 0, 0, 0), ctypes.get_errno())"
    assert run(sandbox, code, LIBC).output == f"-1 {errno.EPERM}\n"


def test_calls_with_flags_in_memory_are_not_there(sandbox: Sandbox) -> None:
    for number in (435, 437):  # clone3, openat2: the C library then takes those whose flags the filter sees
        code = f"print(libc.syscall({number}, 0, 0, 0, 0), ctypes.get_errno())"
        assert run(sandbox, code, LIBC).output == f"-1 {errno.ENOSYS}\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 has the second numbering")
def test_a_call_under_another_numbering_ends_the_process(sandbox: Sandbox) -> None:
    execution = run(sandbox, "libc.syscall(0x40000000 + 39)", LIBC)
    assert execution.error == CodeError(CRASHED, "Crash", "the process ended without a result (signal 31)")
    is_sound(sandbox)


# Nothing passes from one step to its siblings, whatever their common parent prepared


CHANNELS = {
    "a name": ("x = [0]", "x.append(1)\nprint(len(x))", "print(len(x))"),
    "a module": ("import math\nold = math.pi", "math.pi = 3\nprint(math.pi)", "print(math.pi == old)"),
    "a class": ("class A: n = 0", "A.n += 1\nprint(A.n)", "print(A.n)"),
    "a file's position": ("import string\nf = open(string.__file__)", "f.read(10)\nprint(f.tell())", "print(f.tell())"),
    "a position below Python": ("import os, string\nf = os.open(string.__file__, 0)", "print(len(os.read(f, 9)))", "print(os.lseek(f, 0, 1))"),
    "a file of its own": ("open('a', 'w').write('0')", "open('a', 'a').write('1')\nprint(open('a').read())", "print(open('a').read())"),
    "a file that is deleted": (
        "import tempfile\nf = tempfile.TemporaryFile()\nf.write(b'0')",
        "f.write(b'1')\nprint(f.tell())",
        "print(f.tell())",
    ),
    "shared memory": ("import mmap\nm = mmap.mmap(-1, 9)", "m[0] = 1\nprint(m[0])", "print(m[0])"),
    "the program's own file": ("import os", "os.lseek(4, 5, 0)\nprint(os.lseek(4, 0, 1))", "print(os.lseek(4, 0, 1))"),
    "the random numbers": ("import random\nrandom.seed(3)", "print(random.random())", "print(random.random())"),
    "the umask and folder": ("import os", "os.umask(0o777)\nos.chdir('/')\nprint(os.getcwd())", "print(os.umask(0o22), os.getcwd())"),
    "a handler": ("import signal", "signal.signal(signal.SIGTERM, print)\nprint(1)", "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"),
    "a thread": (
        "import threading, queue\nq = queue.Queue()\nn = [0]\ndef count():\n    while q.get(): n[0] += 1\nt = threading.Thread(target=count, daemon=True)\nt.start()",
        "q.put(1)\nwhile not n[0]: pass\nprint(n[0])",
        "print(n[0])",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANNELS)
def test_nothing_passes_to_a_sibling(sandbox: Sandbox, name: str) -> None:
    prefix, changes, looks = CHANNELS[name]
    alone = run(sandbox, f"{prefix}\n{looks}")  # from nothing, as it should be
    assert alone.error is None, alone
    # In one worker, after each other.
    with Sandbox(1, LIMITS) as one:
        for _ in range(2):
            changed = run(one, changes, prefix)
            assert changed.error is None, changed
            assert run(one, looks, prefix) == Execution(alone.output, None, pytest.approx(0, abs=60))


def test_a_step_does_not_see_how_many_siblings_it_has(sandbox: Sandbox) -> None:
    count = "import os\nn = [0]\nos.register_at_fork(before=lambda: n.append(1), after_in_child=lambda: n.append(1))\n"
    assert [run(sandbox, f"print(len(n)) # {i}", count).output for i in range(4)] == ["1\n"] * 4


AWAKE = (
    LIBC
    + """
import os, signal
os.write(3, b'r{}')
signal.sigwaitinfo([signal.SIGUSR1])
clone, flags = (56, 0x8011) if os.uname().machine == 'x86_64' else (220, 0x8011)
if libc.syscall(clone, flags, 0, 0, 0, 0) == 0:
    os.write(3, b'h')
    os.write(3, b'vmy own')
    os.write(3, b'r{"begin": 6, "left_out": 0}')
    signal.sigwaitinfo([signal.SIGUSR1])
while True:
    print(os.pread(4, 1 << 16, 0))  # the program that others are to run
"""
)


def test_a_state_that_forks_as_it_should_and_stays_awake_meets_nobody() -> None:
    """It speaks for its own descendants; the programs of others it neither sees nor disturbs."""
    with Sandbox(1, LIMITS) as one:
        for _ in range(3):
            run(one, AWAKE)
            for i in range(2):
                assert run(one, f"print({i})", AWAKE).error is None
            is_sound(one)
            for i in range(20):
                assert run(one, f"secret = {i}\nprint('mine', secret)").output == f"mine {i}\n"


STRAY = """
import ctypes, mmap, os, signal
libc = ctypes.CDLL(None)
clone = 56 if os.uname().machine == 'x86_64' else 220
memory = mmap.mmap(-1, 60 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(bytes(60 << 20))  # a fork of it takes its time
os.write(3, b'r{}')
while True:
    signal.sigwaitinfo([signal.SIGUSR1])
    os.write(3, b'f')  # no child, it says, and makes one
    if libc.syscall(clone, 0x8011, 0, 0, 0, 0) == 0:
        while True:
            for message in (b'h', b'r{}'):
                try: os.write(3, message)
                except OSError: pass
            print('stray', os.pread(4, 100, 0))
"""


def test_a_child_that_is_made_when_none_was_to_be_meets_nobody() -> None:
    with Sandbox(1, LIMITS) as one:
        for round in range(3):
            run(one, STRAY)
            run(one, "print(1)", STRAY)
            for i in range(10):
                assert run(one, f"import time\ntime.sleep(0.01)\nprint('mine', {i}, {round})").output == f"mine {i} {round}\n"


# States that end when they should not


def guests(others: set[int]) -> set[int]:
    """The processes in which code can run, but for those of other sandboxes."""
    found = set()
    for process in set(below(os.getpid())) - others:
        try:
            if Path(f"/proc/{process}/comm").read_text() == "sandbox-guest\n":
                found.add(process)
        except OSError:
            continue  # it ended
    return found


def test_a_state_that_is_killed_while_its_child_starts_is_made_anew() -> None:
    """Whatever is killed and whenever, the programs give what they should: states are made anew, and workers."""
    prefix = "x = 20\nprint(x)\n"
    others = set(below(os.getpid()))
    with Sandbox(1, SandboxConfig(timeout_s=30.0)) as one:
        run(one, "print(0)", prefix)
        stop = threading.Event()
        before = guests(others)

        def kill() -> None:
            rank = 0
            while not stop.wait(0.003):
                mine = sorted(guests(others) - before)  # states made since, and children that run; the first guest lives
                if mine:
                    rank += 1
                    try:
                        os.kill(mine[rank % len(mine)], signal.SIGKILL)
                    except ProcessLookupError:
                        pass  # it was faster

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            results = [run(one, f"y = x + {i}\nprint(y)", prefix) for i in range(150)]
        finally:
            stop.set()
            killer.join()
        for i, execution in enumerate(results):
            # A program whose own process is killed has crashed; that of the state it starts from may not show.
            if execution.error is None:
                assert execution.output == f"20\n{20 + i}\n"
            else:
                assert "signal 9" in execution.error.message or execution.error.kind is ErrorKind.LOST, execution
        assert sum(execution.error is None for execution in results) > 50
        assert run(one, "print(x)", prefix).output == "20\n20\n"


def states_left(sandbox: Sandbox, others: set[int], wanted: int) -> int:
    """How many states there are, as soon as those that are ending are gone."""
    deadline = time.monotonic() + 20
    while (found := len(guests(others)) - 1) > wanted and time.monotonic() < deadline:  # but for the first of all
        run(sandbox, "raise ValueError")  # leaves none
    return found


def test_states_are_bounded_in_number() -> None:
    others = set(below(os.getpid()))
    with Sandbox(1, SandboxConfig(snapshots=3)) as one:
        for i in range(12):
            assert run(one, f"print({i})").output == f"{i}\n"
        assert states_left(one, others, 3) == 3


def test_states_are_bounded_in_memory() -> None:
    others = set(below(os.getpid()))
    with Sandbox(1, SandboxConfig(snapshot_mb=64)) as one:
        for i in range(6):
            assert run(one, f"x = bytearray(b'x' * (30 << 20))\nprint({i})").output == f"{i}\n"
        assert states_left(one, others, 2) in (1, 2)


def test_no_guest_outlives_its_sandbox() -> None:
    others = set(below(os.getpid()))
    with Sandbox(1) as one:
        run(one, "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()")
        run(one, "x = 1")
        processes = set(below(os.getpid())) - others
        assert len(processes) == 4  # the worker, its keeper, the first guest, a state
    assert not set(below(os.getpid())) - others and not any(Path(f"/proc/{process}").exists() for process in processes)
