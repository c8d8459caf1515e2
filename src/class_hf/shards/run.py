"""Encodes a table: plans the shards, lets an engine work through those that are missing, and reports."""

import logging
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import rdkit
from tqdm.auto import tqdm

from class_hf._version import __version__
from class_hf.data.row_sources import RowSource, Side, open_rows
from class_hf.data.validation import OnError
from class_hf.search.building import name_of
from class_hf.search.encoder import IndexEncoder
from class_hf.shards.encoding import DType, EncodeJob, Reject, ShardReport, encode_shard, hash_weights
from class_hf.shards.engines import run_work
from class_hf.shards.folder import CONFIG, ShardFolder
from class_hf.utils.numbers import positive_integer
from class_hf.utils.suggestions import check_choice

logger = logging.getLogger(__name__)

FORMAT = 1
_SHOWN = 5
_SECONDS_BETWEEN_LINES = 30
# What has to be equal for a run to go on with the parts of an earlier one.
_IDENTITY = {
    "table": "the table",
    "rows": "the number of rows",
    "side": "--side",
    "shard_size": "--shard_size",
    "dtype": "--dtype",
    "batch_size": "--batch_size",
    "weights": "the weights of the model",
    "featurizer": "the featurizer of the model",
    "rdkit": "the version of RDKit",
}


@dataclass(frozen=True)
class EncodeSettings:
    """Settings of [`encode_table`].

    Args:
        side (`str`, defaults to `"molecule"`): `"molecule"` encodes the column `smiles`, `"text"` the column
            `description`.
        shard_size (`int`, defaults to 50,000): rows in a shard, which is one file and one unit of work.
        batch_size (`int`, defaults to 256): rows that the model encodes at a time.
        dtype (`str`, defaults to `"float32"`): `"float32"`, or `"float16"` for half the disk.
        on_error (`str`, defaults to `"drop"`): rows that cannot be encoded become rejects with their reason, or
            `"raise"` an error.
        workers (`int`, defaults to 1): processes on this machine. Each uses one thread, so that the bytes do not
            depend on their number.
        scheduler (`str`, *optional*): a cluster in place of local processes, see
            [`~class_hf.shards.engines.run_work`].
        split, column_mapping, encoding: As for [`~class_hf.data.molecule_tables.read_molecules`].
        revision (`str`, *optional*): revision of a model on the Hub.

    Raises:
        ValueError: If a value is out of range.

    >>> EncodeSettings(shard_size=0)
    Traceback (most recent call last):
    ValueError: shard_size is 0; expected an integer of at least 1.
    """

    side: Side = "molecule"
    shard_size: int = 50_000
    batch_size: int = 256
    dtype: DType = "float32"
    on_error: OnError = "drop"
    workers: int = 1
    scheduler: str | None = None
    split: str | None = None
    column_mapping: Mapping[str, str] | None = None
    encoding: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        for name in ("shard_size", "batch_size", "workers"):
            positive_integer.check(name, getattr(self, name))
        for name, words in (("side", Side), ("dtype", DType), ("on_error", OnError)):
            check_choice(name, getattr(self, name), get_args(words))


class EncodeReport(NamedTuple):
    """What an encoding holds.

    Attributes:
        rows: rows of the table.
        shards: number of shards.
        encoded: shards that this run encoded. The others were complete before.
        rejects: rows that could not be encoded.
        first: the first of them.
        seconds: CPU seconds of the workers in this run.
    """

    rows: int
    shards: int
    encoded: int
    rejects: int
    first: tuple[Reject, ...]
    seconds: float


def encode_table(
    table: str | Path, model: str, output_dir: str | Path, settings: EncodeSettings | None = None
) -> EncodeReport:
    """Encodes a table of molecules or texts of any size into Parquet files.

    Each shard of rows becomes one file `part-0000000.parquet` with id, SMILES or text, weight, elements, pattern
    fingerprint, the user's columns and the L2-normalised vector. The file appears when it is complete. A run that was
    killed is continued by the same call, which encodes the missing shards only.

    Args:
        table (`str`): the table, see [`~class_hf.data.row_sources.open_rows`].
        model (`str`): a dual encoder: its folder or Hub id.
        output_dir (`str`): folder or URL of the files.
        settings (`EncodeSettings`, *optional*): the settings.

    Returns:
        [`EncodeReport`]: numbers of rows, shards and rejects.

    Raises:
        ValueError: If the folder holds another encoding, or a row is bad and `on_error` is `"raise"`.
        FileExistsError: If the folder holds other files.
        OSError: If the disk is full. Complete shards stay.

    Example:

    ```python
    report = encode_table("catalogue.parquet", "outputs/demo", "outputs/encoded", EncodeSettings(workers=8))
    print(report.rows, report.rejects)
    ```
    """
    settings = settings or EncodeSettings()
    options: dict[str, Any] = {"column_mapping": settings.column_mapping, "encoding": settings.encoding}
    rows = open_rows(table, settings.side, settings.split, on_error=settings.on_error, **options)
    folder = ShardFolder(str(output_dir))
    with folder.locked():
        job, config = _plan(rows, str(table), model, str(output_dir), settings)
        _check(folder, config)
        if settings.scheduler is None:
            folder.remove_leftovers()
        complete = folder.parts()
        missing = [number for number in range(job.shards) if number not in complete]
        seconds = 0.0
        done = len(rows) - sum(_size(job, number) for number in missing)
        work = partial(encode_shard, job)
        with closing(run_work(work, missing, settings.workers, settings.scheduler)) as reports:
            try:
                for report in _progress(reports, job, done, len(missing)):
                    seconds += report.seconds
            except KeyboardInterrupt as interrupt:
                count = len(folder.parts())
                raise KeyboardInterrupt(
                    f"{count:,} of {job.shards:,} shards are complete. The same command continues."
                ) from interrupt
        count, first = read_rejects(folder)
    return EncodeReport(len(rows), job.shards, len(missing), count, tuple(first), seconds)


