"""Rank a whole candidate pool with a trained model, in both directions, and report the metrics.

python recipes/evaluate.py --model O [O2 ...] --data_dir D --split validation --output metrics.json [--query_bank]
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers

from class_hf._version import __version__
from class_hf.config.parsing import run_script
from class_hf.config.recipe_files import program
from class_hf.data.columns import add_table_arguments, table_options
from class_hf.data.prepare import prepare_molecules, prepare_pairs
from class_hf.data.source import load_data
from class_hf.evaluation.ensemble import join_embeddings
from class_hf.evaluation.rescoring import check_rescoring
from class_hf.evaluation.retrieval_evaluator import RetrievalEvaluator, captions_of_other_splits
from class_hf.hub.loading import load_model
from class_hf.plots.run import plot_ranks
from class_hf.plots.tables import summary_table
from class_hf.utils.files import write_arrays, write_json


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=program("evaluate"), description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--model", required=True, nargs="+", help="folder or Hub id of a trained dual encoder; several are an ensemble"
    )
    parser.add_argument("--revision", help="revision of a model on the Hub")
    parser.add_argument("--data_dir", help="folder with the pairs")
    parser.add_argument("--dataset_name", help="Hub id of a data set of pairs")
    parser.add_argument("--demo", action="store_true", help="evaluate on the embedded synthetic data set")
    parser.add_argument("--on_error", choices=("raise", "drop"), default="raise", help="what to do with bad rows")
    parser.add_argument("--split", default="validation", help="whose pairs are the queries: validation, test or train")
    parser.add_argument("--output", default="metrics.json", help="where the metrics go")
    parser.add_argument(
        "--save_embeddings", help="an .npz file for the embeddings: text_embeds, molecule_embeds, gold"
    )
    parser.add_argument("--plot", help="a .png file for the curve of Hits@k")
    parser.add_argument("--batch_size", type=int, default=256, help="rows embedded at once")
    parser.add_argument("--bf16", action="store_true", help="embed in bf16; ranks are always taken in float32")
    parser.add_argument("--bootstrap_samples", type=int, default=1000, help="resamples of the intervals; 0 for none")
    parser.add_argument(
        "--rescore_top_k",
        type=int,
        help="rank so many first candidates again by the model's full score, if it has one",
    )
    parser.add_argument(
        "--query_bank", action="store_true", help="report query-bank normalisation by the training pairs as well"
    )
    parser.add_argument(
        "--bank_method", choices=("softmax", "nearest"), default="softmax", help="how the bank is reckoned with"
    )
    parser.add_argument("--num_proc", type=int, help="processes that prepare the data")
    add_table_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        transformers.logging.disable_progress_bar()
    for path in (args.output, args.save_embeddings, args.plot):
        if path is not None and Path(path).is_dir():
            raise ValueError(f"{path!r} is a folder; expected the name of a file.")
    data, report = load_data(args.data_dir, args.dataset_name, args.demo, args.on_error, **table_options(args))
    if report is not None:
        print(report)
    if args.split not in data or args.split == "pool":
        splits = sorted(set(data) - {"pool"})
        raise ValueError(f"the data has no split {args.split!r}; it has {splits}.")
    if args.query_bank and (args.split == "train" or "train" not in data):
        raise ValueError("--query_bank needs training pairs that are not tested on: evaluate another split.")
    if args.rescore_top_k and len(args.model) > 1:
        raise ValueError("--rescore_top_k needs the score of one model; give --model one name.")
    started = time.perf_counter()
    parts = []
    for name in args.model:
        model, processor = load_model(name, args.revision)
        evaluator = evaluator_of(data, processor, args)
        if evaluator.rescore_top_k is not None:
            check_rescoring(model)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16):
            parts.append(evaluator.embeddings(model))
    embeddings = parts[0] if len(parts) == 1 else join_embeddings(parts)
    ranks, title, before = evaluator.ranks(embeddings), args.split, None
    normalised = evaluator.query_bank_ranks(embeddings) if args.query_bank else None
    if evaluator.rescore_top_k is not None:
        before = ranks
        with torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16):
            ranks = evaluator.rescored_ranks(model, embeddings, ranks)
        title = f"{args.split}, the first {evaluator.rescore_top_k} re-scored"
    metrics = evaluator.report(ranks, before, normalised)
    metrics["model"] = args.model[0] if len(args.model) == 1 else args.model
    metrics["seconds"] = round(time.perf_counter() - started, 3)
    metrics["class_hf_version"] = __version__
    if args.save_embeddings:
        names = ("text_embeds", "molecule_embeds", "gold")
        write_arrays(args.save_embeddings, **{name: embeddings[name].numpy() for name in names})
    if args.plot:
        plot_ranks(ranks, args.plot, title)
    write_json(args.output, metrics)
    if evaluator.rescore_top_k is not None:
        print("by the vectors alone")
        print(summary_table({**metrics, "pools": metrics["pools_before_rescoring"]}))
        print(f"with the first {evaluator.rescore_top_k} re-scored")
    print(summary_table(metrics))
    if args.query_bank:
        print(f"with query-bank normalisation by {metrics['query_bank']['pairs']:,} training pairs")
        print(summary_table({**metrics, "pools": metrics["query_bank"]["pools"]}))
    print(f"written to {args.output}")


def evaluator_of(data: datasets.DatasetDict, processor: Any, args: argparse.Namespace) -> RetrievalEvaluator:
    """Prepares the data for a model, and says what is to be reported."""
    prepared = {
        split: prepare_pairs(pairs, processor, args.num_proc) for split, pairs in data.items() if split != "pool"
    }
    return RetrievalEvaluator(
        prepared[args.split],
        prepare_molecules(data["pool"], processor, args.num_proc),
        captions=captions_of_other_splits(prepared, args.split),
        processor=processor,
        name=args.split,
        batch_size=args.batch_size,
        bootstrap_samples=args.bootstrap_samples,
        rescore_top_k=args.rescore_top_k,
        query_bank=prepared["train"] if args.query_bank else None,
        bank_method=args.bank_method,
    )


if __name__ == "__main__":
    run_script(main)
