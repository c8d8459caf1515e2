"""Bit sets of elements and of fingerprints, which filter molecules quickly."""

from collections.abc import Sequence

import numpy as np

from class_hf.search.query import ELEMENTS


def element_bits(symbols: Sequence[Sequence[str]]) -> np.ndarray:
    """Bit sets of elements.

    Args:
        symbols: the element symbols of N molecules.

    Returns:
        `np.ndarray` (N, 2) `uint64`: one bit for each element.

    >>> element_bits([["H", "C"]]).tolist()
    [[33, 0]]
    """
    number = {symbol: place for place, symbol in enumerate(ELEMENTS)}
    bits = np.zeros((len(symbols), 2), np.uint64)
    for row, elements in enumerate(symbols):
        for symbol in elements:
            word, bit = divmod(number[symbol], 64)
            bits[row, word] |= np.uint64(1 << bit)
    return bits


def contains(sets: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N,) whether each of the bit sets (N, W) has all bits of (W,)."""
    words = np.flatnonzero(wanted)  # the other words ask for nothing
    return ((sets[:, words] & wanted[words]) == wanted[words]).all(axis=1)
