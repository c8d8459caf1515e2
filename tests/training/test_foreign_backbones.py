"""The trainer with a model that knows nothing of the package."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from trainer_parts import ForeignBackbone, arguments, foreign_collator, letters

from class_hf import ContrastiveLoss, CurriculumTrainer, RetrievalEvaluator


def test_a_backbone_that_knows_nothing_of_the_package(pairs, tmp_path):
    trainer = CurriculumTrainer(
        model=ForeignBackbone(),
        args=arguments(tmp_path, num_train_epochs=12, learning_rate=0.1, save_strategy="epoch"),
        data_collator=foreign_collator,
        train_dataset=pairs,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-6:]) < np.mean(losses[:6]) - 0.2
    saved = trainer.model.state_dict()
    again = CurriculumTrainer(
        model=ForeignBackbone(),
        args=arguments(tmp_path, num_train_epochs=12, learning_rate=0.1),
        data_collator=foreign_collator,
        train_dataset=pairs,
    )
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{trainer.plan.steps_per_epoch[0]}"))
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, saved[name])


class OneSided(ForeignBackbone):
    """Takes either side alone, so that whole pools can be embedded."""

    def forward(self, captions=None, smiles=None):
        u = None if captions is None else F.normalize(self.text(captions), dim=-1)
        v = None if smiles is None else F.normalize(self.molecule(smiles), dim=-1)
        return {"text_embeds": u, "molecule_embeds": v, "logit_scale": self.scale.exp()}


def test_a_foreign_backbone_is_evaluated_and_selected(pairs, tmp_path):
    class Attributes(OneSided):
        def forward(self, **inputs):
            return SimpleNamespace(**super().forward(**inputs))

    def collator(rows):
        sides = {"captions": "description", "smiles": "smiles"}
        return {name: letters(rows, column) for name, column in sides.items() if column in rows[0]}

    columns = {"text": ["description"], "molecule": ["smiles"]}
    evaluator = RetrievalEvaluator(pairs.select(range(8)), pairs, collator=collator, columns=columns)
    for model in (OneSided(), Attributes()):
        trainer = CurriculumTrainer(
            model=model,
            args=arguments(tmp_path / type(model).__name__, eval_strategy="epoch"),
            data_collator=collator,
            train_dataset=pairs,
            evaluator=evaluator,
        )
        trainer.train()
        assert len([entry for entry in trainer.state.log_history if "eval_mrr" in entry]) == 4
    with pytest.raises(ValueError, match="either the processor .* or a collator"):
        RetrievalEvaluator(pairs)
    blind = ForeignBackbone()
    blind.forward = lambda **inputs: SimpleNamespace(text_embeds=None, molecule_embeds=None)
    with pytest.raises(ValueError, match="returned no text_embeds for a batch with one side"):
        evaluator(blind)


def test_further_fields_reach_a_loss_that_wants_them(pairs, tmp_path):
    seen = []

    class Loss(ContrastiveLoss):
        def forward(self, text_embeds, molecule_embeds, logit_scale, intensity=None, pair_keys=None, extra=None):
            seen.append(extra)
            return super().forward(text_embeds, molecule_embeds, logit_scale, intensity, pair_keys)

    CurriculumTrainer(
        model=ForeignBackbone(),
        args=arguments(tmp_path, max_steps=2),
        data_collator=foreign_collator,
        train_dataset=pairs,
        loss=Loss(),
    ).train()
    assert len(seen) == 2 and all(isinstance(extra, torch.Tensor) for extra in seen)


def test_the_contract_is_checked(pairs, tmp_path):
    class Broken(ForeignBackbone):
        def forward(self, captions, smiles):
            output = super().forward(captions, smiles)
            return {"text_embeds": output.text_embeds}

    trainer = CurriculumTrainer(
        model=Broken(), args=arguments(tmp_path), data_collator=foreign_collator, train_dataset=pairs
    )
    with pytest.raises(ValueError, match="output lacks"):
        trainer.train()


def test_the_order_none_needs_no_difficulty(pairs, tmp_path):
    trainer = CurriculumTrainer(
        model=ForeignBackbone(),
        args=arguments(tmp_path, curriculum_order="none"),
        data_collator=foreign_collator,
        train_dataset=pairs.select_columns(["smiles", "description"]),
    )
    assert trainer.plan.total_steps == 24
    with pytest.raises(ValueError, match="Score the data set first"):
        CurriculumTrainer(
            model=ForeignBackbone(),
            args=arguments(tmp_path),
            data_collator=foreign_collator,
            train_dataset=pairs.remove_columns("difficulty"),
        )


def test_the_arguments_given_stay_as_they_are(tmp_path, pairs):
    args = arguments(tmp_path)
    CurriculumTrainer(model=ForeignBackbone(), args=args, data_collator=foreign_collator, train_dataset=pairs)
    assert args.max_steps == -1


def test_without_data_or_evaluator(tmp_path):
    trainer = CurriculumTrainer(model=ForeignBackbone(), args=arguments(tmp_path))
    with pytest.raises(ValueError, match="nothing to train on"):
        trainer.train()
    with pytest.raises(ValueError, match="nothing to evaluate on"):
        trainer.evaluate()


def test_several_gpus_in_one_process_are_refused(tmp_path, pairs):
    args = arguments(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="accelerate launch"):
        CurriculumTrainer(model=ForeignBackbone(), args=args, train_dataset=pairs)
