"""A trainer on a stream: its order, its length, and what it cannot do."""

# ruff: noqa: F811 (fixtures)
import pytest
import torch
from trainer_parts import make  # noqa: F401

from class_hf import CurriculumPlan


class Stream(torch.utils.data.IterableDataset):
    """A stream of known length."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)


@pytest.mark.parametrize("order", ("none", "random"))
def test_a_stream_trains_in_its_own_order(make, prepared, order, tmp_path):
    trainer = make(
        rows=Stream(prepared), curriculum_order=order, num_train_epochs=3, save_strategy="steps", save_steps=4
    )
    trainer.train()
    plan = trainer.plan
    assert plan.settings["order"] == order and trainer.state.global_step == plan.total_steps
    assert (plan.total_steps < plan.full_steps) == (order == "random")
    resumed = make(rows=Stream(prepared), curriculum_order=order, num_train_epochs=3)
    resumed.train(str(tmp_path / "checkpoint-4"))
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_stream_of_unknown_length_needs_a_plan(make, prepared):
    stream = prepared.to_iterable_dataset().shuffle(seed=0, buffer_size=8)
    with pytest.raises(ValueError, match=r"a stream of unknown length. Pass plan=CurriculumPlan\(num_pairs=N"):
        make(rows=stream, curriculum_order="none")
    plan = CurriculumPlan(num_pairs=24, epochs=2, batch_size=4, order="none")
    trainer = make(rows=stream, given={"plan": plan})
    trainer.train()
    assert trainer.state.global_step == 12
    plan = CurriculumPlan(num_pairs=30, epochs=2, batch_size=4, order="none")
    with pytest.raises(ValueError, match="the stream ended after 24 rows in epoch 0; the plan has 28"):
        make(rows=stream, given={"plan": plan}).train()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"curriculum_order": "easy_first"}, "curriculum_order is 'easy_first' .* the training set is a stream"),
        ({"curriculum_order": "none", "curriculum_group_size": 2}, "curriculum_group_size 2, but the training set"),
        ({"curriculum_order": "none", "dataloader_num_workers": 1}, "each worker would read completely"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(make, prepared, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(rows=Stream(prepared), **kwargs)
