"""Builds an index of an encoding: nothing is parsed, and only captions are encoded."""

import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset

from class_hf.data.molecule_tables import FAULT, PLACE
from class_hf.data.validation import DroppedRow
from class_hf.search.building import EncodedMolecules, IndexSettings, check_free, name_of, write_index
from class_hf.search.encoder import IndexEncoder
from class_hf.search.index import MoleculeIndex
from class_hf.search.probes import SAME_MODEL, check_probes
from class_hf.search.properties import remove_repeats, report_dropped
from class_hf.search.stores.base import check_store
from class_hf.shards.encoding import BLOCK, column_names
from class_hf.shards.folder import CONFIG, ShardFolder, part_name
from class_hf.shards.parts import read_rejects

_NEEDED = {"side", "rows", "model", "revision", "dimension", "dtype", "probes", "columns"}


def index_vectors(
    vectors_dir: str,
    output_dir: str | Path | None = None,
    *,
    store: str | None = None,
    settings: IndexSettings | None = None,
    model: str | None = None,
) -> MoleculeIndex:
    """Builds an index from the files of [`~class_hf.shards.run.encode_table`].

    The index equals one that [`MoleculeIndex.build`] makes of the same table, except that rejects are always left out.

    Args:
        vectors_dir (`str`): folder or URL of a complete encoding of molecules.
        output_dir (`str`, *optional*): folder of the index. Give either this or `store`.
        store (`str`, *optional*): a folder or the location of a database, as for [`MoleculeIndex.build`].
        settings (`IndexSettings`, *optional*): the settings. `num_proc` and `on_error` have no effect.
        model (`str`, *optional*): folder or Hub id of the model that made the vectors, if it has moved.

    Returns:
        The index.

    Raises:
        ValueError: If the encoding is not complete, is one of texts, or was made by another model.
        FileExistsError: If the location is not empty.
        OSError: If the disk is full. Nothing stays behind.
    """
    if (output_dir is None) == (store is None):
        raise ValueError("pass either output_dir, the folder of the index, or store, the location of a database.")
    location = check_store(store) if store is not None else str(output_dir)
    settings = settings or IndexSettings()
    check_free(location, settings)
    folder = ShardFolder(vectors_dir)
    config = _complete_config(folder)

    @lru_cache(maxsize=1)
    def open_encoder() -> IndexEncoder:
        encoder = IndexEncoder.open(model or config["model"], revision=config["revision"])
        check_probes(encoder, config["probes"], name=encoder.name, made_by=config["model"])
        return encoder

    if model is not None:
        open_encoder()
    with _scratch_folder() as scratch:
        table, duplicates, kept = remove_repeats(_table(folder, config, Path(scratch, "rows.arrow")))
        count, first = read_rejects(folder)
        rejects = [DroppedRow("molecules", *reject.dropped_row()[1:]) for reject in first]
        encoded = EncodedMolecules(
            table=table,
            report={"dropped": report_dropped(count, rejects), **duplicates},
            vectors=_vectors(folder, config, kept),
            model=name_of(model or config["model"]),
            revision=config["revision"],
            probes=config["probes"],
            open_encoder=open_encoder,
        )
        write_index(encoded, location, settings)
    return MoleculeIndex.load(location, model)


def add_vectors(index: MoleculeIndex, vectors_dir: str) -> None:
    """Adds the molecules of an encoding to an index. Nothing is parsed, and only captions are encoded.

    Args:
        index: the index.
        vectors_dir (`str`): folder or URL of a complete encoding, made by the model of the index.

    Raises:
        ValueError: If an id exists, the encoding is not complete, or another model made it. Also as for
            [`MoleculeIndex.add`].
    """
    folder = ShardFolder(vectors_dir)
    config = _complete_config(folder)
    for side, vector in index.config["probes"].items():
        probe = config["probes"].get(side, [])
        if len(probe) != len(vector) or not float(np.dot(probe, vector)) >= SAME_MODEL:
            raise ValueError(f"{folder.location!r} was made by another model than the index: {config['model']!r}.")
    change = index.start_change()
    with _scratch_folder() as scratch:
        table, _, kept = remove_repeats(_table(folder, config, Path(scratch, "rows.arrow")))
        change.add_described(change.fitted(table), lambda: np.concatenate(list(_vectors(folder, config, kept))))
    index.config = index.store.config


