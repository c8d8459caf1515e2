"""Curriculum learning for cross-modal text-molecule retrieval in the Hugging Face ecosystem.

Public names are loaded on first use, so that ``import class_hf`` costs no torch and no RDKit.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "curriculum.difficulty": ["DifficultyScorer", "score_dataset"],
    "curriculum.intensity": ["IntensitySchedule"],
    "curriculum.pacing": ["competence"],
    "curriculum.plan": ["CurriculumPlan"],
    "curriculum.sampler": ["CurriculumSampler"],
    "data.chebi20": ["load_chebi20"],
    "data.collator": ["TextMoleculeCollator"],
    "data.demo": ["load_demo"],
    "data.prepare": ["prepare_molecules", "prepare_pairs"],
    "evaluation.retrieval": ["RetrievalEvaluator"],
    "losses.contrastive": ["ContrastiveLoss"],
    "models": [
        "LexicalConfig",
        "LexicalModel",
        "LexicalTokenizer",
        "MoleculeFingerprintConfig",
        "MoleculeFingerprintFeatureExtractor",
        "MoleculeFingerprintModel",
        "MoleculeGraphConfig",
        "MoleculeGraphFeatureExtractor",
        "MoleculeGraphModel",
        "TextMoleculeDualEncoderConfig",
        "TextMoleculeDualEncoderModel",
        "TextMoleculeProcessor",
        "TextSmilesProcessor",
    ],
    "trainer": ["CurriculumTrainer"],
    "training_args": ["CurriculumTrainingArguments"],
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]  # noqa: PLE0604
