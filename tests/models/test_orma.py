"""ORMA: motifs, optimal transport, scores of pairs, the model."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rdkit import Chem
from scipy.optimize import linprog
from tiny_orma import tiny_orma, tiny_processor
from transformers import AutoModel, AutoProcessor

from class_hf import OrmaConfig, OrmaFeatureExtractor, OrmaGraphModel, OrmaModel, TextMoleculeCollator
from class_hf.backbones.registry import build_model
from class_hf.config.arguments import ModelArguments
from class_hf.models.feature_extraction_orma import motifs_of
from class_hf.models.token_alignment import (
    MoleculeStates,
    TextStates,
    all_scores,
    assign_tokens,
    pair_scores,
    proximal_transport,
)

TEXTS = [
    "The molecule is an acid.",
    "It is a primary amine, ethanamine. It has a role as a metabolite.",
    "A thiol.",
    "The molecule is a primary alcohol.",
]
SMILES = ["CC(=O)Nc1ccccc1", "c1ccc2ccccc2c1", "O", "CC(=O)OCCSCC(=O)O"]


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


# -- motifs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smiles", "motifs"),
    [
        ("CCO", [(0, 1, 2)]),  # BRICS cuts nothing
        # An ester: BRICS cuts the acyl from the oxygen, and the oxygen from the alkyl.
        ("CC(=O)OCC", [(0, 1, 2), (3,), (4, 5)]),
        # Aspirin: the same at the phenol ester, and between ring and carboxylic acid.
        ("CC(=O)Oc1ccccc1C(=O)O", [(0, 1, 2), (3,), (4, 5, 6, 7, 8, 9), (10, 11, 12)]),
        # 2-Methylnaphthalene: one piece, two rings that share the fused bond (4, 9), and the remaining methyl.
        ("Cc1ccc2ccccc2c1", [(0,), (1, 2, 3, 4, 9, 10), (4, 5, 6, 7, 8, 9)]),
        # 1,4-Dimethylspiro[2.2]pentane: rings share one atom; the remaining atoms are two parts.
        ("CC1CC12CC2C", [(0,), (1, 2, 3), (3, 4, 5), (6,)]),
        ("[Na+].[Cl-]", [(0,), (1,)]),
    ],
)
def test_motifs_computed_by_hand(smiles, motifs):
    assert motifs_of(Chem.MolFromSmiles(smiles)) == motifs


def test_motifs_cover_every_atom_and_travel_in_the_blob():
    extractor = OrmaFeatureExtractor()
    batch = extractor(SMILES)
    first = np.cumsum(batch["atom_counts"].numpy()) - batch["atom_counts"].numpy()
    expected = [
        [start + atom for atom in motif]
        for start, smiles in zip(first, SMILES, strict=True)
        for motif in motifs_of(Chem.MolFromSmiles(smiles))
    ]
    computed = [part.tolist() for part in batch["motif_atoms"].split(batch["motif_sizes"].tolist())]
    assert computed == expected
    assert batch["motif_counts"].sum() == len(computed)
    assert set(batch["motif_atoms"].tolist()) == set(range(len(batch["atom_features"])))


def test_foreign_blobs_are_refused():
    extractor = OrmaFeatureExtractor()
    blob = extractor.encode("CCO")
    for bad in (b"", blob[:-1], super(OrmaFeatureExtractor, extractor).encode("CCO")):
        with pytest.raises(ValueError, match="blob 1 is no molecule with motifs"):
            extractor.collate([blob, bad])


# -- optimal transport ----------------------------------------------------------------------------------------------


def masked_problems(seed=0, problems=4, rows=5, columns=4):
    generator = torch.Generator().manual_seed(seed)
    cost = torch.rand(problems, rows, columns, generator=generator, dtype=torch.float64)
    row_mask = torch.arange(rows) < torch.tensor([5, 3, 4, 1])[:, None]
    column_mask = torch.arange(columns) < torch.tensor([4, 4, 2, 3])[:, None]
    return cost, row_mask, column_mask


def plain_transport(cost, iterations, beta):
    """Xie et al., 2020, algorithm 1, on one problem without padding."""
    n, m = cost.shape
    plan, sigma, kernel = np.ones((n, m)), np.full(m, 1 / m), np.exp(-cost / beta)
    for _ in range(iterations):
        q = kernel * plan
        delta = 1 / (n * (q @ sigma))
        sigma = 1 / (m * (q.T @ delta))
        plan = np.diag(delta) @ q @ np.diag(sigma)
    return plan


def test_transport_is_the_plain_iteration_and_ignores_padding():
    cost, rows, columns = masked_problems()
    plan = proximal_transport(cost, rows, columns)
    single = proximal_transport(cost.float(), rows, columns)
    for exact, rounded, costs, row, column in zip(plan, single, cost, rows, columns, strict=True):
        expected = plain_transport(costs[row][:, column].numpy(), 50, 0.5)
        np.testing.assert_allclose(exact[row][:, column], expected, rtol=1e-10)
        np.testing.assert_allclose(rounded[row][:, column], expected, atol=1e-5)
        assert not exact[~(row[:, None] & column)].any()


def test_transport_tends_to_the_exact_solution():
    cost, rows, columns = masked_problems()
    plan = proximal_transport(cost, rows, columns, iterations=3000)
    for masses, costs, row, column in zip(plan, cost, rows, columns, strict=True):
        costs, masses = costs[row][:, column].numpy(), masses[row][:, column].numpy()
        n, m = costs.shape
        sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
        exact = linprog(costs.ravel(), A_eq=sums, b_eq=[1 / n] * n + [1 / m] * m)
        np.testing.assert_allclose(masses.sum(0), 1 / m, rtol=1e-6)
        np.testing.assert_allclose(masses.sum(1), 1 / n, rtol=1e-3)
        assert (masses * costs).sum() == pytest.approx(exact.fun, rel=1e-3)


def test_a_token_goes_to_the_motif_that_receives_most_of_it():
    motifs = torch.eye(3)[None]
    tokens = F.normalize(torch.tensor([[0.1, 1.0, 0.0], [1.0, 0.0, 0.2], [0.0, 0.1, 1.0]]), dim=1)[None]
    all_there = torch.ones(1, 3, dtype=torch.bool)
    assert assign_tokens((tokens @ motifs.mT)[:, None], all_there, all_there).tolist() == [[[1, 0, 2]]]
    # Equal motifs: the first has the token, whatever rounding does to the plan.
    equal = (motifs[:, [1, 1, 2]] * (1 + 1e-7 * torch.tensor([0, 1, 0])[:, None])).contiguous()
    assert assign_tokens((tokens @ equal.mT)[:, None], all_there, all_there)[0, 0, 0] == 0


# -- scores of pairs ------------------------------------------------------------------------------------------------


def ragged_states(seed=0, width=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)

    def unit(rows):
        return F.normalize(torch.randn(rows, width, generator=generator, dtype=dtype), dim=-1).requires_grad_()

    def offsets(lengths):
        return F.pad(torch.tensor(lengths).cumsum(0), (1, 0))

    tokens, motifs, atoms = [4, 9, 1], [2, 1, 5, 3], [7, 3, 12, 6]
    return (
        TextStates(unit(sum(tokens)), unit(sum(tokens)), offsets(tokens)),
        MoleculeStates(unit(sum(motifs)), offsets(motifs), unit(sum(atoms)), offsets(atoms)),
    )


def scores_by_hand(texts, molecules, i, j):
    """Both levels of one pair, token by token."""
    part = slice(*texts.token_offsets[i : i + 2].tolist())
    tokens, others = (states[part].detach().double().numpy() for states in texts[:2])
    motifs = molecules.motifs[slice(*molecules.motif_offsets[j : j + 2].tolist())].detach().double().numpy()
    atoms = molecules.atoms[slice(*molecules.atom_offsets[j : j + 2].tolist())].detach().double().numpy()
    owner = plain_transport(1 - tokens @ motifs.T, 50, 0.5).argmax(1)
    cosines = []
    for k, motif in enumerate(motifs):
        if (owner == k).any():
            group = tokens[owner == k].mean(0)
            cosines.append(group @ motif / np.linalg.norm(group))
    best_atoms = [max(token @ atom for atom in atoms) for token in others]
    best_tokens = [max(token @ atom for token in others) for atom in atoms]
    return np.mean(cosines), (np.mean(best_atoms) + np.mean(best_tokens)) / 2


EVERY_PAIR = [(i, j) for i in range(3) for j in range(4)]
ROWS = torch.tensor(EVERY_PAIR).T


def test_scores_equal_the_calculation_by_hand():
    texts, molecules = ragged_states()
    computed = torch.stack(pair_scores(texts, molecules, *ROWS), 1).detach()
    expected = [scores_by_hand(texts, molecules, i, j) for i, j in EVERY_PAIR]
    np.testing.assert_allclose(computed.numpy(), expected, atol=1e-5)


def by_pairs(texts, molecules, block_pairs):
    return [level.view(3, 4) for level in pair_scores(texts, molecules, *ROWS, block_pairs)]


@pytest.mark.parametrize("block_pairs", (1, 5, None))
@pytest.mark.parametrize("score", (by_pairs, all_scores))
def test_neither_blocks_nor_the_way_change_scores_or_gradients(score, block_pairs):
    results = []
    for way, size in ((by_pairs, 100), (score, block_pairs)):
        texts, molecules = ragged_states()
        scores = torch.stack(way(texts, molecules, size))
        (scores * torch.arange(24).view(2, 3, 4)).sum().backward()
        leaves = (*texts[:2], molecules.motifs, molecules.atoms)
        results.append([scores.detach(), *(leaf.grad for leaf in leaves)])
    for expected_output, actual_output in zip(*results, strict=True):
        torch.testing.assert_close(expected_output, actual_output, atol=1e-5, rtol=1e-5)


def test_padding_receives_no_gradient():
    texts, molecules = ragged_states()
    torch.stack(pair_scores(texts, molecules, torch.tensor([0]), torch.tensor([0]))).sum().backward()
    for states, length in ((texts.atom_tokens, 4), (molecules.motifs, 2), (molecules.atoms, 7)):
        assert states.grad[:length].abs().sum() > 0 and states.grad[length:].abs().sum() == 0


def full_scores(model, batch):
    output = model(**batch)
    rows = torch.tensor([(i, j) for i in range(len(TEXTS)) for j in range(len(SMILES))]).T
    return model.fine_scores(output, output, *rows).view(len(TEXTS), len(SMILES))


def test_a_score_depends_on_its_pair_only(processor):
    model = tiny_orma().eval()
    with torch.no_grad():
        together = full_scores(model, processor(text=TEXTS, smiles=SMILES))
        mixed = full_scores(model, processor(text=TEXTS, smiles=SMILES[::-1])).flip(1)
        alone = [
            [model.fine_scores(*[model(**processor(text=text, smiles=smiles))] * 2, *torch.zeros(2, 1).long())
             for smiles in SMILES]
            for text in TEXTS
        ]  # fmt: skip
    torch.testing.assert_close(together, torch.tensor(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(together, mixed, atol=1e-5, rtol=0)


def test_symmetric_molecules_score_alike_in_any_batch(processor):
    """Between equal motifs rounding could assign a token differently in different batches."""
    model, smiles = tiny_orma().eval(), ["c1ccc(-c2ccccc2)cc1", "CC(=O)OCCOC(C)=O"]
    with torch.no_grad():
        text, pair = model(**processor(text=TEXTS)), model(**processor(smiles=smiles + SMILES))
        for place, molecule in enumerate(smiles):
            alone = model(**processor(smiles=molecule))
            for row in range(len(TEXTS)):
                rows = torch.tensor([row]), torch.tensor([place])
                first = model.fine_scores(text, pair, *rows)
                torch.testing.assert_close(
                    first, model.fine_scores(text, alone, rows[0], torch.tensor([0])), atol=1e-5, rtol=0
                )


# -- the model ------------------------------------------------------------------------------------------------------


def test_outputs(processor):
    model = tiny_orma(layers=3).eval()
    output = model(**processor(text=TEXTS, smiles=SMILES))
    assert output.text_embeds.shape == output.molecule_embeds.shape == (4, 8)
    assert output.token_offsets[-1] == len(output.motif_tokens) == len(output.atom_tokens)
    assert output.motif_offsets.tolist() == [0, 3, 5, 6, 11] and output.atom_offsets.tolist() == [0, 10, 20, 21, 32]
    for name in ("text_embeds", "molecule_embeds", "motif_tokens", "atom_tokens", "motifs", "atoms"):
        torch.testing.assert_close(output[name].norm(dim=-1), torch.ones(len(output[name])), msg=name)
    assert model(**processor(text=TEXTS)).atoms is None and model(**processor(smiles=SMILES)).motif_tokens is None
    with pytest.raises(ValueError, match="no inputs"):
        model()


def test_tokens_come_from_their_layers_in_the_order_of_the_captions(processor):
    model = tiny_orma(layers=3, tower_chunk_size=2).eval()
    batch = processor(text=TEXTS)
    output = model(**batch)
    for row, (start, end) in enumerate(zip(batch["text_offsets"], batch["text_offsets"][1:], strict=False)):
        ids = batch["input_ids"][None, start:end].long()
        hidden = model.text_model(input_ids=ids, output_hidden_states=True).hidden_states
        for name, projection, layer in (
            ("motif_tokens", model.motif_token_projection, -2),
            ("atom_tokens", model.atom_token_projection, -3),
        ):
            expected = F.normalize(projection(hidden[layer][0]), dim=-1)
            torch.testing.assert_close(output[name][start:end], expected, atol=1e-5, rtol=1e-5, msg=f"{name} {row}")
        expected = F.normalize(model.text_projection(hidden[-1][0].mean(0)), dim=-1)
        torch.testing.assert_close(output.text_embeds[row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", (0, 1, 2))
def test_every_level_reaches_both_networks(level, processor):
    weights = [float(place == level) for place in range(3)]
    model = tiny_orma(dropout=0.0, level_weights=weights)
    full_scores(model, processor(text=TEXTS, smiles=SMILES)).sum().backward()
    for parameter in (
        model.molecule_model.atom_embedding.weight,
        model.molecule_model.layers[0].messages.linear.weight,
        model.text_model.embeddings.word_embeddings.weight,
    ):
        assert parameter.grad.abs().sum() > 0


def test_the_graph_flows_upwards_only():
    torch.manual_seed(0)
    model = OrmaGraphModel(OrmaConfig(molecule_config={"hidden_size": 16}).molecule_config).eval()
    extractor = OrmaFeatureExtractor()
    batch = extractor(["CC(=O)Nc1ccccc1"])
    output = model(**batch)
    merged = {
        **batch,
        "motif_atoms": torch.arange(10),
        "motif_sizes": torch.tensor([10]),
        "motif_counts": torch.tensor([1]),
    }
    one_motif = model(**merged)
    # There are no messages from motifs to atoms.
    torch.testing.assert_close(output.last_hidden_state, one_motif.last_hidden_state)
    assert not torch.allclose(output.pooler_output, one_motif.pooler_output, atol=1e-4)
    # Independent of how the SMILES is written and of the rest of the batch.
    batch_of_two = model(**extractor(["CCO", "c1ccccc1NC(C)=O"]))
    torch.testing.assert_close(batch_of_two.pooler_output[1:], output.pooler_output, atol=1e-5, rtol=1e-5)


def test_saved_equals_loaded(processor, tmp_path):
    model = tiny_orma(level_weights=[0.5, 0.25, 0.25]).eval()
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    loaded, loaded_processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is OrmaModel and loaded_processor.content_key() == processor.content_key()
    assert loaded.config.level_weights == model.config.level_weights == (0.5, 0.25, 0.25)
    expected_output, actual_output = (
        encoder(**prepare(text=TEXTS, smiles=SMILES))
        for encoder, prepare in ((model, processor), (loaded, loaded_processor))
    )
    for name, value in expected_output.items():
        assert torch.equal(value, actual_output[name]), name


def test_prepared_blobs_equal_the_direct_way(processor):
    model = tiny_orma().eval()
    columns = (processor.encode_text(TEXTS), processor.encode_molecules(SMILES))
    rows = [{"text_features": text, "molecule_features": molecule} for text, molecule in zip(*columns, strict=True)]
    expected_output, actual_output = (
        model(**TextMoleculeCollator(processor)(rows)),
        model(**processor(text=TEXTS, smiles=SMILES)),
    )
    for name, value in expected_output.items():
        assert torch.equal(value, actual_output[name]), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OrmaModel.from_towers(text="lexical"), "'lexical', which has no token states"),
        (lambda: OrmaConfig(freeze_text=True), "`freeze_text` or `freeze_molecule` is set"),
        (lambda: tiny_orma()(**tiny_processor()(text="acid " * 80)), "has 82 tokens, but BertModel has 64 positions"),
        (lambda: OrmaConfig(level_weights=[1, 0, float("nan")]), "`level_weights` is nan"),
        (lambda: OrmaConfig(level_weights=[1, 0]), "`level_weights` is \\(1, 0\\)"),
        (lambda: OrmaConfig(molecule_config={"layer_type": "transformer"}), "expected 'gcn' or 'gine'"),
        (lambda: OrmaConfig(molecule_config={"model_type": "molecule_graph"}), "ORMA has its own tower"),
        (lambda: tiny_orma(layers=1)(**tiny_processor()(text=TEXTS)), "returns 2 hidden states"),
        (lambda: tiny_orma()(input_ids=torch.ones(1, 3).long()), "ORMA reads ragged ones"),
        (lambda: build_model(ModelArguments(backbone="orma")), "'lexical', which has no token states"),
        (lambda: build_model(ModelArguments(backbone="orma", molecule_model="graph")), "a molecule tower of its own"),
        (lambda: build_model(ModelArguments(backbone="orma", molecule_config='{"layers": 2}')), "field 'layers'"),
        (lambda: tiny_orma()(molecule_pooled=torch.ones(1, 3)), "needs its atoms and motifs"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(Exception, match=message):
        make()
