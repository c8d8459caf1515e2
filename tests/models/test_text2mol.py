"""Text2Mol equals a computation in plain NumPy, and trains."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from transformers import AutoFeatureExtractor, AutoModel, AutoProcessor, BertConfig

from class_hf import (
    CurriculumTrainer,
    CurriculumTrainingArguments,
    LexicalTokenizer,
    RetrievalEvaluator,
    Text2MolConfig,
    Text2MolFeatureExtractor,
    Text2MolLoss,
    Text2MolModel,
    Text2MolMoleculeConfig,
    Text2MolMoleculeModel,
    TextMoleculeCollator,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.backbones.registry import build_loss, build_model
from class_hf.config.arguments import ModelArguments
from class_hf.models.modeling_text2mol import GraphConvolution
from class_hf.models.mol2vec import Mol2vecVectors

TEXTS = ["The molecule is an acid. It has a role.", "The molecule is an alcohol.", "A salt."]
SMILES = ["CC(=O)O", "OCC(C)C", "[Na+].[Cl-]"]
KINDS = ("mlp", "gcn")
EXTRACTOR = Text2MolFeatureExtractor(num_buckets=2**12)
SIZES = {"num_buckets": 2**12, "embedding_size": 10, "hidden_size": 12}


def make(kind, text="lexical", **kwargs):
    torch.manual_seed(0)
    model = Text2MolModel.from_towers(
        text,
        kind,
        text_kwargs=None if text != "lexical" else {"num_buckets": 512, "embedding_size": 8, "hidden_size": 16},
        molecule_kwargs=SIZES,
        projection_dim=8,
        **kwargs,
    )
    return model, TextMoleculeProcessor(LexicalTokenizer(num_buckets=512), EXTRACTOR)


# -- substructures ------------------------------------------------------------------------------------------------


def test_substructures_counted_by_hand():
    """Propane: CH3, CH2, CH3, so two substructures of radius 0; CH3 next to CH2, twice, and CH2 between two CH3."""
    propane, branched = EXTRACTOR("CCC"), EXTRACTOR("C(C)C")
    first, middle, last = propane["fragment_ids"].view(3, 2).tolist()
    assert first == last and not set(first) & set(middle) and len({*first, *middle}) == 4
    assert sorted(Counter(propane["fragment_ids"].tolist()).values()) == [1, 1, 2, 2]
    assert branched["fragment_ids"].view(3, 2).tolist() == [middle, first, first]
    # Benzene: one kind of atom, six times, in one kind of environment.
    assert list(Counter(EXTRACTOR("c1ccccc1")["fragment_ids"].tolist()).values()) == [6, 6]
    # Ethane: each atom has an environment, although both environments are the same bond.
    assert EXTRACTOR("CC")["fragment_counts"].tolist() == [2, 2]
    # Butane's end and propane's end are alike up to radius 1, their second atoms from radius 1 on are not.
    butane = EXTRACTOR("CCCC")["fragment_ids"].view(4, 2).tolist()
    assert butane[0] == first and butane[1][0] == middle[0] and butane[1][1] != middle[1]


def test_a_batch_of_graphs():
    batch = EXTRACTOR(["C=O", "[Na+].[Cl-]", "CCC"])
    assert batch["atom_counts"].tolist() == [2, 2, 3]
    assert batch["fragment_counts"].tolist() == [2, 2, 1, 1, 2, 2, 2]
    assert batch["bond_index"].tolist() == [[0, 4, 5], [1, 5, 6]]
    single = [EXTRACTOR(smiles)["fragment_ids"] for smiles in ("C=O", "[Na+].[Cl-]", "CCC")]
    assert torch.equal(batch["fragment_ids"], torch.cat(single))


def test_chirality_is_an_option():
    right, left = "C[C@H](N)O", "C[C@@H](N)O"
    assert EXTRACTOR.encode(right) == EXTRACTOR.encode(left)
    chiral = Text2MolFeatureExtractor(include_chirality=True)
    assert chiral.encode(right) != chiral.encode(left)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EXTRACTOR("C1CC("), r"cannot parse the SMILES 'C1CC\('"),
        (lambda: Text2MolFeatureExtractor(radius=-1), "`radius` is -1"),
        (lambda: Text2MolFeatureExtractor(num_buckets=0), "`num_buckets` is 0"),
        (lambda: Text2MolFeatureExtractor(include_chirality="no"), "`include_chirality` is 'no'; expected True or"),
        (lambda: Text2MolMoleculeModel(Text2MolMoleculeConfig(num_buckets=3))(**EXTRACTOR("CCO")), "table has 3 rows"),
        (lambda: Text2MolMoleculeConfig(molecule_type="graph"), "`molecule_type` is 'graph'; choose one of mlp, gcn"),
        (lambda: Text2MolMoleculeConfig(hidden_size=0), "`hidden_size` is 0"),
        (lambda: Text2MolConfig(molecule_config={"model_type": "molecule_graph"}), "of the type 'molecule_graph'"),
        (lambda: build_model(ModelArguments("text2mol", molecule_model="graph")), "molecule_model is 'graph'"),
        (lambda: build_model(ModelArguments("text2mol", molecule_config='{"type": "gcn"}')), "unknown field 'type'"),
        (lambda: Text2MolModel.from_towers(molecule=BertConfig()), "molecule is a BertConfig; expected 'mlp', 'gcn'"),
        (lambda: make("mlp")[0](), "no inputs"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        call()


# -- the mathematics ----------------------------------------------------------------------------------------------


def relu(x):
    return np.maximum(x, 0)


def layers(module):
    return [(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()) for layer in module]


def layer_norm(x, module):
    weight, bias = (value.detach().double().numpy() for value in (module.weight, module.bias))
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + module.eps) * weight + bias


def in_numpy(model, smiles):
    """v of one molecule: dense matrices, one molecule at a time, atom by atom."""
    batch = EXTRACTOR(smiles)
    tower = model.molecule_model
    table = tower.embedding.weight.detach().double().numpy()
    ids, owner = (
        batch["fragment_ids"].numpy(),
        np.repeat(np.arange(len(batch["fragment_counts"])), batch["fragment_counts"]),
    )
    if len(tower.convolutions) == 0:
        h = np.zeros(table.shape[1])
        for fragment, count in Counter(ids.tolist()).items():
            h = h + count * table[fragment]
    else:
        x = np.stack([table[ids[owner == atom]].sum(0) for atom in range(owner.max() + 1)])
        adjacency = np.eye(len(x))
        for a, b in batch["bond_index"].T.tolist():
            adjacency[a, b] = adjacency[b, a] = 1
        root = np.diag(adjacency.sum(1) ** -0.5)
        (w1, b1), (w2, b2), (w3, b3) = layers(layer.linear for layer in tower.convolutions)
        s = root @ adjacency @ root
        h = (s @ relu(s @ relu(s @ x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3).mean(0)
    (w1, b1), (w2, b2) = layers([tower.mlp[0], tower.mlp[2]])
    (w3, b3) = layers([model.molecule_projection[0]])[0]
    return layer_norm(w3 @ relu(w2 @ relu(w1 @ h + b1) + b2) + b3, model.molecule_projection[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_molecule_side_in_numpy(kind):
    model, processor = make(kind)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms other than zero and one
            parameter.add_(0.1 * torch.randn_like(parameter))
    output = model.eval()(**processor(text=TEXTS, smiles=SMILES))
    expected = np.stack([in_numpy(model, molecule) for molecule in SMILES])
    np.testing.assert_allclose(output.molecule_vectors.detach().numpy(), expected, rtol=2e-4, atol=2e-5)
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(output.molecule_embeds.detach().numpy(), units, rtol=2e-4, atol=2e-5)


def test_a_convolution_on_a_graph_by_hand():
    """A path a - b - c: degrees with the loops 2, 3, 2."""
    layer = GraphConvolution(1, 1)
    torch.nn.init.ones_(layer.linear.weight), torch.nn.init.constant_(layer.linear.bias, 0.5)
    states, bonds = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[0, 1], [1, 2]])
    out = layer(states, bonds, torch.tensor([2.0, 3.0, 2.0]).rsqrt()[:, None])
    expected = [1 / 2 + 2 / 6**0.5, 1 / 6**0.5 + 2 / 3 + 4 / 6**0.5, 4 / 2 + 2 / 6**0.5]
    torch.testing.assert_close(out.squeeze(1), torch.tensor(expected) + 0.5)


def test_the_text_side():
    model, processor = make("mlp")
    batch = processor(text=TEXTS)
    pooled = model.eval().text_model(**batch).pooler_output.detach().double().numpy()
    (weight, bias), norm = layers([model.text_projection[0]])[0], model.text_projection[1]
    expected = layer_norm(pooled @ weight.T + bias, norm)
    output = model(**batch)
    np.testing.assert_allclose(output.text_vectors.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.text_embeds.norm(dim=1), torch.ones(3))
    assert output.molecule_embeds is None and output.molecule_vectors is None
    assert output.logit_scale.item() == pytest.approx(np.exp(2 * 0.07))


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_and_the_spelling_do_not_matter(kind):
    model, processor = make(kind)
    together = model.eval()(**processor(smiles=[*SMILES, "CC(C)CO"])).molecule_vectors
    alone = torch.cat([model(**processor(smiles=molecule)).molecule_vectors for molecule in SMILES])
    torch.testing.assert_close(together[:3], alone)
    torch.testing.assert_close(together[3], together[1])


# -- as a model of the package ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_saved_equals_loaded(kind, tmp_path):
    model, processor = make(kind)
    with torch.no_grad():
        model.logit_scale.log_scale.add_(0.3)
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    loaded, loaded_processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is Text2MolModel and loaded_processor.content_key() == processor.content_key()
    assert loaded.config.molecule_config.to_dict() == model.config.molecule_config.to_dict()
    expected, output = (
        model.eval()(**processor(text=TEXTS, smiles=SMILES)),
        loaded(**loaded_processor(text=TEXTS, smiles=SMILES)),
    )
    for name, value in expected.items():
        assert torch.equal(output[name], value), name
    EXTRACTOR.save_pretrained(tmp_path / "extractor")
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "extractor").to_dict() == EXTRACTOR.to_dict()
    model.molecule_model.save_pretrained(tmp_path / "tower")
    batch = EXTRACTOR(SMILES)
    tower = AutoModel.from_pretrained(tmp_path / "tower")
    assert torch.equal(tower(**batch).pooler_output, model.molecule_model(**batch).pooler_output)


def test_any_text_tower_keeps_its_weights():
    config = BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    tower = AutoModel.from_config(config, add_pooling_layer=False).eval()
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    model, _ = make("gcn", text=tower, freeze_text=True)
    assert all(torch.equal(value, before[name]) for name, value in model.text_model.state_dict().items())
    batch = {"input_ids": torch.tensor([3, 4, 5, 6]), "text_offsets": torch.tensor([0, 3, 4])}
    assert model.train()(**batch).text_vectors.shape == (2, 8)
    assert not model.text_model.training and not any(weight.requires_grad for weight in model.text_model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    model, processor = make(kind)
    output = model(**processor(text=TEXTS, smiles=SMILES))
    Text2MolLoss()(**output).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def trainer_of(kind, pairs, folder, **kwargs):
    arguments = ModelArguments(
        "text2mol",
        text_config='{"embedding_size": 16, "hidden_size": 32, "intermediate_size": 32, "dropout": 0.0}',
        tokenizer_config='{"num_buckets": 512}',
        featurizer_config='{"num_buckets": 4096}',
        molecule_config=f'{{"molecule_type": "{kind}", "embedding_size": 16, "hidden_size": 32}}',
        dual_encoder_config='{"projection_dim": 16}',
    )
    args = CurriculumTrainingArguments(
        str(folder), use_cpu=True, disable_tqdm=True, report_to="none", save_strategy="no", logging_steps=1,
        num_train_epochs=25, per_device_train_batch_size=8, learning_rate=5e-3, text_learning_rate=2e-3,
        intensity_actions=["focus"], **kwargs,
    )  # fmt: skip
    torch.manual_seed(0)
    model, processor = build_model(arguments)
    prepared = prepare_pairs(pairs, processor)
    return CurriculumTrainer(
        model,
        args,
        TextMoleculeCollator(processor),
        prepared,
        processing_class=processor,
        loss=build_loss(arguments, seed=args.seed),
        evaluator=RetrievalEvaluator(prepared, processor=processor, bootstrap_samples=0),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss(kind, pairs, tmp_path):
    trainer = trainer_of(kind, pairs, tmp_path)
    assert isinstance(trainer.loss, Text2MolLoss)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert trainer.evaluate()["eval_mrr"] > 0.6


def test_chunks_give_the_gradient_of_the_complete_batch(pairs, tmp_path):
    trainers = [trainer_of("gcn", pairs, tmp_path, max_steps=2, forward_chunk_size=chunk) for chunk in (None, 3)]
    for trainer in trainers:
        trainer.train()
    losses, chunked = ([e["loss"] for e in trainer.state.log_history if "loss" in e] for trainer in trainers)
    assert len(losses) == 2 and losses == pytest.approx(chunked, rel=1e-4)


# -- mol2vec's vectors --------------------------------------------------------------------------------------------


@pytest.fixture
def vectors_file(tmp_path):
    """The substructures of two molecules and `UNK`, with random vectors of 6 components."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=1)
    counts = [generator.GetSparseCountFingerprint(Chem.MolFromSmiles(smiles)) for smiles in SMILES[:2]]
    tokens = ["UNK", *sorted({str(token) for count in counts for token in count.GetNonzeroElements()})]
    path = tmp_path / "vectors.npz"
    np.savez(path, tokens=tokens, vectors=np.random.default_rng(0).normal(size=(len(tokens), 6)).astype(np.float32))
    return path


