"""Cards: the curriculum, valid metadata, and text that is escaped."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import tiny_model
from datasets import Dataset
from huggingface_hub import ModelCard

from class_hf import CurriculumPlan
from class_hf.hub.data_source import card_fields
from class_hf.hub.dataset_card import dataset_card
from class_hf.hub.model_card import CardMetadata, RunRecord, _plan, model_card

CARDS = Path(__file__).parents[2] / "model_cards"


def card(order):
    plan = CurriculumPlan(num_pairs=8, epochs=2, batch_size=2, order=order)
    return model_card(tiny_model(), plan=plan, log_history=[])


def test_a_curriculum_is_named():
    assert "curriculum-learning" in card("random") and "by curriculum learning" in card("random")
    assert "Order `random`" in card("random")


def test_stages_are_named():
    stages = {"stages": 1, "stage_epochs": [1, 2], "stage_batch_sizes": [0.5, 1], "stage_sharpness": [0.25, 1]}
    plan = CurriculumPlan(num_pairs=8, epochs=3, batch_size=4, order="random", pacing="stages", **stages)
    text = _plan(plan)
    assert "stages pacing from 0.3 in 3 epochs, global batch 4" in text
    assert text.endswith("Epochs by stage: 1, 2. Share of the global batch by stage: 0.5, 1. Factor of the logits by "
                         "stage: 0.25, 1.")  # fmt: skip


def test_none_is_none():
    assert "curriculum-learning" not in card("none") and "by curriculum learning" not in card("none")
    assert "All pairs in each of 2 epochs, global batch 2, seed 0: 8 steps, without a curriculum." in card("none")


def snippet(text: str) -> str:
    return text.split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("path", sorted(CARDS.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_reviewed_cards_are_what_the_generator_writes(path):
    """Complete metadata, pictures that are there, and the sections and the snippet of a new card."""
    text = path.read_text()
    values = yaml.safe_load(text.split("---")[1])
    assert {"license", "tags", "language"} <= set(values)
    named = [values.get(key, []) for key in ("datasets", "source_datasets", "base_model")]
    assert all("/" in name for names in named for name in ([names] if isinstance(names, str) else names))
    pictures = re.findall(r"\]\((plots/.*?)\)", text)
    assert pictures and all((path.parent / picture).is_file() for picture in pictures)
    if "model-index" not in values:
        assert values["configs"] and "load_dataset" in snippet(text)
        return
    assert {"library_name", "pipeline_tag"} <= set(values)
    new = card("none")
    assert snippet(text) == snippet(new)
    assert re.findall("^## .*", text, re.M) == re.findall("^## .*", new, re.M)


def test_the_card_of_a_model_outside_the_package_says_how_it_loads():
    own = type("CountsModel", (torch.nn.Linear,), {"__module__": "my_backbones"})(2, 3)
    text = model_card(own, model_name="counts")
    assert "AutoProcessor\nimport my_backbones  # registers CountsModel\n\nmodel = " in snippet(text)
    assert "`CountsModel` is not part of `class_hf`. It is in the module `my_backbones`." in text
    assert "It is a `CountsModel` with 9 parameters." in text and "pipeline_tag" not in text
    own.__class__.__module__ = "__main__"
    assert "It was defined in a script." in model_card(own)


def test_the_hub_reads_the_metadata():
    """All metrics are read back, and each field that names a repository holds an id."""
    row = {"hits@1": 0.5, "hits@10": 1.0, "mrr": 0.75, "mean_rank": 1.5, "candidates": 12}
    metrics = {"split": "validation", "pools": {"full": {"text_to_molecule": row, "molecule_to_text": row}}}
    text = model_card(tiny_model(), model_name="first", dataset="my own pairs.csv", metrics=metrics)
    data = ModelCard(text).data
    assert len(data.eval_results) == 8 and data.model_name == "first" and "\n# first\n" in text
    for result in data.eval_results:
        assert re.fullmatch(r"(?:[\w-]+/)?[\w\-.]+", result.dataset_type)  # the pattern of the Hub
    assert data.get("datasets") is None and data.license == "unknown" and data.pipeline_tag == "feature-extraction"


def test_licence_and_data_of_the_card():
    text = model_card(tiny_model(), dataset="my pairs", log_history=[])
    assert "license: unknown" in text and "datasets:" not in text and "type: my-pairs\n" not in text
    assert "license: mit" in model_card(tiny_model(), dataset="my pairs", license="mit")
    assert "**synthetic**" in model_card(tiny_model(), dataset="class_hf demo", synthetic=True)


def test_scored_pairs_keep_the_name_of_their_source(tmp_path, pairs):
    scored = tmp_path / "outputs" / "scored"
    (scored / "dataset").mkdir(parents=True)
    (scored / "summary.json").write_text('{"source": {"name": "chebi20"}}')
    assert card_fields(pairs, data_dir=str(scored)) == {"dataset": "scored"}  # another summary
    (scored / "dataset" / "dataset_dict.json").write_text("{}")
    for folder in (scored, scored / "dataset"):
        assert card_fields(pairs, data_dir=str(folder)) == {"dataset": "chebi20"}


def test_further_training_pairs_are_named_and_their_licence_is_not_that_of_the_data(tmp_path, pairs):
    fields = {"dataset": "chebi20", "training_files": ["more.tsv"]}
    assert card_fields(pairs, data_dir="chebi20", files=["/home/me/more.tsv"]) == fields
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "dataset_dict.json").write_text("{}")
    (tmp_path / "summary.json").write_text('{"source": {"name": "chebi20", "files": ["more.tsv"]}}')
    assert card_fields(pairs, data_dir=str(tmp_path)) == fields
    row = {"hits@1": 0.5, "hits@10": 1.0, "mrr": 0.75, "mean_rank": 1.5, "candidates": 12}
    metrics = {"split": "validation", "pools": {"full": {"text_to_molecule": row}}}
    text = model_card(tiny_model(), metrics=metrics, **fields)
    assert "Split `validation` of chebi20. Brackets" in text  # the split of the data set has no pairs of the files
    (result, *_) = ModelCard(text).data.eval_results
    assert (result.dataset_type, result.dataset_name) == ("chebi20", "chebi20, full pool of 12 candidates")
    assert "license: unknown" in text and "\n\nChEBI-20 (Edwards" in text
    assert "more.tsv. Its licence is not recorded" in text


def test_settings_and_single_keywords_give_the_same_card():
    metadata, run = CardMetadata(model_name="tiny", license="mit"), RunRecord(command="class-hf train")
    expected = model_card(tiny_model(), model_name="tiny", license="mit", command="class-hf train")
    assert model_card(tiny_model(), metadata=metadata, run=run) == expected
    with pytest.raises(ValueError, match="unknown argument 'licence' of model_card; did you mean 'license'"):
        model_card(tiny_model(), licence="mit")


EVIL = "x`</b><script>alert(1)</script>\n---\nlicense: evil\n# {{ 7 * 7 }} | [a](http://b) ``` *"


def test_text_from_data_and_arguments_is_escaped():
    markdown = pytest.importorskip("markdown", reason="needs the extra `docs`")
    row = {"hits@1": 0.5, "hits@10": 1.0, "mrr": 0.75, "mean_rank": 1.5, "candidates": 12}
    metrics = {"split": EVIL, "pools": {EVIL: {"text_to_molecule": row}}}
    text = model_card(
        tiny_model(),
        model_name=EVIL,
        dataset=EVIL,
        tags=[EVIL],
        base_model=EVIL,
        license="Licence <b>",
        command=f"train {EVIL}",
        metrics=metrics,
    )
    header, body = text.split("\n---\n", 1)
    values = yaml.safe_load(header.removeprefix("---"))
    assert values["license"] == "other" and values["license_name"] == "licence-b"
    assert "base_model" not in values and "datasets" not in values
    page = markdown.markdown(body, extensions=["fenced_code", "tables"])
    assert "<script" not in page and "http://b" not in re.findall('href="(.*?)"', page)
    assert len(re.findall("<h1", page)) == 1 and "{{ 7 * 7 }}" in page
    table = next(line for line in body.splitlines() if line.startswith("| x"))
    assert len(re.findall(r"(?<!\\)\|", table)) == 8


def test_metadata_holds_ids_only_where_they_are_ids():
    text = model_card(
        tiny_model(), dataset="me/pairs", base_model=["me/base", "outputs/demo/x", "lexical", "package:a"]
    )
    values = yaml.safe_load(text.split("---")[1])
    assert values["datasets"] == ["me/pairs"] and values["base_model"] == ["me/base"]
    values = yaml.safe_load(model_card(tiny_model(), dataset="ChEBI-20", base_model="lexical").split("---")[1])
    assert "datasets" not in values and "base_model" not in values and values["license"] == "cc-by-4.0"


def test_a_folder_of_the_same_name_takes_no_id_from_a_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "base").mkdir(parents=True)
    (tmp_path / "me" / "pairs").mkdir()
    text = model_card(tiny_model(), dataset="me/pairs", base_model="me/base")
    values = yaml.safe_load(text.split("---")[1])
    assert values["datasets"] == ["me/pairs"] and values["base_model"] == ["me/base"]
    train = Dataset.from_dict({"id": ["1"]})
    # --data_dir takes a folder or an id, and a folder has priority.
    assert card_fields(train, data_dir="me/pairs") == {"dataset": "pairs"}
    assert card_fields(train, data_dir="you/pairs") == {"dataset": "you/pairs"}


def test_the_card_of_a_data_set_is_escaped():
    summary = {
        "source": {"name": EVIL, "synthetic": False},
        "splits": {"train": {"rows": 3}},
        "combination": "max",
        "definition": ["complexity"],
        "command": "class-hf score --data_dir /home/me/secret/pairs",
        "seconds": {"fit": 1.0, "score": 2.0},
    }
    text = dataset_card(summary)
    assert "<script>" not in text.split("\n---\n", 1)[1] and "/home/me" not in text
    assert yaml.safe_load(text.split("\n---\n")[0].removeprefix("---"))["license"] == "unknown"
