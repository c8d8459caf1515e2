"""Loads ChEBI-20 and other pairs from a folder, a file, the Hub or the repository of ChEBI-20's authors."""

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args, overload

import datasets
from datasets import Dataset, DatasetDict, DownloadConfig, DownloadManager, Features, Value, load_dataset
from rdkit import rdBase

from class_hf.data.columns import PAIR_COLUMNS, POOL_COLUMNS, check_mapping, checked_mapping
from class_hf.data.formats import Table, find_files, read_files, split_of, table_from_dataset
from class_hf.data.single_file import read_single_file
from class_hf.data.tables import find_format, first_line, source_file
from class_hf.data.text_files import OnError, SourceFile
from class_hf.data.training_files import FileNames, TrainingFiles, find_training_files
from class_hf.data.validation import Columns, LoadReport, check_tables

logger = logging.getLogger(__name__)

CHEBI20_URL = "https://raw.githubusercontent.com/blender-nlp/MolT5/{revision}/ChEBI-20_data/{split}.txt"

# Increase it when the same source loads differently, so that older cached data are not used.
_CACHE_VERSION = 3
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SPLITS = ("train", "validation", "test")
_NO_FILES = TrainingFiles()


@overload
def load_chebi20(
    source: str | os.PathLike[str] | None = ...,
    *,
    on_error: OnError = ...,
    column_mapping: Mapping[str, str] | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
    revision: str | None = ...,
    return_report: Literal[False] = ...,
    encoding: str | None = ...,
    extra_train: FileNames = ...,
    replace_captions: FileNames = ...,
) -> DatasetDict: ...


@overload
def load_chebi20(
    source: str | os.PathLike[str] | None = ...,
    *,
    on_error: OnError = ...,
    column_mapping: Mapping[str, str] | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
    revision: str | None = ...,
    return_report: Literal[True],
    encoding: str | None = ...,
    extra_train: FileNames = ...,
    replace_captions: FileNames = ...,
) -> tuple[DatasetDict, LoadReport]: ...


