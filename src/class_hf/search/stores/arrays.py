"""Arrays in `.npy` files: allocated before they are mapped, and checked when they are opened."""

import os
from pathlib import Path

import numpy as np

from class_hf.utils.messages import one_line

_BLOCK = 1 << 22


def allocate_array(path: str | Path, dtype: "np.typing.DTypeLike", shape: tuple[int, ...]) -> np.memmap:
    """Creates an array in a file and reserves its space on the disk.

    Without reserved space, writing to a mapped file on a full disk ends the process with SIGBUS.

    Args:
        path: the file, a `.npy`.
        dtype: type of its values.
        shape (`tuple`): its shape.

    Returns:
        `np.memmap`: the array, zero everywhere, to be filled.

    Raises:
        OSError: If the disk is full.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     allocate_array(f"{folder}/a.npy", np.float32, (2, 3)).shape
    (2, 3)
    """
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, description)
        file.flush()
        remaining = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if hasattr(os, "posix_fallocate") and remaining:
            os.posix_fallocate(file.fileno(), file.tell(), remaining)
        else:  # macOS, Windows
            while remaining:
                remaining -= file.write(bytes(min(remaining, _BLOCK)))
    return np.lib.format.open_memmap(path, mode="r+")


def save_array(path: str | Path, values: np.ndarray) -> None:
    """Writes an array to a `.npy` file. Raises `OSError` if the disk is full."""
    array = allocate_array(path, values.dtype, values.shape)
    array[...] = values
    array.flush()


def open_array(path: str | Path, dtype: "np.typing.DTypeLike", shape: tuple[int, ...]) -> np.memmap:
    """Maps an array from a file after checking its type, its shape, its order and the size of the file.

    Args:
        path: the file.
        dtype: the expected type.
        shape (`tuple`): the expected shape.

    Raises:
        ValueError: If the file is missing or differs.

    >>> open_array("nowhere.npy", np.float32, (2, 3))
    Traceback (most recent call last):
    ValueError: the file 'nowhere.npy' is missing. Build the index again.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"the file {str(path)!r} is missing. Build the index again.")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the header is parsed as Python, and fails in many ways
        reason = one_line(error, limit=120)
        raise ValueError(f"the file {str(path)!r} is damaged: {reason}. Build the index again.") from error
    if array.dtype != np.dtype(dtype) or array.shape != shape or not array.flags.c_contiguous:
        order = "" if array.flags.c_contiguous else " in Fortran order"
        raise ValueError(
            f"the file {str(path)!r} is damaged: it has the type {array.dtype} and the shape {array.shape}{order}; "
            f"expected {np.dtype(dtype)} and {shape}. Build the index again."
        )
    expected_size = array.offset + array.nbytes
    if path.stat().st_size != expected_size:
        raise ValueError(
            f"the file {str(path)!r} is damaged: it has {path.stat().st_size:,} bytes; expected {expected_size:,}. "
            "Build the index again."
        )
    return array
