"""A damaged model is refused in one line, whatever is wrong with it. No command runs on random weights."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers
from conftest import tiny_bert, tiny_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from class_hf import (
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    add_adapters,
    load_adapter,
    save_adapter,
)
from class_hf.hub.loading import load_model

PROJECTION = "text_projection.weight"


@pytest.fixture(scope="module")
def saved(processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def tensors(change):
    """A change of the tensors in the weights file."""

    def damage(folder):
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def content(change, name="model.safetensors"):
    """A change of the bytes of a file."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def setting(side=None, **values):
    """A change of the configuration, or of the configuration of a tower."""

    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        (config if side is None else config[side]).update(values)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def replaced(name, text):
    return lambda folder: (folder / name).write_text(text)


def halved(name):
    return content(lambda data: data[: len(data) // 2], name)


def removed(name):
    return lambda folder: (folder / name).unlink()


def weights_are_a_folder(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


DAMAGES = {
    "a missing tensor": (tensors(lambda state: state.pop(PROJECTION)), f"lacks {PROJECTION}, which the model needs"),
    "most tensors missing": (
        tensors(lambda state: [state.pop(name) for name in sorted(state)[1:]]),
        "lacks molecule_model.* and 17 more",
    ),
    "an extra tensor": (tensors(lambda state: state.update(extra=torch.ones(2))), "holds extra, which the model does"),
    "a renamed tensor": (tensors(lambda state: state.update(a=state.pop(PROJECTION))), f"lacks {PROJECTION}"),
    "a wrong shape": (
        tensors(lambda state: state.update({PROJECTION: torch.ones(3, 3)})),
        rf"{PROJECTION} has the shape \[3, 3\] in the weights file, but config.json describes \[8, 16\]",
    ),
    "a transposed tensor": (
        tensors(lambda state: state.update({PROJECTION: state[PROJECTION].T.contiguous()})),
        r"\[16, 8\]",
    ),
    "integers": (tensors(lambda state: state.update({PROJECTION: state[PROJECTION].int()})), "is no float type"),
    "NaN": (tensors(lambda state: state[PROJECTION].fill_(float("nan"))), f"NaN or infinite numbers in {PROJECTION}"),
    "infinity": (tensors(lambda state: state[PROJECTION][0].fill_(float("inf"))), "NaN or infinite numbers"),
    "an empty file": (content(lambda data: b""), "header"),
    "a truncated file": (content(lambda data: data[:-100]), "header"),
    "half a file": (halved("model.safetensors"), "header"),
    "a longer file": (content(lambda data: data + bytes(64)), "header"),
    "a flipped length": (content(lambda data: b"\xff" * 8 + data[8:]), "header"),
    "a flipped header": (content(lambda data: data[:8] + b"x" + data[9:]), "header"),
    "a wrong dtype": (content(lambda data: data.replace(b'"F32"', b'"F33"', 1)), "header"),
    "a wrong offset": (content(lambda data: data.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1)), "header"),
    "a wrong shape in the header": (content(lambda data: data.replace(b'"shape":[', b'"shape":[9', 1)), "header"),
    "a page of an error": (content(lambda data: b"<html>404</html>"), "header"),
    "a pointer of git LFS": (content(lambda data: b"version https://git-lfs.github.com/spec/v1\noid"), "header"),
    "no weights": (removed("model.safetensors"), "no file named model.safetensors"),
    "a folder as weights": (weights_are_a_folder, "no file named model.safetensors"),
    "no configuration": (removed("config.json"), r"holds no model \(no config.json\)"),
    "half a configuration": (halved("config.json"), "not a valid JSON file"),
    "an empty configuration": (replaced("config.json", ""), "not a valid JSON file"),
    "a list as configuration": (replaced("config.json", "[]"), "model_type"),
    "a configuration without fields": (replaced("config.json", "{}"), "model_type"),
    "no UTF-8": (content(lambda data: b"\xff\xfe\x00", "config.json"), "not a valid JSON file"),
    "an unknown model type": (setting(model_type="nope"), "model type `nope`"),
    "another model type": (setting(model_type="bert"), "lacks"),
    "a wider projection": (setting(projection_dim=99), "has the shape"),
    "a text as number": (setting(projection_dim="a"), "projection_dim"),
    "a negative number": (setting(projection_dim=-1), "projection_dim"),
    "no tower": (setting(text_config=None), "has the shape"),
    "a text as tower": (setting(text_config="x"), "text_config"),
    "fewer buckets": (setting("text_config", num_buckets=3), "has the shape"),
    "an unknown tower": (setting("molecule_config", model_type="nothing"), "nothing"),
    "no processor": (removed("processor_config.json"), "cannot be loaded"),
    "half a processor": (halved("processor_config.json"), "not a valid JSON file"),
    "a list as processor": (replaced("processor_config.json", "[]"), "cannot be loaded"),
    "no tokenizer": (removed("tokenizer_config.json"), "cannot be loaded"),
    "half a tokenizer": (halved("tokenizer_config.json"), "cannot be loaded"),
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_model_is_refused_in_one_line(kind, saved, tmp_path):
    damage, message = DAMAGES[kind]
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        load_model(str(folder))
    text = str(error.value)
    assert text.startswith(f"--model {str(folder)!r} ") and "\n" not in text and len(text) < 600


def test_a_damaged_model_is_refused_at_every_log_level(saved, tmp_path):
    """transformers describes a tensor of a wrong shape in its log only."""
    damage, message = DAMAGES["a wider projection"]
    shutil.copytree(saved, tmp_path / "model")
    damage(tmp_path / "model")
    transformers.logging.set_verbosity_error()
    try:
        with pytest.raises(ValueError, match=message):
            load_model(str(tmp_path / "model"))
    finally:
        transformers.logging.set_verbosity_warning()


def test_a_complete_model_loads(saved):
    model, processor = load_model(str(saved))
    assert not model.training and isinstance(processor, TextMoleculeProcessor)


def test_modules_of_the_user_are_imported_before_a_model_is_loaded(saved, tmp_path, monkeypatch):
    """So that worker processes know a model whose class the user defines."""
    (tmp_path / "users_towers.py").write_text("names = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CLASS_HF_IMPORT", "json, users_towers")
    load_model(str(saved))
    assert "users_towers" in sys.modules
    monkeypatch.setenv("CLASS_HF_IMPORT", "users_tower")
    with pytest.raises(ImportError, match="'CLASS_HF_IMPORT=users_tower': there is no module 'users_tower'"):
        load_model(str(saved))


def test_another_kind_of_model_is_refused(tmp_path):
    folder = tiny_bert(tmp_path / "bert")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(ValueError, match="which is no text-molecule model|lacks pooler"):
        load_model(str(folder))


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing/here' is neither a folder with a model nor reachable on the Hub"):
        load_model("nothing/here")
    with pytest.raises(ValueError, match="holds no model"):
        load_model(str(tmp_path))


def test_from_pretrained_alone_would_continue_with_random_weights(saved, tmp_path):
    """The reason for the check. If this fails, transformers refuses such a model, too."""
    shutil.copytree(saved, tmp_path / "model")
    tensors(lambda state: state.pop(PROJECTION))(Path(tmp_path / "model"))
    weights = TextMoleculeDualEncoderModel.from_pretrained(tmp_path / "model").state_dict()[PROJECTION]
    assert not torch.equal(weights, TextMoleculeDualEncoderModel.from_pretrained(saved).state_dict()[PROJECTION])


def test_a_damaged_adapter_or_base_is_refused(saved, processor, tmp_path):
    adapted = add_adapters(TextMoleculeDualEncoderModel.from_pretrained(saved), text={"peft_type": "LORA", "r": 2})
    shutil.copytree(saved, tmp_path / "base")
    save_adapter(adapted, tmp_path / "adapter", base=str(tmp_path / "base"), processor=processor)
    load_adapter(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    state = load_file(file)
    lost = min(state)
    save_file({name: tensor for name, tensor in state.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="does not fit the base .*: its file lacks"):
        load_adapter(tmp_path / "adapter")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="does not fit the base .*: .*header"):
        load_adapter(tmp_path / "adapter")
    save_file(state, file, metadata={"format": "pt"})
    tensors(lambda weights: weights.pop(PROJECTION))(tmp_path / "base")
    with pytest.raises(ValueError, match=f"the base .* lacks {PROJECTION}"):
        load_adapter(tmp_path / "adapter")
