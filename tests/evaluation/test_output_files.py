"""Files of `class-hf evaluate`: none replaces a file of another origin, and metrics can be recomputed from them."""

import json

import numpy as np
import pytest
from conftest import rows_of_pairs, tiny_model
from datasets import Dataset, DatasetDict
from recipe_scripts import load_recipe_script

from class_hf.evaluation.output_files import PNG_METADATA, check_output_files
from class_hf.plots.run import plot_ranks
from class_hf.utils.files import write_arrays, write_json

RECORD = {"pools": {}, "split": "test", "model": "m", "seconds": 1.0, "class_hf_version": "0"}
RANKS = {"full": {"text_to_molecule": (np.array([1.0, 3.0]), 9)}}


@pytest.fixture(scope="module")
def recipe():
    return load_recipe_script("evaluate")


def test_files_of_an_evaluation_may_be_replaced(tmp_path):
    paths = {"--output": tmp_path / "m.json", "--save_embeddings": tmp_path / "e.npz", "--plot": tmp_path / "p.png"}
    check_output_files(paths)  # nothing exists
    write_json(paths["--output"], RECORD)
    write_arrays(paths["--save_embeddings"], text_embeds=np.ones(1), molecule_embeds=np.ones(1), gold=np.ones(1))
    plot_ranks(RANKS, paths["--plot"], "test", PNG_METADATA)
    before = [path.read_bytes() for path in paths.values()]
    check_output_files(paths)
    assert [path.read_bytes() for path in paths.values()] == before


@pytest.mark.parametrize("argument", ("--output", "--save_embeddings", "--plot"))
def test_other_files_need_overwrite_and_stay(recipe, argument, tmp_path):
    path = tmp_path / {"--output": "metrics.json", "--save_embeddings": "ranks.npz", "--plot": "ranks.png"}[argument]
    if argument == "--output":
        write_json(path, {"split": "validation", "pools": {}, "untrained": {}})  # as a training writes
    elif argument == "--plot":
        plot_ranks(RANKS, path, "test")
    else:
        write_arrays(path, ranks=np.ones(3))
    before = path.read_bytes()
    outputs = ["--output", str(tmp_path / "new.json")] if argument != "--output" else []
    # The model does not exist, so that an error about the file shows that it came first.
    arguments = ["--model", str(tmp_path / "nothing"), "--demo", *outputs, argument, str(path)]
    with pytest.raises(FileExistsError, match="exists, and no evaluation wrote it. .* --overwrite"):
        recipe.main(arguments)
    assert path.read_bytes() == before
    check_output_files({argument: path}, overwrite=True)


def test_paths_that_cannot_be_written(recipe, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for arguments, message in (
        (["--output", str(tmp_path)], "is a folder"),
        (["--output", str(tmp_path / "file" / "m.json")], "is a file, not a folder"),
        (["--output", str(tmp_path / "m"), "--plot", str(tmp_path / "m")], "--output and --plot are the same file"),
    ):
        output = [] if "--output" in arguments else ["--output", str(tmp_path / "new.json")]
        with pytest.raises(ValueError, match=message):
            recipe.main(["--model", str(tmp_path / "nothing"), "--demo", *output, *arguments])
    for argument, value in (("--batch_size", "0"), ("--bootstrap_samples", "-1"), ("--rescore_top_k", "-1")):
        with pytest.raises(SystemExit):
            recipe.main(["--model", str(tmp_path / "nothing"), "--demo", argument, value])
        assert f"{argument}: '{value}' is not accepted; expected an integer of at least" in capsys.readouterr().err
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    for name in ("broken.json", "broken.npz", "file"):
        with pytest.raises(FileExistsError):
            check_output_files({"--output": tmp_path / name})


def test_metrics_can_be_recomputed_from_saved_embeddings(recipe, processor, tmp_path):
    """With NumPy alone, all four rankings, to every digit. Molecules and captions have twins."""
    rows = rows_of_pairs(24)
    rows["smiles"][9], rows["smiles"][20] = rows["smiles"][8], rows["smiles"][3]
    rows["description"][10] = rows["description"][2]
    data = Dataset.from_dict(rows)
    splits = {"train": data.select(range(8)), "validation": data.select(range(8, 24)), "pool": data}
    DatasetDict(splits).save_to_disk(str(tmp_path / "data"))
    tiny_model().save_pretrained(tmp_path / "model"), processor.save_pretrained(tmp_path / "model")
    arguments = ["--model", tmp_path / "model", "--data_dir", tmp_path / "data", "--output", tmp_path / "m.json"]
    results = []
    for batch_size in (3, 256):
        more = ["--save_embeddings", tmp_path / "e.npz", "--batch_size", batch_size, "--bootstrap_samples", 0]
        recipe.main([str(argument) for argument in (*arguments, *more)])
        results.append(json.loads((tmp_path / "m.json").read_text())["pools"])
        with np.load(tmp_path / "e.npz") as arrays:
            texts, molecules, gold, further = (
                arrays[name] for name in ("text_embeds", "molecule_embeds", "gold", "caption_embeds")
            )
        partners, each, captions = molecules[gold], np.arange(len(texts)), np.concatenate([texts, further])
        rankings = {
            ("full", "text_to_molecule"): (texts, molecules, gold),
            ("full", "molecule_to_text"): (partners, captions, each),
            ("split", "text_to_molecule"): (texts, partners, each),
            ("split", "molecule_to_text"): (partners, texts, each),
        }
        for (pool, direction), (queries, candidates, true) in rankings.items():
            left, right = (
                vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
                for vectors in (queries, candidates)
            )
            cosines = left @ right.T
            gaps = cosines - cosines[np.arange(len(left)), true][:, None]
            ranks = (gaps > 1e-7).sum(1) + ((np.abs(gaps) <= 1e-7).sum(1) + 1) / 2
            row = results[-1][pool][direction]
            assert row["mrr"] == (1 / ranks).mean() and row["mean_rank"] == ranks.mean(), (pool, direction)
            assert pool == "split" or (ranks % 1 != 0).any()  # there are ties
    assert results[0] == results[1]
