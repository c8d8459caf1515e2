"""Train a text-molecule retrieval model by a curriculum.

    class-hf train demo [--data_dir D] [--output_dir O] [--any_argument value]
    accelerate launch --quiet --config_file FILE recipes/train.py recipes/demo.yaml [--any_argument value]

The first form runs one process, which uses all CPU cores or one GPU. The second form runs several processes; the
folder recipes/accelerate has a FILE for each case. The recipe is the first argument. The command line overrides it.
`--help` lists the arguments, `--help_all` also those of transformers. `--dry_run` builds all parts of the run, tries
them on a few pairs, shows the plan and trains nothing.

The output folder holds the model and its processor, metrics.json, ranks.npz (one rank for each query), plan.json,
train_summary.json, plots/ and a model card (README.md). A run with an adapter saves the merged model there, and the
adapter in adapter/.
"""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from class_hf.config.arguments import DataArguments, ModelArguments, RunArguments, resume_settings
from class_hf.config.command import asks_for_help, run_script
from class_hf.config.recipe_files import program
from class_hf.config.training_help import training_help
from class_hf.data.columns import table_options

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from peft import PeftModel
    from transformers import EarlyStoppingCallback, set_seed

    from class_hf import CurriculumTrainingArguments
    from class_hf.backbones.adapters import check_same_adapter, merge_adapter, save_adapter, trainable_parameters
    from class_hf.backbones.registry import build_loss, build_model
    from class_hf.config.parsing import parse_recipe
    from class_hf.data.collator import TextMoleculeCollator
    from class_hf.hub.data_source import card_fields
    from class_hf.plots.run import plot_plan, plot_run
    from class_hf.plots.tables import metrics_line, plan_table, summary_table
    from class_hf.training import host_watch, launch
    from class_hf.training.building import check_scoring, first_pairs, make_trainer, rehearse
    from class_hf.training.checkpoints import choose_checkpoint
    from class_hf.training.launch import print_once
    from class_hf.training.output_folder import (
        check_lock,
        check_run_folder,
        refuse_inputs,
        remove_earlier_run,
        run_lock,
    )
    from class_hf.training.planning import outline_plan
    from class_hf.training.preparation import load_splits, prepare_splits
    from class_hf.training.progress import TrainingTable
    from class_hf.training.records import evaluate_run, write_plan, write_records
    from class_hf.training.scoring import DIFFICULTY_FILE, add_difficulty, add_suspects
    from class_hf.training.trainer_checks import check_selection, warn_of_plan
    from class_hf.training.without_effect import unused_without_order
    from class_hf.utils.column_names import WRONG_PROBABILITY
    from class_hf.utils.files import write_json


