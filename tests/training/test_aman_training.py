"""AMAN under the trainer: it learns, resumes with its critic, and two processes train as one."""

import shutil

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import rows_of_pairs
from datasets import Dataset
from run_forked import run_processes
from safetensors.torch import load_file

from class_hf import (
    AmanLoss,
    AmanModel,
    CurriculumTrainer,
    CurriculumTrainingArguments,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    RetrievalEvaluator,
    TextMoleculeCollator,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.training.checkpoints import LOSS_STATE_NAME, last_complete_checkpoint


def trainer_in(folder, dropout=0.1, loss_kwargs=None, **kwargs):
    base = {
        "output_dir": str(folder),
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "no",
        "curriculum_start": 0.5,
        "seed": 5,
    }
    processor = TextMoleculeProcessor(
        LexicalTokenizer(num_buckets=512), MoleculeFingerprintFeatureExtractor(num_buckets=256, radius=1)
    )
    prepared = prepare_pairs(Dataset.from_dict(rows_of_pairs(24)), processor)
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_size": 16, "intermediate_size": 16, "dropout": dropout}
    model = AmanModel.from_towers(
        molecule="fingerprint",
        text_kwargs={"num_buckets": 512, **sizes},
        molecule_kwargs={"num_buckets": 256, **sizes},
        projection_dim=16,
    )
    return CurriculumTrainer(
        model=model,
        args=CurriculumTrainingArguments(**{**base, **kwargs}),
        train_dataset=prepared,
        data_collator=TextMoleculeCollator(processor),
        processing_class=processor,
        evaluator=RetrievalEvaluator(prepared.select(range(8)), prepared, processor=processor, bootstrap_samples=0),
        loss=AmanLoss(
            **{"embedding_size": 16, "critic_hidden_size": 8, "adversarial_weight": 0.1}, **loss_kwargs or {}
        ),
    )


def everything(trainer):
    """All that a run leaves behind: the model with its statistics, and the critic."""
    return {**trainer.model.state_dict(), **trainer.loss.checkpoint_state()}


def test_it_learns_and_logs_its_critic(tmp_path):
    trainer = trainer_in(
        tmp_path, dropout=0.0, num_train_epochs=20, eval_strategy="steps", eval_steps=50, adam_beta2=0.99
    )
    before = trainer.evaluate()["eval_mrr"]
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = [entry["loss"] for entry in logs]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert trainer.evaluate()["eval_mrr"] > max(0.6, before + 0.2)
    assert all(np.isfinite(entry["critic_distance"]) and entry["critic_penalty"] >= 0 for entry in logs)
    assert trainer.loss.critic.updates == trainer.plan.total_steps  # none in evaluation
    own = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert not own & {id(parameter) for parameter in trainer.loss.parameters()}


def test_resumed_equals_straight(tmp_path):
    args = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3}
    straight = trainer_in(tmp_path / "a", save_strategy="steps", save_steps=2, **args)
    straight.train()
    resumed = trainer_in(tmp_path / "b", loss_kwargs={"seed": 0}, **args)
    resumed.train(str(tmp_path / "a" / "checkpoint-4"))
    assert resumed.state.global_step == straight.plan.total_steps > 4
    assert resumed.loss.critic.updates == 2 * straight.plan.total_steps  # one a micro-batch
    ours, theirs = everything(resumed), everything(straight)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    logs = [
        [(entry["loss"], entry["critic_distance"]) for entry in one.state.log_history if "loss" in entry]
        for one in (straight, resumed)
    ]
    assert logs[0] == logs[1]


def test_a_checkpoint_without_its_critic_is_refused(tmp_path):
    trainer = trainer_in(tmp_path, save_strategy="steps", save_steps=2, max_steps=4)
    trainer.train()
    names = {path.suffix for path in (tmp_path / "checkpoint-4").iterdir()}
    assert ".safetensors" in names and load_file(tmp_path / "checkpoint-4" / LOSS_STATE_NAME)["updates"] == 4
    assert last_complete_checkpoint(str(tmp_path)).endswith("checkpoint-4")
    (tmp_path / "checkpoint-4" / LOSS_STATE_NAME).unlink()
    assert last_complete_checkpoint(str(tmp_path)).endswith("checkpoint-2")
    with pytest.raises(ValueError, match="checkpoint-4 cannot be resumed from: loss_state.safetensors is missing"):
        trainer_in(tmp_path, max_steps=4).train(str(tmp_path / "checkpoint-4"))
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert trainer_in(tmp_path, max_steps=4).train(True).global_step == 4


def test_chunks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="forward_chunk_size is 2, but AmanModel normalises over the batch"):
        trainer_in(tmp_path, forward_chunk_size=2)


SETTINGS = {"dropout": 0.0, "max_steps": 4, "optim": "sgd", "learning_rate": 0.1}


def _worker(folder):
    trainer = trainer_in(folder / "two", per_device_train_batch_size=2, **SETTINGS)
    trainer.train()
    torch.save(everything(trainer), folder / f"{trainer.args.process_index}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.distributed
def test_two_processes_train_as_one(tmp_path):
    for done in run_processes(_worker, tmp_path):
        assert done.returncode == 0, done.stderr
    one = trainer_in(tmp_path / "one", **SETTINGS)
    one.train()
    expected, first, second = everything(one), torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt")
    assert expected.keys() == first.keys()
    for name, value in expected.items():
        torch.testing.assert_close(first[name], value, atol=1e-5, rtol=1e-3, msg=name)
        assert torch.equal(first[name], second[name]), name
