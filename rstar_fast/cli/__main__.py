"""`python -m rstar_fast.cli`, for where the console entry is not on the path."""

from rstar_fast.cli import main

main()