def main(argv: list[str]) -> None:
    """Trains, evaluates and records one run.

    Args:
        argv: the recipe, then arguments that override it.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(training_help(program("train")))
        return
    classes = (DataArguments, ModelArguments, RunArguments, CurriculumTrainingArguments)
    recipe, data_args, model_args, run_args, args = parse_recipe(argv, classes, prog=program("train"))
    if args.output_dir in (None, "trainer_output"):  # the second is the default of transformers
        args.output_dir = str(Path("outputs") / recipe.stem)
    output = Path(args.output_dir)
    resume = launch.parse_resume(args.resume_from_checkpoint)
    launch.check_launch(args)
    stopping = [EarlyStoppingCallback()] if model_args.early_stopping_patience is not None else []
    check_selection(args, stopping, own_metrics=False)
    launch.set_up_log(args, run_args.log_format)
    launch.set_up_cpu(args)
    launch.limit_progress_bars(args)
    refuse_inputs(output, [data_args.data_dir, data_args.dataset_name, *model_args.names()])
    check_run_folder(output, resume=resume is not None, overwrite=run_args.overwrite)
    build_loss(model_args)  # a wrong backbone or loss fails before the data is loaded
    if run_args.dry_run:
        check_lock(output)
        check_run(data_args, model_args, args)
        return
    with run_lock(output) if args.process_index == 0 else nullcontext(), host_watch.watching_hosts(args):
        train(argv, resume, data_args, model_args, run_args, args)
        launch.end_processes()


def check_run(data_args: DataArguments, model_args: ModelArguments, args: CurriculumTrainingArguments) -> None:
    """Builds all parts of a run, compares them with its checkpoint, tries them on a few pairs, and shows the plan."""
    checkpoint = choose_checkpoint(launch.parse_resume(args.resume_from_checkpoint), str(args.output_dir))
    args.push_to_hub = False  # the trainer would create the repository
    data, _ = load_splits(args, **data_args.source(), **table_options(data_args))
    plan = outline_plan(args, len(data["train"]))
    check_scoring(args, data["train"], **data_args.scoring(), data_dir=data_args.data_dir)
    model, processor = build_model(model_args)
    loss = build_loss(model_args, label_smoothing=args.contrastive_label_smoothing, seed=args.seed)
    few, pool, _ = prepare_splits(first_pairs(data), model, processor, args)
    pairs = {**few, "train": data["train"]}
    trainer = make_trainer(args, model, processor, loss, pairs, pool, plan=plan, **data_args.sampling())
    trainer.resume_settings = resume_settings(data_args, model_args)
    if checkpoint is not None:
        trainer.check_resume(checkpoint, is_outline=True)
        check_same_adapter(model, checkpoint)
    rehearse(trainer, TextMoleculeCollator(processor), few["train"], plan.total_steps)
    if args.should_save:
        print("\n".join([plan_table(plan), *unused_without_order(args)]))
        warn_of_plan(plan, data["train"], args)
        if args.end_share != 1.0:
            print(f"curriculum_end is {args.curriculum_end}: the run finds suspects first, and leaves pairs out")
        print(f"drawn in {plot_plan(plan, Path(str(args.output_dir)) / 'plots' / 'dry_run_plan.png')}")


def train(
    argv: list[str],
    resume: str | bool | None,
    data_args: DataArguments,
    model_args: ModelArguments,
    run_args: RunArguments,
    args: CurriculumTrainingArguments,
) -> None:
    """Runs all steps of `main` that write into the output folder."""
    output = Path(str(args.output_dir))
    checkpoint = choose_checkpoint(resume, output)
    data, load_report = load_splits(args, **data_args.source(), **table_options(data_args))
    outline_plan(args, len(data["train"]))  # wrong settings fail here, before any pair is scored
    check_scoring(args, data["train"], **data_args.scoring(), data_dir=data_args.data_dir)
    set_seed(args.seed)
    model, processor = build_model(model_args)
    prepared, pool, preparation_seconds = prepare_splits(
        data, model, processor, args, num_proc=data_args.num_proc, captions_vary=data_args.sentence_dropout > 0.0
    )
    trained, total = parameters = trainable_parameters(model)
    print_once(args, f"prepared in {preparation_seconds:.1f} s; {total:,} parameters, {trained:,} of them trained")
    saved = output / DIFFICULTY_FILE if checkpoint is not None else None
    if args.curriculum_order in ("easy_first", "hard_first") and "difficulty" not in prepared["train"].column_names:
        prepared |= add_difficulty(prepared, args, **data_args.scoring(), saved=saved)
    if args.needs_suspects and WRONG_PROBABILITY not in prepared["train"].column_names:
        prepared |= add_suspects(prepared, args, saved=saved)
    loss = build_loss(model_args, label_smoothing=args.contrastive_label_smoothing, seed=args.seed)
    trainer: Any = make_trainer(args, model, processor, loss, prepared, pool, **data_args.sampling())
    TrainingTable.use_in(trainer, trainer.curriculum, as_json=run_args.log_format == "json")
    trainer.resume_settings = resume_settings(data_args, model_args)
    if model_args.early_stopping_patience is not None:
        trainer.args.restore_callback_states_from_checkpoint = True  # a resumed run must not count from zero
        trainer.add_callback(EarlyStoppingCallback(model_args.early_stopping_patience))
    if checkpoint is not None:
        trainer.check_resume(checkpoint)
        check_same_adapter(model, checkpoint)
    print_once(args, "\n".join([f"{trainer.plan}", *unused_without_order(args)]))
    if args.should_save:
        if checkpoint is None:
            remove_earlier_run(output)
        write_plan(output, trainer.plan, prepared, load_report)
        plot_plan(trainer.plan, output / "plots" / "plan.png")
    trainer.model.to(args.device)  # FSDP and DeepSpeed leave it on the host until training starts
    untrained = trainer.evaluator(trainer.model)["pools"]["split"]["text_to_molecule"]
    trainer.train(checkpoint or False)
    if isinstance(model, PeftModel):
        if args.should_save:
            base = model_args.model_name_or_path or model_args.towers()
            save_adapter(model, output / "adapter", base=base, processor=processor)
        trainer.model = merge_adapter(model)  # most users load the merged model, so the card has its numbers
    trainer.save_model(_internal_call=True)  # a push waits for the card
    embeddings, ranks, evaluator = evaluate_run(trainer, prepared, pool, processor)
    if args.should_save:
        metrics, summary = write_records(
            output,
            trainer,
            evaluator.report(ranks),
            ranks,
            ids=prepared["validation"]["id"][:],
            untrained=untrained,
            preparation_seconds=preparation_seconds,
            parameters=parameters,
            resumed=checkpoint is not None,
        )
        plot_run(output / "plots", trainer.state.log_history, trainer.evaluator, evaluator, embeddings, ranks)
        trainer.create_model_card(
            **card_fields(data["train"], data_args.dataset_name, data_args.data_dir, data_args.training_files()),
            finetuned_from=model_args.hub_ids(),
            license=run_args.license,
            metrics=metrics,
            summary=summary,
            command=f"class-hf train {shlex.join(argv)}",
        )
        write_json(output / "train_summary.json", summary)  # the last file: it marks a finished run
        print(summary_table(metrics))
        print(metrics_line(f"untrained, split sample ({untrained['candidates']:,})", untrained))
        print(f"everything is in {output}")
    if args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Huge pages for torch's large blocks. The gradients of embedding tables are allocated at each step, and with pages
    # of 4 KiB a quarter of the time goes into page faults.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    run_script(main)
