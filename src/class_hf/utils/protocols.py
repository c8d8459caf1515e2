"""The interfaces between the rooms. Any model and any processor that has these methods works.

Nothing here is registered or inherited: a class that has the methods fits.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch


class RetrievalModel(Protocol):
    """A dual encoder, as training, evaluation and search use it.

    A call takes the tensors of a collated batch by name, of captions, of molecules, or of both. It returns a mapping,
    a named tuple, or an object with these fields:

    - `text_embeds` (B, D), where the batch holds captions;
    - `molecule_embeds` (B, D), where the batch holds molecules;
    - `logit_scale` (), the factor of the cosines in the loss.

    Further fields reach the loss unchanged. Every `torch.nn.Module` with such a `forward` fits:

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
        """Embeds a batch."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The weights, by which the model's device is known."""

    def train(self, mode: bool = True) -> Any:
        """Sets training or evaluation mode."""

    def eval(self) -> Any:
        """Sets evaluation mode."""


class Processor(Protocol):
    """What turns captions and SMILES into a model's tensors, in two steps.

    Encoding runs once a row and gives compact bytes, which a data set caches. Collating runs once a batch and gives
    tensors. [`~class_hf.models.processing_text_molecule.TextMoleculeProcessor`] is this package's own.
    """

    def encode_text(self, texts: Sequence[str]) -> list[bytes]:
        """Token ids of each caption, as bytes."""

    def encode_molecules(self, smiles: Sequence[str]) -> list[bytes]:
        """Features of each molecule, as bytes. Raises ValueError for a SMILES that RDKit cannot parse."""

    def collate_text(
        self, blobs: Sequence[bytes], sentence_dropout: float = 0.0, generator: Any = None
    ) -> dict[str, torch.Tensor]:
        """Tensors of a batch of encoded captions."""

    def collate_molecules(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Tensors of a batch of encoded molecules."""

    def content_key(self) -> str:
        """A digest of everything that changes the features. Caches of prepared data sets depend on it."""
