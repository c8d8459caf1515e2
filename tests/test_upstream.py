"""The private or unstable parts of other libraries that the package relies on.

Each test names one part and the file that uses it. After an upgrade of a library, a failure here says what to look at.
"""

import importlib
import inspect
import sys
from collections.abc import Callable

import datasets
import pytest
import torch
import transformers
from transformers import Trainer, TrainingArguments


def parameters(function: Callable) -> list[str]:
    return list(inspect.signature(function).parameters)


# (method of transformers.Trainer, parameters that are passed or overridden, file that relies on it)
TRAINER_METHODS = [
    ("_get_train_sampler", ["train_dataset"], "training/trainer.py: the plan's sampler takes its place"),
    ("_save_checkpoint", ["model", "trial"], "training/resuming.py: the curriculum's state and the manifest"),
    ("_get_output_dir", ["trial"], "training/resuming.py: where a checkpoint goes"),
    ("_save", ["output_dir", "state_dict"], "training/resuming.py: the arguments are saved as JSON"),
    ("_load_best_model", [], "training/resuming.py: a damaged checkpoint is refused"),
    ("_hp_search_setup", ["trial"], "training/trainer.py: the plan follows the arguments of a trial"),
    ("hyperparameter_search", ["hp_space", "compute_objective", "n_trials", "direction"], "training/trainer.py"),
    ("compute_loss", ["model", "inputs", "return_outputs", "num_items_in_batch"], "training/trainer.py"),
    ("create_optimizer", ["model"], "training/trainer.py: the text tower's learning rate"),
    ("get_decay_parameter_names", ["model"], "training/trainer.py: the logit scale does not decay"),
    ("log", ["logs", "start_time"], "training/trainer.py: the curriculum's log values"),
    ("evaluate", ["eval_dataset", "ignore_keys", "metric_key_prefix"], "training/ranking.py"),
    ("save_model", ["output_dir", "_internal_call"], "training/publishing.py: saves without a push"),
    ("init_hf_repo", ["token", "private"], "training/publishing.py: a wrong login fails before the training"),
    ("push_to_hub", ["commit_message", "blocking", "token", "revision"], "training/publishing.py"),
    ("create_model_card", ["language", "license", "tags", "model_name"], "training/publishing.py"),
]


@pytest.mark.parametrize(("name", "expected", "used_by"), TRAINER_METHODS, ids=[row[0] for row in TRAINER_METHODS])
def test_methods_of_the_trainer(name, expected, used_by):
    method = getattr(Trainer, name, None)
    assert method is not None, f"Trainer.{name} is gone; {used_by} overrides or calls it."
    missing = [parameter for parameter in expected if parameter not in parameters(method)]
    assert not missing, f"Trainer.{name} lost the parameters {missing}; see {used_by}."


def test_order_of_create_model_card():
    """`publishing.py` names the positional arguments itself."""
    order = ["language", "license", "tags", "model_name", "finetuned_from", "tasks", "dataset_tags", "dataset"]
    assert parameters(Trainer.create_model_card)[1 : 1 + len(order)] == order


def test_checkpoints_of_the_trainer():
    from transformers.trainer_callback import TrainerState
    from transformers.trainer_utils import rotate_checkpoints

    expected = ["output_dir", "save_total_limit", "best_model_checkpoint", "use_mtime"]
    assert set(expected) <= set(parameters(rotate_checkpoints)), "training/resuming.py removes old checkpoints by it."
    assert parameters(TrainerState.compute_steps)[1:] == ["args", "max_steps"], "training/callbacks.py calls it."
    train = inspect.getsource(Trainer.train)
    assert "self._hp_search_setup(trial)" in train, "training/trainer.py makes the plan of a trial there."


def test_attributes_that_the_trainer_reads_and_sets():
    source = inspect.getsource(Trainer)
    assert "loss_is_scaled_for_ga" in source, "the Trainer no longer divides a mean loss by the accumulation steps."
    assert "self.current_gradient_accumulation_steps" in source, "training/trainer.py divides chunks' gradients by it."


@pytest.mark.parametrize(
    "name",
    [
        "restore_callback_states_from_checkpoint",
        "ignore_data_skip",
        "auto_find_batch_size",
        "train_sampling_strategy",
        "accelerator_config",
        "hub_strategy",
        "dataloader_drop_last",
        "dataloader_pin_memory",
        "remove_unused_columns",
        "label_names",
    ],
)
def test_fields_of_training_arguments(name):
    assert name in TrainingArguments.__dataclass_fields__, f"training/arguments.py refuses or changes {name}."


def test_batch_options_of_accelerate():
    from transformers.trainer_pt_utils import AcceleratorConfig

    assert {"dispatch_batches", "split_batches"} <= set(AcceleratorConfig.__dataclass_fields__), (
        "training/arguments.py refuses dispatch_batches and split_batches, which reorder the plan's batches."
    )


