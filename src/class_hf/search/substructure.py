"""Substructure matching in a process that can be ended, because RDKit's matching cannot be interrupted."""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from class_hf.search import substructure_worker

# A SMILES of at most this many characters is parsed in milliseconds. Starting the process takes about 100 ms.
PARSED_HERE = 200


def first_matches(
    smarts: str, smiles: Sequence[str], wanted: int, time_limit: float, use_stereo: bool = True
) -> list[int]:
    """Finds the first molecules that match a pattern.

    Args:
        smarts (`str`): the pattern.
        smiles (list of `str`): molecules in the order in which they are tried. One that RDKit cannot parse does not
            match.
        wanted (`int`): number of matches after which to stop.
        time_limit (`float`): seconds, including the start of the process.
        use_stereo (`bool`, defaults to `True`): whether chirality and double-bond marks of the pattern must match.

    Returns:
        list of `int`: positions in `smiles`, in increasing order.

    Raises:
        ValueError: If RDKit cannot parse the pattern, or its process fails on it, or stereo marks are at a position
            where RDKit does not match them.
        TimeoutError: If matching takes longer than the limit.

    >>> first_matches("[OX2H]", ["CC", "CCO", "CO", "CCCO"], 2, time_limit=20)
    [1, 2]
    >>> first_matches("C/C=C/C", ["C/C=C\\\\C", "C/C=C/C"], 2, time_limit=20)
    [1]
    """
    if use_stereo and has_nested_stereo(smarts):
        raise ValueError(
            f"substructure {_shorten(smarts)} has stereo marks inside $(...), where RDKit does not match them. "
            "Write them outside of it, or ignore stereo (use_stereo=False, --ignore_stereo)."
        )
    question = {"smarts": smarts, "smiles": list(smiles), "wanted": wanted, "use_stereo": use_stereo}
    return _ask(question, "substructure", smarts, time_limit)


@lru_cache(maxsize=256)
def requirements(smarts: str, time_limit: float) -> tuple[bytes, tuple[str, ...]]:
    """What each molecule with this substructure has.

    Args:
        smarts (`str`): the pattern.
        time_limit (`float`): seconds.

    Returns:
        `tuple`: bytes of RDKit's pattern fingerprint, whose bits such a molecule has; and element symbols.

    Raises:
        ValueError: As for [`first_matches`].
        TimeoutError: As for [`first_matches`].

    >>> requirements("[Se]~[#6,#7]", time_limit=20)[1]
    ('Se',)
    """
    answer = _ask({"smarts": smarts}, "substructure", smarts, time_limit)
    return bytes.fromhex(answer["pattern"]), tuple(answer["elements"])


def check_smiles(smiles: Sequence[str], time_limit: float = 10.0) -> None:
    """Checks that RDKit can parse SMILES from users. Long ones are parsed in a process that can be ended.

    Args:
        smiles (list of `str`): the SMILES.
        time_limit (`float`, defaults to 10.0): seconds for the long ones.

    Raises:
        ValueError: If RDKit cannot parse one.
        TimeoutError: If parsing takes longer than the limit.
    """
    answer = substructure_worker.answer({"check": [text for text in smiles if len(text) <= PARSED_HERE]})
    if "error" in answer:
        raise ValueError(answer["error"])
    if long := [text for text in smiles if len(text) > PARSED_HERE]:
        _ask({"check": long}, "smiles", long[0], time_limit)


def has_stereo(smarts: str) -> bool:
    """Whether a pattern may have stereo marks. `@` is a ring bond too.

    >>> has_stereo("C/C=C/C"), has_stereo("c1ccccc1")
    (True, False)
    """
    return any(mark in smarts for mark in "@/\\")


def has_nested_stereo(smarts: str) -> bool:
    """Whether a pattern has stereo marks inside a recursive expression `$(...)`.

    >>> has_nested_stereo("[$(C/C=C/C)]"), has_nested_stereo("[$(C@C)]"), has_nested_stereo("C[C@H](O)[$(CO)]")
    (True, False, False)
    """
    opened: list[str] = []
    for position, character in enumerate(smarts):
        if character == "(" and smarts[position - 1 : position] == "$":
            opened.append("$(")
        elif character in "([":
            opened.append(character)
        elif character in ")]" and opened:
            opened.pop()
        elif "$(" in opened and (character in "/\\" or (character == "@" and opened[-1] == "[")):
            return True  # outside of brackets, @ is a ring bond
    return False


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    """The folders from which this process imports RDKit and NumPy."""
    origins = [spec.origin for spec in map(find_spec, ("rdkit", "numpy")) if spec is not None and spec.origin]
    return tuple(dict.fromkeys(str(Path(origin).resolve().parents[1]) for origin in origins))


def _ask(question: dict[str, Any], name: str, value: str, time_limit: float) -> Any:
    """Asks the worker, and raises its errors. `name` and `value` describe the input in them."""
    try:
        # -I: the worker imports nothing from the current folder and nothing that environment variables name.
        process = subprocess.run(
            [sys.executable, "-I", substructure_worker.__file__, *_library_folders()],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise out_of_time(name, value, time_limit) from None
    if process.returncode != 0:
        raise ValueError(
            f"{name} {_shorten(value)} cannot be used: RDKit crashed on it (status {process.returncode}). Simplify it."
        )
    answer = json.loads(process.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["answer"]


def out_of_time(name: str, value: str, time_limit: float) -> TimeoutError:
    """The error of an input that takes too long. Its readers may be unable to raise the limit.

    Args:
        name: `substructure` or `smiles`.
        value: the input.
        time_limit: seconds.

    >>> str(out_of_time("smiles", "CCO", 10.0))
    "smiles 'CCO' takes longer than the time limit of 10 s. Simplify it."
    """
    advice = "Simplify it, or narrow the search by other filters." if name == "substructure" else "Simplify it."
    return TimeoutError(f"{name} {_shorten(value)} takes longer than the time limit of {time_limit:g} s. {advice}")


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
