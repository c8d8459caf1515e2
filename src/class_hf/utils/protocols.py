"""Protocols of the objects that rooms exchange: a retrieval model and a processor.

A class fits if it has the methods. It need not inherit from the protocol or be registered.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch


class RetrievalModel(Protocol):
    """A dual encoder, as training, evaluation and search use it.

    A call takes the tensors of a collated batch by name: of captions, of molecules, or of both. It returns a mapping,
    a named tuple, or an object with these fields:

    - `text_embeds` (B, D), if the batch holds captions;
    - `molecule_embeds` (B, D), if the batch holds molecules;
    - `logit_scale` (), the factor of the cosines in the loss.

    The loss receives all other fields unchanged. Every `torch.nn.Module` with such a `forward` fits.

    Example:

    >>> class Backbone(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.text, self.molecule = torch.nn.Linear(3, 2), torch.nn.Linear(4, 2)
    ...
    ...     def forward(self, words=None, atoms=None):
    ...         outputs = {"logit_scale": torch.tensor(10.0)}
    ...         if words is not None:
    ...             outputs["text_embeds"] = self.text(words)
    ...         if atoms is not None:
    ...             outputs["molecule_embeds"] = self.molecule(atoms)
    ...         return outputs
    >>> model: RetrievalModel = Backbone()
    >>> model(words=torch.zeros(5, 3))["text_embeds"].shape
    torch.Size([5, 2])
    """

    training: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Embeds a batch of captions, of molecules, or of both."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yields the weights. Their device is the model's."""

    def train(self, mode: bool = True) -> Any:
        """Sets training or evaluation mode."""

    def eval(self) -> Any:
        """Sets evaluation mode."""


class Processor(Protocol):
    """Turns captions and SMILES into a model's tensors, in two steps.

    Encoding runs once for each row and returns compact bytes, which a data set caches. Collating runs once for each
    batch and returns tensors. [`~class_hf.models.processing_text_molecule.TextMoleculeProcessor`] is the processor of
    this package.
    """

    def encode_text(self, texts: Sequence[str]) -> list[bytes]:
        """Encodes captions. Raises ValueError if one is empty or too long."""

    def encode_molecules(self, smiles: Sequence[str]) -> list[bytes]:
        """Encodes molecules. Raises ValueError if RDKit cannot parse a SMILES, or if it is too large."""

    def collate_text(
        self, blobs: Sequence[bytes], sentence_dropout: float = 0.0, generator: Any = None
    ) -> dict[str, torch.Tensor]:
        """Joins encoded captions to the tensors of a batch."""

    def collate_molecules(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules to the tensors of a batch."""

    def content_key(self) -> str:
        """Returns a hash of everything on which the encoded bytes depend. Caches use it as their key."""
