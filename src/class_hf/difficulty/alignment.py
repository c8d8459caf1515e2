"""How far down a cheap reference model ranks a pair's true partner."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from class_hf.difficulty.pair_features import PairFeatures
from class_hf.utils.threads import single_thread

# Two pairs to train on and two to rank, or there is nothing to tell apart.
MIN_PAIRS = 4

_BATCH = 256
_BUCKETS = 2**14
_WIDTH = 128
_COUNT_THRESHOLDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)

# Embeddings are kept as integers of at most this length, so that dot products are exact in float32 (see
# confusability.py) and ranks do not depend on how many rows are compared at a time.
_LENGTH = 4095

# Dot products held at a time: 32 MiB of float32.
_MAX_DOTS = 2**23


class ReferenceModel(nn.Module):
    """The lexical and the fingerprint tower, without projections, and a learnt temperature."""

    def __init__(self) -> None:
        from class_hf.models.configuration_text_molecule import LexicalConfig, MoleculeFingerprintConfig
        from class_hf.models.modeling_bag import LexicalModel, MoleculeFingerprintModel

        super().__init__()
        sizes: dict[str, Any] = dict(
            num_buckets=_BUCKETS, embedding_size=_WIDTH, hidden_size=_WIDTH, intermediate_size=2 * _WIDTH
        )
        self.text = LexicalModel(LexicalConfig(**sizes))
        self.molecule = MoleculeFingerprintModel(MoleculeFingerprintConfig(**sizes))
        self.logit_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))

    def forward(self, text: Sequence[np.ndarray], molecule: Sequence[np.ndarray]) -> torch.Tensor:
        """Unit embeddings (2, B, H), text and molecule, from the int32 ids of B captions and B molecules."""
        text_embeds = self.text(*_bag(text)).pooler_output
        molecule_embeds = self.molecule(*_bag(molecule)).pooler_output
        return F.normalize(torch.stack([text_embeds, molecule_embeds]), dim=-1)


def _bag(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    offsets = np.cumsum([0] + [len(row) for row in rows], dtype=np.int32)
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(offsets)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Rank of the true partner under a reference model that has not seen the pair. Ours; that a cheaper
    model's loss can order examples is bootstrapping by a teacher (Hacohen & Weinshall, 2019, section 2).

    The training pairs are cut into two halves by a hash of the seed and the id. A pair of small towers
    (lexical for text, fingerprint for molecules) is trained on each half with symmetric InfoNCE and ranks the
    other half:

    - text: log of the mid-rank of the true molecule among that half's molecules, for the caption;
    - molecule: log of the mid-rank of the true caption among that half's captions, for the molecule.

    A pair that was not fitted is ranked by both models, each time with the held-out half as the other
    candidates, and the two logs are averaged.

    Attributes:
        weights: the parameters of the two models, by name.
        pools: for each model (2, n, H) the text and molecule embeddings of the half it did not see.
    """

    weights: tuple[dict[str, np.ndarray], ...]
    pools: tuple[np.ndarray, ...]

    @classmethod
    def fit(cls, pairs: PairFeatures, *, seed: int, steps: int) -> tuple["Alignment", np.ndarray]:
        """Train both models for ``steps`` steps; also returns the raw scores, (N, 2) for text and molecule.

        The same seed gives the same scores on the same machine, whatever else draws random numbers.
        """
        text, molecule = _encode(pairs)
        half = _halves(pairs.ids, seed)
        raw = np.empty((len(pairs), 2))
        weights, pools = [], []
        bar = tqdm(total=2 * steps, desc="Training the reference models", disable=None)
        # One thread: two gain little on models so small, are several times slower where other processes keep
        # the cores busy, and would make the last bits depend on the number of cores.
        with bar, single_thread():
            for fold in range(2):
                seen, held_out = np.flatnonzero(half == fold), np.flatnonzero(half != fold)
                model = _train([text[i] for i in seen], [molecule[i] for i in seen], seed + fold, steps, bar)
                weights.append({name: value.detach().numpy() for name, value in model.named_parameters()})
                pool = _embed(model.double(), [text[i] for i in held_out], [molecule[i] for i in held_out])
                raw[held_out] = np.log(_mid_ranks(pool, pool, own=True))
                pools.append(pool)
        return cls(tuple(weights), tuple(pools)), raw

    def score(self, pairs: PairFeatures) -> np.ndarray:
        """Raw scores (B, 2), text and molecule, of pairs that were not fitted."""
        rows = _encode(pairs)
        raw = []
        # One thread, because a forked process (``Dataset.map`` with ``num_proc``) hangs in OpenMP when its
        # parent has used it.
        with single_thread():
            for model, pool in zip(_models(self), self.pools, strict=True):
                raw.append(np.log(_mid_ranks(_embed(model, *rows), pool, own=False)))
        return np.mean(raw, axis=0)


