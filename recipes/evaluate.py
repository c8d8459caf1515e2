"""Rank the complete candidate pool with a trained model, in both directions, and report the metrics.

class-hf evaluate --model O [O2 ...] --data_dir D --split validation --output metrics.json [--query_bank]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from class_hf._version import __version__
from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program
from class_hf.data.columns import add_table_arguments, add_training_file_arguments, table_options, training_files
from class_hf.utils.numbers import non_negative_integer, positive_integer

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    import datasets
    import torch

    from class_hf.data.caption_files import read_captions
    from class_hf.data.prepare import prepare_captions, prepare_molecules, prepare_pairs
    from class_hf.data.source import load_data
    from class_hf.evaluation.embedding import captions_of_other_splits
    from class_hf.evaluation.ensemble import join_embeddings
    from class_hf.evaluation.output_files import EMBEDDINGS, PNG_METADATA, check_output_files
    from class_hf.evaluation.rescoring import check_rescoring
    from class_hf.evaluation.retrieval_evaluator import RetrievalEvaluator
    from class_hf.evaluation.settings import EvaluationSettings
    from class_hf.hub.loading import load_model
    from class_hf.plots.run import plot_ranks
    from class_hf.plots.tables import summary_table
    from class_hf.utils.files import write_arrays, write_json


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(prog=program("evaluate"), description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        required=True,
        nargs="+",
        help="folder or Hub id of a trained dual encoder; several models are an ensemble",
    )
    parser.add_argument("--revision", help="revision of a model on the Hub")
    parser.add_argument("--data_dir", help="folder with the pairs")
    parser.add_argument("--dataset_name", help="Hub id of a data set of pairs")
    parser.add_argument("--demo", action="store_true", help="evaluate on the synthetic data set of the package")
    parser.add_argument(
        "--on_error", choices=("raise", "drop"), default="raise", help="stop at a bad row, or leave it out"
    )
    parser.add_argument(
        "--split", default="validation", help="split with the query pairs: validation, test or train (%(default)s)"
    )
    parser.add_argument("--output", default="metrics.json", help="JSON file for the metrics (default: %(default)s)")
    parser.add_argument("--save_embeddings", help="an .npz file: text_embeds, molecule_embeds, gold, caption_embeds")
    parser.add_argument("--plot", help="a .png file for the curve of Hits@k")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files that no evaluation wrote")
    parser.add_argument(
        "--batch_size", type=positive_integer, default=256, help="rows embedded at a time (default: %(default)s)"
    )
    parser.add_argument("--bf16", action="store_true", help="embed in bf16; ranks are always computed in float64")
    parser.add_argument(
        "--bootstrap_samples",
        type=non_negative_integer,
        default=1000,
        help="resamples of the 95 %% intervals; 0: no intervals (default: %(default)s)",
    )
    parser.add_argument(
        "--rescore_top_k",
        type=positive_integer,
        help="re-rank this number of first candidates by the pair score of the model, if it has one",
    )
    text = "also report query-bank normalisation with the training pairs"
    parser.add_argument("--query_bank", action="store_true", help=text)
    parser.add_argument(
        "--bank_method",
        choices=("softmax", "nearest"),
        default="softmax",
        help="how the penalties of the query bank are computed (default: %(default)s)",
    )
    text = "also report a query bank with further captions, one in each line of a text file; named as --extra_train"
    parser.add_argument("--bank_captions", nargs="+", metavar="FILE", help=text)
    parser.add_argument("--num_proc", type=positive_integer, help="processes that prepare the data")
    add_training_file_arguments(parser)
    add_table_arguments(parser)
    parser.add_log_arguments()
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Refuses wrong arguments before any work."""
    for name, least in (("batch_size", 1), ("bootstrap_samples", 0), ("rescore_top_k", 0), ("num_proc", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} is {value}; expected at least {least}.")
    if args.rescore_top_k and len(args.model) > 1:
        raise ValueError("--rescore_top_k needs the pair score of one model; give --model one name.")
    files = {"--output": args.output, "--save_embeddings": args.save_embeddings, "--plot": args.plot}
    if args.bank_captions and not args.query_bank:
        raise ValueError(
            "--bank_captions needs --query_bank: the further captions are added to the training captions."
        )
    check_output_files(files, overwrite=args.overwrite)


def main(argv: Sequence[str]) -> None:
    """Embeds, ranks, and writes the metrics."""
    args = parse(argv)
    check(args)
    data, report = load_data(
        args.data_dir, args.dataset_name, args.demo, args.on_error, **table_options(args), **training_files(args)
    )
    if report is not None:
        print(report)
    if args.split not in data or args.split == "pool":
        splits = sorted(set(data) - {"pool"})
        raise ValueError(f"the data has no split {args.split!r}; it has {splits}.")
    if args.query_bank and (args.split == "train" or "train" not in data):
        raise ValueError("--query_bank needs training pairs that are not evaluated: evaluate another split.")
    captions = None  # before any work, because a wrong file is an error
    if args.bank_captions:
        known = data["train"]["description"][:]
        captions = read_captions(args.bank_captions, leave_out=known, encoding=args.encoding, data_dir=args.data_dir)
    started = time.perf_counter()
    parts = []
    for name in args.model:
        model, processor = load_model(name, args.revision)
        evaluator = make_evaluator(data, processor, args, captions)
        if evaluator.rescore_top_k is not None:
            check_rescoring(model)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16):
            parts.append(evaluator.embeddings(model))
    embeddings = parts[0] if len(parts) == 1 else join_embeddings(parts)
    ranks, title, before = evaluator.ranks(embeddings), args.split, None
    normalised = evaluator.query_bank_ranks(embeddings) if args.query_bank else None
    with_captions = evaluator.query_bank_ranks(embeddings, with_captions=True) if args.bank_captions else None
    if evaluator.rescore_top_k is not None:
        before = ranks
        with torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16):
            ranks = evaluator.rescored_ranks(model, embeddings, ranks)
        title = f"{args.split}, the first {evaluator.rescore_top_k} re-ranked"
    metrics = evaluator.report(ranks, before, normalised, with_captions)
    metrics["model"] = args.model[0] if len(args.model) == 1 else args.model
    metrics["seconds"] = round(time.perf_counter() - started, 3)
    metrics["class_hf_version"] = __version__
    if args.save_embeddings:
        arrays = {name: embeddings[name].numpy() for name in EMBEDDINGS if name in embeddings}
        write_arrays(args.save_embeddings, **arrays)
    if args.plot:
        plot_ranks(ranks, args.plot, title, PNG_METADATA)
    write_json(args.output, metrics)
    print_tables(metrics)
    print(f"written to {args.output}")


