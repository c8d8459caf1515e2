"""The fitted scorer of a job: a pickle, and its arrays in a file that all workers of a host share in memory."""

import hashlib
import mmap
import pickle
from functools import lru_cache
from typing import Any

from class_hf.difficulty.scorer import DifficultyScorer
from class_hf.shards.folder import ShardFolder
from class_hf.utils.files import file_digest

SCORER = "scorer.pkl"
ARRAYS = "scorer.arrays"
_ALIGNMENT = 64  # bytes; arrays start at multiples of it, as NumPy allocates them


def write_scorer(folder: ShardFolder, scorer: DifficultyScorer) -> str:
    """Writes a fitted scorer into a folder. Its arrays are not copied in memory.

    Args:
        folder: of the job.
        scorer: the fitted scorer.

    Returns:
        The SHA-256 of the pickle, which holds that of the arrays.

    Raises:
        OSError: If the disk is full.
    """
    buffers: list[pickle.PickleBuffer] = []
    fitted = pickle.dumps(scorer, protocol=5, buffer_callback=buffers.append)
    places = []
    with folder.new_file(ARRAYS) as path:
        with path.open("wb") as file:
            for buffer in buffers:
                array = buffer.raw()
                file.write(bytes(-file.tell() % _ALIGNMENT))
                places.append((file.tell(), array.nbytes))
                file.write(array)
        digest = file_digest(path)
    content = pickle.dumps((fitted, digest, places), protocol=5)
    with folder.new_file(SCORER) as path:
        path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=1)
def read_scorer(location: str, digest: str) -> DifficultyScorer:
    """Reads the fitted scorer of a job. On a disk, its arrays are mapped from their file and take no private memory.

    Args:
        location: folder or URL of the job.
        digest: what [`write_scorer`] returned. A pickle runs code, so no other file is unpickled.

    Returns:
        The scorer.

    Raises:
        ValueError: If a file is not the one that was written.
    """
    folder = ShardFolder(location)
    content = folder.system.cat_file(f"{folder.root}/{SCORER}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise _changed(location, SCORER)
    fitted, digest_of_arrays, places = pickle.loads(content)
    path = f"{folder.root}/{ARRAYS}"
    arrays: Any
    if folder.is_local:
        is_same = file_digest(path) == digest_of_arrays
        with open(path, "rb") as file:
            # Writable, because torch warns of arrays that are not. Nothing writes to them.
            arrays = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    else:
        arrays = bytearray(folder.system.cat_file(path))
        is_same = hashlib.sha256(arrays).hexdigest() == digest_of_arrays
    if not is_same:
        raise _changed(location, ARRAYS)
    view = memoryview(arrays)
    return pickle.loads(fitted, buffers=[view[start : start + size] for start, size in places])


def _changed(location: str, name: str) -> ValueError:
    return ValueError(f"{location}/{name} was changed after it was fitted. Choose another --output_dir.")
