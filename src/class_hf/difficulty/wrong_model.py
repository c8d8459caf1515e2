"""The probability that a pair is wrong, learned by comparing the pairs with pairs that are certainly wrong."""

from typing import NamedTuple

import numpy as np

_FOLDS = 5
_RIDGE = 1.0
_THRESHOLDS = (0.7, 0.8, 0.9)


def log_ratios(observed: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density ratio of wrong pairs to observed pairs, of each pair.

    A logistic regression with all squares and products separates the observed pairs from the wrong ones. Observed
    pairs are a mixture of right and wrong ones, so the ratio times the share of wrong pairs is the probability of
    being wrong (learning from positive and unlabelled data; Elkan & Noto, 2008). No pair is judged by a model that was
    fitted on it: the pairs are split into five folds.

    Args:
        observed: (N, D) evidence of the pairs.
        wrong: (N, D) evidence of wrong pairs; row i has the caption of pair i.

    Returns:
        (N,) of the observed pairs, and (N,) of the wrong pairs.
    """
    both = np.concatenate([observed, wrong])
    features = _expand(np.clip((both - both.mean(axis=0)) / (both.std(axis=0) + 1e-9), -4, 4))
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    labels = np.repeat([0.0, 1.0], len(observed))
    fold = np.tile(np.arange(len(observed)) % _FOLDS, 2)
    result = np.empty(len(features))
    for held_out in range(_FOLDS):
        is_seen = fold != held_out
        weights = _fit_logistic(features[is_seen], labels[is_seen])
        result[~is_seen] = features[~is_seen] @ weights
    return result[: len(observed)], result[len(observed) :]


def _expand(features: np.ndarray) -> np.ndarray:
    """The features, their squares and their products."""
    products = [features[:, [column]] * features[:, column:] for column in range(features.shape[1])]
    return np.concatenate([features, *products], axis=1)


def _fit_logistic(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(D,) weights of a ridge logistic regression, by Newton's method."""
    weights = np.zeros(features.shape[1])
    for _ in range(12):
        probabilities = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        gradient = features.T @ (probabilities - labels) + _RIDGE * weights
        curvature = (features.T * (probabilities * (1 - probabilities))) @ features
        curvature[np.diag_indices_from(curvature)] += _RIDGE
        weights -= np.linalg.solve(curvature, gradient)
    return weights


class Share(NamedTuple):
    """An estimated share of wrong pairs.

    Attributes:
        value: the estimate, in [0, 1].
        low, high: about 95 % of the random error, and the spread over thresholds.
    """

    value: float
    low: float
    high: float


def estimate_share(observed: np.ndarray, wrong: np.ndarray) -> Share:
    """Estimates the share of wrong pairs.

    Wrong pairs are spread evenly over the ranks of known wrong pairs; right pairs gather at the lowest ranks. So the
    observed pairs above a high rank are almost all wrong (Storey, 2002).

    Args:
        observed: (N,) scores of the pairs; higher is more suspect.
        wrong: (M,) scores of known wrong pairs.

    >>> scores = np.linspace(0, 1, 1000)
    >>> share = estimate_share(np.concatenate([np.full(700, -1.0), scores[:300] / 0.3]), scores)
    >>> round(share.value, 1)
    0.3
    """
    ranks = np.searchsorted(np.sort(wrong), observed) / len(wrong)
    values = [float((ranks > threshold).mean() / (1 - threshold)) for threshold in _THRESHOLDS]
    value = min(1.0, float(np.mean(values)))
    count = max(1.0, value * len(observed) * (1 - _THRESHOLDS[1]))
    error = 2 * value / np.sqrt(count) + (max(values) - min(values)) / 2
    return Share(value, max(0.0, value - error), min(1.0, value + error))


def wrong_probabilities(ratios: np.ndarray, share: float) -> np.ndarray:
    """Probabilities of being wrong from log density ratios, scaled so that their mean is the share of wrong pairs.

    Args:
        ratios: (N,) of [`log_ratios`].
        share: of wrong pairs, in [0, 1].

    Returns:
        (N,) in [0, 1], in the order of the ratios.

    >>> wrong_probabilities(np.array([-9.0, -9.0, -9.0, 3.0]), 0.25).round(2).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    if share <= 0.0:
        return np.zeros(len(ratios))
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        mean = np.exp(np.minimum(ratios + middle, 0.0)).mean()
        low, high = (middle, high) if mean < share else (low, middle)
    return np.exp(np.minimum(ratios + low, 0.0))
