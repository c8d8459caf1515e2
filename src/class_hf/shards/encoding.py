"""Encodes one shard of a table: the function that every engine runs."""

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
import transformers

from class_hf.data.molecule_tables import FAULT
from class_hf.data.row_sources import SIDE_COLUMN, RowSource, Side
from class_hf.data.smiles import repair_smiles
from class_hf.models.smiles import shared_molecule
from class_hf.search.encoder import IndexEncoder
from class_hf.search.properties import compute_properties
from class_hf.shards.folder import ShardFolder
from class_hf.shards.parts import (
    Reject,
    ShardReport,
    add_reject,
    place_of,
    rows_of_shard,
    users_columns,
    write_shard,
)
from class_hf.utils.protocols import Processor

DType = Literal["float32", "float16"]
# Rows that are in memory at a time, and in one row group of a part.
BLOCK = 4_096
PROPERTIES = {
    "molecule": {"weight": pa.float64(), "elements": pa.list_(pa.string()), "pattern": pa.binary()},
    "text": {},
}
_VECTOR = "vector"


@dataclass(frozen=True)
class EncodeJob:
    """What a worker needs to encode any shard of a table. It is pickled without rows and weights.

    Args:
        rows (`RowSource`): the table.
        output_dir (`str`): folder or URL of the parts.
        model (`str`): folder or Hub id of the model.
        weights (`str`): [`hash_weights`] of the model. A worker with other weights stops.
        dimension (`int`): D, the numbers in a vector.
        side (`str`): `"molecule"` or `"text"`.
        shard_size (`int`): rows in a shard.
        batch_size (`int`): rows that the model encodes at a time.
        dtype (`str`): `"float32"` or `"float16"`.
        on_error (`str`): `"drop"`: bad rows become rejects. `"raise"`: the first bad row is an error.
        revision (`str`, *optional*): revision of a model on the Hub.
    """

    rows: RowSource
    output_dir: str
    model: str
    weights: str
    dimension: int
    side: Side
    shard_size: int
    batch_size: int
    dtype: DType
    on_error: Literal["drop", "raise"]
    revision: str | None = None

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.rows) // self.shard_size)


def encode_shard(job: EncodeJob, number: int) -> ShardReport:
    """Encodes the rows `number * shard_size` to `(number + 1) * shard_size`, and writes them as one file.

    The file appears when it is complete. The same job gives the same bytes, on every engine.

    Args:
        job: the job.
        number: of the shard, from 0.

    Returns:
        A short report.

    Raises:
        ValueError: If a row is bad and `on_error` is `"raise"`, or the model of this host is another.
        OSError: If the disk is full.
    """
    rows = rows_of_shard(number, job.shard_size, len(job.rows))
    schema = part_schema(job)
    read = partial(_encode_blocks, job, *rows)
    return write_shard(ShardFolder(job.output_dir), number, rows, schema, read, BLOCK, **_format(schema))


def part_schema(job: EncodeJob) -> pa.Schema:
    """The columns of a part: id and input, the properties, the user's columns, and the vector."""
    properties = PROPERTIES[job.side]
    fields = [pa.field("id", pa.string()), pa.field(SIDE_COLUMN[job.side], pa.string())]
    fields += [pa.field(name, kind) for name, kind in properties.items()]
    fields += [job.rows.schema.field(name).with_name(new) for name, new in column_names(job.rows.schema, job.side)]
    number = pa.float16() if job.dtype == "float16" else pa.float32()
    return pa.schema([*fields, pa.field(_VECTOR, pa.list_(number, job.dimension))])


def column_names(schema: pa.Schema, side: Side) -> list[tuple[str, str]]:
    """The user's columns in a table and in its parts. A name that a part uses itself becomes `NAME_of_table`.

    >>> column_names(pa.schema([("smiles", pa.string()), ("logS", pa.float64()), ("weight", pa.string())]), "molecule")
    [('logS', 'logS'), ('weight', 'weight_of_table')]
    """
    return users_columns(schema.names, ("id", SIDE_COLUMN[side]), (*PROPERTIES[side], _VECTOR))


