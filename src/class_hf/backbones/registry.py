"""The registry of backbones. Builds the model, its processor and its loss from the arguments of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from class_hf.backbones.dual_encoder import build_dual_encoder
from class_hf.backbones.orma import build_orma
from class_hf.backbones.text2mol import build_text2mol
from class_hf.config.arguments import BACKBONE_NAMES, ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.hub.loading import load_pretrained, model_errors
from class_hf.losses.aman import AmanLoss
from class_hf.losses.contrastive import ContrastiveLoss
from class_hf.losses.orma import OrmaLoss
from class_hf.losses.text2mol import Text2MolLoss
from class_hf.models.configuration_aman import AmanConfig
from class_hf.models.configuration_orma import OrmaConfig
from class_hf.models.configuration_text2mol import Text2MolConfig
from class_hf.models.configuration_text_molecule import TextMoleculeDualEncoderConfig
from class_hf.models.modeling_aman import AmanModel
from class_hf.utils.plugins import is_object_path, load_object
from class_hf.utils.protocols import Processor
from class_hf.utils.suggestions import did_you_mean


@dataclass(frozen=True)
class Backbone:
    """How a kind of model is built, and the loss that trains it.

    To add your own, create a `Backbone` in a module of yours. A recipe or a study names it as
    `backbone: package.module:Name`. The package is not changed.

    Args:
        build (`Callable[[ModelArguments], tuple[PreTrainedModel, Processor]]`):
            Builds the model and its processor. The model is a `PreTrainedModel`, so that it can be saved, and fits the
            protocol [`~class_hf.utils.protocols.RetrievalModel`]. The processor fits
            [`~class_hf.utils.protocols.Processor`]. Raise ValueError for an argument that is set and has no meaning
            for the model.
        loss (`Callable[..., nn.Module]`):
            The class of the loss. `loss_config` of a recipe sets its parameters. A parameter `label_smoothing` or
            `seed` gets the value of the training arguments.
        model_type (`str`):
            `model_type` of the model's configuration. It identifies the backbone of a saved model.

    Example, the file `my_backbones.py`. It joins a text tower of the package to a molecule tower of its own, and
    `class-hf train demo --backbone my_backbones:counts` trains it:

    ```python
    >>> import torch
    >>> from torch.nn.functional import normalize
    >>> from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
    >>> from class_hf import ContrastiveLoss, LexicalModel, MoleculeFingerprintFeatureExtractor
    >>> from class_hf import LexicalConfig, LexicalTokenizer, TextMoleculeProcessor
    >>> from class_hf.backbones.registry import Backbone

    >>> class CountsConfig(PreTrainedConfig):
    ...     model_type = "counts"
    ...
    ...     def __init__(self, num_buckets=1024, projection_dim=64, **kwargs):
    ...         self.num_buckets, self.projection_dim = num_buckets, projection_dim
    ...         super().__init__(**kwargs)

    >>> class CountsModel(PreTrainedModel):
    ...     config_class = CountsConfig
    ...
    ...     def __init__(self, config):
    ...         super().__init__(config)
    ...         size = config.projection_dim
    ...         self.text_model = LexicalModel(LexicalConfig(num_buckets=config.num_buckets, hidden_size=size))
    ...         self.molecule_model = torch.nn.EmbeddingBag(config.num_buckets, size, include_last_offset=True)
    ...         self.logit_scale = torch.nn.Parameter(torch.tensor(3.0))
    ...         self.post_init()
    ...
    ...     def forward(self, **inputs):
    ...         outputs = {"logit_scale": self.logit_scale.exp()}
    ...         if "input_ids" in inputs:
    ...             texts = self.text_model(inputs["input_ids"], inputs["text_offsets"]).pooler_output
    ...             outputs["text_embeds"] = normalize(texts, dim=-1)
    ...         if "molecule_fragment_ids" in inputs:
    ...             fragments = inputs["molecule_fragment_ids"], inputs["molecule_fragment_offsets"]
    ...             molecules = self.molecule_model(*fragments)
    ...             outputs["molecule_embeds"] = normalize(molecules, dim=-1)
    ...         return outputs

    >>> def build(arguments):
    ...     config = CountsConfig(**arguments.as_dict("dual_encoder_config"))
    ...     extractor = MoleculeFingerprintFeatureExtractor(num_buckets=config.num_buckets)
    ...     return CountsModel(config), TextMoleculeProcessor(LexicalTokenizer(config.num_buckets), extractor)

    >>> AutoConfig.register("counts", CountsConfig)
    >>> AutoModel.register(CountsConfig, CountsModel)
    >>> counts = Backbone(build, loss=ContrastiveLoss, model_type="counts")

    ```

    The same in a process of your own, under a short name:

    ```python
    >>> register_backbone("counts", counts)
    >>> model, processor = build_model(ModelArguments(backbone="counts"))
    >>> model(**processor(text=["An acid.", "An amine."], smiles=["CCO", "CCN"]))["text_embeds"].shape
    torch.Size([2, 64])

    ```
    """

    build: Callable[[ModelArguments], tuple[PreTrainedModel, Processor]]
    loss: Callable[..., nn.Module]
    model_type: str


BACKBONES: dict[str, Backbone] = {
    "dual_encoder": Backbone(build_dual_encoder, ContrastiveLoss, TextMoleculeDualEncoderConfig.model_type),
    "aman": Backbone(partial(build_dual_encoder, model_class=AmanModel), AmanLoss, AmanConfig.model_type),
    "orma": Backbone(build_orma, OrmaLoss, OrmaConfig.model_type),
    "text2mol": Backbone(build_text2mol, Text2MolLoss, Text2MolConfig.model_type),
}


def register_backbone(name: str, backbone: Backbone) -> None:
    """Gives a backbone a short name in this process.

    Not needed for a backbone that is named as `package.module:Name`.

    Args:
        name: the name that `backbone` of a recipe takes.
        backbone: how it is built and trained.

    Raises:
        ValueError: if another backbone has the name.
    """
    if BACKBONES.get(name, backbone) is not backbone:
        raise ValueError(f"there is already a backbone {name!r}; choose another name.")
    BACKBONES[name] = backbone
    if name not in BACKBONE_NAMES:
        BACKBONE_NAMES.append(name)


def find_backbone(name: str) -> Backbone:
    """Finds a backbone.

    Args:
        name: a registered name, or `package.module:Name`.

    Raises:
        ValueError: if there is no such backbone, or the object is not a [`Backbone`].
        ImportError: if the module cannot be imported.

    >>> find_backbone("orma").model_type
    'orma'
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if not is_object_path(name):
        raise ValueError(f"unknown backbone {name!r}; {did_you_mean(name, BACKBONES)}")
    backbone = load_object(name)
    if not isinstance(backbone, Backbone):
        raise ValueError(
            f"backbone {name!r} is a {type(backbone).__name__}; expected a class_hf.backbones.registry.Backbone."
        )
    return backbone


