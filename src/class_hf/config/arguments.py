"""The arguments of a training run that describe the data, the model and the command."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from class_hf.config.json_objects import parse_json_object
from class_hf.utils.numbers import positive_integer, probability, share
from class_hf.utils.plugins import is_object_path, load_object
from class_hf.utils.suggestions import did_you_mean

# Names of the backbones in `backbones/registry.py`; `register_backbone` adds to them.
BACKBONE_NAMES = ["dual_encoder", "aman", "orma", "text2mol"]
# Names of the definitions in `difficulty/definitions.py`, which takes long to import.
DIFFICULTY_NAMES = ("alignment", "complexity", "confusability", "density")


@dataclass
class DataArguments:
    """Where the pairs come from, and how they are scored and prepared.

    Args:
        data_dir (`str`, *optional*):
            Folder with the pairs (the files of ChEBI-20, or the output of `class-hf score`), or one CSV or TSV file.
        dataset_name (`str`, *optional*): Hub id of a dataset of pairs.
        demo (`bool`, *optional*, defaults to `False`): use the synthetic dataset that the package generates.
        on_error (`str`, *optional*, defaults to `"raise"`): `"raise"` stops at a bad row, `"drop"` drops and lists it.
        smiles_column, text_column, id_column (`str`, *optional*): columns of the table, if they have unusual names.
        column_mapping (`str`, *optional*): several columns, as JSON: `{"THEIR NAME": "smiles"}`.
        encoding (`str`, *optional*): encoding of text files, such as `cp1252`. Default: UTF-8.
        extra_train (`list[str]`, *optional*):
            Files of further training pairs. Names are relative to the folder of the data or to the current folder.
        replace_captions (`list[str]`, *optional*):
            Files with id and description, which replace captions of training pairs, named in the same way.
        drop_suspects (`str`, *optional*): table of `class-hf suspects`; pairs whose column `keep` is no are left out.
        max_train_pairs (`int`, *optional*): train on the first pairs only, at most this many.
        difficulty_definition (`list[str]`, *optional*, defaults to `["alignment"]`):
            Difficulty definitions for pairs that are not scored yet; a name or `package.module:Name`.
        difficulty_combination (`str`, *optional*, defaults to `"mean"`):
            How the difficulties of the two modalities are combined.
        difficulty_text_weight (`float`, *optional*, defaults to 0.5): weight of the text in the mean, in [0, 1].
        sentence_dropout (`float`, *optional*, defaults to 0.0):
            Probability of dropping a sentence of a caption in training, in [0, 1).
        eval_pairs (`int`, *optional*, defaults to 1000):
            Validation pairs ranked in each evaluation during training. The final evaluation ranks all pairs.
        eval_pool (`int`, *optional*): candidates ranked in each evaluation during training; all by default.
        num_proc (`int`, *optional*): processes that prepare the data.

    Raises:
        ValueError: if a value is out of its range.

    >>> DataArguments(sentence_dropout=1.0)
    Traceback (most recent call last):
    ValueError: sentence_dropout is 1.0; expected a number in [0, 1).
    """

    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with the pairs (the files of ChEBI-20, or the output of class-hf score), or one CSV or "
            "TSV file."
        },
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Hub id of a dataset of pairs."})
    demo: bool = field(default=False, metadata={"help": "Use the synthetic dataset that the package generates."})
    on_error: Literal["raise", "drop"] = field(
        default="raise", metadata={"help": "Stop at a bad row (raise), or drop and list bad rows (drop)."}
    )
    smiles_column: str | None = field(default=None, metadata={"help": "Column with the SMILES."})
    text_column: str | None = field(default=None, metadata={"help": "Column with the captions."})
    id_column: str | None = field(default=None, metadata={"help": "Column with the ids."})
    column_mapping: str | None = field(
        default=None, metadata={"help": 'Several columns at once, as JSON: {"THEIR NAME": "smiles", ...}.'}
    )
    encoding: str | None = field(
        default=None, metadata={"help": "Encoding of text files, such as cp1252 or utf-16; UTF-8 if not set."}
    )
    extra_train: list[str] | None = field(
        default=None,
        metadata={
            "help": "Files of further training pairs, relative to the folder of the data or the current folder."
        },
    )
    replace_captions: list[str] | None = field(
        default=None,
        metadata={"help": "Files with id and description, which replace captions of training pairs."},
    )
    drop_suspects: str | None = field(
        default=None,
        metadata={"help": "Table of class-hf suspects; training pairs whose column keep is no are left out."},
    )
    max_train_pairs: int | None = field(
        default=None, metadata={"help": "Train on the first pairs only, at most this many."}
    )
    difficulty_definition: list[str] = field(
        default_factory=lambda: ["alignment"],
        metadata={
            "help": "Difficulty definitions for pairs that are not scored yet: any of "
            f"{', '.join(DIFFICULTY_NAMES)}, or package.module:Name of your own."
        },
    )
    difficulty_combination: Literal["mean", "max", "product", "text", "molecule"] = field(
        default="mean", metadata={"help": "How the difficulties of the two modalities are combined."}
    )
    difficulty_text_weight: float = field(default=0.5, metadata={"help": "Weight of the text in the mean, in [0, 1]."})
    sentence_dropout: float = field(
        default=0.0, metadata={"help": "Probability of dropping a sentence of a caption in training, in [0, 1)."}
    )
    eval_pairs: int = field(
        default=1000,
        metadata={
            "help": "Validation pairs ranked in each evaluation during training. The final evaluation ranks all pairs."
        },
    )
    eval_pool: int | None = field(
        default=None, metadata={"help": "Candidates ranked in each evaluation during training; all by default."}
    )
    num_proc: int | None = field(default=None, metadata={"help": "Processes that prepare the data."})

    def __post_init__(self) -> None:
        probability.check("sentence_dropout", self.sentence_dropout)
        share.check("difficulty_text_weight", self.difficulty_text_weight)
        from class_hf.difficulty.definitions import DEFINITIONS, check_definition  # not needed by the help

        for name in self.difficulty_definition:
            if name not in DEFINITIONS and not is_object_path(name):
                raise ValueError(f"unknown difficulty_definition {name!r}; {did_you_mean(name, DEFINITIONS)}")
            check_definition(name)  # imports a definition of the user's own
        for key in ("max_train_pairs", "eval_pairs", "eval_pool", "num_proc"):
            positive_integer.check(key, getattr(self, key))

    def source(self) -> dict[str, Any]:
        """The arguments of [`~class_hf.training.preparation.load_splits`]."""
        names = ("data_dir", "dataset_name", "demo", "on_error", "extra_train", "replace_captions")
        return {name: getattr(self, name) for name in (*names, "max_train_pairs", "drop_suspects")}

    def training_files(self) -> list[str]:
        """The files that change the training pairs."""
        return [*(self.extra_train or ()), *(self.replace_captions or ())]

    def sampling(self) -> dict[str, Any]:
        """Arguments of [`~class_hf.training.building.make_trainer`]."""
        return {name: getattr(self, name) for name in ("eval_pairs", "eval_pool", "sentence_dropout")}

    def scoring(self) -> dict[str, Any]:
        """The arguments of [`~class_hf.training.scoring.add_difficulty`]."""
        names = ("definition", "combination", "text_weight")
        return {name: getattr(self, f"difficulty_{name}") for name in names}


@dataclass
class ModelArguments:
    """The arguments of a recipe that describe the model: its backbone, its towers and their settings.

    The fields whose names end in `_config` or `_adapter` hold JSON objects, as text.

    Args:
        backbone (`str`, *optional*, defaults to `"dual_encoder"`):
            How the towers are joined, compared and trained: `"dual_encoder"`, `"aman"`, `"orma"`, `"text2mol"`, or
            `package.module:Name` of a [`~class_hf.backbones.registry.Backbone`] of your own.
        text_model (`str`, *optional*, defaults to `"lexical"`):
            `"lexical"`, a folder or Hub id of an `AutoModel`, or `package:NAME` for a model in an installed package.
        molecule_model (`str`, *optional*, defaults to `"fingerprint"`):
            `"fingerprint"`, `"graph"`, `"fused"`, or a folder or Hub id of an `AutoModel` over SMILES.
        text_config (`str`, *optional*): fields of the configuration of the text tower.
        molecule_config (`str`, *optional*): fields of the configuration of the molecule tower.
        tokenizer_config (`str`, *optional*): arguments of the tokenizer.
        featurizer_config (`str`, *optional*): arguments of the molecule featurizer.
        dual_encoder_config (`str`, *optional*): fields of the configuration of the backbone.
        loss_config (`str`, *optional*): arguments of the loss of the backbone.
        model_name_or_path (`str`, *optional*):
            Folder or Hub id of a trained dual encoder. Training continues from its weights; its backbone, towers,
            tokenizer and featurizer are kept.
        text_adapter (`str`, *optional*):
            peft adapter of the text tower: `peft_type` and its fields, such as `{"peft_type": "LORA", "r": 8}`.
        molecule_adapter (`str`, *optional*): peft adapter of the molecule tower.
        text_from_scratch (`bool`, *optional*, defaults to `False`):
            Load the tokenizer and the configuration of `text_model` and start from random weights.
        max_text_length (`int`, *optional*, defaults to 256): tokens of a caption; not for `"lexical"`.
        read_names (`bool`, *optional*, defaults to `False`):
            The molecule tower also reads the structures that a caption names. Needs the extra `names` and Java.
        early_stopping_patience (`int`, *optional*):
            Stop training after this many evaluations without a better metric.

    Raises:
        ValueError: if a value is out of its range, or two values exclude each other.

    >>> ModelArguments(backbone="dual_encodr")
    Traceback (most recent call last):
    ValueError: unknown backbone 'dual_encodr'; did you mean 'dual_encoder'?
    >>> ModelArguments(text_config='{"hidden_size": 64}').as_dict("text_config")
    {'hidden_size': 64}
    """

    backbone: str = field(
        default="dual_encoder",
        metadata={
            "help": f"How the towers are joined, compared and trained: {', '.join(BACKBONE_NAMES)}, or "
            "package.module:Name of a Backbone of your own."
        },
    )
    text_model: str = field(
        default="lexical",
        metadata={
            "help": "Text tower: lexical, a folder or Hub id of an AutoModel without remote code, or package:NAME for "
            "a model in an installed package."
        },
    )
    molecule_model: str = field(
        default="fingerprint",
        metadata={
            "help": "Molecule tower: fingerprint, graph, fused (both), or a folder or Hub id of an AutoModel over "
            "SMILES."
        },
    )
    text_config: str | None = field(
        default=None, metadata={"help": "Fields of the configuration of the text tower, as JSON."}
    )
    molecule_config: str | None = field(
        default=None, metadata={"help": "Fields of the configuration of the molecule tower, as JSON."}
    )
    tokenizer_config: str | None = field(default=None, metadata={"help": "Arguments of the tokenizer, as JSON."})
    featurizer_config: str | None = field(
        default=None, metadata={"help": "Arguments of the molecule featurizer, as JSON."}
    )
    dual_encoder_config: str | None = field(
        default=None,
        metadata={"help": "Fields of the configuration of the backbone, such as projection_dim, as JSON."},
    )
    loss_config: str | None = field(default=None, metadata={"help": "Arguments of the loss of the backbone, as JSON."})
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a trained dual encoder. Training continues from its weights; its backbone, "
            "towers, tokenizer and featurizer are kept."
        },
    )
    text_adapter: str | None = field(
        default=None,
        metadata={
            "help": "peft adapter of the text tower, as JSON: peft_type and its fields, such as "
            '{"peft_type": "LORA", "r": 8}.'
        },
    )
    molecule_adapter: str | None = field(
        default=None, metadata={"help": "peft adapter of the molecule tower, as JSON."}
    )
    text_from_scratch: bool = field(
        default=False,
        metadata={
            "help": "Load the tokenizer and the configuration of text_model (with the fields of text_config) and "
            "start from random weights."
        },
    )
    max_text_length: int = field(default=256, metadata={"help": "Tokens of a caption; not for lexical."})
    read_names: bool = field(
        default=False,
        metadata={
            "help": "The molecule tower also reads the structures that a caption names. Needs the extra `names` and "
            "Java."
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop training after this many evaluations without a better metric."}
    )

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONE_NAMES and not is_object_path(self.backbone):
            raise ValueError(f"unknown backbone {self.backbone!r}; {did_you_mean(self.backbone, BACKBONE_NAMES)}")
        if is_object_path(self.backbone):
            try:
                load_object(self.backbone)
            except (ValueError, ImportError) as error:
                raise type(error)(f"backbone {error}") from error
        positive_integer.check("early_stopping_patience", self.early_stopping_patience)
        positive_integer.check("max_text_length", self.max_text_length)
        if self.text_from_scratch and (self.text_model == "lexical" or self.text_adapter is not None):
            raise ValueError(
                "text_from_scratch needs a transformer as text_model and no text_adapter; text_model is "
                f"{self.text_model!r}, text_adapter {self.text_adapter!r}. Remove one of them."
            )
        for name in JSON_ARGUMENTS:
            self.as_dict(name)

    def towers(self) -> dict[str, str]:
        """Name of each tower: `{"text": ..., "molecule": ...}`."""
        return {"text": self.text_model, "molecule": self.molecule_model}

    def names(self) -> list[str | None]:
        """The names of the models from which training starts: folders, ids of the Hub, or built-in towers."""
        return [self.model_name_or_path, *self.towers().values()]

    def hub_ids(self) -> list[str] | None:
        """The Hub ids of the models from which training starts; None if there are none."""
        if self.model_name_or_path is not None:
            return [self.model_name_or_path] if not Path(self.model_name_or_path).exists() else None
        built_in = ("lexical", "fingerprint", "graph", "fused")
        names = [name for name in self.towers().values() if name not in built_in and ":" not in name]
        return [name for name in names if not Path(name).exists()] or None

    def as_dict(self, name: str) -> dict[str, Any]:
        """Parses a JSON argument.

        Args:
            name: name of the argument, such as `"text_config"`.

        Returns:
            A new dict; empty if the argument is not set.

        Raises:
            ValueError: if the argument is not a JSON object.
        """
        text = getattr(self, name)
        return {} if text is None else parse_json_object(name, text)


@dataclass
class RunArguments:
    """How the training command runs.

    Args:
        dry_run (`bool`, *optional*, defaults to `False`): build all parts of the run and show the plan.
        overwrite (`bool`, *optional*, defaults to `False`): write into a folder that holds an earlier run.
        license (`str`, *optional*): license for the model card. Default: that of the data.
    """

    dry_run: bool = field(
        default=False, metadata={"help": "Build all parts of the run, show the plan and train nothing."}
    )
    overwrite: bool = field(
        default=False,
        metadata={"help": "Write into a folder that holds an earlier run (its results are removed) or other files."},
    )
    log_format: Literal["text", "json"] = field(
        default="text",
        metadata={"help": "text: a table on the terminal; json: one JSON object per log entry on standard error."},
    )
    license: str | None = field(
        default=None,
        metadata={"help": "License for the model card, as the Hub spells it. Default: that of the data."},
    )


JSON_ARGUMENTS = (
    "text_config",
    "molecule_config",
    "tokenizer_config",
    "featurizer_config",
    "dual_encoder_config",
    "loss_config",
    "text_adapter",
    "molecule_adapter",
)


def resume_settings(data: DataArguments, model: ModelArguments) -> dict[str, Any]:
    """The settings of these arguments that a resumed run must keep, besides those that its trainer knows."""
    scoring = {f"difficulty_{name}": value for name, value in data.scoring().items()}
    return {**scoring, "early_stopping_patience": model.early_stopping_patience}
