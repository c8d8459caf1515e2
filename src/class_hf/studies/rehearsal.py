"""Tries each arm of a study without training it."""

import contextlib
import io
import runpy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from class_hf.config.command import USER_ERRORS
from class_hf.studies.definition import EQUAL_COSTS, Planned, Study, run_settings
from class_hf.studies.runner import TRAIN


def rehearse_arms(study: Study, source: Sequence[str], arms: Sequence[str]) -> None:
    """Does for each arm what `class-hf train --dry_run` does, in this process: loads the pairs, builds the model, the
    loss and the trainer, and tries them on a few pairs.

    Args:
        study: the study.
        source: see [`data_source`][class_hf.studies.runner.data_source].
        arms: names of the arms.

    Raises:
        ValueError: with the name of the arm, if its run would be refused.
    """
    main = runpy.run_path(str(TRAIN))["main"]
    if source[0] == "--data_dir" and not Path(source[1]).exists():
        source = ["--dataset_name", *source[1:]]
    for arm in arms:
        settings = run_settings(study, Planned(arm, study.seeds[0]))
        values = {name: value for name, value in settings.items() if name not in EQUAL_COSTS}
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            recipe = Path(folder, "arm.yaml")
            recipe.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
            words = [str(recipe), *source, "--output_dir", str(Path(folder, "run"))]
            try:
                # Warnings about a plan are for the run itself: here they would repeat for each arm.
                main([*words, "--dry_run", "--log_level", "error"])
            except USER_ERRORS as error:
                raise ValueError(f"arm {arm!r}: {error}") from error
