"""A tiny ORMA model with a tiny BERT, for several test files."""

import re

import torch
from conftest import CHAINS, GROUPS
from transformers import BertConfig, BertTokenizerFast

from class_hf import OrmaFeatureExtractor, OrmaModel, TextMoleculeProcessor

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCES = "The molecule is a primary alcohol amine carboxylic acid thiol . , It has a role as a metabolite"
NAMES = [*CHAINS, *(f"##{group}" for group in ("ol", "amine", "oic", "thiol"))]
WORDS = [*SPECIAL, *sorted({word for word in SENTENCES.lower().split()}), *NAMES]
assert set(re.sub("oic acid", "oic", group) for group in GROUPS) <= {"ol", "amine", "oic", "thiol"}


def tiny_processor() -> TextMoleculeProcessor:
    """A processor whose tokenizer knows the words of the tests' captions."""
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})
    return TextMoleculeProcessor(tokenizer, OrmaFeatureExtractor())


def tiny_orma(seed: int = 0, layers: int = 2, dropout: float = 0.1, **kwargs) -> OrmaModel:
    """A model with about ten thousand weights."""
    torch.manual_seed(seed)
    text = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return OrmaModel.from_towers(
        text=text, molecule={"hidden_size": 16, "dropout": dropout}, **{"projection_dim": 8, **kwargs}
    )