def published(kind, path, **fields):
    """Text2Mol over the vectors of a file."""
    torch.manual_seed(0)
    molecule = {"molecule_type": kind, "hidden_size": 12, "mol2vec": str(path), **fields}
    text = {"num_buckets": 512, "embedding_size": 8, "hidden_size": 16}
    arguments = {"text_config": text, "tokenizer_config": {"num_buckets": 512}, "molecule_config": molecule}
    return build_model(
        ModelArguments(backbone="text2mol", **{name: json.dumps(value) for name, value in arguments.items()})
    )


def test_the_mlp_reads_the_sum_of_mol2vec(vectors_file):
    model, processor = published("mlp", vectors_file)
    table = Mol2vecVectors.read(vectors_file)
    seen = []
    model.molecule_model.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.get_molecule_vectors(**processor(smiles=SMILES))
    # The salt's two ions are in no training molecule: twice the vector of UNK.
    np.testing.assert_allclose(seen[0], [table.sum_of(smiles) for smiles in SMILES], atol=1e-6)
    np.testing.assert_allclose(seen[0][2], 2 * table.vectors[0], atol=1e-6)


def test_an_atom_of_the_gcn_carries_its_largest_substructure(vectors_file):
    model, processor = published("gcn", vectors_file)
    table = Mol2vecVectors.read(vectors_file)
    batch = processor(smiles=["CC(=O)O", "[Na+]"])
    molecule = Chem.MolFromSmiles("CC(=O)O")
    output = rdFingerprintGenerator.AdditionalOutput()
    output.CollectBitInfoMap()
    rdFingerprintGenerator.GetMorganGenerator(radius=1).GetSparseCountFingerprint(molecule, additionalOutput=output)
    of_radius_1 = {atom: bit for bit, places in output.GetBitInfoMap().items() for atom, radius in places if radius}
    expected = [table.tokens.index(str(of_radius_1[atom])) for atom in range(4)]
    assert batch["molecule_fragment_ids"].tolist() == [*expected, 0]
    assert batch["molecule_fragment_counts"].tolist() == [1] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_holds_the_vectors(kind, vectors_file, tmp_path):
    model, processor = published(kind, vectors_file)
    weights = model.molecule_model.embedding.weight
    assert not weights.requires_grad and model.config.molecule_config.embedding_size == 6
    model.save_pretrained(tmp_path / "saved"), processor.save_pretrained(tmp_path / "saved")
    assert "vectors.npz" not in "".join(file.read_text() for file in (tmp_path / "saved").glob("*.json"))
    expected = model.eval()(**processor(text=TEXTS, smiles=SMILES))
    vectors_file.unlink()
    loaded, loaded_processor = (each.from_pretrained(tmp_path / "saved") for each in (AutoModel, AutoProcessor))
    assert torch.equal(loaded.molecule_model.embedding.weight, weights)
    assert not loaded.molecule_model.embedding.weight.requires_grad
    assert loaded_processor.content_key() == processor.content_key()
    output = loaded(**loaded_processor(text=TEXTS, smiles=SMILES))
    assert torch.equal(output.molecule_embeds, expected.molecule_embeds)


