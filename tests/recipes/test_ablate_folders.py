"""The folder of a study: what another study or process has there is left alone, and missing runs are named."""

# ruff: noqa: F811 (fixtures)
import json
import os

import pytest
from study_parts import ABLATE, place, quick  # noqa: F401

from class_hf.training import output_folder

pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_another_study_does_not_replace_the_report(quick):
    quick.run("--arms", "none", "--seeds", "0")
    other = quick.folder / "other.yaml"
    other.write_text((quick.folder / "small.yaml").read_text())
    words = ["--data_dir", str(quick.folder), "--output_dir", str(quick.output)]
    for more in ([], ["--report_only"]):
        with pytest.raises(ValueError, match="holds the study 'small', whose report 'other' would replace"):
            ABLATE.main([str(other), *words, *more])
    with pytest.raises(ValueError, match="have data .*Pass the same value"):
        quick.run("--report_only", "--data_dir", "another/data_set")


def test_a_run_that_another_process_trains_is_left_alone(quick, capsys):
    quick.run("--arms", "none", "--seeds", "0")
    folder = quick.output / "none" / "seed_0"
    (folder / "train_summary.json").unlink()
    identity = output_folder._identity(os.getppid())  # it lives
    (folder / "run.lock").write_text(json.dumps({**identity, "started": 0.0}))
    with pytest.raises(ValueError, match="is finished"):
        quick.run("--arms", "none", "--seeds", "0")
    assert "none seed 0: FAILED" in capsys.readouterr().out and (folder / "metrics.json").is_file()


def test_arms_without_a_finished_run_are_named(quick):
    quick.run("--arms", "none", "random", "--seeds", "0")
    text = (quick.output / "report.md").read_text()
    assert "**Missing runs:** none seed 1; random seed 1." in text
    assert "**Arms without a finished run:** easy, equal." in text
