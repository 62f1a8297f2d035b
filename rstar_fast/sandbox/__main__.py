"""A worker process, `python -m rstar_fast.sandbox [FILE]`, and the observer that makes the file, `... --observe FILE`."""

import os
import sys
from importlib.util import find_spec

if find_spec("rstar_fast._sandbox") is None:  # not Linux, or not a processor that its filter knows
    from rstar_fast.sandbox.portable import main

    main()
    sys.exit()

from rstar_fast import _sandbox

if _sandbox.fix_addresses():
    os.execv(sys.executable, sys.orig_argv)
_sandbox.gather_memory()  # before anything else is loaded: what is in memory now, every fork will have

from rstar_fast.sandbox import blocks, observer  # noqa: E402  # both here and there: what follows is then the same

if sys.argv[1:2] == ["--observe"]:
    observer.observe(sys.argv[2])
else:
    for given in sys.argv[1:2]:
        blocks.place(given)
    from rstar_fast.sandbox.worker import main

    main()
