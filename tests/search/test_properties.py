"""Rows of a table that cannot be indexed are found wherever they are, and named by file and line."""

import pytest
from datasets import Dataset

from class_hf.data.molecule_tables import read_molecules
from class_hf.search.properties import describe


@pytest.mark.parametrize(("good", "after"), [(0, 1001), (999, 0), (1000, 0), (1000, 1000), (1001, 5)])
def test_a_fault_anywhere_is_found(good, after):
    smiles = ["C" * (row % 20 + 1) + "O" for row in range(good)] + ["C1CC("] + ["CCN"] * after
    table = Dataset.from_dict({"smiles": smiles, "id": [str(row) for row in range(len(smiles))]})
    kept, report = describe(table, on_error="drop")
    assert len(kept) == good + after and report["dropped"]["rows"] == 1
    with pytest.raises(ValueError, match=rf"molecules row {good} \(id {good}, table\): RDKit cannot parse the SMILES"):
        describe(table)


def test_rows_of_a_file_are_named_by_their_line(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "a.smi"
    path.write_text("CCO a\n\nCC\u041e b\nCCN\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"molecules row 1 \(id b, a.smi line 3\): the SMILES .* has the character U"):
        describe(read_molecules(path))
    kept, report = describe(read_molecules(path), on_error="drop")
    assert kept["id"][:] == ["a", "2"] and not any(name.startswith("_p") and "place" in name for name in kept.features)
    assert "a.smi line 3" in report["dropped"]["first"][0]
