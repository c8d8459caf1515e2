"""A filtered search returns k hits whenever k molecules match, on each store, and each of them matches."""

import operator
import random

import pytest
from rdkit import Chem
from rdkit.Chem.Descriptors import MolWt

from class_hf import MoleculeFilter, MoleculeIndex

COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
CONDITIONS = [
    "number < 20",
    "number != 3 and number < 15",
    "number >= 7.5",
    "number > 2 and number <= 9",
    "number = 4",
]
QUERY = "The molecule is a carboxylic acid."


@pytest.fixture(scope="module")
def index_with_codes(molecules, indexed_model, processor, tmp_path_factory):
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    folder = tmp_path_factory.mktemp("codes") / "index"
    return MoleculeIndex.build(molecules, indexed_model, processor, folder, exact_up_to=3)


@pytest.fixture(scope="module")
def lance_index(molecules, indexed_model, processor, tmp_path_factory):
    pytest.importorskip("lancedb", reason="needs the extra `lance`")
    store = f"lance:{tmp_path_factory.mktemp('lance') / 'index'}"
    return MoleculeIndex.build(molecules, indexed_model, processor, store=store, exact_up_to=3)


@pytest.fixture(scope="module")
def postgres_index(molecules, indexed_model, processor, postgres_server):
    store = postgres_server.location("filtered")
    with MoleculeIndex.build(molecules, indexed_model, processor, store=store, exact_up_to=3) as index:
        yield index


def matches(row, filters):
    """Whether a row matches, computed by RDKit and Python alone."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(row["smiles"]))
    elements = {atom.GetSymbol() for atom in molecule.GetAtoms()}
    weight = MolWt(molecule)
    return (
        (filters.min_weight is None or weight >= filters.min_weight)
        and (filters.max_weight is None or weight <= filters.max_weight)
        and set(filters.elements or ()) <= elements
        and all(COMPARISONS[condition.operator](row["number"], condition.value) for condition in filters.conditions)
    )


def random_filter(generator):
    choose = generator.random
    return MoleculeFilter(
        min_weight=generator.uniform(10, 110) if choose() < 0.5 else None,
        max_weight=generator.uniform(110, 160) if choose() < 0.5 else None,
        elements=generator.choice(["O", "N", "S", "C,O", "Cl"]) if choose() < 0.5 else None,
        where=generator.choice(CONDITIONS) if choose() < 0.5 else None,
    )


@pytest.mark.parametrize("name", ["index", "index_with_codes", "qdrant_index", "lance_index", "postgres_index"])
def test_k_hits_whenever_k_match(name, request, molecules):
    index, generator = request.getfixturevalue(name), random.Random(0)
    rows = list(molecules)
    for _ in range(40):
        filters, k = random_filter(generator), generator.randint(1, 12)
        expected = {row["id"] for row in rows if matches(row, filters)}
        found = [hit.id for hit in index.search(QUERY, k=k, filters=filters, query_bank=False)]
        assert len(found) == min(k, len(expected)) and len(set(found)) == len(found), (filters, k)
        assert set(found) <= expected, filters


@pytest.mark.parametrize("name", ["lance_index", "postgres_index"])
@pytest.mark.parametrize(("pattern", "k"), [("[OX2H]", 1), ("[OX2H]", 12), ("[SX2H]", 7), ("Cl", 2)])
def test_a_substructure_is_found_with_an_approximate_search(name, pattern, k, request, molecules, index):
    filters = MoleculeFilter(substructure=pattern, where="number < 27")
    found = request.getfixturevalue(name).search(QUERY, k=k, filters=filters, query_bank=False)
    expected = index.search(QUERY, k=k, filters=filters, query_bank=False)
    assert len(found) == len(expected) > 0
    wanted = Chem.MolFromSmarts(pattern)
    assert all(Chem.MolFromSmiles(hit.smiles).HasSubstructMatch(wanted) for hit in found)
