"""Scores of pairs: what they are, and what they do not depend on."""

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, load_from_disk
from datasets.fingerprint import Hasher
from difficulty_pairs import COLUMNS, DEFINITIONS, FEW, NEW, TRAIN, make_rows, reorder

from class_hf import DifficultyScorer, score_dataset
from class_hf.difficulty.confusability import Confusability
from class_hf.difficulty.pair_features import PairFeatures

# Python 3.12 warns of every fork of a process that has threads; `Dataset.map` forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def scorer():
    return DifficultyScorer(DEFINITIONS, **FEW).fit(TRAIN)


@pytest.fixture
def on_disk(tmp_path):
    Dataset.from_dict(TRAIN).save_to_disk(tmp_path / "train")
    return load_from_disk(tmp_path / "train")


# What the scores are


@pytest.mark.parametrize("definition", [*DEFINITIONS, DEFINITIONS])
def test_scores_are_ranks_in_the_unit_interval(definition):
    scored = DifficultyScorer(definition, **FEW).fit(TRAIN)(TRAIN)
    assert tuple(scored) == COLUMNS
    for values in scored.values():
        assert all(isinstance(value, float) and 0 < value < 1 for value in values)
        assert np.mean(values) == pytest.approx(0.5)


def test_ranks_follow_the_raw_scores_of_the_definition():
    scorer = DifficultyScorer("confusability", neighbours=3).fit(TRAIN)
    pairs = PairFeatures(TRAIN["id"], TRAIN["description"], TRAIN["smiles"])
    _, raw = Confusability.fit(pairs, 3)
    scored = scorer(TRAIN)
    for column, score in enumerate(COLUMNS[:2]):
        values = raw[:, column]
        expected = [(sum(values < v) + sum(values == v) / 2) / 40 for v in values]
        assert scored[score] == expected
    by_name = scorer.raw_scores(TRAIN)
    assert list(by_name) == ["text_confusability", "molecule_confusability"]
    assert by_name["molecule_confusability"] == raw[:, 1].tolist()


def test_several_definitions_are_averaged_in_rank_space():
    both = DifficultyScorer(["complexity", "confusability"], **FEW).fit(TRAIN)(TRAIN)
    parts = [DifficultyScorer(name, **FEW).fit(TRAIN)(TRAIN) for name in ("complexity", "confusability")]
    for score in COLUMNS[:2]:
        means = np.mean([part[score] for part in parts], axis=0)
        expected = [(sum(means < m) + sum(means == m) / 2) / 40 for m in means]
        assert both[score] == expected


@pytest.mark.parametrize(
    ("combination", "weight", "combine"),
    [
        ("mean", 0.5, lambda t, m: (t + m) / 2),
        ("mean", 0.8, lambda t, m: 0.8 * t + (1 - 0.8) * m),
        ("max", 0.5, np.maximum),
        ("product", 0.5, np.multiply),
        ("text", 0.5, lambda t, m: t),
        ("molecule", 0.5, lambda t, m: m),
    ],
)
def test_combinations_order_pairs_as_they_say(combination, weight, combine):
    scorer = DifficultyScorer(combination=combination, text_weight=weight, **FEW).fit(TRAIN)
    scored = {score: np.array(values) for score, values in scorer(TRAIN).items()}
    combined = combine(scored["text_difficulty"], scored["molecule_difficulty"])
    expected = [(sum(combined < c) + sum(combined == c) / 2) / 40 for c in combined]
    assert scored["difficulty"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("weight", "alone"), [(1.0, "text"), (0.0, "molecule")])
def test_extreme_weights_are_one_modality(weight, alone):
    weighted = DifficultyScorer(text_weight=weight, **FEW).fit(TRAIN)(TRAIN)
    assert weighted["difficulty"] == weighted[f"{alone}_difficulty"]


def test_equal_pairs_get_equal_scores():
    rows = {column: [*values, values[0]] for column, values in TRAIN.items()}
    rows["id"][-1] = "again"
    scored = DifficultyScorer(["confusability", "complexity"], **FEW).fit(rows)(rows)
    for values in scored.values():
        assert values[0] == values[-1]


def test_new_rows_are_ranked_among_the_training_pairs():
    scorer = DifficultyScorer("confusability", neighbours=3).fit(TRAIN)
    raw, new = (np.array(scorer.raw_scores(rows)["text_confusability"]) for rows in (TRAIN, NEW))
    expected = [(sum(raw < v) + sum(raw == v) / 2) / 40 for v in new]
    assert scorer(NEW)["text_difficulty"] == expected


