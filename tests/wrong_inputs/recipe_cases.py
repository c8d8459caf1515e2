"""Broken recipe files and study files, and wrong arguments in them."""

import gzip
from collections.abc import Iterator

from commands import ABLATE, TRAIN, changed, study, written
from workshop import Case

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    "empty": "",
    "list": "- 1\n",
    "text": "hello\n",
    "number": "3\n",
    "repeated key": "seed: 1\nseed: 2\n",
    "unclosed": "a: [1\n",
    "tab": "a:\n\t- 1\n",
    "code": "a: !!python/object/apply:os.system [id]\n",
    "bomb": BOMB,
    "deep": "a: " + "[" * 5000,
    "self": "a: &a [*a]\n",
    "null byte": "a: \x00\n",
    "Latin-1": b"a: \xe9\n",
    "UTF-16": "a: 1\n".encode("utf-16"),
    "large": "a: x\n" * 300_000,
    "binary": bytes(range(256)),
    "two documents": "seed: 1\n---\nseed: 2\n",
    "date": "seed: 2024-13-01\n",
    "JSON lines": '{"a": 1}\n{"b": 2}\n',
    "unhashable key": "? [1]\n: 2\n",
    "unknown alias": "a: *b\n",
    "only a comment": "# nothing\n",
    "gzip": gzip.compress(b"seed: 1\n"),
}
RECIPES = {
    "unknown key": {"learning_rat": 1},
    "number as key": {1: 2},
    "mapping for a number": {"seed": {"a": 1}},
    "unknown backbone": {"backbone": "dual_encodr"},
    "no such module": {"backbone": "no_such_module:x"},
    "no such object": {"backbone": "json:nothing"},
    "object of another kind": {"backbone": "json:loads"},
    "unknown difficulty": {"difficulty_definition": ["alignmnt"]},
    "no such difficulty": {"difficulty_definition": ["no_such_module:X"]},
    "text_config is a list": {"text_config": [1]},
    "text_config is text": {"text_config": "hello"},
    "text_config repeats": {"text_config": '{"hidden_size": 1, "hidden_size": 2}'},
    "text_config is deep": {"text_config": "[" * 3000},
    "text_config has NaN": {"text_config": '{"dropout": NaN}'},
    "unknown text field": {"text_config": {"hiden_size": 8}},
    "unknown molecule field": {"molecule_config": {"x": 8}},
    "unknown loss field": {"loss_config": {"temperature": 1}},
    "unknown featurizer field": {"featurizer_config": {"x": 1}},
    "unknown tokenizer field": {"tokenizer_config": {"x": 1}},
    "unknown dual encoder field": {"dual_encoder_config": {"projection": 8}},
    "text size": {"text_config": {"hidden_size": -1}},
    "text size is text": {"text_config": {"hidden_size": "big"}},
    "molecule size": {"molecule_config": {"hidden_size": 0}},
    "projection": {"dual_encoder_config": {"projection_dim": 0}},
    "dropout": {"text_config": {"dropout": 2}},
    "buckets": {"tokenizer_config": {"num_buckets": 0}},
    "radius": {"featurizer_config": {"radius": -1}},
    "no such text model": {"text_model": "/no/such/model"},
    "no such molecule model": {"molecule_model": "/no/model"},
    "no such Hub model": {"text_model": "nobody/nothing"},
    "package without a model": {"text_model": "package:yaml"},
    "no such package": {"text_model": "package:no_such_package"},
    "empty text model": {"text_model": ""},
    "adapter type": {"text_adapter": {"peft_type": "LORRA"}},
    "adapter field": {"text_adapter": {"r": 4}},
    "data folder": {"data_dir": "/no/such/folder"},
    "two sources": {"demo": True},
    "two sources, Hub": {"dataset_name": "somebody/pairs"},
    "output is the current folder": {"output_dir": "."},
    "fp16 without a GPU": {"fp16": True},
    "tracker": {"report_to": "no_tracker"},
    "metric": {
        "metric_for_best_model": "accuracy",
        "load_best_model_at_end": True,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
    },
    "stopping without evaluation": {"early_stopping_patience": 2},
    "best model without evaluation": {"load_best_model_at_end": True},
    "adapter of a lexical tower": {"text_adapter": {"peft_type": "LORA", "r": 4}},
    "from scratch and lexical": {"text_from_scratch": True},
    "names without the extra": {"backbone": "text2mol", "read_names": True},
    "tower of text2mol": {"backbone": "text2mol", "molecule_model": "graph"},
    "lexical ORMA": {"backbone": "orma"},
    "drop last": {"dataloader_drop_last": False},
    "token": {"hub_token": "hf_x"},
    "resume": {"resume_from_checkpoint": "/no/x"},
    "deepspeed file": {"deepspeed": "/no/such.json"},
    "hub strategy": {"hub_strategy": "every_save"},
    "label smoothing factor": {"label_smoothing_factor": 0.1},
    "more than the pairs": {"per_device_train_batch_size": 64},
    "trained model": {"model_name_or_path": "/no/such/model"},
    "actions": {"intensity_actions": ["loudness"]},
}
CULPRITS = {
    "number as key": "'1'",
    "package without a model": "package:yaml",
    "no such package": "package:no_such",
    "no such module": "no_such_module",
    "no such object": "json:nothing",
    "no such difficulty": "no_such_module",
    "actions": "loudness",
    "mapping for a number": "seed",
    "text_config is deep": "text_config",
    "unknown backbone": "dual_encodr",
    "two sources": "source|data_dir",
    "two sources, Hub": "source|data_dir",
    "output is the current folder": "output_dir|current",
    "fp16 without a GPU": "fp16",
    "tracker": "no_tracker",
    "metric": "metric_for_best_model|accuracy",
    "stopping without evaluation": "early_stopping|eval_strategy",
    "best model without evaluation": "load_best_model|eval_strategy",
    "more than the pairs": "batch",
    "names without the extra": "read_names",
    "data folder": "/no/such/folder",
    "hub strategy": "hub_strategy",
    "empty text model": "text_model",
    "adapter field": "peft_type",
    "projection": "projection_dim",
    "adapter of a lexical tower": "text tower",
    "lexical ORMA": "lexical",
    "tower of text2mol": "molecule_model",
    "from scratch and lexical": "text_from_scratch",
    "drop last": "dataloader_drop_last",
    "token": "hub_token",
    "resume": "/no/x|resume",
    "buckets": "num_buckets",
    "radius": "radius",
    "dropout": "dropout",
    "text size": "hidden_size",
    "text size is text": "hidden_size",
    "molecule size": "hidden_size",
}


