"""`class-hf encode`: vectors, rejects, restarts, engines and the index of the files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from class_hf import Encoder, MoleculeIndex
from class_hf.data.molecule_tables import read_molecules
from class_hf.data.row_sources import open_rows
from class_hf.search.building import IndexSettings
from class_hf.search.encoder import IndexEncoder
from class_hf.shards import encoding
from class_hf.shards.encoding import encode_shard
from class_hf.shards.indexing import index_vectors
from class_hf.shards.run import EncodeSettings, encode_table

BAD = {"bad": "C1CC(", "none": "", "words": "CCO ethanol"}


@pytest.fixture(scope="session")
def model_folder(indexed_model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encode") / "model"
    indexed_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def table(pairs, tmp_path_factory):
    """27 molecules: 3 of them bad, one row twice, and a column whose name a part uses itself."""
    rows = [*zip(pairs["id"][:], pairs["smiles"][:], strict=True)]
    rows[5:5], rows[20:20] = list(BAD.items()), [rows[1]]
    path = tmp_path_factory.mktemp("table") / "t.csv"
    lines = [f"{row_id},{smiles},{len(smiles)},x{len(smiles) % 3}" for row_id, smiles in rows]
    path.write_text("\n".join(["id,smiles,weight,vendor", *lines]) + "\n")
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(encoding, "BLOCK", 4)


def parts(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.parquet"))}


def rows_of(folder) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(Path(folder).glob("part-*.parquet"))])


def vectors_of(table: pa.Table) -> np.ndarray:
    return table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)


def test_vectors_are_those_of_the_encoder(table, model_folder, indexed_model, processor, tmp_path):
    report = encode_table(table, model_folder, tmp_path / "out", EncodeSettings(shard_size=10))
    assert (report.rows, report.shards, report.encoded, report.rejects) == (28, 3, 3, 3)
    encoded = rows_of(tmp_path / "out")
    expected = Encoder(indexed_model, processor).encode_molecules(encoded["smiles"].to_pylist())
    np.testing.assert_allclose(vectors_of(encoded), expected, atol=1e-6)
    assert encoded.column_names == [
        "id",
        "smiles",
        "weight",
        "elements",
        "pattern",
        "weight_of_table",
        "vendor",
        "vector",
    ]
    assert encoded["weight"][0].as_py() == pytest.approx(32.04, abs=0.01)
    assert encoded["elements"][0].as_py() == ["H", "C", "O"]
    assert encoded["weight_of_table"][0].as_py() == "2"


def test_features_and_prepared_tables_give_the_same_bits(pairs, indexed_model, processor):
    encoder = IndexEncoder(indexed_model, processor)
    table = pairs.select([3, 0, 1, 3, 2, 9, 1])
    expected = encoder.embed_molecules(encoder.prepare(table, None), 2).numpy()
    features = processor.encode_molecules(table["smiles"][:])
    np.testing.assert_array_equal(encoder.embed_features("molecule", features, 2), expected)


def test_rejects_name_row_and_reason(table, model_folder, tmp_path):
    report = encode_table(table, model_folder, tmp_path / "out", EncodeSettings(shard_size=10))
    assert [(reject.row, reject.id) for reject in report.first] == [(5, "bad"), (6, "none"), (7, "words")]
    assert str(report.first[0].dropped_row()).startswith("table row 5 (id bad, t.csv line 7): RDKit cannot parse")
    with pytest.raises(ValueError, match=r"row 5 \(id bad, t.csv line 7\).*pass --on_error drop"):
        encode_table(table, model_folder, tmp_path / "raise", EncodeSettings(on_error="raise"))


def test_a_restart_does_only_what_is_missing(table, model_folder, tmp_path):
    folder, settings = tmp_path / "out", EncodeSettings(shard_size=10)
    encode_table(table, model_folder, folder, settings)
    before = parts(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    (folder / "part-0000001.parquet").unlink()
    (folder / ".part-0000001.parquet.0123456789ab").write_bytes(b"left by a killed worker")
    report = encode_table(table, model_folder, folder, settings)
    assert report.encoded == 1 and report.rejects == 3 and parts(folder) == before
    later = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert {name for name in times if times[name] != later[name]} == {"part-0000001.parquet"}
    assert not list(folder.glob(".part-*"))
    assert encode_table(table, model_folder, folder, settings).encoded == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shard_size": 9}, "--shard_size differs"),
        ({"dtype": "float16"}, "--dtype differs"),
        ({}, "the table differs"),
    ],
)
def test_another_run_is_refused(table, model_folder, tmp_path, change, words):
    encode_table(table, model_folder, tmp_path / "out", EncodeSettings(shard_size=10))
    other = table
    if not change:
        other = tmp_path / "t.csv"
        other.write_text(table.read_text().replace("CCO", "CCN"))
    with pytest.raises(ValueError, match=words):
        encode_table(other, model_folder, tmp_path / "out", EncodeSettings(**{"shard_size": 10, **change}))


def test_other_weights_and_other_files_are_refused(table, model_folder, model, processor, tmp_path):
    encode_table(table, model_folder, tmp_path / "out")
    model.logit_scale.log_scale.data += 1
    model.save_pretrained(tmp_path / "other")
    processor.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="the weights of the model differs"):
        encode_table(table, str(tmp_path / "other"), tmp_path / "out")
    with pytest.raises(FileExistsError, match="is not empty"):
        encode_table(table, model_folder, tmp_path / "other")


def test_texts(pairs, model_folder, indexed_model, processor, tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [{"id": "a", "text": pairs[0]["description"]}, {"id": "b", "text": " "}, {"id": "c", "text": "An acid."}]
    path.write_text("\n".join(map(json.dumps, rows)))
    report = encode_table(path, model_folder, tmp_path / "out", EncodeSettings(side="text"))
    encoded = rows_of(tmp_path / "out")
    assert report.rejects == 1 and encoded["id"].to_pylist() == ["a", "c"]
    expected = Encoder(indexed_model, processor).encode_text(encoded["description"].to_pylist())
    np.testing.assert_allclose(vectors_of(encoded), expected, atol=1e-6)
    with pytest.raises(ValueError, match="holds vectors of texts"):
        index_vectors(str(tmp_path / "out"), tmp_path / "index")


def test_parquet_in_object_storage(pairs, model_folder, tmp_path):
    """A pattern of files with row groups, read and written by URL; numbers keep their type."""
    system = fsspec.filesystem("memory")
    columns = {"smiles": pairs["smiles"][:], "cid": list(range(24))}
    for number, rows in enumerate((slice(0, 11), slice(11, 24))):
        part = pa.table({name: values[rows] for name, values in columns.items()})
        with system.open(f"/catalogue/{number}.parquet", "wb") as file:
            pq.write_table(part, file, row_group_size=5)
    settings = EncodeSettings(shard_size=9, dtype="float16")
    report = encode_table("memory://catalogue/*.parquet", model_folder, "memory://encoded", settings)
    assert (report.rows, report.shards) == (24, 3)
    for name in system.ls("/encoded", detail=False):
        system.get_file(name, str(tmp_path / name.rsplit("/", 1)[-1]))
    encoded = rows_of(tmp_path)
    assert encoded["id"].to_pylist() == [str(number) for number in range(24)]
    assert encoded["smiles"].to_pylist() == columns["smiles"]
    assert encoded.schema.field("vector").type == pa.list_(pa.float16(), 8)
    index = index_vectors("memory://encoded", tmp_path / "index")
    index.verify()


def test_a_text_table_by_url(table, model_folder, tmp_path):
    fsspec.filesystem("memory").pipe_file("/tables/t.csv", table.read_bytes())
    encode_table("memory://tables/t.csv", model_folder, tmp_path / "url", EncodeSettings(shard_size=10))
    encode_table(table.as_uri(), model_folder, tmp_path / "file", EncodeSettings(shard_size=10))
    assert parts(tmp_path / "url") == parts(tmp_path / "file")


def test_the_index_of_the_files_equals_that_of_the_table(table, model_folder, tmp_path):
    encode_table(table, model_folder, tmp_path / "out", EncodeSettings(shard_size=10))
    built = MoleculeIndex.build(
        read_molecules(table, on_error="drop"), model_folder, output_dir=tmp_path / "a", on_error="drop"
    )
    index = index_vectors(str(tmp_path / "out"), tmp_path / "b")
    assert len(index) == 24 and index.config == built.config
    assert index.config["columns"]["weight"] == "number"
    for name in ("patterns", "elements", "weights"):
        assert (tmp_path / "a" / f"{name}.npy").read_bytes() == (tmp_path / "b" / f"{name}.npy").read_bytes()
    np.testing.assert_allclose(index.store.array("molecules"), built.store.array("molecules"), atol=1e-6)
    for hit, expected in zip(index.search("a thiol", k=5), built.search("a thiol", k=5), strict=True):
        assert (hit.id, hit.fields) == (expected.id, expected.fields) and abs(hit.score - expected.score) < 1e-6


def test_captions_are_indexed_too(pairs, model_folder, tmp_path):
    pq.write_table(pairs.remove_columns("difficulty").data.table, tmp_path / "pairs.parquet")
    encode_table(tmp_path / "pairs.parquet", model_folder, tmp_path / "out")
    index = index_vectors(str(tmp_path / "out"), tmp_path / "index")
    assert index.config["captions"] == 24 and index.search_captions("CO", k=1)[0].fields["description"]


def test_an_unfinished_encoding_is_not_indexed(table, model_folder, tmp_path):
    encode_table(table, model_folder, tmp_path / "out", EncodeSettings(shard_size=10))
    (tmp_path / "out" / "part-0000001.parquet").unlink()
    with pytest.raises(ValueError, match="has 2 of 3 shards"):
        index_vectors(str(tmp_path / "out"), tmp_path / "index")


def test_recall_is_measured_and_the_effort_raised(table, model_folder, tmp_path):
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    encode_table(table, model_folder, tmp_path / "out")
    index = index_vectors(str(tmp_path / "out"), tmp_path / "index", settings=IndexSettings(exact_up_to=3))
    assert index.config["recall_at_10"] >= 0.97 and index.config["effort"] in (10, 20, 40, 80)


def test_a_full_disk_is_one_line(table, model_folder, tmp_path, monkeypatch):
    encode_table(table, model_folder, tmp_path / "out", EncodeSettings(shard_size=10))
    (tmp_path / "out" / "part-0000001.parquet").unlink()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="part-0000001.parquet cannot be written: the disk is full"):
        encode_table(table, model_folder, tmp_path / "out", EncodeSettings(shard_size=10))
    assert not list((tmp_path / "out").glob(".part*"))


def test_dask_gives_the_same_bytes(table, model_folder, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the extra `dask`")
    encode_table(table, model_folder, tmp_path / "plain", EncodeSettings(shard_size=5))
    options = {"processes": False, "n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(host="127.0.0.1", protocol="tcp", **options) as cluster:
        settings = EncodeSettings(shard_size=5, scheduler=cluster.scheduler_address)
        assert encode_table(table, model_folder, tmp_path / "dask", settings).encoded == 6
    assert parts(tmp_path / "plain") == parts(tmp_path / "dask")


def test_ctrl_c_says_what_is_complete(table, model_folder, tmp_path, monkeypatch):
    def interrupted(job, number):
        if number == 2:
            raise KeyboardInterrupt
        return encode_shard(job, number)

    monkeypatch.setattr("class_hf.shards.run.encode_shard", interrupted)
    with pytest.raises(KeyboardInterrupt, match="2 of 3 shards are complete. The same command continues."):
        encode_table(table, model_folder, tmp_path / "out", EncodeSettings(shard_size=10))


@pytest.mark.slow
def test_killed_driver_loses_only_the_shards_in_flight(table, model_folder, tmp_path):
    """Two local workers, a driver that is killed at some moment, and a restart: the bytes of a plain run."""
    encode_table(table, model_folder, tmp_path / "plain", EncodeSettings(shard_size=2))
    folder = tmp_path / "killed"
    recipe = Path(__file__).parents[2] / "recipes" / "encode.py"
    arguments = [
        str(table),
        "--model",
        model_folder,
        "--output_dir",
        str(folder),
        "--shard_size",
        "2",
        "--workers",
        "2",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen([sys.executable, str(recipe), *arguments], env=environment)
    deadline = time.monotonic() + 240
    while not list(folder.glob("part-*")) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng().uniform(0, 0.2)))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    left = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    report = encode_table(table, model_folder, folder, EncodeSettings(shard_size=2))
    assert report.encoded <= 14 - len(left) and parts(folder) == parts(tmp_path / "plain")
    assert all((folder / name).stat().st_mtime_ns == time for name, time in left.items())


def test_an_edited_description_is_refused(table, model_folder, tmp_path):
    """For instance, vectors of another `dtype` would not be normalised, and a column would be left out."""
    folder, settings = tmp_path / "out", EncodeSettings(shard_size=10, dtype="float16")
    encode_table(table, model_folder, folder, settings)
    path = folder / "encode.json"
    written = json.loads(path.read_text())
    edits = [(name, "other") for name in written]
    for name, value in [*edits, ("dtype", "float32"), ("columns", written["columns"][:-1])]:
        path.write_text(json.dumps({**written, name: value}))
        with pytest.raises(ValueError, match="encode.json (was changed after|is damaged: it has no number of shards)"):
            index_vectors(str(folder), tmp_path / "index")
    with pytest.raises(ValueError, match="encode.json was changed after"):
        encode_table(table, model_folder, folder, settings)
    path.write_text(json.dumps({name: value for name, value in written.items() if name != "sha256"}))
    with pytest.raises(ValueError, match="was changed after the command that wrote it"):
        index_vectors(str(folder), tmp_path / "index")
    path.write_text(json.dumps(dict(reversed(written.items()))))  # another layout
    assert encode_table(table, model_folder, folder, settings).encoded == 0


def test_damaged_parts_and_lost_rejects_stop_a_restart(table, model_folder, tmp_path):
    folder, settings = tmp_path / "out", EncodeSettings(shard_size=10)
    encode_table(table, model_folder, folder, settings)
    part, rejects = folder / "part-0000000.parquet", folder / "rejects-0000000.parquet"
    content = {path: path.read_bytes() for path in (part, rejects)}
    rejects.unlink()
    with pytest.raises(ValueError, match="part-0000000.parquet and its rejects have 7 of 10 rows. Delete the part"):
        encode_table(table, model_folder, folder, settings)
    rejects.write_bytes(content[rejects])
    part.write_bytes(content[part][:100])
    with pytest.raises(ValueError, match="part-0000000.parquet is damaged.*Delete it"):
        encode_table(table, model_folder, folder, settings)
    part.unlink()
    assert encode_table(table, model_folder, folder, settings).encoded == 1
    assert {path: path.read_bytes() for path in (part, rejects)} == content


def test_other_rows_of_the_same_size_are_another_table(tmp_path):
    identities = set()
    for smiles in (["CCO", "CCN"], ["NCO", "CCN"]):
        options = {"write_statistics": False, "compression": "none", "use_dictionary": False}
        pq.write_table(pa.table({"smiles": smiles}), tmp_path / "t.parquet", **options)
        identities |= {open_rows(tmp_path / "t.parquet").identity for _ in range(2)}
    assert len(identities) == 2
