"""What a worker process runs: `python -m rstar_fast.sandbox`."""

import os
import sys

from rstar_fast import _sandbox

if _sandbox.fix_addresses():
    os.execv(sys.executable, sys.orig_argv)
_sandbox.gather_memory()  # before anything else is loaded: what is in memory now, every fork will have

from rstar_fast.sandbox.worker import main  # noqa: E402

main()
