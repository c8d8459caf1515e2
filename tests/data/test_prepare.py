import datasets
import numpy as np
import pytest
import torch

from class_hf import TextMoleculeCollator, prepare_molecules, prepare_pairs
from class_hf.data.prepare import molecule_key, stable_key


def test_blobs_give_the_same_batch_as_the_processor(pairs, prepared, processor):
    rows = [prepared[index] for index in range(5)]
    direct = processor(text=pairs["description"][:5], smiles=pairs["smiles"][:5])
    batch = TextMoleculeCollator(processor)(rows)
    assert set(batch) == {*direct, "pair_keys"}
    for name, value in direct.items():
        assert torch.equal(batch[name], value)


def test_keys_tell_molecules_and_captions_apart(prepared):
    assert len(set(prepared["text_key"][:])) == len(set(prepared["molecule_key"][:])) == 24
    assert molecule_key("OCC") == molecule_key("CCO") != molecule_key("CCN")
    assert molecule_key("not a molecule") == stable_key("not a molecule")
    assert 0 <= stable_key("a") < 2**63 and stable_key("a") != stable_key("b")


def test_second_preparation_comes_from_the_cache(tmp_path, pairs, processor, monkeypatch):
    pairs.save_to_disk(str(tmp_path / "pairs"))
    on_disk = datasets.load_from_disk(str(tmp_path / "pairs"))
    first = prepare_pairs(on_disk, processor)

    def fail(*args):
        raise AssertionError("tokenized again")

    monkeypatch.setattr(type(processor), "encode_text", fail)
    again = prepare_pairs(datasets.load_from_disk(str(tmp_path / "pairs")), processor)
    assert again["text_features"][:] == first["text_features"][:]


def test_rows_with_other_scores_come_from_the_cache(tmp_path, pairs, processor, monkeypatch):
    def on_disk(name, rows):
        rows.save_to_disk(str(tmp_path / name))
        return datasets.load_from_disk(str(tmp_path / name))

    first = prepare_pairs(on_disk("first", pairs), processor)

    def fail(*args):
        raise AssertionError("tokenized again")

    monkeypatch.setattr(type(processor), "encode_text", fail)
    rows = on_disk("again", pairs.remove_columns("difficulty").add_column("difficulty", [0.5] * len(pairs)))
    again = prepare_pairs(rows, processor)
    assert (
        again["difficulty"][:] == [0.5] * len(pairs) and again["molecule_features"][:] == first["molecule_features"][:]
    )
    assert prepare_pairs(again, processor).column_names == again.column_names
    for other in (rows.select(range(5)), pairs):  # other content; rows in memory
        with pytest.raises(AssertionError, match="tokenized again"):
            prepare_pairs(other, processor)


def test_what_a_selection_gets_is_its_own(tmp_path, pairs, processor):
    pairs.save_to_disk(str(tmp_path / "pairs"))
    on_disk = datasets.load_from_disk(str(tmp_path / "pairs"))
    whole, chosen = prepare_pairs(on_disk, processor), prepare_pairs(on_disk.select([7, 3, 3]), processor)
    assert chosen["text_features"][:] == [whole[row]["text_features"] for row in (7, 3, 3)]
    assert chosen["id"][:] == ["m07", "m03", "m03"]


def test_another_processor_is_another_cache(tmp_path, pairs):
    from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor, TextMoleculeProcessor

    pairs.save_to_disk(str(tmp_path / "pairs"))
    on_disk = datasets.load_from_disk(str(tmp_path / "pairs"))
    blobs = []
    for buckets in (64, 128):
        processor = TextMoleculeProcessor(LexicalTokenizer(buckets), MoleculeFingerprintFeatureExtractor())
        blobs.append(prepare_pairs(on_disk, processor)["text_features"][:])
    assert blobs[0] != blobs[1]


def test_processes_do_not_matter(pairs, prepared, processor):
    assert prepare_pairs(pairs, processor, num_proc=2)["molecule_features"][:] == prepared["molecule_features"][:]


def test_pool_has_molecules_only(pairs, processor):
    pool = prepare_molecules(pairs.select_columns(["id", "smiles"]), processor)
    assert set(pool.column_names) == {"id", "smiles", "molecule_features"}
    assert not [name for name in TextMoleculeCollator(processor)([pool[0]]) if not name.startswith("molecule_")]


def test_missing_columns_and_bad_rows(pairs, processor):
    with pytest.raises(ValueError, match=r"has no column description"):
        prepare_pairs(pairs.remove_columns("description"), processor)
    with pytest.raises(ValueError, match=r"'C1CC\('"):
        prepare_molecules(datasets.Dataset.from_dict({"smiles": ["C", "C1CC("]}), processor)
    with pytest.raises(ValueError, match="caption 0 of the batch is '  '"):
        prepare_pairs(datasets.Dataset.from_dict({"smiles": ["C"], "description": ["  "]}), processor)


def long_rows(processor, count=20):
    text = "The molecule is an acid. " + " ".join(f"It has the role number {n}." for n in range(10))
    blobs = processor.encode_text([text] * count)
    keys = range(count)
    return [
        {"text_features": blob, "text_key": key, "molecule_key": key} for blob, key in zip(blobs, keys, strict=True)
    ]


def test_sentence_dropout_depends_on_seed_and_members_only(processor):
    rows = long_rows(processor)
    whole = TextMoleculeCollator(processor)(rows)
    dropped = TextMoleculeCollator(processor, sentence_dropout=0.5, seed=1)
    one = dropped(rows)
    np.random.seed(0), torch.manual_seed(0)
    again, other = dropped(rows), TextMoleculeCollator(processor, sentence_dropout=0.5, seed=2)(rows)
    assert torch.equal(one["input_ids"], again["input_ids"])
    assert not torch.equal(one["text_offsets"], other["text_offsets"])
    assert 0.3 < len(one["input_ids"]) / len(whole["input_ids"]) < 0.8
    assert not torch.equal(dropped(rows[:10])["text_offsets"], one["text_offsets"][:11])


def test_the_first_sentence_always_stays(processor):
    batch = TextMoleculeCollator(processor, sentence_dropout=0.99)(long_rows(processor, 50))
    first = processor(text="The molecule is an acid.")["input_ids"]
    assert batch["text_offsets"].diff().min() >= len(first)
    assert torch.equal(batch["input_ids"][: len(first)], first)


def test_collator_errors(processor):
    with pytest.raises(ValueError, match="sentence_dropout is 1.0"):
        TextMoleculeCollator(processor, sentence_dropout=1.0)
    with pytest.raises(KeyError, match="prepare_pairs"):
        TextMoleculeCollator(processor)([{"id": "a"}])
    with pytest.raises(KeyError, match="sentence dropout needs"):
        TextMoleculeCollator(processor, sentence_dropout=0.5)([{"text_features": processor.encode_text(["A."])[0]}])
