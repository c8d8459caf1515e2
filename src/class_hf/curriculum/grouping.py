"""Which pairs are alike, so that a batch can hold them together.

A contrastive batch teaches as much as its negatives are hard. Random batches of a large set hold few pairs that are
easily taken for one another; dealing alike pairs in groups puts them there, at no further cost.
"""

import numpy as np

from class_hf.difficulty.pair_features import Frequencies, PairFeatures, Ragged

_COMPONENTS = 512  # of each modality
_ITERATIONS = 3
_SAMPLE = 512


def pair_vectors(pairs: PairFeatures) -> np.ndarray:
    """Sketches of pairs in which alike captions and alike molecules are near (ours).

    Each word of a caption and each Morgan substructure of a molecule that another pair has too is hashed to one
    component with a sign (feature hashing; Weinberger et al., 2009) and weighs the more the fewer pairs have it. Both
    halves are brought to the same length and rounded to integers: no sum depends on its order, so that every process
    on any machine gets the same numbers.

    Returns:
        (N, 1024) float32, whole numbers from -127 to 127, the caption's components first.

    >>> ester, acid = "An ethyl ester.", "A fatty acid."
    >>> vectors = pair_vectors(PairFeatures(list("abcd"), [ester, ester, acid, acid], ["CCO", "CCO", "CCC", "CCC"]))
    >>> vectors.shape, bool((vectors[0] == vectors[1]).all()), bool((vectors[0] == vectors[2]).all())
    ((4, 1024), True, False)
    """
    return np.concatenate([_sketch(pairs.words.distinct()[0]), _sketch(pairs.fragments.distinct()[0])], axis=1)


def _sketch(rows: Ragged) -> np.ndarray:
    """(N, 512) from rows of distinct 64-bit hashes."""
    frequencies = Frequencies.of(rows)
    places, _ = frequencies.find(rows.values)
    # Whole numbers: the binary logarithm of the share of pairs. A term of one pair alone joins it to no other.
    counts = frequencies.counts[places]
    weights = np.where(counts > 1, np.frexp(frequencies.total / counts)[1], 0)
    # Multiplied first (Fibonacci hashing), for substructure ids use the lower 32 bits only.
    mixed = rows.values * np.uint64(0x9E3779B97F4A7C15)
    signs = np.where(mixed >> np.uint64(63), 1, -1)
    components = ((mixed >> np.uint64(32)) % np.uint64(_COMPONENTS)).astype(np.int64)
    size = len(rows) * _COMPONENTS
    sums = np.bincount(rows.rows * _COMPONENTS + components, weights * signs, minlength=size)
    sums = sums.reshape(len(rows), _COMPONENTS)
    lengths = np.sqrt((sums**2).sum(axis=1, keepdims=True))
    return np.rint(127 * sums / np.maximum(lengths, 1)).astype(np.float32)


def deal_in_groups(
    rows: np.ndarray, vectors: np.ndarray, group_size: int, generator: np.random.Generator
) -> np.ndarray:
    """The rows in another order: groups of alike ones, one group after the other, the groups at random.

    The rows are halved again and again, each time between two clusters of a random sample of them (a random
    partition tree; Dasgupta & Freund, 2008), until no part is larger than a group. The tree is another one at each
    call, so that a pair meets other neighbours in each epoch.

    Args:
        rows: (n,) rows of `vectors`, in random order.
        vectors: (N, D) float32, of [`pair_vectors`].
        group_size: the most pairs of a group, at least 1; parts have between half of it and all.
        generator: what the draws come from.

    Returns:
        (n,) the same rows.

    >>> vectors = np.repeat(127 * np.eye(4, dtype=np.float32), 2, axis=0)  # four kinds, two of each
    >>> order = deal_in_groups(np.random.default_rng(0).permutation(8), vectors, 2, np.random.default_rng(1))
    >>> (vectors[order[::2]] == vectors[order[1::2]]).all(axis=1).tolist()
    [True, True, True, True]
    """
    groups: list[np.ndarray] = []
    parts = [rows]
    while parts:
        part = parts.pop()
        if len(part) <= group_size:
            groups.append(part)
            continue
        sample = generator.choice(part, min(len(part), _SAMPLE), replace=False)
        # Integers in vectors of a length of some 180 at most: all sums stay below 2^24, and are exact in float32.
        order = np.argsort(vectors[part] @ _direction(vectors[sample]), kind="stable")
        half = len(part) // 2
        parts += [part[order[:half]], part[order[half:]]]
    return np.concatenate([groups[index] for index in generator.permutation(len(groups))])


def _direction(sample: np.ndarray) -> np.ndarray:
    """(D,) from one half of the sample's centroid to the other's, whole numbers in float32.

    The halves are those of a balanced 2-means that begins with the first two rows.
    """
    direction = sample[0] - sample[1]
    for _ in range(_ITERATIONS):
        order = np.argsort(sample @ direction, kind="stable")
        half = len(sample) // 2
        far = sample[order[half:]].sum(axis=0) - sample[order[:half]].sum(axis=0)
        direction = np.rint(127 * far / max(1.0, np.sqrt((far.astype(np.float64) ** 2).sum()))).astype(np.float32)
    return direction
