"""Reads captions that have no molecule."""

import os
from collections.abc import Iterable
from itertools import chain

from class_hf.data.columns import SYNONYMS, normalise
from class_hf.data.named_files import find_named_file
from class_hf.data.tables import find_format, source_file
from class_hf.data.text_files import read_lines
from class_hf.models.tokenization_lexical import check_caption


def read_captions(
    paths: Iterable[str | os.PathLike[str]],
    *,
    leave_out: Iterable[str] = (),
    encoding: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Reads files with one caption in each line. Empty lines are skipped.

    Args:
        paths: the files. Names are relative to the current folder, or to the folder of `data_dir`.
        leave_out (*optional*): captions that are not returned, such as those of training pairs.
        encoding (`str`, *optional*): encoding of the files. Default: UTF-8, or what a byte order mark says.
        data_dir (`str` or `Path`, *optional*): folder or file of a data set. A name can then also be relative to its
            folder.

    Returns:
        The captions in their order, each once.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a name is that of two files, a file is a table, a line is no caption, or no caption remains.

    Example:

    ```python
    from class_hf.data.caption_files import read_captions

    captions = read_captions(["unpaired_captions.txt"], leave_out=data["train"]["description"][:])
    ```
    """
    names: list[str] = []
    captions: dict[str, None] = {}
    for name in paths:
        file = source_file(find_named_file(name, data_dir, "bank_captions"), encoding, "raise")
        if file.suffix in (".csv", ".tsv", ".tab") or find_format(file) != "delimited":
            raise ValueError(f"{file.name} is a table; expected a text file with one caption in each line.")
        names.append(file.name)
        for line in read_lines(file):
            caption = line.text.strip()
            if caption:
                place = f"{file.name} line {line.number}"
                if "\t" in caption:
                    raise ValueError(f"{place} holds a tab; expected one caption in each line, and no table.")
                if normalise(caption) in chain(*SYNONYMS["description"]):
                    raise ValueError(f"{place} is {caption!r}, the name of a column; remove it.")
                check_caption(caption, f"{place}: the caption")
                captions[caption] = None
    if not captions:
        raise ValueError(f"{', '.join(names)}: there is no caption; expected one in each line.")
    known = set(leave_out)
    remaining = [caption for caption in captions if caption not in known]
    if not remaining:
        raise ValueError(
            f"{', '.join(names)}: none of the {len(captions)} captions is new; expected captions that no pair has."
        )
    return remaining
