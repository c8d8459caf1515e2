"""The arguments of a recipe that name the data and the model."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from class_hf.difficulty.scorer import DEFINITIONS


@dataclass
class DataArguments:
    """Where the pairs come from, and how they are scored and prepared."""

    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with the pairs (ChEBI-20's files, or what recipes/score.py wrote), or one CSV or TSV file."
        },
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Hub id of a data set of pairs."})
    demo: bool = field(default=False, metadata={"help": "Use the embedded synthetic data set."})
    on_error: Literal["raise", "drop"] = field(
        default="raise", metadata={"help": "Bad rows: stop at them, or drop and list them."}
    )
    max_train_pairs: int | None = field(default=None, metadata={"help": "Train on the first so many pairs only."})
    difficulty_definition: list[str] = field(
        default_factory=lambda: ["alignment"],
        metadata={"help": f"How pairs are scored if they are not yet: any of {', '.join(DEFINITIONS)}."},
    )
    difficulty_combination: Literal["mean", "max", "product", "text", "molecule"] = field(
        default="mean", metadata={"help": "How the two modalities' difficulties are combined."}
    )
    difficulty_text_weight: float = field(default=0.5, metadata={"help": "Weight of the text in the mean."})
    sentence_dropout: float = field(
        default=0.0, metadata={"help": "Probability of leaving a caption's sentence out in training."}
    )
    eval_pairs: int = field(
        default=1000, metadata={"help": "Validation pairs ranked during training; all of them at the end."}
    )
    eval_pool: int | None = field(
        default=None, metadata={"help": "Rank them against a sample of so many candidates; all of them if not given."}
    )
    num_proc: int | None = field(default=None, metadata={"help": "Processes that prepare the data."})

    def __post_init__(self) -> None:
        if not 0.0 <= self.sentence_dropout < 1.0:
            raise ValueError(f"sentence_dropout is {self.sentence_dropout}; expected a probability in [0, 1).")
        if not 0.0 <= self.difficulty_text_weight <= 1.0:
            raise ValueError(f"difficulty_text_weight is {self.difficulty_text_weight}; expected a share in [0, 1].")
        for name in self.difficulty_definition:
            if name not in DEFINITIONS:
                raise ValueError(
                    f"difficulty_definition {name!r} is not known; choose among {', '.join(DEFINITIONS)}."
                )
        for key in ("max_train_pairs", "eval_pairs", "eval_pool", "num_proc"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key} is {value}; expected at least 1, or nothing.")


@dataclass
class ModelArguments:
    """Which backbone, which towers, and the space that they share."""

    backbone: Literal["dual_encoder", "aman", "orma", "text2mol"] = field(
        default="dual_encoder", metadata={"help": "How the towers are joined and compared, and by which loss."}
    )
    text_model: str = field(
        default="lexical",
        metadata={
            "help": "`lexical`, a folder or Hub id of an AutoModel without code of its own, or `package:NAME` for one "
            "that an installed package carries."
        },
    )
    molecule_model: str = field(
        default="fingerprint",
        metadata={
            "help": "`fingerprint`, `graph`, `fused` (both), or a folder or Hub id of an AutoModel over SMILES."
        },
    )
    text_config: str | None = field(default=None, metadata={"help": "Fields of the text tower's config, as JSON."})
    molecule_config: str | None = field(
        default=None, metadata={"help": "Fields of the molecule tower's config, as JSON."}
    )
    tokenizer_config: str | None = field(
        default=None, metadata={"help": "Arguments of the lexical tokenizer, as JSON."}
    )
    featurizer_config: str | None = field(
        default=None, metadata={"help": "Arguments of the molecule featurizer, as JSON."}
    )
    dual_encoder_config: str | None = field(
        default=None, metadata={"help": "Fields of the backbone's config (projection_dim, ...), as JSON."}
    )
    loss_config: str | None = field(default=None, metadata={"help": "Arguments of the backbone's loss, as JSON."})
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a trained dual encoder to go on from; its backbone, towers, tokenizer and "
            "featurizer stay."
        },
    )
    text_adapter: str | None = field(
        default=None,
        metadata={
            "help": "Adapter of peft on the text tower, as JSON: peft_type and its fields, for instance "
            '{"peft_type": "LORA", "r": 8}.'
        },
    )
    molecule_adapter: str | None = field(
        default=None, metadata={"help": "Adapter of peft on the molecule tower, as JSON."}
    )
    text_from_scratch: bool = field(
        default=False,
        metadata={
            "help": "Of text_model only the tokenizer and the configuration are taken, with text_config's sizes, and "
            "no weights."
        },
    )
    max_text_length: int = field(default=256, metadata={"help": "Tokens of a caption; not for `lexical`."})
    read_names: bool = field(
        default=False,
        metadata={
            "help": "The molecule tower also reads the structures that captions name; needs the extra `names`, Java."
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Evaluations without a better MRR after which training stops."}
    )

    def __post_init__(self) -> None:
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ValueError(f"early_stopping_patience is {self.early_stopping_patience}; expected at least 1.")
        if self.text_from_scratch and (self.text_model == "lexical" or self.text_adapter is not None):
            raise ValueError(
                "text_from_scratch is for a transformer as text_model that has weights to leave out, and no adapter "
                f"to add; text_model is {self.text_model!r}, text_adapter {self.text_adapter!r}. Leave one out."
            )
        for name in (
            "text_config",
            "molecule_config",
            "tokenizer_config",
            "featurizer_config",
            "dual_encoder_config",
            "loss_config",
            "text_adapter",
            "molecule_adapter",
        ):
            self.as_dict(name)

    def towers(self) -> dict[str, str]:
        """Name of each tower, by its side."""
        return {"text": self.text_model, "molecule": self.molecule_model}

    def as_dict(self, name: str) -> dict[str, Any]:
        """The JSON argument `name` as a dict; empty if it is not given.

        Raises:
            ValueError: if it is not a JSON object.
        """
        text = getattr(self, name)
        try:
            value = json.loads(text) if text is not None else {}
        except json.JSONDecodeError as error:
            raise ValueError(f"{name} is {text!r}; expected JSON such as '{{\"hidden_size\": 256}}'.") from error
        if not isinstance(value, dict):
            raise ValueError(f"{name} is {text!r}; expected a JSON object of fields and values.")
        return value
