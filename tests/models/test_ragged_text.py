"""Ragged captions, cut into padded chunks, give the same result as one padded batch."""

import pytest
import torch
from test_dual_encoder import SMILES, WORDS, bert_config, bert_tokenizer, make

from class_hf import MoleculeFingerprintFeatureExtractor, TextMoleculeDualEncoderModel, TextMoleculeProcessor
from class_hf.models.ragged_text import cut_by_length, padded_chunks

TEXTS = [
    "An acid.",
    "The molecule is an acid. It has an acid. It is an acid.",
    "It has an alcohol.",
    "Acid.",
    "The molecule is an alcohol. It has an acid.",
]


@pytest.mark.parametrize("chunk_size", (1, 2, 3, 64))
def test_chunks_hold_every_token_once_and_pad_to_their_longest_row(chunk_size):
    lengths = [3, 9, 1, 4, 4, 7]
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    ids = torch.arange(1, sum(lengths) + 1)
    seen = {}
    for rows, tokens, mask in padded_chunks(ids, offsets, chunk_size, pad_token_id=0):
        assert len(rows) <= chunk_size and tokens.shape == mask.shape
        assert tokens.shape[1] == max(lengths[row] for row in rows.tolist())
        assert (tokens[mask == 0] == 0).all()
        seen |= {row: tokens[place][mask[place] == 1].tolist() for place, row in enumerate(rows.tolist())}
    assert seen == {row: ids[offsets[row] : offsets[row + 1]].tolist() for row in range(len(lengths))}


def test_cuts_end_full_chunks_and_those_that_would_be_padded():
    assert cut_by_length([10, 10, 9, 9, 9], chunk_size=2) == [0, 2, 4, 5]
    assert cut_by_length([100, 86, 84, 80], chunk_size=9) == [0, 2, 4]
    assert cut_by_length([100, 50, 20], chunk_size=9, least_tokens=120) == [0, 2, 3]
    assert cut_by_length([5], chunk_size=1) == [0, 1]


def gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    (output.text_embeds @ output.molecule_embeds.T).square().sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}, output


@pytest.mark.parametrize("chunk_size", (1, 2, 64))
def test_ragged_chunks_equal_one_padded_batch(chunk_size):
    model, processor = make("bert+fingerprint")
    model.eval()
    model.config.tower_chunk_size = chunk_size
    ragged = processor(text=TEXTS, smiles=(SMILES * 3)[:5])
    padded = dict(processor.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    padded.pop("token_type_ids", None)
    padded |= {name: value for name, value in ragged.items() if name.startswith("molecule_")}
    expected_gradients, expected_output = gradients(model, padded)
    actual_gradients, output = gradients(model, ragged)
    torch.testing.assert_close(output.text_embeds, expected_output.text_embeds, atol=1e-6, rtol=1e-5)
    assert expected_gradients.keys() == actual_gradients.keys()
    for name in expected_gradients:
        torch.testing.assert_close(
            actual_gradients[name], expected_gradients[name], atol=1e-5, rtol=1e-4, msg=lambda text, n=name: n + text
        )


def test_attention_on_a_cpu_is_eager_by_default():
    assert not torch.accelerator.is_available()
    model, _ = make("bert+fingerprint")
    assert model.text_model.config._attn_implementation == "eager"
    named = bert_config(WORDS)
    named._attn_implementation = "sdpa"
    model = TextMoleculeDualEncoderModel.from_towers(text=named, molecule="fingerprint", projection_dim=8)
    assert model.text_model.config._attn_implementation == "sdpa"


def test_attention_implementations_agree(tmp_path):
    model, _ = make("bert+fingerprint")
    processor = TextMoleculeProcessor(bert_tokenizer(WORDS), MoleculeFingerprintFeatureExtractor(num_buckets=64))
    batch = processor(text=TEXTS)
    eager = model.eval()(**batch).text_embeds
    model.text_model.set_attn_implementation("sdpa")
    torch.testing.assert_close(model(**batch).text_embeds, eager, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # from inside torch's compiler
def test_compiled_equals_plain():
    model, processor = make("bert+fingerprint")
    compiled = torch.compile(model.eval(), backend="eager", dynamic=True)
    for texts in (TEXTS, TEXTS[:3]):
        batch = processor(text=texts, smiles=SMILES)
        torch.testing.assert_close(compiled(**batch).text_embeds, model(**batch).text_embeds, atol=1e-6, rtol=1e-5)