def test_mol2vec_vectors_can_be_trained_further(vectors_file):
    model, _ = published("mlp", vectors_file, train_embeddings=True)
    assert model.molecule_model.embedding.weight.requires_grad


def test_without_unk_other_substructures_are_left_out():
    extractor = Text2MolFeatureExtractor(vocabulary=["864666390"])  # the oxygen of water
    batch = extractor(["O", "C"])
    assert batch["fragment_ids"].tolist() == [0] and batch["fragment_counts"].tolist() == [1, 0]
    tower = Text2MolMoleculeModel.from_vectors(torch.ones(1, 4), molecule_type="gcn", hidden_size=8)
    assert tower(**batch).pooler_output.isfinite().all()


def test_what_contradicts_the_vectors(vectors_file, tmp_path):
    with pytest.raises(ValueError, match="embedding_size is set, but mol2vec names the file"):
        published("mlp", vectors_file, embedding_size=300)
    arguments = {"molecule_config": json.dumps({"mol2vec": str(vectors_file)}), "featurizer_config": '{"radius": 2}'}
    with pytest.raises(ValueError, match="radius is set, but mol2vec names the file"):
        build_model(ModelArguments(backbone="text2mol", **arguments))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy"):
        published("mlp", tmp_path / "nowhere.npy")
    for vocabulary, fault in ((["1", "1"], "an entry twice"), (["C"], "'C', which is no id")):
        with pytest.raises(ValueError, match=f"vocabulary has {fault}"):
            Text2MolFeatureExtractor(vocabulary=vocabulary)
