"""Train the arms of a study with several seeds each, and compare them in one report.

    class-hf ablate studies/demo --output_dir outputs/study
    class-hf ablate studies/chebi20_fast --data_dir DATA --output_dir OUTPUT \\
        --launch "accelerate launch --quiet --config_file recipes/accelerate/cpu.yaml"

A study is a YAML file:

    recipe: ../demo.yaml            # relative to the study
    seeds: [0, 1, 2]
    common: {num_train_epochs: 6}   # arguments of `class-hf train`; they override the recipe
    arms:                           # arguments of `class-hf train`; they override recipe and common
      none: {curriculum_order: none}
      random: {curriculum_order: random}
      short: {curriculum_order: none, same_steps_as: random}   # as many steps as an arm above it
    baselines: [none, random]       # each arm is tested against them; the first sets the quality to reach

To continue a study, run the same command again. Finished runs are skipped. An unfinished run is resumed from its last
complete checkpoint, or started again if there is none.

The arguments of a run are in OUTPUT/ARM/seed_S.yaml, its log is in the same folder and its results are in
OUTPUT/ARM/seed_S. Difficulty is scored once for all runs that need the same. The report is written to report.md,
report.json and PNG files.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import find_file, program
from class_hf.utils.numbers import non_negative_integer
from class_hf.utils.suggestions import did_you_mean

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from class_hf.studies.definition import read_study
    from class_hf.studies.results import write_report
    from class_hf.studies.runner import check_unchanged, run_all, score_reference, share_settings


def main(argv: list[str]) -> None:
    """Runs the study that the command line names, and writes its report."""
    args = parse(argv)
    if "RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ:
        raise ValueError(
            "ablate starts the processes of each run: start it without a launcher, and pass the launcher as --launch."
        )
    study = read_study(find_file(args.study, "study"))
    chosen, seeds = args.arms or list(study.arms), args.seeds or study.seeds
    for arm in chosen:
        if arm not in study.arms:
            raise ValueError(f"--arms: unknown arm {arm!r}; {did_you_mean(arm, study.arms)}")
    output: Path = args.output_dir.resolve()
    shared = share_settings(study, output, data_dir=args.data_dir, launch=args.launch, report_only=args.report_only)
    planned = [(arm, seed) for seed in sorted({*study.seeds, *seeds}) for arm in study.arms]
    for arm, seed in planned:
        check_unchanged(study, arm, seed, output)
    failed = False
    if not args.report_only:
        score_reference(study, output, shared["data"])
        selected = [(arm, seed) for arm, seed in planned if arm in chosen and seed in seeds]
        failed = run_all(study, selected, output, shared["launch"] or [sys.executable], args.keep_models)
    write_report(study, planned, output, shared, command_of(args.study, shared))
    if failed:
        sys.exit(1)


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(
        prog=program("ablate"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", type=Path, help="YAML file of the study, or the name of a shipped one")
    parser.add_argument("--data_dir", help="folder with the pairs, or a Hub id (default: the source in the recipe)")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the runs and the report")
    parser.add_argument("--launch", help="command that starts a run (default: one process of this Python)")
    parser.add_argument("--arms", nargs="+", help="run only these arms; the report has all finished runs")
    parser.add_argument(
        "--seeds", nargs="+", type=non_negative_integer, help="run these seeds instead of those of the study"
    )
    parser.add_argument("--report_only", action="store_true", help="write the report of the finished runs only")
    parser.add_argument(
        "--keep_models", action="store_true", help="keep weights and checkpoints of finished runs (default: delete)"
    )
    parser.add_log_arguments()
    return parser.parse_args(argv)


def command_of(study: Path, shared: dict[str, Any]) -> str:
    """The command that runs the study, without the paths of this machine."""
    words = ["class-hf", "ablate", str(study)]
    words += ["--data_dir", "DATA"] if shared["data"] != ["--demo"] else []
    words += ["--output_dir", "OUTPUT"]
    words += ["--launch", shlex.join(shared["launch"])] if shared["launch"] else []
    return shlex.join(words)


if __name__ == "__main__":
    run_script(main)
