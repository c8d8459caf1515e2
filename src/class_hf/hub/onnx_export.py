"""Writes each side of a dual encoder as an ONNX model: tower, projection and normalisation."""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from class_hf._version import __version__
from class_hf.hub.onnx_model import FORMAT, MANIFEST, OnnxDualEncoder
from class_hf.models import modeling_bag, modeling_graph
from class_hf.models.configuration_text_molecule import MOLECULE_PREFIX
from class_hf.models.modeling_graph import segment_sum
from class_hf.models.modeling_text_molecule import TextMoleculeDualEncoderModel
from class_hf.models.modeling_towers import TOWER_MODELS
from class_hf.models.ragged_text import mean_pool, padded_chunks
from class_hf.utils.files import atomic_folder, write_json

# Largest difference of a component from torch.
TOLERANCE = 1e-5
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
# Inputs of different sizes. With inputs of equal sizes the exporter would take the size for a constant.
_EXAMPLES: dict[str, list[str]] = {
    "text": [
        "The molecule is a primary alcohol. It is derived from ethanol.",
        "An acid.",
        "The molecule is a benzoate ester that is the methyl ester of salicylic acid. It has a role as a metabolite.",
    ],
    "molecule": ["CC(=O)Oc1ccccc1C(=O)O", "CCO", "C[C@H](N)C(=O)O"],
}
# What the result is checked with, after the examples: single rows, a molecule of one atom, a caption without names.
_CHECKED: dict[str, list[list[str]]] = {
    "text": [["a thiol"], ["The molecule is 2-methylpropane.", "A salt of sodium with chloride.", "x y z", "acid"]],
    "molecule": [["C"], ["[Na+].[Cl-]", "C", "O=C(O)c1ccncc1", "C" * 40, "F/C=C/F"]],
}


def save_onnx(model: Any, processor: Any, folder: str | Path) -> dict[str, float]:
    """Writes each tower as an ONNX file, and compares its vectors with those of torch.

    The files are `text.onnx`, `molecule.onnx`, `onnx.json` and those of the processor. An ONNX file takes the tensors
    that the processor makes of any number of inputs, and returns L2-normalised vectors. A transformer takes
    `input_ids` (B, L) and `attention_mask` (B, L). The towers of this package take ragged inputs: the ids of all rows,
    and where each row begins.

    Args:
        model ([`TextMoleculeDualEncoderModel`]): the dual encoder.
        processor ([`TextMoleculeProcessor`]): its processor.
        folder (`str` or `Path`): a new or empty folder. It is written completely or not at all.

    Returns:
        `dict`: the largest difference from torch, by side.

    Raises:
        ImportError: If the extra `onnx` is not installed.
        ValueError: If the model does more than tower, projection and normalisation (`read_names` does), or a vector
            differs from that of torch by more than 1e-5.
        FileExistsError: If the folder is not empty.

    Example:

    ```python
    save_onnx(model, processor, "exported")
    encoder = Encoder.from_pretrained("exported", backend="onnx")
    ```
    """
    if any(find_spec(name) is None for name in _PACKAGES):
        raise ImportError('the export needs onnx, onnxruntime and onnxscript: pip install "class-hf[onnx]"')
    check_exportable(model)
    model = copy.deepcopy(model).cpu().float().eval()
    with atomic_folder(folder) as unfinished:
        processor.save_pretrained(unfinished)
        sides = {side: _write_side(model, processor, side, unfinished / f"{side}.onnx") for side in _EXAMPLES}
        manifest = {"format": FORMAT, "class_hf_version": __version__, "logit_scale": model.logit_scale().item()}
        write_json(unfinished / MANIFEST, {**manifest, "sides": sides})
        differences = compare(model, processor, unfinished)
    return differences


def check_exportable(model: Any) -> None:
    """Refuses a model that does more than tower, projection and normalisation.

    Args:
        model: any dual encoder.

    Raises:
        ValueError: If it does.
    """
    plain = TextMoleculeDualEncoderModel
    methods = ("forward", "_pooled", "pooled_text", "pooled_molecules", "get_text_features", "get_molecule_features")
    same = all(getattr(type(model), name, None) is getattr(plain, name) for name in methods)
    if not isinstance(model, plain) or not same:
        raise ValueError(
            f"{type(model).__name__} scores pairs by more than one vector a side, or has towers that cannot be "
            "exported. Only the plain dual encoder can: lexical, fingerprint, graph, fused and transformer towers."
        )
    if model.config.read_names and model.text_model.config.model_type not in TOWER_MODELS:
        raise ValueError("a transformer that reads names cannot be exported. Train it without read_names.")