def _plan(
    rows: RowSource, table: str, model: str, output_dir: str, settings: EncodeSettings
) -> tuple[EncodeJob, dict[str, Any]]:
    """The job, and the content of `encode.json`."""
    encoder = IndexEncoder.open(model, revision=settings.revision)
    name = name_of(model) or model
    probes = encoder.embed_probes()
    job = EncodeJob(
        rows=rows,
        output_dir=output_dir if "://" in output_dir else str(Path(output_dir).resolve()),
        model=name,
        weights=hash_weights(encoder.model),
        dimension=len(probes[settings.side]),
        side=settings.side,
        shard_size=settings.shard_size,
        batch_size=settings.batch_size,
        dtype=settings.dtype,
        on_error=settings.on_error,
        revision=settings.revision,
    )
    config = {
        "format": FORMAT,
        "class_hf_version": __version__,
        "source": table,
        "table": rows.identity,
        "rows": len(rows),
        "shard_size": job.shard_size,
        "shards": job.shards,
        "side": job.side,
        "dtype": job.dtype,
        "batch_size": job.batch_size,
        "model": name,
        "revision": getattr(getattr(encoder.model, "config", None), "_commit_hash", None),
        "weights": job.weights,
        "featurizer": encoder.processor.content_key(),
        "rdkit": rdkit.__version__,
        "dimension": job.dimension,
        "probes": probes,
        "columns": rows.schema.names,
    }
    return job, config


def _check(folder: ShardFolder, config: dict[str, Any]) -> None:
    """Starts an encoding in a new folder, or checks that the folder holds the same one."""
    existing = folder.read_config()
    if existing is None:
        others = folder.names()
        if others:
            raise FileExistsError(f"{folder.location} is not empty and has no {CONFIG}. Choose another --output_dir.")
        folder.write_config(config)
        return
    for name, words in _IDENTITY.items():
        if existing.get(name) != config[name]:
            raise ValueError(
                f"{folder.location} holds another encoding: {words} differs ({existing.get(name)} there, "
                f"{config[name]} now). Choose another --output_dir."
            )


def _size(job: EncodeJob, number: int) -> int:
    return min(job.shard_size, len(job.rows) - number * job.shard_size)


def _progress(
    reports: Generator[ShardReport, None, None], job: EncodeJob, done: int, missing: int
) -> Iterator[ShardReport]:
    """The reports, with a bar on a terminal, and with a line now and then elsewhere."""
    total, unit = len(job.rows), {"molecule": "molecules", "text": "texts"}[job.side]
    if done and missing:
        logger.warning("%s of %s shards are complete; encoding the others.", job.shards - missing, job.shards)
    started = last = time.monotonic()
    earlier = done
    with tqdm(total=total, initial=done, desc="Encoding", unit=f" {unit}", smoothing=0.1, disable=None) as bar:
        for report in reports:
            yield report
            done += report.rows
            bar.update(report.rows)
            now = time.monotonic()
            if bar.disable and now - last >= _SECONDS_BETWEEN_LINES:
                last = now
                rate = (done - earlier) / (now - started)
                left = (total - done) / rate / 60
                text = f"{done:,} of {total:,} {unit}, {rate:,.0f} a second, {left:,.0f} min left"
                print(text, file=sys.stderr, flush=True)  # noqa: T201


def read_rejects(folder: ShardFolder) -> tuple[int, list[Reject]]:
    """The number of rejects of an encoding, and the first of them."""
    count = 0
    first: list[Reject] = []
    for name in folder.names():
        if name.startswith("rejects-"):
            with folder.open_parquet(name) as parquet:
                count += parquet.metadata.num_rows
                if len(first) < _SHOWN:
                    first += [Reject(**row) for row in parquet.read().slice(0, _SHOWN - len(first)).to_pylist()]
    return count, first
