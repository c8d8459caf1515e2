"""Training on data with wrong pairs: which arm recovers how much of what clean data would give.

    python benchmarks/wrong_pairs.py --data_dir DATA [--runs_dir RUNS] --among random --share 0.4 --seeds 0 1 2

A share of the training captions is exchanged (`class_hf.data.exchange_captions`, with the training seed). Every arm
trains the towers of `recipes/chebi20/fast_cpu.yaml` with embedding tables of half the width, at a global batch of
1,024, and is ranked on the complete validation split in both pools. One JSON file is written for each run. Runs that
exist are skipped, so that the command can be repeated.

The arms, and what they know:

- `none`: all pairs, full epochs.
- `random`: a growing pool of random pairs that admits all pairs at the end.
- `cut_auto`: no growth. The pairs that `DifficultyScorer.suspects` finds more likely wrong than right are left out.
- `end_auto`: the same pairs are left out, and the pool grows from the least to the most suspect of the others.
- `smoothing`, `clip`, `small_loss`: know nothing of a curriculum. Label smoothing .4; losses clipped at 5; after a
  fifth of the run, the pairs with the largest losses of each batch are left out (the share of wrong pairs is known).
- `oracle`: the right pairs only, with the steps of full epochs.

`cut_auto` and `end_auto` take .9 of the steps of full epochs.
"""

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

from class_hf import ContrastiveLoss, CurriculumTrainer, CurriculumTrainingArguments, RetrievalEvaluator
from class_hf.backbones.registry import build_model
from class_hf.config.arguments import ModelArguments
from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.exchange import exchange_captions
from class_hf.data.prepare import prepare_molecules, prepare_pairs
from class_hf.difficulty.scorer import DifficultyScorer
from class_hf.difficulty.suspects import Suspects
from class_hf.evaluation.embedding import captions_of_other_splits
from class_hf.losses.contrastive import LossOutput, dense_pair_losses
from class_hf.utils.files import write_json

TOWER = {"dropout": 0.3, "token_dropout": 0.2, "intermediate_size": 512, "embedding_size": 128}
EPOCHS, BATCH, SMOOTHING = 15, 1024, 0.2


class RobustLoss(ContrastiveLoss):
    """The contrastive loss with a rule on the losses (B,) of the pairs; one process only."""

    def __init__(self, rule: Callable[[torch.Tensor, int], torch.Tensor], label_smoothing: float = SMOOTHING):
        super().__init__(label_smoothing)
        self.rule, self.calls = rule, 0

    def forward(self, text_embeds, molecule_embeds, logit_scale, intensity=None, pair_keys=None):
        pairs = dense_pair_losses(logit_scale * text_embeds, molecule_embeds, pair_keys, self.label_smoothing)
        loss = self.rule(pairs.losses, self.calls)
        self.calls += 1
        return LossOutput(loss, pairs.losses.detach(), pairs.hits.mean())