def _scratch_folder() -> tempfile.TemporaryDirectory:
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=cache, prefix="class_hf_index_")


def _complete_config(folder: ShardFolder) -> dict[str, Any]:
    """`encode.json` of a complete encoding of molecules."""
    config = folder.read_config()
    if config is None:
        raise ValueError(f"{folder.location!r} holds no encoding (no {CONFIG}); make one by `class-hf encode`.")
    if config["side"] != "molecule":
        raise ValueError(f"{folder.location!r} holds vectors of texts; an index needs molecules.")
    if missing := sorted(_NEEDED - config.keys()):
        raise ValueError(f"{folder.location}/{CONFIG} is damaged: it lacks {', '.join(missing)}.")
    complete = len(folder.parts())
    if complete != config["shards"]:
        raise ValueError(
            f"{folder.location!r} has {complete:,} of {config['shards']:,} shards. Run its `class-hf encode` again."
        )
    return config


def _table(folder: ShardFolder, config: dict[str, Any], path: Path) -> Dataset:
    """The rows of all parts without their vectors, in a table that is mapped from a file."""
    names = _names(config)
    with folder.open_parquet(part_name(0)) as parquet:
        parts = parquet.schema_arrow
        schema = pa.schema([(new, parts.field(name).type) for name, new in names.items()])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for number in range(config["shards"]):
            with folder.open_parquet(part_name(number)) as parquet:
                for batch in parquet.iter_batches(batch_size=BLOCK, columns=list(names)):
                    columns = [batch.column(name) for name in names]
                    writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    table = Dataset.from_file(str(path))
    rejects = read_rejects(folder)[0]
    if len(table) + rejects != config["rows"]:
        raise ValueError(
            f"{folder.location!r} is damaged: it holds {len(table):,} vectors and {rejects:,} rejects of "
            f"{config['rows']:,} rows. Run `class-hf encode` again, into a new folder."
        )
    if not len(table):
        raise ValueError(f"{folder.location!r} holds no molecule: all {config['rows']:,} rows are rejects.")
    return table


def _names(config: dict[str, Any]) -> dict[str, str]:
    """The column of a part for each column of the index, in the order of the table."""
    schema = pa.schema([(name, pa.null()) for name in config["columns"]])
    renamed = {name: new for name, new in column_names(schema, "molecule")}
    order = [name for name in config["columns"] if name not in (PLACE, FAULT)]
    order += [name for name in ("id", "smiles") if name not in order]
    names = {renamed.get(name, name): name for name in order}
    return names | {"weight": "_weight", "elements": "_elements", "pattern": "_pattern"}


def _vectors(folder: ShardFolder, config: dict[str, Any], kept: np.ndarray | None) -> Iterator[np.ndarray]:
    """The vectors of the kept rows, a part of a shard at a time."""
    start = 0
    for number in range(config["shards"]):
        with folder.open_parquet(part_name(number)) as parquet:
            for batch in parquet.iter_batches(batch_size=BLOCK, columns=["vector"]):
                column = batch.column("vector")
                flat = column.flatten().to_numpy(zero_copy_only=False)
                if len(flat) != len(column) * config["dimension"] or not np.isfinite(flat).all():
                    raise ValueError(
                        f"{folder.location}/{part_name(number)} is damaged: a vector has not {config['dimension']} "
                        "finite numbers. Delete it and run `class-hf encode` again."
                    )
                vectors = flat.reshape(len(column), config["dimension"])
                if kept is not None:
                    first, last = np.searchsorted(kept, (start, start + len(column)))
                    vectors = vectors[kept[first:last] - start]
                start += len(column)
                yield _normalised(vectors, config["dtype"])


def _normalised(vectors: np.ndarray, dtype: str) -> np.ndarray:
    """The vectors in `float32`. Rounding to `float16` changes their lengths by up to 0.05 %."""
    if dtype == "float32":
        return vectors
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
