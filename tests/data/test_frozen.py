import datasets
import pytest
import torch
from conftest import rows_of_pairs, tiny_model

from class_hf import (
    CurriculumTrainer,
    CurriculumTrainingArguments,
    RetrievalEvaluator,
    TextMoleculeCollator,
    cache_frozen,
    prepare_pairs,
)

SIDES = ("text", "molecule")


@pytest.fixture
def stored(tmp_path, processor):
    """Prepared pairs on disk, with every fourth caption and molecule repeated; nothing in memory is ever cached."""
    rows = rows_of_pairs(24)
    for name in ("smiles", "description"):
        rows[name] = [rows[name][index - index % 4] if index % 4 == 1 else rows[name][index] for index in range(24)]
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "pairs")
    return prepare_pairs(datasets.load_from_disk(tmp_path / "pairs"), processor)


def counted(model, side):
    """Counts the rows that go through a tower."""
    rows = []
    tower = model.text_model if side == "text" else model.molecule_model
    tower.register_forward_hook(lambda *values: rows.append(len(values[-1].pooler_output)))
    return rows


@pytest.mark.parametrize("side", SIDES)
def test_each_input_is_encoded_exactly_once(stored, processor, side):
    model = tiny_model(**{f"freeze_{side}": True})
    rows = counted(model, side)
    cached = cache_frozen(stored, model, processor, side, batch_size=5)
    assert sum(rows) == len(set(stored[f"{side}_key"])) == 18
    again = cache_frozen(stored, model, processor, side, batch_size=5)
    assert sum(rows) == 18  # from disk
    assert again[f"{side}_pooled"][:] == cached[f"{side}_pooled"][:]
    assert cached.column_names == [*stored.column_names, f"{side}_pooled"]
    batch = TextMoleculeCollator(processor)(cached.select(range(8)))
    model(**{name: value for name, value in batch.items() if name != "pair_keys"})
    RetrievalEvaluator(cached, processor=processor, bootstrap_samples=0)(model)
    assert sum(rows) == 18  # neither in training nor in evaluation


@pytest.mark.parametrize("side", SIDES)
def test_cached_equals_plain(stored, processor, side):
    model = tiny_model(**{f"freeze_{side}": True}).train()
    cached = cache_frozen(stored, model, processor, side, batch_size=5)
    assert model.training
    collator = TextMoleculeCollator(processor)
    outputs = []
    for rows in (stored, cached):
        torch.manual_seed(0)
        outputs.append(model(**{k: v for k, v in collator(rows.select(range(24))).items() if k != "pair_keys"}))
    # The other tower has its dropout, so only this side compares.
    one, other = (output[f"{side}_embeds"] for output in outputs)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    evaluators = [RetrievalEvaluator(rows, processor=processor, bootstrap_samples=0) for rows in (stored, cached)]
    first, second = (evaluator(model)["pools"] for evaluator in evaluators)
    assert first == second


@pytest.mark.parametrize("changed", ("weights", "content"))
def test_cache_is_rebuilt_when_weights_or_content_change(stored, processor, changed):
    model = tiny_model(freeze_text=True)
    before = cache_frozen(stored, model, processor, "text")
    rows = counted(model, "text")
    if changed == "weights":
        with torch.no_grad():
            model.text_model.encoder.dense_out.bias[0] += 1e-3
    else:
        stored = stored.select(range(12))
    after = cache_frozen(stored, model, processor, "text")
    assert sum(rows) == len(set(stored["text_key"]))
    assert (after["text_pooled"][0] == before["text_pooled"][0]) == (changed == "content")


def test_learning_tower_is_refused(stored, processor):
    with pytest.raises(ValueError, match="the text tower is not frozen"):
        cache_frozen(stored, tiny_model(), processor, "text")


def test_dropping_sentences_of_cached_captions_is_refused(stored, processor):
    cached = cache_frozen(stored, tiny_model(freeze_text=True), processor, "text")
    with pytest.raises(ValueError, match="sentence_dropout is 0.3"):
        TextMoleculeCollator(processor, sentence_dropout=0.3)([cached[0]])


def test_training_on_cached_rows_equals_training_on_plain_ones(stored, processor, tmp_path):
    weights = []
    for name in ("plain", "cached"):
        model = tiny_model(dropout=0.0, freeze_text=True)
        rows = stored if name == "plain" else cache_frozen(stored, model, processor, "text")
        args = CurriculumTrainingArguments(
            tmp_path / name, per_device_train_batch_size=8, num_train_epochs=2, learning_rate=1e-2, disable_tqdm=True
        )
        CurriculumTrainer(model, args, TextMoleculeCollator(processor), rows, processing_class=processor).train()
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-5, rtol=1e-4)
