"""The card of a scored data set."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from class_hf.hub.card_text import code, code_block, hub_ids, license_fields, plain, template
from class_hf.hub.contents import without_local_paths
from class_hf.hub.data_source import data_source

_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def dataset_card(summary: Mapping[str, Any]) -> str:
    """Writes the card of a scored data set, with the metadata by which `load_dataset` finds the pairs and the pool.

    Args:
        summary (`Mapping`): `summary.json` of `class-hf score`.

    Returns:
        The card as Markdown.
    """
    name = summary["source"]["name"]
    source = data_source(name, *summary["source"].get("files", ()), synthetic=summary["source"]["synthetic"])
    splits = [split for split in summary["splits"] if split != "pool"]
    pairs = sum(summary["splits"][split]["rows"] for split in splits)
    configs: list[dict[str, Any]] = [
        {
            "config_name": "pairs",
            "default": True,
            "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits],
        }
    ]
    if "pool" in summary["splits"]:
        configs.append({"config_name": "pool", "data_files": [{"split": "pool", "path": "pool/pool-*.parquet"}]})
    title = f"{' '.join(str(name).split())}, scored"
    data = DatasetCardData(
        **license_fields(source.license),
        language="en",
        pretty_name=title,
        tags=["chemistry", "class_hf", "curriculum-learning", "molecules", "text-molecule-retrieval"],
        size_categories=next((size for bound, size in _SIZES.items() if pairs < bound), "1M<n<10M"),
        source_datasets=hub_ids([name]) or None,
        configs=configs,
    )
    weight = f" of weight {summary['text_weight']:g} for the text" if summary["combination"] == "mean" else ""
    values = {
        "title": plain(title),
        "definition": ", ".join(code(definition) for definition in summary["definition"]),
        "combination": f"{code(summary['combination'])}{weight}",
        "splits_table": _splits_table(summary["splits"]),
        "data": source.text,
        "command": code_block(without_local_paths(summary["command"])),
        "seconds": f"{summary['seconds']['fit'] + summary['seconds']['score']:.0f}",
    }
    return str(DatasetCard.from_template(data, template_str=template("dataset_card.md"), **values))


def _splits_table(splits: Mapping[str, Any]) -> str:
    """The rows and the mean difficulties of each split."""
    lines = [
        "| split | rows | mean difficulty of text | of molecule | of both | Spearman of text and molecule |",
        "|---|---|---|---|---|---|",
    ]
    for split, numbers in splits.items():
        cells = ["", "", "", ""]
        if "mean" in numbers:
            means = (numbers["mean"][name] for name in ("text_difficulty", "molecule_difficulty", "difficulty"))
            rho = numbers["spearman_text_molecule"]
            cells = [*(f"{mean:.2f}" for mean in means), "undefined" if rho is None else f"{rho:.2f}"]
        lines.append(f"| {' | '.join([plain(split), format(numbers['rows'], ','), *cells])} |")
    return "\n".join(lines)
