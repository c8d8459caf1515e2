"""Turns a molecule into the hashed ids of its substructures."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from .argument_checks import check_integer, check_integers
from .feature_extraction_base import MoleculeFeatureExtractor
from .smiles import shared_molecule
from .substructures import COUNTERS, environments

COUNT_THRESHOLDS = (*range(1, 33), 36, 40, 48, 56, 64, 80, 96, 128)
# Substructures whose ids are kept, about 20 MB. Most substructures of a molecule are also in many others.
_KEPT = 2**16


class MoleculeFingerprintFeatureExtractor(MoleculeFeatureExtractor):
    """Turns a SMILES into the hashed ids of its substructures, with counts in unary.

    The substructures are the circular environments of the atoms (Morgan; Rogers & Hahn, 2010) and those that
    `substructures` names: `torsions` (chains of four atoms), `composition` (numbers of elements, rings, charges,
    double bonds and stereo marks of the molecule), `ring_systems`, and `pieces` (BRICS). See `substructures.py`.

    A substructure that occurs n times gives one id for each threshold t <= n, so a bag of embeddings distinguishes
    one hydroxy group from three. Charge, isotope, R/S and E/Z are part of the environments.

    These differences are not encoded: relative positions beyond the reach of the substructures, and stereo centres
    without an R/S label, as in cis- and trans-1,4-dimethylcyclohexane.

    Args:
        radius (`int`, *optional*, defaults to 2): largest radius of an environment, in bonds.
        num_buckets (`int`, *optional*, defaults to 65,536): number of ids.
        count_thresholds (list of `int`, *optional*): the counts that are distinguished. Default: 1 to 32, then
            coarser steps up to 128.
        substructures (list of `str`, *optional*, defaults to `("torsions", "composition")`): what is counted in
            addition to the environments.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> extractor = MoleculeFingerprintFeatureExtractor(num_buckets=1000)
    >>> batch = extractor(["CCO", "c1ccccc1"])
    >>> batch["fragment_offsets"].shape
    torch.Size([3])
    """

    model_input_names = ["fragment_ids", "fragment_offsets"]

    def __init__(
        self,
        radius: int = 2,
        num_buckets: int = 2**16,
        count_thresholds: Sequence[int] = COUNT_THRESHOLDS,
        substructures: Sequence[str] = ("torsions", "composition"),
        **kwargs: Any,
    ):
        if isinstance(substructures, str):
            raise ValueError(f"`substructures` is {substructures!r}; expected a list of names.")
        for name in substructures:
            if name not in COUNTERS:
                raise ValueError(f"`substructures` names {name!r}; choose among {', '.join(COUNTERS)}.")
        self.radius = check_integer("radius", radius, 0)
        self.num_buckets = check_integer("num_buckets", num_buckets, 1)
        self.count_thresholds = sorted(check_integers("count_thresholds", count_thresholds, 1))
        self.substructures = list(substructures)
        super().__init__(**kwargs)

    def encode(self, smiles: str) -> bytes:
        """Encodes one molecule.

        Args:
            smiles: a SMILES.

        Returns:
            The ids as little-endian int32 bytes.

        Raises:
            ValueError: if the SMILES is invalid or too large (see [`parse_smiles`]).
        """
        molecule = shared_molecule(smiles)
        counts = environments(molecule, self.radius)
        for name in self.substructures:
            counts |= COUNTERS[name](molecule)  # each kind of substructure has its own names
        return self.pack(counts)

    def pack(self, counts: Mapping[str, int]) -> bytes:
        """Encodes counted substructures, as `encode` does after counting them."""
        ids = _ids(self.num_buckets, tuple(self.count_thresholds))
        return b"".join([ids(fragment, count) for fragment, count in sorted(counts.items())])

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins B encoded molecules with T ids in total.

        Args:
            blobs: results of `encode`.

        Returns:
            `fragment_ids` (T,) int32 and `fragment_offsets` (B + 1,) int32.
        """
        offsets = np.cumsum([0] + [len(blob) // 4 for blob in blobs], dtype=np.int32)
        ids = np.frombuffer(b"".join(blobs), dtype="<i4").astype(np.int32)
        return {"fragment_ids": torch.from_numpy(ids), "fragment_offsets": torch.from_numpy(offsets)}


@lru_cache(maxsize=8)
def _ids(num_buckets: int, count_thresholds: tuple[int, ...]) -> Callable[[str, int], bytes]:
    """A function that gives the ids of a substructure that occurs a number of times."""

    @lru_cache(maxsize=_KEPT)
    def ids(fragment: str, count: int) -> bytes:
        start = zlib.crc32(f"{fragment}:".encode())
        # Each is the hash of "fragment:threshold".
        hashes = [zlib.crc32(str(threshold).encode(), start) for threshold in count_thresholds if threshold <= count]
        return (np.array(hashes, np.int64) % num_buckets).astype("<i4").tobytes()

    return ids
