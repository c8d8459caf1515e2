"""The card of a scored data set."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from class_hf.hub.data_source import data_source

_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def dataset_card(summary: Mapping[str, Any]) -> str:
    """The text of the card, with the metadata by which `load_dataset` finds the pairs and the pool.

    Args:
        summary: `summary.json` of `recipes/score.py`.
    """
    name = summary["source"]["name"]
    source = data_source(name, synthetic=summary["source"]["synthetic"])
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
    data = DatasetCardData(
        license=source.license,
        language="en",
        pretty_name=f"{name}, scored",
        tags=["chemistry", "class_hf", "curriculum-learning", "molecules", "text-molecule-retrieval"],
        size_categories=next((size for bound, size in _SIZES.items() if pairs < bound), "1M<n<10M"),
        source_datasets=[source.id],
        configs=configs,
    )
    weight = f" of weight {summary['text_weight']:g} for the text" if summary["combination"] == "mean" else ""
    values = {
        "title": f"{name}, scored",
        "definition": ", ".join(f"`{one}`" for one in summary["definition"]),
        "combination": f"`{summary['combination']}`{weight}",
        "splits_table": _splits_table(summary["splits"]),
        "data": source.text,
        "command": summary["command"],
        "seconds": f"{summary['seconds']['fit'] + summary['seconds']['score']:.0f}",
    }
    content = (files("class_hf") / "templates" / "dataset_card.md").read_text(encoding="utf-8")
    return str(DatasetCard.from_template(data, template_str=content, **values))


def _splits_table(splits: Mapping[str, Any]) -> str:
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
        lines.append(f"| {' | '.join([split, format(numbers['rows'], ','), *cells])} |")
    return "\n".join(lines)
