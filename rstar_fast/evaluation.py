"""What searches are worth: accuracies, with the uncertainty of their samples."""

from __future__ import annotations

import math

from rstar_fast.types import InvalidInput

_Z = 1.959963984540054  # the standard normal's 97.5% quantile


def wilson(successes: int, total: int) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927, "Probable inference, the law of succession, and statistical inference").

    Unlike the normal approximation it stays in [0, 1] and holds for few samples and proportions near 0 and 1.

    Args:
      successes: 0 to total.
      total: >= 0; without samples nothing is known, and the interval is (0, 1).

    Returns:
      (low, high), with 0 <= low <= successes / total <= high <= 1.

    Raises:
      InvalidInput: successes lies outside 0 to total.
    """
    if not 0 <= successes <= total:
        raise InvalidInput(f"{successes} successes of {total}: give a total >= 0 and successes between 0 and it")
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    spread = _Z * math.sqrt(share * (1.0 - share) / total + (_Z / (2.0 * total)) ** 2)
    scale = 1.0 + _Z**2 / total
    centre = share + _Z**2 / (2.0 * total)
    # Rounding alone could put a share of exactly 0 or 1 outside its interval.
    return min(share, max(0.0, (centre - spread) / scale)), max(share, min(1.0, (centre + spread) / scale))
