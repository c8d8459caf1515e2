"""`class-hf score TABLE`: equal to the score of the complete table, restarts, rejects, samples and engines."""

import json
import mmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from class_hf import DifficultyScorer
from class_hf.difficulty.scorer import DIFFICULTY_COLUMNS, score_dataset
from class_hf.shards import scoring
from class_hf.shards.folder import ShardFolder
from class_hf.shards.scorer_files import read_scorer, write_scorer
from class_hf.shards.scoring import ScoreSettings, score_table

SETTINGS = ScoreSettings(shard_size=9)


@pytest.fixture(scope="module")
def table(pairs, tmp_path_factory):
    """24 pairs, with a bad SMILES in row 5, no caption in row 6, and a column that a part uses itself."""
    rows = [
        {"id": f"m{row}", "smiles": pair["smiles"], "text": pair["description"], "difficulty": row}
        for row, pair in enumerate(pairs.select(range(24)))
    ]
    rows[5]["smiles"], rows[6]["text"] = "C1CC(", "..."
    path = tmp_path_factory.mktemp("score") / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(scoring, "_BLOCK", 4)


def scored(folder) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(Path(folder).glob("part-*.parquet"))])


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.parquet"))}


def scorer(**options) -> DifficultyScorer:
    return DifficultyScorer(["complexity", "confusability", "alignment"], reference_steps=2, **options)


def test_scores_equal_those_of_the_complete_table(table, tmp_path):
    report = score_table(table, tmp_path / "out", scorer(), SETTINGS)
    assert (report.rows, report.shards, report.scored, report.rejects) == (24, 3, 3, 2)
    assert [reject.row for reject in report.first] == [5, 6]
    assert "has no word" in report.first[1].reason and "RDKit cannot parse" in report.first[0].reason
    parts = scored(tmp_path / "out")
    names = ["id", "smiles", "description", "difficulty_of_table", *DIFFICULTY_COLUMNS]
    assert parts.column_names == names and parts["id"][5].as_py() == "m7"
    rows = [row for row in range(24) if row not in (5, 6)]
    columns = {"id": [str(row) for row in rows], **{name: parts[name].to_pylist() for name in names[1:3]}}
    expected = score_dataset(Dataset.from_dict(columns), scorer())
    for name in DIFFICULTY_COLUMNS:
        assert parts[name].to_pylist() == expected[name][:]


def test_a_restart_scores_only_what_is_missing(table, tmp_path):
    score_table(table, tmp_path, DifficultyScorer("complexity"), SETTINGS)
    before = content(tmp_path)
    (tmp_path / "part-0000001.parquet").unlink()
    report = score_table(table, tmp_path, DifficultyScorer("complexity"), SETTINGS)
    assert report.scored == 1 and content(tmp_path) == before
    with pytest.raises(ValueError, match="holds another job: the definition of the difficulty differs"):
        score_table(table, tmp_path, DifficultyScorer("complexity", "max"), SETTINGS)


def test_a_sample_is_fitted_and_the_others_are_scored_against_it(table, tmp_path, caplog):
    settings = ScoreSettings(fit_rows=12, shard_size=9)
    score_table(table, tmp_path, DifficultyScorer("complexity"), settings)
    assert "fitted on 12 of 24 pairs" in caplog.text
    ranks = np.array(scored(tmp_path)["difficulty"].to_pylist())
    assert len(ranks) == 22 and ((ranks >= 0) & (ranks <= 1)).all() and len(set(ranks)) > 10
    assert json.loads((tmp_path / "score.json").read_text())["fit_rows"] == 12


def test_a_bad_row_can_stop_the_run_and_a_changed_scorer_is_not_loaded(table, tmp_path):
    settings = ScoreSettings(shard_size=9, on_error="raise")
    with pytest.raises(ValueError, match=r"table row 5 \(id m5, pairs.jsonl line 6\).*pass --on_error drop"):
        score_table(table, tmp_path, DifficultyScorer("complexity"), settings)
    with pytest.raises(ValueError, match="scorer.pkl was changed"):
        read_scorer(str(tmp_path), "0" * 64)


def test_a_replaced_scorer_is_not_unpickled(table, tmp_path):
    score_table(table, tmp_path, DifficultyScorer("complexity"), SETTINGS)
    (tmp_path / "part-0000001.parquet").unlink()
    content = (tmp_path / "scorer.pkl").read_bytes()
    arrays = (tmp_path / "scorer.arrays").read_bytes()
    others = [("pkl", b"cos\nabort\n(tR."), ("pkl", content[:50]), ("arrays", arrays[:-1] + bytes([arrays[-1] ^ 1]))]
    for ending, other in others:
        (tmp_path / f"scorer.{ending}").write_bytes(other)
        read_scorer.cache_clear()  # as in a new process
        with pytest.raises(ValueError, match=f"scorer.{ending} was changed after it was fitted"):
            score_table(table, tmp_path, DifficultyScorer("complexity"), SETTINGS)
        (tmp_path / "scorer.pkl").write_bytes(content)
    (tmp_path / "scorer.arrays").unlink()
    assert score_table(table, tmp_path, DifficultyScorer("complexity"), SETTINGS).scored == 1
    assert (tmp_path / "scorer.pkl").read_bytes() == content
    assert (tmp_path / "scorer.arrays").read_bytes() == arrays


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_a_scorer_with_an_index_reads_as_it_was_fitted(place, pairs, tmp_path):
    """On a disk its arrays are mapped: workers of a host share them."""
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    fitted = DifficultyScorer(["confusability", "complexity"], exact_up_to=0).fit(pairs)
    location = str(tmp_path) if place == "disk" else "memory://fitted"
    read = read_scorer(location, write_scorer(ShardFolder(location), fitted))
    unseen = {"id": ["new"], "smiles": ["CCOC"], "description": ["An ether that is a solvent."]}
    for batch in (pairs[:], unseen):
        assert read(batch) == fitted(batch)
    base = read._measures["confusability"].text.index
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj, mmap.mmap if place == "disk" else bytearray)


def test_molecules_without_captions_are_refused(tmp_path):
    pq.write_table(pa.table({"text": ["An acid."]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="has no column 'smiles'"):
        score_table(tmp_path / "t.parquet", tmp_path / "out", DifficultyScorer("complexity"))


@pytest.mark.parametrize("fit_rows", [100, 12])
def test_dask_gives_the_same_bytes(table, tmp_path, fit_rows):
    """With an index of all pairs, whose scores are looked up, and with an index of a sample, which is searched."""
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    distributed = pytest.importorskip("distributed", reason="needs the extra `dask`")

    def score(folder, **settings):
        scorer = DifficultyScorer(["confusability", "complexity"], exact_up_to=0)
        score_table(table, folder, scorer, ScoreSettings(shard_size=9, fit_rows=fit_rows, **settings))
        return content(folder)

    expected = score(tmp_path / "plain")
    options = {"processes": False, "n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(host="127.0.0.1", protocol="tcp", **options) as cluster:
        read_scorer.cache_clear()  # as in a worker of another host
        assert score(tmp_path / "dask", scheduler=cluster.scheduler_address) == expected
