"""load_chebi20 as a user meets it: folders, the Hub, the download, the cache, the report."""

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from datasets.exceptions import DatasetNotFoundError

from class_hf.data import loading as chebi20
from class_hf.data.loading import load_chebi20, load_pairs

TRAIN = [
    ("1", "CC(=O)O", "The molecule is acetic acid."),
    ("2", r"C/C=C\C", "The molecule is cis-but-2-ene."),
    ("3", "C[C@H](N)C(=O)O", 'The molecule is "L-alanine", with a quote.'),
]
VALIDATION = [("4", "CCO", "The molecule is ethanol.")]
TEST = [("5", "C", "The molecule is methane.")]
POOL = [(row[0], row[1], split) for split, rows in (("train", TRAIN), ("val", VALIDATION)) for row in rows]
HEADER = ("CID", "SMILES", "description")


def write(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = HEADER) -> None:
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    write(folder / "train.tsv", TRAIN)
    write(folder / "validation.tsv", VALIDATION)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def rows_of(dataset: Dataset) -> list[tuple[str, ...]]:
    return [tuple(row.values()) for row in dataset]


def test_a_folder_gives_the_splits_that_exist_and_their_union_as_pool(folder: Path, cache: Path) -> None:
    data = load_chebi20(folder, cache_dir=cache)
    assert list(data) == ["train", "validation", "pool"]
    assert rows_of(data["train"]) == TRAIN
    assert rows_of(data["validation"]) == VALIDATION
    assert rows_of(data["pool"]) == [(i, s, "train") for i, s, _ in TRAIN] + [("4", "CCO", "validation")]
    for split in ("train", "validation", "pool"):
        assert {feature.dtype for feature in data[split].features.values()} == {"string"}


def test_a_test_file_is_used_when_it_is_there(folder: Path, cache: Path) -> None:
    write(folder / "test.txt", TEST)
    data = load_chebi20(str(folder), cache_dir=str(cache))
    assert list(data) == ["train", "validation", "test", "pool"]
    assert rows_of(data["test"]) == TEST
    assert data["pool"]["split"][-1] == "test"


def test_molecules_tsv_is_the_pool(folder: Path, cache: Path) -> None:
    header = ("CID", "SMILES", "split", "has_description")
    write(folder / "molecules.tsv", [(*row, "1") for row in [*POOL, ("9", "CCCC", "test")]], header)
    pool = load_chebi20(folder, cache_dir=cache)["pool"]
    assert pool.column_names == ["id", "smiles", "split"]
    assert pool["split"][:] == ["train", "train", "train", "validation", "test"]
    assert rows_of(pool)[-1] == ("9", "CCCC", "test")


def test_doubled_backslashes_are_repaired_and_counted_and_stereo_survives(folder: Path, cache: Path) -> None:
    rows = [("1", r"C/C=C\\C", "cis"), ("2", r"F/C=C/[C@@H](O)C=C\\\\C", "more"), ("3", "OCC", "plain")]
    write(folder / "train.tsv", rows)
    data, report = load_chebi20(folder, cache_dir=cache, return_report=True)
    # "OCC" is not RDKit's canonical "CCO": nothing but the backslashes is touched.
    assert data["train"]["smiles"][:] == [r"C/C=C\C", r"F/C=C/[C@@H](O)C=C\C", "OCC"]
    assert report.repaired == {"train": 2, "validation": 0}
    assert report.rows == {"train": 3, "validation": 1, "pool": 4}
    assert report.dropped == ()


def test_drop_skips_counts_and_lists(folder: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder / "train.tsv", [*TRAIN, ("6", "C1CC(", "broken")])
    with caplog.at_level(logging.INFO, logger="class_hf"):
        data, report = load_chebi20(folder, on_error="drop", cache_dir=cache, return_report=True)
    assert rows_of(data["train"]) == TRAIN
    assert data["pool"].num_rows == 4
    (row,) = report.dropped
    assert (row.split, row.row, row.id, row.place) == ("train", 3, "6", "train.tsv line 5")
    reason = "RDKit cannot parse the SMILES 'C1CC(': the syntax is invalid"
    assert str(row) == f"train row 3 (id 6, train.tsv line 5): {reason}."
    assert caplog.records[-1].levelno == logging.WARNING
    assert "train 3 rows (0 SMILES repaired)" in caplog.text and "1 dropped:\n  train row 3" in caplog.text
    # The report comes from the cache as it went in.
    assert load_chebi20(folder, on_error="drop", cache_dir=cache, return_report=True)[1] == report


def test_raise_names_the_row_and_leaves_nothing_behind(folder: Path, cache: Path) -> None:
    write(folder / "train.tsv", [*TRAIN, ("6", "C1CC(", "broken")])
    with pytest.raises(ValueError, match=r"train row 3 \(id 6, train.tsv line 5\).*'C1CC\('.*Correct the data, or"):
        load_chebi20(folder, cache_dir=cache)
    assert not list(cache.glob("**/*.arrow"))


