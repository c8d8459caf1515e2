"""Makes `AutoModel`, its kin and `pipeline` know this package's classes, without importing transformers for it.

Registration needs the classes, and those need torch; `import class_hf` must cost neither. So the auto modules of
transformers are watched: each one registers our classes when it is imported, or at once if it already is.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto."


def _register_configs(auto: ModuleType) -> None:
    from class_hf.models.configuration_aman import AmanConfig
    from class_hf.models.configuration_orma import OrmaConfig, OrmaGraphConfig
    from class_hf.models.configuration_text2mol import Text2MolConfig, Text2MolMoleculeConfig
    from class_hf.models.configuration_text_molecule import TOWER_CONFIGS, TextMoleculeDualEncoderConfig

    for model_type, config in TOWER_CONFIGS.items():
        auto.AutoConfig.register(model_type, config, exist_ok=True)
    backbones = (TextMoleculeDualEncoderConfig, AmanConfig, OrmaConfig, Text2MolConfig)
    for config in (*backbones, OrmaGraphConfig, Text2MolMoleculeConfig):
        auto.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    from class_hf.models.modeling_aman import AmanModel
    from class_hf.models.modeling_bag import LexicalModel, MoleculeFingerprintModel
    from class_hf.models.modeling_fused import MoleculeFusedModel
    from class_hf.models.modeling_graph import MoleculeGraphModel
    from class_hf.models.modeling_orma import OrmaGraphModel, OrmaModel
    from class_hf.models.modeling_text2mol import Text2MolModel, Text2MolMoleculeModel
    from class_hf.models.modeling_text_molecule import TextMoleculeDualEncoderModel

    towers = (LexicalModel, MoleculeFingerprintModel, MoleculeGraphModel, MoleculeFusedModel)
    theirs = (OrmaGraphModel, Text2MolMoleculeModel)
    for model in (*towers, *theirs, TextMoleculeDualEncoderModel, AmanModel, OrmaModel, Text2MolModel):
        auto.AutoModel.register(model.config_class, model, exist_ok=True)


def _register_tokenizers(auto: ModuleType) -> None:
    from class_hf.models.configuration_text_molecule import LexicalConfig
    from class_hf.models.tokenization_lexical import LexicalTokenizer

    auto.AutoTokenizer.register(LexicalConfig, slow_tokenizer_class=LexicalTokenizer, exist_ok=True)


def _register_feature_extractors(auto: ModuleType) -> None:
    from class_hf.models.configuration_graph import MoleculeGraphConfig
    from class_hf.models.configuration_orma import OrmaGraphConfig
    from class_hf.models.configuration_text2mol import Text2MolMoleculeConfig
    from class_hf.models.configuration_text_molecule import MoleculeFingerprintConfig, MoleculeFusedConfig
    from class_hf.models.feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
    from class_hf.models.feature_extraction_fused import MoleculeFusedFeatureExtractor
    from class_hf.models.feature_extraction_graph import MoleculeGraphFeatureExtractor
    from class_hf.models.feature_extraction_orma import OrmaFeatureExtractor
    from class_hf.models.feature_extraction_text2mol import Text2MolFeatureExtractor

    register = auto.AutoFeatureExtractor.register
    register(MoleculeFingerprintConfig, MoleculeFingerprintFeatureExtractor, exist_ok=True)
    register(MoleculeGraphConfig, MoleculeGraphFeatureExtractor, exist_ok=True)
    register(MoleculeFusedConfig, MoleculeFusedFeatureExtractor, exist_ok=True)
    register(OrmaGraphConfig, OrmaFeatureExtractor, exist_ok=True)
    register(Text2MolMoleculeConfig, Text2MolFeatureExtractor, exist_ok=True)


def _register_processors(auto: ModuleType) -> None:
    from class_hf.models.configuration_orma import OrmaConfig
    from class_hf.models.configuration_text2mol import Text2MolConfig
    from class_hf.models.configuration_text_molecule import TextMoleculeDualEncoderConfig
    from class_hf.models.processing_text_molecule import TextMoleculeProcessor, TextSmilesProcessor

    auto.AutoProcessor.register(TextMoleculeDualEncoderConfig, TextMoleculeProcessor, exist_ok=True)
    auto.AutoProcessor.register(OrmaConfig, TextMoleculeProcessor, exist_ok=True)
    auto.AutoProcessor.register(Text2MolConfig, TextMoleculeProcessor, exist_ok=True)
    # A saved processor is found by its class's name among those registered, one for each configuration; the
    # second processor of the same model needs a configuration of its own to stand under.
    key = type("TextSmilesDualEncoderConfig", (TextMoleculeDualEncoderConfig,), {})
    auto.AutoProcessor.register(key, TextSmilesProcessor, exist_ok=True)


def _register_pipelines(pipelines: ModuleType) -> None:
    from transformers import AutoModel

    from class_hf.pipelines import MoleculeFeatureExtractionPipeline, TextMoleculeRetrievalPipeline

    tasks = {
        "molecule-feature-extraction": MoleculeFeatureExtractionPipeline,
        "text-molecule-retrieval": TextMoleculeRetrievalPipeline,
    }
    for task, pipeline in tasks.items():
        pipelines.PIPELINE_REGISTRY.register_pipeline(task, pipeline, pt_model=AutoModel, type="multimodal")


_REGISTRATIONS: dict[str, Callable[[ModuleType], None]] = {
    _AUTO + "configuration_auto": _register_configs,
    _AUTO + "modeling_auto": _register_models,
    _AUTO + "tokenization_auto": _register_tokenizers,
    _AUTO + "feature_extraction_auto": _register_feature_extractors,
    _AUTO + "processing_auto": _register_processors,
    "transformers.pipelines": _register_pipelines,
}


_OURS = ("class_hf.models.", "class_hf.pipelines")
_loading: set[str] = set()  # our modules whose import has begun and not ended
_waiting: set[str] = set()  # auto modules that came while ours were loading, for ours import them


def _register(name: str) -> None:
    """Registers with one auto module, or once our own modules are whole if they are being imported just now."""
    if _loading:
        _waiting.add(name)
    else:
        _REGISTRATIONS[name](sys.modules[name])


class _RegisteringLoader(importlib.abc.Loader):
    """Loads a module as its own loader does, then registers."""

    def __init__(self, loader: Any):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in _REGISTRATIONS:
            self._loader.exec_module(module)
            _register(name)
            return
        _loading.add(name)
        try:
            self._loader.exec_module(module)
        finally:
            _loading.discard(name)
        while _waiting and not _loading:
            _register(_waiting.pop())

    def __getattr__(self, name: str) -> Any:  # get_source, get_filename and the like
        return getattr(self._loader, name)


class _AutoClassFinder(importlib.abc.MetaPathFinder):
    """Finds the watched modules as the other finders do, with our loader around theirs."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _REGISTRATIONS and not name.startswith(_OURS):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _RegisteringLoader(spec.loader)
                return spec
        return None


def watch_auto_classes() -> None:
    """Registers our classes with the auto modules that are imported, and with the others once they are."""
    if not any(isinstance(finder, _AutoClassFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AutoClassFinder())
    for name in _REGISTRATIONS:
        if name in sys.modules:
            _register(name)
