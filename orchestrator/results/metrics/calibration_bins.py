"""Which bin a confidence falls into."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15
LEGACY_BIN = 100


def equal_width(confidence: Floats, bins: int = BINS) -> Ints:
    """Bin of each sample: (0, 1/bins], (1/bins, 2/bins], ...; confidence 0 is in the first.

    Source: Guo et al. 2017, section 2.
    """
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(inner, confidence, side="left").astype(np.int64)


def equal_mass(confidence: Floats, bins: int = BINS) -> Ints:
    """Bin of each sample, all bins equally full (to one sample) in order of confidence.

    Source: Nguyen & O'Connor 2015, section 3.
    """
    result = np.empty(len(confidence), dtype=np.int64)
    for index, members in enumerate(np.array_split(np.argsort(confidence, kind="stable"), bins)):
        result[members] = index
    return result


def legacy(confidence: Floats) -> Ints:
    """Bin of each sample: 100 in order of confidence, the next 100, ...; the last has the rest too.

    Source: the code of Hendrycks et al. 2019 (outlier exposure).
    """
    result = np.empty(len(confidence), dtype=np.int64)
    last = max(len(confidence) // LEGACY_BIN - 1, 0)
    order = np.argsort(confidence, kind="stable")
    result[order] = np.minimum(np.arange(len(confidence)) // LEGACY_BIN, last)
    return result
