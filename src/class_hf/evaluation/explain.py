"""Which atoms of a molecule raised its score.

Occlusion (Zeiler & Fergus, 2014, section 4.2), an atom at a time: what an atom contributes is how far the cosine falls
when the tower does not get to see it. What stands for "not seen" is ours: the fingerprint tower's bag loses all
substructures that cover the atom; every other tower reads the molecule with the wildcard `*` in the atom's place.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rdkit import Chem

from class_hf.models.feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor, parse_smiles
from class_hf.models.substructures import occurrences

# Each atom is one more molecule to embed.
MAX_ATOMS = 200
_BATCH = 64


def atom_contributions(
    model: Any, processor: Any, smiles: str, *, text: str | None = None, like: str | None = None
) -> np.ndarray:
    """How much each atom of a molecule raised its cosine to a text, or to another molecule.

    Args:
        model: a dual encoder; it is used in evaluation mode.
        processor: the model's.
        smiles: the molecule that was scored.
        text: the query.
        like: the query, if it is a molecule: its SMILES. Exactly one of text and like is given.

    Returns:
        (N,) float32, the cosine less the cosine without atom i, in the order of RDKit's atoms of `smiles`. Negative
        where the atom lowered the score. The numbers do not add up to the score.

    Raises:
        ValueError: if both or neither query is given, a SMILES cannot be parsed, or the molecule has more than
            `MAX_ATOMS` atoms.

    Example:

    ```python
    atom_contributions(model, processor, "CCO", text="The molecule is a primary alcohol.")
    ```
    """
    if (text is None) == (like is None):
        raise ValueError("give either a text or a molecule (like=), not both and not neither.")
    molecule = parse_smiles(smiles)
    if molecule.GetNumAtoms() > MAX_ATOMS:
        raise ValueError(
            f"the molecule has {molecule.GetNumAtoms()} atoms; contributions are found for at most {MAX_ATOMS}."
        )
    query = processor(text=text) if text is not None else processor(smiles=like)
    blobs = [*processor.encode_molecules([smiles]), *_masked(molecule, processor)]
    training = model.training
    model.eval()
    try:
        vector = _embed(model, query, "text" if text is not None else "molecule")[0]
        parts = [blobs[start : start + _BATCH] for start in range(0, len(blobs), _BATCH)]
        scores = torch.cat([_embed(model, processor.collate_molecules(part), "molecule") @ vector for part in parts])
    finally:
        model.train(training)
    return (scores[0] - scores[1:]).cpu().numpy()


def _masked(molecule: Chem.Mol, processor: Any) -> Iterator[bytes]:
    """The molecule as the tower reads it, once without each atom."""
    extractor = getattr(processor, "feature_extractor", None)
    if not isinstance(extractor, MoleculeFingerprintFeatureExtractor):
        yield from processor.encode_molecules([_with_wildcard(molecule, atom) for atom in molecule.GetAtoms()])
        return
    every: Counter[str] = Counter()
    covering: list[Counter[str]] = [Counter() for _ in molecule.GetAtoms()]
    for name, atoms in occurrences(molecule, extractor.radius, extractor.substructures):
        every[name] += 1
        for atom in atoms:
            covering[atom][name] += 1
    for counts in covering:
        yield extractor.pack(every - counts)


def _with_wildcard(molecule: Chem.Mol, atom: Chem.Atom) -> str:
    """SMILES of the molecule with `*` in an atom's place; bonds and neighbours stay what they are."""
    edited = Chem.RWMol(molecule)
    wildcard = Chem.Atom(0)
    wildcard.SetIsAromatic(atom.GetIsAromatic())
    edited.ReplaceAtom(atom.GetIdx(), wildcard)
    return Chem.MolToSmiles(edited)


def _embed(model: Any, batch: Any, side: str) -> torch.Tensor:
    """(B, D) of length 1."""
    device = next(model.parameters()).device
    with torch.no_grad():
        vectors = model(**{name: value.to(device) for name, value in batch.items()})[f"{side}_embeds"]
    return F.normalize(vectors.float(), dim=-1)
