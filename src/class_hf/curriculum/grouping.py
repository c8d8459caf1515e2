"""Groups of similar pairs, so that a batch contains hard negatives.

A contrastive model learns most from hard negatives. A random batch of a large data set contains few of them. Drawing
similar pairs in groups adds them at no extra cost in training.
"""

import numpy as np

from class_hf.difficulty.pair_features import Frequencies, PairFeatures, Ragged

_COMPONENTS = 512  # of each modality
_ITERATIONS = 3
_SAMPLE = 512


def pair_vectors(pairs: PairFeatures) -> np.ndarray:
    """Sketches of pairs: pairs with similar captions and similar molecules have similar vectors.

    Each word of a caption, and each Morgan substructure of a molecule, is hashed to one component with a sign (feature
    hashing; Weinberger et al., 2009). Rare terms have larger weights; terms of a single pair have none. The text part
    and the molecule part are scaled to the same length and rounded to integers. So no sum depends on its order, and
    each process on each machine computes the same numbers.

    Args:
        pairs: N pairs.

    Returns:
        (N, 1024) float32, whole numbers from -127 to 127. The components of the caption come first.

    >>> ester, acid = "An ethyl ester.", "A fatty acid."
    >>> vectors = pair_vectors(PairFeatures(list("abcd"), [ester, ester, acid, acid], ["CCO", "CCO", "CCC", "CCC"]))
    >>> vectors.shape, bool((vectors[0] == vectors[1]).all()), bool((vectors[0] == vectors[2]).all())
    ((4, 1024), True, False)
    """
    return np.concatenate([_sketch(pairs.words.distinct()[0]), _sketch(pairs.fragments.distinct()[0])], axis=1)


def _sketch(rows: Ragged) -> np.ndarray:
    """(N, 512) sketches of rows of distinct 64-bit hashes."""
    frequencies = Frequencies.of(rows)
    places, _ = frequencies.find(rows.values)
    # The binary logarithm of the inverse share of pairs, a whole number. A term of a single pair connects it to no
    # other.
    counts = frequencies.counts[places]
    weights = np.where(counts > 1, np.frexp(frequencies.total / counts)[1], 0)
    # Multiplied first (Fibonacci hashing), because substructure ids use only the lower 32 bits.
    mixed = rows.values * np.uint64(0x9E3779B97F4A7C15)
    signs = np.where(mixed >> np.uint64(63), 1, -1)
    components = ((mixed >> np.uint64(32)) % np.uint64(_COMPONENTS)).astype(np.int64)
    size = len(rows) * _COMPONENTS
    sums = np.bincount(rows.rows * _COMPONENTS + components, weights * signs, minlength=size)
    sums = sums.reshape(len(rows), _COMPONENTS)
    lengths = np.sqrt((sums**2).sum(axis=1, keepdims=True))
    return np.rint(127 * sums / np.maximum(lengths, 1)).astype(np.float32)


def group_similar(
    rows: np.ndarray, vectors: np.ndarray, group_size: int, generator: np.random.Generator
) -> np.ndarray:
    """Reorders rows so that similar ones are adjacent. The groups of similar rows are in random order.

    The rows are split in half recursively until no part is larger than a group. Each split separates two clusters of a
    random sample of the part (a random partition tree; Dasgupta & Freund, 2008). Each call builds another tree, so a
    pair has other neighbours in each epoch.

    Args:
        rows: (n,) rows of `vectors`, in random order.
        vectors: (N, D) float32, of [`pair_vectors`].
        group_size: largest size of a group, at least 1. The smallest size is half of it.
        generator: source of the random numbers.

    Returns:
        (n,) the same rows.

    >>> vectors = np.repeat(127 * np.eye(4, dtype=np.float32), 2, axis=0)  # four kinds of rows, two of each kind
    >>> order = group_similar(np.random.default_rng(0).permutation(8), vectors, 2, np.random.default_rng(1))
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
        # The vectors hold integers and have a length of at most about 180. So all sums are below 2^24, exact in
        # float32.
        order = np.argsort(vectors[part] @ _direction(vectors[sample]), kind="stable")
        half = len(part) // 2
        parts += [part[order[:half]], part[order[half:]]]
    return np.concatenate([groups[index] for index in generator.permutation(len(groups))])


def _direction(sample: np.ndarray) -> np.ndarray:
    """(D,) float32 direction between the centroids of the two halves of a sample, in whole numbers.

    The halves are those of a balanced 2-means that starts from the first two rows.
    """
    direction = sample[0] - sample[1]
    for _ in range(_ITERATIONS):
        order = np.argsort(sample @ direction, kind="stable")
        half = len(sample) // 2
        far = sample[order[half:]].sum(axis=0) - sample[order[:half]].sum(axis=0)
        direction = np.rint(127 * far / max(1.0, np.sqrt((far.astype(np.float64) ** 2).sum()))).astype(np.float32)
    return direction
