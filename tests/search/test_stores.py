"""Every store: changes equal a rebuild, filters give k hits whenever k match, a killed change leaves old or new.

CLASS_HF_LONG_TESTS=1 kills a change at 10 moments in place of 1.
"""

import itertools
import os
import random
import time
from typing import Any, NamedTuple

import numpy as np
import pytest
from datasets import concatenate_datasets, load_from_disk
from run_forked import Forked

from class_hf import MoleculeFilter, MoleculeIndex

TEXT = "The molecule is a carboxylic acid."
STORES = ["qdrant", "lance", "postgres"]
MOMENTS = 10 if os.environ.get("CLASS_HF_LONG_TESTS") else 1


# The server outlives the fixture, which is made again if tests of other files come in between.
_numbers = itertools.count()


@pytest.fixture(scope="module")
def new_location(tmp_path_factory, request):
    """Gives a new location in a store by the name of the store."""

    def location(name):
        if name == "postgres":
            return request.getfixturevalue("postgres_server").location(f"tiny_{next(_numbers)}")
        folder = tmp_path_factory.mktemp("store")
        if name == "qdrant":
            pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")
            return f"qdrant+path:{folder}/tiny"
        if name == "lance":
            pytest.importorskip("lancedb", reason="needs the extra `lance`")
            return f"lance:{folder}/tiny"
        raise AssertionError(name)

    return location


@pytest.fixture(scope="module")
def bank(pairs):
    return pairs["description"][:12]


@pytest.fixture(scope="module")
def table(molecules):
    """The molecules with columns of each kind, with odd names and values."""
    return (
        molecules.add_column("logS", [None if row % 7 == 3 else row / 10 - 1.5 for row in range(len(molecules))])
        .add_column("vendor name", [f'"{row % 3}" o\'x' if row % 5 else None for row in range(len(molecules))])
        .add_column("is_stocked", [row % 2 == 0 for row in range(len(molecules))])
        .add_column("weight", [row % 4 for row in range(len(molecules))])
        .add_column("tags", [["a", "b"][: row % 3] for row in range(len(molecules))])
    )


FILTERS = [
    None,
    MoleculeFilter(elements="O", min_weight=40),
    MoleculeFilter(max_weight=90.5, where="number > 2 and logS < 0.3"),
    MoleculeFilter(where="`vendor name` = \"'1' o'x\""),
    MoleculeFilter(where='`vendor name` != "x" and is_stocked = true and weight >= 2'),
    MoleculeFilter(substructure="CO", where="number > 2"),
    MoleculeFilter(substructure="[OX2H]", elements="N"),
]


class Answers(NamedTuple):
    """What searches with many settings find, and the scores."""

    hits: list
    scores: list
    molecules: int
    captions: int


def answers(index):
    searches = [index.search(TEXT, k=50, filters=filters) for filters in FILTERS]
    searches += [index.search(TEXT, k=50, filters=filters, query_bank=False) for filters in FILTERS[:3]]
    searches += [index.search(smiles="CCO", k=50), index.search_captions("CCO", k=50)]
    scores = [hit.score for hits in searches for hit in hits]
    hits = [[(hit.id, hit.smiles, hit.fields) for hit in hits] for hits in searches]
    return Answers(hits, scores, len(index), index.config["captions"])


class Stage(NamedTuple):
    """A table after some changes, and what a folder that is built from it finds."""

    table: Any
    expected: Answers


@pytest.fixture(scope="module")
def changed(table):
    """Three molecules with other structures and captions."""
    return table.select([3, 27, 11]).map(
        lambda row: {"smiles": row["smiles"] + "C", "description": f"A new caption of {row['id']}.", "number": -1}
    )


@pytest.fixture(scope="module")
def stages(table, changed, indexed_model, processor, bank, tmp_path_factory):
    """The tables of the changes below."""
    rows = [table.select([row]) for row in range(28)]
    for place, row in zip((3, 27, 11), range(3), strict=True):
        rows[place] = changed.select([row])
    updated = concatenate_datasets(rows)
    kept = updated.filter(lambda row: row["id"] not in ("m01", "salt", "m03"))
    tables = {
        "first": table.select(range(10)),
        "added": table,
        "updated": updated,
        "deleted": kept,
        "again": concatenate_datasets([kept, table.select([1])]),
    }
    built = {}
    for name, rows in tables.items():
        folder = tmp_path_factory.mktemp("stages") / name
        index = MoleculeIndex.build(rows, indexed_model, processor, store=str(folder), query_bank=bank)
        built[name] = Stage(rows, answers(index))
    return built


def in_groups(hits, scores):
    """The hits, those of nearly equal scores by their ids: batches of other sizes round scores differently."""
    assert len(hits) == len(scores)
    groups = np.cumsum([0, *(-np.diff(scores) > 1e-6)])
    return sorted(zip(groups.tolist(), hits, strict=False), key=lambda pair: (pair[0], pair[1][0]))


