"""The folder of the parts, on a disk or in object storage. A file in it is complete or absent."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from class_hf.utils.files import file_lock, report_full_disk, write_json
from class_hf.utils.messages import one_line

CONFIG = "encode.json"
_LOCK = ".lock"
_DIGEST = "sha256"  # of the description without this entry
_PART = re.compile(r"part-(\d{7})\.parquet")


class ShardFolder:
    """The files of a sharded job.

    Args:
        location (`str`): a folder, or a URL that fsspec opens, such as `s3://BUCKET/encoded`.
        config (`str`, defaults to `"encode.json"`): name of the file that describes the job.

    >>> folder = ShardFolder("memory://example")
    >>> with folder.new_file(part_name(3)) as path:
    ...     _ = path.write_bytes(b"rows")
    >>> folder.parts()
    {3}
    """

    def __init__(self, location: str, config: str = CONFIG):
        self.location, self.config = location, config
        self.system, path = fsspec.core.url_to_fs(location)
        self.is_local = isinstance(self.system, LocalFileSystem)
        self.root = path.rstrip("/")

    def __repr__(self) -> str:
        return f"ShardFolder({self.location!r})"

    def names(self) -> list[str]:
        """The names of the files, in order. Temporary files are left out."""
        if not self.system.isdir(self.root):
            return []
        paths = self.system.ls(self.root, detail=False, **({} if self.is_local else {"refresh": True}))
        names = [path.rstrip("/").rsplit("/", 1)[-1] for path in paths]
        return sorted(name for name in names if not name.startswith("."))

    def parts(self) -> set[int]:
        """The numbers of the shards that are complete."""
        return {int(found.group(1)) for found in map(_PART.fullmatch, self.names()) if found}

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """Yields a temporary path. Its file takes the name when the block ends without an error.

        Args:
            name: of the file.

        Raises:
            OSError: If the disk is full.
        """
        if self.is_local:
            folder = Path(self.root)
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / f".{name}.{uuid4().hex[:12]}"  # no other host has it
            try:
                with report_full_disk(folder / name):
                    yield temporary
                temporary.replace(folder / name)
            finally:
                temporary.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory() as scratch:
            temporary = Path(scratch, name)
            with report_full_disk(temporary):
                yield temporary
            # Object storage shows an object when its upload is complete.
            self.system.put_file(str(temporary), f"{self.root}/{name}")

    @contextmanager
    def open_parquet(self, name: str) -> Iterator[pq.ParquetFile]:
        """Opens a Parquet file of the folder during a block.

        Raises:
            ValueError: If the file is missing or damaged, or lacks a column that the block reads.
        """
        advice = "Delete it and run the command that wrote it again."
        try:
            with self.system.open(f"{self.root}/{name}", "rb") as stream:
                yield pq.ParquetFile(stream)
        except FileNotFoundError as error:
            raise ValueError(f"{self.location}/{name} is missing. Run the command that wrote it again.") from error
        except (pa.ArrowException, KeyError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system, and not of Arrow: a full disk, for instance
            raise ValueError(f"{self.location}/{name} is damaged: {one_line(error, limit=120)}. {advice}") from error

    def read_config(self) -> dict[str, Any] | None:
        """The description of the job, or None if there is none.

        Raises:
            ValueError: If it is damaged, or was edited: its parts would be read or continued by wrong settings.
        """
        path = f"{self.root}/{self.config}"
        if not self.system.isfile(path):
            return None
        try:
            content = json.loads(self.system.cat_file(path))
        except ValueError as error:
            raise ValueError(f"{self.location}/{self.config} is damaged: it is not valid JSON.") from error
        if not isinstance(content, dict) or not isinstance(content.get("shards"), int):
            raise ValueError(f"{self.location}/{self.config} is damaged: it has no number of shards.")
        if content.pop(_DIGEST, None) != _digest(content):
            raise ValueError(
                f"{self.location}/{self.config} was changed after the command that wrote it, and may no longer "
                "describe its parts. Restore it, or choose another folder."
            )
        return content

    def write_config(self, content: dict[str, Any]) -> None:
        """Writes the description of the job, with its hash."""
        content = json.loads(json.dumps(content))
        with self.new_file(self.config) as path:
            write_json(path, {**content, _DIGEST: _digest(content)})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuses a second driver of a folder on a disk. In object storage two drivers repeat each other's work.

        If the block fails before the first shard is complete, what it wrote is removed, because there is nothing to
        continue.
        """
        if not self.is_local:
            yield
            return
        root = Path(self.root)
        above = next(folder for folder in root.parents if folder.is_dir())
        root.mkdir(parents=True, exist_ok=True)
        had_lock = (root / _LOCK).exists()
        with file_lock(root / _LOCK, f"another process writes to {self.location!r}; wait for its end."):
            try:
                yield
            except BaseException:
                if set(self.names()) <= {self.config}:
                    self._remove_from(above)
                elif not had_lock and not self.parts():  # a folder with other files, which the block refused
                    (root / _LOCK).unlink(missing_ok=True)
                raise

    def _remove_from(self, above: Path) -> None:
        """Removes a folder without shards, and the empty folders up to one that was there before."""
        root = Path(self.root)
        self.remove_leftovers()
        for name in (self.config, _LOCK):
            (root / name).unlink(missing_ok=True)
        for folder in (root, *root.parents):
            if folder == above or any(folder.iterdir()):
                break
            folder.rmdir()

    def remove_leftovers(self) -> None:
        """Removes the temporary files of killed workers. The folder must be locked."""
        if self.is_local:
            for pattern in (".part-*", ".rejects-*", ".scorer.*", f".{self.config}.*"):
                for path in Path(self.root).glob(pattern):
                    path.unlink(missing_ok=True)


def _digest(content: dict[str, Any]) -> str:
    """A hash of values that JSON holds, whatever their order and layout in a file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def part_name(number: int) -> str:
    """The name of the file with a shard's vectors.

    >>> part_name(3)
    'part-0000003.parquet'
    """
    return f"part-{number:07d}.parquet"


def rejects_name(number: int) -> str:
    """The name of the file with a shard's rejects.

    >>> rejects_name(3)
    'rejects-0000003.parquet'
    """
    return f"rejects-{number:07d}.parquet"
