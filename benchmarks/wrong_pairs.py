"""Training on data with wrong pairs: which arm recovers how much of what clean data would give.

    python benchmarks/wrong_pairs.py --data_dir DATA [--towers light] --settings random_0.4 --arms none --seeds 0 1 2

A setting is `random_SHARE` or `neighbours_SHARE`: this share of the training captions is exchanged
(`class_hf.data.exchange_captions`, with the training seed). Every arm is ranked on the complete validation split in
both pools. Each run writes its metrics (JSON) and the rank of each query in the full pool (NPY). Runs that exist are
skipped, so that the command can be repeated.

The towers, at sizes that a CPU core trains in minutes:

- `light`: those of `recipes/chebi20/fast_cpu.yaml` with embedding tables of half the width, batches of 1,024.
- `aman`: `recipes/chebi20/aman.yaml` with n-grams in place of SciBERT.
- `minilm_gine`: `recipes/chebi20/minilm_gine.yaml`, the pretrained text tower frozen.

The arms, and what they know:

- `none`: all pairs, full epochs.
- `random`, `hard_first`, `easy_first`: a growing pool that admits all pairs at the end. The order is random, or
  that of the suspects.
- `cut_auto`: no growth. The pairs that `DifficultyScorer.suspects` finds likely wrong are left out.
- `end_auto`: the same pairs are left out, and the pool grows from the least to the most suspect of the others.
- `end_oracle`: as `cut_auto`, but the share that is left out is the true one.
- `weights`: all pairs, weighted in the loss by their probability of being right.
- `smoothing`, `clip`, `small_loss`: know nothing of a curriculum. Label smoothing .4; losses clipped at 5
  after a fifth of the run; after a fifth of the run, the pairs with the largest losses of each batch are left out (the
  share of wrong pairs is known).
- `oracle`: the right pairs only, with the steps of full epochs.

`cut_auto` and `end_auto` take .9 of the steps of full epochs. Options change an arm, for instance `cut_auto+t.3+s1`:

- `t.3`: pairs are left out whose probability of being wrong is above .3.
- `s.7`: .7 of the steps of full epochs.
- `weights`, `posterior`: the pairs that are used are weighted by their probability of being right. `posterior` updates
  it by the model in training.
- `trim`: after a fifth of the run, the largest losses of each batch are left out, as many as wrong pairs are expected.
"""

import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import datasets
import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from wrong_pairs_report import bars, draw, histogram

from class_hf import ContrastiveLoss, CurriculumTrainer, CurriculumTrainingArguments, RetrievalEvaluator
from class_hf.backbones.registry import build_loss, build_model
from class_hf.config.arguments import DataArguments, ModelArguments
from class_hf.config.parsing import parse_recipe
from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.exchange import exchange_captions
from class_hf.difficulty.scorer import DifficultyScorer
from class_hf.evaluation.embedding import captions_of_other_splits
from class_hf.losses.contrastive import LossOutput, dense_pair_losses
from class_hf.losses.focal import focal_mean
from class_hf.training.preparation import prepare_splits
from class_hf.utils.files import write_json

TOWER = json.dumps({"dropout": 0.3, "token_dropout": 0.2, "intermediate_size": 512, "embedding_size": 128})
GINE = json.dumps({"layer_type": "gine", "hidden_size": 128, "num_layers": 3, "dropout": 0.1})
FROZEN = json.dumps({"freeze_text": True, "projection_dim": 256})
# The recipe of each kind of towers, and what is changed in it.
TOWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "light": (
        "fast_cpu.yaml",
        {"text_config": TOWER, "molecule_config": TOWER, "learning_rate": 1.5e-3},
    ),
    "aman": (
        "aman.yaml",
        {
            "text_model": "lexical", "text_config": TOWER, "sentence_dropout": 0.2, "num_train_epochs": 4,
            "per_device_train_batch_size": 128, "learning_rate": 3e-4, "text_learning_rate": 1e-3, "warmup_steps": 0.1,
            "dataloader_num_workers": 0,
        },
    ),
    "minilm_gine": (
        "minilm_gine.yaml",
        {
            "dual_encoder_config": FROZEN, "molecule_config": GINE, "sentence_dropout": 0.0, "num_train_epochs": 10,
            "learning_rate": 1e-3,
            "bf16": False, "bf16_if_fast": True, "dataloader_num_workers": 0,
        },
    ),
}  # fmt: skip
SMOOTHING = 0.2


