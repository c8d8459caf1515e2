"""Finds the pairs that are most likely wrong: captions of another molecule."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from class_hf.difficulty.evidence import CANDIDATES, Reference, Votes, neighbourhoods
from class_hf.difficulty.pair_features import PairFeatures, first_by_hash
from class_hf.difficulty.reference import EncodedPairs, encode, split_halves
from class_hf.difficulty.wrong_model import Share, estimate_share, log_ratios, wrong_probabilities

# With fewer pairs there are too few neighbours and too few known wrong pairs to learn from.
MIN_PAIRS = 50

# Neighbours are searched among all pairs up to this number, and among a sample of this size beyond it.
BANK = 100_000

KINDS = ("fits another", "fits nothing", "unlike all others")


@dataclass(frozen=True, eq=False)
class Suspects:
    """How likely each pair is wrong.

    Attributes:
        ids: N names, in the order of the data set.
        wrong_probability: (N,) probability that each pair is wrong.
        score: (N,) log odds up to a constant; it orders pairs whose probabilities are equal.
        share: the estimated share of wrong pairs, with its uncertainty.
        listed: (L,) rows of the suspects with details, the most suspect first.
        kinds: L kinds of suspicion. `"fits another"`: the caption describes other molecules as well as right captions
            describe theirs. `"unlike all others"`: the caption or the molecule has no similar pairs, so a right pair
            may look wrong. `"fits nothing"`: neither.
        better_molecules: (L, 3) rows whose molecules fit the caption best, other than its own.
        better_captions: (L, 3) rows whose captions fit the molecule best, other than its own.
    """

    ids: Sequence[str]
    wrong_probability: np.ndarray
    score: np.ndarray
    share: Share
    listed: np.ndarray
    kinds: Sequence[str]
    better_molecules: np.ndarray
    better_captions: np.ndarray

    @property
    def ranking(self) -> np.ndarray:
        """(N,) rows, the most suspect first. Ties are sorted by id."""
        return np.lexsort((np.asarray(self.ids), -self.score))

    def precision_at(self, depth: int) -> float:
        """Expected share of wrong pairs among the first `depth` suspects."""
        return float(self.wrong_probability[self.ranking[:depth]].mean())

    def reorder(self, order: np.ndarray) -> "Suspects":
        """The suspects of rows in another order: row i of these becomes row `order[i]`.

        Args:
            order: (N,) int64, a permutation.
        """
        inverse = np.argsort(order)
        return Suspects(
            [self.ids[row] for row in inverse],
            self.wrong_probability[inverse],
            self.score[inverse],
            self.share,
            order[self.listed],
            self.kinds,
            order[self.better_molecules],
            order[self.better_captions],
        )

    def __str__(self) -> str:
        likely = int((self.wrong_probability > 0.5).sum())
        return (
            f"suspects: {likely:,} of {len(self.ids):,} pairs are more likely wrong than right; estimated share of "
            f"wrong pairs {self.share.value:.1%} ({self.share.low:.1%} to {self.share.high:.1%})"
        )


def find_suspects(
    pairs: PairFeatures,
    *,
    seed: int = 0,
    cross_fits: int = 0,
    rounds: int = 2,
    reference_steps: int = 150,
    max_listed: int = 1000,
    min_probability: float = 0.0,
) -> Suspects:
    """Estimates for each pair the probability that it is wrong.

    The evidence of a pair comes from similar pairs, and from small models that have not seen it (see
    [`evidence`][class_hf.difficulty.evidence]): how well the caption and the molecule fit each other, compared with
    other candidates, and how well similar pairs fit. The same evidence is computed for wrong pairs, which are made by
    giving each caption the molecule of another pair. A model learns to separate these from the pairs of the data set.
    A right pair whose neighbourhood is badly understood therefore gets a low probability: hard is not wrong.

    The second round repeats the first, and pairs that are likely wrong no longer vote.

    Args:
        pairs: N pairs, at least 50.
        seed: of the wrong pairs and of the small models. The same seed gives the same result on the same machine.
        cross_fits: number of cross-fits of the small models, 0 to 8. Without them the evidence is the votes of similar
            pairs only; they raise the AUC on ChEBI-20 a little and take about 20 CPU seconds each.
        rounds: 1 or 2.
        reference_steps: optimizer steps of each small model.
        max_listed: largest number of suspects with details.
        min_probability: smallest probability of being wrong of a suspect with details, in [0, 1].

    Returns:
        The suspects.

    Raises:
        ValueError: if there are too few pairs, a SMILES cannot be parsed, or an argument is out of range.
    """
    if len(pairs) < MIN_PAIRS:
        raise ValueError(f"finding suspects needs at least {MIN_PAIRS} pairs, got {len(pairs)}.")
    ranges = (("cross_fits", cross_fits, 0, 8), ("rounds", rounds, 1, 2), ("min_probability", min_probability, 0, 1))
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise ValueError(f"{name}={value}: expected {low} to {high}.")
    rows = np.arange(len(pairs))
    bank = None if len(pairs) <= BANK else first_by_hash(pairs.ids, BANK)
    text, molecule = neighbourhoods(pairs, bank)
    candidates = first_by_hash(pairs.ids, CANDIDATES)
    partners = draw_partners(pairs.ids, seed, cross_fits)
    observed_reference, wrong_reference = _judge_by_references(pairs, partners, seed, cross_fits, reference_steps)
    trust = np.ones(len(pairs))
    for _ in range(rounds):
        votes = Votes(text, molecule, trust, candidates)
        observed, wrong = votes.judge(rows, rows), votes.judge(rows, partners)
        share = estimate_share(*log_ratios(observed, wrong))
        context = _context(votes, observed)
        ratios, _ = log_ratios(
            np.concatenate([observed, observed_reference, context[0], context[1]], axis=1),
            np.concatenate([wrong, wrong_reference, context[0], context[1][partners]], axis=1),
        )
        # At least a tenth of a pair, so that the probabilities order the pairs also where none seems wrong.
        probabilities = wrong_probabilities(ratios, max(share.value, 0.1 / len(pairs)))
        trust = 1 - probabilities
    listed = np.lexsort((np.asarray(pairs.ids), -ratios))[:max_listed]
    listed = listed[probabilities[listed] >= min_probability]
    details = _describe(votes, pairs, listed, probabilities)
    return Suspects(list(pairs.ids), probabilities, ratios, share, listed, *details)


def draw_partners(ids: Sequence[str], seed: int, cross_fits: int) -> np.ndarray:
    """For each pair, another pair whose molecule makes a wrong pair with its caption.

    Both pairs are in one half of each cross-fit, so that neither model has seen them.

    Args:
        ids: N names.
        seed: of the draw and of the halves.
        cross_fits: number of cross-fits.

    Returns:
        (N,) rows, each once. A row is its own partner only if it is alone in its cell.
    """
    cells = np.zeros(len(ids), np.int64)
    for number in range(cross_fits):
        cells = 2 * cells + split_halves(ids, seed + 2 * number)
    shuffled = np.random.default_rng([seed, 0x57524F4E]).permutation(np.argsort(np.asarray(ids), kind="stable"))
    partners = np.arange(len(ids))
    for cell in np.unique(cells):
        members = shuffled[cells[shuffled] == cell]
        partners[members] = np.roll(members, 1)
    return partners


def _judge_by_references(
    pairs: PairFeatures, partners: np.ndarray, seed: int, cross_fits: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) evidence of the pairs and of the wrong pairs, averaged over the cross-fits; (N, 0) without cross-fits."""
    rows = np.arange(len(pairs))
    if not cross_fits:
        return np.empty((len(pairs), 0)), np.empty((len(pairs), 0))
    encoded: EncodedPairs = encode(pairs)
    observed, wrong = [], []
    bar = tqdm(total=2 * steps * cross_fits, desc="Training the reference models", disable=None)
    with bar:
        for number in range(cross_fits):
            keep = np.ones(len(pairs), bool)
            reference = Reference.fit(pairs.ids, encoded, keep, seed + 2 * number, steps, bar)
            observed.append(reference.judge(rows, rows))
            wrong.append(reference.judge(rows, partners))
    return np.mean(observed, axis=0), np.mean(wrong, axis=0)


