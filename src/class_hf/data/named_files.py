"""Finds files that a user names next to a data set."""

import os
from pathlib import Path


def find_named_file(name: str | os.PathLike[str], data: str | os.PathLike[str] | None, argument: str) -> Path:
    """Finds a file by a name that is relative to the folder of the data or to the current folder.

    Args:
        name (`str` or `Path`): name of the file, or its absolute path.
        data (`str` or `Path`, *optional*): folder or file of the data set. If it does not exist, for instance because
            it is an id of the Hub, the name is relative to the current folder.
        argument (`str`): name of the argument, for the error.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the two folders have different files of this name.

    >>> find_named_file("no_such_file.tsv", None, "extra_train")
    Traceback (most recent call last):
    FileNotFoundError: extra_train: there is no file 'no_such_file.tsv' in the current folder. Correct the name.
    """
    path = Path(name).expanduser()
    source = None if data is None else Path(data).expanduser()
    folders = [Path()]
    if source is not None and source.exists() and not path.is_absolute():
        folders.insert(0, source if source.is_dir() else source.parent)
    paths = [folder / path for folder in folders if (folder / path).is_file()]
    of_data = f"the folder of the data ({folders[0]})"
    if not paths:
        where = "" if path.is_absolute() else " in the current folder"
        where = f" in {of_data} or in the current folder" if len(folders) > 1 else where
        raise FileNotFoundError(f"{argument}: there is no file {str(path)!r}{where}. Correct the name.")
    if len(paths) > 1 and not paths[0].samefile(paths[1]):
        raise ValueError(
            f"{argument}: {of_data} and the current folder both have a file {str(path)!r}. Pass an absolute path."
        )
    return paths[0]
