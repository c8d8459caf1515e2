"""The demo data set: about 4,900 molecules that RDKit ships, with synthetic captions made by rules."""

import hashlib
import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import rdkit
from datasets import Dataset, DatasetDict, Features, Value
from rdkit import Chem, RDConfig, rdBase
from rdkit.Chem.Scaffolds import MurckoScaffold

from class_hf._version import __version__
from class_hf.data.demo.captions import demo_caption

logger = logging.getLogger(__name__)

DEMO_DESCRIPTION = (
    "The demo set of class_hf: molecules of the NCI set that RDKit ships, with synthetic captions. The captions "
    "were made by rules from the structures, in the style of ChEBI; nobody wrote them. A result on them shows that "
    "a pipeline works and says nothing about ChEBI-20 or any other real data set."
)

_SPLITS = ("train", "validation", "test")
_SHARE = 0.1  # share of the molecules in the validation split, and in the test split
_LARGE = 0.005  # scaffolds with a larger share of the molecules than this are in train
_SMALLEST = 10
_TEXT = Value("string")
_PAIRS = Features({"id": _TEXT, "smiles": _TEXT, "description": _TEXT})
_POOL = Features({"id": _TEXT, "smiles": _TEXT, "split": _TEXT})


class _Molecule(NamedTuple):
    """A molecule of the set: its id, canonical SMILES and scaffold."""

    id: str
    smiles: str
    scaffold: str


def _draw(seed: int, text: str) -> str:
    """Sort key of a text in a shuffled order. A hash, so it does not depend on the other members of the set."""
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=16).hexdigest()