def assert_same(index, expected):
    found = answers(index)
    assert found.scores == pytest.approx(expected.scores, abs=1e-6)
    start = 0
    for hits, expected_hits in zip(found.hits, expected.hits, strict=True):
        scores = expected.scores[start : start + len(expected_hits)]
        assert in_groups(hits, scores) == in_groups(expected_hits, scores)
        start += len(expected_hits)
    assert found[2:] == expected[2:] and index.store.count() == expected.molecules


@pytest.mark.parametrize("name", STORES)
def test_changes_equal_a_rebuild(name, table, changed, stages, indexed_model, processor, bank, new_location):
    arguments, location = (indexed_model, processor), new_location(name)
    index = MoleculeIndex.build(stages["first"].table, *arguments, store=location, query_bank=bank)
    assert_same(index, stages["first"].expected)
    index.add(table.select(range(10, 28)))
    assert_same(index, stages["added"].expected)
    index.update(changed)
    assert_same(index, stages["updated"].expected)
    index.delete(["m01", "salt", "m03"])  # m01 has a caption that another molecule has too
    assert_same(index, stages["deleted"].expected)
    index.close()
    with MoleculeIndex.load(location, *arguments) as loaded:
        loaded.add(table.select([1]))
        assert_same(loaded, stages["again"].expected)
        for change, rows, message in (
            (loaded.add, table.select([1]), "'m01' is already in the index; update them"),
            (loaded.update, table.select([3]), "'m03' is not in the index; add them"),
            (loaded.delete, ["m03"], "'m03' is not in the index"),
        ):
            with pytest.raises(ValueError, match=message):
                change(rows)


@pytest.mark.parametrize("name", STORES)
def test_an_index_is_replaced_only_with_overwrite(name, table, indexed_model, processor, new_location):
    location = new_location(name)
    MoleculeIndex.build(table.select(range(5)), indexed_model, processor, store=location).close()
    with pytest.raises(FileExistsError, match="--overwrite"):
        MoleculeIndex.build(table, indexed_model, processor, store=location)
    with MoleculeIndex.load(location, indexed_model, processor) as index:
        assert len(index.search(TEXT, k=50)) == index.store.count() == 5
    with MoleculeIndex.build(table, indexed_model, processor, store=location, overwrite=True) as index:
        assert len(index.search(TEXT, k=50)) == index.store.count() == 28


def test_a_new_index_in_lancedb_keeps_no_earlier_versions(table, indexed_model, processor, new_location):
    location = new_location("lance")
    for overwrite in (False, True):
        with MoleculeIndex.build(table, indexed_model, processor, store=location, overwrite=overwrite) as index:
            versions = [version["version"] for version in index.store._tables["molecules"].list_versions()]
            # One that is replaced stays for programs that have it open.
            assert (len(versions) > 1) == overwrite and max(versions) == index.store._versions["molecules"]


def change(location, model, more):
    """The changes of a process that is killed."""
    index = MoleculeIndex.load(location, model)
    index.encoder()
    print("ready")
    index.add(load_from_disk(more))
    print("added")
    index.delete(["m01"])
    print("deleted")


@pytest.fixture(scope="module")
def states(table, saved_model, tmp_path_factory):
    """What is found before the killed change, after its first step and after its last, by the number of molecules."""
    found = {}
    for count, rows in ((20, range(20)), (28, range(28)), (27, [row for row in range(28) if row != 1])):
        folder = tmp_path_factory.mktemp("states") / "index"
        found[count] = ids(MoleculeIndex.build(table.select(rows), str(saved_model), output_dir=folder))
    return found


def ids(index):
    searches = [index.search(TEXT, k=50, filters=filters) for filters in FILTERS[:-2]]
    return [[hit.id for hit in hits] for hits in [*searches, index.search_captions("CCO", k=50)]]


@pytest.mark.parametrize("name", STORES)
def test_a_killed_change_leaves_the_old_or_the_new_index(name, table, states, saved_model, new_location, tmp_path):
    model = str(saved_model)
    table.select(range(20, 28)).save_to_disk(str(tmp_path / "more"))

    def started():
        location = new_location(name)
        MoleculeIndex.build(table.select(range(20)), model, store=location).close()
        process = Forked(change, location, model, str(tmp_path / "more"))
        process.wait_for("ready")
        return location, process

    seconds = 0.3
    if MOMENTS > 1:  # the moments cover a change, on a slow machine too
        _, process = started()
        began = time.monotonic()
        process.wait_for("deleted")
        seconds = time.monotonic() - began
        process.end()
    generator = random.Random(0)
    for _ in range(MOMENTS):
        location, process = started()
        time.sleep(generator.uniform(0, seconds))
        process.kill()
        process.end()
        with MoleculeIndex.load(location, model) as index:
            assert index.store.count() == len(index)
            assert ids(index) == states[len(index)]
            print(f"{name}: {len(index)} molecules after a kill")
            index.delete(["m02"])  # cleans up
            assert index.store.count() == len(index)
            assert len(index.search(TEXT, k=50)) == len(index)
