"""ChEBI-20 and data sets like it, from a folder, the Hub or the authors' repository."""

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

from class_hf.data.formats import (
    PAIR_COLUMNS,
    POOL_COLUMNS,
    SourceFile,
    Table,
    check_mapping,
    find_files,
    read_files,
    split_of,
    table_from_dataset,
)
from class_hf.data.single_file import read_single_file
from class_hf.data.validation import Columns, LoadReport, OnError, check_tables

logger = logging.getLogger(__name__)

CHEBI20_URL = "https://raw.githubusercontent.com/blender-nlp/MolT5/{revision}/ChEBI-20_data/{split}.txt"

# Raise it when the same source would load differently, so that what was cached before is not taken for it.
_CACHE_VERSION = 1
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SPLITS = ("train", "validation", "test")


@overload
def load_chebi20(
    source: str | os.PathLike[str] | None = ...,
    *,
    on_error: OnError = ...,
    column_mapping: Mapping[str, str] | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
    revision: str | None = ...,
    return_report: Literal[False] = ...,
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
) -> tuple[DatasetDict, LoadReport]: ...


def load_chebi20(
    source: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    column_mapping: Mapping[str, str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    return_report: bool = False,
) -> DatasetDict | tuple[DatasetDict, LoadReport]:
    r"""Load ChEBI-20, or any pairs in one of its formats, checked and repaired.

    ChEBI-20 (Edwards et al., "Text2Mol", EMNLP 2021) pairs 33,010 molecules of PubChem with their ChEBI
    captions, split 80/10/10; MolT5 (Edwards et al., EMNLP 2022) reworded them to "The molecule is ...".

    Doubled backslashes in SMILES, an escaping fault of the published files, are made single. SMILES are never
    rewritten otherwise, so stereo marks stay. The first call parses every SMILES with RDKit (seconds); the
    result is kept in the cache under a key of the source's content, and further calls map it into memory.

    Args:
        source: where the pairs are.

            - ``None``: MolT5's files, downloaded from the authors' repository.
            - a folder with ``train``, ``validation`` and ``test`` (those that exist; also ``training``,
              ``val``, ``valid``, ``dev``) ending in ``.tsv``, ``.txt`` or ``.csv``: tab separated without
              quoting and with a header (MolT5), comma separated with quoting (ORMA), or Text2Mol's own files
              with its ``*.sdf`` files beside them. ``molecules.tsv`` (CID, SMILES, split), if there, is the
              pool.
            - a file with all pairs, comma or tab separated: a column ``split`` deals them to the splits, or else the
              molecules do (:func:`~class_hf.data.single_file.split_of_molecule`: 80/10/10, no molecule in two
              splits); without a column ``id``, rows are numbered from 1.
            - ``"org/name"``: a data set of the Hub. A folder or file of that name goes first.
        on_error: ``"raise"`` at rows that are not usable (empty value, SMILES that RDKit cannot parse,
            repeated id or pair, not in the pool), or ``"drop"`` them; the report lists what was dropped.
        column_mapping: their column name to ``"id"``, ``"smiles"``, ``"description"`` or ``"split"``, for
            columns whose names are not recognised (CID, SMILES, isosmiles, caption, text and the like are,
            in upper and lower case).
        cache_dir: where downloads and the checked data go; defaults to the cache of ``datasets``.
        revision: branch, tag or commit of the Hub data set, or of the authors' repository.
        return_report: also return a :class:`~class_hf.data.validation.LoadReport`.

    Returns:
        A ``DatasetDict`` with ``train``, ``validation`` and ``test``, those that the source has, with the
        string columns ``id``, ``smiles`` and ``description``; and ``pool``, every candidate molecule, with
        the string columns ``id``, ``smiles`` and ``split``. Without a file for it, the pool is the union of
        the splits' molecules. With ``return_report``, a tuple of this and the report.

    Raises:
        FileNotFoundError: if the folder is missing or has no file of pairs.
        ConnectionError: if a download fails.
        ValueError: if an argument is wrong, a file malformed, a column missing, an id in two splits, or,
            under ``on_error="raise"``, a row not usable.

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
    if source is not None and Path(source).expanduser().is_dir():
        if revision is not None:
            raise ValueError(f"revision {revision!r} needs a data set of the Hub, but {source} is a folder.")
        files = find_files(Path(source).expanduser())
        data, report = _load_files(files, mapping, on_error, cache_dir)
    elif source is not None and Path(source).expanduser().is_file():
        if revision is not None:
            raise ValueError(f"revision {revision!r} needs a data set of the Hub, but {source} is a file.")
        path = Path(source).expanduser()
        data, report = _load_files({"all": SourceFile(path.name, path)}, mapping, on_error, cache_dir)
    elif source is None:
        data, report = _load_files(_download(revision or "main", cache_dir), mapping, on_error, cache_dir)
    elif isinstance(source, str) and _HUB_ID.fullmatch(source):
        data, report = _load_hub(source, revision, mapping, on_error, cache_dir)
    else:
        raise FileNotFoundError(
            f"{source} is neither a folder nor a file. Pass a folder with train, validation or test files, one file "
            'with all pairs, the name of a data set of the Hub ("org/name"), or nothing to download ChEBI-20.'
        )
    return (data, report) if return_report else data


def load_pairs(
    path: str | os.PathLike[str],
    *,
    on_error: OnError = "raise",
    column_mapping: Mapping[str, str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Load one file of pairs of any name, with the formats, checks and cache of :func:`load_chebi20`.

    Args:
        path: the file.
        on_error: as in :func:`load_chebi20`; dropped rows are counted, and the first listed, in the log.
        column_mapping: as in :func:`load_chebi20`.
        cache_dir: as in :func:`load_chebi20`.

    Returns:
        A ``Dataset`` with the string columns ``id``, ``smiles`` and ``description``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as :func:`load_chebi20`.

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
    data, _ = _load_files({"pairs": SourceFile(file.name, file)}, mapping, on_error, cache_dir)
    return data["pairs"]


def _checked_arguments(on_error: str, column_mapping: Mapping[str, str] | None) -> dict[str, str]:
    if on_error not in get_args(OnError):
        raise ValueError(f'on_error is {on_error!r}; expected "raise" or "drop".')
    mapping = dict(column_mapping or {})
    known = sorted({*PAIR_COLUMNS, *POOL_COLUMNS})
    wrong = {theirs: ours for theirs, ours in mapping.items() if ours not in known}
    if wrong:
        raise ValueError(f"column_mapping maps to unknown columns: {wrong}; expected values are {known}.")
    return mapping


def _load_files(
    files: Mapping[str, SourceFile],
    mapping: dict[str, str],
    on_error: OnError,
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[DatasetDict, LoadReport]:
    # With the names, because the report quotes them.
    contents = [
        (split, file.name, hashlib.sha256(file.path.read_bytes()).hexdigest()) for split, file in files.items()
    ]
    # SDF files beside the pairs may be where Text2Mol's SMILES come from; too large to read on every call.
    beside = {path for file in files.values() for path in file.path.parent.glob("*.[sS][dD][fF]")}
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(beside)]

    def read() -> dict[str, Table]:
        return read_single_file(files["all"], mapping) if "all" in files else read_files(files, mapping)

    return _cached(repr((contents, stats)), read, mapping, on_error, cache_dir)


def _load_hub(
    name: str,
    revision: str | None,
    mapping: dict[str, str],
    on_error: OnError,
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[DatasetDict, LoadReport]:
    try:
        found = load_dataset(name, revision=revision, cache_dir=cache_dir and os.fspath(cache_dir))
    except OSError as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ConnectionError
        raise kind(
            f"{name!r} is no folder here, and loading it from the Hub failed: {error}. Pass an existing "
            "folder, or check the name, the revision and the network."
        ) from error
    splits: dict[str, str] = {}
    for theirs in found:
        ours = split_of(theirs)
        if ours is None:
            logger.warning("%s: split %r is none of train, validation, test and pool; left out.", name, theirs)
        elif ours in splits:
            raise ValueError(f"{name}: the splits {splits[ours]!r} and {theirs!r} both stand for {ours}.")
        else:
            splits[ours] = theirs
    if not splits.keys() - {"pool"}:
        raise ValueError(f"{name} has the splits {list(found)}; expected train, validation or test.")

    def read() -> dict[str, Table]:
        return {
            ours: table_from_dataset(found[theirs], name, POOL_COLUMNS if ours == "pool" else PAIR_COLUMNS, mapping)
            for ours, theirs in splits.items()
        }

    content = repr(sorted((ours, found[theirs]._fingerprint) for ours, theirs in splits.items()))
    return _cached(content, read, mapping, on_error, cache_dir)


def _download(revision: str, cache_dir: str | os.PathLike[str] | None) -> dict[str, SourceFile]:
    """The authors' files, through the download cache of ``datasets``."""
    urls = {split: CHEBI20_URL.format(revision=revision, split=split) for split in _SPLITS}
    # Without ETags a file in the cache needs no network; the files have not changed since publication.
    config = DownloadConfig(cache_dir=cache_dir and Path(cache_dir) / "downloads", use_etag=False)
    files: dict[str, SourceFile] = {}
    for split, url in urls.items():
        try:
            files[split] = SourceFile(url, Path(DownloadManager(download_config=config).download(url)))
        except Exception as error:  # whatever the HTTP stack raises, the way out is the same
            raise ConnectionError(
                f"could not download {url} ({type(error).__name__}: {error}). Check the network, or get the "
                "files another way and pass their folder: load_chebi20(folder)."
            ) from error
    return files


def _cached(
    content: str,
    read: Callable[[], dict[str, Table]],
    mapping: dict[str, str],
    on_error: OnError,
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[DatasetDict, LoadReport]:
    """Check and convert what ``read`` returns, or take it from disk if that was done before.

    Data on disk is worth having beyond speed: ``Dataset.map`` caches its results only for data sets that have
    files, so scoring and preparing the pairs is done once too.
    """
    if not datasets.is_caching_enabled():
        data, report = _build(read(), mapping, on_error)
    else:
        # RDKit's version, because it decides which SMILES parse.
        key = repr((_CACHE_VERSION, rdBase.rdkitVersion, content, sorted(mapping.items()), on_error))
        root = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "class_hf_pairs"
        home = root / hashlib.sha256(key.encode()).hexdigest()[:32]
        if not home.is_dir():
            data, report = _build(read(), mapping, on_error)
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
    check_mapping(mapping, tables.values())
    columns, report = check_tables(tables, on_error)
    # In this order, whatever the order of the source.
    pairs = {split: columns[split] for split in ("pairs", *_SPLITS) if split in columns}
    if "pairs" not in pairs:
        pairs["pool"] = columns.get("pool") or _union(pairs)
    data = DatasetDict({split: _dataset(values) for split, values in pairs.items()})
    return data, replace(report, rows=dict(data.num_rows))


def _union(pairs: Mapping[str, Columns]) -> Columns:
    """Every molecule of the splits; ids are unique by now, within and across splits."""
    return {
        "id": [key for columns in pairs.values() for key in columns["id"]],
        "smiles": [smiles for columns in pairs.values() for smiles in columns["smiles"]],
        "split": [split for split, columns in pairs.items() for _ in columns["id"]],
    }


def _dataset(columns: Columns) -> Dataset:
    return Dataset.from_dict(columns, features=Features({name: Value("string") for name in columns}))
