"""Matches a substructure in a process of its own, which can be ended: RDKit's matching cannot be interrupted.

Run as `python -m class_hf.search.substructure`, it reads one JSON object from its input and writes one to its output.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any


def first_matches(smarts: str, smiles: Sequence[str], wanted: int, time_limit: float) -> list[int]:
    """The places of the first `wanted` molecules that a pattern matches.

    Args:
        smarts: the pattern.
        smiles: molecules, in the order in which they are looked at. One that cannot be parsed does not match.
        wanted: so many are enough.
        time_limit: seconds, the start of the process included.

    Raises:
        ValueError: if RDKit cannot parse the pattern, or its process dies of it.
        TimeoutError: if it takes longer.

    >>> first_matches("[OX2H]", ["CC", "CCO", "CO", "CCCO"], 2, time_limit=20)
    [1, 2]
    """
    return _ask({"smarts": smarts, "smiles": list(smiles), "wanted": wanted}, "substructure", smarts, time_limit)


@lru_cache(maxsize=256)
def requirements(smarts: str, time_limit: float) -> tuple[bytes, tuple[str, ...]]:
    """What each molecule with this substructure has: bits of RDKit's pattern fingerprint, and elements.

    Raises:
        ValueError, TimeoutError: as for [`first_matches`].

    >>> requirements("[Se]~[#6,#7]", time_limit=20)[1]
    ('Se',)
    """
    answer = _ask({"smarts": smarts}, "substructure", smarts, time_limit)
    return bytes.fromhex(answer["pattern"]), tuple(answer["elements"])


# A SMILES of so many characters is parsed in milliseconds, whatever it holds; the process costs a hundred of them.
_HARMLESS = 200


def check_smiles(smiles: Sequence[str], time_limit: float = 10.0) -> None:
    """Parses the SMILES of strangers, long ones out of harm's way.

    Raises:
        ValueError: if RDKit cannot parse one as a molecule.
        TimeoutError: if that takes longer.
    """
    answer = _answer({"check": [one for one in smiles if len(one) <= _HARMLESS]})
    if "error" in answer:
        raise ValueError(answer["error"])
    if long := [one for one in smiles if len(one) > _HARMLESS]:
        _ask({"check": long}, "smiles", long[0], time_limit)


def _ask(question: dict[str, Any], name: str, value: str, time_limit: float) -> Any:
    shown = value if len(value) <= 60 else value[:57] + "..."
    # The package must be found there as it was found here.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "class_hf.search.substructure"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=time_limit,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"{name} {shown!r} takes longer than the time limit allows. Make it simpler, narrow the search by other "
            "filters, or raise the limit."
        ) from None
    if done.returncode != 0:
        raise ValueError(f"{name} {shown!r} cannot be used: RDKit fails on it (status {done.returncode}).")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["answer"]


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    from rdkit import Chem, DataStructs, rdBase

    with rdBase.BlockLogs():
        if "check" in question:
            for smiles in question["check"]:
                molecule = Chem.MolFromSmiles(smiles)
                if molecule is None or molecule.GetNumAtoms() == 0:
                    return {"error": f"RDKit cannot parse the SMILES {smiles[:200]!r}."}
            return {"answer": None}
        pattern = Chem.MolFromSmarts(question["smarts"])
        if pattern is None or pattern.GetNumAtoms() == 0:
            return {"error": f"substructure {question['smarts'][:200]!r}: RDKit cannot parse it as SMARTS."}
        if "smiles" not in question:
            bits = DataStructs.BitVectToBinaryText(Chem.PatternFingerprint(pattern)).hex()
            return {"answer": {"pattern": bits, "elements": _certain_elements(pattern)}}
        places: list[int] = []
        for place, smiles in enumerate(question["smiles"]):
            molecule = Chem.MolFromSmiles(smiles)
            if molecule is not None and molecule.HasSubstructMatch(pattern):
                places.append(place)
                if len(places) == question["wanted"]:
                    break
        return {"answer": places}


def _certain_elements(pattern: Any) -> list[str]:
    """Elements of the atoms for which a pattern leaves no choice; the fingerprint knows nothing of single atoms."""
    choices = ("Or", "!=", "Recursive")
    certain = [atom for atom in pattern.GetAtoms() if not any(one in atom.DescribeQuery() for one in choices)]
    return sorted({atom.GetSymbol() for atom in certain if atom.GetAtomicNum()})


if __name__ == "__main__":
    json.dump(_answer(json.load(sys.stdin)), sys.stdout)
