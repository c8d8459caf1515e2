"""Checks that a processor is of the kind of its model, so that its features have a meaning for the towers."""

from typing import Any

from class_hf.models.modeling_towers import TEXT_INPUTS

_PREFIX = "molecule_"


def check_parts(model: Any, processor: Any) -> None:
    """Checks that tokenizer and featurizer make what the towers read. Models of other packages pass.

    Args:
        model: the model.
        processor: its processor.

    Raises:
        ValueError: if a part is of another kind, or hashes to another number of ids than its tower has.
    """
    _check_molecules(model, processor)
    _check_text(model, processor)
    _check_buckets(model, processor)


def _check_molecules(model: Any, processor: Any) -> None:
    """Refuses a featurizer whose features are not those that the molecule tower reads."""
    tower, names = getattr(model, "molecule_model", None), getattr(processor, "model_input_names", None)
    if names is None or not hasattr(processor, "encode_molecules") or not hasattr(model, "pooled_molecules"):
        return
    given = [name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)]
    reads = [*getattr(tower, "input_names", TEXT_INPUTS), *getattr(tower, "optional_input_names", ())]
    if not getattr(getattr(tower, "config", None), "minimol", False):
        reads = [name for name in reads if name != "minimol_features"]
    if set(given) != set(reads):
        part = getattr(processor, "feature_extractor", None) or getattr(processor, "molecule_tokenizer", processor)
        raise ValueError(
            f"the molecule tower {type(tower).__name__} reads {', '.join(reads)}, but {type(part).__name__} makes "
            f"{', '.join(given)}. Use the processor that was made with this model."
        )


def _check_text(model: Any, processor: Any) -> None:
    """Refuses a tokenizer of words for a tower that reads hashed n-grams, and the reverse."""
    tower, tokenizer = getattr(model, "text_model", None), getattr(processor, "tokenizer", None)
    if tokenizer is None or not hasattr(model, "pooled_text"):
        return
    rows = getattr(getattr(tower, "config", None), "num_buckets", None)
    if (rows is None) != (getattr(tokenizer, "num_buckets", None) is None):
        hashed = "tokens of a vocabulary" if rows is None else "hashed n-grams"
        raise ValueError(
            f"the text tower {type(tower).__name__} reads {hashed}, and {type(tokenizer).__name__} makes none. Use "
            "the processor that was made with this model."
        )


def _check_buckets(model: Any, processor: Any) -> None:
    """Refuses parts that hash to another number of ids: the features of the one have no meaning for the other."""
    config, extractor = getattr(model, "config", None), getattr(processor, "feature_extractor", None)
    molecule = getattr(config, "molecule_config", None)
    fused = getattr(extractor, "names_extractor", None), getattr(molecule, "fingerprint_config", None)
    sides = (
        ("tokenizer", getattr(processor, "tokenizer", None), getattr(config, "text_config", None)),
        ("feature extractor", extractor, molecule),
        ("feature extractor", *fused),
    )
    for part_name, part, tower in sides:
        own, rows = getattr(part, "num_buckets", None), getattr(tower, "num_buckets", None)
        if own is not None and rows is not None and own != rows:
            raise ValueError(
                f"the {part_name} hashes to {own:,} ids (num_buckets), but its tower has {rows:,} rows. Make both "
                "with the same num_buckets."
            )
