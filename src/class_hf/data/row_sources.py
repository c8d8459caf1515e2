"""Tables of any size that are read in blocks: a cached table, or Parquet files in folders and object storage."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from fsspec.implementations.local import LocalFileSystem

from class_hf.data.columns import check_mapping
from class_hf.data.molecule_tables import log_notes, merge_columns, new_names, read_molecules
from class_hf.data.tables import choose_columns, first_line
from class_hf.data.text_files import Notes, OnError
from class_hf.utils.files import file_digest

Side = Literal["molecule", "text"]
# The column that a side needs.
SIDE_COLUMN = {"molecule": "smiles", "text": "description"}
_PARQUET = (".parquet", ".pq")
_GLOB = "*?["
_BUFFER = 2**20  # bytes of a column that are in memory at a time


class RowSource(Protocol):
    """Rows that any process can read by their numbers. A source is pickled without the rows.

    Attributes:
        identity (`str`): a hash that changes with the content of the table.
        schema (`pa.Schema`): names and types of the columns.
    """

    identity: str
    schema: pa.Schema

    def __len__(self) -> int:
        """Number of rows."""

    def blocks(self, start: int, stop: int, size: int) -> Iterator[pa.Table]:
        """Yields the rows from `start` to before `stop` in tables of at most `size` rows."""


def open_rows(
    path: str | Path,
    side: Side = "molecule",
    split: str | None = None,
    *,
    column_mapping: Mapping[str, str] | None = None,
    encoding: str | None = None,
    on_error: OnError = "drop",
) -> RowSource:
    """Opens a table without reading it into memory.

    Args:
        path (`str`): what [`read_molecules`] reads; a pattern such as `parts/*.parquet`, or a folder with Parquet
            files, in the order of their names; or a URL of either that fsspec opens, such as `s3://BUCKET/parts/*.parquet`.
            Parquet files are not converted. Other files are converted once to a table in the cache of `datasets`, and
            files at a URL are copied there first.
        side (`str`, defaults to `"molecule"`): the table needs the column `smiles`, or `description` for `"text"`.
        split, column_mapping, encoding, on_error: As for [`read_molecules`].

    Returns:
        The rows. They have the columns of [`read_molecules`].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the table is malformed or has no row, or a column is missing or ambiguous.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for number, smiles in enumerate(("CCO", "CCN")):
    ...     pq.write_table(pa.table({"smiles": [smiles]}), folder / f"{number}.parquet")
    >>> rows = open_rows(folder / "*.parquet")
    >>> [table["smiles"].to_pylist() for table in rows.blocks(0, len(rows), 8)]
    [['CCO'], ['CCN']]
    """
    text = str(path)
    if not text.strip() or text == ".":
        raise ValueError(f"the table is {text!r}; expected a file, a pattern of Parquet files, or a URL.")
    files = _parquet_files(text)
    if files is not None:
        for name, value in (("split", split), ("encoding", encoding)):
            if value is not None:
                raise ValueError(f"--{name} is {value!r}, but {text!r} is Parquet. Leave the argument out.")
        return ParquetRows(text, files, side, column_mapping)
    if "://" in text:
        path = _copied(text)
    options: dict[str, Any] = {"column_mapping": column_mapping, "encoding": encoding, "on_error": on_error}
    return DatasetRows(read_molecules(path, split=split, required=SIDE_COLUMN[side], **options))


class DatasetRows:
    """The rows of a `Dataset`. One that is mapped from a file is pickled as the path of the file.

    Args:
        dataset: the table.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset.with_format("arrow")
        self.schema = dataset.data.schema.remove_metadata()
        files = [Path(entry["filename"]) for entry in dataset.cache_files]
        if len(files) == 1 and files[0].parent.parent.name == "class_hf_tables":
            self.identity = files[0].parent.name  # a hash of the text file
        elif files:
            self.identity = dataset._fingerprint
        else:
            digest = hashlib.sha256()
            for batch in dataset.data.to_batches():
                digest.update(batch.serialize())
            self.identity = digest.hexdigest()[:32]

    def __len__(self) -> int:
        return len(self.dataset)

    def blocks(self, start: int, stop: int, size: int) -> Iterator[pa.Table]:
        """As [`RowSource.blocks`]."""
        for first in range(start, min(stop, len(self)), size):
            yield self.dataset[first : min(first + size, stop)].cast(self.schema)


