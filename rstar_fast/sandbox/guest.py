"""The confined side: loads the mathematics once, gives up its rights, and is forked for every program.

A child runs its program in the namespace that its parent left, reports, and waits to be forked itself: it then is the snapshot
from which the next steps start. What a program does to its process, that process and its descendants have to live with, nobody
else.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import io
import json
import os
import signal
import sys
import types
from typing import NoReturn

from rstar_fast import _sandbox
from rstar_fast.sandbox import blocks
from rstar_fast.sandbox.confine import GuestSettings, confine_guest, filter_calls
from rstar_fast.sandbox.layers import Layer
from rstar_fast.sandbox.running import RESERVE_BYTES, Unit, fix_chance, flush, load_numeric, open_streams, run, warm_up

_NOTHING = b"{}"
LOAD_NUMERIC = b"load numeric"  # no unit: it has no header


def load(output: io.TextIOWrapper) -> list[bytearray]:
    """Loads all that guests have in common, and what they give back when memory ends; `output` is what they print to."""
    blocks.name_loaded("load")
    fix_chance()
    reserve = [bytearray(RESERVE_BYTES)]
    for _ in range(2):  # what every program needs lies together then, in the first pages
        for source in ("value = [1 + 2, 'a']\nprint(end='')", "for value in range(3):\n    value += 1\nvalue", "1 / 0"):
            unit = Unit.from_bytes(Unit(source, 0, False, False, 100).to_bytes())
            json.dumps(run(unit, {"__builtins__": builtins}, [], _sandbox.report_value) or flush(output)).encode("ascii")
    warm_up(blocks.name_loaded)
    gc.collect()
    blocks.leave()
    gc.freeze()  # the collector would touch, and so copy, every page shared with the children
    return reserve


def serve(settings: GuestSettings) -> NoReturn:
    """The life of the first guest, and from the fork on of every other. Its descriptors are in place."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    output = open_streams(_sandbox.GUEST_INPUT, _sandbox.GUEST_OUTPUT, _sandbox.GUEST_ERRORS)
    reserve = load(output)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    _sandbox.prepare_forks()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # where the system runs out of memory, a program is to go before its supervisor or the caller
    _sandbox.prepare_guest()
    missing, listener = confine_guest(settings)
    os.dup2(_sandbox.GUEST_INPUT, _sandbox.GUEST_ERRORS)  # until here, what goes wrong is seen
    supervised = listener >= 0
    _sandbox.report(json.dumps({"missing": {layer.name: why for layer, why in missing.items()}, "listener": listener}).encode())
    if supervised:  # whoever has the listener answers for the supervisor: no other guest shall
        _sandbox.await_supervisor()
        os.close(listener)
        _sandbox.report(b"ready")
    sys.modules["__main__"] = main
    dumps, next_program, report, leave = json.dumps, _sandbox.next_program, _sandbox.report, os._exit
    report_value = _sandbox.report_value
    names = main.__dict__
    while True:  # the program may replace what modules hold, not what stands here
        data = next_program()
        try:
            if not supervised and Layer.FILTER not in settings.omit:
                filter_calls()
            if data == LOAD_NUMERIC:
                load_numeric()
                report(_NOTHING)
                continue
            said = run(Unit.from_bytes(data), names, reserve, report_value)
            flushed = flush(output)
            said = said or flushed
            report(dumps(said).encode("ascii") if said else _NOTHING)
        except BaseException:  # the result is missing, which says "crashed"
            leave(70)
        if not supervised:
            leave(0)
