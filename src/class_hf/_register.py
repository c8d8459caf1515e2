"""Registers this package's classes with transformers' auto classes and pipelines, without importing transformers.

After `import class_hf`, `AutoModel.from_pretrained` must know our classes, in any order of imports. Registration needs
the classes, and the classes need torch. But `import class_hf` and the command line must stay light: it takes 0.03 s of
CPU time, and `from transformers import AutoConfig` alone takes over 2 s.

Why a finder on `sys.meta_path`:

1. transformers has no entry points: it learns of other classes only through `AutoConfig.register` and the like.
2. These calls import transformers and, for models, torch. So they cannot run during `import class_hf`.
3. A user may import `AutoModel` before or after `class_hf`, and need not touch any other name of ours.
4. The registration must therefore run when transformers' auto modules are imported. Python reports an import only to
   the finders on `sys.meta_path`.
5. So a finder watches six modules of transformers. It finds them as usual and wraps their loader.
6. The wrapped loader executes the module as usual, then registers our classes with it.
7. Auto modules that are already imported are registered with at once.
8. Our modules import transformers' auto modules. During the import of one of ours, a registration would import a
   module that is only partly executed. So registrations wait until no import of ours is in progress.
9. Alternatives: `importlib.util.LazyLoader` puts transformers in `sys.modules` and breaks its own lazy module;
   registering in each of our modules does not help a user who only calls `AutoModel.from_pretrained`.
10. The finder relies on the names of the auto modules only. `tests/test_import.py` checks four orders of imports.
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
    """Registers all configurations with `AutoConfig`."""
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
    """Registers all models with `AutoModel`."""
    from class_hf.models.modeling_aman import AmanModel
    from class_hf.models.modeling_orma import OrmaGraphModel, OrmaModel
    from class_hf.models.modeling_text2mol import Text2MolModel, Text2MolMoleculeModel
    from class_hf.models.modeling_text_molecule import TextMoleculeDualEncoderModel
    from class_hf.models.modeling_towers import TOWER_MODELS

    models: list[Any] = [*TOWER_MODELS.values(), OrmaGraphModel, Text2MolMoleculeModel]
    for model in (*models, TextMoleculeDualEncoderModel, AmanModel, OrmaModel, Text2MolModel):
        auto.AutoModel.register(model.config_class, model, exist_ok=True)


def _register_tokenizers(auto: ModuleType) -> None:
    """Registers the lexical tokenizer with `AutoTokenizer`."""
    from class_hf.models.configuration_text_molecule import LexicalConfig
    from class_hf.models.tokenization_lexical import LexicalTokenizer

    auto.AutoTokenizer.register(LexicalConfig, slow_tokenizer_class=LexicalTokenizer, exist_ok=True)


def _register_feature_extractors(auto: ModuleType) -> None:
    """Registers all feature extractors with `AutoFeatureExtractor`."""
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
    """Registers both processors with `AutoProcessor`."""
    from class_hf.models.configuration_orma import OrmaConfig
    from class_hf.models.configuration_text2mol import Text2MolConfig
    from class_hf.models.configuration_text_molecule import TextMoleculeDualEncoderConfig
    from class_hf.models.processing_text_molecule import TextMoleculeProcessor, TextSmilesProcessor

    auto.AutoProcessor.register(TextMoleculeDualEncoderConfig, TextMoleculeProcessor, exist_ok=True)
    auto.AutoProcessor.register(OrmaConfig, TextMoleculeProcessor, exist_ok=True)
    auto.AutoProcessor.register(Text2MolConfig, TextMoleculeProcessor, exist_ok=True)
    # A saved processor is found by the name of its class among those registered, and each configuration has one
    # processor. So the second processor of a model is registered under a configuration of its own.
    key = type("TextSmilesDualEncoderConfig", (TextMoleculeDualEncoderConfig,), {})
    auto.AutoProcessor.register(key, TextSmilesProcessor, exist_ok=True)


def _register_pipelines(pipelines: ModuleType) -> None:
    """Registers both pipelines by their task."""
    from transformers import AutoModel

    from class_hf.pipelines import MoleculeFeatureExtractionPipeline, TextMoleculeRetrievalPipeline

    tasks = {
        "molecule-feature-extraction": MoleculeFeatureExtractionPipeline,
        "text-molecule-retrieval": TextMoleculeRetrievalPipeline,
    }
    for task, pipeline in tasks.items():
        pipelines.PIPELINE_REGISTRY.register_pipeline(task, pipeline, pt_model=AutoModel, type="multimodal")


# The watched modules of transformers, and what registers our classes with each.
_REGISTRATIONS: dict[str, Callable[[ModuleType], None]] = {
    _AUTO + "configuration_auto": _register_configs,
    _AUTO + "modeling_auto": _register_models,
    _AUTO + "tokenization_auto": _register_tokenizers,
    _AUTO + "feature_extraction_auto": _register_feature_extractors,
    _AUTO + "processing_auto": _register_processors,
    "transformers.pipelines": _register_pipelines,
}
_OUR_MODULES = ("class_hf.models.", "class_hf.pipelines")  # the modules that the registrations import
_loading: set[str] = set()  # those of our modules whose import is in progress
_waiting: set[str] = set()  # watched modules that were imported meanwhile


def _register(name: str) -> None:
    """Registers with a watched module, or remembers to do so when no import of ours is in progress."""
    if _loading:
        _waiting.add(name)
    else:
        _REGISTRATIONS[name](sys.modules[name])


class _RegisteringLoader(importlib.abc.Loader):
    """Loads a module with its own loader, then registers."""

    def __init__(self, loader: Any):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Creates the module as its loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Executes the module. A watched module is then registered with, and one of ours ends the waiting."""
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

    def __getattr__(self, name: str) -> Any:
        """Everything else, for instance `get_source`, is the loader's."""
        return getattr(self._loader, name)


class _AutoClassFinder(importlib.abc.MetaPathFinder):
    """Finds the watched modules and ours with the other finders, and wraps their loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the module's specification with a wrapped loader; None for other modules."""
        if name not in _REGISTRATIONS and not name.startswith(_OUR_MODULES):
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
    """Registers our classes with the watched modules that are imported, and later with the others."""
    if not any(isinstance(finder, _AutoClassFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AutoClassFinder())
    for name in _REGISTRATIONS:
        if name in sys.modules:
            _register(name)
