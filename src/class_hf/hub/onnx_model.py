"""A dual encoder that ONNX Runtime runs."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from class_hf.models.configuration_text_molecule import MOLECULE_PREFIX
from class_hf.models.ragged_text import padded_chunks

FORMAT = 1
MANIFEST = "onnx.json"
_CHUNK = 64  # rows that a transformer encodes at once


class OnnxDualEncoder:
    """The two sides of an exported dual encoder, as a [`~class_hf.utils.protocols.RetrievalModel`].

    It takes the tensors of the processor, as the model in torch does, and runs on the CPU. [`Encoder`] loads it with
    `backend="onnx"`. It also searches an index: `MoleculeIndex.load(folder, encoder.model, encoder.processor)`.

    Args:
        name (`str` or `Path`): folder of [`save_onnx`], or a Hub id.
        revision (`str`, *optional*): branch, tag or commit on the Hub.

    Raises:
        ImportError: If onnxruntime is not installed.
        ValueError: If there is no exported model, or a later version wrote it.
    """

    training = False

    def __init__(self, name: str | Path, revision: str | None = None):
        if find_spec("onnxruntime") is None:
            raise ImportError('the backend "onnx" needs ONNX Runtime: pip install "class-hf[onnx]"')
        self._name, self._revision = str(name), revision
        self.manifest: dict[str, Any] = json.loads(self._file(MANIFEST).read_text(encoding="utf-8"))
        if self.manifest["format"] > FORMAT:
            raise ValueError(
                f"{self._name!r} has format {self.manifest['format']}, this version of class_hf reads up to {FORMAT}. "
                f"Install class_hf {self.manifest['class_hf_version']} or later."
            )
        self._sessions: dict[str, Any] = {}

    def _file(self, name: str) -> Path:
        try:
            path = cached_file(self._name, name, revision=self._revision)
        except OSError as error:
            raise ValueError(
                f"{self._name!r} holds no exported model (no {name}). Write one with `class-hf export --format onnx`."
            ) from error
        assert path is not None
        return Path(path)

    def _session(self, side: str) -> Any:
        """The session of a side. It is opened at its first use."""
        if side not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3  # errors
            path = str(self._file(f"{side}.onnx"))
            self._sessions[side] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return self._sessions[side]

    def __call__(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Embeds a batch of captions, of molecules, or of both.

        Args:
            **inputs: the processor's output.

        Returns:
            `text_embeds` (B, D) and `molecule_embeds` (B, D), L2-normalised, of the sides that the batch has, and
            `logit_scale` ().

        Raises:
            ValueError: If there are no inputs.
        """
        sides: dict[str, dict[str, torch.Tensor]] = {"text": {}, "molecule": {}}
        for name, value in inputs.items():
            sides["molecule" if name.startswith(MOLECULE_PREFIX) else "text"][name] = value
        if not inputs:
            raise ValueError("no inputs: pass the processor's output for captions, molecules or both.")
        outputs = {f"{side}_embeds": self._embed(side, batch) for side, batch in sides.items() if batch}
        return {**outputs, "logit_scale": torch.tensor(self.manifest["logit_scale"])}

    def _embed(self, side: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        pad = self.manifest["sides"][side]["pad_token_id"]
        if pad is None:
            return self._run(side, batch)
        prefix = "" if side == "text" else MOLECULE_PREFIX
        ids, offsets = batch[f"{prefix}input_ids"], batch[f"{prefix}text_offsets"]
        rows, parts = [], []
        for part, input_ids, mask in padded_chunks(ids, offsets, _CHUNK, pad):
            rows.append(part)
            padded = {f"{prefix}input_ids": input_ids.long(), f"{prefix}attention_mask": mask}
            parts.append(self._run(side, padded))
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    def _run(self, side: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        arrays = {name: value.numpy() for name, value in batch.items()}
        return torch.from_numpy(self._session(side).run([f"{side}_embeds"], arrays)[0])

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yields one empty weight on the CPU, where the model runs."""
        yield torch.nn.Parameter(torch.empty(0), requires_grad=False)

    def train(self, mode: bool = True) -> "OnnxDualEncoder":
        """Raises ValueError for training, which an exported model cannot do."""
        if mode:
            raise ValueError("an exported model cannot be trained; train the model that was exported.")
        return self

    def eval(self) -> "OnnxDualEncoder":
        """Returns the model, which is always in evaluation mode."""
        return self