def make_evaluator(
    data: datasets.DatasetDict, processor: Any, args: argparse.Namespace, captions: list[str] | None
) -> RetrievalEvaluator:
    """Prepares the data for a model, and chooses what is reported."""
    prepared = {
        split: prepare_pairs(pairs, processor, args.num_proc) for split, pairs in data.items() if split != "pool"
    }
    return RetrievalEvaluator(
        prepared[args.split],
        prepare_molecules(data["pool"], processor, args.num_proc),
        captions=captions_of_other_splits(prepared, args.split),
        processor=processor,
        query_bank=prepared["train"] if args.query_bank else None,
        bank_captions=captions and prepare_captions(captions, processor, args.num_proc),
        settings=EvaluationSettings(
            name=args.split,
            batch_size=args.batch_size,
            bootstrap_samples=args.bootstrap_samples,
            rescore_top_k=args.rescore_top_k,
            bank_method=args.bank_method,
        ),
    )


def print_tables(metrics: dict[str, Any]) -> None:
    """Prints the metrics, and those before re-ranking and after query-bank normalisation if there are any."""
    if "rescored_top_k" in metrics:
        print("by cosine")
        print(summary_table({**metrics, "pools": metrics["pools_before_rescoring"]}))
        print(f"with the first {metrics['rescored_top_k']} re-ranked")
    print(summary_table(metrics))
    for name in ("query_bank", "query_bank_with_captions"):
        if name in metrics:
            bank = metrics[name]
            further = f" and {bank['captions']:,} further captions" if bank["captions"] else ""
            print(f"with query-bank normalisation by {bank['pairs']:,} training pairs{further}")
            print(summary_table({**metrics, "pools": bank["pools"]}))


if __name__ == "__main__":
    run_script(main)
