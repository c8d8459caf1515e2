"""Requirement 5, curriculum cost: an epoch costs in proportion to its pairs, and the order costs almost nothing.

    python benchmarks/curriculum_cost.py [--data_dir DATA] [--output FILE]

Times epochs of a `CurriculumTrainer` with the fast towers (n-grams and fingerprints) at three shares of admitted
pairs. Each run has one epoch, and the shares take turns. Time is counted from the start of the first step to the end
of the last. Also counts steps and sorts, and times the sampler.
"""

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import datasets
import numpy as np
from common import arguments, bar, best_of, finish, load
from transformers import PrinterCallback, TrainerCallback

from class_hf import (
    CurriculumPlan,
    CurriculumTrainer,
    CurriculumTrainingArguments,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.curriculum.sampler import CurriculumSampler

SHARES = (0.25, 0.5, 1.0)
BATCH = 256
MOST_PAIRS = 24 * BATCH  # trained on
SAMPLER_EPOCHS = 36


class Clock(TrainerCallback):
    """Measures the seconds from the start of the first step to the end of the last, and counts steps by epoch."""

    def __init__(self) -> None:
        self.started = math.nan
        self.seconds = math.nan
        self.steps: Counter[int] = Counter()
        self.plan: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self.started = time.perf_counter()
        self.steps[self.plan.epoch_at(state.global_step)] += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self.started


def train(prepared: datasets.Dataset, processor: TextMoleculeProcessor, epochs: int, **settings: Any) -> Clock:
    """Trains one model and returns its clock."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = CurriculumTrainer(
            model=TextMoleculeDualEncoderModel.from_towers(text="lexical", molecule="fingerprint"),
            args=CurriculumTrainingArguments(
                folder,
                num_train_epochs=epochs,
                per_device_train_batch_size=BATCH,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                **settings,
            ),
            train_dataset=prepared,
            data_collator=TextMoleculeCollator(processor),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        clock.plan = trainer.plan
        trainer.train()
    return clock


@contextmanager
def counted_sorts() -> Iterator[Counter[str]]:
    """Counts the calls of the sorting functions of NumPy."""
    counts: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for name in ("argsort", "lexsort", "sort", "unique"):
            stack.enter_context(patch.object(np, name, counting(name, getattr(np, name))))
        yield counts


def main() -> None:
    args = arguments(__doc__)
    datasets.disable_progress_bars()
    pairs = load(args.data_dir)["train"]
    ids = pairs["id"][:]
    difficulty = np.random.default_rng(0).random(len(pairs))
    processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    trained = pairs.select_columns(["id", "smiles", "description"]).select(range(min(MOST_PAIRS, len(pairs))))
    prepared = prepare_pairs(trained, processor).add_column("difficulty", difficulty[: len(trained)])

    clocks: dict[float, list[Clock]] = {share: [] for share in SHARES}

    def epoch(share: float) -> Callable[[], None]:
        return lambda: clocks[share].append(train(prepared, processor, 1, curriculum_start=share))

    best_of({str(share): epoch(share) for share in SHARES}, repeats=4)  # the first repeat warms up
    seconds = {share: min(clock.seconds for clock in runs) for share, runs in clocks.items()}
    results = [
        bar(
            f"5 curriculum cost: time of an epoch at active share {share:g}, over a full one",
            "<=",
            share + 0.05,
            seconds[share] / seconds[1.0],
            steps=clocks[share][0].steps.total(),
            full_steps=clocks[1.0][0].steps.total(),
        )
        for share in SHARES
        if share < 1
    ]

    few = prepared.select(range(min(10 * BATCH, len(prepared))))
    run = train(few, processor, 6, curriculum_start=0.25)
    planned = dict(enumerate(run.plan.steps_per_epoch))
    difference = sum(abs(run.steps[epoch] - planned.get(epoch, 0)) for epoch in {*run.steps, *planned})
    results.append(bar("5 curriculum cost: steps that differ from the plan's, epoch by epoch", "<=", 0, difference))

    settings: dict[str, Any] = {"ids": ids, "epochs": SAMPLER_EPOCHS, "batch_size": BATCH}
    with counted_sorts() as sorts:
        plan = CurriculumPlan(difficulty, **settings)
        drawn = sum(1 for _ in CurriculumSampler(plan))
    planning = best_of({"plan": lambda: CurriculumPlan(difficulty, **settings)})["plan"]
    sampling = best_of({"sampler": lambda: [None for _ in CurriculumSampler(plan)]})["sampler"]
    results += [
        bar(
            "5 curriculum cost: microseconds a sample, plan included",
            "<=",
            1.0,
            1e6 * (planning.wall + sampling.wall) / drawn,
        ),
        bar("5 curriculum cost: sorts a run", "<=", 1, sorts.total()),
    ]
    finish(
        results,
        args.output,
        pairs_trained_on=len(trained),
        pairs_in_plan=len(pairs),
        batch=BATCH,
        seconds_an_epoch={str(share): value for share, value in seconds.items()},
        samples=drawn,
        microseconds_a_sample_without_plan=1e6 * sampling.wall / drawn,
    )


if __name__ == "__main__":
    main()
