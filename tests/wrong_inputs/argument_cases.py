"""Wrong arguments: unknown ones, wrong numbers and choices, contradictions."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from commands import COMMANDS, EVALUATE, EXPORT, SCORE, TRAIN, changed, default_prepare, recipe
from workshop import Case, Workshop


def unknown_arguments() -> Iterator[Case]:
    """Arguments that no command has, misspelt, doubled or without a value."""
    wrong = {
        "unknown": (("--no_such_argument", "1"), "no_such_argument"),
        "misspelt": (("--outptu_dir", "x"), "outptu_dir"),
        "abbreviated": (("--outp", "x"), "outp"),
        "flag without a name": (("--", "x"), "x|recogni|required|--"),
        "single dash": (("-z",), "z"),
    }
    for command, (name, (words, culprit)) in product(COMMANDS, wrong.items()):
        if command == "search" and name == "flag without a name":
            continue  # a description may follow `--`
        yield Case(f"{command}: {name}", command, (*COMMANDS[command], *words), culprit, default_prepare(command))
    for command in COMMANDS:
        if command not in ("app", "train"):
            yield Case(f"{command}: nothing", command, (), "required|give either|the following")


NUMBERS = {
    "search": {"k": 1, "min_weight": 0, "max_weight": 0, "time_limit": 1, "min_score": 0},
    "index": {"batch_size": 1, "num_proc": 1},
    "evaluate": {"batch_size": 1, "bootstrap_samples": 1, "rescore_top_k": 1, "num_proc": 1},
    "score": {"text_weight": 2, "neighbours": 1, "exact_up_to": 1, "seed": 1, "reference_steps": 1, "num_proc": 1},
    "ablate": {"seeds": 1},
    "app": {"port": 1},
    "serve": {"port": 1, "workers": 1, "max_k": 1, "time_limit": 0},
}
NO_NUMBERS = ("nan", "inf", "-inf", "1e400", "abc", "", "1,5", "0x10", "--1")


def numbers() -> Iterator[Case]:
    """Numeric arguments of the commands that are no numbers, or out of range. 1 marks integers, 2 shares."""
    for command, arguments in NUMBERS.items():
        for name, kind in arguments.items():
            values = [*NO_NUMBERS]
            values += {0: [], 1: ["-1", "1.5", "1e30", "9" * 30], 2: ["-0.1", "1.1", "1e30"]}[kind]
            if name == "time_limit":
                values = [*NO_NUMBERS, "0", "-1"]
            if name in ("k", "batch_size", "num_proc", "rescore_top_k", "neighbours", "reference_steps"):
                values.append("0")
            for value in values:
                words = (*COMMANDS[command], f"--{name}={value}")
                yield Case(f"{command}: {name} {value!r}", command, words, name, default_prepare(command))


TRAIN_INTEGERS = (
    "max_train_pairs",
    "eval_pairs",
    "eval_pool",
    "num_proc",
    "early_stopping_patience",
    "max_text_length",
    "curriculum_stages",
    "curriculum_group_size",
    "forward_chunk_size",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "seed",
)
TRAIN_NUMBERS = (
    "sentence_dropout",
    "difficulty_text_weight",
    "curriculum_start",
    "curriculum_power",
    "curriculum_span",
    "curriculum_group_from",
    "intensity_start",
    "intensity_gamma",
    "intensity_momentum",
    "contrastive_label_smoothing",
    "text_learning_rate",
    "learning_rate",
    "weight_decay",
    "max_grad_norm",
    "num_train_epochs",
    "warmup_steps",
    "adam_beta1",
    "adam_epsilon",
    "save_steps",
    "logging_steps",
    "eval_steps",
)


def train_numbers() -> Iterator[Case]:
    """Numeric arguments of the recipe, in the file and on the command line."""
    for name in TRAIN_INTEGERS:
        for value in ("-1", "1.5", "nan", "abc"):
            yield Case(f"train: {name} {value}", "train", (*TRAIN, f"--{name}={value}"), name, recipe)
    for name in TRAIN_NUMBERS:
        for value in ("-1", "nan", "inf", "abc"):
            yield Case(f"train: {name} {value}", "train", (*TRAIN, f"--{name}={value}"), name, recipe)
        yield Case(f"train: {name} in the recipe", "train", TRAIN, name, changed({name: float("nan")}))
        yield Case(f"train: {name} is a list", "train", TRAIN, name, changed({name: [1, 2]}))
    yield Case("train: epochs 1e30", "train", (*TRAIN, "--num_train_epochs=1e30"), "num_train_epochs", recipe)
    yield Case("train: steps 0", "train", (*TRAIN, "--max_steps=0"), "max_steps", recipe)


CHOICES = (
    "on_error",
    "difficulty_combination",
    "curriculum_order",
    "curriculum_pacing",
    "intensity_mode",
    "lr_scheduler_type",
    "optim",
    "save_strategy",
    "eval_strategy",
    "logging_strategy",
    "ddp_gradient_compression",
)


def choices() -> Iterator[Case]:
    """Values that are not among the choices."""
    for name in CHOICES:
        for value in ("sideways", "", "None "):
            yield Case(f"train: {name} {value!r}", "train", (*TRAIN, f"--{name}={value}"), name, recipe)
    for name, value in (("curriculum_order", False), ("on_error", True)):
        yield Case(f"train: {name} {value}", "train", TRAIN, f"{name}.*quote", changed({name: value}))
    for command, name in (
        ("score", "on_error"),
        ("score", "combination"),
        ("score", "definition"),
        ("score", "text_similarity"),
        ("evaluate", "on_error"),
        ("evaluate", "bank_method"),
        ("evaluate", "split"),
        ("index", "on_error"),
        ("index", "bank_method"),
        ("export", "format"),
    ):
        words = (*COMMANDS[command], f"--{name}=sideways")
        yield Case(f"{command}: {name} sideways", command, words, f"{name}|sideways", default_prepare(command))


def contradictions() -> Iterator[Case]:
    """Arguments that exclude each other, and outputs that exist."""

    def filled(workshop: Workshop, here: Path) -> None:
        recipe(workshop, here)
        (here / "output").mkdir()
        (here / "output" / "thesis.tex").write_text("years of work")

    for command in ("train", "score", "index", "export"):
        yield Case(f"{command}: output holds other files", command, COMMANDS[command], "output|empty|lexical", filled)
    for command, words, culprit in (
        ("evaluate", (*EVALUATE, "--demo"), "source|demo"),
        ("evaluate", (*EVALUATE, "--dataset_name", "a/b"), "source|dataset_name"),
        ("evaluate", (*EVALUATE, "--split", "train", "--query_bank"), "query_bank"),
        ("evaluate", (*EVALUATE, "--split", "pool"), "pool"),
        ("evaluate", (*EVALUATE, "--rescore_top_k", "3"), "rescor|score"),
        (
            "evaluate",
            ("--model", "{model}", "{model}", "--data_dir", "{data}", "--rescore_top_k", "3"),
            "rescore_top_k",
        ),
        ("evaluate", ("--model", "{model}", "--data_dir", "{data}", "--output", "{here}"), "folder|here"),
        ("evaluate", ("--model", "{model}", "--data_dir", "{data}", "--plot", "{here}"), "folder|here"),
        ("score", (*SCORE, "--demo"), "demo"),
        ("score", ("--data_dir", "{data}", "--output_dir", "{table}", "--definition", "complexity"), "table"),
        ("score", (*SCORE[:-1], "confusability", "--neighbours", "100"), "neighbours"),
        ("score", (*SCORE[:-1], "complexity,complexity"), "complexity"),
        ("export", ("--model", "{model}", "--output_dir", "{out}", "--format", "merged"), "adapter"),
        ("export", (*EXPORT, "--base", "{model}"), "base"),
        ("export", (*EXPORT, "--subfolder", "nothing"), "nothing|config.json"),
        ("app", ("--index", "{index}", "--id_url", "ftp://x"), "id_url"),
        ("app", ("--index", "{index}", "--id_url", "https://a/{id}", "https://b/{id}"), "id_url"),
        ("app", ("--index", "{index}", "--demo"), "demo"),
        ("app", ("--index", "{index}", "--export_space", "{table}"), "table"),
        ("push", ("--model", "{here}", "--repo_id", "a/b"), "here|config"),
        ("push", ("--model", "/no/such", "--repo_id", "a/b"), "such"),
        ("push", ("--dataset", "{here}", "--repo_id", "a/b"), "data set|dataset"),
        ("push", ("--dataset", "{here}", "--repo_id", "a/b", "--trust_remote_code_export"), "trust_remote_code"),
        ("push", ("--model", "{model}", "--repo_id", "a b/c d/e"), "a b/c d/e|repo"),
        ("push", ("--model", "{model}", "--dataset", "{here}", "--repo_id", "a/b"), "dataset|model"),
    ):
        yield Case(f"{command}: {' '.join(words)[-60:]}", command, words, culprit)
