"""A small training run, for the tests that need several processes or a kill: they fork `train_and_save`.

`settings` holds `args` (of CurriculumTrainingArguments), `resume`, `kill_at` and `interrupt_at` (a step, before whose
end the process kills or interrupts itself), `trace` (a file prefix for the rows that each rank draws) and `dropout`.
The final weights go to `output_dir/final.pt`, the number of all-reduces of each step under DDP to
`output_dir/reductions.json`. With `ddp_gradient_compression` it has a 1 for each step in which all gradients are
numbers of that type.
"""

import json
import os
import signal
from pathlib import Path

import datasets
import torch
import torch.distributed as dist
from conftest import rows_of_pairs, tiny_model
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback

from class_hf import (
    CurriculumTrainer,
    CurriculumTrainingArguments,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    RetrievalEvaluator,
    TextMoleculeCollator,
    TextMoleculeProcessor,
    prepare_pairs,
)


class SignalAt(TrainerCallback):
    """Sends a signal to the process in the middle of a step."""

    def __init__(self, step, number):
        self.step = step
        self.number = number

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)


class CountReductions(TrainerCallback):
    """Counts DDP's all-reduces by step."""

    def __init__(self):
        self.counts = []

    def on_step_begin(self, args, state, control, **kwargs):
        wrapped = self.trainer.model_wrapped
        self.kind = getattr(torch, {"fp16": "float16"}.get(args.ddp_gradient_compression, "float32"))
        if not self.counts and isinstance(wrapped, DistributedDataParallel) and self.kind == torch.float32:
            wrapped.register_comm_hook(None, self.hook)
        self.counts.append(0)

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if self.kind != torch.float32:
            gradients = [value.grad for value in model.parameters() if value.grad is not None]
            self.counts[-1] = int(all(torch.equal(values, values.to(self.kind).float()) for values in gradients))

    def hook(self, process_group, bucket):
        self.counts[-1] += 1
        return allreduce_hook(process_group, bucket)


class TracingCollator(TextMoleculeCollator):
    """Notes the rows of every batch."""

    def __init__(self, *args, path=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.path = path

    def __call__(self, features):
        if self.path is not None:
            with open(self.path, "a") as file:
                file.write(json.dumps([feature["id"] for feature in features]) + "\n")
        return super().__call__(features)


def build(settings):
    """The trainer that the settings describe."""
    torch.set_num_threads(1)
    args = CurriculumTrainingArguments(use_cpu=True, report_to="none", disable_tqdm=True, **settings["args"])
    processor = TextMoleculeProcessor(
        LexicalTokenizer(num_buckets=512), MoleculeFingerprintFeatureExtractor(num_buckets=256, radius=1)
    )
    prepared = prepare_pairs(datasets.Dataset.from_dict(rows_of_pairs(24)), processor)
    trace = settings.get("trace")
    dropout = settings.get("dropout", 0.2)
    collator = TracingCollator(
        processor,
        sentence_dropout=1.5 * dropout,
        seed=args.seed,
        path=f"{trace}{args.process_index}" if trace else None,
    )
    signals = {"kill_at": signal.SIGKILL, "interrupt_at": signal.SIGINT}
    callbacks = [SignalAt(settings[name], number) for name, number in signals.items() if name in settings]
    counter = CountReductions()
    trainer = CurriculumTrainer(
        model=tiny_model(dropout=dropout),
        args=args,
        train_dataset=prepared,
        data_collator=collator,
        processing_class=processor,
        evaluator=RetrievalEvaluator(prepared.select(range(8)), prepared, processor=processor, bootstrap_samples=0),
        callbacks=[*callbacks, counter],
    )
    counter.trainer = trainer
    return trainer


def train_and_save(settings):
    """Trains and writes the files of the docstring above, in each process of a run."""
    trainer = build(settings)
    trainer.train(resume_from_checkpoint=settings.get("resume"))
    if trainer.is_world_process_zero():
        torch.save(trainer.model.state_dict(), Path(trainer.args.output_dir) / "final.pt")
        counter = next(one for one in trainer.callback_handler.callbacks if isinstance(one, CountReductions))
        (Path(trainer.args.output_dir) / "reductions.json").write_text(json.dumps(counter.counts))
        (Path(trainer.args.output_dir) / "log.json").write_text(json.dumps(trainer.state.log_history))
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