class RobustLoss(ContrastiveLoss):
    """The contrastive loss with a rule on the losses (B,) of the pairs; one process only."""

    def __init__(self, rule: Callable[[torch.Tensor, int], torch.Tensor], label_smoothing: float = SMOOTHING):
        super().__init__(label_smoothing)
        self.rule, self.calls = rule, 0

    def forward(self, text_embeds, molecule_embeds, logit_scale, intensity=None, pair_keys=None, pair_weights=None):
        pairs = dense_pair_losses(logit_scale * text_embeds, molecule_embeds, pair_keys, self.label_smoothing)
        loss = self.rule(pairs.losses, self.calls)
        self.calls += 1
        return LossOutput(loss, pairs.losses.detach(), pairs.hits.mean())


class PosteriorLoss(ContrastiveLoss):
    """The contrastive loss, weighted by the probability that each pair is right, given the model in training."""

    def forward(self, text_embeds, molecule_embeds, logit_scale, intensity=None, pair_keys=None, pair_weights=None):
        pairs = dense_pair_losses(logit_scale * text_embeds, molecule_embeds, pair_keys, self.label_smoothing)
        # A wrong partner is as likely as any other of the batch; a right one as likely as the model says.
        right = pair_weights * pairs.probabilities * len(text_embeds)
        weights = right / (right + (1 - pair_weights)).clamp(min=1e-6)
        loss = focal_mean(pairs.losses, pairs.probabilities, 0.0, pair_weights=weights)
        return LossOutput(loss, pairs.losses.detach(), pairs.hits.mean())