def hash_weights(model: Any) -> str:
    """A hash of a model's weights and buffers, whatever its files and its device.

    >>> hash_weights(torch.nn.Linear(2, 2)) == hash_weights(torch.nn.Linear(2, 2))
    False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(content.numpy()))
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1)
def _open(model: str, revision: str | None, weights: str) -> IndexEncoder:
    """The model in this process, after a comparison with that of the driver."""
    if multiprocessing.parent_process() is not None:
        transformers.logging.disable_progress_bar()  # the driver shows the progress
    encoder = IndexEncoder.open(model, revision=revision)
    if hash_weights(encoder.model) != weights:
        raise ValueError(f"the model {model!r} has other weights in this worker than in the process that started it.")
    return encoder


def _format(schema: pa.Schema) -> dict[str, Any]:
    """Vectors do not compress; texts do."""
    compression = {name: "zstd" for name in schema.names} | {f"{_VECTOR}.list.element": "none"}
    compression.pop(_VECTOR)
    dictionary = [name for name in schema.names if name not in (_VECTOR, "pattern", "id", "smiles", "weight")]
    return {"compression": compression, "use_dictionary": dictionary, "write_statistics": ["id"]}


def _encode_blocks(job: EncodeJob, start: int, stop: int, rejects: list[Reject]) -> Iterator[pa.Table]:
    """The encoded rows of a shard, block by block."""
    encoder = _open(job.model, job.revision, job.weights)
    schema = part_schema(job)
    first = start
    for table in job.rows.blocks(start, stop, BLOCK):
        features, columns, kept = _featurise(job, encoder, table, first, rejects)
        first += len(table)
        if not kept:
            continue
        vectors = encoder.embed_features(job.side, features, job.batch_size)
        values = vectors.astype(np.float16 if job.dtype == "float16" else np.float32, copy=False).reshape(-1)
        columns[_VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(values), job.dimension)
        chosen = table.take(pa.array(kept))
        for name, new in column_names(job.rows.schema, job.side):
            columns[new] = chosen[name]
        yield pa.table([columns[field.name] for field in schema], schema=schema)


def _featurise(
    job: EncodeJob, encoder: IndexEncoder, table: pa.Table, first: int, rejects: list[Reject]
) -> tuple[list[bytes], dict[str, Any], list[int]]:
    """Features and columns of the rows of a block that can be encoded, and their places. Appends the others."""
    inputs = table[SIDE_COLUMN[job.side]].to_pylist()
    ids = table["id"].to_pylist() if "id" in table.column_names else [None] * len(inputs)
    faults = table[FAULT].to_pylist() if FAULT in table.column_names else [None] * len(inputs)
    encode = _encode_molecules if job.side == "molecule" else _encode_texts
    results = encode(encoder.processor, inputs, faults)
    features: list[bytes] = []
    columns: dict[str, Any] = {name: [] for name in ("id", SIDE_COLUMN[job.side], *PROPERTIES[job.side])}
    kept: list[int] = []
    for place, (row_id, value, result) in enumerate(zip(ids, inputs, results, strict=True)):
        row = first + place
        name = row_id or str(row)
        if isinstance(result, str):
            reject = Reject(row, place_of(table, place), row_id, value, result.removesuffix("."))
            add_reject(rejects, reject, job.on_error)
            continue
        feature, *values = result
        features.append(feature)
        kept.append(place)
        for column, content in zip(columns.values(), (name, *values), strict=True):
            column.append(content)
    return features, columns, kept


def _encode_molecules(
    processor: Processor, inputs: Sequence[str | None], faults: Sequence[str | None]
) -> list[tuple[Any, ...] | str]:
    """Features, SMILES, weight, elements and pattern of each molecule, from one parse; or what is wrong with it."""
    results: list[tuple[Any, ...] | str] = []
    for smiles, fault in zip(inputs, faults, strict=True):
        smiles = repair_smiles(smiles or "")
        if fault is not None or not smiles:
            results.append(fault or "empty or missing: smiles")
            continue
        try:
            properties = compute_properties(shared_molecule(smiles))
            results.append((processor.encode_molecules([smiles])[0], smiles, *properties))
        except ValueError as error:
            results.append(str(error))
    return results


def _encode_texts(
    processor: Processor, inputs: Sequence[str | None], faults: Sequence[str | None]
) -> list[tuple[Any, ...] | str]:
    """Features of each text, and the text; or what is wrong with it."""
    texts = [
        text for text, fault in zip(inputs, faults, strict=True) if fault is None and text and text.strip()
    ]  # together, because a model that reads names starts a program for each batch
    try:
        blobs: Iterator[Any] = iter(processor.encode_text(texts) if texts else [])
    except ValueError:
        blobs = map(partial(_encode_text, processor), texts)
    results: list[tuple[Any, ...] | str] = []
    for text, fault in zip(inputs, faults, strict=True):
        if fault is not None or not text or not text.strip():
            results.append(fault or "empty or missing: description")
            continue
        blob = next(blobs)
        results.append(blob if isinstance(blob, str) else (blob, text))
    return results


def _encode_text(processor: Processor, text: str) -> bytes | str:
    """The features of one text, or what is wrong with it."""
    try:
        return processor.encode_text([text])[0]
    except ValueError as error:
        return str(error)