# Behind a cache, and not an attribute: the scorer's state stays plain arrays, and pickles alike.
@lru_cache(maxsize=1)
def _models(fitted: Alignment) -> list[ReferenceModel]:
    models = []
    for weights in fitted.weights:
        with torch.random.fork_rng(devices=[]):
            model = ReferenceModel()
        model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        models.append(model.eval().double())
    return models


def _encode(pairs: PairFeatures) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The hashed n-grams of each caption and the hashed substructures of each molecule, int32."""
    from class_hf.models.feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
    from class_hf.models.tokenization_lexical import LexicalTokenizer

    tokenizer = LexicalTokenizer(num_buckets=_BUCKETS, char_ngrams=(0, 0), line_ngrams=())
    extractor = MoleculeFingerprintFeatureExtractor(
        num_buckets=_BUCKETS, count_thresholds=_COUNT_THRESHOLDS, substructures=()
    )
    text = [np.concatenate(tokenizer.encode_sentences(description)) for description in pairs.descriptions]
    try:
        return text, [np.frombuffer(extractor.encode(smiles), "<i4").copy() for smiles in pairs.smiles]
    except ValueError:
        _ = pairs.sizes  # reads all SMILES: its error names the row
        raise


def _halves(ids: Sequence[str], seed: int) -> np.ndarray:
    """(N,) 0 or 1: the pairs ordered by a hash of seed and id, dealt in turn. Neither half is ever empty."""
    digests = [blake2b(f"{seed}:{name}".encode(), digest_size=16).digest() for name in ids]
    half = np.empty(len(ids), np.int64)
    half[sorted(range(len(ids)), key=digests.__getitem__)] = np.arange(len(ids)) % 2
    return half


def _train(
    text: Sequence[np.ndarray], molecule: Sequence[np.ndarray], seed: int, steps: int, bar: Any
) -> ReferenceModel:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = ReferenceModel().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps + 1)
        for _, rows in zip(range(steps), _batches(len(text)), strict=False):
            text_embeds, molecule_embeds = model([text[i] for i in rows], [molecule[i] for i in rows])
            logits = model.logit_scale.exp().clamp(max=100) * text_embeds @ molecule_embeds.T
            labels = torch.arange(len(rows))
            loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
    return model.eval()


def _batches(size: int) -> Iterator[list[int]]:
    """Shuffled rows for ever, in batches of up to 256, whole ones only."""
    batch = min(_BATCH, size)
    while True:
        order = torch.randperm(size).tolist()
        for start in range(0, size - batch + 1, batch):
            yield order[start : start + batch]


@torch.no_grad()
def _embed(model: ReferenceModel, text: Sequence[np.ndarray], molecule: Sequence[np.ndarray]) -> np.ndarray:
    """(2, B, H) float32 embeddings, scaled and cut to integers.

    By a model in float64: the last bits depend on the size of a batch, and in float32 they would reach the integers.
    """
    starts = range(0, len(text), _BATCH)
    parts = [model(text[start : start + _BATCH], molecule[start : start + _BATCH]) for start in starts]
    return torch.cat(parts, dim=1).mul(_LENGTH).trunc().float().numpy()


def _mid_ranks(pairs: np.ndarray, pool: np.ndarray, *, own: bool) -> np.ndarray:
    """(B, 2) mid-ranks of the true partner: of the molecule for the caption, and the other way round.

    Args:
        pairs: (2, B, H) text and molecule embeddings.
        pool: (2, n, H) the candidates'.
        own: the pairs are the pool itself; if not, each pair's partner joins the candidates.
    """
    ranks = np.empty((pairs.shape[1], 2))
    block = max(1, _MAX_DOTS // pool.shape[1])
    for start in range(0, len(ranks), block):
        part = slice(start, start + block)
        true = (pairs[0, part] * pairs[1, part]).sum(axis=1, keepdims=True)
        for side in range(2):
            dots = pairs[side, part] @ pool[1 - side].T
            equal = (dots == true).sum(axis=1) - own
            ranks[part, side] = 1 + (dots > true).sum(axis=1) + equal / 2
    return ranks