class ParquetRows:
    """The rows of Parquet files. Numbers of rows come from the files' metadata.

    Args:
        name (`str`): the table, for errors.
        files (list of `str`): paths or URLs. All have the same columns.
        side, column_mapping: As for [`open_rows`].

    Raises:
        ValueError: If a file is damaged or has other columns, or a column is missing.
    """

    def __init__(self, name: str, files: Sequence[str], side: Side, column_mapping: Mapping[str, str] | None):
        self.files = tuple(files)
        digest = hashlib.sha256()
        counts, first = [], None
        for path in self.files:
            with _opened(path) as parquet:
                schema = parquet.schema_arrow.remove_metadata()
                if first is not None and schema != first:
                    raise ValueError(f"{path} has other columns or types than {self.files[0]}; expected the same.")
                first = schema
                counts.append(parquet.metadata.num_rows)
                groups = [parquet.metadata.row_group(place).to_dict() for place in range(parquet.num_row_groups)]
                digest.update(repr((path.rsplit("/", 1)[-1], counts[-1], groups)).encode())
            # Other rows can have the same sizes and statistics.
            digest.update(_content_key(path).encode())
        self._ends = list(accumulate(counts))
        if first is None or not self._ends[-1]:
            raise ValueError(f"{name} has no rows; expected a table.")
        mapping = merge_columns(column_mapping)
        check_mapping(mapping, {name: first.names})
        wanted = SIDE_COLUMN[side]
        optional = [column for column in ("id", "smiles", "description") if column != wanted]
        chosen = choose_columns(name, first.names, (wanted,), optional, mapping)
        for position in chosen.values():
            if pa.types.is_nested(first.field(position).type):
                column = first.names[position]
                raise ValueError(f"{name}: the column {column!r} holds lists or objects; expected a text in each row.")
        names = new_names(first.names, chosen, Notes())
        log_notes(name, first.names, chosen, [])
        digest.update(repr(sorted(names.items())).encode())
        self.identity = digest.hexdigest()[:32]
        self.schema = pa.schema(
            [(names[field.name], pa.string() if names[field.name] in chosen else field.type) for field in first]
        )

    def __len__(self) -> int:
        return self._ends[-1]

    def blocks(self, start: int, stop: int, size: int) -> Iterator[pa.Table]:
        """As [`RowSource.blocks`]. Reads only the row groups that hold these rows."""
        stop = min(stop, len(self))
        place = bisect_right(self._ends, start)
        while start < stop:
            offset = self._ends[place - 1] if place else 0
            last = min(stop, self._ends[place])
            with _opened(self.files[place]) as parquet:
                yield from self._of_file(parquet, start - offset, last - offset, size)
            start, place = last, place + 1

    def _of_file(self, parquet: pq.ParquetFile, start: int, stop: int, size: int) -> Iterator[pa.Table]:
        """The rows of one file, by their numbers in it."""
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        ends = list(accumulate(sizes))
        groups = [group for group, end in enumerate(ends) if end > start and end - sizes[group] < stop]
        first = ends[groups[0]] - sizes[groups[0]]
        for batch in parquet.iter_batches(batch_size=size, row_groups=groups):
            begin, end = max(start - first, 0), min(stop - first, batch.num_rows)
            if begin < end:
                table = pa.Table.from_batches([batch.slice(begin, end - begin)]).rename_columns(self.schema.names)
                yield table.cast(self.schema)
            first += batch.num_rows
            if first >= stop:
                return


class _opened:
    """A Parquet file that is open during a block. Errors name the file."""

    def __init__(self, path: str):
        self.path = path

    def __enter__(self) -> pq.ParquetFile:
        system, path = fsspec.core.url_to_fs(self.path)
        self.stream = system.open(path, "rb")
        try:
            # By default Arrow reads the columns of a complete row group, which can be that of a file, into memory.
            return pq.ParquetFile(self.stream, buffer_size=_BUFFER, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            self.stream.close()
            raise ValueError(f"{self.path} cannot be read as Parquet: {first_line(error)}") from error

    def __exit__(self, kind: Any, error: BaseException | None, *rest: object) -> None:
        self.stream.close()
        if isinstance(error, pa.ArrowException):
            raise ValueError(f"{self.path} cannot be read as Parquet: {first_line(error)}") from error


def _content_key(path: str) -> str:
    """A hash of a local file. In object storage, the hash that the storage keeps, if it keeps one."""
    system, name = fsspec.core.url_to_fs(path)
    if isinstance(system, LocalFileSystem):
        return file_digest(name)
    entry = system.info(name)
    return str(next((entry[key] for key in ("ETag", "etag", "md5Hash", "content_md5") if entry.get(key)), ""))


def _parquet_files(text: str) -> list[str] | None:
    """The Parquet files that a path, a pattern or a URL names, or None if it names another table."""
    system, path = fsspec.core.url_to_fs(text)
    is_local = isinstance(system, LocalFileSystem)
    if path.lower().endswith(_PARQUET) and not any(mark in path for mark in _GLOB):
        if is_local and not Path(path).is_file():
            return None  # `read_molecules` says what is wrong
        found = [path]
    elif any(mark in path for mark in _GLOB) and not (is_local and Path(path).exists()):
        found = sorted(system.glob(path))
        if not found:
            raise FileNotFoundError(f"no file matches {text!r}.")
        if not all(name.lower().endswith(_PARQUET) for name in found):
            raise ValueError(f"{text!r} matches files that are not Parquet; only Parquet files can form one table.")
    elif system.isdir(path) and not (is_local and any(Path(path).glob("*.json"))):
        found = sorted(name for ending in _PARQUET for name in system.glob(f"{path.rstrip('/')}/*{ending}"))
        if not found:
            return None
    else:
        return None
    return [name if is_local else system.unstrip_protocol(name) for name in found]


def _copied(url: str) -> Path:
    """A local copy of a file at a URL, in the cache of `datasets`. A changed file is copied again."""
    system, path = fsspec.core.url_to_fs(url)
    if isinstance(system, LocalFileSystem):
        return Path(path)
    if not system.isfile(path):
        raise FileNotFoundError(f"{url!r} does not exist; expected a table.")
    key = hashlib.sha256(repr((url, system.ukey(path))).encode()).hexdigest()[:32]
    target = Path(datasets.config.HF_DATASETS_CACHE, "class_hf_downloads", key, path.rsplit("/", 1)[-1])
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}")
        system.get_file(path, str(temporary))
        temporary.replace(target)
    return target