def small_loss(share: float, steps: int) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The mean of the smallest losses, after a fifth of the steps."""

    def rule(losses: torch.Tensor, step: int) -> torch.Tensor:
        kept = len(losses) - int(share * len(losses)) if step >= steps // 5 else len(losses)
        return losses.topk(kept, largest=False).values.mean()

    return rule


class Study:
    """The data of one setting and seed, prepared once for all arms."""

    def __init__(self, data_dir: Path, among: str, share: float, seed: int):
        self.share, self.seed, self.among = share, seed, among
        self._suspects: Suspects | None = None
        data = common.load(data_dir)
        train = data["train"]
        if share > 0:
            train = exchange_captions(train, share, seed=seed, among=among)  # type: ignore[arg-type]
        self.wrong = np.array(train["exchanged"][:]) if share > 0 else np.zeros(len(train), bool)
        self.raw = train.select_columns(["id", "smiles", "description"])
        self.processor = build_model(self.model_arguments())[1]
        self.train = prepare_pairs(self.raw, self.processor)
        prepared = {split: prepare_pairs(data[split], self.processor) for split in data if split != "pool"}
        self.evaluator = RetrievalEvaluator(
            prepared["validation"],
            prepare_molecules(data["pool"], self.processor),
            captions=captions_of_other_splits(prepared, "validation"),
            processor=self.processor,
            batch_size=1024,
            bootstrap_samples=0,
        )

    @staticmethod
    def model_arguments() -> ModelArguments:
        return ModelArguments(text_config=json.dumps(TOWER), molecule_config=json.dumps(TOWER))

    def suspects(self) -> Suspects:
        """The suspects among the training pairs, found once for all arms."""
        if self._suspects is None:
            self._suspects = DifficultyScorer(seed=self.seed).suspects(self.raw)
        return self._suspects

    def run(self, rows: np.ndarray | None = None, loss: Any = None, **settings: Any) -> dict[str, Any]:
        """Trains one arm on the rows, and ranks the validation split."""
        train = self.train if rows is None else self.train.select(rows)
        if settings.get("curriculum_end") == "auto":
            suspects = self.suspects()
            ranks = np.empty(len(train))
            ranks[suspects.ranking[::-1]] = np.arange(len(train)) / len(train)
            train = train.add_column("difficulty", ranks.tolist())
            train = train.add_column("wrong_probability", suspects.wrong_probability.tolist())
        torch.manual_seed(self.seed)
        model, _ = build_model(self.model_arguments())
        with tempfile.TemporaryDirectory() as folder:
            arguments = CurriculumTrainingArguments(
                folder,
                use_cpu=True,
                num_train_epochs=settings.pop("epochs", EPOCHS),
                per_device_train_batch_size=BATCH,
                learning_rate=1.5e-3,
                weight_decay=0.01,
                adam_beta2=0.98,
                warmup_steps=0.1,
                lr_scheduler_type="linear",
                bf16_if_fast=True,
                contrastive_label_smoothing=settings.pop("smoothing", SMOOTHING),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
                seed=self.seed,
                **{"curriculum_order": "none", "curriculum_pacing": "root", "curriculum_start": 0.5, **settings},
            )
            started, cpu = time.perf_counter(), time.process_time()
            trainer = CurriculumTrainer(
                model=model,
                args=arguments,
                train_dataset=train,
                data_collator=TextMoleculeCollator(self.processor, 0.2, seed=self.seed),
                processing_class=self.processor,
                loss=loss,
            )
            trainer.train()
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        pools = self.evaluator(trainer.model)["pools"]
        ranks = {pool: directions["text_to_molecule"] for pool, directions in pools.items()}
        return {
            "steps": trainer.plan.total_steps,
            "pairs": max(trainer.plan.pool_sizes),
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            **{pool: {name: row[name] for name in ("hits@1", "hits@10", "mrr")} for pool, row in ranks.items()},
        }

    def arm(self, name: str) -> dict[str, Any]:
        steps = EPOCHS * (len(self.train) // BATCH)
        right = np.flatnonzero(~self.wrong)
        if name == "none":
            return self.run()
        if name == "random":
            return self.run(curriculum_order="random")
        if name == "oracle":
            # As many steps as full epochs take: the oracle knows which pairs are right, and nothing of a budget.
            return self.run(right, max_steps=steps, epochs=math.ceil(steps / (len(right) // BATCH)))
        if name in ("cut_auto", "end_auto"):
            order = "none" if name == "cut_auto" else "easy_first"
            # Epochs enough for the steps; the plan stops at `max_steps`.
            fewer = {"max_steps": int(0.9 * steps), "epochs": 3 * EPOCHS}
            return self.run(curriculum_order=order, curriculum_end="auto", **fewer)
        if name == "smoothing":
            return self.run(smoothing=0.4)
        if name == "clip":
            return self.run(loss=RobustLoss(lambda losses, step: losses.clamp(max=5.0).mean()))
        if name == "small_loss":
            return self.run(loss=RobustLoss(small_loss(self.share, steps)))
        raise ValueError(f"there is no arm {name!r}.")


def bars(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the best arm with a curriculum gains over full epochs, for each setting that has the arms."""
    rows = []
    for setting in sorted({run["setting"] for run in runs}):
        means = {
            arm: float(np.mean([run["full"]["mrr"] for run in runs if (run["setting"], run["arm"]) == (setting, arm)]))
            for arm in {run["arm"] for run in runs if run["setting"] == setting}
        }
        found = [means[arm] for arm in ("cut_auto", "end_auto") if arm in means]
        if not found or not {"none", "oracle"} <= set(means):
            continue
        gain, possible = max(found) - means["none"], means["oracle"] - means["none"]
        name = f"wrong pairs, {setting}: "
        rows.append(common.bar(name + "share of the oracle's gain in MRR", ">=", 0.8, gain / possible, mrr=means))
    return rows


def main() -> None:
    args = common.arguments(
        __doc__,
        runs_dir={"type": Path, "default": Path("outputs") / "wrong_pairs", "help": "folder of the runs"},
        among={"choices": ("random", "neighbours"), "default": "random"},
        share={"type": float, "default": 0.4, "help": "share of the captions that are exchanged"},
        seeds={"type": int, "nargs": "+", "default": [0]},
        arms={"nargs": "+", "default": ["none", "oracle", "cut_auto"]},
    )
    datasets.disable_progress_bars()
    for seed in args.seeds:
        folder = args.runs_dir / f"{args.among}_{args.share:g}"
        files = {arm: folder / arm / f"seed_{seed}.json" for arm in args.arms}
        missing = {arm: file for arm, file in files.items() if not file.is_file()}
        if not missing:
            continue
        study = Study(args.data_dir, args.among, args.share, seed)
        for arm, file in missing.items():
            result = {"setting": folder.name, "arm": arm, "seed": seed, **study.arm(arm)}
            write_json(file, result)
            print(f"{folder.name} seed {seed} {arm}: MRR {result['full']['mrr']:.4f}", flush=True)
    runs = [json.loads(file.read_text()) for file in sorted(args.runs_dir.glob("*/*/seed_*.json"))]
    common.finish(bars(runs), args.output, runs=runs)


if __name__ == "__main__":
    main()
