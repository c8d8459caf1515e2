"""The graph molecule tower: its configuration, its layers against dense NumPy, and the model."""

import numpy as np
import pytest
import torch
from graph_cases import MOLECULES, ODDITIES, TWINS, random_smiles, tiny_config, tiny_model
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError

from class_hf.models.configuration_graph import (
    ATOM_FEATURES,
    LAYER_TYPES,
    POOLINGS,
    MoleculeGraphConfig,
)
from class_hf.models.feature_extraction_graph import MoleculeGraphFeatureExtractor
from class_hf.models.modeling_graph import MoleculeGraphModel, multi_hot


@pytest.fixture(scope="module")
def extractor():
    return MoleculeGraphFeatureExtractor()


def embed(model, extractor, smiles):
    with torch.no_grad():
        return model(**extractor(smiles)).pooler_output


# Configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_type": "gat"}, "layer_type is 'gat'; choose one of gcn, gine, transformer"),
        ({"pooling": "max"}, "pooling is 'max'; choose one of mean, sum, attention"),
        (
            {"layer_type": "transformer", "hidden_size": 10, "num_heads": 4},
            "10 is not a multiple of num_heads 4",
        ),
        ({"hidden_size": 0}, "`hidden_size` is 0; expected an integer of at least 1"),
        ({"num_layers": 0}, "`num_layers` is 0"),
        ({"num_heads": -1}, "`num_heads` is -1"),
        ({"layer_norm_eps": 0.0}, "`layer_norm_eps` is 0.0"),
        ({"dropout": 1.0}, "`dropout` is 1.0; expected a finite number of at least 0 and below 1"),
        ({"layer_norm_eps": float("nan")}, "`layer_norm_eps` is nan; expected a finite number above 0"),
        ({"atom_feature_sizes": []}, r"atom_feature_sizes is \(\); it must hold at least one size"),
        ({"bond_feature_sizes": [6, 257]}, r"bond_feature_sizes is \(6, 257\); .* each in 1..256"),
    ],
)
def test_config_out_of_range(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        MoleculeGraphConfig(**changes)


def test_config_of_wrong_type():
    with pytest.raises(StrictDataclassFieldValidationError, match="hidden_size"):
        MoleculeGraphConfig(hidden_size="256")


def test_heads_matter_to_the_transformer_only():
    assert MoleculeGraphConfig(layer_type="gcn", hidden_size=10, num_heads=4).hidden_size == 10


def test_config_saved_equals_loaded(tmp_path):
    config = tiny_config(layer_type="transformer", pooling="attention", dropout=0)
    config.save_pretrained(tmp_path)
    loaded = MoleculeGraphConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.atom_feature_sizes == tuple(ATOM_FEATURES.values())
    assert (loaded.num_hidden_layers, loaded.num_attention_heads) == (2, 2)


# Layers, against dense NumPy


def dense(extractor, smiles, sizes):
    """Adjacency (N, N) and multi-hot bonds (N, N, C_b) of one molecule."""
    batch = {name: tensor.numpy() for name, tensor in extractor(smiles).items()}
    count = len(batch["atom_features"])
    adjacency, bonds = np.zeros((count, count)), np.zeros((count, count, sum(sizes)))
    starts = np.cumsum([0, *sizes[:-1]])
    for begin, end, row in zip(*batch["bond_index"], batch["bond_features"], strict=True):
        for i, j in ((begin, end), (end, begin)):
            adjacency[i, j] = 1
            bonds[i, j, starts + row] = 1
    return adjacency, bonds


def layer_case(extractor, layer_type):
    """One layer's weights in float64, its input and output, and the dense graph it saw."""
    model = tiny_model(layer_type=layer_type, num_layers=1)
    layer = model.layers[0].messages
    seen = {}
    layer.register_forward_hook(lambda _, inputs, output: seen.update(states=inputs[0], output=output))
    with torch.no_grad():
        for parameter in layer.parameters():  # biases and eps too, so that a missing one changes the result
            parameter.normal_(std=0.3)
        model(**extractor("C/C=C\\C(=O)[O-].[Na+]"))
    weights = {name: parameter.detach().double().numpy() for name, parameter in layer.named_parameters()}
    graph = dense(extractor, "C/C=C\\C(=O)[O-].[Na+]", model.config.bond_feature_sizes)
    return weights, seen["states"].double().numpy(), seen["output"].numpy(), *graph


def test_gcn_equals_dense(extractor):
    weights, states, output, adjacency, bonds = layer_case(extractor, "gcn")
    with_loops = adjacency + np.eye(len(adjacency))
    degrees = with_loops.sum(1)
    propagate = with_loops / np.sqrt(np.outer(degrees, degrees))
    embedded = bonds @ weights["bond_embedding.weight"].T  # zero on the diagonal
    summed = np.einsum("ij,ijh->ih", propagate, states[None] + embedded)
    expected = np.maximum(summed @ weights["linear.weight"].T + weights["linear.bias"], 0)
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_gine_equals_dense(extractor):
    weights, states, output, adjacency, bonds = layer_case(extractor, "gine")
    messages = np.maximum(states[None] + bonds @ weights["bond_embedding.weight"].T, 0)
    summed = (1 + weights["eps"]) * states + np.einsum("ij,ijh->ih", adjacency, messages)
    hidden = np.maximum(summed @ weights["mlp.0.weight"].T + weights["mlp.0.bias"], 0)
    np.testing.assert_allclose(output, hidden @ weights["mlp.2.weight"].T + weights["mlp.2.bias"], atol=1e-5)


def test_graph_attention_equals_dense(extractor):
    weights, states, output, adjacency, bonds = layer_case(extractor, "transformer")
    itself, molecule = weights["place_embedding.weight"]
    embedded = bonds @ weights["bond_embedding.weight"].T
    query = states @ weights["query.weight"].T + weights["query.bias"]
    key = states @ weights["key.weight"].T
    value = states @ weights["value.weight"].T + weights["value.bias"]
    expected = np.empty_like(query)
    for i in range(len(states)):
        near = np.flatnonzero(adjacency[i])

        def places(rows, i=i, near=near):
            return np.concatenate([rows[near] + embedded[i, near], [rows[i] + itself, rows.mean(0) + molecule]])

        for head in (slice(0, 8), slice(8, 16)):
            scores = places(key)[:, head] @ query[i, head] / np.sqrt(8)
            share = np.exp(scores - scores.max())
            expected[i, head] = share / share.sum() @ places(value)[:, head]
    expected = expected @ weights["output.weight"].T + weights["output.bias"]
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_multi_hot():
    features = torch.tensor([[1, 0], [0, 2], [2, 255]], dtype=torch.uint8)
    marks = multi_hot(features, (2, 256))
    assert marks.nonzero().tolist() == [[0, 1], [0, 2], [1, 0], [1, 4], [2, 257]]


# Model


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
def test_embedding_does_not_depend_on_how_the_smiles_is_written(extractor, layer_type):
    model = tiny_model(layer_type=layer_type)
    for smiles in MOLECULES:
        embeddings = embed(model, extractor, [smiles, *random_smiles(smiles, 4)])
        torch.testing.assert_close(embeddings[1:], embeddings[:1].expand(4, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("what", TWINS)
def test_twins_have_different_embeddings(extractor, layer_type, what):
    first, second = embed(tiny_model(layer_type=layer_type), extractor, list(TWINS[what]))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_batch_equals_single(extractor, layer_type, pooling):
    model = tiny_model(layer_type=layer_type, pooling=pooling)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)  # attention pooling then has unequal weights
    smiles = [*ODDITIES[:-2], *MOLECULES]
    together = embed(model, extractor, smiles)
    alone = torch.cat([embed(model, extractor, molecule) for molecule in smiles])
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_direction_of_bonds_is_free(extractor):
    batch = extractor(MOLECULES)
    for layer_type in LAYER_TYPES:
        model = tiny_model(layer_type=layer_type)
        with torch.no_grad():
            forward = model(**batch)
            turned = model(**{**batch, "bond_index": batch["bond_index"].flip(0)})
        torch.testing.assert_close(turned.last_hidden_state, forward.last_hidden_state, atol=1e-5, rtol=0)


def test_poolings(extractor):
    batch = extractor(["CCO", "[Na+]", "c1ccccc1"])
    outputs = {pooling: tiny_model(pooling=pooling)(**batch) for pooling in POOLINGS}
    states = outputs["mean"].last_hidden_state
    mean = torch.stack([states[:3].mean(0), states[3], states[4:].mean(0)])
    torch.testing.assert_close(outputs["mean"].pooler_output, mean)
    torch.testing.assert_close(outputs["sum"].pooler_output, mean * batch["atom_counts"][:, None])
    torch.testing.assert_close(outputs["attention"].pooler_output, mean)  # equal weights at initialisation


def test_output(extractor):
    model, batch = tiny_model(), extractor(["CCO", "[Na+]"])
    output = model(**batch)
    assert output.last_hidden_state.shape == (4, 16)
    assert output.pooler_output.shape == (2, 16)
    assert torch.equal(model(**batch, return_dict=False)[1], output.pooler_output)


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
def test_runs_are_bit_equal(extractor, layer_type):
    def run():
        model, batch = tiny_model(layer_type=layer_type).train(), extractor(MOLECULES)
        torch.manual_seed(1)
        output = model(**batch).pooler_output
        output.square().sum().backward()
        return [output, *(parameter.grad for parameter in model.parameters())]

    assert all(torch.equal(first, second) for first, second in zip(run(), run(), strict=True))


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradient_reaches_every_parameter(extractor, layer_type, pooling):
    model = tiny_model(layer_type=layer_type, pooling=pooling)
    output = model(**extractor(MOLECULES)).pooler_output
    (output * torch.randn_like(output)).sum().backward()
    without = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 1e-6]
    assert without == []


def test_dropout_acts_in_training_only(extractor):
    model, batch = tiny_model(dropout=0.5), extractor(MOLECULES)
    assert torch.equal(model(**batch).pooler_output, model(**batch).pooler_output)
    model.train()
    assert not torch.equal(model(**batch).pooler_output, model(**batch).pooler_output)


@pytest.mark.parametrize("dropout", (0.0, 0.5))
def test_shared_environments_change_no_value(extractor, dropout, monkeypatch):
    """In training the first layer computes each environment once. Its dropout is still drawn for each atom."""
    model = tiny_model(dropout=dropout, pooling="attention").train()
    twins = [smiles for pair in TWINS.values() for smiles in pair]
    batch = extractor([*MOLECULES, *ODDITIES, *twins, *MOLECULES])
    rows = []
    model.layers[0].messages.mlp.register_forward_hook(lambda module, args, output: rows.append(len(output)))

    def run():
        model.zero_grad()
        torch.manual_seed(1)
        output = model(**batch).pooler_output
        output.square().sum().backward()
        return [output, *(parameter.grad.clone() for parameter in model.parameters())]

    shared = run()
    monkeypatch.setattr(model, "_shares_environments", lambda features: False)
    for value, expected in zip(shared, run(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    assert rows[0] < rows[1] / 5 and rows[1] == len(batch["atom_features"])


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_bfloat16(extractor, layer_type, pooling):
    model, batch = tiny_model(layer_type=layer_type, pooling=pooling), extractor(MOLECULES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(**batch).pooler_output
    mixed.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    exact = model(**batch).pooler_output
    pure = model.to(torch.bfloat16)(**batch).pooler_output
    assert pure.dtype == torch.bfloat16
    for output in (mixed, pure):
        error = (output.float() - exact).norm() / exact.norm()
        assert error < 0.03


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_saved_equals_loaded(extractor, layer_type, pooling, tmp_path):
    model, batch = tiny_model(layer_type=layer_type, pooling=pooling), extractor(MOLECULES)
    model.save_pretrained(tmp_path)
    loaded = MoleculeGraphModel.from_pretrained(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(**batch).pooler_output, model(**batch).pooler_output)


@pytest.fixture
def nan_memory():
    """New memory is filled with NaN, a documented effect of deterministic algorithms."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
def test_parameters_missing_from_a_checkpoint_are_initialised(layer_type, nan_memory):
    config = tiny_config(layer_type=layer_type, pooling="attention", hidden_size=64)
    torch.manual_seed(0)
    fresh = MoleculeGraphModel(config)
    # Loading builds on the meta device, so a parameter that _init_weights misses is uninitialised memory.
    loaded = MoleculeGraphModel.from_pretrained(None, config=config, state_dict={})
    for (name, first), second in zip(fresh.named_parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(second.std(correction=0), first.std(correction=0), rtol=0.2, atol=1e-6, msg=name)
        torch.testing.assert_close(second.mean(), first.mean(), rtol=0, atol=0.3, msg=name)
    assert not list(loaded.buffers())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "atom_features",
            lambda value: value[:, 1:],
            r"atom_features has shape \(3, 9\), expected \(any, 10\)",
        ),
        (
            "bond_features",
            lambda value: value[:, 1:],
            r"bond_features has shape \(2, 3\), expected \(any, 4\)",
        ),
        ("atom_counts", lambda value: value - 1, "atom_counts add up to 2, expected 3"),
        ("bond_index", lambda value: value.repeat(1, 2), r"bond_index has shape \(2, 4\), expected \(2, 2\)"),
    ],
)
def test_shapes_that_do_not_fit(extractor, name, change, message):
    batch = extractor("CCO")
    with pytest.raises(ValueError, match=message):
        tiny_model()(**{**batch, name: change(batch[name])})