def test_the_second_call_reads_and_parses_nothing(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_chebi20(folder, cache_dir=cache)

    def never(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(chebi20, "read_files", never)
    second = load_chebi20(folder, cache_dir=cache)
    assert {split: rows_of(part) for split, part in second.items()} == {
        split: rows_of(part) for split, part in first.items()
    }
    # Other content, other arguments: not the cached result.
    with pytest.raises(AssertionError, match="read again"):
        load_chebi20(folder, cache_dir=cache, on_error="drop")
    write(folder / "train.tsv", TRAIN[:2])
    with pytest.raises(AssertionError, match="read again"):
        load_chebi20(folder, cache_dir=cache)


def test_map_over_the_loaded_pairs_is_cached_across_calls(folder: Path, cache: Path) -> None:
    def length(row: dict[str, str]) -> dict[str, int]:
        return {"length": len(row["smiles"])}

    one = load_chebi20(folder, cache_dir=cache)["train"].map(length)
    two = load_chebi20(folder, cache_dir=cache)["train"].map(length)
    assert one.cache_files == two.cache_files != []


def test_two_processes_that_load_at_once_share_one_result(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, calls = chebi20._build, []

    def overtaken(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            load_chebi20(folder, cache_dir=cache)
        return build(*args)

    monkeypatch.setattr(chebi20, "_build", overtaken)
    data = load_chebi20(folder, cache_dir=cache)
    assert len(calls) == 2
    assert rows_of(data["train"]) == TRAIN
    assert len(list((cache / "class_hf_pairs").iterdir())) == 1


def test_nothing_is_written_with_caching_disabled(folder: Path, cache: Path) -> None:
    datasets.disable_caching()
    try:
        data = load_chebi20(folder, cache_dir=cache)
    finally:
        datasets.enable_caching()
    assert rows_of(data["train"]) == TRAIN
    assert not cache.exists()


def test_what_was_loaded_can_be_saved_and_loaded(folder: Path, cache: Path, tmp_path: Path) -> None:
    data = load_chebi20(folder, cache_dir=cache)
    data.save_to_disk(tmp_path / "saved")
    assert rows_of(load_from_disk(tmp_path / "saved")["pool"]) == rows_of(data["pool"])


def test_wrong_arguments_are_named(folder: Path) -> None:
    skip: Any = "skip"
    with pytest.raises(ValueError, match='on_error is \'skip\'; expected "raise" or "drop"'):
        load_chebi20(folder, on_error=skip)
    with pytest.raises(ValueError, match="unknown columns: {'SMILES': 'mol'}.*description.*id.*smiles"):
        load_chebi20(folder, column_mapping={"SMILES": "mol"})
    with pytest.raises(ValueError, match="revision 'v1' needs a data set of the Hub"):
        load_chebi20(folder, revision="v1")


@pytest.mark.parametrize("source", ["/no/such/folder", "./pairs", "~/no_such_folder_of_pairs", "chebi20"])
def test_a_missing_folder_is_named(source: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{source} is neither a folder nor a file"):
        load_chebi20(source)


def test_a_path_is_never_taken_for_a_hub_data_set() -> None:
    with pytest.raises(FileNotFoundError, match="org/name is neither a folder nor a file"):
        load_chebi20(Path("org/name"))


# One file


def test_load_pairs_reads_a_file_of_any_name(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "more.dat", TRAIN, ("INCHIKEY", "isosmiles", "blurb"))
    pairs = load_pairs(tmp_path / "more.dat", column_mapping={"blurb": "description"}, cache_dir=cache)
    assert pairs.column_names == ["id", "smiles", "description"]
    assert rows_of(pairs) == TRAIN


def test_load_pairs_drops_or_raises_and_needs_a_file(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "more.tsv"
    write(file, [*TRAIN, ("6", "CCN", "")])
    with pytest.raises(ValueError, match=r"pairs row 3 \(id 6, more.tsv line 5\): empty or missing: description"):
        load_pairs(file, cache_dir=cache)
    assert load_pairs(file, on_error="drop", cache_dir=cache).num_rows == 3
    with pytest.raises(FileNotFoundError, match="is not a file of pairs; for a folder or the Hub use load_chebi20"):
        load_pairs(tmp_path)


# The Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """``load_dataset`` replaced by what the test puts in ``["data"]``; ``["call"]`` is what it was asked."""
    state: dict[str, Any] = {}

    def load_dataset(name: str, **kwargs: Any) -> DatasetDict:
        state["call"] = (name, kwargs)
        if isinstance(state["data"], Exception):
            raise state["data"]
        return DatasetDict({split: Dataset.from_dict(columns) for split, columns in state["data"].items()})

    monkeypatch.setattr(chebi20, "load_dataset", load_dataset)
    return state


def test_a_hub_data_set_is_renamed_and_its_values_become_text(hub: dict[str, Any], cache: Path) -> None:
    hub["data"] = {
        "train": {"CID": [1, 2], "SMILES": ["CC", "CO"], "caption": ["one", "two"], "xlogp": [0.1, 0.2]},
        "valid": {"CID": [3.0], "SMILES": ["CN"], "caption": ["three"], "xlogp": [0.1]},
    }
    data = load_chebi20("org/chebi", revision="v1", cache_dir=cache)
    assert hub["call"] == ("org/chebi", {"revision": "v1", "cache_dir": str(cache)})
    assert list(data) == ["train", "validation", "pool"]
    assert rows_of(data["train"]) == [("1", "CC", "one"), ("2", "CO", "two")]
    assert rows_of(data["validation"]) == [("3", "CN", "three")]


def test_a_hub_data_set_may_bring_its_pool_and_odd_names(
    hub: dict[str, Any], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub["data"] = {
        "test": {"cid": ["1"], "structure": ["CC"], "text": ["one"]},
        "extra": {"cid": ["7"], "structure": ["CCC"], "text": ["seven"]},
        "pool": {"cid": ["1", "2"], "structure": ["CC", "CO"], "split": ["test", "dev"]},
    }
    data = load_chebi20("org/chebi", column_mapping={"structure": "smiles"}, cache_dir=cache)
    assert list(data) == ["test", "pool"]
    assert rows_of(data["pool"]) == [("1", "CC", "test"), ("2", "CO", "validation")]
    assert "split 'extra' is none of train, validation, test and pool; left out" in caplog.text


def test_missing_values_of_a_hub_data_set_are_found(hub: dict[str, Any], cache: Path) -> None:
    hub["data"] = {
        "train": {
            "CID": [1.0, float("nan"), 3.0],
            "SMILES": ["CC", "CO", None],
            "description": ["one", "two", "three"],
        }
    }
    with pytest.raises(ValueError) as error:
        load_chebi20("org/chebi", cache_dir=cache)
    assert str(error.value).startswith(
        "2 rows are not usable, the first: train row 1 (id missing, org/chebi): empty or missing: id."
    )
    _, report = load_chebi20("org/chebi", cache_dir=cache, on_error="drop", return_report=True)
    assert str(report.dropped[1]) == "train row 2 (id 3, org/chebi): empty or missing: smiles."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"all": {"id": ["1"]}}, r"org/chebi has the splits \['all'\]; expected train, validation or test"),
        (
            {"val": {"id": ["1"]}, "dev": {"id": ["1"]}},
            "splits 'val' and 'dev' both mean validation",
        ),
        (
            {"train": {"id": ["1"], "smiles": ["C"], "note": ["x"]}},
            r"org/chebi has no column for 'description'.*\['id', 'smiles', 'note'\].*column_mapping",
        ),
        ({"train": {"id": [], "smiles": [], "text": []}}, "org/chebi has no rows"),
    ],
)
def test_a_hub_data_set_of_another_shape_is_refused(
    hub: dict[str, Any], cache: Path, data: dict[str, Any], message: str
) -> None:
    hub["data"] = data
    with pytest.raises(ValueError, match=message):
        load_chebi20("org/chebi", cache_dir=cache)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (DatasetNotFoundError("not on the Hub"), FileNotFoundError),
        (ConnectionError("no route"), ConnectionError),
    ],
)
def test_a_hub_failure_says_what_to_do(hub: dict[str, Any], raised: Exception, expected: type[Exception]) -> None:
    hub["data"] = raised
    with pytest.raises(expected, match="'data/chebi20' is no folder here.*Pass an existing folder, or check"):
        load_chebi20("data/chebi20")


# The authors' repository


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The authors' repository on this machine: path to content, which the test may change."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)  # the tests' own setting; this server is on loopback
    content = {
        f"/main/{split}.txt": "\n".join("\t".join(row) for row in [HEADER, *rows]).encode()
        for split, rows in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST))
    }

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            body = content.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content.get(self.path, b""))

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{httpd.server_address[1]}/{{revision}}/{{split}}.txt"
    monkeypatch.setattr(chebi20, "CHEBI20_URL", url)
    yield content
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_without_a_source_the_authors_files_are_downloaded_once(server: dict[str, bytes], cache: Path) -> None:
    data = load_chebi20(cache_dir=cache)
    assert list(data) == ["train", "validation", "test", "pool"]
    assert rows_of(data["train"]) == TRAIN
    assert rows_of(data["test"]) == TEST
    server.clear()  # from here on nothing can be fetched
    assert rows_of(load_chebi20(cache_dir=cache)["train"]) == TRAIN


def test_a_failed_download_names_the_url_and_the_way_out(server: dict[str, bytes], cache: Path) -> None:
    del server["/main/validation.txt"]
    with pytest.raises(ConnectionError, match=r"http://127.*/main/validation.txt.*load_chebi20\(folder\)"):
        load_chebi20(cache_dir=cache)
    with pytest.raises(ConnectionError, match="/v9/train.txt"):
        load_chebi20(revision="v9", cache_dir=cache)


def test_a_bad_row_of_a_download_is_located_by_url(server: dict[str, bytes], cache: Path) -> None:
    server["/main/train.txt"] += b"\n6\tC1CC(\tbroken"
    with pytest.raises(ValueError, match=r"train row 3 \(id 6, http://127.*/main/train.txt line 5\)"):
        load_chebi20(cache_dir=cache)
