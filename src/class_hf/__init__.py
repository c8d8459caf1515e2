"""Curriculum learning for cross-modal text-molecule retrieval in the Hugging Face ecosystem.

Public names are loaded on first use, so that ``import class_hf`` costs no torch and no RDKit.
"""

from importlib import import_module
from typing import Any

from class_hf._register import watch_auto_classes

__version__ = "0.1.0"

_PUBLIC = {
    "adapters": ["add_adapters", "load_adapter", "merge_adapter", "save_adapter"],
    "curriculum.difficulty": ["DifficultyScorer", "score_dataset"],
    "curriculum.intensity": ["IntensitySchedule"],
    "curriculum.pacing": ["competence"],
    "curriculum.plan": ["CurriculumPlan"],
    "curriculum.sampler": ["CurriculumSampler"],
    "data.chebi20": ["load_chebi20"],
    "data.collator": ["TextMoleculeCollator"],
    "data.demo": ["load_demo"],
    "data.frozen": ["cache_frozen"],
    "data.prepare": ["prepare_molecules", "prepare_pairs"],
    "evaluation.evaluate_metric": ["TextMoleculeRetrieval"],
    "evaluation.evaluator": ["TextMoleculeRetrievalEvaluator"],
    "evaluation.retrieval": ["RetrievalEvaluator"],
    "export": ["save_sentence_transformer"],
    "losses.aman": ["AmanLoss"],
    "losses.contrastive": ["ContrastiveLoss"],
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
    "search.filters": ["Hit", "MoleculeFilter"],
    "search.index": ["MoleculeIndex"],
    "trainer": ["CurriculumTrainer"],
    "training_args": ["CurriculumTrainingArguments"],
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