def load_chebi20(
    source: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    column_mapping: Mapping[str, str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    return_report: bool = False,
    encoding: str | None = None,
    extra_train: FileNames = None,
    replace_captions: FileNames = None,
) -> DatasetDict | tuple[DatasetDict, LoadReport]:
    r"""Loads ChEBI-20 or other pairs of captions and molecules. The rows are checked and repaired.

    ChEBI-20 (Edwards et al., "Text2Mol", EMNLP 2021) pairs 33,010 molecules of PubChem with their ChEBI captions,
    split 80/10/10. MolT5 (Edwards et al., EMNLP 2022) reworded the captions to "The molecule is ...".

    Repeated backslashes in SMILES, an escaping error of the published files, are made single. SMILES do not change
    otherwise, so their stereochemistry stays. Pairs whose column `keep` is `no`, `false` or `0` are left out, and the
    report counts them. The first call parses each SMILES with RDKit, which takes seconds. The result is cached under
    a key of the source's content, and further calls map it into memory.

    Args:
        source (`str` or `Path`, *optional*): where the pairs are.

            - None: MolT5's files, downloaded from the authors' repository.
            - A folder with `train`, `validation` and `test` (those that exist; also `training`, `val`, `valid`, `dev`)
              ending in `.tsv`, `.txt`, `.csv`, `.parquet` or `.jsonl`, or one of these and `.gz`: for instance MolT5's
              files (tab-separated without quotes), ORMA's (comma-separated), or Text2Mol's files with its `*.sdf`
              files in the same folder. `molecules.tsv` (CID, SMILES, split), if it exists, is the pool.
            - One file with all pairs. A column `split` decides their splits. Without it the molecules decide
              ([`~class_hf.data.single_file.split_of_molecule`]: 80/10/10, no molecule in two splits). Without a column
              `id`, rows are numbered from 1.
            - `"org/name"`: a data set of the Hub. A folder or file of that name has priority.
        on_error (`str`, *optional*, defaults to `"raise"`): `"raise"` at rows that are not usable (malformed line,
            empty value, SMILES that RDKit cannot parse, id of another molecule, repeated pair, not in the pool), or
            `"drop"` them. The report lists the dropped rows. Under `"drop"`, lines that are not UTF-8 are read as
            Windows-1252.
        column_mapping (`dict`, *optional*): column of the source to `"id"`, `"smiles"`, `"description"`, `"split"` or
            `"keep"`, for columns whose names are not recognised. Usual names are recognised in upper and lower case
            (CID, SMILES, isosmiles, caption, text, ...).
        cache_dir (`str` or `Path`, *optional*): folder of downloads and checked data. Default: the cache of
            `datasets`.
        revision (`str`, *optional*): branch, tag or commit of the Hub data set, or of the authors' repository.
        return_report (`bool`, *optional*, defaults to `False`): also return a
            [`~class_hf.data.validation.LoadReport`].
        encoding (`str`, *optional*): encoding of text files. Default: UTF-8, or what a byte order mark says.
        extra_train (`str`, `Path` or a list, *optional*): files of further training pairs. Names are relative to the
            folder of the data or to the current folder; one that both folders have is refused. A row whose id or
            molecule is already in a split is not usable.
        replace_captions (`str`, `Path` or a list, *optional*): files with the columns id and description. They
            replace captions of training pairs. An id that not exactly one training pair has is not usable.

    Returns:
        A `DatasetDict` with those of `train`, `validation` and `test` that the source has, with the string columns
        `id`, `smiles` and `description`; and `pool`, all candidate molecules, with the string columns `id`, `smiles`
        and `split`. Without a file of the pool, the pool is the union of the splits' molecules. Several captions of a
        molecule can share its id; the pool has it once. With `return_report`, a tuple of this and the report.

    Raises:
        FileNotFoundError: if the source does not exist, or a folder has no file of pairs.
        ConnectionError: if a download fails.
        ValueError: if an argument is wrong, a file is malformed, a column is missing, an id is in two splits, or under
            `on_error="raise"` a row is not usable.

    Example:

    ```python
    from class_hf import load_chebi20

    data = load_chebi20()
    data["train"].column_names  # ['id', 'smiles', 'description']
    data["pool"].column_names  # ['id', 'smiles', 'split']

    data, report = load_chebi20("my_folder", on_error="drop", return_report=True)
    for row in report.dropped:
        print(row)  # train row 17 (id 999999, train.tsv line 19): RDKit cannot parse the SMILES 'C1CC('.
    ```
    """
    mapping = _checked_arguments(on_error, column_mapping)
    path = None if source is None else Path(source).expanduser()
    local = path if path is not None and path.exists() else None
    is_hub = local is None and isinstance(source, str) and _HUB_ID.fullmatch(source) is not None
    if local is None and source is not None and not is_hub:
        raise FileNotFoundError(
            f"{source} is neither a folder nor a file. Pass a folder with train, validation or test files, one file "
            'with all pairs, the name of a data set of the Hub ("org/name"), or nothing to download ChEBI-20.'
        )
    further = find_training_files(local, extra_train, replace_captions, encoding, on_error)
    if local is not None:
        if revision is not None:
            kind = "folder" if local.is_dir() else "file"
            raise ValueError(f"revision {revision!r} needs a data set of the Hub, but {source} is a {kind}.")
        if local.is_dir():
            files = find_files(local, encoding, on_error)
        else:
            files = {"all": source_file(local, encoding, on_error)}
        data, report = _load_files(files, mapping, on_error, cache_dir, further)
    elif source is None:
        files = _download(revision or "main", cache_dir, on_error)
        data, report = _load_files(files, mapping, on_error, cache_dir, further)
    else:
        data, report = _load_hub(str(source), revision, mapping, on_error, cache_dir, further)
    return (data, report) if return_report else data


def load_pairs(
    path: str | os.PathLike[str],
    *,
    on_error: OnError = "raise",
    column_mapping: Mapping[str, str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    encoding: str | None = None,
) -> Dataset:
    """Loads one file of pairs as one data set, with the formats, checks and cache of [`load_chebi20`].

    Args:
        path (`str` or `Path`): the file, of any name.
        on_error (`str`, *optional*, defaults to `"raise"`): as in [`load_chebi20`]. The log counts the dropped rows
            and lists the first.
        column_mapping, cache_dir, encoding (*optional*): as in [`load_chebi20`].

    Returns:
        A `Dataset` with the string columns `id`, `smiles` and `description`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: as [`load_chebi20`].

    Example:

    ```python
    from class_hf.data.loading import load_pairs

    pairs = load_pairs("more_pairs.csv", column_mapping={"blurb": "description"})
    ```
    """
    mapping = _checked_arguments(on_error, column_mapping)
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{path} is not a file of pairs; for a folder or the Hub use load_chebi20.")
    data, _ = _load_files({"pairs": source_file(file, encoding, on_error)}, mapping, on_error, cache_dir)
    return data["pairs"]


def _checked_arguments(on_error: str, column_mapping: Mapping[str, str] | None) -> dict[str, str]:
    """The column mapping, after a check of both arguments."""
    if on_error not in get_args(OnError):
        raise ValueError(f'on_error is {on_error!r}; expected "raise" or "drop".')
    return checked_mapping(column_mapping)


def _load_files(
    files: Mapping[str, SourceFile],
    mapping: dict[str, str],
    on_error: OnError,
    cache_dir: str | os.PathLike[str] | None,
    further: TrainingFiles = _NO_FILES,
) -> tuple[DatasetDict, LoadReport]:
    """The pairs of files, read and checked, or from the cache."""
    for file in files.values():
        find_format(file)  # a device or a damaged file is refused before it is hashed
    # The key holds the names, because the report quotes them.
    contents = [(split, *_key(file)) for split, file in files.items()]
    # Text2Mol's SMILES may come from SDF files in the same folder, which are too large to hash in each call.
    structures = {
        path for file in (*files.values(), *further.files) for path in file.path.parent.glob("*.[sS][dD][fF]*")
    }
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(structures)]

    def read() -> dict[str, Table]:
        return read_single_file(files["all"], mapping) if "all" in files else read_files(files, mapping)

    return _cached(repr((contents, stats)), read, mapping, on_error, cache_dir, further)


def _key(file: SourceFile) -> tuple[str, str | None, str]:
    """The name, the encoding and the SHA-256 of the content of a file."""
    digest = hashlib.sha256()
    with file.path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return file.name, file.encoding, digest.hexdigest()


def _load_hub(
    name: str,
    revision: str | None,
    mapping: dict[str, str],
    on_error: OnError,
    cache_dir: str | os.PathLike[str] | None,
    further: TrainingFiles,
) -> tuple[DatasetDict, LoadReport]:
    """The pairs of a data set of the Hub, checked, or from the cache."""
    try:
        remote = load_dataset(name, revision=revision, cache_dir=cache_dir and os.fspath(cache_dir))
    except OSError as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ConnectionError
        raise kind(
            f"{name!r} is no folder here, and loading it from the Hub failed: {first_line(error)}. Pass an existing "
            "folder, or check the name, the revision and the network."
        ) from error
    splits: dict[str, str] = {}
    for remote_split in remote:
        split = split_of(remote_split)
        if split is None:
            logger.warning("%s: split %r is none of train, validation, test and pool; left out.", name, remote_split)
        elif split in splits:
            raise ValueError(f"{name}: the splits {splits[split]!r} and {remote_split!r} both mean {split}.")
        else:
            splits[split] = remote_split
    if not splits.keys() - {"pool"}:
        raise ValueError(f"{name} has the splits {list(remote)}; expected train, validation or test.")

    def read() -> dict[str, Table]:
        return {
            split: table_from_dataset(
                remote[remote_split], name, POOL_COLUMNS if split == "pool" else PAIR_COLUMNS, mapping, on_error
            )
            for split, remote_split in splits.items()
        }

    content = repr(sorted((split, remote[remote_split]._fingerprint) for split, remote_split in splits.items()))
    return _cached(content, read, mapping, on_error, cache_dir, further)


def _download(revision: str, cache_dir: str | os.PathLike[str] | None, on_error: OnError) -> dict[str, SourceFile]:
    """The authors' files, through the download cache of `datasets`."""
    urls = {split: CHEBI20_URL.format(revision=revision, split=split) for split in _SPLITS}
    # Without ETags, cached files need no network. The files have not changed since publication.
    config = DownloadConfig(cache_dir=cache_dir and Path(cache_dir) / "downloads", use_etag=False)
    files: dict[str, SourceFile] = {}
    for split, url in urls.items():
        try:
            path = Path(DownloadManager(download_config=config).download(url))
            files[split] = SourceFile(url, path, on_error=on_error)
        except Exception as error:  # the HTTP libraries raise many kinds of errors with the same remedy
            raise ConnectionError(
                f"could not download {url} ({type(error).__name__}: {first_line(error)}). Check the network, or get "
                "the files another way and pass their folder: load_chebi20(folder)."
            ) from error
    return files


def _cached(
    content: str,
    read: Callable[[], dict[str, Table]],
    mapping: dict[str, str],
    on_error: OnError,
    cache_dir: str | os.PathLike[str] | None,
    further: TrainingFiles,
) -> tuple[DatasetDict, LoadReport]:
    """The checked result of `read`, from the cache if it is there.

    `Dataset.map` caches its results only for data sets with files, so the cache also makes scoring and preparing
    the pairs run once.
    """
    for file in further.files:
        find_format(file)

    def build() -> tuple[DatasetDict, LoadReport]:
        tables = read()
        return _build(further.change(tables, mapping, on_error) if further.files else tables, mapping, on_error)

    if further.files:
        content = repr((content, [[_key(file) for file in part] for part in (further.extra, further.captions)]))
    if not datasets.is_caching_enabled():
        data, report = build()
    else:
        # RDKit's version decides which SMILES parse.
        key = repr((_CACHE_VERSION, rdBase.rdkitVersion, content, sorted(mapping.items()), on_error))
        root = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "class_hf_pairs"
        home = root / hashlib.sha256(key.encode()).hexdigest()[:32]
        if not home.is_dir():
            data, report = build()
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root) as scratch:
                new = Path(scratch) / "data"
                data.save_to_disk(new)
                (new / "report.json").write_text(report.to_json(), encoding="utf-8")
                try:
                    new.rename(home)  # whole or not at all
                except OSError:
                    if not home.is_dir():  # else another process was first, with the same content
                        raise
        data = DatasetDict.load_from_disk(home)
        report = LoadReport.from_json((home / "report.json").read_text(encoding="utf-8"))
    logger.log(logging.WARNING if report.dropped else logging.INFO, "%s", report)
    return data, report


