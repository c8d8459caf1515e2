"""Measures the gain and the cost of query-bank normalisation for a trained model, by candidate pool.

    python benchmarks/query_bank.py --model MODEL --data_dir DATA [--captions FILE]

Reports the MRR from text to molecule, plain and with both methods, for:

- validation queries in the full pool;
- the pool without the molecules of training pairs, and as a control without as many other molecules (mean of three
  draws);
- the pool of the split;
- a bank without the captions of training molecules;
- with `--captions`, a bank that also has the captions of this file, one in each line, which have no molecule;
- each eighth training caption, complete and with half of its sentences (captions of at least three sentences).

Skips without a model.
"""

import math
import random
import re

import common
import numpy as np
import torch

from class_hf import RetrievalEvaluator, prepare_molecules, prepare_pairs
from class_hf.data.caption_files import read_captions
from class_hf.data.prepare import prepare_captions
from class_hf.evaluation.query_bank import bank_penalties
from class_hf.evaluation.ranks import rank_in_pools
from class_hf.hub.loading import load_model

NAME = "query bank: MRR gained in the full pool"
EVERY, DRAWS, BATCH = 8, 3, 256


def main() -> None:
    args = common.arguments(
        __doc__,
        model={"help": "folder or Hub id of a trained dual encoder"},
        captions={"help": "file with captions that have no molecule, one in each line"},
    )
    if args.model is None or args.data_dir is None:
        print("skipped: needs --model and --data_dir")
        return
    data = common.load(args.data_dir)
    model, processor = load_model(args.model)
    train = data["train"]
    further = args.captions and read_captions([args.captions], leave_out=train["description"][:])
    evaluator = RetrievalEvaluator(
        prepare_pairs(data["validation"], processor),
        prepare_molecules(data["pool"], processor),
        processor=processor,
        query_bank=prepare_pairs(train, processor),
        bank_captions=further and prepare_captions(further, processor),
        bootstrap_samples=0,
    )
    embeddings = evaluator.embeddings(model)
    texts, pool, gold = embeddings["text_embeds"], embeddings["molecule_embeds"], embeddings["gold"]
    bank, scale = embeddings["bank_text_embeds"], float(embeddings["logit_scale"])
    penalties: dict[str, torch.Tensor | None] = {"plain": None}
    penalties |= {method: bank_penalties(pool, bank, method, scale) for method in ("nearest", "softmax")}
    row_of = {key: row for row, key in enumerate(data["pool"]["id"][:])}
    trained = torch.tensor([row_of[key] for key in train["id"][:]])

    def mrr_by_method(queries: torch.Tensor, rows: torch.Tensor, kept: torch.Tensor | None = None) -> dict[str, float]:
        """MRR by method of queries whose molecules are `rows`, among the rows `kept` of the pool."""
        kept = torch.arange(len(pool)) if kept is None else kept
        return {name: mrr(queries, rows, kept, values) for name, values in penalties.items()}

    def mrr(queries: torch.Tensor, rows: torch.Tensor, kept: torch.Tensor, values: torch.Tensor | None) -> float:
        place = torch.empty(len(pool), dtype=torch.long)
        place[kept] = torch.arange(len(kept))
        kept_penalties = None if values is None else values[kept]
        ranks = rank_in_pools(queries, pool[kept], place[rows], molecule_penalties=kept_penalties)["full"][0]
        return float((1.0 / ranks).mean())

    true = torch.zeros(len(pool), dtype=torch.bool)
    true[gold] = True
    other = ~true
    other[trained] = False
    draws = []
    for seed in range(DRAWS):
        rows = other.nonzero().flatten()
        out = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[: len(trained)]]
        draws.append(mrr_by_method(texts, gold, without(out, len(pool))))
    own_similarity = (pool[trained].double() * bank.double()).sum(1)
    left_out = penalties["softmax"].clone()
    mass = len(bank) * (scale * left_out[trained]).exp() - (scale * own_similarity).exp()
    left_out[trained] = (mass / (len(bank) - 1)).log() / scale

    with_captions = {}
    if further:
        larger = torch.cat([bank, embeddings["bank_caption_embeds"]])
        with_captions[f"full pool, {len(further):,} captions without a molecule also in the bank"] = {
            method: mrr(texts, gold, torch.arange(len(pool)), bank_penalties(pool, larger, method, scale))
            for method in ("nearest", "softmax")
        }

    chosen = range(0, len(train), EVERY)
    captions = {row: train[row]["description"] for row in chosen}
    generator = random.Random(0)
    halves = {row: half(caption, generator) for row, caption in captions.items()}
    table = {
        "full pool": mrr_by_method(texts, gold),
        **with_captions,
        "without the molecules of training pairs": mrr_by_method(texts, gold, without(trained, len(pool))),
        "without as many others": {name: float(np.mean([draw[name] for draw in draws])) for name in penalties},
        "split pool": mrr_by_method(texts, gold, true.nonzero().flatten()),
        "own captions of training molecules left out of the bank": {
            "softmax": mrr(texts, gold, torch.arange(len(pool)), left_out)
        },
        "half of the sentences of training captions": mrr_by_method(
            *embedded(model, processor, {row: text for row, text in halves.items() if text}, trained)
        ),
        "whole training captions": mrr_by_method(*embedded(model, processor, captions, trained)),
    }
    for name, values in table.items():
        print(f"{name:<58}", *(f"{method} {value:.4f}" for method, value in values.items()))
    gained = table["full pool"]["softmax"] - table["full pool"]["plain"]
    common.finish(
        [common.bar(NAME, ">=", 0.05, gained)],
        args.output,
        mrr=table,
        scale=scale,
        captions={"whole": len(captions), "halved": sum(text is not None for text in halves.values())},
        training_molecules=len(trained),
        pool=len(pool),
    )


def without(rows: torch.Tensor, size: int) -> torch.Tensor:
    """The rows of a pool of `size` molecules that are not among `rows`."""
    kept = torch.ones(size, dtype=torch.bool)
    kept[rows] = False
    return kept.nonzero().flatten()


def half(caption: str, generator: random.Random) -> str | None:
    """About half of the sentences, at least one. None for captions of fewer than three sentences."""
    sentences = re.split(r"(?<=\.) ", caption)
    if len(sentences) < 3:
        return None
    return " ".join([sentence for sentence in sentences if generator.random() < 0.5] or sentences[-1:])


@torch.no_grad()
def embedded(
    model: torch.nn.Module, processor: object, captions: dict[int, str], trained: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of captions, given by the row of their training pair, and the rows of their molecules in the pool."""
    texts, batches = list(captions.values()), range(math.ceil(len(captions) / BATCH))
    vectors = [model(**processor(text=texts[i * BATCH : (i + 1) * BATCH])).text_embeds.cpu() for i in batches]
    return torch.cat(vectors), trained[list(captions)]


if __name__ == "__main__":
    main()
