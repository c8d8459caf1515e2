"""The model card that a run writes."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from class_hf.curriculum.plan import CurriculumPlan

_CURRICULUM = (
    " by curriculum learning (the idea of CLASS,\n[arXiv 2502.11633](https://arxiv.org/abs/2502.11633)). The "
    "definitions of difficulty, schedule and intensity are `class_hf`'s own"
)
_METRICS = {"hits@1": "Hits@1", "hits@10": "Hits@10", "mrr": "MRR", "mean_rank": "mean rank"}


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
) -> str:
    """The text of a card with complete metadata: a `model-index` with every metric by pool and direction.

    Args:
        model: the trained dual encoder.
        plan: of its run.
        log_history: of its trainer, for the last training loss.
        metrics: the report of a [`RetrievalEvaluator`]; without it the card says that nothing was measured.
        license, base_model, tags, model_name, dataset: for the metadata; a licence is not guessed.
        synthetic: whether the captions were made by rules; the card then says so.
        command: the line that repeats the run.
    """
    name = model_name or "text-molecule dual encoder"
    dataset_name = dataset if isinstance(dataset, str) else ", ".join(dataset or ["unnamed pairs"])
    plain = plan is not None and plan.settings["order"] == "none"
    all_tags = ["chemistry", "molecules", "text-molecule-retrieval", "class_hf"]
    all_tags += [] if plain else ["curriculum-learning"]
    all_tags += [tags] if isinstance(tags, str) else list(tags or [])
    data = ModelCardData(
        library_name="class_hf",
        pipeline_tag="feature-extraction",
        license=license,
        base_model=[base_model] if isinstance(base_model, str) else list(base_model or []) or None,
        tags=sorted(set(all_tags)),
        model_name=name,
        eval_results=_eval_results(metrics, dataset_name) if metrics else None,
    )
    content = (files("class_hf") / "templates" / "model_card.md").read_text(encoding="utf-8")
    values = {
        "title": name,
        "towers": _towers(model),
        "dataset": dataset_name,
        "metrics_table": _metrics_table(metrics),
        "split": metrics["split"] if metrics else "",
        "method": "" if plain else _CURRICULUM,
        "plan": _plan(plan),
        "loss": _loss(log_history),
        "loss_picture": "![loss](plots/loss.png)" if any("loss" in entry for entry in log_history) else "",
        "command": command or "(not recorded)",
        "synthetic": "The captions are synthetic, made by rules: no number here says anything about ChEBI-20."
        if synthetic
        else "",
    }
    return str(ModelCard.from_template(data, template_str=content, **values))


def _eval_results(metrics: dict[str, Any], dataset: str) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-molecule-retrieval",
            task_name=f"{direction.replace('_', ' ')} retrieval",
            dataset_type=dataset,
            dataset_name=f"{dataset}, {pool} pool of {row['candidates']} candidates",
            dataset_config=pool,
            dataset_split=metrics["split"],
            metric_type=f"{direction}_{key}",
            metric_name=label,
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


def _towers(model: Any) -> str:
    config = getattr(model, "config", None)
    names = [getattr(getattr(config, f"{side}_config", None), "model_type", "custom") for side in ("text", "molecule")]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"text tower `{names[0]}`, molecule tower `{names[1]}`, {parameters:,} parameters"


def _plan(plan: CurriculumPlan | None) -> str:
    if plan is None:
        return "No plan was recorded."
    s = plan.settings
    if s["order"] == "none":
        return (
            f"All pairs in each of {plan.epochs} epochs, global batch {plan.batch_size}, seed {s['seed']}: "
            f"{plan.total_steps:,} steps, without a curriculum."
        )
    return (
        f"Order `{s['order']}`, {s['pacing']} pacing from {s['start']:g} over {s['span']:.0%} of {plan.epochs} "
        f"epochs, global batch {plan.batch_size}, seed {s['seed']}: {plan.total_steps:,} steps, where training "
        f"without a curriculum takes {plan.full_steps:,}."
    )


def _loss(log_history: Sequence[dict[str, Any]]) -> str:
    losses = [entry["loss"] for entry in log_history if "loss" in entry]
    return f"Last logged training loss: {losses[-1]:.4f}." if losses else ""
