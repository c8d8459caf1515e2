"""Training sets of any kind train alike, and what a trainer is made with has an effect or is refused."""

import json
from types import SimpleNamespace

import datasets
import pytest
import torch
from conftest import tiny_model
from trainer_parts import arguments, make  # noqa: F401

from class_hf import (
    CurriculumPlan,
    CurriculumTrainer,
    Encoder,
    IntensitySchedule,
    LexicalConfig,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeFusedConfig,
    MoleculeFusedFeatureExtractor,
    RetrievalEvaluator,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_molecules,
    prepare_pairs,
)
from class_hf.curriculum.settings import PlanSettings
from class_hf.evaluation.embedding import _distinct
from class_hf.hub.matching import check_parts
from class_hf.training.passed_parts import check_precision
from class_hf.training.streams import PlannedStream

# ruff: noqa: F811 (fixtures)


SMALL = {"text_kwargs": {"num_buckets": 8}, "molecule_kwargs": {"num_buckets": 8}}


class TorchRows(torch.utils.data.Dataset):
    """Map-style: a length and rows, and no names of columns."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        if row >= len(self.rows):
            raise RuntimeError("iterated past the end")
        return self.rows[row]


def test_a_torch_data_set_has_the_plan_of_its_rows(make, prepared):
    marked = prepared.add_column("wrong_probability", [row / 24 for row in range(24)])
    for kwargs in ({}, {"curriculum_order": "random", "curriculum_end": "0.5"}):
        plans = [make(rows, **kwargs).plan for rows in (marked, TorchRows(marked), list(marked))]
        assert len({plan.fingerprint() for plan in plans}) == 1
    assert sorted(plans[1].left_out) == list(range(12, 24))


@pytest.mark.parametrize("kind", ("numpy", "torch", "pandas"))
def test_formats_cut_no_features(make, prepared, processor, kind):
    formatted = prepared.with_format(kind)
    trainer = make(formatted)
    assert trainer.train_dataset[0] == prepared[0]
    assert trainer.evaluate(formatted)["eval_mrr"] == trainer.evaluate(prepared)["eval_mrr"]


def test_rows_in_the_format_of_numpy_are_not_collated(prepared, processor):
    rows = prepared.with_format("numpy")
    with pytest.raises(ValueError, match="cuts zero bytes"):
        TextMoleculeCollator(processor)([rows[0], rows[1]])


def test_rows_of_another_processor_are_refused(make, pairs, processor):
    other = TextMoleculeProcessor(LexicalTokenizer(num_buckets=512), MoleculeFingerprintFeatureExtractor(radius=2))
    with pytest.raises(
        ValueError, match="training pairs were prepared by another processor: row .* molecule_features"
    ):
        make(prepare_pairs(pairs, other))
    trainer = make()
    with pytest.raises(ValueError, match="the pairs were prepared by another processor"):
        trainer.evaluate(prepare_pairs(pairs, other))


def test_prepared_rows_need_a_collator(prepared, tmp_path):
    with pytest.raises(ValueError, match="nothing can collate it. Pass processing_class="):
        CurriculumTrainer(model=tiny_model(), args=arguments(tmp_path), train_dataset=prepared)


def test_suspect_weights_without_weights(make, prepared):
    with pytest.raises(ValueError, match="suspect_weights is set, but the batches have no pair_weights. Add the col"):
        make(suspect_weights=True).train()


def test_a_rate_of_the_text_tower_and_an_optimizer_of_ones_own(make):
    model = tiny_model(dropout=0.0)
    given = {"model": model, "optimizers": (torch.optim.SGD(model.parameters(), lr=0.1), None)}
    with pytest.raises(ValueError, match="text_learning_rate is 0.5, which has no effect on an optimizer of your own"):
        make(given=given, text_learning_rate=0.5)


def test_what_a_plan_and_an_intensity_replace(make, caplog):
    schedule = IntensitySchedule("constant", actions=["focus"])
    with pytest.raises(ValueError, match="intensity_actions is .*made with intensity=, which replaces it"):
        make(given={"intensity": schedule}, intensity_actions=["sharpness"])
    plan = CurriculumPlan(num_pairs=24, epochs=2, batch_size=4, order="random")
    make(given={"plan": plan}, num_train_epochs=9, curriculum_start=0.4)
    assert "replaces these arguments: num_train_epochs 9 (plan: 2), curriculum_start 0.4 (plan: 0.3)." in caplog.text


def test_weights_in_float16_are_not_trained(make):
    with pytest.raises(ValueError, match="is in float16, in which training diverges"):
        make(given={"model": tiny_model().half()}).train()
    frozen = tiny_model().half().requires_grad_(False)
    check_precision(frozen, uses_deepspeed=False)


def test_equal_difficulties_are_warned_of(make, prepared, caplog):
    equal = prepared.remove_columns("difficulty").add_column("difficulty", [0.5] * 24)
    make(equal).train()
    assert "All training pairs have the same difficulty" in caplog.text


def test_a_difficulty_that_is_no_number(make, prepared):
    words = prepared.remove_columns("difficulty").add_column("difficulty", ["hard"] * 24)
    with pytest.raises(ValueError, match="difficulty is no number in each row: could not convert string to float"):
        make(words)


def test_evaluation_of_named_and_of_wrong_rows(make, prepared, pairs):
    trainer = make(given={"evaluator": None, "eval_dataset": {"small": prepared.select(range(8))}})
    assert trainer.evaluate("small")["eval_mrr"] == trainer.evaluate(prepared.select(range(8)))["eval_mrr"]
    assert trainer.evaluate(TorchRows(prepared))["eval_mrr"] == trainer.evaluate(prepared)["eval_mrr"]
    equal_ids = prepared.remove_columns("id").add_column("id", ["x"] * 24)
    for rows, message in (
        ("large", "eval_dataset is 'large'; the trainer has 'small'"),
        (pairs, "the pairs have no column 'text_features'; .* Prepare them with prepare_pairs"),
        (prepared.remove_columns("id"), "have no column 'id'"),
        (equal_ids, "23 of the 24 pairs of 'eval' have another molecule than the candidate with their id"),
        (7, "the pairs to evaluate are a int; expected a datasets.Dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.evaluate(rows)


def test_a_pool_in_which_an_id_is_another_molecule_is_warned_of(pairs, processor, caplog):
    pool = prepare_molecules(pairs.remove_columns("id").add_column("id", pairs["id"][::-1]), processor)
    RetrievalEvaluator(prepare_pairs(pairs, processor), pool, processor=processor)
    assert "24 of the 24 pairs of 'validation' have another molecule than the candidate with their id" in caplog.text


def test_long_arrays_with_equal_ends_are_distinct():
    """`repr` of an array of more than 1,000 numbers shows its ends only."""
    rows = datasets.Dataset.from_dict({"ids": [[0] * 2000, [0] * 999 + [1] + [0] * 1000]})
    for kind in (None, "numpy", "torch"):
        assert _distinct(rows.with_format(kind))[1].tolist() == [0, 1]


def test_a_tokenizer_with_another_number_of_ids_is_refused(processor, tmp_path):
    wrong = TextMoleculeProcessor(LexicalTokenizer(num_buckets=64), processor.feature_extractor)
    with pytest.raises(
        ValueError, match=r"the tokenizer hashes to 64 ids \(num_buckets\), but its tower has 512 rows"
    ):
        check_parts(tiny_model(), wrong)
    tiny_model().save_pretrained(tmp_path), wrong.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot be loaded: the tokenizer hashes to 64 ids"):
        Encoder.from_pretrained(str(tmp_path))
    fused = MoleculeFusedConfig(fingerprint_config={"num_buckets": 100})
    model = SimpleNamespace(config=SimpleNamespace(molecule_config=fused))
    with pytest.raises(ValueError, match="the feature extractor hashes to 65,536 ids .* has 100 rows"):
        check_parts(model, SimpleNamespace(feature_extractor=MoleculeFusedFeatureExtractor()))


def test_a_folder_has_no_revision(saved_model):
    with pytest.raises(ValueError, match="is a folder, which has no revision 'v9'. Leave it out"):
        Encoder.from_pretrained(str(saved_model), revision="v9")


@pytest.mark.parametrize("logging_strategy", ("steps", "no"))
def test_a_training_that_diverges_ends_in_one_line(make, logging_strategy):
    """The Trainer would log a loss of 0, and save a model of NaN."""
    model = tiny_model()
    model.text_projection.weight.data[:] = float("nan")
    trainer = make(given={"model": model, "evaluator": None}, logging_strategy=logging_strategy)
    with pytest.raises(ValueError, match=r"has diverged: after step \d+ the loss and .* are not finite. Lower"):
        trainer.train()
    assert trainer.state.global_step == (1 if logging_strategy == "steps" else trainer.plan.total_steps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text_kwargs": {"hiden_size": 3}}, "the tower 'lexical' has no field 'hiden_size'; did you mean 'hidden_si"),
        ({**SMALL, "projection_dims": 3}, "Config has no field 'projection_dims'; did you mean 'projection_dim'"),
        ({"text": LexicalConfig(), "text_kwargs": {"dropout": 0.5}}, "a LexicalConfig, whose configuration is fixed"),
    ],
)
def test_fields_without_effect_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextMoleculeDualEncoderModel.from_towers(**arguments)


def test_a_stream_with_more_rows_than_the_plan_is_warned_of(prepared, caplog):
    plan = CurriculumPlan(num_pairs=10, epochs=3, batch_size=4, order="none")
    assert len(list(PlannedStream(prepared, plan))) == 24
    assert caplog.text.count("The stream has more than the 10 pairs of the plan") == 1
    caplog.clear()
    list(PlannedStream(prepared.select(range(10)), plan))
    assert not caplog.text


def test_a_generator_is_no_training_set(make, prepared):
    with pytest.raises(ValueError, match="train_dataset is a generator; expected a Dataset, a list of rows"):
        make(row for row in prepared)


@pytest.mark.parametrize("name", ("seed", "max_steps", "curriculum_stages", "per_device_train_batch_size"))
def test_fractions_of_whole_numbers_are_not_cut(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is 2.5; expected a whole number"):
        arguments(tmp_path, **{name: 2.5})


@pytest.mark.parametrize("name", ("epochs", "batch_size", "seed", "stages", "group_size", "max_steps"))
def test_a_plan_cuts_no_fractions(name):
    with pytest.raises(ValueError, match="is 2.5; expected a whole number"):
        PlanSettings(**{"epochs": 2, "batch_size": 2, "pacing": "stages", name: 2.5})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"block_size": 0}, "block_size is 0"),
        ({"bootstrap_samples": -1}, "bootstrap_samples is -1"),
        ({"bank_method": "mean"}, "bank_method is 'mean'; expected one of softmax, nearest"),
    ],
)
def test_settings_of_an_evaluation_are_checked(prepared, processor, options, message):
    with pytest.raises(ValueError, match=message):
        RetrievalEvaluator(prepared, processor=processor, **options)
    with pytest.raises(ValueError, match="num_pairs is -3; expected an integer of at least 1"):
        RetrievalEvaluator.sample(prepared, prepared, num_pairs=-3, processor=processor)


@pytest.mark.parametrize("kind", (LexicalTokenizer, MoleculeFingerprintFeatureExtractor))
def test_misspelt_arguments_of_a_processor_are_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__} has no argument 'num_bucket'; did you mean 'num_buckets'"):
        kind(num_bucket=3)


def test_a_run_is_resumed_with_its_own_pairs(make, pairs, processor, tmp_path):
    kwargs = {"save_strategy": "steps", "save_steps": 8, "curriculum_order": "none"}
    make(given={"evaluator": None}, **kwargs).train()
    checkpoint = tmp_path / "checkpoint-8"
    make(given={"evaluator": None}, **kwargs).check_resume(checkpoint)
    texts = [f"{text} It is old." for text in pairs["description"][:]]
    others = prepare_pairs(pairs.remove_columns("description").add_column("description", texts), processor)
    with pytest.raises(ValueError, match=r"was made with other settings \(training pairs \(hash\) '\w+' -> '\w+'\)"):
        make(others, {"evaluator": None}, **kwargs).train(resume_from_checkpoint="true")
    state = json.loads((checkpoint / "curriculum_state.json").read_text())
    del state["settings"]["training pairs (hash)"]  # of an earlier version
    (checkpoint / "curriculum_state.json").write_text(json.dumps(state))
    make(others, {"evaluator": None}, **kwargs).check_resume(checkpoint)