@cache
def _molecules(path: Path) -> tuple[_Molecule, ...]:
    """The distinct molecules of RDKit's file that RDKit can parse, in the order of the file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. The demo set needs the molecules that RDKit's wheels ship: install RDKit from "
            "PyPI (pip install --force-reinstall rdkit), or load other pairs with load_chebi20."
        )
    molecules: dict[str, _Molecule] = {}
    # No molecule of this file needs the limits of `parse_smiles`, and the split depends on each of them.
    with rdBase.BlockLogs():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            molecule = Chem.MolFromSmiles(line.partition("\t")[0])
            if molecule is None:
                continue
            smiles = Chem.MolToSmiles(molecule)
            if smiles not in molecules:
                scaffold = Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(molecule))
                molecules[smiles] = _Molecule(f"demo-{number:05d}", smiles, scaffold or smiles)
    return tuple(molecules.values())


@cache
def _split_by_scaffold(molecules: tuple[_Molecule, ...], seed: int) -> dict[str, str]:
    """Split of each id. All molecules of a scaffold are in one split, and large scaffolds are in train.

    An acyclic molecule is its own scaffold. The seed shuffles the other scaffolds, which fill the test split, then
    the validation split, then train.
    """
    scaffolds: dict[str, list[str]] = {}
    for molecule in molecules:
        scaffolds.setdefault(molecule.scaffold, []).append(molecule.id)
    split_of: dict[str, str] = {}
    room = {"test": round(_SHARE * len(molecules)), "validation": round(_SHARE * len(molecules))}
    for scaffold in sorted(scaffolds, key=lambda scaffold: (_draw(seed, scaffold), scaffold)):
        ids = scaffolds[scaffold]
        fits = (split for split, left in room.items() if len(ids) <= min(left, _LARGE * len(molecules)))
        split = next(fits, "train")
        if split != "train":
            room[split] -= len(ids)
        split_of.update(dict.fromkeys(ids, split))
    return split_of


def _choose(split_of: dict[str, str], size: int | None, seed: int) -> set[str]:
    """The ids to keep: a proportional share of each split. A larger choice contains every smaller one."""
    if size is None:
        return set(split_of)
    if not isinstance(size, int) or not _SMALLEST <= size <= len(split_of):
        raise ValueError(
            f"size is {size!r}; expected an integer from {_SMALLEST} to {len(split_of)}, the number of molecules in "
            "the demo set, or None for all."
        )
    places = []
    for split in _SPLITS:
        ids = sorted((id_ for id_, other in split_of.items() if other == split), key=lambda id_: _draw(seed, id_))
        places += [((rank + 0.5) / len(ids), id_) for rank, id_ in enumerate(ids)]
    return {id_ for _, id_ in sorted(places)[:size]}


def _rows(path: str, split: str, size: int | None, seed: int, version: str) -> Iterator[dict[str, str]]:
    """Rows of a split, or of the pool of all splits. ``version`` is unused here; it is part of the cache key."""
    molecules = _molecules(Path(path))
    split_of = _split_by_scaffold(molecules, seed)
    chosen = _choose(split_of, size, seed)
    for molecule in molecules:
        if molecule.id not in chosen:
            continue
        row = {"id": molecule.id, "smiles": molecule.smiles}
        if split == "pool":
            yield {**row, "split": split_of[molecule.id]}
        elif split_of[molecule.id] == split:
            yield {**row, "description": demo_caption(molecule.smiles, seed)}


def _version() -> str:
    """Cache key of the rules: versions of this package and of RDKit, and a hash of the sources in this folder."""
    digest = hashlib.blake2b(digest_size=8)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return f"{__version__} {rdkit.__version__} {digest.hexdigest()}"


def load_demo(size: int | None = None, seed: int = 0) -> DatasetDict:
    """Loads the demo set: real molecules with synthetic captions. Needs no network.

    The molecules are the first 5,000 of the NCI open database, which every RDKit wheel contains. Molecules that
    RDKit cannot parse (8) and duplicates (99) are left out; the numbers depend on RDKit's version. **The captions
    are synthetic**: rules describe the structure in the style of a ChEBI definition, with varied and incomplete
    wording. Use the set to try a pipeline, for tests and for teaching. Results on it say nothing about ChEBI-20.

    The molecules are split about 80/10/10 by Bemis-Murcko scaffold (Bemis and Murcko, 1996). No scaffold is in two
    splits. Scaffolds with more than 0.5 % of the molecules (benzene) are in train.

    The first call makes the captions, which takes seconds. Further calls read them from the cache of ``datasets``.
    The cache key depends on the versions of this package and of RDKit, and on the rules.

    Args:
        size (`int`, *optional*): molecules to keep, at least 10, in proportion from the three splits. Default: all.
            A molecule has the same id, split and caption at every size. A larger size contains every smaller one.
        seed (`int`, *optional*, defaults to 0): seed of the split, of the choice of molecules and of the wording.

    Returns:
        ``train``, ``validation`` and ``test`` with the string columns ``id`` ("demo-00001", from the line in
        RDKit's file), ``smiles`` (canonical) and ``description``; and ``pool``, all candidate molecules,
        with ``id``, ``smiles`` and ``split``.

    Raises:
        FileNotFoundError: if this installation of RDKit has no data files.
        ValueError: if ``size`` is out of range.

    >>> from class_hf import load_demo
    >>> demo = load_demo(size=100)
    >>> {split: len(rows) for split, rows in demo.items()}
    {'train': 80, 'validation': 10, 'test': 10, 'pool': 100}
    """
    path = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"
    if size is not None or not path.is_file():
        # Checked here, because `datasets` would wrap an error of the generator in its own.
        _choose(_split_by_scaffold(_molecules(path), seed), size, seed)
    shared = {"path": os.fspath(path), "size": size, "seed": seed, "version": _version()}
    demo = DatasetDict()
    for split in (*_SPLITS, "pool"):
        features = _POOL if split == "pool" else _PAIRS
        demo[split] = Dataset.from_generator(
            _rows, features=features, split=split, gen_kwargs={**shared, "split": split}
        )
        demo[split].info.description = DEMO_DESCRIPTION
    logger.info("Loaded %d molecules. %s", len(demo["pool"]), DEMO_DESCRIPTION)
    return demo
