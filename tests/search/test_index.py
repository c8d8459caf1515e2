"""The index equals a search over all pairs, loads after it was saved, and is the same in a folder and in Qdrant."""

import json
from collections import namedtuple

import numpy as np
import pytest
import torch
from conftest import tiny_model
from datasets import Dataset
from rdkit import Chem
from rdkit.Chem import Descriptors

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.evaluation.query_bank import bank_penalties
from class_hf.search.encoder import IndexEncoder

TEXT = "The molecule is a carboxylic acid."
FILTERS = [
    MoleculeFilter(),
    MoleculeFilter(min_weight=60, max_weight=90.5),
    MoleculeFilter(elements=["N", "H"]),
    MoleculeFilter(elements="Cl"),
    MoleculeFilter(substructure="[CX3](=O)[OX2H]"),
    MoleculeFilter(max_weight=100, elements=["O"], substructure="[CX4][OX2H]"),
    MoleculeFilter(substructure="[Na+]"),
    MoleculeFilter(substructure="[F,Cl,$([#16])]"),
    MoleculeFilter(substructure="[!#6;!#8]"),
    MoleculeFilter(min_weight=5000),
]


def brute_force(model, processor, molecules, **query):
    """(N,) cosines of one query and every molecule."""
    with torch.no_grad():
        candidates = model(**processor(smiles=molecules["smiles"][:])).molecule_embeds
        output = model(**processor(**query))
    vector = output.text_embeds if "text" in query else output.molecule_embeds
    return (candidates @ vector[0]).numpy()


def passes(smiles, filters):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    weight = Descriptors.MolWt(molecule)
    symbols = {atom.GetSymbol() for atom in molecule.GetAtoms()}
    pattern = filters.substructure and Chem.MolFromSmarts(filters.substructure)
    return (
        (filters.min_weight or 0) <= weight <= (filters.max_weight or np.inf)
        and set(filters.elements or ()) <= symbols
        and (pattern is None or Chem.MolFromSmiles(smiles).HasSubstructMatch(pattern))
    )


def shown(hits):
    return [(hit.rank, hit.id, hit.smiles, hit.fields, pytest.approx(hit.score, abs=1e-5)) for hit in hits]


def test_a_model_may_return_a_named_tuple(indexed_model, processor):
    class TupleModel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = indexed_model

        def forward(self, **batch):
            output = self.inner(**batch)
            return namedtuple("Output", output.keys())(*output.values())

    expected = IndexEncoder.open(indexed_model, processor).embed_queries("text", [TEXT])
    assert np.array_equal(IndexEncoder.open(TupleModel(), processor).embed_queries("text", [TEXT]), expected)


@pytest.mark.parametrize("query", [{"text": TEXT}, {"smiles": "CCCO"}])
def test_equals_the_cosines_of_all_pairs(index, indexed_model, processor, molecules, query):
    cosines = brute_force(indexed_model, processor, molecules, **query)
    hits = index.search(**query, k=len(molecules), query_bank=False)
    assert [hit.rank for hit in hits] == list(range(1, len(molecules) + 1))
    row_of = {one: row for row, one in enumerate(molecules["id"][:])}
    rows = [row_of[hit.id] for hit in hits]
    assert sorted(rows) == list(range(len(molecules)))
    np.testing.assert_allclose([hit.score for hit in hits], cosines[rows], atol=1e-5)
    assert all(a.score >= b.score for a, b in zip(hits, hits[1:], strict=False))
    assert index.search(**query, k=5, query_bank=False) == hits[:5]
    for hit, row in zip(hits, rows, strict=True):
        assert hit.fields == {name: molecules[row][name] for name in ("description", "number")}


def test_a_molecule_finds_itself_first_however_it_is_written(index):
    first, second = index.search(smiles="C(O)C", k=2)
    assert {first.smiles, second.smiles} == {"CCO", "OCC"}
    assert first.score == pytest.approx(1, abs=1e-5) and first.score == pytest.approx(second.score, abs=1e-6)


def test_several_queries_give_what_each_gives(index):
    texts = [TEXT, "An amine.", "A thiol."]
    for one, many in zip(texts, index.search(texts, k=4), strict=True):
        assert shown(many) == shown(index.search(one, k=4))
    molecules = ["CCO", "CCS"]
    for one, many in zip(molecules, index.search(smiles=molecules, k=4), strict=True):
        assert shown(many) == shown(index.search(smiles=one, k=4))


