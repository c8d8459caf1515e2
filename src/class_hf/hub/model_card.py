"""The model card of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.hub.card_text import code, code_block, hub_ids, license_fields, plain, template
from class_hf.hub.contents import without_local_paths
from class_hf.hub.data_source import data_source
from class_hf.utils.suggestions import did_you_mean

_NAMES = """\
The molecule tower also reads the structures that a text names. OPSIN and a table of trivial names find them. Install
`pip install py2opsin chemicals` and a Java runtime of version 8 or newer. Encoding molecules needs neither.

"""
_CURRICULUM = (
    " by curriculum learning (the idea of CLASS,\n[arXiv 2502.11633](https://arxiv.org/abs/2502.11633)). The "
    "definitions of difficulty, schedule and intensity are those of `class_hf`"
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


# Models whose captions `pipeline("feature-extraction")` cannot encode.
_WITHOUT_PIPELINE = ("orma",)


@dataclass(frozen=True)
class CardMetadata:
    """The metadata of a model card.

    Args:
        model_name (`str`, *optional*): name of the model, which is the title of the card.
        dataset (`str` or `Sequence[str]`, *optional*): name of the data set, or several. The metadata lists only ids
            `ORG/NAME` of the Hub.
        training_files (`Sequence[str]`, *optional*): names of further files that changed the training pairs of the
            data set. The results are of the data set without them.
        license (`str`, *optional*): identifier of the licence. Default: that of all data, or `unknown`.
        base_model (`str` or `Sequence[str]`, *optional*): models that training started from. Only ids of the Hub are
            listed.
        tags (`str` or `Sequence[str]`, *optional*): further tags.
        synthetic (`bool`, *optional*, defaults to `False`): whether rules made the captions. The card then says so.
    """

    model_name: str | None = None
    dataset: str | Sequence[str] | None = None
    training_files: Sequence[str] = ()
    license: str | None = None
    base_model: str | Sequence[str] | None = None
    tags: str | Sequence[str] | None = None
    synthetic: bool = False


@dataclass(frozen=True)
class RunRecord:
    """The records of a run that a model card shows.

    Args:
        plan ([`CurriculumPlan`], *optional*): the curriculum plan.
        log_history (`Sequence`, *optional*): `trainer.state.log_history`, for the last training loss.
        metrics (`Mapping`, *optional*): a report of [`RetrievalEvaluator`]. Without it the card says that nothing was
            measured.
        command (`str`, *optional*): the command that repeats the run. Local paths are shortened.
        summary (`Mapping`, *optional*): the cost of the run: `wall_seconds`, `evaluation_seconds`,
            `preparation_seconds`, `processes`, `peak_memory_bytes`, and `environment` of
            [`~class_hf.utils.environment.environment`].
        folder (`str` or `Path`, *optional*): folder of the card. The card shows the pictures of its `plots/`.
    """

    plan: CurriculumPlan | None = None
    log_history: Sequence[Mapping[str, Any]] = ()
    metrics: Mapping[str, Any] | None = None
    command: str | None = None
    summary: Mapping[str, Any] | None = None
    folder: str | Path | None = None


def model_card(
    model: Any, *, metadata: CardMetadata | None = None, run: RunRecord | None = None, **options: Any
) -> str:
    """Writes a model card with complete metadata: a `model-index` with every metric by pool and direction.

    All text that comes from data, arguments or names is escaped.

    Args:
        model ([`TextMoleculeDualEncoderModel`]): the trained dual encoder.
        metadata ([`CardMetadata`], *optional*): name, data, licence and tags.
        run ([`RunRecord`], *optional*): plan, metrics and cost of the run.
        **options: fields of [`CardMetadata`] and [`RunRecord`]. They override `metadata` and `run`.

    Returns:
        The card as Markdown.

    Raises:
        ValueError: if an option is unknown.

    Example:

    >>> from class_hf import TextMoleculeDualEncoderModel
    >>> model = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint")
    >>> card = model_card(model, model_name="demo", license="mit")
    >>> "license: mit" in card, "Nothing was measured." in card
    (True, True)
    """
    metadata, run = _with_options(metadata or CardMetadata(), run or RunRecord(), options)
    plan, metrics = run.plan, run.metrics
    name = " ".join((metadata.model_name or "text-molecule dual encoder").split())
    datasets = [metadata.dataset] if isinstance(metadata.dataset, str) else list(metadata.dataset or [])
    dataset_name = ", ".join(datasets) or "unnamed pairs"
    names = datasets or [dataset_name]
    source = data_source(*names, *metadata.training_files, synthetic=metadata.synthetic)
    bases = [metadata.base_model] if isinstance(metadata.base_model, str) else list(metadata.base_model or [])
    module = _own_module(model)
    is_plain = plan is not None and plan.settings["order"] == "none"
    tags = ["chemistry", "molecules", "text-molecule-retrieval", "class_hf"]
    tags += [] if is_plain else ["curriculum-learning"]
    tags += [metadata.tags] if isinstance(metadata.tags, str) else list(metadata.tags or [])
    data = ModelCardData(
        library_name="class_hf",
        pipeline_tag=None if module or _model_type(model) in _WITHOUT_PIPELINE else "feature-extraction",
        **license_fields(metadata.license or source.license),
        language="en",
        datasets=hub_ids(datasets) or None,
        base_model=hub_ids(bases) or None,
        tags=sorted({" ".join(tag.split()) for tag in tags}),
        model_name=name,
        eval_results=_eval_results(metrics, dataset_name, data_source(*names).id) if metrics else None,
    )
    values = {
        "title": plain(name),
        "towers": _towers(model),
        "own_import": f"\nimport {module}  # registers {type(model).__name__}" if module else "",
        "own_code": _own_code(model, module) if module else "",
        "names": _NAMES if getattr(getattr(model, "config", None), "read_names", False) else "",
        "dataset": plain(dataset_name),
        "metrics_table": _metrics_table(metrics),
        "split": code(metrics["split"]) if metrics else "`none`",
        "method": "" if is_plain else _CURRICULUM,
        "plan": _plan(plan),
        "loss": _loss(run.log_history),
        "quartiles": _quartiles(metrics),
        "data": source.text,
        "cost": _cost(run.summary),
        "result_pictures": _pictures(run.folder, _RESULT_PICTURES),
        "training_pictures": _pictures(run.folder, _TRAINING_PICTURES),
        "command": code_block(without_local_paths(run.command or "(not recorded)")),
        "synthetic": "Rules made the captions, so these results do not transfer to ChEBI-20."
        if metadata.synthetic
        else "",
    }
    return str(ModelCard.from_template(data, template_str=template("model_card.md"), **values))


def _with_options(
    metadata: CardMetadata, run: RunRecord, options: Mapping[str, Any]
) -> tuple[CardMetadata, RunRecord]:
    """The settings with the options in place of their fields."""
    of_metadata = {field.name for field in fields(CardMetadata)}
    of_run = {field.name for field in fields(RunRecord)}
    for name in options:
        if name not in of_metadata | of_run:
            known = sorted(of_metadata | of_run)
            raise ValueError(f"unknown argument {name!r} of model_card; {did_you_mean(name, known)}")
    return (
        replace(metadata, **{name: value for name, value in options.items() if name in of_metadata}),
        replace(run, **{name: value for name, value in options.items() if name in of_run}),
    )


def _eval_results(metrics: Mapping[str, Any], dataset: str, dataset_id: str) -> list[EvalResult]:
    """Every metric of every pool and direction, for the `model-index`."""
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


def _metrics_table(metrics: Mapping[str, Any] | None) -> str:
    """The metrics with their intervals, a row for each pool and direction."""
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
            cells = [plain(pool), f"{row['candidates']:,}", direction.replace("_", " "), *numbers]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _quartiles(metrics: Mapping[str, Any] | None) -> str:
    """The metrics by difficulty quartile, text to molecule in the first pool. Empty without difficulties."""
    first = next(iter(metrics["pools"].items()), None) if metrics else None
    slices = first[1]["text_to_molecule"].get("by_difficulty_quartile") if first else None
    if first is None or not slices:
        return ""
    lines = [
        f"By quartile of difficulty, text to molecule, {plain(first[0])} pool:\n",
        "| quartile | difficulty | queries | Hits@1 | Hits@10 | MRR | mean rank |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in zip(("easiest", "second", "third", "hardest"), slices, strict=True):
        low, high = row["difficulty"]
        numbers = " | ".join(f"{row[key]:.3f}" for key in ("hits@1", "hits@10", "mrr"))
        lines.append(f"| {name} | {low:.2f} to {high:.2f} | {row['queries']:,} | {numbers} | {row['mean_rank']:.1f} |")
    return "\n".join(lines) + "\n\n"


def _cost(summary: Mapping[str, Any] | None) -> str:
    """Time, machine, memory and versions of a run."""
    if summary is None:
        return " The cost was not recorded."
    machine, memory = summary["environment"], summary["peak_memory_bytes"]
    processes = "1 process" if summary["processes"] == 1 else f"{summary['processes']} processes"
    where = machine["gpu"] or f"{machine['processor']} ({machine['cores']} cores, {machine['threads']} threads)"
    peak = "" if memory is None else f" Peak memory: {memory / 2**30:.1f} GiB."
    libraries = ", ".join(f"{name} {machine['versions'][name]}" for name in ("class_hf", "torch", "transformers"))
    cpu = f"; CPU time: {summary['cpu_seconds']:,.0f} s" if "cpu_seconds" in summary else ""
    return (
        f" Wall time of training: {summary['wall_seconds']:,.0f} s{cpu}, of which evaluations took "
        f"{summary['evaluation_seconds']:,.0f} s. Data preparation took {summary['preparation_seconds']:,.0f} s "
        f"before. Machine: {plain(where)}, {processes}.{peak} Energy was not measured. Versions: {plain(libraries)}."
    )


def _pictures(folder: str | Path | None, captions: Mapping[str, str]) -> str:
    """The pictures that exist in the folder."""
    existing = [name for name in captions if folder is not None and (Path(folder) / "plots" / f"{name}.png").is_file()]
    return "\n\n".join(f"![{captions[name]}](plots/{name}.png)" for name in existing)


def _model_type(model: Any) -> str | None:
    """The type of the model in its configuration."""
    return getattr(getattr(model, "config", None), "model_type", None)


def _towers(model: Any) -> str:
    """The types of the towers and the number of parameters."""
    config = getattr(model, "config", None)
    parameters = f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters"
    if _own_module(model):
        return f"is a {code(type(model).__name__)} with {parameters}"
    names = [getattr(getattr(config, f"{side}_config", None), "model_type", "custom") for side in ("text", "molecule")]
    return f"has a text tower {code(names[0])}, a molecule tower {code(names[1])} and {parameters}"


def _own_module(model: Any) -> str | None:
    """The module of a model class that is not part of this package. None for a class of this package."""
    module = type(model).__module__
    return None if module.partition(".")[0] in ("class_hf", "transformers") else module


def _own_code(model: Any, module: str) -> str:
    """How a model whose class is not part of this package is loaded."""
    name = code(type(model).__name__)
    if module == "__main__":
        return (
            f"{name} is not part of `class_hf`. It was defined in a script. Move it into a module, write its name in "
            "place of `__main__`, and import it before loading.\n\n"
        )
    return (
        f"{name} is not part of `class_hf`. It is in the module {code(module)}. Install that module, or put its file "
        f"into the current folder, and import it before loading. "
        f"For commands: {code(f'class-hf --import {module} ...')}."
        "\n\n"
    )


_STAGES = {
    "stage_epochs": "Epochs",
    "stage_batch_sizes": "Share of the global batch",
    "stage_learning_rates": "Factor of the learning rate",
    "stage_sharpness": "Factor of the logits",
}


def _plan(plan: CurriculumPlan | None) -> str:
    """The settings of a plan and its number of steps."""
    if plan is None:
        return "No plan was recorded."
    settings = plan.settings
    left_out = f" {plan.num_left_out:,} pairs that are likely wrong are left out." if plan.num_left_out else ""
    for name, text in _STAGES.items():
        if settings.get(name):
            left_out += f" {text} by stage: {', '.join(f'{value:g}' for value in settings[name])}."
    if settings["order"] == "none":
        pairs = f"{plan.num_pairs - plan.num_left_out:,} of {plan.num_pairs:,} pairs" if left_out else "All pairs"
        return (
            f"{pairs} in each of {plan.epochs} epochs, global batch {plan.batch_size}, seed {settings['seed']}: "
            f"{plan.total_steps:,} steps, without a curriculum.{left_out}"
        )
    growth = "in" if settings.get("stage_epochs") else f"over {settings['span']:.0%} of"
    return (
        f"Order {code(settings['order'])}, {plain(settings['pacing'])} pacing from {settings['start']:g} "
        f"{growth} {plan.epochs} epochs, global batch {plan.batch_size}, seed {settings['seed']}: "
        f"{plan.total_steps:,} steps. Training without a curriculum takes {plan.full_steps:,}.{left_out}"
    )


def _loss(log_history: Sequence[Mapping[str, Any]]) -> str:
    """The last logged training loss."""
    losses = [entry["loss"] for entry in log_history if "loss" in entry]
    return f"Last logged training loss: {losses[-1]:.4f}." if losses else ""
