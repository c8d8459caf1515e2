"""Answers one question about substructures with RDKit. `search/substructure.py` runs this file as a process.

It reads one JSON object from its input and writes one to its output. It imports nothing of this package, so that it
can run isolated: neither the current folder nor `PYTHONPATH` is searched for modules. The folders of RDKit and NumPy
are its arguments. They are searched after the standard library.

It calls RDKit's parser directly. The process is ended after a time limit, and `parse_smiles` reads each query again
before it is encoded, so its limits and its strictness hold.
"""

import json
import sys
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Answers a question.

    Args:
        question (`dict`): one of

            - `{"check": [SMILES, ...]}`: whether RDKit can parse all of them;
            - `{"smarts": SMARTS}`: what each molecule with this substructure has;
            - `{"smarts": SMARTS, "smiles": [SMILES, ...], "wanted": n, "use_stereo": bool}`: the positions of the
              first n molecules that match.

    Returns:
        `dict`: `{"answer": ...}`, or `{"error": message}`.
    """
    from rdkit import Chem, DataStructs, rdBase

    with rdBase.BlockLogs():
        if "check" in question:
            for smiles in question["check"]:
                if reason := refusal_reason(smiles):
                    return {"error": f"RDKit cannot parse the SMILES {smiles[:200]!r}: {reason}."}
            return {"answer": None}
        pattern = Chem.MolFromSmarts(question["smarts"])
        if pattern is None or pattern.GetNumAtoms() == 0:
            return {"error": f"substructure {question['smarts'][:200]!r}: RDKit cannot parse it as SMARTS."}
        if "smiles" not in question:
            bits = DataStructs.BitVectToBinaryText(Chem.PatternFingerprint(pattern)).hex()
            return {"answer": {"pattern": bits, "elements": certain_elements(pattern)}}
        positions: list[int] = []
        for position, smiles in enumerate(question["smiles"]):
            molecule = Chem.MolFromSmiles(smiles)
            if molecule is not None and molecule.HasSubstructMatch(pattern, useChirality=question["use_stereo"]):
                positions.append(position)
                if len(positions) == question["wanted"]:
                    break
        return {"answer": positions}


def refusal_reason(smiles: str) -> str | None:
    """Why RDKit cannot parse a SMILES, or None. The words are those of `class_hf.models.smiles`, where a test compares
    them: this file cannot import it."""
    from rdkit import Chem

    try:
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is not None:
            return None if molecule.GetNumAtoms() else "it has no atoms"
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        problems = [] if molecule is None else Chem.DetectChemistryProblems(molecule)
    except RuntimeError as error:  # a failed check in RDKit's code, such as on [#200], with its file and stack
        return " ".join(str(error).split("Violation occurred")[0].split())
    if problems:
        return " ".join(problems[0].Message().split())
    return "the syntax is invalid" if molecule is None else "the extension is invalid"


def certain_elements(pattern: Any) -> list[str]:
    """The elements of the pattern's atoms that allow one element only. The fingerprint ignores single atoms."""
    choices = ("Or", "!=", "Recursive")
    certain = [atom for atom in pattern.GetAtoms() if not any(choice in atom.DescribeQuery() for choice in choices)]
    return sorted({atom.GetSymbol() for atom in certain if atom.GetAtomicNum()})


if __name__ == "__main__":
    sys.path.extend(sys.argv[1:])
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
