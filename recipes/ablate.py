"""Train the arms of a study with several seeds each, and compare them in one report.

    python recipes/ablate.py recipes/studies/demo.yaml --output_dir outputs/study
    python recipes/ablate.py recipes/studies/chebi20_fast.yaml --data_dir D --output_dir O \\
        --launch "accelerate launch --config_file recipes/accelerate/cpu.yaml"

A study is a YAML file:

    recipe: ../demo.yaml            # relative to the study
    seeds: [0, 1, 2]
    common: {num_train_epochs: 6}   # any argument of recipes/train.py, over the recipe
    arms:                           # any argument of recipes/train.py, over both
      none: {curriculum_order: none}
      random: {curriculum_order: random}
      short: {curriculum_order: none, same_steps_as: random}   # as many steps as an arm above takes
    baselines: [none, random]       # what every arm is tested against; the first sets the quality to reach

Start it again to go on: finished runs are skipped, begun ones resumed from their last checkpoint, or else started
anew. Each run has its settings in OUTPUT/ARM/seed_S.yaml, its log beside them and its results in the folder of that
name; difficulty is scored once for all runs that need the same. The report is in report.md, report.json and PNGs.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from class_hf.config.parsing import run_script
from class_hf.config.recipe_files import find_file, program
from class_hf.studies.definition import read_study
from class_hf.studies.runner import refuse_changed, run_all, same_study, score_reference, write_report
from class_hf.utils.suggestions import did_you_mean


def main(argv: list[str]) -> None:
    args = parse(argv)
    if "RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ:
        raise ValueError(
            "ablate.py starts every run by itself: start it with python, and name the launcher by --launch."
        )
    study = read_study(find_file(args.study, "study"))
    chosen, seeds = args.arms or list(study.arms), args.seeds or study.seeds
    for arm in chosen:
        if arm not in study.arms:
            raise ValueError(f"--arms: unknown arm {arm!r}; {did_you_mean(arm, study.arms)}")
    output: Path = args.output_dir.resolve()
    shared = same_study(study, output, data_dir=args.data_dir, launch=args.launch, report_only=args.report_only)
    every = [(arm, seed) for seed in sorted({*study.seeds, *seeds}) for arm in study.arms]
    for arm, seed in every:
        refuse_changed(study, arm, seed, output)
    failed = False
    if not args.report_only:
        score_reference(study, output, shared["data"])
        wanted = [(arm, seed) for arm, seed in every if arm in chosen and seed in seeds]
        failed = run_all(study, wanted, output, shared["launch"] or [sys.executable], args.keep_models)
    write_report(study, every, output, shared, command_of(args.study, shared))
    if failed:
        sys.exit(1)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("ablate"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("study", type=Path, help="YAML file of the study, or the name of a shipped one")
    parser.add_argument("--data_dir", help="folder with the pairs, or their Hub id (default: as the recipe says)")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the study's runs and report")
    parser.add_argument("--launch", help="what starts a run, in place of one process of this Python")
    parser.add_argument("--arms", nargs="+", help="run these only; the report has all that are finished")
    parser.add_argument("--seeds", nargs="+", type=int, help="run these in place of the study's")
    parser.add_argument("--report_only", action="store_true", help="run nothing")
    parser.add_argument(
        "--keep_models", action="store_true", help="keep weights and checkpoints of finished runs (default: delete)"
    )
    return parser.parse_args(argv)


def command_of(study: Path, shared: dict[str, Any]) -> str:
    """The command that runs the whole study, without this machine's paths."""
    words = ["python", "recipes/ablate.py", str(study)]
    words += ["--data_dir", "DATA"] if shared["data"] != ["--demo"] else []
    words += ["--output_dir", "OUTPUT"]
    words += ["--launch", shlex.join(shared["launch"])] if shared["launch"] else []
    return shlex.join(words)


if __name__ == "__main__":
    run_script(main)
