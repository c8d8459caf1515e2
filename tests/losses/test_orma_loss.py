"""ORMA's loss: equal to plain loops, with several processes, in a training run."""

import datasets
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from conftest import rows_of_pairs
from run_forked import run_processes
from tiny_orma import tiny_orma, tiny_processor

from class_hf import (
    ContrastiveLoss,
    CurriculumTrainer,
    CurriculumTrainingArguments,
    OrmaLoss,
    RetrievalEvaluator,
    TextMoleculeCollator,
    prepare_pairs,
)
from class_hf.curriculum.intensity import Intensity
from class_hf.models.token_alignment import MoleculeStates, TextStates, pair_scores

KEYS = torch.tensor([[i % 5, 100 + i // 2] for i in range(8)])
TOKENS, MOTIFS, ATOMS = [3, 7, 1, 4, 2, 5, 6, 3], [2, 1, 4, 1, 3, 2, 2, 1], [5, 3, 9, 1, 4, 6, 2, 7]
SHARP = Intensity(0.7, 1.5)


def fields(rows=slice(None), weights=(0.3, 0.2, 0.5), weight=None, seed=0):
    """A model's output for 8 pairs or some of them; `weight` (6, 6) represents its parameters."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.eye(6) if weight is None else weight
    single = [1] * 8

    def part(lengths):
        states = torch.randn(sum(lengths), 6, generator=generator)
        kept = torch.cat(states.split(lengths)[rows])
        return F.normalize(kept @ weight, dim=-1)

    def offsets(lengths):
        return F.pad(torch.tensor(lengths[rows]).cumsum(0), (1, 0))

    return {
        "text_embeds": part(single),
        "molecule_embeds": part(single),
        "motif_tokens": part(TOKENS),
        "atom_tokens": part(TOKENS),
        "token_offsets": offsets(TOKENS),
        "motifs": part(MOTIFS),
        "motif_offsets": offsets(MOTIFS),
        "atoms": part(ATOMS),
        "atom_offsets": offsets(ATOMS),
        "level_weights": torch.tensor(weights),
    }


def level_matrices(states):
    """(8, 8) scores of each level, pair by pair."""
    matrices = np.zeros((3, 8, 8))
    matrices[0] = (states["text_embeds"] @ states["molecule_embeds"].T).numpy()
    texts = TextStates(*(states[name] for name in TextStates._fields))
    molecules = MoleculeStates(*(states[name] for name in MoleculeStates._fields))
    for i in range(8):
        for j in range(8):
            scores = pair_scores(texts, molecules, torch.tensor([i]), torch.tensor([j]))
            matrices[1:, i, j] = [float(score) for score in scores]
    return matrices


@pytest.mark.parametrize("keys", (None, KEYS))
@pytest.mark.parametrize("intensity", (Intensity(), SHARP))
def test_equals_plain_loops(keys, intensity):
    states = fields()
    out = OrmaLoss()(**states, logit_scale=torch.tensor(8.0), intensity=intensity, pair_keys=keys)
    matrices, weights = level_matrices(states), np.array([0.3, 0.2, 0.5])
    total, per_pair, hits = 0.0, np.zeros(8), 0.0
    allowed = [[j for j in range(8) if j == i or keys is None or not (keys[i] == keys[j]).any()] for i in range(8)]
    for level, matrix in zip(weights, matrices, strict=True):
        losses, probabilities = np.zeros(8), np.zeros(8)
        for scores in (matrix, matrix.T):
            for i in range(8):
                exponentials = np.exp(intensity.sharpness * 8.0 * scores[i, allowed[i]])
                p = exponentials[allowed[i].index(i)] / exponentials.sum()
                losses[i] -= np.log(p) / 2
                probabilities[i] += p / 2
        focus = (1 - probabilities) ** intensity.focus
        total += level * (focus * losses).sum() / focus.sum()
        per_pair += level * losses
    full_scores = np.tensordot(weights, matrices, 1)
    for scores in (full_scores, full_scores.T):
        hits += np.mean([allowed[i][int(scores[i, allowed[i]].argmax())] == i for i in range(8)]) / 2
    assert out.loss.item() == pytest.approx(total, abs=1e-5)
    np.testing.assert_allclose(out.per_pair.numpy(), per_pair, atol=1e-5)
    assert out.accuracy.item() == pytest.approx(hits)


def test_the_sentence_level_is_the_contrastive_loss():
    states = fields(weights=(1.0, 0.0, 0.0))
    arguments = {"logit_scale": torch.tensor(8.0), "intensity": SHARP, "pair_keys": KEYS}
    expected = OrmaLoss(label_smoothing=0.1)(**states, **arguments)
    actual = ContrastiveLoss(0.1)(states["text_embeds"], states["molecule_embeds"], **arguments)
    assert expected.loss.item() == pytest.approx(actual.loss.item(), abs=1e-6)
    torch.testing.assert_close(expected.per_pair, actual.per_pair)
    assert expected.accuracy == actual.accuracy


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`label_smoothing` is 1.0"):
        OrmaLoss(label_smoothing=1.0)
    with pytest.raises(ValueError, match="`block_pairs` is 0"):
        OrmaLoss(block_pairs=0)


# -- several processes ----------------------------------------------------------------------------------------------


def gradients_and_values(rows=slice(None)):
    weight, scale = torch.nn.Parameter(torch.eye(6)), torch.nn.Parameter(torch.tensor(8.0))
    loss = OrmaLoss(label_smoothing=0.1, block_pairs=9)
    out = loss(**fields(rows, weight=weight), logit_scale=scale, intensity=SHARP, pair_keys=KEYS[rows])
    out.loss.backward()
    return [weight.grad, scale.grad, out.loss.detach(), out.accuracy]


def _worker(folder):
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    results = gradients_and_values(slice(rank * 8 // processes, (rank + 1) * 8 // processes))
    for value in results:  # as DDP does with gradients
        dist.all_reduce(value)
        value /= processes
    if rank == 0:
        torch.save(results, folder / "out.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.distributed
def test_two_processes_give_the_single_process_gradient(tmp_path):
    for done in run_processes(_worker, tmp_path):
        assert done.returncode == 0, done.stderr
    for expected, actual in zip(gradients_and_values(), torch.load(tmp_path / "out.pt"), strict=True):
        assert (expected - actual).norm() <= 1e-5 * expected.norm()


# -- in a training run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared():
    return prepare_pairs(datasets.Dataset.from_dict(rows_of_pairs(24)), tiny_processor())


def trainer(prepared, folder, **kwargs):
    processor = tiny_processor()
    args = CurriculumTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        per_device_eval_batch_size=24,
        learning_rate=5e-3,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        **{"num_train_epochs": 8, **kwargs},
    )
    return CurriculumTrainer(
        model=tiny_orma(dropout=0.0),
        args=args,
        train_dataset=prepared,
        data_collator=TextMoleculeCollator(processor),
        processing_class=processor,
        loss=OrmaLoss(),
        evaluator=RetrievalEvaluator(prepared, processor=processor, bootstrap_samples=0),
    )


def test_training_lowers_the_loss(prepared, tmp_path):
    run = trainer(prepared, tmp_path, curriculum_order="none")
    before = run.evaluate()["eval_mrr"]
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert run.evaluate()["eval_mrr"] > before


def test_chunks_are_refused(prepared, tmp_path):
    with pytest.raises(ValueError, match="10 entries for 8 pairs; .* leave forward_chunk_size out"):
        trainer(prepared, tmp_path, forward_chunk_size=4, num_train_epochs=1).train()
