"""Train the arms of a study with several seeds each, and compare them in one report.

    class-hf ablate studies/demo --output_dir outputs/study
    class-hf ablate studies/chebi20_fast --data_dir DATA --output_dir OUTPUT \\
        --launch "accelerate launch --quiet --config_file recipes/accelerate/cpu.yaml"

A study is a YAML file:

    recipe: ../demo.yaml            # relative to the study, or the name of a shipped one: demo
    choose_seeds: [0, 1, 2]         # or seeds
    confirm_seeds: [3, 4, 5, 6, 7]  # optional: held-out seeds, for the baselines and the best candidate only
    learning_rates: [0.5, 1, 2]     # optional: factors; each arm is compared at its best one
    common: {num_train_epochs: 6}   # arguments of `class-hf train`; they override the recipe
    arms:                           # arguments of `class-hf train`; they override recipe and common
      none: {curriculum_order: none}
      random: {curriculum_order: random}
      short: {curriculum_order: none, same_steps_as: random}   # as many steps as an arm above it;
                                    # or same_pairs_as, same_tokens_as, same_time_as
    baselines: [none, random]       # each arm is tested against them; the first sets the quality to reach
    candidates: [short]             # optional: of these the best is confirmed (default: all but the baselines)
    reach_margin: 0.005             # optional: the quality to reach is so much below the best one

To continue a study, run the same command again. Finished runs are skipped. An unfinished run is resumed from its last
complete checkpoint, or started again if there is none. The first run of an arm with the time, pairs or tokens of
another arm measures its cost. If it needs another number of steps, it is trained again, at most twice.

The arguments of a run are in OUTPUT/ARM/seed_S.yaml, its log is in the same folder and its results are in
OUTPUT/ARM/seed_S. The pairs are read once, so later changes of their files have no effect on the study. Difficulty is
scored once for all runs that need the same. The report is written to report.md,
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
    from class_hf.studies.definition import Planned, Study, read_study
    from class_hf.studies.rehearsal import rehearse_arms
    from class_hf.studies.results import plan_confirmation, write_report
    from class_hf.studies.runner import check_unchanged, run_all, score_reference, share_settings


def main(argv: list[str]) -> None:
    """Runs the study that the command line names, and writes its report."""
    args = parse(argv)
    if "RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ:
        raise ValueError(
            "ablate starts the processes of each run: start it without a launcher, and pass the launcher as --launch."
        )
    study = read_study(find_file(args.study, "study"))
    for arm in args.arms or ():
        if arm not in study.arms:
            raise ValueError(f"--arms: unknown arm {arm!r}; {did_you_mean(arm, study.arms)}")
    output: Path = args.output_dir.resolve()
    sharing = {"report_only": args.report_only, "dry_run": args.dry_run}
    shared = share_settings(study, output, data_dir=args.data_dir, launch=args.launch, **sharing)
    seeds = {*study.seeds, *(args.seeds or ())} - {*study.confirm_seeds}
    planned = study.plan(sorted(seeds))
    for run in planned:
        check_unchanged(study, run, output)
    if args.dry_run:
        rehearse_arms(study, shared["data"], args.arms or list(study.arms))
        print(describe(study, output))
        return
    failed = False
    if not args.report_only:
        score_reference(study, output, shared["data"])
        failed = run_all(study, select(planned, args), output, shared["launch"] or [sys.executable], args.keep_models)
        for run in planned:  # a run above may have changed the steps of an arm that was finished before
            check_unchanged(study, run, output)
    try:
        confirming = plan_confirmation(study, output)
    except ValueError as error:
        print(f"{study.name}: {error}")
        confirming = []
    for run in confirming:
        check_unchanged(study, run, output)
    if confirming and not args.report_only:
        arms = ", ".join(dict.fromkeys(run.arm for run in confirming))
        print(f"{study.name}: chosen to confirm on held-out seeds: {arms}")
        launch = shared["launch"] or [sys.executable]
        failed |= run_all(study, select(confirming, args), output, launch, args.keep_models)
    write_report(study, [*planned, *confirming], output, shared, command_of(args.study, shared))
    if failed:
        sys.exit(1)


def select(runs: list[Planned], args: argparse.Namespace) -> list[Planned]:
    """The runs of the arms and seeds on the command line."""
    return [run for run in runs if run.arm in (args.arms or [run.arm]) and run.seed in (args.seeds or [run.seed])]


def describe(study: Study, output: Path) -> str:
    """The runs of a study, one line for each arm."""
    runs = study.plan(study.seeds)
    lines = [f"{study.name}: {len(runs)} runs, {sum(run.is_finished(output) for run in runs)} finished"]
    for arm, arguments in study.arms.items():
        own = [run for run in runs if run.arm == arm]
        rates = "" if len(study.learning_rates) == 1 else f" x {len(study.learning_rates)} learning rates"
        done = sum(run.is_finished(output) for run in own)
        values = ", ".join(f"{name}: {value}" for name, value in arguments.items()) or "no arguments of its own"
        lines.append(
            f"  {arm} ({values}): {len(study.seeds)} seed{'s'[: len(study.seeds) > 1]}{rates}, {done} finished"
        )
    if study.confirm_seeds:
        seeds = ", ".join(map(str, study.confirm_seeds))
        lines.append(f"then {', '.join(study.baselines)} and the best of {', '.join(study.candidates)}: seeds {seeds}")
    return "\n".join(lines)


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
    without_training = parser.add_mutually_exclusive_group()
    without_training.add_argument(
        "--dry_run", action="store_true", help="build all parts of each arm, list the runs and train nothing"
    )
    without_training.add_argument(
        "--report_only", action="store_true", help="write the report of the finished runs only"
    )
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