def test_a_training_pair_is_no_neighbour_of_itself_but_its_copy_under_a_new_id_is_one():
    scorer = DifficultyScorer("confusability", neighbours=1).fit(TRAIN)
    row = {column: values[:1] for column, values in TRAIN.items()}
    own = scorer.raw_scores(row)["molecule_confusability"]
    copy = scorer.raw_scores({**row, "id": ["copy"]})["molecule_confusability"]
    assert own[0] < copy[0] == 1.0


# What they do not depend on


def test_order_of_rows_changes_neither_scores_nor_state(scorer):
    order = np.random.default_rng(0).permutation(40).tolist()
    shuffled = DifficultyScorer(DEFINITIONS, **FEW).fit(reorder(TRAIN, order))
    assert Hasher.hash(shuffled) == Hasher.hash(scorer)
    assert shuffled(TRAIN) == scorer(TRAIN)
    again = scorer(reorder(TRAIN, order))
    assert again == {score: [values[i] for i in order] for score, values in scorer(TRAIN).items()}


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_change_scores(scorer, batch_size):
    mixed = {column: TRAIN[column][:15] + NEW[column] for column in TRAIN}
    whole = scorer(mixed)
    mapped = Dataset.from_dict(mixed).map(scorer, batched=True, batch_size=batch_size)
    assert {score: mapped[score][:] for score in COLUMNS} == whole


def test_number_of_processes_does_not_change_scores(scorer):
    mixed = {column: TRAIN[column][:15] + NEW[column] for column in TRAIN}
    mapped = score_dataset(Dataset.from_dict(mixed), scorer, num_proc=2)
    assert {score: mapped[score][:] for score in COLUMNS} == scorer(mixed)


@pytest.mark.parametrize(
    "options",
    [
        {"neighbours": "all"},
        {"neighbours": 3, "text_similarity": "hashed"},
        {"neighbours": 3, "exact_up_to": 0},
        {"neighbours": 3, "exact_up_to": 0, "text_similarity": "hashed"},
    ],
    ids=str,
)
def test_other_ways_to_be_confusable_depend_on_none_of_these(options):
    if "exact_up_to" in options:
        pytest.importorskip("faiss", reason="needs the extra `faiss`")
    scorer = DifficultyScorer("confusability", **options).fit(TRAIN)
    before = Hasher.hash(scorer)
    mixed = {column: TRAIN[column][:15] + NEW[column] for column in TRAIN}
    whole = scorer(mixed)
    order = np.random.default_rng(0).permutation(40).tolist()
    assert Hasher.hash(DifficultyScorer("confusability", **options).fit(reorder(TRAIN, order))) == before
    for settings in ({"batch_size": 1}, {"batch_size": 7}, {"num_proc": 2}):
        mapped = Dataset.from_dict(mixed).map(scorer, batched=True, **settings)
        assert {score: mapped[score][:] for score in COLUMNS} == whole
    assert pickle.loads(pickle.dumps(scorer))(mixed) == whole
    assert Hasher.hash(scorer) == before


def test_scoring_leaves_the_scorer_as_it_was(scorer):
    before = Hasher.hash(scorer)
    scorer(NEW)
    scorer.raw_scores(TRAIN)
    assert Hasher.hash(scorer) == before


def test_pickling_keeps_scores_and_hash(scorer):
    copy = pickle.loads(pickle.dumps(scorer))
    assert copy(NEW) == scorer(NEW)
    assert Hasher.hash(copy) == Hasher.hash(scorer)


def test_mapping_again_comes_from_the_cache(on_disk, monkeypatch):
    first = score_dataset(on_disk, **FEW)
    assert first.cache_files

    def refuse(self, batch):
        raise AssertionError("scored again")

    monkeypatch.setattr(DifficultyScorer, "__call__", refuse)
    second = score_dataset(on_disk, **FEW)
    pickled = pickle.loads(pickle.dumps(DifficultyScorer(**FEW).fit(on_disk)))
    third = score_dataset(on_disk, pickled)
    assert first.cache_files == second.cache_files == third.cache_files
    with pytest.raises(AssertionError, match="scored again"):
        score_dataset(on_disk, **FEW, text_weight=0.25)


