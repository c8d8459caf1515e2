"""`Encoder`: 10,000 molecules and 10,000 texts, compared with sentence-transformers and ONNX Runtime.

    python benchmarks/encoder.py [--data_dir DATA] [--rows 10000]

The transformer has two layers of width 128 and random weights. sentence-transformers runs the same tower, from
`class-hf export --format sentence-transformers`, and ONNX Runtime from `--format onnx`. All sides take turns. CPU
seconds are compared, with tokenising and featurising. The vectors of all sides are equal.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, bar, best_of, finish, load
from datasets import disable_progress_bars
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, BertTokenizerFast

from class_hf import (
    Encoder,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
)
from class_hf.hub.onnx_export import save_onnx
from class_hf.hub.sentence_transformers import save_sentence_transformer

BATCH = 64
WIDTH = 128
LAYERS = 2
MAX_TOKENS = 128


def tokenizer_of(texts: list[str]) -> BertTokenizerFast:
    """A WordPiece tokenizer of 8,000 entries, trained on the texts."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=8_000, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=tokenizer)


def transformer(texts: list[str]) -> tuple[Any, Any]:
    """A dual encoder with a transformer, and its processor."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=8_000,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=MAX_TOKENS,
    )
    tower = BertModel(config, add_pooling_layer=False)
    model = TextMoleculeDualEncoderModel.from_towers(tower, "fingerprint", projection_dim=WIDTH).eval()
    extractor = MoleculeFingerprintFeatureExtractor()
    return model, TextMoleculeProcessor(tokenizer_of(texts), extractor, max_text_length=MAX_TOKENS)


def main() -> None:
    args = arguments(__doc__, rows={"type": int, "default": 10_000, "help": "texts and molecules"})
    disable_progress_bars()
    pairs = load(args.data_dir)["train"]
    rows = [place % len(pairs) for place in range(args.rows)]
    # Equal inputs are encoded once, so repeated ones get a number.
    texts = [f"{pairs['description'][row]} {place}" for place, row in enumerate(rows)]
    smiles = [pairs["smiles"][row] for row in rows]
    model, processor = transformer(texts[:2_000])
    torch.manual_seed(0)
    light = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint").eval()
    light_processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_sentence_transformer(model, processor, folder / "peer")
        save_onnx(model, processor, folder / "onnx")
        save_onnx(light, light_processor, folder / "light")
        peer = SentenceTransformer(str(folder / "peer"), device="cpu")
        encoder, onnx = Encoder(model, processor), Encoder.from_pretrained(str(folder / "onnx"), backend="onnx")
        bags = Encoder(light, light_processor)
        light_onnx = Encoder.from_pretrained(str(folder / "light"), backend="onnx")
        expected = peer.encode(texts[:100])
        for side in (encoder, onnx):
            difference = float(np.abs(side.encode_text(texts[:100]) - expected).max())
            if difference > 1e-5:
                raise SystemExit(f"error: the vectors differ by {difference:.1e}.")
        bags.encode_molecules(smiles[:100])
        options: dict[str, Any] = {"batch_size": BATCH, "show_progress_bar": False}
        timing = best_of(
            {
                "sentence-transformers": lambda: peer.encode(texts, **options),
                "transformer": lambda: encoder.encode_text(texts, **options),
                "transformer, onnx": lambda: onnx.encode_text(texts, **options),
                "lexical": lambda: bags.encode_text(texts, **options),
                "lexical, onnx": lambda: light_onnx.encode_text(texts, **options),
                "fingerprint": lambda: bags.encode_molecules(smiles, **options),
            },
            repeats=2,
        )
        single = best_of(
            {
                "transformer": lambda: [encoder.encode_text(text) for text in texts[:100]],
                "transformer, onnx": lambda: [onnx.encode_text(text) for text in texts[:100]],
            }
        )
    seconds = {name: value.cpu for name, value in timing.items()}
    finish(
        [
            bar(
                f"encoder: {args.rows:,} texts, CPU time of sentence-transformers over Encoder, equal towers",
                ">=",
                1.0,
                seconds["sentence-transformers"] / seconds["transformer"],
            ),
            bar(
                f"encoder: {args.rows:,} texts, CPU time of torch over ONNX Runtime, transformer",
                ">=",
                1.0,
                seconds["transformer"] / seconds["transformer, onnx"],
            ),
            bar(f"encoder: {args.rows:,} texts a CPU second, lexical", ">=", 1_000, args.rows / seconds["lexical"]),
            bar(
                f"encoder: {args.rows:,} molecules a CPU second, fingerprint",
                ">=",
                500,
                args.rows / seconds["fingerprint"],
            ),
        ],
        args.output,
        cpu_seconds=seconds,
        wall_seconds={name: value.wall for name, value in timing.items()},
        milliseconds_of_a_single_text={name: 10 * value.cpu for name, value in single.items()},
        inputs=args.rows,
        batch_size=BATCH,
    )


if __name__ == "__main__":
    main()