def recipes() -> Iterator[Case]:
    """Recipe files that are broken, and recipes with wrong or contradictory arguments."""
    for name, content in YAML.items():
        yield Case(f"recipe file: {name}", "train", TRAIN, "recipe", written("recipe.yaml", content))
        yield Case(f"study file: {name}", "ablate", ABLATE, "study", written("study.yaml", content))
    for name, values in RECIPES.items():
        culprit = CULPRITS.get(name) or next(iter(values))
        words = TRAIN if "output_dir" not in values else TRAIN[:1]
        yield Case(f"recipe: {name}", "train", words, culprit, changed(values))
    for word, culprit in (
        ("", "recipe"),
        ("/no/such.yaml", "such.yaml"),
        ("{here}", "recipe"),
        ("dem", "dem"),
        ("x" * 5000, "xxx"),
        ("--seed", "--seed"),
        ("\x00", "recipe"),
    ):
        yield Case(f"recipe name: {word[:20]!r}", "train", (word, "--output_dir", "{out}"), culprit)


STUDIES = {
    "unknown key": ({"arm": {}}, "'arm'"),
    "no recipe": ({"recipe": None}, "recipe"),
    "missing recipe": ({"recipe": "nowhere.yaml"}, "nowhere"),
    "recipe is a list": ({"recipe": ["a"]}, "recipe"),
    "no arms": ({"arms": {}}, "arms"),
    "arms is a list": ({"arms": ["none"]}, "arms"),
    "arm is text": ({"arms": {"none": "none"}}, "none"),
    "equal seeds": ({"seeds": [0, 0]}, "seeds"),
    "no seeds": ({"seeds": []}, "seeds"),
    "seed is text": ({"seeds": "all"}, "seeds"),
    "seed is a float": ({"seeds": [0.5]}, "seeds"),
    "negative seed": ({"seeds": [-1]}, "seed"),
    "baseline": ({"baselines": ["nothing"]}, "nothing"),
    "baselines is text": ({"baselines": "none"}, "baselines"),
    "common is a list": ({"common": [1]}, "common"),
    "argument": ({"arms": {"a": {"curiculum_order": "none"}}}, "curiculum_order"),
    "choice": ({"arms": {"a": {"curriculum_order": "sideways"}}}, "sideways"),
    "number": ({"arms": {"a": {"eval_pairs": -1}}}, "eval_pairs"),
    "text for a number": ({"common": {"learning_rate": "fast"}}, "learning_rate"),
    "seed of an arm": ({"arms": {"a": {"seed": 3}}}, "seed"),
    "data of an arm": ({"arms": {"a": {"demo": True}}}, "demo"),
    "folder name": ({"arms": {"a/b": {}}}, "a/b"),
    "parent folder": ({"arms": {"..": {}}}, r"\.\."),
    "steps of a later arm": ({"arms": {"a": {"same_steps_as": "b"}, "b": {}}}, "same_steps_as"),
    "steps of itself": ({"arms": {"a": {"same_steps_as": "a"}}}, "same_steps_as"),
    "backbone": ({"arms": {"a": {"backbone": "orm"}}}, "orm"),
    "time of itself": ({"arms": {"a": {"same_time_as": "a"}}}, "same_time_as"),
    "two costs": ({"arms": {"a": {}, "b": {"same_time_as": "a", "same_pairs_as": "a"}}}, "same_pairs_as"),
    "cost of all arms": ({"common": {"same_tokens_as": "a"}}, "same_tokens_as"),
    "rates": ({"learning_rates": 2}, "learning_rates"),
    "infinite rate": ({"learning_rates": [1, float("inf")]}, "learning_rates"),
    "held-out seeds": ({"confirm_seeds": [0, 1]}, "confirm_seeds"),
    "candidate is a list": ({"candidates": [["a"]]}, "candidates"),
    "margin": ({"reach_margin": "small"}, "reach_margin"),
}


def studies() -> Iterator[Case]:
    """Studies with wrong content, and wrong command lines of a correct study."""
    for name, (values, culprit) in STUDIES.items():
        yield Case(
            f"study: {name}", "ablate", ABLATE, culprit, lambda shop, here, values=values: study(shop, here, **values)
        )
    for name, words, culprit in (
        ("unknown arm", (*ABLATE, "--arms", "eazy"), "eazy"),
        ("no study", ("nowhere.yaml", "--output_dir", "{out}"), "nowhere"),
        ("report of nothing", (*ABLATE, "--report_only"), "study.json|no study"),
        (
            "output is a file",
            ("{here}/study.yaml", "--data_dir", "{data}", "--output_dir", "{here}/study.yaml"),
            "study.yaml",
        ),
    ):
        yield Case(f"ablate: {name}", "ablate", words, culprit, study)
