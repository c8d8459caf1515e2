"""Difficulty as alignment: how far down a small reference model ranks a pair's true partner."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from tqdm.auto import tqdm

from class_hf.difficulty.pair_features import PairFeatures
from class_hf.difficulty.reference import (
    ReferenceModel,
    embed_pairs,
    encode,
    mid_ranks,
    split_halves,
    train_reference,
)
from class_hf.utils.threads import single_thread

# Each half needs two pairs, to train on and to rank.
MIN_PAIRS = 4


@dataclass(frozen=True, eq=False)
class Alignment:
    """Log rank of the true partner under a reference model that has not seen the pair.

    The training pairs are split into two halves by a hash of the seed and the id. On each half a pair of small towers
    (lexical for text, fingerprint for molecules) is trained with symmetric InfoNCE. It ranks the other half:

    - text: log of the mid-rank of the true molecule among the molecules of that half, for the caption;
    - molecule: log of the mid-rank of the true caption among the captions of that half, for the molecule.

    A pair that was not fitted is ranked by both models, each time among the half that the model has not seen, and the
    two logs are averaged. That the loss of a simpler model can order examples is bootstrapping by a teacher (Hacohen &
    Weinshall, 2019, section 2).

    Attributes:
        weights: the parameters of the two models, by name.
        pools: for each model (2, n, H), the text and molecule embeddings of the half that it has not seen.

    >>> texts = [f"An alcohol of {n} carbons." for n in range(1, 9)]
    >>> pairs = PairFeatures(list("abcdefgh"), texts, ["C" * n + "O" for n in range(1, 9)])
    >>> fitted, raw = Alignment.fit(pairs, seed=0, steps=2)
    >>> raw.shape, bool((raw >= 0).all() and (raw <= np.log(4)).all())
    ((8, 2), True)
    """

    weights: tuple[dict[str, np.ndarray], ...]
    pools: tuple[np.ndarray, ...]

    @classmethod
    def fit(cls, pairs: PairFeatures, *, seed: int, steps: int) -> tuple["Alignment", np.ndarray]:
        """Trains the two models.

        The same seed gives the same scores on the same machine. The global random state is not used.

        Args:
            pairs: N training pairs, at least 4.
            seed: of the halves and of the training.
            steps: optimizer steps of each model.

        Returns:
            The fitted definition, and (N, 2) raw scores of the pairs, text and molecule.
        """
        encoded = encode(pairs)
        half = split_halves(pairs.ids, seed)
        raw = np.empty((len(pairs), 2))
        weights, pools = [], []
        bar = tqdm(total=2 * steps, desc="Training the reference models", disable=None)
        # One thread: a second one gains little with models this small, costs much where other processes keep the cores
        # busy, and would make the last bits depend on the number of cores.
        with bar, single_thread():
            for fold in range(2):
                seen, held_out = np.flatnonzero(half == fold), np.flatnonzero(half != fold)
                model = train_reference(encoded.take(seen), seed + fold, steps, bar)
                weights.append({name: value.detach().numpy() for name, value in model.named_parameters()})
                pool = embed_pairs(model.double(), encoded.take(held_out))
                raw[held_out] = np.log(mid_ranks(pool, pool, is_pool=True))
                pools.append(pool)
        return cls(tuple(weights), tuple(pools)), raw

    def score(self, pairs: PairFeatures) -> np.ndarray:
        """(B, 2) raw scores, text and molecule, of pairs that were not fitted."""
        encoded = encode(pairs)
        raw = []
        # One thread: a forked process (`Dataset.map` with `num_proc`) hangs in OpenMP if its parent has used OpenMP.
        with single_thread():
            for model, pool in zip(_models(self), self.pools, strict=True):
                raw.append(np.log(mid_ranks(embed_pairs(model, encoded), pool, is_pool=False)))
        return np.mean(raw, axis=0)


# In a cache and not in an attribute, so that the fitted state remains plain arrays with the same pickle in every run.
@lru_cache(maxsize=1)
def _models(fitted: Alignment) -> list[ReferenceModel]:
    """The two models, in float64."""
    models = []
    for weights in fitted.weights:
        with torch.random.fork_rng(devices=[]):
            model = ReferenceModel()
        model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        models.append(model.eval().double())
    return models
