"""What the tests of the trainer share: short arguments, and a model that knows nothing of the package."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_model

from class_hf import CurriculumTrainer, CurriculumTrainingArguments, RetrievalEvaluator, TextMoleculeCollator


def arguments(folder, **kwargs):
    base = dict(
        output_dir=str(folder),
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        num_train_epochs=4,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        logging_steps=1,
        save_strategy="no",
        curriculum_start=0.4,
    )
    return CurriculumTrainingArguments(**{**base, **kwargs})


@pytest.fixture
def make(tmp_path, prepared, processor):
    """Makes a trainer of the tiny dual encoder; keyword arguments of the trainer by name, the rest are arguments."""

    def make(rows=prepared, given=None, **kwargs):
        given = {"evaluator": RetrievalEvaluator(prepared, processor=processor, bootstrap_samples=0), **(given or {})}
        if "model_init" not in given:
            given.setdefault("model", tiny_model(dropout=0.0))
        return CurriculumTrainer(
            args=arguments(tmp_path, **kwargs),
            train_dataset=rows,
            data_collator=TextMoleculeCollator(processor),
            processing_class=processor,
            **given,
        )

    return make


@dataclass
class ForeignOutput:
    text_embeds: torch.Tensor
    molecule_embeds: torch.Tensor
    logit_scale: torch.Tensor
    extra: torch.Tensor


class ForeignBackbone(torch.nn.Module):
    """Knows nothing of the package: letters of the caption against letters of the SMILES."""

    def __init__(self):
        super().__init__()
        self.text, self.molecule = torch.nn.EmbeddingBag(128, 16), torch.nn.EmbeddingBag(128, 16)
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, captions, smiles):
        u, v = F.normalize(self.text(captions), dim=-1), F.normalize(self.molecule(smiles), dim=-1)
        return ForeignOutput(u, v, self.scale.exp(), extra=u.sum())


def letters(rows, column):
    texts = [row[column].ljust(80)[:80] for row in rows]
    return torch.tensor([[min(ord(letter), 127) for letter in text] for text in texts])


def foreign_collator(rows):
    return {"captions": letters(rows, "description"), "smiles": letters(rows, "smiles")}
