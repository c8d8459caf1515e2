"""Wrong settings and wrong pairs are named before any work."""

import sys

import pytest
from difficulty_pairs import FEW, TRAIN, make_rows, reorder

from class_hf import DifficultyScorer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"definition": "length"}, "definition 'length' is not known; expected complexity, .*package.module:Name"),
        ({"definition": "complexit"}, "'complexit' is not known; did you mean 'complexity'"),
        ({"definition": ["complexity", "complexity"]}, "each once"),
        ({"definition": []}, "expected one or several"),
        ({"combination": "sum"}, "combination is 'sum'; expected one of mean, max, product, text, molecule"),
        ({"text_weight": 1.1}, r"text_weight is 1.1; expected a number in \[0, 1\]"),
        ({"text_weight": float("nan")}, "text_weight is nan"),
        ({"neighbours": 0}, 'neighbours is 0; expected an integer of at least 1, or "all"'),
        ({"neighbours": "many"}, "neighbours is 'many'; expected an integer of at least 1"),
        ({"text_similarity": "words"}, "text_similarity is 'words'; expected one of tfidf, hashed"),
        ({"exact_up_to": -1}, "exact_up_to is -1; expected an integer of at least 0"),
        ({"reference_steps": 0}, "reference_steps is 0; expected an integer of at least 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DifficultyScorer(**arguments)


def changed(column, row, value):
    return {**TRAIN, column: [*TRAIN[column][:row], value, *TRAIN[column][row + 1 :]]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed("smiles", 17, "C1CC("), r"row 17 \(id m17\): RDKit cannot parse the SMILES 'C1CC\('"),
        (changed("description", 5, " "), r"row 5 \(id m5\): the description ' ' has no word"),
        (changed("description", 5, None), r"row 5 \(id m5\): description is None, expected text"),
        (changed("id", 5, 7), r"row 5 \(id 7\): id is 7, expected text"),
        (changed("id", 9, "m3"), r"rows 3 and 9 share the id 'm3'"),
        ({"id": [], "smiles": [], "description": []}, "data set is empty"),
        ({"CID": ["1"], "smiles": ["C"]}, "missing columns: id, description.*this one has CID, smiles"),
    ],
)
def test_wrong_training_pairs(rows, message):
    with pytest.raises(ValueError, match=message):
        DifficultyScorer(**FEW).fit(rows)


def test_errors_name_the_row_of_the_users_order():
    rows = reorder(changed("smiles", 17, "C1CC("), range(39, -1, -1))
    with pytest.raises(ValueError, match=r"row 22 \(id m17\)"):
        DifficultyScorer().fit(rows)


def test_too_few_training_pairs():
    with pytest.raises(ValueError, match="neighbours is 8; expected fewer than the 8 training pairs"):
        DifficultyScorer("confusability").fit(make_rows(0, 8))
    with pytest.raises(ValueError, match="confusability needs at least 2 training pairs, got 1"):
        DifficultyScorer("confusability", neighbours="all").fit(make_rows(0, 1))
    with pytest.raises(ValueError, match="alignment needs at least 4 training pairs, got 3"):
        DifficultyScorer("alignment").fit(make_rows(0, 3))
    assert DifficultyScorer("complexity").fit(make_rows(0, 1))(make_rows(0, 1))["difficulty"] == [0.5]


def test_a_missing_faiss_is_told_before_the_pairs_are_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        DifficultyScorer("confusability", exact_up_to=39).fit(changed("smiles", 17, "C1CC("))
    DifficultyScorer("confusability", exact_up_to=40).fit(TRAIN)
    DifficultyScorer("confusability", exact_up_to=39, neighbours="all").fit(TRAIN)


def test_a_failed_fit_leaves_the_scorer_unfitted():
    scorer = DifficultyScorer()
    with pytest.raises(ValueError):
        scorer.fit(changed("smiles", 17, "C1CC("))
    with pytest.raises(RuntimeError, match=r"not fitted: call scorer.fit\(training_pairs\)"):
        scorer(TRAIN)


def test_wrong_batches():
    scorer = DifficultyScorer("complexity").fit(TRAIN)
    with pytest.raises(ValueError, match="missing columns: description"):
        scorer({"id": ["x"], "smiles": ["C"]})
    with pytest.raises(ValueError, match=r"id x: RDKit cannot parse the SMILES 'C1CC\('"):
        scorer({"id": ["x"], "smiles": ["C1CC("], "description": ["An acid."]})
    with pytest.raises(ValueError, match="batched=True"):
        scorer({column: values[0] for column, values in TRAIN.items()})
    with pytest.raises(ValueError, match="id m4: the scorer was fitted on another caption or SMILES"):
        scorer(changed("description", 4, "Something else."))


def test_captions_of_one_molecule_can_share_its_id():
    rows = {
        "id": ["a", "a", "b", "c"],
        "smiles": ["CCO", "OCC", "CCN", "CCC"],
        "description": ["an alcohol", "ethanol, the solvent", "an amine", "an alkane"],
    }
    apart = {**rows, "id": ["a", "a2", "b", "c"]}
    scores = [DifficultyScorer("complexity").fit(table)(table) for table in (rows, apart)]
    assert scores[0] == scores[1] and scores[0]["difficulty"][0] != scores[0]["difficulty"][1]
    with pytest.raises(ValueError, match="rows 0 and 1 share the id 'a'. Only other captions of the same molecule"):
        DifficultyScorer("complexity").fit({**rows, "smiles": ["CCO", "CCS", "CCN", "CCC"]})
    with pytest.raises(ValueError, match="rows 0 and 1 share the id 'a'"):
        DifficultyScorer("complexity").fit({**rows, "description": ["an alcohol", "an alcohol", "x", "y"]})
    # Another caption of a molecule with several is a new pair.
    new = {"id": ["a"], "smiles": ["CCO"], "description": ["drinking alcohol"]}
    assert len(DifficultyScorer("complexity").fit(rows)(new)["difficulty"]) == 1