def _context(votes: Votes, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) of each caption and (N, 3) of each molecule: the nearest similarity, the mean similarity of its
    neighbours, and how well the neighbours' own pairs fit."""
    fit = observed.mean(axis=1, keepdims=True)
    rows = np.arange(len(observed))
    return tuple(  # type: ignore[return-value]
        np.concatenate(
            [
                side.similarities[:, :1],
                side.similarities.mean(axis=1, keepdims=True),
                side.weights(rows, votes.trust) @ fit,
            ],
            axis=1,
        )
        for side in (votes.text, votes.molecule)
    )


def _describe(
    votes: Votes, pairs: PairFeatures, listed: np.ndarray, probabilities: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Kind of suspicion, better molecules and better captions of each listed row."""
    molecules = _Best(votes.molecule.sketches, pairs.smiles)
    captions = _Best(votes.text.sketches, pairs.descriptions)
    trusted = np.argsort(probabilities, kind="stable")[: max(1, len(pairs) // 2)]
    trusted = trusted[np.linspace(0, len(trusted) - 1, min(len(trusted), 2000)).astype(np.int64)]
    typical = np.quantile(molecules.own(votes.predict_molecules(trusted), trusted), 0.25)
    nearest = np.stack([votes.text.similarities[:, 0], votes.molecule.similarities[:, 0]], axis=1)
    is_unlike = (nearest[listed] < np.quantile(nearest, 0.05, axis=0)).any(axis=1)
    better_molecules, fits = molecules.others(votes.predict_molecules(listed), listed)
    better_captions, _ = captions.others(votes.predict_captions(listed), listed)
    kinds = np.where(is_unlike, KINDS[2], np.where(fits[:, 0] >= typical, KINDS[0], KINDS[1]))
    return kinds.tolist(), better_molecules, better_captions


class _Best:
    """Searches the rows that fit predicted sketches best."""

    def __init__(self, sketches: np.ndarray, values: Sequence[str]):
        self.sketches = sketches
        self.lengths = np.maximum(np.sqrt((sketches.astype(np.float32) ** 2).sum(axis=1)), 1e-6)
        numbers: dict[str, int] = {}
        self.numbers = np.array([numbers.setdefault(value, len(numbers)) for value in values])

    def own(self, predicted: torch.Tensor, rows: np.ndarray) -> np.ndarray:
        """(B,) cosine of each prediction with the sketch of its own row."""
        sketches = torch.from_numpy(self.sketches[rows].astype(np.float32) / self.lengths[rows, None])
        return (predicted * sketches).sum(dim=1).numpy()

    def others(self, predicted: torch.Tensor, rows: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
        """(B, count) best rows with another value than the own row, each value once, and their cosines."""
        best, fits = np.zeros((len(rows), count), np.int64), np.zeros((len(rows), count), np.float32)
        transposed = torch.from_numpy(self.sketches.astype(np.float32).T)
        for start in range(0, len(rows), 128):
            cosines = (predicted[start : start + 128] @ transposed).numpy() / self.lengths
            for place, scores in enumerate(cosines, start=start):
                seen = {self.numbers[rows[place]]}
                chosen: list[int] = []
                for row in np.argsort(-scores, kind="stable"):
                    if self.numbers[row] not in seen:
                        seen.add(self.numbers[row])
                        chosen.append(int(row))
                    if len(chosen) == count:
                        break
                chosen += [int(rows[place])] * (count - len(chosen))
                best[place], fits[place] = chosen, scores[chosen]
        return best, fits