@pytest.mark.parametrize("filters", FILTERS)
def test_filters_give_the_first_that_pass(index, qdrant_index, filters):
    everything = index.search(TEXT, k=100)
    passing = [hit for hit in everything if passes(hit.smiles, filters)]
    assert filters.min_weight == 5000 or passing
    for k in (2, 100):
        for one in (index, qdrant_index):
            found = one.search(TEXT, k=k, filters=filters)
            assert [hit.id for hit in found] == [hit.id for hit in passing[:k]]
            assert [hit.rank for hit in found] == list(range(1, len(found) + 1))
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in passing[:k]], abs=1e-5)


def test_folder_and_qdrant_agree(index, qdrant_index):
    for query_bank in (True, False):
        found = (one.search(TEXT, k=9, query_bank=query_bank) for one in (index, qdrant_index))
        assert shown(next(found)) == shown(next(found))
    assert shown(index.search(smiles="CCN", k=9)) == shown(qdrant_index.search(smiles="CCN", k=9))
    assert shown(index.search_captions("CCN", k=9)) == shown(qdrant_index.search_captions("CCN", k=9))
    assert {**qdrant_index.config, "format": 0} == {**index.config, "format": 0}


def test_query_bank_penalties_are_subtracted_by_default(index, indexed_model, processor, molecules, pairs):
    with torch.no_grad():
        candidates = indexed_model(**processor(smiles=molecules["smiles"][:])).molecule_embeds
        bank = indexed_model(**processor(text=pairs["description"][:12])).text_embeds
    taken_off = bank_penalties(candidates, bank, scale=indexed_model.logit_scale().item())
    penalties = dict(zip(molecules["id"][:], taken_off.tolist(), strict=True))
    plain = {hit.id: hit.score for hit in index.search(TEXT, k=100, query_bank=False)}
    normalised = index.search(TEXT, k=100)
    assert normalised == index.search(TEXT, k=100, query_bank=True)
    assert [hit.score for hit in normalised] == pytest.approx(
        [plain[hit.id] - penalties[hit.id] for hit in normalised], abs=1e-5
    )
    scale = pytest.approx(indexed_model.logit_scale().item())
    assert index.config["query_bank"] == {"captions": 12, "method": "softmax", "scale": scale}
    with pytest.raises(ValueError, match="query_bank is for queries by text"):
        index.search(smiles="CCO", query_bank=True)


def test_captions_are_found_once_each(index, indexed_model, processor, molecules):
    texts = [text for text in dict.fromkeys(molecules["description"][:]) if text]
    hits = index.search_captions("CCO", k=100)
    assert sorted(hit.fields["description"] for hit in hits) == sorted(texts)
    with torch.no_grad():
        captions = indexed_model(**processor(text=texts)).text_embeds
        vector = indexed_model(**processor(smiles="CCO")).molecule_embeds[0]
    cosines = dict(zip(texts, (captions @ vector).tolist(), strict=True))
    assert [hit.score for hit in hits] == pytest.approx([cosines[hit.fields["description"]] for hit in hits], abs=1e-5)
    assert "twin" not in {hit.id for hit in hits}, "its caption is that of an earlier row"


def test_saved_model_and_loaded_index(molecules, indexed_model, processor, tmp_path):
    """An index names its model, opens without it, and finds the same as the index that was built."""
    indexed_model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    built = MoleculeIndex.build(molecules, str(tmp_path / "model"), output_dir=tmp_path / "index")
    loaded = MoleculeIndex.load(tmp_path / "index")
    assert loaded._model is None and len(loaded) == len(molecules)
    assert isinstance(loaded.store.vectors["molecule"], np.memmap)
    assert loaded.search(TEXT, k=9) == built.search(TEXT, k=9)
    assert loaded.config["model"] == str((tmp_path / "model").resolve()) and loaded.config["query_bank"] is None
    with pytest.raises(ValueError, match="the index has no query bank"):
        loaded.search(TEXT, query_bank=True)


# The refused client leaves the file of its lock to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_qdrant_in_a_folder(molecules, indexed_model, processor, tmp_path):
    pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")
    url = f"qdrant+path:{tmp_path}/db/molecules"
    with MoleculeIndex.build(molecules, indexed_model, processor, store=url) as built:
        first = built.search(TEXT, k=5)
        with pytest.raises(ValueError, match="in use by another client"):
            MoleculeIndex.load(url)
    with MoleculeIndex.load(url, indexed_model, processor) as loaded:
        assert loaded.search(TEXT, k=5) == first
    with pytest.raises(FileExistsError, match="the collection 'molecules' exists"):
        MoleculeIndex.build(molecules, indexed_model, processor, store=url)
    short = molecules.select(range(3)).remove_columns("description")
    with MoleculeIndex.build(short, indexed_model, processor, store=url, overwrite=True) as built:
        assert len(built.search(TEXT, k=5)) == 3 and built.config["captions"] == 0