def build_loss(arguments: ModelArguments, *, label_smoothing: float = 0.0, seed: int = 0) -> nn.Module:
    """Builds the loss of the backbone that the arguments name.

    Args:
        arguments: `backbone` or `model_name_or_path` chooses the loss, `loss_config` sets its parameters.
        label_smoothing: share of the contrastive target that is spread over the batch, in [0, 1). Used if the loss has
            such a parameter and `loss_config` does not set it.
        seed: of what the loss draws at random; used likewise.

    Raises:
        ValueError: if `loss_config` has an unknown field.

    >>> type(build_loss(ModelArguments(backbone="aman"))).__name__
    'AmanLoss'
    """
    loss, fields = _backbone_of(arguments)[1].loss, arguments.as_dict("loss_config")
    known = [name for name in signature(loss).parameters if name != "self"]
    check_fields("loss_config", fields, known)
    if "label_smoothing" in known:
        fields.setdefault("label_smoothing", label_smoothing)
    if "seed" in known:
        fields.setdefault("seed", seed)
    return loss(**fields)


def build_model(arguments: ModelArguments) -> tuple[PreTrainedModel, Processor]:
    """Builds the model of a run, with its adapters if there are any, and its processor.

    Args:
        arguments: of the run. With `model_name_or_path` the trained model is loaded.

    Returns:
        The model and its processor. A model with adapters is a `PeftModel`.

    Raises:
        ValueError: if an argument does not fit the backbone or its towers.
    """
    if arguments.model_name_or_path is None:
        backbone = find_backbone(arguments.backbone)
        built = backbone.build(arguments)
        if not isinstance(built, tuple) or len(built) != 2:
            raise ValueError(
                f"build of the backbone {arguments.backbone!r} returned a {type(built).__name__}; expected the tuple "
                "(model, processor)."
            )
        model, processor = built
    else:
        model, processor = _load_trained(arguments.model_name_or_path, arguments)
    adapters = arguments.as_dict("text_adapter"), arguments.as_dict("molecule_adapter")
    if not any(adapters):
        return model, processor
    from class_hf.backbones.adapters import add_adapters, towers_of_base  # importing peft takes a second

    adapted = add_adapters(model, *adapters)
    if arguments.model_name_or_path is None:
        towers_of_base(adapted, arguments.towers())  # fail now rather than after the training
    return adapted, processor


