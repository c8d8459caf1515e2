"""Compact gradients of embedding tables give the result of dense ones, where they are used."""

import copy

import pytest
import torch
from conftest import tiny_model
from torch import nn
from trainer_parts import make  # noqa: F401  # a fixture
from transformers import TrainerCallback

from class_hf.models.dropout import FastDropout
from class_hf.models.modeling_bag import BagTable, sum_bags
from class_hf.training import compact_gradients, optimizers
from class_hf.training.optimizers import TableAdamW, clip_gradients


class Watch(TrainerCallback):
    """Notes which gradients are sparse, and the largest norm."""

    def __init__(self):
        self.sparse, self.norms = set(), []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.sparse |= {name for name, value in model.named_parameters() if value.grad.is_sparse}

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.norms += [logs["grad_norm"]] if "grad_norm" in logs else []


@pytest.fixture
def small_tables(monkeypatch):
    monkeypatch.setattr(compact_gradients, "_FEWEST_WEIGHTS", 1)
    monkeypatch.setattr(optimizers, "_ROWS", 100)  # several blocks, the last one shorter


@pytest.mark.parametrize("ids_type", (torch.int32, torch.int64))
def test_the_gradient_of_bags_has_one_row_for_each_different_id(ids_type):
    ids = torch.tensor([3, 1, 3, 3, 7, 1], dtype=ids_type)
    offsets = torch.tensor([0, 3, 3, 6, 6], dtype=ids_type)  # the second and the last bag are empty
    table = BagTable(10, 4)
    results = []
    for compact in (False, True):
        table.compact_gradients, table.weight.grad = compact, None
        bags = sum_bags(table, ids, offsets)
        (bags * torch.arange(16.0).reshape(4, 4)).sum().backward()
        results.append((bags, table.weight.grad))
    (dense_bags, dense), (bags, gradient) = results
    assert gradient._indices()[0].tolist() == [1, 3, 7]
    assert torch.equal(gradient.to_dense(), dense) and torch.equal(bags, dense_bags)
    sum_bags(table, ids[:0], torch.zeros(3, dtype=ids_type)).sum().backward()  # a batch without ids
    with torch.no_grad():
        assert torch.equal(sum_bags(table, ids, offsets), bags)
    table.weight.requires_grad_(False)
    assert not sum_bags(table, ids, offsets).requires_grad
    with pytest.raises(ValueError, match="the batch has the id 12"):
        sum_bags(BagTable(10, 4), torch.tensor([12]), torch.tensor([0, 1]))


@pytest.mark.parametrize("fused", (True, False))
def test_the_step_is_that_of_adamw(fused, small_tables):
    torch.manual_seed(0)
    settings = dict(lr=0.1, betas=(0.9, 0.98), weight_decay=0.1, fused=fused)
    dense = [nn.Parameter(torch.randn(250, 8)), nn.Parameter(torch.randn(5))]
    compact = [nn.Parameter(value.detach().clone()) for value in dense]
    optimizers_ = torch.optim.AdamW(dense, **settings), TableAdamW(compact, **settings)
    for step in range(5):
        if step == 3:  # the state of one continues in the other
            optimizers_[1].load_state_dict(copy.deepcopy(optimizers_[0].state_dict()))
        dense[0].grad = torch.zeros(250, 8)
        dense[0].grad[torch.randint(0, 250, (20,))] = torch.randn(20, 8)
        dense[1].grad = torch.randn(5)
        compact[0].grad, compact[1].grad = dense[0].grad.to_sparse(1), dense[1].grad.clone()
        norm = nn.utils.clip_grad_norm_(dense, 1.0)
        torch.testing.assert_close(clip_gradients(compact, 1.0), norm)
        for optimizer in optimizers_:
            optimizer.step()
        assert compact[0].grad is not None
    for first, second in zip(dense, compact, strict=True):
        torch.testing.assert_close(first, second)
    assert optimizers_[0].state_dict()["state"].keys() == optimizers_[1].state_dict()["state"].keys()


def train(make, **settings):  # noqa: F811
    watch = Watch()
    trainer = make(given={"model": tiny_model(dropout=0.0), "callbacks": [watch]}, weight_decay=0.1, **settings)
    trainer.train()
    return trainer, watch


def test_a_run_ends_with_the_weights_of_dense_gradients(make, small_tables, monkeypatch, tmp_path):  # noqa: F811
    compact, watch = train(make, save_strategy="steps", save_steps=3)
    tables = {"text_model.encoder.embedding.weight", "molecule_model.encoder.embedding.weight"}
    assert watch.sparse == tables and isinstance(compact._made_optimizer, TableAdamW)
    assert not any(getattr(module, "compact_gradients", False) for module in compact.model.modules())
    # Without clipping, the norm is logged as well.
    assert train(make, max_grad_norm=0.0)[1].norms[0] == pytest.approx(watch.norms[0])
    resumed = make(given={"model": tiny_model(dropout=0.0)}, weight_decay=0.1)
    resumed.train(str(tmp_path / "checkpoint-3"))
    monkeypatch.setattr(compact_gradients, "_FEWEST_WEIGHTS", 10**9)
    dense, watch_dense = train(make)
    assert not watch_dense.sparse and watch.norms == pytest.approx(watch_dense.norms, rel=1e-5)
    for name, value in dense.model.state_dict().items():
        torch.testing.assert_close(compact.model.state_dict()[name], value, rtol=1e-3, atol=1e-5)
        assert torch.equal(compact.model.state_dict()[name], resumed.model.state_dict()[name]), name


@pytest.mark.parametrize(
    "settings",
    ({"optim": "sgd"}, {"gradient_accumulation_steps": 2}, {"forward_chunk_size": 2}),
    ids=lambda settings: next(iter(settings)),
)
def test_where_gradients_stay_dense(settings, make, small_tables):  # noqa: F811
    trainer = make(max_steps=2, **settings)
    assert trainer.compact_tables(trainer.model) == []
    trainer.train()


def test_dropout_of_atoms():
    states = torch.ones(1001, 33, requires_grad=True)
    dropout = FastDropout(0.1)
    torch.manual_seed(0)
    dropped = dropout(states)
    dropped.sum().backward()
    assert float((dropped == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01) and torch.equal(states.grad, dropped)
    assert dropout(states[:0]).shape == (0, 33) and dropout(states[:1, :1]).shape == (1, 1)
    torch.manual_seed(0)
    assert torch.equal(dropout(states), dropped)
    assert torch.equal(dropout.eval()(states), states) and torch.equal(FastDropout(0.0)(states), states)
    assert FastDropout(1.0)(states).sum() == 0
