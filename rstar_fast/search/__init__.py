"""Search: the tree search, and other strategies behind the same interface. The package itself is callable: see _callable_module.py."""

from rstar_fast._callable_module import make_callable
from rstar_fast.search.api import asearch, greedy, sample, search

__all__ = ["asearch", "greedy", "sample", "search"]

make_callable(__name__)
