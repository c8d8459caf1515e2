"""Wrong pairs are found, right ones are not accused, and the estimate says how many there are."""

import numpy as np
import pytest

from class_hf import DifficultyScorer
from class_hf.difficulty.evidence import Neighbourhood, sketch_terms
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.difficulty.suspects import KINDS, draw_partners, find_suspects
from class_hf.difficulty.wrong_model import estimate_share, log_ratios, wrong_probabilities

GROUPS = {
    "O": "alcohol",
    "N": "amine",
    "C(=O)O": "carboxylic acid",
    "Cl": "chloride",
    "S": "thiol",
    "C#N": "nitrile",
    "c1ccccc1": "arene",
    "C(=O)N": "amide",
    "C=O": "aldehyde",
    "Br": "bromide",
}
COUNT = 400


def make_rows(wrong_share=0.0):
    """Chains with two groups, and captions that name both; a share of the captions is exchanged."""
    rng = np.random.default_rng(0)
    kinds = list(GROUPS.items())
    smiles, captions = [], []
    for number in range(COUNT):
        (first, a), (second, b) = kinds[number % 10], kinds[number // 10 % 10]
        length = 1 + number // 100
        smiles.append(f"C({second}){'C' * length}{first}")
        captions.append(f"The molecule is an {a} that also is an {b}, with a chain of {length} carbons.")
    wrong = rng.permutation(COUNT)[: round(wrong_share * COUNT)]
    sources = np.roll(wrong, 1)
    exchanged = list(captions)
    for row, source in zip(wrong, sources, strict=True):
        exchanged[row] = captions[source]
    rows = {"id": [f"m{i:03d}" for i in range(COUNT)], "smiles": smiles, "description": exchanged}
    return rows, np.array([exchanged[i] != captions[i] for i in range(COUNT)])


def auc(scores, labels):
    ranks = scores.argsort().argsort()
    positive = labels.sum()
    return (ranks[labels].sum() - positive * (positive - 1) / 2) / (positive * (len(labels) - positive))


@pytest.fixture(scope="module", params=[0, 1], ids=["votes", "votes and references"])
def exchanged(request):
    rows, wrong = make_rows(0.1)
    return DifficultyScorer().suspects(rows, cross_fits=request.param, reference_steps=30), rows, wrong


def test_exchanged_captions_are_the_first_suspects(exchanged):
    suspects, rows, wrong = exchanged
    assert suspects.ids == rows["id"]
    assert auc(suspects.score, wrong) > 0.95
    assert wrong[suspects.ranking[:20]].mean() > 0.7
    assert suspects.listed.tolist() == suspects.ranking.tolist()
    assert set(suspects.kinds) <= set(KINDS) and len(suspects.kinds) == COUNT


def test_the_share_of_wrong_pairs_is_estimated(exchanged):
    suspects, _, _ = exchanged
    assert suspects.share.value == pytest.approx(0.1, abs=0.08)  # 400 pairs; rounding differs between processors
    assert suspects.share.low <= suspects.share.value <= suspects.share.high
    assert suspects.wrong_probability.mean() == pytest.approx(suspects.share.value, abs=0.01)
    assert ((suspects.wrong_probability >= 0) & (suspects.wrong_probability <= 1)).all()
    assert suspects.precision_at(10) >= suspects.precision_at(100)
    assert "400 pairs are more likely wrong than right; estimated share" in str(suspects)


def test_what_fits_better_is_another_molecule_and_another_caption(exchanged):
    suspects, rows, _ = exchanged
    for column, better in (("smiles", suspects.better_molecules), ("description", suspects.better_captions)):
        for row, others in zip(suspects.listed[:50], better[:50], strict=True):
            values = [rows[column][other] for other in others]
            assert rows[column][row] not in values and len(set(values)) == 3


def test_clean_pairs_are_left_alone():
    suspects = DifficultyScorer().suspects(make_rows()[0], cross_fits=0)
    assert suspects.share.value < 0.05
    assert (suspects.wrong_probability > 0.5).mean() < 0.02


def test_the_order_of_the_rows_does_not_matter_and_the_seed_repeats(exchanged):
    rows, _ = make_rows(0.1)
    order = np.random.default_rng(3).permutation(COUNT)
    shuffled = {name: [values[i] for i in order] for name, values in rows.items()}
    first = DifficultyScorer().suspects(rows, cross_fits=0)
    second = DifficultyScorer().suspects(shuffled, cross_fits=0)
    assert (second.wrong_probability == first.wrong_probability[order]).all()
    assert [second.ids[i] for i in second.listed[:30]] == [first.ids[i] for i in first.listed[:30]]
    assert second.kinds[:30] == first.kinds[:30]


def test_partners_are_other_pairs_of_the_same_halves():
    ids = [f"m{i}" for i in range(64)]
    for cross_fits in (0, 1, 2):
        partners = draw_partners(ids, 0, cross_fits)
        assert sorted(partners.tolist()) == list(range(64)) and (partners != np.arange(64)).all()


def test_neighbours_in_a_bank_are_those_of_all_rows_when_the_bank_is_all():
    rows, _ = make_rows()
    pairs = PairFeatures(rows["id"], rows["description"], rows["smiles"])
    sketches = sketch_terms(pairs.fragments, np.ones(len(pairs.fragments.values)))
    whole = Neighbourhood.find(sketches, 8)
    bank = Neighbourhood.find(sketches, 8, np.arange(COUNT))
    np.testing.assert_allclose(bank.similarities, whole.similarities, atol=1e-6)
    some = Neighbourhood.find(sketches, 8, np.arange(0, COUNT, 2))
    assert (some.rows % 2 == 0).all() and (some.rows != np.arange(COUNT)[:, None]).all()


# The model of wrong pairs


def mixture(share, size=4000, seed=0):
    rng = np.random.default_rng(seed)
    wrong = rng.random(size) < share
    return np.where(wrong[:, None], rng.normal(2, 1, (size, 3)), rng.normal(-2, 1, (size, 3))), wrong, rng


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.4])
def test_shares_and_probabilities_of_a_known_mixture(share):
    observed, wrong, rng = mixture(share)
    ratios, known = log_ratios(observed, rng.normal(2, 1, observed.shape))
    estimate = estimate_share(ratios, known)
    assert estimate.value == pytest.approx(share, abs=0.02)
    probabilities = wrong_probabilities(ratios, estimate.value)
    assert probabilities.mean() == pytest.approx(estimate.value, abs=1e-6)
    assert ((probabilities > 0.5) == wrong).mean() > 0.98


def test_pairs_that_do_not_separate_are_not_accused():
    rng = np.random.default_rng(1)
    observed = rng.normal(-2, 1, (4000, 3))
    observed[:1600] += 0.2  # wrong pairs that look right
    ratios, known = log_ratios(observed, rng.normal(2, 1, observed.shape))
    assert (wrong_probabilities(ratios, estimate_share(ratios, known).value) > 0.5).mean() < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cross_fits": -1}, "cross_fits=-1: expected 0 to 8"), ({"rounds": 3}, "rounds=3: expected 1 to 2")],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        DifficultyScorer().suspects(make_rows()[0], **options)


def test_too_few_pairs():
    rows = {name: values[:49] for name, values in make_rows()[0].items()}
    with pytest.raises(ValueError, match="needs at least 50 pairs, got 49"):
        DifficultyScorer().suspects(rows)
    rows = {name: values[:60] for name, values in make_rows()[0].items()}
    assert len(find_suspects(PairFeatures(rows["id"], rows["description"], rows["smiles"]), cross_fits=0).ids) == 60