def _backbone_of(arguments: ModelArguments) -> tuple[str, Backbone]:
    """The backbone of a run and its name; that of the trained model if the run continues from one.

    Raises:
        ValueError: if the trained model belongs to no backbone.
    """
    requested = find_backbone(arguments.backbone)
    name = arguments.model_name_or_path
    if name is None:
        return arguments.backbone, requested
    with model_errors("model_name_or_path", name):
        try:
            model_type = AutoConfig.from_pretrained(name).model_type
        except ValueError as error:  # an unknown type, or a file that is no configuration
            raise ValueError(f"model_name_or_path {name!r} is no trained dual encoder: {error}") from error
    for key, backbone in {arguments.backbone: requested, **BACKBONES}.items():
        if backbone.model_type == model_type:
            return key, backbone
    raise ValueError(
        f"model_name_or_path {name!r} is a {model_type!r}, no trained dual encoder. To use it as a tower, name it as "
        "text_model or molecule_model."
    )


def _load_trained(name: str, arguments: ModelArguments) -> tuple[PreTrainedModel, Processor]:
    """Loads a trained model, with the configuration fields that the arguments change, and its processor."""
    backbone, _ = _backbone_of(arguments)
    wrong = [field for field in _NEW_MODEL_ONLY if getattr(arguments, field) != getattr(ModelArguments, field)]
    if arguments.backbone not in (backbone, ModelArguments.backbone):
        wrong.append("backbone")
    if wrong:
        raise ValueError(
            f"model_name_or_path is {name!r}; its backbone, towers, tokenizer and featurizer are kept. Leave out "
            f"{', '.join(wrong)}. Only fields of text_config, molecule_config and dual_encoder_config can be changed."
        )
    config = AutoConfig.from_pretrained(name)
    for argument, part in (
        ("text_config", getattr(config, "text_config", None)),
        ("molecule_config", getattr(config, "molecule_config", None)),
        ("dual_encoder_config", config),
    ):
        fields = arguments.as_dict(argument)
        known = set() if part is None else set(part.to_dict()) - {"text_config", "molecule_config", "read_names"}
        check_fields(argument, fields, known)
        for field, value in fields.items():
            setattr(part, field, value)
    config.validate()
    try:
        return load_pretrained(name, argument="model_name_or_path", config=config, dtype=torch.float32)
    except ValueError as error:
        changed = [
            part for part in ("text_config", "molecule_config", "dual_encoder_config") if arguments.as_dict(part)
        ]
        if not changed:
            raise
        raise ValueError(
            f"{error} The fields of {', '.join(changed)} must keep the sizes of the trained model."
        ) from error


# Arguments that describe a new model, and have no meaning for a trained one.
_NEW_MODEL_ONLY = (
    "text_model",
    "text_from_scratch",
    "molecule_model",
    "tokenizer_config",
    "featurizer_config",
    "max_text_length",
    "read_names",
)
