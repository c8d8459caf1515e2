"""Encodes a table: plans the shards, lets an engine work through those that are missing, and reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import rdkit

from class_hf._version import __version__
from class_hf.data.row_sources import RowSource, Side, open_rows
from class_hf.data.validation import OnError
from class_hf.search.building import name_of
from class_hf.search.encoder import IndexEncoder
from class_hf.search.probes import embed_probes
from class_hf.shards.driver import check_job, run_missing
from class_hf.shards.encoding import DType, EncodeJob, encode_shard, hash_weights
from class_hf.shards.folder import ShardFolder
from class_hf.shards.parts import Reject, read_rejects
from class_hf.utils.numbers import positive_integer
from class_hf.utils.suggestions import check_choice

FORMAT = 1
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
        check_job(folder, config, _IDENTITY)
        encoded, seconds = run_missing(
            folder,
            partial(encode_shard, job),
            len(rows),
            job.shard_size,
            workers=settings.workers,
            scheduler=settings.scheduler,
            verb="Encoding",
            unit={"molecule": "molecules", "text": "texts"}[job.side],
        )
        count, first = read_rejects(folder)
    return EncodeReport(len(rows), job.shards, encoded, count, tuple(first), seconds)


def _plan(
    rows: RowSource, table: str, model: str, output_dir: str, settings: EncodeSettings
) -> tuple[EncodeJob, dict[str, Any]]:
    """The job, and the content of `encode.json`."""
    encoder = IndexEncoder.open(model, revision=settings.revision)
    name = name_of(model) or model
    probes = embed_probes(encoder)
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
