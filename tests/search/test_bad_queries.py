"""Two hundred malformed queries: each has a clear error, and the index continues to answer."""

import random
import re
import time

import pytest
from bad_queries import BOMB, CASES
from conftest import C60

from class_hf import MoleculeFilter
from class_hf.search.query import MAX_SMARTS
from class_hf.search.substructure import check_smiles, first_matches

LIMIT = 1.0
FILTER_ARGUMENTS = ("min_weight", "max_weight", "elements", "substructure", "time_limit")


def ask(index, name, value):
    if name in FILTER_ARGUMENTS:
        return index.search("an ester", filters=MoleculeFilter(**{name: value}))
    return index.search(**({name: value} if name != "k" else {"text": "an ester", "k": value}))


def test_two_hundred_malformed_queries(index):
    assert len(CASES) >= 200
    before = index.search("an ester", k=3)
    for name, value in CASES:
        with pytest.raises(ValueError) as caught:
            ask(index, name, value)
        message = str(caught.value)
        # One line that names what is wrong.
        assert 10 < len(message) < 400, (name, value)
        words = (name, "queries", "symbol", "SMILES") if name != "k" else ("k is",)
        assert any(word in message for word in words), (name, value, message)
    assert index.search("an ester", k=3) == before


@pytest.mark.parametrize("queries", [{}, {"text": "an ester", "smiles": "CCO"}])
def test_exactly_one_of_text_and_molecule(index, queries):
    with pytest.raises(ValueError, match="pass either text or smiles; (neither was|both were) passed"):
        index.search(**queries)
    with pytest.raises(ValueError, match="expected a MoleculeFilter"):
        index.search("an ester", filters={"min_weight": 3})
    with pytest.raises(ValueError, match="min_weight is 5, above max_weight 4"):
        MoleculeFilter(5, 4)


def test_a_pattern_that_takes_years_is_ended_and_the_index_continues(index, qdrant_index):
    for any_index in (index, qdrant_index):
        before = any_index.search("an ester", k=3)
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            any_index.search("an ester", k=3, filters=MoleculeFilter(substructure=BOMB, time_limit=LIMIT))
        # The bound is generous, because a busy machine needs time to end a process.
        assert time.monotonic() - start < 60
        assert any_index.search("an ester", k=3) == before
        # A visitor of a page or a service cannot raise the limit.
        message = (
            r"substructure '\*1~.*' takes longer than the time limit of 1 s. Simplify it, or narrow the search by "
        )
        assert re.fullmatch(message + "other filters.", str(caught.value))


def test_a_long_smiles_has_no_filters():
    with pytest.raises(
        TimeoutError, match=r"smiles 'C{57}...' takes longer than the time limit of 0.001 s. Simplify it.$"
    ):
        check_smiles(["C" * 300], time_limit=0.001)


def test_such_a_pattern_is_slow_only_where_it_is_matched():
    assert first_matches(BOMB, ["C" * 50, "CCO"], 1, 30) == []
    with pytest.raises(TimeoutError):
        first_matches(BOMB, [C60], 1, LIMIT)


def test_nested_and_long_patterns_have_an_answer(index):
    nested = "[$(" * 100 + "CO" + ")]" * 100
    for pattern in (nested, "C" * MAX_SMARTS, "[#6,#7,#8]" * 90):
        assert len(index.search("an alcohol", k=2, filters=MoleculeFilter(substructure=pattern, time_limit=30))) <= 2


def test_a_long_smiles_is_parsed_elsewhere():
    check_smiles(["C" * 1500, "CCO"], 60)
    with pytest.raises(ValueError, match="cannot parse the SMILES 'CCC.*C1'"):
        check_smiles(["CCO", "C" * 150 + "1", "C" * 300], 60)
    with pytest.raises(ValueError, match="RDKit cannot parse"):
        check_smiles(["CCO", "C" * 300 + "1"], 60)


def test_random_bytes_are_no_harm(index):
    random.seed(0)
    for _ in range(100):
        text = "".join(chr(random.choice([*range(32, 127), *range(160, 0x3000)])) for _ in range(30))
        assert len(index.search(text, k=2)) == 2