# (module, name, file that relies on it)
NAMES = [
    ("transformers.trainer", "TRAINING_ARGS_NAME", "training/trainer.py: the pickle that is replaced"),
    ("transformers.trainer_utils", "PREFIX_CHECKPOINT_DIR", "training/checkpoints.py"),
    ("transformers.trainer_utils", "HubStrategy", "training/arguments.py"),
    ("transformers.utils", "is_torch_bf16_gpu_available", "training/arguments.py"),
    ("transformers.utils", "cached_file", "backbones/adapters.py"),
    ("transformers.utils", "can_return_tuple", "models/modeling_graph.py"),
    ("transformers.utils.peft_utils", "find_adapter_config_file", "recipes/export.py"),
    ("transformers.dynamic_module_utils", "get_relative_import_files", "hub/export.py: the code of an export"),
    ("transformers.pipelines", "PIPELINE_REGISTRY", "_register.py"),
    ("transformers.pipelines.base", "GenericTensor", "pipelines.py"),
    ("transformers.modeling_outputs", "BaseModelOutputWithPooling", "models/modeling_*.py"),
    ("accelerate.utils", "broadcast_object_list", "difficulty scores reach all processes"),
    ("peft.mapping", "PEFT_TYPE_TO_CONFIG_MAPPING", "backbones/adapters.py"),
    ("peft.utils", "CONFIG_NAME", "backbones/adapters.py"),
    ("peft.utils", "ModulesToSaveWrapper", "backbones/adapters.py"),
    ("peft.utils", "get_peft_model_state_dict", "backbones/adapters.py"),
    ("peft.utils", "load_peft_weights", "backbones/adapters.py"),
    ("datasets.fingerprint", "Hasher", "data/prepare.py: the cache key of prepared pairs"),
    ("datasets.exceptions", "DatasetGenerationError", "readers of tables"),
    ("huggingface_hub.dataclasses", "strict", "models/configuration_*.py"),
    ("huggingface_hub.errors", "StrictDataclassError", "config/parsing.py: an error of a configuration"),
    ("huggingface_hub.utils", "filter_repo_objects", "hub/push.py"),
    ("torch.cpu", "_is_avx512_bf16_supported", "training/arguments.py: bf16_if_fast"),
    ("torch.cpu", "_is_amx_tile_supported", "training/arguments.py: bf16_if_fast"),
    ("torch", "_int_mm", "difficulty/neighbours.py: products of 8-bit integers"),
]


@pytest.mark.parametrize(("module", "name", "used_by"), NAMES, ids=[f"{row[0]}.{row[1]}" for row in NAMES])
def test_names_exist(module, name, used_by):
    assert hasattr(importlib.import_module(module), name), f"{module}.{name} is gone; {used_by} uses it."


@pytest.mark.parametrize(
    "module",
    [
        *(
            f"transformers.models.auto.{name}_auto"
            for name in ("configuration", "modeling", "tokenization", "feature_extraction", "processing")
        ),
        "transformers.pipelines",
    ],
)
def test_watched_modules_exist(module):
    """`_register.py` registers the package's classes when transformers imports these modules."""
    importlib.import_module(module)
    assert module in sys.modules


def test_auto_classes_take_exist_ok():
    for auto in (transformers.AutoConfig, transformers.AutoModel, transformers.AutoTokenizer):
        assert "exist_ok" in parameters(auto.register), f"{auto.__name__}.register lost exist_ok; see _register.py."


def test_relative_imports_are_found_in_a_file(tmp_path):
    """`hub/export.py` copies every file that a model's code imports from its folder, one import inside a `try` too."""
    from transformers.dynamic_module_utils import get_relative_import_files

    (tmp_path / "first.py").write_text("from .second import x\n")
    (tmp_path / "second.py").write_text("x = 1\n")
    assert [path.rsplit("/", 1)[-1] for path in get_relative_import_files(str(tmp_path / "first.py"))] == ["second.py"]


def test_a_pipeline_registers_with_these_arguments():
    register = transformers.pipelines.PIPELINE_REGISTRY.register_pipeline
    assert {"pt_model", "type"} <= set(parameters(register)), "_register.py passes pt_model and type."


def test_a_dataset_shows_whether_it_is_a_selection():
    """`data/prepare.py` reads `_indices` and writes selected rows out before it maps them."""
    rows = datasets.Dataset.from_dict({"x": [1, 2, 3]})
    assert rows._indices is None
    assert rows.select([2, 0])._indices is not None
    assert rows.select([2, 0]).flatten_indices()._indices is None


def test_map_takes_a_fingerprint():
    assert "new_fingerprint" in parameters(datasets.Dataset.map), "data/prepare.py sets the cache key of map."


def test_the_parser_of_dataclasses_returns_what_it_does_not_know():
    parser = transformers.HfArgumentParser([TrainingArguments])
    assert {action.dest for action in parser._actions} >= {"learning_rate", "output_dir"}, "config/parsing.py"
    assert "return_remaining_strings" in parameters(parser.parse_args_into_dataclasses)


def test_a_configuration_validates_itself():
    """`backbones/registry.py` validates a configuration whose fields a recipe sets."""
    assert callable(getattr(transformers.PreTrainedConfig(), "validate", None))


def test_accelerate_names_its_launch_in_the_environment():
    """`training/launch.py` and `recipes/ablate.py` recognise a run under `accelerate launch` by this variable."""
    from accelerate.utils import launch

    assert "ACCELERATE_MIXED_PRECISION" in inspect.getsource(launch)


def test_the_gather_of_torch_takes_a_list():
    assert parameters(torch.distributed.all_gather)[:2] == ["tensor_list", "tensor"], "utils/distributed.py"


# (object, attribute, file that relies on it)
@pytest.mark.parametrize(
    ("name", "used_by"),
    [
        ("transformers.modeling_layers.GradientCheckpointingLayer", "models/modeling_graph.py"),
        ("transformers.PreTrainedModel._keep_in_fp32_modules_strict", "models/: parts that stay in float32"),
        ("transformers.AutoModel._model_mapping", "models/: whether a tower is known"),
    ],
)
def test_attributes_exist(name, used_by):
    path, attribute = name.rsplit(".", 1)
    module, _, owner = path.rpartition(".") if path.rsplit(".", 1)[-1][0].isupper() else (path, "", "")
    holder = importlib.import_module(module)
    holder = getattr(holder, owner) if owner else holder
    assert hasattr(holder, attribute), f"{name} is gone; {used_by} uses it."
