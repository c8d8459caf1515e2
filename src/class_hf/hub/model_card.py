"""The model card that a run writes."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.hub.data_source import data_source

_NAMES = """\
The molecule tower also reads the structures that a text names. OPSIN and a table of trivial names find them:
`pip install py2opsin chemicals`, and a Java runtime of version 8 or newer; molecules alone need none of it.

"""
_CURRICULUM = (
    " by curriculum learning (the idea of CLASS,\n[arXiv 2502.11633](https://arxiv.org/abs/2502.11633)). The "
    "definitions of difficulty, schedule and intensity are `class_hf`'s own"
)
_METRICS = {"hits@1": "Hits@1", "hits@10": "Hits@10", "mrr": "MRR", "mean_rank": "mean rank"}
_RESULT_PICTURES = {
    "ranks": "Hits@k for every k",
    "retrievals": "Captions with the molecules they retrieve, at the 20th, 40th, 60th and 80th percentile of the rank",
}
_TRAINING_PICTURES = {
    "plan": "The plan: pairs admitted at each step",
    "loss": "Training loss and in-batch accuracy",
    "validation": "Validation MRR against wall time",
}


def model_card(
    model: Any,
    *,
    plan: CurriculumPlan | None = None,
    log_history: Sequence[dict[str, Any]] = (),
    metrics: dict[str, Any] | None = None,
    license: str | None = None,
    base_model: Sequence[str] | str | None = None,
    synthetic: bool = False,
    tags: Sequence[str] | str | None = None,
    model_name: str | None = None,
    dataset: str | Sequence[str] | None = None,
    command: str | None = None,
    summary: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> str:
    """The text of a card with complete metadata: a `model-index` with every metric by pool and direction.

    Args:
        model: the trained dual encoder.
        plan: of its run.
        log_history: of its trainer, for the last training loss.
        metrics: the report of a [`RetrievalEvaluator`]; without it the card says that nothing was measured.
        license: for the metadata; None takes that of the data, `unknown` if nothing is known of them.
        base_model, tags, model_name, dataset: for the metadata.
        synthetic: whether the captions were made by rules; the card then says so.
        command: the line that repeats the run.
        summary: what the run cost: `wall_seconds`, `preparation_seconds`, `processes`, `peak_memory_bytes` and the
            `environment` of [`~class_hf.utils.environment.environment`]; without it the card says that nothing was
            recorded.
        folder: where the card will stand; it shows those pictures that are in `plots/` there.
    """
    name = model_name or "text-molecule dual encoder"
    dataset_name = dataset if isinstance(dataset, str) else ", ".join(dataset or ["unnamed pairs"])
    source = data_source(dataset_name, synthetic=synthetic)
    plain = plan is not None and plan.settings["order"] == "none"
    all_tags = ["chemistry", "molecules", "text-molecule-retrieval", "class_hf"]
    all_tags += [] if plain else ["curriculum-learning"]
    all_tags += [tags] if isinstance(tags, str) else list(tags or [])
    data = ModelCardData(
        library_name="class_hf",
        pipeline_tag="feature-extraction",
        license=license or source.license,
        language="en",
        datasets=[source.id] if dataset else None,
        base_model=[base_model] if isinstance(base_model, str) else list(base_model or []) or None,
        tags=sorted(set(all_tags)),
        model_name=name,
        eval_results=_eval_results(metrics, dataset_name, source.id) if metrics else None,
    )
    content = (files("class_hf") / "templates" / "model_card.md").read_text(encoding="utf-8")
    values = {
        "title": name,
        "towers": _towers(model),
        "names": _NAMES if getattr(getattr(model, "config", None), "read_names", False) else "",
        "dataset": dataset_name,
        "metrics_table": _metrics_table(metrics),
        "split": metrics["split"] if metrics else "",
        "method": "" if plain else _CURRICULUM,
        "plan": _plan(plan),
        "loss": _loss(log_history),
        "quartiles": _quartiles(metrics),
        "data": source.text,
        "cost": _cost(summary),
        "result_pictures": _pictures(folder, _RESULT_PICTURES),
        "training_pictures": _pictures(folder, _TRAINING_PICTURES),
        "command": command or "(not recorded)",
        "synthetic": "The captions are synthetic, made by rules: no number here says anything about ChEBI-20."
        if synthetic
        else "",
    }
    return str(ModelCard.from_template(data, template_str=content, **values))


def _eval_results(metrics: dict[str, Any], dataset: str, dataset_id: str) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-molecule-retrieval",
            task_name="text-molecule retrieval",
            dataset_type=dataset_id,
            dataset_name=f"{dataset}, {pool} pool of {row['candidates']} candidates",
            dataset_config=pool,
            dataset_split=metrics["split"],
            metric_type=f"{direction}_{key}",
            metric_name=f"{label}, {direction.replace('_', ' ')}",
            metric_value=row[key],
        )
        for pool, directions in metrics["pools"].items()
        for direction, row in directions.items()
        for key, label in _METRICS.items()
    ]


def _metrics_table(metrics: dict[str, Any] | None) -> str:
    if not metrics:
        return "Nothing was measured."
    lines = [
        "| pool | candidates | direction | Hits@1 | Hits@10 | MRR | mean rank |",
        "|---|---|---|---|---|---|---|",
    ]
    for pool, directions in metrics["pools"].items():
        for direction, row in directions.items():
            numbers = [f"{row[key]:.3f}" for key in ("hits@1", "hits@10", "mrr")] + [f"{row['mean_rank']:.1f}"]
            low_high = row.get("interval_95", {})
            for place, key in enumerate(("hits@1", "hits@10", "mrr")):
                if key in low_high:
                    numbers[place] += f" ({low_high[key][0]:.3f} to {low_high[key][1]:.3f})"
            cells = [pool, f"{row['candidates']:,}", direction.replace("_", " "), *numbers]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _quartiles(metrics: dict[str, Any] | None) -> str:
    """The queries by quartile of difficulty, text to molecule in the larger pool; nothing without difficulties."""
    first = next(iter(metrics["pools"].items()), None) if metrics else None
    slices = first[1]["text_to_molecule"].get("by_difficulty_quartile") if first else None
    if first is None or not slices:
        return ""
    lines = [
        f"By quartile of difficulty, text to molecule, {first[0]} pool:\n",
        "| quartile | difficulty | queries | Hits@1 | Hits@10 | MRR | mean rank |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in zip(("easiest", "second", "third", "hardest"), slices, strict=True):
        low, high = row["difficulty"]
        numbers = " | ".join(f"{row[key]:.3f}" for key in ("hits@1", "hits@10", "mrr"))
        lines.append(f"| {name} | {low:.2f} to {high:.2f} | {row['queries']:,} | {numbers} | {row['mean_rank']:.1f} |")
    return "\n".join(lines) + "\n\n"


def _cost(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return " What it cost was not recorded."
    machine, memory = summary["environment"], summary["peak_memory_bytes"]
    processes = "1 process" if summary["processes"] == 1 else f"{summary['processes']} processes"
    where = machine["gpu"] or f"{machine['processor']} ({machine['cores']} cores, {machine['threads']} threads)"
    peak = "" if memory is None else f" Peak memory {memory / 2**30:.1f} GiB."
    libraries = ", ".join(f"{name} {machine['versions'][name]}" for name in ("class_hf", "torch", "transformers"))
    return (
        f" It took {summary['wall_seconds']:,.0f} s of wall time, {summary['evaluation_seconds']:,.0f} s of them "
        f"watching, after {summary['preparation_seconds']:,.0f} s of preparing the data, on {where}, {processes}."
        f"{peak} Energy was not measured. With {libraries}."
    )


def _pictures(folder: str | Path | None, captions: Mapping[str, str]) -> str:
    """Those pictures that are there."""
    there = [name for name in captions if folder is not None and (Path(folder) / "plots" / f"{name}.png").is_file()]
    return "\n\n".join(f"![{captions[name]}](plots/{name}.png)" for name in there)


def _towers(model: Any) -> str:
    config = getattr(model, "config", None)
    names = [getattr(getattr(config, f"{side}_config", None), "model_type", "custom") for side in ("text", "molecule")]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"text tower `{names[0]}`, molecule tower `{names[1]}`, {parameters:,} parameters"


def _plan(plan: CurriculumPlan | None) -> str:
    if plan is None:
        return "No plan was recorded."
    s = plan.settings
    left_out = f" {plan.num_left_out:,} pairs that are likely wrong are left out." if plan.num_left_out else ""
    if s["order"] == "none":
        pairs = "All pairs" if not left_out else f"{plan.num_pairs - plan.num_left_out:,} of {plan.num_pairs:,} pairs"
        return (
            f"{pairs} in each of {plan.epochs} epochs, global batch {plan.batch_size}, seed {s['seed']}: "
            f"{plan.total_steps:,} steps, without a curriculum.{left_out}"
        )
    return (
        f"Order `{s['order']}`, {s['pacing']} pacing from {s['start']:g} over {s['span']:.0%} of {plan.epochs} "
        f"epochs, global batch {plan.batch_size}, seed {s['seed']}: {plan.total_steps:,} steps, where training "
        f"without a curriculum takes {plan.full_steps:,}.{left_out}"
    )


def _loss(log_history: Sequence[dict[str, Any]]) -> str:
    losses = [entry["loss"] for entry in log_history if "loss" in entry]
    return f"Last logged training loss: {losses[-1]:.4f}." if losses else ""
