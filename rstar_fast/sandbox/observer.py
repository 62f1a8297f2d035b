"""Finds the blocks of memory that programs write: loads what guests load, each block on a page of its own, and runs some steps.

The steps are ours, and run unconfined.
"""

from __future__ import annotations

import builtins
import os
import sys

from rstar_fast import _sandbox
from rstar_fast.sandbox import blocks

# Other steps than the rehearsal's, or they would only look up what is kept of it.
_PRACTICE = (
    "import sympy as sp\nt = sp.symbols('t')\nroots = sp.solve(sp.Eq(3*t**2 - 14*t + 8, 0), t)\nprint(sorted(roots))",
    "from sympy import symbols, solve\nu, v = symbols('u v')\nanswer = solve([2*u + 3*v - 12, u - 4*v + 5], [u, v])\nprint(answer[u])",
    "from sympy import symbols, solve, Eq\nprice = symbols('price', positive=True)\nprint(solve(Eq(price + price/4, 85), price)[0])",
    "from sympy import Rational\nshare = Rational(5, 12) - Rational(3, 8)\nprint(share, float(share), share.p + share.q)",
    "from sympy import symbols, expand, factor, collect\nw = symbols('w')\nf = expand((w + 5)*(w - 7)*(2*w + 1))\nprint(factor(f))",
    "from sympy import symbols, simplify, together\nr = symbols('r')\nprint(simplify((r**2 - 9)/(r - 3) + 1/r), together(1/r + 2))",
    "from sympy import symbols, diff\nh = symbols('h')\narea = h**3*(30 - 2*h)\nslope = diff(area, h)\nprint(slope.subs(h, 4))",
    "from sympy import symbols, integrate\nq = symbols('q')\nprint(integrate(3*q**2 + 2*q, (q, 1, 4)))",
    "from sympy import sqrt, simplify\nside = sqrt(7**2 + 24**2)\nprint(side, sqrt(180), simplify(sqrt(48)/3), sqrt(11).evalf(8))",
    "from sympy import factorint, divisors, gcd, lcm, isprime\nn = 1260\nprint(factorint(n), len(divisors(n)), gcd(n, 72), lcm(18, 84))",
    "from sympy import binomial, factorial\nways = binomial(12, 5)*factorial(6)//factorial(4)\nprint(ways)",
    "from sympy import sin, cos, pi, symbols, simplify\na = symbols('a')\nprint(sin(pi/5).evalf(), simplify(2*sin(a)*cos(a)), cos(pi/3))",
    "from sympy import Matrix\nA = Matrix([[4, 1], [2, 5]])\nprint(A.det(), A.inv(), A*A)",
    "from sympy import summation, symbols\nk = symbols('k', integer=True)\nprint(summation(k**2, (k, 1, 25)))",
    "import math\nfrom fractions import Fraction\nodds = Fraction(5, 6)**3\nprint(odds, math.comb(9, 4), math.isqrt(200), f'{float(odds):.3f}')",
    "def is_square(n):\n    return int(n**0.5)**2 == n\n\ncount = sum(1 for n in range(1, 200) if is_square(n))\nprint(count)",
    "from itertools import permutations\nfound = {''.join(p) for p in permutations('abca')}\nprint(len(found), sorted(found)[:3])",
    "total = 0\nfor day in range(1, 31):\n    total += day*3 if day % 2 else day\nprint(total, total/30, round(total/7, 2))",
)


def observe(file: str) -> None:
    """Finds the blocks that programs write, and keeps their names in a file."""
    loading = os.fork()
    if loading == 0:  # compiles what has not been, as all who load it later find it
        from rstar_fast.sandbox.running import warm_up

        warm_up()
        os._exit(0)
    os.waitpid(loading, 0)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as opened:
        opened.write("1000")  # it takes a gigabyte: where the system runs out of memory, it goes first
    blocks.spread()
    from rstar_fast.sandbox.worker import guest  # by way of what the worker loads

    sys.stdout = open(os.devnull, "w", encoding="utf-8")
    guest.load(sys.stdout)
    written: set[int] = set()
    found = f"{file}.{os.getpid()}"
    for source in _PRACTICE:
        running = os.fork()
        if running == 0:
            try:
                guest.run(guest.Unit(source, 0, True, True, 1000), {"__builtins__": builtins}, [], lambda piece: None)
                blocks.write(found, _sandbox.written_blocks())
            finally:
                os._exit(0)
        os.waitpid(running, 0)
        written.update(blocks.read(found))
    blocks.write(found, sorted(written))
    os.replace(found, file)
