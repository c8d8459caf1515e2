"""A folder as a training leaves it, for the tests of exports and pushes."""

from pathlib import Path

import pytest
from conftest import tiny_model

from class_hf.hub.model_card import model_card


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processor) -> Path:
    """An output folder like that of a run."""
    path = tmp_path_factory.mktemp("run") / "out"
    model = tiny_model()
    model.save_pretrained(path)
    processor.save_pretrained(path)
    (path / "README.md").write_text(model_card(model, folder=path))
    (path / "metrics.json").write_text("{}")
    (path / "plots").mkdir()
    (path / "plots" / "plan.png").write_bytes(b"a picture")
    # Files that a push must not upload.
    (path / "training_args.bin").write_bytes(b"a pickle")
    (path / "checkpoint-1").mkdir()
    (path / "checkpoint-1" / "optimizer.pt").write_bytes(b"a pickle")
    return path
