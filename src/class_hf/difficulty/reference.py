"""The reference model of alignment: small towers that train in seconds and rank pairs that they have not seen."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from class_hf.difficulty.pair_features import PairFeatures

_BATCH = 256
_BUCKETS = 2**14
_WIDTH = 128
_COUNT_THRESHOLDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)

# Embeddings are kept as integers of at most this length. Then dot products are exact in float32 (see
# confusability.py), and ranks do not depend on how many rows are compared at a time.
_LENGTH = 4095

# Dot products that are held at once: 32 MiB of float32.
_MAX_DOTS = 2**23


class EncodedPairs(NamedTuple):
    """Pairs as the reference model reads them.

    Attributes:
        text: N int32 arrays, the hashed words and n-grams of each caption.
        molecule: N int32 arrays, the hashed substructures of each molecule.
    """

    text: list[np.ndarray]
    molecule: list[np.ndarray]

    def take(self, rows: Sequence[int] | np.ndarray) -> "EncodedPairs":
        """The chosen pairs."""
        return EncodedPairs([self.text[row] for row in rows], [self.molecule[row] for row in rows])

    def __len__(self) -> int:
        return len(self.text)


class ReferenceModel(nn.Module):
    """The lexical and the fingerprint tower, without projections, and a learnable logit scale."""

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

    def forward(self, pairs: EncodedPairs) -> torch.Tensor:
        """L2-normalised embeddings (2, B, H) of B pairs: text, molecule."""
        text_embeds = self.text(*_bag(pairs.text)).pooler_output
        molecule_embeds = self.molecule(*_bag(pairs.molecule)).pooler_output
        return F.normalize(torch.stack([text_embeds, molecule_embeds]), dim=-1)


def _bag(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows in one tensor, and (N + 1,) where each starts."""
    offsets = np.cumsum([0] + [len(row) for row in rows], dtype=np.int32)
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(offsets)


def encode(pairs: PairFeatures) -> EncodedPairs:
    """Hashes the words and n-grams of each caption, and the substructures of each molecule.

    Raises:
        ValueError: if RDKit cannot parse a SMILES; names the row and its id.
    """
    from class_hf.models.feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
    from class_hf.models.tokenization_lexical import LexicalTokenizer

    tokenizer = LexicalTokenizer(num_buckets=_BUCKETS, char_ngrams=(0, 0), line_ngrams=())
    extractor = MoleculeFingerprintFeatureExtractor(
        num_buckets=_BUCKETS, count_thresholds=_COUNT_THRESHOLDS, substructures=()
    )
    text = [np.concatenate(tokenizer.encode_sentences(description)) for description in pairs.descriptions]
    try:
        molecule = [np.frombuffer(extractor.encode(smiles), "<i4").copy() for smiles in pairs.smiles]
    except ValueError:
        _ = pairs.sizes  # parses all SMILES: its error names the row
        raise
    return EncodedPairs(text, molecule)


def split_halves(ids: Sequence[str], seed: int) -> np.ndarray:
    """Splits pairs into two halves by a hash of the seed and the id.

    Args:
        ids: N names.
        seed: another seed gives another split.

    Returns:
        (N,) int64, 0 or 1. The sizes differ by at most 1, and the order of the ids does not matter.

    >>> split_halves(["a", "b", "c", "d"], seed=0).tolist()
    [0, 0, 1, 1]
    """
    digests = [blake2b(f"{seed}:{name}".encode(), digest_size=16).digest() for name in ids]
    half = np.empty(len(ids), np.int64)
    half[sorted(range(len(ids)), key=digests.__getitem__)] = np.arange(len(ids)) % 2
    return half


def train_reference(pairs: EncodedPairs, seed: int, steps: int, bar: Any) -> ReferenceModel:
    """Trains a reference model with symmetric InfoNCE. The global random state is left as it was.

    Args:
        pairs: the training pairs, at least 2.
        seed: of the initial weights, the batches and the dropout.
        steps: optimizer steps.
        bar: a progress bar that is advanced at each step.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = ReferenceModel().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps + 1)
        for _, rows in zip(range(steps), _batches(len(pairs)), strict=False):
            text_embeds, molecule_embeds = model(pairs.take(rows))
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
    """Endless batches of up to 256 shuffled rows. An incomplete batch is dropped."""
    batch = min(_BATCH, size)
    while True:
        order = torch.randperm(size).tolist()
        for start in range(0, size - batch + 1, batch):
            yield order[start : start + batch]


@torch.no_grad()
def embed_pairs(model: ReferenceModel, pairs: EncodedPairs) -> np.ndarray:
    """(2, B, H) float32 embeddings of text and molecule, scaled and truncated to integers.

    The model must be in float64. The last bits depend on the size of a batch, and in float32 they would reach the
    integers.
    """
    starts = range(0, len(pairs), _BATCH)
    parts = [model(pairs.take(range(start, min(start + _BATCH, len(pairs))))) for start in starts]
    return torch.cat(parts, dim=1).mul(_LENGTH).trunc().float().numpy()


def mid_ranks(pairs: np.ndarray, pool: np.ndarray, *, is_pool: bool, max_dots: int = _MAX_DOTS) -> np.ndarray:
    """Mid-ranks of the true partners, from 1.

    Args:
        pairs: (2, B, H) embeddings of text and molecule.
        pool: (2, n, H) embeddings of the candidates.
        is_pool: whether the pairs are the pool itself. If not, each pair's partner joins the candidates.
        max_dots: dot products that are held at once. It changes the memory, not the result.

    Returns:
        (B, 2): rank of the true molecule for the caption, rank of the true caption for the molecule.

    >>> pool = np.array([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 1.0], [1.0, 1.0]]], np.float32)
    >>> mid_ranks(pool, pool, is_pool=True).tolist()
    [[2.0, 2.0], [1.5, 1.5]]
    """
    ranks = np.empty((pairs.shape[1], 2))
    block = max(1, max_dots // pool.shape[1])
    for start in range(0, len(ranks), block):
        part = slice(start, start + block)
        true = (pairs[0, part] * pairs[1, part]).sum(axis=1, keepdims=True)
        for side in range(2):
            dots = pairs[side, part] @ pool[1 - side].T
            equal = (dots == true).sum(axis=1) - is_pool
            ranks[part, side] = 1 + (dots > true).sum(axis=1) + equal / 2
    return ranks
