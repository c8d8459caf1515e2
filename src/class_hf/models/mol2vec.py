"""Molecules as sums of mol2vec vectors, from a file that the user brings."""

import io
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rdkit.Chem import rdFingerprintGenerator

from .smiles import parse_smiles

UNKNOWN = "UNK"  # the token of substructures that training met rarely
_RADIUS = 1


class Mol2vecVectors:
    """Vectors of Morgan substructures of radius 0 and 1 (mol2vec, Jaeger et al., 2018).

    Args:
        tokens: T distinct tokens: substructure ids as decimal numbers. One may be `UNK`, whose vector stands for all
            other substructures.
        vectors: (T, D) float32.

    Raises:
        ValueError: if the shapes do not fit, a token occurs twice or is neither a number nor `UNK`, or a value is not
            finite.

    Example:

    >>> table = Mol2vecVectors(["UNK", "864666390"], np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> table.sum_of("O").tolist()  # water: its oxygen, of radius 0
    [1.0, 0.0]
    """

    def __init__(self, tokens: list[str], vectors: np.ndarray):
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or len(vectors) != len(tokens) or not len(tokens):
            raise ValueError(f"there are {len(tokens)} tokens and vectors of shape {vectors.shape}; expected (T, D).")
        if not np.isfinite(vectors).all():
            raise ValueError("a vector holds NaN or infinite numbers.")
        self.tokens, self.vectors = list(tokens), vectors
        self._rows: dict[int, int] = {}
        self._unknown: int | None = None
        for row, token in enumerate(tokens):
            if token == UNKNOWN:
                self._unknown = row
            elif not token.isdecimal() or int(token) in self._rows:
                raise ValueError(f"the token {token!r} is no substructure id, or occurs twice.")
            else:
                self._rows[int(token)] = row

    @classmethod
    def read(cls, path: str | Path) -> "Mol2vecVectors":
        """Reads the vectors of a file.

        Args:
            path: `token_embedding_dict.npy` of Text2Mol, a pickled dictionary from tokens to arrays, or an `.npz` file
                with the arrays `tokens` (T,) and `vectors` (T, D). A pickle may hold NumPy arrays only: it cannot run
                code.

        Raises:
            ValueError: if the file is neither.
            OSError: if it cannot be read.
        """
        path = Path(path)
        data = path.read_bytes()
        try:
            if data[:2] == b"PK":
                with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                    tokens, vectors = arrays["tokens"].tolist(), arrays["vectors"]
            else:
                named = _read_pickled(data)
                tokens, vectors = list(named), np.stack([np.asarray(vector, np.float32) for vector in named.values()])
            return cls([str(token) for token in tokens], vectors)
        except (ValueError, KeyError, TypeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} holds no mol2vec vectors: {error}. Expected token_embedding_dict.npy of Text2Mol, or an .npz "
                "file with the arrays tokens (T,) and vectors (T, D)."
            ) from error

    @property
    def dimension(self) -> int:
        """D, number of components of a vector."""
        return self.vectors.shape[1]

    def sum_of(self, smiles: str) -> np.ndarray:
        """The sum of the vectors of a molecule's substructures, (D,) float32.

        Raises:
            ValueError: if RDKit cannot parse the SMILES.
        """
        output = rdFingerprintGenerator.AdditionalOutput()
        output.AllocateAtomToBits()
        _generator().GetSparseCountFingerprint(parse_smiles(smiles), additionalOutput=output)
        total = np.zeros(self.dimension, np.float32)
        for ids in output.GetAtomToBits():
            for substructure in ids:
                row = self._rows.get(substructure, self._unknown)
                if row is not None:
                    total += self.vectors[row]
        return total


@lru_cache(maxsize=1)
def _generator() -> Any:
    # With redundant environments, as mol2vec has one token for each atom and radius.
    return rdFingerprintGenerator.GetMorganGenerator(radius=_RADIUS, includeRedundantEnvironments=True)


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of NumPy arrays, and refuses every other object, because a pickle can run code."""

    ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype")} | {
        (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no NumPy array")
        return super().find_class(module, name)


def _read_pickled(data: bytes) -> dict[Any, Any]:
    """The dictionary in a `.npy` file of one object."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read_header(stream)
    value = _ArraysOnly(stream).load()
    value = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, expected a dictionary")
    return value
