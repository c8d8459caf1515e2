"""`class-hf evaluate` never replaces a file of another origin, and says so before it works."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from class_hf.evaluation.output_files import PNG_METADATA, check_output_files
from class_hf.plots.run import plot_ranks
from class_hf.utils.files import write_arrays, write_json

RECORD = {"pools": {}, "split": "test", "model": "m", "seconds": 1.0, "class_hf_version": "0"}
RANKS = {"full": {"text_to_molecule": (np.array([1.0, 3.0]), 9)}}


@pytest.fixture(scope="module")
def recipe():
    path = Path(__file__).parents[2] / "recipes" / "evaluate.py"
    spec = importlib.util.spec_from_file_location("recipe_evaluate_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_of_an_evaluation_may_be_replaced(tmp_path):
    paths = {"--output": tmp_path / "m.json", "--save_embeddings": tmp_path / "e.npz", "--plot": tmp_path / "p.png"}
    check_output_files(paths)  # nothing exists
    write_json(paths["--output"], RECORD)
    write_arrays(paths["--save_embeddings"], text_embeds=np.ones(1), molecule_embeds=np.ones(1), gold=np.ones(1))
    plot_ranks(RANKS, paths["--plot"], "test", PNG_METADATA)
    check_output_files(paths)


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


def test_paths_that_cannot_be_written(recipe, tmp_path):
    (tmp_path / "file").write_text("x")
    for arguments, message in (
        (["--output", str(tmp_path)], "is a folder"),
        (["--output", str(tmp_path / "file" / "m.json")], "is a file, not a folder"),
        (["--output", str(tmp_path / "m"), "--plot", str(tmp_path / "m")], "--output and --plot are the same file"),
        (["--batch_size", "0"], "--batch_size is 0; expected at least 1"),
        (["--bootstrap_samples", "-1"], "--bootstrap_samples is -1"),
        (["--rescore_top_k", "-1"], "--rescore_top_k is -1"),
    ):
        output = [] if "--output" in arguments else ["--output", str(tmp_path / "new.json")]
        with pytest.raises(ValueError, match=message):
            recipe.main(["--model", str(tmp_path / "nothing"), "--demo", *output, *arguments])
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    for name in ("broken.json", "broken.npz", "file"):
        with pytest.raises(FileExistsError):
            check_output_files({"--output": tmp_path / name})
