"""Parses SMILES for all feature extractors, and turns a molecule into hashed ids of its substructures."""

import re
import unicodedata
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rdkit import Chem, rdBase
from transformers import BatchFeature, FeatureExtractionMixin

from .argument_checks import check_integer, check_integers
from .substructures import COUNTERS, environments

# Limits of one molecule. They keep one molecule from blocking a process: RDKit cannot be interrupted, and 1,600 small
# rings took it over two minutes. Within the limits no feature extractor takes more than a few seconds. The largest
# SMILES of ChEBI-20 has 1,598 characters, its largest molecules have 574 atoms and 69 rings.
MAX_SMILES_CHARACTERS = 50_000
MAX_ATOMS = 2_000  # with hydrogens that are written as atoms
MAX_RINGS = 300  # bonds - atoms + fragments
MAX_NEIGHBOURS = 12  # of one atom; checked for molecules with more than 100 rings
_FEW_RINGS = 100

COUNT_THRESHOLDS = (*range(1, 33), 36, 40, 48, 56, 64, 80, 96, 128)

_FOREIGN = re.compile(r"[^ -~\t\r\n]")  # not a printable ASCII character and not white space
_EXTENSION = re.compile(r"\|[^|]*\|")


def parse_smiles(smiles: str) -> Chem.Mol:
    """Parses one SMILES or CXSMILES.

    All feature extractors parse by this function. It refuses what RDKit would silently cut off: non-ASCII characters
    and words after the SMILES. White space at the ends is ignored.

    Args:
        smiles: a SMILES. An extension (CXSMILES, ` |...|`) is applied. The features do not encode its enhanced stereo
            groups and coordinates.

    Returns:
        The sanitised molecule, without conformers.

    Raises:
        ValueError: if `smiles` is empty, has a non-ASCII character or words after it, exceeds a limit, or if RDKit
            cannot parse it. The message names the SMILES and the reason.

    Example:

    >>> parse_smiles("CCO").GetNumAtoms()
    3
    >>> parse_smiles("CCO ethanol")
    Traceback (most recent call last):
    ...
    ValueError: the SMILES 'CCO' is followed by 'ethanol'; expected nothing after it, or an extension |...|.
    """
    if not isinstance(smiles, str) or not smiles.strip():
        raise ValueError(f"the SMILES is {repr(smiles)[:60]}; expected a non-empty string.")
    if len(smiles) > MAX_SMILES_CHARACTERS:
        raise ValueError(
            f"the SMILES {_shortened(smiles)} has {len(smiles):,} characters; the limit is {MAX_SMILES_CHARACTERS:,}."
        )
    foreign = _FOREIGN.search(smiles)
    if foreign is not None:
        character = foreign.group()
        name = unicodedata.name(character, "a control character")
        raise ValueError(
            f"the SMILES {_shortened(smiles)} has the character U+{ord(character):04X} ({name}) at position "
            f"{foreign.start() + 1}; expected printable ASCII characters only."
        )
    structure, *extension = smiles.split(None, 1)
    if extension and not _EXTENSION.fullmatch(extension[0].strip()):
        raise ValueError(
            f"the SMILES {_shortened(structure)} is followed by {_shortened(extension[0].strip())}; expected nothing "
            "after it, or an extension |...|."
        )
    _check_size(structure)
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles.strip())
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise ValueError(f"RDKit cannot parse the SMILES {_shortened(smiles.strip())}: {_reason(structure)}.")
    molecule.RemoveAllConformers()
    return molecule


def _shortened(text: str, length: int = 200) -> str:
    """The text in quotes, cut to a length that fits an error message."""
    return repr(text) if len(text) <= length else f"{text[:length]!r}..."


def _check_size(smiles: str) -> None:
    """Raises ValueError if the molecule exceeds a limit."""
    # Each atom takes a character and each ring two digits, so most molecules need no parsing here.
    if len(smiles) <= MAX_ATOMS and sum(map(smiles.count, "0123456789")) <= 2 * _FEW_RINGS:
        return
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)  # fast: no ring search
    if molecule is None:
        return
    atoms = molecule.GetNumAtoms()
    rings = molecule.GetNumBonds() - atoms + len(Chem.GetMolFrags(molecule))
    sizes = [("atoms", atoms, MAX_ATOMS), ("rings", rings, MAX_RINGS)]
    if rings > _FEW_RINGS:
        neighbours = max(atom.GetDegree() for atom in molecule.GetAtoms())
        sizes.append(("neighbours at one atom", neighbours, MAX_NEIGHBOURS))
    for name, size, limit in sizes:
        if size > limit:
            raise ValueError(f"the SMILES {_shortened(smiles, 60)} has {size:,} {name}; the limit is {limit:,}.")


def _reason(smiles: str) -> str:
    """Why RDKit cannot parse a SMILES."""
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        if molecule is None:
            return "the syntax is invalid"
        problems = Chem.DetectChemistryProblems(molecule)
    if problems:
        return " ".join(problems[0].Message().split())
    return "it has no atoms" if molecule.GetNumAtoms() == 0 else "the extension is invalid"


class MoleculeFingerprintFeatureExtractor(FeatureExtractionMixin):
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
        molecule = parse_smiles(smiles)
        counts = environments(molecule, self.radius)
        for name in self.substructures:
            counts |= COUNTERS[name](molecule)
        return self.pack(counts)

    def pack(self, counts: Mapping[str, int]) -> bytes:
        """Encodes counted substructures, as `encode` does after counting them."""
        ids = [
            zlib.crc32(f"{fragment}:{threshold}".encode()) % self.num_buckets
            for fragment, count in sorted(counts.items())
            for threshold in self.count_thresholds[: bisect_right(self.count_thresholds, count)]
        ]
        return np.array(ids, dtype="<i4").tobytes()

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

    def __call__(self, smiles: str | Sequence[str], **kwargs: Any) -> BatchFeature:
        """Encodes and joins one SMILES or several."""
        molecules = [smiles] if isinstance(smiles, str) else list(smiles)
        return BatchFeature(self.collate([self.encode(molecule) for molecule in molecules]))
