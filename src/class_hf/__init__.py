"""Curriculum learning for cross-modal text-molecule retrieval in the Hugging Face ecosystem.

Public names are loaded on first use, so that ``import class_hf`` costs no torch and no RDKit.
"""

from importlib import import_module
from typing import Any

from class_hf._register import watch_auto_classes
from class_hf._version import __version__ as __version__

_PUBLIC = {
    "backbones.adapters": ["add_adapters", "load_adapter", "merge_adapter", "save_adapter"],
    "curriculum.intensity": ["IntensitySchedule"],
    "curriculum.pacing": ["competence"],
    "curriculum.plan": ["CurriculumPlan"],
    "curriculum.sampler": ["CurriculumSampler"],
    "data.collator": ["TextMoleculeCollator"],
    "data.demo.dataset": ["load_demo"],
    "data.frozen_towers": ["cache_frozen"],
    "data.loading": ["load_chebi20"],
    "data.prepare": ["prepare_molecules", "prepare_pairs"],
    "difficulty.scorer": ["DifficultyScorer", "score_dataset"],
    "evaluation.evaluate_evaluator": ["TextMoleculeRetrievalEvaluator"],
    "evaluation.evaluate_metric": ["TextMoleculeRetrieval"],
    "evaluation.retrieval_evaluator": ["RetrievalEvaluator"],
    "hub.encoder": ["Encoder"],
    "hub.sentence_transformers": ["save_sentence_transformer"],
    "losses.aman": ["AmanLoss"],
    "losses.contrastive": ["ContrastiveLoss", "LossOutput"],
    "losses.orma": ["OrmaLoss"],
    "losses.text2mol": ["Text2MolLoss"],
    "models.configuration_aman": ["AmanConfig"],
    "models.configuration_graph": ["MoleculeGraphConfig"],
    "models.configuration_orma": ["OrmaConfig", "OrmaGraphConfig"],
    "models.configuration_text2mol": ["Text2MolConfig", "Text2MolMoleculeConfig"],
    "models.configuration_text_molecule": [
        "LexicalConfig",
        "MoleculeFingerprintConfig",
        "MoleculeFusedConfig",
        "TextMoleculeDualEncoderConfig",
    ],
    "models.feature_extraction_fingerprint": ["MoleculeFingerprintFeatureExtractor"],
    "models.feature_extraction_fused": ["MoleculeFusedFeatureExtractor"],
    "models.feature_extraction_graph": ["MoleculeGraphFeatureExtractor"],
    "models.feature_extraction_orma": ["OrmaFeatureExtractor"],
    "models.feature_extraction_text2mol": ["Text2MolFeatureExtractor"],
    "models.modeling_aman": ["AmanModel"],
    "models.modeling_bag": ["LexicalModel", "MoleculeFingerprintModel"],
    "models.modeling_fused": ["MoleculeFusedModel"],
    "models.modeling_graph": ["MoleculeGraphModel"],
    "models.modeling_orma": ["OrmaGraphModel", "OrmaModel"],
    "models.modeling_text2mol": ["Text2MolModel", "Text2MolMoleculeModel"],
    "models.modeling_text_molecule": ["TextMoleculeDualEncoderModel"],
    "models.processing_text_molecule": ["TextMoleculeProcessor", "TextSmilesProcessor"],
    "models.tokenization_lexical": ["LexicalTokenizer"],
    "search.index": ["MoleculeIndex"],
    "search.query": ["Hit", "MoleculeFilter"],
    "training.arguments": ["CurriculumTrainingArguments"],
    "training.trainer": ["CurriculumTrainer"],
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(["__version__", *_MODULE_OF])


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


watch_auto_classes()
