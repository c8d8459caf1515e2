"""The help of `class-hf train`: the arguments in groups, without those of transformers that few runs set."""

import argparse
import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from class_hf.config.arguments import DataArguments, ModelArguments, RunArguments

# Arguments of transformers that many runs set. `--help_all` lists the others.
_TRAINING = {
    "num_train_epochs": "Curriculum epochs; early ones are shorter (default: 3).",
    "max_steps": "Number of steps, whatever the order of the pairs; -1: as the epochs take (default: -1).",
    "per_device_train_batch_size": "Pairs of each process in a step (default: 8).",
    "gradient_accumulation_steps": "Batches that are accumulated in a step (default: 1).",
    "learning_rate": "Largest learning rate (default: 5e-05).",
    "lr_scheduler_type": "Learning rate schedule, such as linear or cosine (default: linear).",
    "warmup_steps": "Steps of rising learning rate, or their share below 1 (default: 0).",
    "weight_decay": "Weight decay of AdamW (default: 0).",
    "max_grad_norm": "Largest norm of the gradient (default: 1).",
    "bf16": "Train in bf16.",
    "seed": "Seed of weights, dropout and the order of the pairs (default: 42).",
    "dataloader_num_workers": "Processes that read batches ahead (default: 0).",
    "use_cpu": "Use the CPU even if there is an accelerator.",
}
_OUTPUT = {
    "output_dir": "Folder of the run (default: outputs/ and the name of the recipe).",
    "resume_from_checkpoint": "true: continue from the last complete checkpoint; or the folder of a checkpoint.",
    "eval_strategy": "When to evaluate during training: no, steps or epoch (default: no).",
    "eval_steps": "Steps between two evaluations.",
    "save_strategy": "When to save checkpoints: no, steps, epoch or best (default: steps).",
    "save_steps": "Steps between two checkpoints (default: 500).",
    "save_total_limit": "Number of checkpoints that are kept.",
    "load_best_model_at_end": "Keep the weights of the best evaluation.",
    "logging_steps": "Steps between two log entries (default: 500).",
    "log_level": "debug, info, warning, error or passive, which is warning (default: passive).",
    "report_to": "Trackers, such as tensorboard, trackio or none.",
    "push_to_hub": "Push the model and its card to the Hub after training.",
    "hub_model_id": "Repository on the Hub, NAME or ORG/NAME.",
}
# Fields of the training arguments that only repeat a fixed choice.
_FIXED = {"dataloader_drop_last", "remove_unused_columns", "hub_strategy", "label_names"}


class Argument(NamedTuple):
    """One line of the help."""

    name: str
    text: str
    choices: tuple[str, ...] = ()


def training_help(prog: str) -> str:
    """Writes the help of the training command.

    Nothing heavy is imported: the fields of [`CurriculumTrainingArguments`][class_hf.CurriculumTrainingArguments] are
    read from their source file.

    Args:
        prog: name of the command.

    >>> "--curriculum_order" in training_help("class-hf train")
    True
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} RECIPE [--argument value ...]",
        description="Train a text-molecule retrieval model with a curriculum. RECIPE is a YAML file of arguments, or "
        "the name of a shipped one. The command line overrides it.",
        epilog="--help_all also lists the other arguments of transformers. --debug prints the traceback of an error.",
        add_help=False,
    )
    declared = [row for row in _curriculum_fields() if row.name not in _FIXED]
    curriculum = [row for row in declared if row.name.startswith(("curriculum_", "intensity_"))]
    saved = [row for row in declared if row.name.startswith(("hub_", "metric_"))]
    trained = [row for row in declared if row not in (*curriculum, *saved)]
    groups = {
        "curriculum": curriculum,
        "data": list(_fields(DataArguments)),
        "model": list(_fields(ModelArguments)),
        "training": [*(Argument(*item) for item in _TRAINING.items()), *trained],
        "output": [*_fields(RunArguments), *(Argument(*item) for item in _OUTPUT.items()), *saved],
    }
    for title, rows in groups.items():
        group = parser.add_argument_group(title)
        for row in rows:
            value = f"{{{','.join(row.choices)}}}" if row.choices else "X"
            group.add_argument(f"--{row.name}", metavar=value, help=row.text.replace("%", "%%"))
    return parser.format_help()


def _fields(cls: type) -> Iterator[Argument]:
    """The fields of a dataclass that is imported."""
    for field in dataclasses.fields(cls):
        default = field.default if field.default is not dataclasses.MISSING else None
        choices = getattr(field.type, "__args__", ()) if "Literal" in str(field.type) else ()
        yield Argument(field.name, _with_default(field.metadata["help"], default), tuple(map(str, choices)))


def _with_default(text: str, default: Any) -> str:
    """The help of an argument, with its default if it does not name one."""
    if default in (None, False) or "default" in text.lower():
        return text
    return f"{text.rstrip('.')} (default: {default})."


def _curriculum_fields() -> Iterator[Argument]:
    """The fields that `training/arguments.py` declares, from its source."""
    source = (Path(__file__).parents[1] / "training" / "arguments.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or node.name != "CurriculumTrainingArguments":
            continue
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            values = {word.arg: word.value for word in getattr(item.value, "keywords", [])}
            metadata = ast.literal_eval(values["metadata"]) if "metadata" in values else {"help": ""}
            default = ast.literal_eval(values["default"]) if "default" in values else None
            choices = ()
            if isinstance(item.annotation, ast.Subscript) and ast.unparse(item.annotation.value) == "Literal":
                choices = ast.literal_eval(item.annotation.slice)
            yield Argument(item.target.id, _with_default(metadata["help"], default), tuple(choices))
