"""The graph molecule tower: features that do not depend on how a SMILES is written, layers, model."""

import pickle

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from rdkit import Chem

from class_hf.models.configuration_graph import (
    ATOM_FEATURES,
    BOND_FEATURES,
    LAYER_TYPES,
    POOLINGS,
    MoleculeGraphConfig,
)
from class_hf.models.feature_extraction_graph import MoleculeGraphFeatureExtractor
from class_hf.models.modeling_graph import MoleculeGraphModel, multi_hot

CHOLESTEROL = "C[C@H](CCCC(C)C)[C@H]1CC[C@@H]2[C@@]1(CC[C@H]3[C@H]2CC=C4[C@@]3(CC[C@@H](C4)O)C)C"
RETINAL = "CC1=C(C(CCC1)(C)C)/C=C/C(=C/C=C/C(=C/C=O)/C)/C"
INOSITOL = "O[C@H]1[C@H](O)[C@@H](O)[C@H](O)[C@H](O)[C@@H]1O"
MOLECULES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    CHOLESTEROL,
    RETINAL,
    INOSITOL,
    "C[N+](C)(C)CC(=O)[O-].[Na+].[Cl-]",
    "[2H]C([2H])([2H])O",
    "[NH3]->[Pt](Cl)(Cl)<-[NH3]",
    "*c1ccncc1",
]
ODDITIES = ["[Na+]", "[H+]", "[H][H]", "*", "C", "[Na+].[Cl-]", "C" * 574, "[H-].[Li+]"]
# Pairs that differ in one respect only.
TWINS = {
    "enantiomers": ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"),
    "diastereomers": ("C[C@H](O)[C@H](O)C(=O)O", "C[C@H](O)[C@@H](O)C(=O)O"),
    "unspecified centre": ("C[C@H](N)C(=O)O", "CC(N)C(=O)O"),
    "enantiomeric sulfoxides": ("C[S@](=O)CC", "C[S@@](=O)CC"),
    "centre between isotopes of a wildcard": ("[1*][C@](F)(Cl)[2*]", "[1*][C@@](F)(Cl)[2*]"),
    "cis and trans in a ring": ("C[C@H]1CC[C@@H](C)CC1", "C[C@H]1CC[C@H](C)CC1"),
    "pseudoasymmetric": ("C[C@@H]1CCC[C@H](C)[C@H]1O", "C[C@@H]1CCC[C@H](C)[C@@H]1O"),
    "E and Z": ("C/C=C/C(=O)O", "C/C=C\\C(=O)O"),
    "unspecified double bond": ("C/C=C/C(=O)O", "CC=CC(=O)O"),
    "charge": ("CC(=O)O", "CC(=O)[O-]"),
    "charges of an ion": ("[Fe+2]", "[Fe+3]"),
    "radical": ("[CH3]", "C"),
    "deuterium": ("CO", "[2H]CO"),
    "deuterium and tritium": ("[2H]CO", "[3H]CO"),
    "carbon-13": ("CO", "[13CH3]O"),
    "carbon-13 and -14": ("[13CH3]O", "[14CH3]O"),
    "named natural isotope": ("CO", "[12CH3]O"),
    "iodine": ("CI", "C[131I]"),
    "iodine-125 and -131": ("C[125I]", "C[131I]"),
    "fluorine-18": ("CF", "C[18F]"),
    "one fragment more": ("CC(=O)[O-].[Na+]", "CC(=O)[O-].[K+]"),
    "hydrogen and proton": ("[H][H]", "[H+]"),
    "bond order": ("CC=O", "CCO"),
}


@pytest.fixture(scope="module")
def extractor():
    return MoleculeGraphFeatureExtractor()


def tiny_config(**changes):
    return MoleculeGraphConfig(**{"hidden_size": 16, "num_layers": 2, "num_heads": 2, **changes})


def tiny_model(seed=0, **changes):
    torch.manual_seed(seed)
    return MoleculeGraphModel(tiny_config(**changes)).eval()


def embed(model, extractor, smiles):
    with torch.no_grad():
        return model(**extractor(smiles)).pooler_output


def random_smiles(smiles, count):
    mol = Chem.MolFromSmiles(smiles)
    return Chem.MolToRandomSmilesVect(mol, count, randomSeed=1)