@pytest.mark.parametrize(
    "url", ["qdrant+http://host", "qdrant+ftp://host/a", "qdrant+memory:", "qdrant+path:name", "qdrant+http:///a"]
)
def test_urls_that_are_none(url):
    pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")
    with pytest.raises(ValueError, match="is not a URL of Qdrant; expected 'qdrant\\+http"):
        MoleculeIndex.load(url)


def test_a_database_that_does_not_answer_or_holds_nothing():
    pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")
    with pytest.raises(ValueError, match="http://127.0.0.1:9/none' does not answer"):
        MoleculeIndex.load("qdrant+http://127.0.0.1:9/none")
    with pytest.raises(ValueError, match="there is no complete index at 'qdrant\\+memory:none'"):
        MoleculeIndex.load("qdrant+memory:none")


def test_another_model_is_refused(index_folder, processor, pairs):
    with pytest.raises(ValueError, match="is not the one that made the index"):
        MoleculeIndex.load(index_folder, tiny_model(seed=1), processor).search(TEXT)
    wider = tiny_model()
    wider.text_projection = torch.nn.Linear(16, 12)
    wider.molecule_projection = torch.nn.Linear(16, 12)
    with pytest.raises(ValueError, match="gives 12 numbers, but the index holds 8"):
        MoleculeIndex.load(index_folder, wider, processor).search(TEXT)
    with pytest.raises(ValueError, match="does not name its model"):
        MoleculeIndex.load(index_folder).search(TEXT)
    with pytest.raises(ValueError, match="the processor is not given"):
        MoleculeIndex.load(index_folder, tiny_model()).search(TEXT)


def test_a_model_in_bf16_is_the_same_model(index, index_folder, processor):
    half = MoleculeIndex.load(index_folder, tiny_model(dropout=0.0).bfloat16(), processor)
    assert [hit.id for hit in half.search(TEXT, k=3)] and half.search(TEXT, k=1)[0].score == pytest.approx(
        index.search(TEXT, k=1)[0].score, abs=0.02
    )


def test_bad_rows_stop_the_build_or_are_dropped(indexed_model, processor, tmp_path):
    table = Dataset.from_dict({"smiles": ["CCO", "C1CC(", "", None, r"C/C=C\\C", "C C"], "id": [7, 8, 9, 10, 11, 12]})
    with pytest.raises(ValueError, match=r"4 rows are not usable, the first: .*row 1 \(id 8.*'C1CC\('"):
        MoleculeIndex.build(table, indexed_model, processor, tmp_path / "index")
    assert list(tmp_path.iterdir()) == []
    index = MoleculeIndex.build(table, indexed_model, processor, tmp_path / "index", on_error="drop")
    assert index.config["dropped"]["rows"] == 4 and "C1CC(" in index.config["dropped"]["first"][0]
    assert [(hit.id, hit.smiles) for hit in index.search(smiles="CC=CC")] == [("11", r"C/C=C\C"), ("7", "CCO")]
    with pytest.raises(ValueError, match="none of the 4 molecules is usable; the first: molecules row 0"):
        MoleculeIndex.build(table.select([1, 2, 3, 5]), indexed_model, processor, tmp_path / "b", on_error="drop")
    with pytest.raises(ValueError, match="holds no captions"):
        index.search_captions("CCO")


@pytest.mark.parametrize("where", ["folder", "qdrant"])
def test_a_failed_build_leaves_nothing_behind(molecules, indexed_model, processor, tmp_path, where):
    if where == "qdrant":
        pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")

    def diverged(**inputs):
        output = type(indexed_model).forward(broken, **inputs)
        return type(output)(**{name: value * float("nan") for name, value in output.items()})

    broken = tiny_model()
    place = {"output_dir": tmp_path / "index"} if where == "folder" else {"store": "qdrant+memory:broken"}
    broken.forward = diverged
    with pytest.raises(ValueError, match="not all finite"):
        MoleculeIndex.build(molecules, broken, processor, **place)
    assert list(tmp_path.iterdir()) == []
    if where == "qdrant":
        with pytest.raises(ValueError, match="no complete index"):
            MoleculeIndex.load("qdrant+memory:broken")


def test_a_folder_that_holds_something_else_is_kept(molecules, indexed_model, processor, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError):
            MoleculeIndex.build(molecules, indexed_model, processor, tmp_path, overwrite=overwrite)
    with pytest.raises(ValueError, match="holds no index"):
        MoleculeIndex.load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_index_of_a_later_version(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps({"format": 99, "class_hf_version": "7.0"}))
    with pytest.raises(ValueError, match="format 99.*Install class_hf 7.0 or later"):
        MoleculeIndex.load(tmp_path)