def _build(tables: dict[str, Table], mapping: dict[str, str], on_error: OnError) -> tuple[DatasetDict, LoadReport]:
    """Checks the tables and converts them to data sets."""
    headers: dict[str, list[str]] = {}
    for table in tables.values():
        headers.setdefault(table.where, []).extend(table.header)
    check_mapping(mapping, headers)
    columns, report = check_tables(tables, on_error)
    # A fixed order, independent of the source.
    pairs = {split: columns[split] for split in ("pairs", *_SPLITS) if split in columns}
    if "pairs" not in pairs:
        pairs["pool"] = columns.get("pool") or _union(pairs)
    data = DatasetDict({split: _dataset(values) for split, values in pairs.items()})
    return data, replace(report, rows=dict(data.num_rows))


def _union(pairs: Mapping[str, Columns]) -> Columns:
    """Each molecule of the splits once. An id belongs to one molecule and one split, which was checked."""
    rows: dict[str, tuple[str, str]] = {}
    for split, columns in pairs.items():
        for key, smiles in zip(columns["id"], columns["smiles"], strict=True):
            rows.setdefault(key, (smiles, split))
    return {
        "id": list(rows),
        "smiles": [smiles for smiles, _ in rows.values()],
        "split": [split for _, split in rows.values()],
    }


def _dataset(columns: Columns) -> Dataset:
    """A data set of string columns."""
    return Dataset.from_dict(columns, features=Features({name: Value("string") for name in columns}))
