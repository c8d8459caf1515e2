"""Which atoms of a molecule raised its score.

The method is occlusion (Zeiler & Fergus, 2014, section 4.2) of one atom at a time. The contribution of an atom is the
decrease of the cosine when the atom is hidden. For the fingerprint tower, all substructures that cover the atom are
removed from the fingerprint. For every other tower, the atom is replaced by the wildcard `*`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from rdkit import Chem

from class_hf.evaluation.embedding import evaluating
from class_hf.models.feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
from class_hf.models.smiles import parse_smiles
from class_hf.models.substructures import occurrences
from class_hf.utils.model_output import output_fields
from class_hf.utils.protocols import RetrievalModel

# Each atom is one more molecule to embed.
MAX_ATOMS = 200


@overload
def atom_contributions(
    model: RetrievalModel,
    processor: Any,
    smiles: str,
    *,
    text: str | None = None,
    like: str | None = None,
    batch_size: int = 64,
) -> np.ndarray: ...
@overload
def atom_contributions(
    model: RetrievalModel,
    processor: Any,
    smiles: Sequence[str],
    *,
    text: str | None = None,
    like: str | None = None,
    batch_size: int = 64,
) -> list[np.ndarray]: ...
def atom_contributions(
    model: RetrievalModel,
    processor: Any,
    smiles: str | Sequence[str],
    *,
    text: str | None = None,
    like: str | None = None,
    batch_size: int = 64,
) -> np.ndarray | list[np.ndarray]:
    """Computes how much each atom of a molecule raised its cosine to a text or to another molecule.

    Args:
        model ([`~class_hf.utils.protocols.RetrievalModel`]): a dual encoder. It runs in evaluation mode.
        processor ([`TextMoleculeProcessor`]): the processor of the model.
        smiles (`str` or list of `str`): the scored molecule, with at most `MAX_ATOMS` atoms, or several. Several take
            less time in one call than in one call each.
        text (`str`, *optional*): the query, if it is a text.
        like (`str`, *optional*): the query, if it is a molecule, as SMILES. Give exactly one of `text` and `like`.
        batch_size (`int`, *optional*, defaults to 64): molecules embedded at a time.

    Returns:
        (N,) float32, in the order of the atoms in the SMILES: the cosine minus the cosine without the atom. Negative
        values lowered the score. The values do not add up to the score. For several molecules, a list of arrays.

    Raises:
        ValueError: if both queries or no query are given, RDKit cannot parse a SMILES, or a molecule has more than
            `MAX_ATOMS` atoms.

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor, TextMoleculeDualEncoderModel
    >>> from class_hf import TextMoleculeProcessor
    >>> model = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint")
    >>> processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    >>> atom_contributions(model, processor, "CCO", text="The molecule is a primary alcohol.").shape
    (3,)
    """
    if (text is None) == (like is None):
        raise ValueError(
            f"pass either text or like, a molecule; {'neither was' if text is None else 'both were'} passed."
        )
    names = [smiles] if isinstance(smiles, str) else list(smiles)
    molecules = [parse_smiles(name) for name in names]
    for molecule in molecules:
        if molecule.GetNumAtoms() > MAX_ATOMS:
            raise ValueError(
                f"the molecule has {molecule.GetNumAtoms()} atoms; contributions are computed for at most {MAX_ATOMS}."
            )
    query = processor(text=text) if text is not None else processor(smiles=like)
    # Each molecule, followed by the molecule without each of its atoms.
    blobs: list[bytes] = []
    for blob, molecule in zip(processor.encode_molecules(names), molecules, strict=True):
        blobs += [blob, *_occluded(molecule, processor)]
    with evaluating(model):
        vector = _unit_vectors(model, query, "text" if text is not None else "molecule")[0]
        parts = [blobs[start : start + batch_size] for start in range(0, len(blobs), batch_size)]
        scores = [_unit_vectors(model, processor.collate_molecules(part), "molecule") @ vector for part in parts]
    sizes = [1 + molecule.GetNumAtoms() for molecule in molecules]
    by_molecule = np.split(torch.cat(scores).cpu().numpy(), np.cumsum(sizes)[:-1]) if scores else []
    contributions = [scores_of[0] - scores_of[1:] for scores_of in by_molecule]
    return contributions[0] if isinstance(smiles, str) else contributions


def _occluded(molecule: Chem.Mol, processor: Any) -> Iterator[bytes]:
    """The encoded molecule without each of its atoms, in the order of the atoms."""
    extractor = getattr(processor, "feature_extractor", None)
    if not isinstance(extractor, MoleculeFingerprintFeatureExtractor):
        yield from processor.encode_molecules([_with_wildcard(molecule, atom) for atom in molecule.GetAtoms()])
        return
    all_counts: Counter[str] = Counter()
    covering: list[Counter[str]] = [Counter() for _ in molecule.GetAtoms()]
    for name, atoms in occurrences(molecule, extractor.radius, extractor.substructures):
        all_counts[name] += 1
        for atom in atoms:
            covering[atom][name] += 1
    # The ids of a bag are those of each name, up to its count. Each name is hashed once, and not once for each atom.
    places = {name: place for place, name in enumerate(sorted(all_counts))}
    ids_of = [np.frombuffer(extractor.pack({name: all_counts[name]}), dtype="<i4") for name in places]
    ids, owners = np.concatenate(ids_of), np.repeat(np.arange(len(places)), [len(part) for part in ids_of])
    thresholds = np.concatenate([extractor.count_thresholds[: len(part)] for part in ids_of])
    counts = np.array([all_counts[name] for name in places])
    for covered in covering:
        remaining = counts.copy()
        remaining[[places[name] for name in covered]] -= list(covered.values())
        yield ids[thresholds <= remaining[owners]].tobytes()


def _with_wildcard(molecule: Chem.Mol, atom: Chem.Atom) -> str:
    """The SMILES of the molecule with `*` in place of an atom. Bonds and neighbours stay the same."""
    edited = Chem.RWMol(molecule)
    wildcard = Chem.Atom(0)
    wildcard.SetIsAromatic(atom.GetIsAromatic())
    edited.ReplaceAtom(atom.GetIdx(), wildcard)
    return Chem.MolToSmiles(edited)


def _unit_vectors(model: RetrievalModel, batch: Any, side: str) -> torch.Tensor:
    """(B, D) L2-normalised embeddings of a collated batch."""
    device = next(model.parameters()).device
    outputs = model(**{name: value.to(device) for name, value in batch.items()})
    return F.normalize(output_fields(outputs)[f"{side}_embeds"].float(), dim=-1)
