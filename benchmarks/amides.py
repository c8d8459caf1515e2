"""Synthetic molecules for benchmarks: amides of the acids and amines among given molecules, all different."""

from collections.abc import Sequence
from pathlib import Path

from rdkit import Chem, rdBase

ACID = "[CX3;!R](=O)[OX2H1]"
AMINE = "[NX3;H2;+0;$(N[CX4])]"
MOST_ATOMS = 20  # heavy atoms of an acid or an amine


def amides_of_chebi20(data_dir: Path, count: int) -> list[str]:
    """The first amides of ChEBI-20's molecules, see [`amides`]."""
    lines = (data_dir / "molecules.tsv").read_text(encoding="utf-8").splitlines()
    place = lines[0].split("\t").index("SMILES")
    return amides([line.split("\t")[place] for line in lines[1:]], count)


def fragments(smiles: Sequence[str], pattern: str) -> list[str]:
    """The different molecules with one match of a pattern, as SMILES `*R` that begin with an open bond.

    Args:
        smiles: of the molecules.
        pattern: a SMARTS. The open bond is at its first atom. The third atom, an acid's hydroxy group, is removed.
    """
    wanted, found = Chem.MolFromSmarts(pattern), {}
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        if molecule is None or molecule.GetNumHeavyAtoms() > MOST_ATOMS or "." in text:
            continue
        matches = molecule.GetSubstructMatches(wanted)
        if len(matches) != 1:
            continue
        editable = Chem.RWMol(molecule)
        if len(matches[0]) == 3:  # the hydroxy group of the acid
            marker = matches[0][2]
            editable.ReplaceAtom(marker, Chem.Atom(0))
        else:
            marker = editable.AddAtom(Chem.Atom(0))
            editable.AddBond(matches[0][0], marker, Chem.BondType.SINGLE)
        marked = editable.GetMol()
        marked.UpdatePropertyCache(strict=False)
        text = Chem.MolToSmiles(marked, rootedAtAtom=marker)
        if text.startswith("*") and text.count("*") == 1:
            found.setdefault(text, None)
    return list(found)


def amides(smiles: Sequence[str], count: int) -> list[str]:
    """Amides of the first acids and primary amines among molecules: all pairs, as canonical SMILES.

    Args:
        smiles: of the molecules. ChEBI-20 has more than 1,300 acids and 1,300 amines of at most 20 heavy atoms with
            one carboxylic acid, or one primary amine.
        count: number of amides. They are different, because the fragments are.
    """
    with rdBase.BlockLogs():
        acids, amines = fragments(smiles, ACID), fragments(smiles, AMINE)
        side = int((1.01 * count) ** 0.5) + 1  # up to .3 % of the amides are equal
        acids, amines = acids[: max(side, -(-count // len(amines)))], amines[: max(side, -(-count // len(acids)))]
        products: dict[str, None] = {}
        for acid in acids:
            for amine in amines:
                # The two open bonds close to the amide bond: `*C(=O)R` and `*NR'` become `C%99(=O)R.N%99R'`.
                joined = f"{_opened(acid)}.{_opened(amine)}"
                molecule = Chem.MolFromSmiles(joined)
                if molecule is not None:
                    products.setdefault(Chem.MolToSmiles(molecule), None)
                if len(products) == count:
                    return list(products)
    raise SystemExit(f"only {len(products):,} amides of {len(acids):,} acids and {len(amines):,} amines.")


def _opened(fragment: str) -> str:
    """`*CR` with an open ring bond in place of the mark: `C%99R`.

    >>> _opened("*[C@H](N)C"), _opened("*NCC")
    ('[C@H]%99(N)C', 'N%99CC')
    """
    end = fragment.index("]") + 1 if fragment[1] == "[" else 2
    return f"{fragment[1:end]}%99{fragment[end:]}"