# Features


def atom_column(extractor, smiles, name):
    return extractor(smiles)["atom_features"][:, list(ATOM_FEATURES).index(name)].tolist()


def bond_column(extractor, smiles, name):
    return extractor(smiles)["bond_features"][:, list(BOND_FEATURES).index(name)].tolist()


@pytest.mark.parametrize(
    ("smiles", "name", "values"),
    [
        ("*[Og]", "atomic_number", [0, 118]),
        ("CC(C)(C)C", "degree", [1, 4, 1, 1, 1]),
        ("[Fe+3].[Cl-].[C-12]", "formal_charge", [10, 6, 0]),
        ("[12CH3]I", "isotope", [32, 0]),
        ("[2H].[13CH4].[11CH4].[18F-].[125I-].[131I-]", "isotope", [33, 33, 31, 31, 30, 36]),
        ("[1C].[999C].[1*].[2*]", "isotope", [21, 63, 33, 34]),
        ("[2H]O[2H].O.[CH4].[Na+]", "hydrogens", [0, 2, 0, 2, 4, 0]),
        ("C[C@@H](O)[C@@H](O)Cl.CC(O)F", "chirality", [0, 1, 0, 2, 0, 0, 0, 0, 0, 0]),
        ("C[C@H]1CC[C@@H](C)CC1", "chirality", [0, 4, 0, 0, 4, 0, 0, 0]),
        ("C[C@H]1CC[C@H](C)CC1", "chirality", [0, 3, 0, 0, 3, 0, 0, 0]),
        ("N[Pt@SP1](N)(Cl)Cl", "chirality", [0, 5, 0, 0, 0]),
        ("c1ccccc1C", "aromatic", [1, 1, 1, 1, 1, 1, 0]),
        ("C1CC1C2CCC2C", "ring_size", [3, 3, 3, 4, 4, 4, 4, 0]),
        ("C1" + "C" * 29 + "1", "ring_size", [20] * 30),
        ("[Na+].C#CC=CC", "hybridisation", [1, 2, 2, 3, 3, 5]),
        ("[CH3].[CH2].O=O.[C+9]", "radical_electrons", [1, 2, 0, 0, 5]),
    ],
)
def test_atom_features(extractor, smiles, name, values):
    assert atom_column(extractor, smiles, name) == values


@pytest.mark.parametrize(
    ("smiles", "name", "values"),
    [
        ("CC=CC#C", "type", [1, 2, 1, 3]),
        ("C$C.[NH3]->[Fe]", "type", [0, 5]),
        ("c1ccoc1", "type", [4] * 5),
        ("C/C=C/C=C\\C=CC", "stereo", [0, 1, 0, 2, 0, 0, 0]),
        ("C=CC=CC", "conjugated", [1, 1, 1, 0]),
        ("C1CC1C", "in_ring", [1, 1, 0, 1]),
    ],
)
def test_bond_features(extractor, smiles, name, values):
    assert bond_column(extractor, smiles, name) == values


def test_features_stay_below_their_sizes(extractor):
    batch = extractor([*MOLECULES, *ODDITIES, *(smiles for pair in TWINS.values() for smiles in pair)])
    assert (batch["atom_features"].amax(0) < torch.tensor(extractor.atom_feature_sizes)).all()
    assert (batch["bond_features"].amax(0) < torch.tensor(extractor.bond_feature_sizes)).all()


def content(extractor, smiles):
    """The atoms and bonds in a blob, without their order."""
    batch = {name: tensor.numpy() for name, tensor in extractor(smiles).items()}
    atoms = [row.tobytes() for row in batch["atom_features"]]
    ends = [tuple(sorted((atoms[begin], atoms[end]))) for begin, end in batch["bond_index"].T]
    bonds = [row.tobytes() for row in batch["bond_features"]]
    return sorted(atoms), sorted(zip(ends, bonds, strict=True))


@pytest.mark.parametrize("smiles", MOLECULES)
def test_content_does_not_depend_on_how_the_smiles_is_written(extractor, smiles):
    writings = random_smiles(smiles, 8)
    assert len(set(writings)) > 1
    assert all(content(extractor, writing) == content(extractor, smiles) for writing in writings)


