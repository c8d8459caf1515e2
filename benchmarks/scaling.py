"""Measures how the cost of scoring, of an epoch of training and of evaluation grows with the number of pairs.

    python benchmarks/scaling.py [--data_dir DATA] [--sizes 1000 4000 16000 64000]

If there are too few pairs they are repeated with new ids and with their sentences in another order. Scoring includes
reading the pairs with RDKit. The towers are small (lexical and fingerprint, width 128). The epoch has all pairs in
batches of 256. Evaluation embeds N molecules and ranks 1,000 captions among them. Exponents are fitted by least
squares on the logarithms, without the smallest size, where fixed costs dominate. There is one run for each size, in
CPU seconds.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import matplotlib
import numpy as np
import torch
from datasets import Dataset, concatenate_datasets, disable_progress_bars
from transformers import PrinterCallback

from class_hf import (
    CurriculumTrainer,
    CurriculumTrainingArguments,
    DifficultyScorer,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    RetrievalEvaluator,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)

matplotlib.use("Agg")
QUERIES, BATCH = 1000, 256
# The expected exponent of each task. The bar allows `ROOM` above it for data that outgrows the caches of the CPU.
EXPECTED = {
    "scoring, complexity": 1,
    "scoring, confusability of 8 neighbours": 2,
    "scoring, confusability of all": 1,
    "one epoch": 1,
    "evaluation of 1,000 captions": 1,
}
ROOM = 0.25


def enlarge(pairs: Dataset, size: int) -> Dataset:
    """Makes `size` pairs with different ids."""
    generator = np.random.default_rng(0)
    rows: dict[str, list[str]] = {"id": [], "smiles": [], "description": []}
    for number in range(size):
        row = pairs[number % len(pairs)]
        sentences = row["description"].removesuffix(".").split(". ")
        if number >= len(pairs):
            sentences = [sentences[place] for place in generator.permutation(len(sentences))]
        rows["id"].append(f"{number}")
        rows["smiles"].append(row["smiles"])
        rows["description"].append(". ".join(sentences) + ".")
    return Dataset.from_dict(rows)


def seconds(function: Callable[[], Any]) -> float:
    """CPU seconds of all threads. Other work on a shared machine does not count."""
    started = time.process_time()
    function()
    return time.process_time() - started


def measure(pairs: Dataset, folder: str) -> dict[str, float]:
    """CPU seconds of each task over all pairs."""
    scorers = {
        "scoring, complexity": DifficultyScorer("complexity"),
        "scoring, confusability of 8 neighbours": DifficultyScorer("confusability"),
        "scoring, confusability of all": DifficultyScorer("confusability", neighbours="all"),
    }
    taken = {name: seconds(lambda scorer=scorer: scorer.fit(pairs)) for name, scorer in scorers.items()}

    sizes = {"embedding_size": 128, "hidden_size": 128, "intermediate_size": 256, "num_buckets": 2**14}
    processor = TextMoleculeProcessor(
        LexicalTokenizer(num_buckets=2**14), MoleculeFingerprintFeatureExtractor(num_buckets=2**14)
    )
    prepared = prepare_pairs(pairs, processor)
    torch.manual_seed(0)
    model = TextMoleculeDualEncoderModel.from_towers(text_kwargs=sizes, molecule_kwargs=sizes)
    trainer = CurriculumTrainer(
        model=model,
        args=CurriculumTrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            curriculum_order="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=prepared,
        data_collator=TextMoleculeCollator(processor),
    )
    trainer.remove_callback(PrinterCallback)
    taken["one epoch"] = seconds(trainer.train)
    queries = prepared.select(range(min(QUERIES, len(prepared))))
    evaluator = RetrievalEvaluator(queries, prepared, processor=processor, bootstrap_samples=0)
    taken["evaluation of 1,000 captions"] = seconds(lambda: evaluator(trainer.model))
    return taken


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope of the logarithm of time over that of size, without the smallest size."""
    return float(np.polyfit(np.log(sizes[1:]), np.log(times[1:]), 1)[0])


def draw(sizes: list[int], times: dict[str, list[float]], exponents: dict[str, float], path: Path) -> None:
    """Draws one line for each task on logarithmic axes."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.8), layout="constrained")
    for name, values in times.items():
        axes.loglog(sizes, values, "o-", label=f"{name}: N^{exponents[name]:.2f}, expected {EXPECTED[name]}")
    axes.set(xlabel="pairs N", ylabel="CPU seconds", title="How cost grows")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def main() -> None:
    args = common.arguments(__doc__, sizes={"type": int, "nargs": "+", "default": [1000, 4000, 16000, 64000]})
    disable_progress_bars()
    data = common.load(args.data_dir)
    columns = ["id", "smiles", "description"]
    pairs = concatenate_datasets([data[split].select_columns(columns) for split in ("train", "validation")])
    times: dict[str, list[float]] = {name: [] for name in EXPECTED}
    with tempfile.TemporaryDirectory() as folder:
        measure(enlarge(pairs, 300), folder)  # imports and first calls
        for size in args.sizes:
            for name, value in measure(enlarge(pairs, size), folder).items():
                times[name].append(round(value, 3))
            print(size, {name: values[-1] for name, values in times.items()}, flush=True)
    exponents = {name: exponent(args.sizes, values) for name, values in times.items()}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    draw(args.sizes, times, exponents, args.output.with_suffix(".png"))
    rows = [
        common.bar(f"growth: {name}, exponent (expected {EXPECTED[name]})", "<=", EXPECTED[name] + ROOM, value)
        for name, value in exponents.items()
    ]
    common.finish(rows, args.output, sizes=args.sizes, seconds=times)


if __name__ == "__main__":
    main()