class _Side(nn.Module):
    """One side of the model, with the tensors of the processor as its inputs."""

    def __init__(self, model: Any, side: str, is_padded: bool):
        super().__init__()
        self.model, self.side, self.is_padded = model, side, is_padded

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(B, D), L2-normalised."""
        if not self.is_padded:
            encode = self.model.get_text_features if self.side == "text" else self.model.get_molecule_features
            return encode(**inputs)
        prefix = "" if self.side == "text" else MOLECULE_PREFIX
        ids, mask = inputs[f"{prefix}input_ids"], inputs[f"{prefix}attention_mask"]
        tower = self.model.text_model if self.side == "text" else self.model.molecule_model
        projection = self.model.text_projection if self.side == "text" else self.model.molecule_projection
        states = tower(input_ids=ids, attention_mask=mask).last_hidden_state
        return nn.functional.normalize(projection(mean_pool(states, mask)), dim=-1)


def _write_side(model: Any, processor: Any, side: str, path: Path) -> dict[str, Any]:
    """Exports one side. Returns its entry of the manifest."""
    batch = collated(processor, side, _EXAMPLES[side])
    prefix = "" if side == "text" else MOLECULE_PREFIX
    tower = model.text_model if side == "text" else model.molecule_model
    pad: int | None = None
    if tower.config.model_type not in TOWER_MODELS:
        pad = getattr(tower.config, "pad_token_id", None) or 0
        ids, offsets = batch[f"{prefix}input_ids"], batch[f"{prefix}text_offsets"]
        _, input_ids, mask = next(padded_chunks(ids, offsets, len(offsets), pad))
        batch = {f"{prefix}input_ids": input_ids.long(), f"{prefix}attention_mask": mask}
    batch = {name: batch[name] for name in sorted(batch)}  # a dictionary is flattened in this order
    shapes = {name: dict.fromkeys(_free_axes(name, pad is not None), torch.export.Dim.DYNAMIC) for name in batch}
    with _without_warnings(), _exportable_operators():
        program = torch.onnx.export(
            _Side(model, side, pad is not None),
            (),
            kwargs={"inputs": batch},
            dynamic_shapes={"inputs": shapes},
            input_names=list(batch),
            output_names=[f"{side}_embeds"],
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path)
    return {"inputs": list(batch), "pad_token_id": pad}


def collated(processor: Any, side: str, rows: Sequence[str]) -> dict[str, torch.Tensor]:
    """The tensors of captions or molecules, as the processor makes them."""
    if side == "text":
        return dict(processor.collate_text(processor.encode_text(list(rows))))
    return dict(processor.collate_molecules(processor.encode_molecules(list(rows))))


def _free_axes(name: str, is_padded: bool) -> tuple[int, ...]:
    """The axes of an input whose size depends on the batch."""
    if is_padded:
        return (0, 1)
    return (1,) if name.endswith("bond_index") else (0,)


@contextmanager
def _exportable_operators() -> Iterator[None]:
    """Replaces what ONNX does not have by equal operators: ragged bags, repetition, and checks of values."""

    def sum_bags(embedding: nn.Embedding, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return segment_sum(embedding(ids), _segments(offsets.diff(), ids.shape[0]), offsets.shape[0] - 1)

    with ExitStack() as replaced:
        replaced.enter_context(patch.object(modeling_bag, "sum_bags", sum_bags))
        replaced.enter_context(patch.object(modeling_graph, "repeat_rows", _segments))
        replaced.enter_context(patch.object(modeling_graph.MoleculeGraphModel, "_check_shapes", lambda *inputs: None))
        yield


def _segments(counts: torch.Tensor, size: int) -> torch.Tensor:
    """The number of the segment of each member, (size,) int64, from the sizes of the segments (S,)."""
    ends = counts.long().cumsum(0)
    marks = torch.zeros(size + 1, dtype=torch.int64).index_add(0, ends, torch.ones_like(ends))
    return marks.cumsum(0)[:size]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hides what the exporter reports about its own work."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def compare(model: Any, processor: Any, folder: Path) -> dict[str, float]:
    """The largest difference of each side from torch.

    Args:
        model, processor: As for [`save_onnx`].
        folder (`Path`): a folder of [`save_onnx`].

    Raises:
        ValueError: If it is above `TOLERANCE`.
    """
    exported = OnnxDualEncoder(folder)
    differences: dict[str, float] = {}
    for side, checked in _CHECKED.items():
        for rows in (_EXAMPLES[side], *checked):
            batch = collated(processor, side, rows)
            with torch.no_grad():
                expected = model(**batch)[f"{side}_embeds"]
            difference = float((exported(**batch)[f"{side}_embeds"] - expected).abs().max())
            differences[side] = max(differences.get(side, 0.0), difference)
        if not differences[side] <= TOLERANCE:
            raise ValueError(
                f"the exported {side} side differs from torch by {differences[side]:.1e}, more than {TOLERANCE:g}. "
                "Nothing was written."
            )
    return differences