def test_hash_and_scores_are_the_same_in_another_python(tmp_path):
    Dataset.from_dict(TRAIN).save_to_disk(tmp_path / "train")
    code = """
        import sys
        from datasets import load_from_disk
        from datasets.fingerprint import Hasher
        from class_hf import DifficultyScorer
        scorer = DifficultyScorer(["confusability", "complexity"], neighbours=3)
        print(Hasher.hash(scorer.fit(load_from_disk(sys.argv[1]))))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "train")]
    environment = {**os.environ, "PYTHONHASHSEED": "1234"}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    here = DifficultyScorer(["confusability", "complexity"], neighbours=3).fit(TRAIN)
    assert out.strip() == Hasher.hash(here)


# score_dataset


def test_score_dataset_adds_three_float_columns(on_disk):
    scored = score_dataset(on_disk, definition="complexity")
    assert scored.column_names == ["id", "smiles", "description", *COLUMNS]
    assert {scored.features[score].dtype for score in COLUMNS} == {"float64"}
    assert scored.num_rows == 40


def test_score_dataset_fits_a_scorer_that_is_not_fitted_and_uses_one_that_is(on_disk):
    scorer = DifficultyScorer(**FEW)
    assert not scorer.is_fitted
    score_dataset(on_disk, scorer)
    assert scorer.is_fitted
    scored = score_dataset(Dataset.from_dict(NEW), scorer)
    assert scored["difficulty"][:] == scorer(NEW)["difficulty"]


def test_score_dataset_takes_a_scorer_or_its_arguments(on_disk):
    with pytest.raises(ValueError, match=r"either a scorer or its arguments \(neighbours\)"):
        score_dataset(on_disk, DifficultyScorer(), neighbours=3)


# Definitions of the user's own


USERS_MODULE = """
import numpy as np
class Length:
    @classmethod
    def fit(cls, pairs):
        return cls(), cls().score(pairs)
    def score(self, pairs):
        return np.stack([[len(text.split()) for text in pairs.descriptions], pairs.sizes[:, 0]], axis=1)
class WrongShape(Length):
    def score(self, pairs):
        return np.zeros(len(pairs))
class NotFinite(Length):
    def score(self, pairs):
        return np.where(np.array(pairs.ids) == "m3", np.nan, 1.0)[:, None].repeat(2, axis=1)
class NoTuple(Length):
    @classmethod
    def fit(cls, pairs):
        return cls()
class NoScore:
    @classmethod
    def fit(cls, pairs): ...
"""


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    (tmp_path / "users_definitions.py").write_text(USERS_MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_definition_of_the_users_own_scores_like_the_packages(users_module):
    scorer = DifficultyScorer("users_definitions:Length").fit(TRAIN)
    raw = scorer.raw_scores({column: TRAIN[column][:2] + NEW[column][:2] for column in TRAIN})
    rows = [*range(2), *range(40, 42)]
    every = make_rows(0, 53)
    assert raw["text_Length"] == [float(len(every["description"][row].split())) for row in rows]
    assert set(raw) == {"text_Length", "molecule_Length"}
    assert np.mean(scorer(TRAIN)["text_difficulty"]) == pytest.approx(0.5)
    assert pickle.loads(pickle.dumps(scorer))(NEW) == scorer(NEW)
    mapped = Dataset.from_dict(NEW).map(scorer, batched=True)
    assert mapped["difficulty"][:] == scorer(NEW)["difficulty"]
    assert DifficultyScorer(["users_definitions:Length", "complexity"]).fit(TRAIN).is_fitted


def test_scores_in_the_cache_depend_on_the_code_of_a_definition(users_module):
    """`datasets` keeps the result of `map` under a hash of the scorer, in which a class is only a name."""
    definition = ["users_definitions:Length", "complexity"]
    before, same = (Hasher.hash(DifficultyScorer(definition).fit(TRAIN)) for _ in range(2))
    file = Path(sys.modules["users_definitions"].__file__)
    file.write_text(file.read_text() + "# another way to count\n")
    assert before == same != Hasher.hash(DifficultyScorer(definition).fit(TRAIN))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WrongShape", r"WrongShape: the raw scores of 40 pairs have shape \(40,\), expected \(40, 2\)"),
        ("NotFinite", r"row 3 \(id m3\): the definition users_definitions:NotFinite gave the text score nan"),
        ("NoTuple", "fit returned NoTuple, expected the fitted definition and its"),
        ("NoScore", "no difficulty definition: it has no method 'score'"),
        ("Lenght", "has no 'Lenght'; did you mean 'Length'"),
    ],
)
def test_mistakes_in_a_definition_of_the_users_own(users_module, name, message):
    with pytest.raises(ValueError, match=message):
        DifficultyScorer(f"users_definitions:{name}").fit(TRAIN)


def test_an_empty_batch_gives_empty_scores(scorer):
    assert scorer({"id": [], "smiles": [], "description": []}) == {score: [] for score in COLUMNS}