def small_loss(share: float, steps: int) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The mean of the smallest losses, after a fifth of the steps."""

    def rule(losses: torch.Tensor, step: int) -> torch.Tensor:
        kept = len(losses) - int(share * len(losses)) if step >= steps // 5 else len(losses)
        return losses.topk(kept, largest=False).values.mean()

    return rule


def clipped(steps: int) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The mean of losses that are clipped at 5 after a fifth of the steps. An untrained model has larger losses."""
    return lambda losses, step: (losses.clamp(max=5.0) if step >= steps // 5 else losses).mean()


def parse_towers(towers: str, **settings: Any) -> tuple[DataArguments, ModelArguments, CurriculumTrainingArguments]:
    """The arguments of a run: a recipe, what `TOWERS` changes in it, and `settings`."""
    recipe, changed = TOWERS[towers]
    values = {**changed, "use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
    values |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, **settings}
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    classes = (DataArguments, ModelArguments, CurriculumTrainingArguments)
    return parse_recipe([str(common.ROOT / "recipes" / "chebi20" / recipe), *words], classes, prog="wrong_pairs")[1:]


class Bench:
    """What all settings share: the processor, the training pairs as they are, and the evaluation."""

    def __init__(self, data_dir: Path, towers: str):
        self.towers = towers
        data = common.load(data_dir)
        self.pairs = data["train"]
        with tempfile.TemporaryDirectory() as folder:
            _, model_args, args = parse_towers(towers, output_dir=folder)
            model, self.processor = build_model(model_args)
            prepared, pool, _ = prepare_splits(data, model, self.processor, args)
        self.train = prepared["train"]
        self.row_of_caption = {caption: row for row, caption in enumerate(self.train["description"])}
        self.evaluator = RetrievalEvaluator(
            prepared["validation"],
            pool,
            captions=captions_of_other_splits(prepared, "validation"),
            processor=self.processor,
            batch_size=512,
            bootstrap_samples=0,
        )

    def prepare(self, pairs: Dataset) -> Dataset:
        """The training pairs with other captions, encoded. Exchanged captions bring what was encoded of them along."""
        captions = self.train.select([self.row_of_caption[caption] for caption in pairs["description"]])
        text = [name for name in captions.column_names if name == "description" or name.startswith("text_")]
        return concatenate_datasets([captions.select_columns(text), self.train.remove_columns(text)], axis=1)


class Setting:
    """The training pairs of one setting and seed, prepared once for all arms."""

    def __init__(self, bench: Bench, name: str, seed: int, folder: Path):
        self.bench, self.seed, self.folder = bench, seed, folder
        among, share = name.split("_")
        self.share = float(share)
        train, self.wrong = bench.pairs, np.zeros(len(bench.pairs), bool)
        if self.share > 0:
            train = exchange_captions(train, self.share, seed=seed, among=among)  # type: ignore[arg-type]
            self.wrong = np.array(train["exchanged"][:])
        self.raw = train.select_columns(["id", "smiles", "description"])
        self.train = bench.prepare(self.raw)
        args = parse_towers(bench.towers)[2]
        self.batch = args.per_device_train_batch_size
        self.epochs = int(args.num_train_epochs)
        self.steps = self.epochs * (len(self.train) // self.batch)
        self._suspects: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def suspects(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) probability that each training pair is wrong, and (N,) rank as a suspect, in [0, 1)."""
        file = self.folder / f"suspects_{self.seed}.npz"
        if self._suspects is None and not file.is_file():
            found = DifficultyScorer(seed=self.seed).suspects(self.raw, max_listed=1)
            ranks = np.empty(len(self.train))
            ranks[found.ranking[::-1]] = np.arange(len(self.train)) / len(self.train)
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, probability=found.wrong_probability, rank=ranks, wrong=self.wrong)
        if self._suspects is None:
            with np.load(file) as arrays:
                self._suspects = arrays["probability"], arrays["rank"]
        return self._suspects

    def run(self, train: Any, loss: Any = None, **settings: Any) -> dict[str, Any]:
        """Trains one arm on pairs, and ranks the validation split."""
        with tempfile.TemporaryDirectory() as folder:
            settings = {"curriculum_order": "none", **settings}
            data_args, model_args, args = parse_towers(
                self.bench.towers, output_dir=folder, seed=self.seed, **settings
            )
            torch.manual_seed(self.seed)
            model, _ = build_model(model_args)
            started, cpu = time.perf_counter(), time.process_time()
            trainer = CurriculumTrainer(
                model=model,
                args=args,
                train_dataset=train,
                data_collator=TextMoleculeCollator(self.bench.processor, data_args.sentence_dropout, seed=self.seed),
                processing_class=self.bench.processor,
                loss=loss or build_loss(model_args, label_smoothing=args.contrastive_label_smoothing, seed=self.seed),
            )
            trainer.train()
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        evaluator = self.bench.evaluator
        ranks = evaluator.ranks(evaluator.embeddings(trainer.model))
        pools = evaluator.report(ranks)["pools"]
        metrics = {pool: directions["text_to_molecule"] for pool, directions in pools.items()}
        plan = trainer.plan
        return {
            "steps": plan.total_steps,
            "pairs": max(plan.pool_sizes),
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            **{pool: {name: row[name] for name in ("hits@1", "hits@10", "mrr")} for pool, row in metrics.items()},
            "ranks": ranks["full"]["text_to_molecule"][0],
        }

    def arm(self, name: str) -> dict[str, Any]:
        """Trains the arm of this name."""
        name, *options = name.split("+")
        right = np.flatnonzero(~self.wrong)
        if name == "none":
            return self.run(self.train)
        if name == "oracle":
            # As many steps as full epochs take: the oracle knows which pairs are right, and nothing of a budget.
            epochs = math.ceil(self.steps / (len(right) // self.batch))
            return self.run(self.train.select(right), max_steps=self.steps, num_train_epochs=epochs)
        if name == "smoothing":
            return self.run(self.train, contrastive_label_smoothing=0.4)
        if name == "clip":
            return self.run(self.train, RobustLoss(clipped(self.steps)))
        if name == "small_loss":
            return self.run(self.train, RobustLoss(small_loss(self.share, self.steps)))
        if name == "random":
            return self.run(self.train, curriculum_order="random")
        return self._arm_with_suspects(name, options)

    def _arm_with_suspects(self, name: str, options: list[str]) -> dict[str, Any]:
        threshold: float | None = None
        probability, rank = self.suspects
        train = self.train.add_column("difficulty", rank.tolist())
        train = train.add_column("wrong_probability", probability.tolist())
        orders = {"easy_first": "easy_first", "hard_first": "hard_first", "end_auto": "easy_first"}
        settings: dict[str, Any] = {"curriculum_order": orders.get(name, "none")}
        kept, share = np.ones(len(probability), bool), 1.0
        if name in ("cut_auto", "end_auto", "end_oracle"):
            threshold = next((float(option[1:]) for option in options if option[:2] == "t."), None)
            settings["curriculum_end"], share = "auto", 0.9
            if threshold is not None:
                kept = probability <= threshold
                settings["curriculum_end"] = str(kept.mean())
            if name == "end_oracle":
                settings["curriculum_end"] = str(1 - self.wrong.mean())
        elif name not in ("easy_first", "hard_first", "weights"):
            raise ValueError(f"there is no arm {name!r}.")
        share = next((float(option[1:]) for option in options if option[0] == "s"), share)
        if name not in ("easy_first", "hard_first"):
            # Epochs enough for the steps; the plan stops at `max_steps`, and a growing pool is complete before.
            settings |= {"max_steps": int(share * self.steps), "num_train_epochs": 3 * self.epochs}
            settings["curriculum_span"] = 0.25
        loss: Any = None
        if name == "weights" or "weights" in options:
            settings["suspect_weights"] = True
        if "posterior" in options:
            settings["suspect_weights"], loss = True, PosteriorLoss(SMOOTHING)
        if "trim" in options:
            expected = float(probability[kept if threshold is not None else probability <= 0.5].mean())
            loss = RobustLoss(small_loss(expected, int(share * self.steps)))
        return self.run(train, loss, **settings)


def main() -> None:
    args = common.arguments(
        __doc__,
        towers={"choices": list(TOWERS), "default": "light"},
        runs_dir={"type": Path, "help": "folder of the runs (default: outputs/wrong_pairs/TOWERS)"},
        settings={"nargs": "+", "default": ["random_0.4"], "help": "random_SHARE or neighbours_SHARE"},
        seeds={"type": int, "nargs": "+", "default": [0]},
        arms={"nargs": "+", "default": ["none", "oracle", "cut_auto"]},
        figure={"type": Path, "help": "PNG file of the figure; needs the runs of the settings of the table"},
    )
    datasets.disable_progress_bars()
    args.runs_dir = args.runs_dir or Path("outputs") / "wrong_pairs" / args.towers
    bench = None
    for seed, name in itertools.product(args.seeds, args.settings):
        folder = args.runs_dir / name
        files = {arm: folder / arm / f"seed_{seed}.json" for arm in args.arms}
        missing = {arm: file for arm, file in files.items() if not file.is_file()}
        if not missing:
            continue
        bench = bench or Bench(args.data_dir, args.towers)
        setting = Setting(bench, name, seed, folder)
        for arm, file in missing.items():
            result = {"setting": name, "arm": arm, "seed": seed, **setting.arm(arm)}
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file.with_suffix(".npy"), np.asarray(result.pop("ranks"), np.float32))
            write_json(file, result)
            print(f"{name} seed {seed} {arm}: MRR {result['full']['mrr']:.4f}", flush=True)
    runs = [json.loads(file.read_text()) for file in sorted(args.runs_dir.glob("*/*/seed_*.json"))]
    histograms = {file.parent.name: histogram(file) for file in sorted(args.runs_dir.glob("*/suspects_0.npz"))}
    if args.figure is not None:
        draw(runs, histograms, args.figure)
    common.finish(bars(runs, args.runs_dir, args.towers), args.output, runs=runs, probabilities_of_seed_0=histograms)


if __name__ == "__main__":
    main()
