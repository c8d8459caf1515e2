"""The lexical tokenizer and its tower."""

import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from class_hf import LexicalConfig, LexicalModel, LexicalTokenizer
from class_hf.models.tokenization_lexical import split_sentences

TEXT = "The molecule is a 3,4-dihydroxy acid. It is a member of benzenes! Is it? 1.5 g of it."


def test_sentences():
    assert split_sentences(TEXT) == [
        "The molecule is a 3,4-dihydroxy acid.",
        "It is a member of benzenes!",
        "Is it? 1.5 g of it.",
    ]


def test_ids_are_those_of_the_tokens():
    tokenizer = LexicalTokenizer(num_buckets=1000, char_ngrams=(3, 4))
    tokens = tokenizer.tokenize(TEXT)
    assert sorted(tokenizer(TEXT)["input_ids"]) == sorted(tokenizer.convert_tokens_to_ids(tokens))
    assert {"w:3,4-dihydroxy", "p:dihydroxy", "b:dihydroxy acid", "b:3,4-dihydroxy acid", "c:<aci"} - set(tokens) == {
        "b:dihydroxy acid"
    }


def test_line_ngrams_read_across_words_and_not_across_sentences():
    tokenizer = LexicalTokenizer(char_ngrams=(0, 0), line_ngrams=(5, 8))
    tokens = [token for token in tokenizer.tokenize("An acid. Is it?") if token.startswith("l:")]
    first = ["l: an a", "l:an ac", "l:n aci", "l: acid", "l:acid ", "l: an acid", "l:an acid "]
    assert tokens == [*first, "l: is i", "l:is it", "l:s it "]


def test_pairs_do_not_cross_sentences():
    tokenizer = LexicalTokenizer(num_buckets=10**6)
    sentences = tokenizer.encode_sentences("An acid is here. It is an ester.")
    assert len(sentences) == 2
    assert np.array_equal(sentences[1], tokenizer.encode_sentences("It is an ester.")[0])


def test_batch_equals_single():
    tokenizer = LexicalTokenizer()
    assert tokenizer(["An acid.", "An ester."])["input_ids"] == [
        tokenizer("An acid.")["input_ids"],
        tokenizer("An ester.")["input_ids"],
    ]


def test_saved_equals_loaded(tmp_path):
    tokenizer = LexicalTokenizer(num_buckets=777, char_ngrams=(2, 3), line_ngrams=(4, 7))
    tokenizer.save_pretrained(tmp_path)
    for loaded in (LexicalTokenizer.from_pretrained(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert loaded.char_ngrams == (2, 3) and loaded.line_ngrams == [4, 7] and loaded.vocab_size == 777
        assert loaded(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]


def test_auto_tokenizer_finds_it(tmp_path):
    LexicalTokenizer(num_buckets=99).save_pretrained(tmp_path)
    LexicalConfig(num_buckets=99).save_pretrained(tmp_path)
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), LexicalTokenizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_buckets": 0}, "`num_buckets` is 0"),
        ({"char_ngrams": (4, 3)}, "`char_ngrams` is"),
        ({"line_ngrams": (0,)}, "`line_ngrams` is"),
        ({"num_buckets": "many"}, "`num_buckets` is 'many'; expected an integer of at least 1"),
        ({"num_buckets": 1e5}, "`num_buckets` is 100000.0; expected an integer"),
        ({"char_ngrams": 3}, "`char_ngrams` is 3; expected a list of integers"),
        ({"char_ngrams": (3, 4, 5)}, r"`char_ngrams` is \(3, 4, 5\); expected \(shortest, longest\)"),
        ({"line_ngrams": "6"}, "`line_ngrams` is '6'; expected a list of integers"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LexicalTokenizer(**arguments)


def test_not_a_text():
    with pytest.raises(ValueError, match="expected a string"):
        LexicalTokenizer()(5)


def tower(**kwargs):
    torch.manual_seed(0)
    return LexicalModel(LexicalConfig(num_buckets=50, embedding_size=8, hidden_size=6, intermediate_size=8, **kwargs))


def test_a_bag_does_not_depend_on_its_partners_or_order():
    model = tower().eval()
    bags = [torch.tensor([1, 5, 7, 7]), torch.tensor([3]), torch.tensor([9, 2])]
    offsets = torch.tensor([0, 4, 5, 7])
    together = model(torch.cat(bags), offsets).pooler_output
    for row, bag in enumerate(bags):
        alone = model(bag.flip(0), torch.tensor([0, len(bag)])).pooler_output
        torch.testing.assert_close(together[row : row + 1], alone)


def test_an_empty_bag_is_finite():
    assert torch.isfinite(tower()(torch.tensor([1], dtype=torch.int32), torch.tensor([0, 0, 1])).pooler_output).all()


def test_token_dropout_acts_in_training_only():
    model = tower(token_dropout=0.5, dropout=0.0)
    ids, offsets = torch.arange(40), torch.tensor([0, 40])
    assert not torch.equal(model.train()(ids, offsets).pooler_output, model(ids, offsets).pooler_output)
    assert torch.equal(model.eval()(ids, offsets).pooler_output, model(ids, offsets).pooler_output)


def test_every_parameter_gets_a_gradient():
    model = tower()
    model(torch.arange(50), torch.tensor([0, 20, 50])).pooler_output.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_bad_config():
    with pytest.raises(Exception, match="`dropout` is 1.0"):
        LexicalConfig(dropout=1.0)


def test_long_captions_are_refused_before_they_take_memory():
    tokenizer = LexicalTokenizer()
    for text in ("a" * 10_000_000, "an acid " * 10_000, "Is it? " * 3_000):
        for tokenize in (tokenizer, tokenizer.tokenize, tokenizer.encode_sentences):
            with pytest.raises(ValueError, match=r"has [\d,]+ characters; the limit is 20,000\.") as error:
                tokenize(text)
            assert len(str(error.value)) < 200


def test_long_words_do_not_fill_the_memory():
    tokenizer = LexicalTokenizer()
    expected = tokenizer("a" * 5_000)["input_ids"]
    tracemalloc.start()
    for letter in "bcdefghijk":
        tokenizer.encode_sentences(letter * 5_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000  # bytes; the ids of the ten words take 800 kB
    assert tokenizer("a" * 5_000)["input_ids"] == expected


def test_ids_beyond_the_table_are_named():
    batch = {"input_ids": torch.tensor([3, 70]), "text_offsets": torch.tensor([0, 2])}
    with pytest.raises(ValueError, match="the batch has the id 70, but .* table has 50 rows. Set num_buckets"):
        tower()(**batch)