def test_labels_when_the_cip_labeler_gives_up(extractor):
    """The second fragment is so symmetric that RDKit's labeler exceeds its iterations, for the first fragment too."""
    symmetric = "[C@@H]1(C)" + "[C@H](C)" * 60 + "[C@@H]1C"
    smiles = f"C[C@@H](O)[C@H](Cl)/C=C/C=C\\C.{symmetric}"
    assert atom_column(extractor, smiles, "chirality")[:4] == [0, 1, 0, 1]
    assert set(atom_column(extractor, smiles, "chirality")[4:]) <= {0, 5}  # there are no older labels r and s
    assert bond_column(extractor, smiles, "stereo")[4:9] == [0, 1, 0, 2, 0]


def test_batch_layout(extractor):
    batch = extractor(["CCO", "[Na+]", "C=C"])
    assert list(batch) == extractor.model_input_names
    assert batch["atom_features"].dtype == batch["bond_features"].dtype == torch.uint8
    assert batch["atom_counts"].tolist() == [3, 1, 2]
    assert batch["bond_index"].tolist() == [[0, 1, 4], [1, 2, 5]]
    assert batch["atom_features"][:, 0].tolist() == [6, 6, 8, 11, 6, 6]
    assert batch["bond_features"][:, 0].tolist() == [1, 1, 2]


def test_batch_without_bonds(extractor):
    batch = extractor(["[Na+]", "*.*", "[H+]"])
    assert batch["atom_counts"].tolist() == [1, 2, 1]
    assert batch["bond_index"].shape == (2, 0)
    assert batch["bond_features"].shape == (0, len(BOND_FEATURES))


def test_blob_is_compact(extractor):
    assert len(extractor.encode("CCO")) == 6 + 3 * len(ATOM_FEATURES) + 2 * (4 + len(BOND_FEATURES))


def test_call_takes_one_smiles_and_gives_numpy(extractor):
    batch = extractor("CCO", return_tensors="np")
    assert all(isinstance(array, np.ndarray) for array in batch.values())
    assert batch["atom_counts"].tolist() == [3]


def test_rdkit_is_silent(extractor, capfd):
    extractor("[H+]")  # RDKit warns of hydrogens without neighbours
    with pytest.raises(ValueError):
        extractor("C1CC(")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("smiles", ["C1CC(", "c1cccc1", "C(C)(C)(C)(C)C", "no_molecule"])
def test_unparsable_smiles(extractor, smiles):
    with pytest.raises(ValueError, match="RDKit cannot parse the SMILES") as error:
        extractor.encode(smiles)
    assert repr(smiles) in str(error.value)


@pytest.mark.parametrize("smiles", ["", "  ", None, 5])
def test_no_smiles(extractor, smiles):
    with pytest.raises(ValueError, match=f"the SMILES is {smiles!r}; expected a non-empty string"):
        extractor.encode(smiles)


def test_collate_refuses_what_it_cannot_read(extractor):
    blob = extractor.encode("CCO")
    with pytest.raises(ValueError, match="at least one molecule"):
        extractor.collate([])
    with pytest.raises(ValueError, match="blob 1 starts with layout version 7, expected 1.*prepare the molecules"):
        extractor.collate([blob, b"\x07\x00" + blob[2:]])
    with pytest.raises(ValueError, match="blob 0 has 51 bytes, expected 52 for 3 atoms and 2 bonds"):
        extractor.collate([blob[:-1]])
    with pytest.raises(ValueError, match="blob 0 starts with layout version None"):
        extractor.collate([b""])


def test_extractor_saved_equals_loaded(extractor, tmp_path):
    extractor.save_pretrained(tmp_path)
    loaded = MoleculeGraphFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict() == pickle.loads(pickle.dumps(extractor)).to_dict()
    assert loaded.encode(CHOLESTEROL) == extractor.encode(CHOLESTEROL)


@pytest.mark.parametrize(
    "layout", [{"version": 2}, {"atom_feature_sizes": [119, 13]}, {"bond_feature_sizes": [6, 6, 2, 3]}]
)
def test_extractor_of_another_layout(layout):
    with pytest.raises(ValueError, match="expects graph features of version .* but this code writes version 1"):
        MoleculeGraphFeatureExtractor(**layout)


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
