"""Parquet files as one table: rows by their numbers, and what is refused."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from class_hf.data.row_sources import open_rows

SMILES = ["C" * (number % 7 + 1) for number in range(53)]


@pytest.fixture
def folder(tmp_path):
    """53 rows in three files with row groups of four rows."""
    for name, (start, stop) in {"a": (0, 20), "b": (20, 21), "c": (21, 53)}.items():
        table = pa.table({"SMILES": SMILES[start:stop], "cid": list(range(start, stop))})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=4)
    return tmp_path


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(("start", "stop"), [(0, 53), (3, 5), (18, 23), (20, 21), (52, 53), (50, 90)])
def test_any_range_of_rows(folder, start, stop, size):
    rows = open_rows(folder / "*.parquet")
    table = pa.concat_tables(rows.blocks(start, stop, size))
    assert table["smiles"].to_pylist() == SMILES[start:stop]
    assert table["id"].to_pylist() == [str(number) for number in range(start, min(stop, 53))]


def test_a_folder_and_a_pattern_are_the_same_table(folder):
    assert open_rows(folder).identity == open_rows(folder / "*.parquet").identity
    assert open_rows(folder / "a.parquet").identity != open_rows(folder).identity


def test_a_changed_file_is_another_table(folder):
    before = open_rows(folder).identity
    pq.write_table(pa.table({"SMILES": ["O"], "cid": [20]}), folder / "b.parquet")
    assert open_rows(folder).identity != before


def test_what_is_refused(folder):
    with pytest.raises(FileNotFoundError, match="no file matches"):
        open_rows(folder / "x*.parquet")
    with pytest.raises(ValueError, match="'description'"):
        open_rows(folder, "text")
    with pytest.raises(ValueError, match="is Parquet"):
        open_rows(folder, encoding="cp1252")
    pq.write_table(pa.table({"SMILES": ["C"], "cid": ["1"]}), folder / "d.parquet")
    with pytest.raises(ValueError, match=r"d.parquet has other columns or types than .*a.parquet"):
        open_rows(folder)
    (folder / "d.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(ValueError, match="d.parquet cannot be read as Parquet"):
        open_rows(folder)
    pq.write_table(pa.table({"smiles": [["C"]]}), folder / "d.parquet")
    with pytest.raises(ValueError, match="holds lists or objects"):
        open_rows(folder / "d.parquet")


def test_a_row_group_is_not_read_as_a_whole(tmp_path):
    generator = np.random.default_rng(0)
    table = pa.table({"smiles": [generator.bytes(500).hex() for _ in range(12_000)]})  # 12 MB
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=12_000, compression="none", use_dictionary=False)
    rows = open_rows(tmp_path / "t.parquet", "molecule")
    tracemalloc.start()
    first = next(iter(rows.blocks(0, 12_000, 100)))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(first) == 100 and most < 4e6
