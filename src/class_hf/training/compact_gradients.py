"""Training with compact gradients of large embedding tables, where that is possible."""

from typing import Any

import torch
from torch import nn
from transformers import Trainer

from class_hf.training.optimizers import TableAdamW, clip_gradients

# A smaller table is used almost completely by each batch.
_FEWEST_WEIGHTS = 2**22
_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")


class CompactGradientTrainer(Trainer):
    """Uses compact gradients for tables that support them (`compact_gradients`): the result is that of dense ones.

    Dense gradients are used on an accelerator, with several processes, FSDP or DeepSpeed, with several backward passes
    in a step, and with an optimizer that is not AdamW.
    """

    _tables: list[Any]

    def compact_tables(self, model: nn.Module) -> list[Any]:
        """The tables of a model that this run gives compact gradients.

        Args:
            model: the model in training.

        Returns:
            The modules. None if the run needs dense gradients.
        """
        args = self.args
        several_passes = args.gradient_accumulation_steps > 1 or getattr(args, "forward_chunk_size", None) is not None
        dense = (
            args.device.type != "cpu"
            or args.world_size > 1
            or self.is_fsdp_enabled
            or self.is_deepspeed_enabled
            or several_passes
            or args.torch_compile
            or args.optim not in _OPTIMIZERS
            or not hasattr(Trainer, "_clip_grad_norm")  # of transformers, replaced below
            or self.optimizer_cls_and_kwargs is not None
        )
        if dense:
            return []
        return [
            module
            for module in model.modules()
            if isinstance(module, nn.Embedding)
            and hasattr(module, "compact_gradients")
            and module.weight.requires_grad
            and module.weight.numel() >= _FEWEST_WEIGHTS
        ]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As the Trainer's. Tables with compact gradients get an AdamW that reads them."""
        trained: Any = self.model if model is None else model
        tables = self.compact_tables(trained) if self.optimizer is None else []
        if not tables:
            return super().create_optimizer(model)
        _, settings = self.get_optimizer_cls_and_kwargs(self.args, trained)
        self.optimizer_cls_and_kwargs = TableAdamW, settings
        try:
            optimizer = super().create_optimizer(model)
        finally:
            self.optimizer_cls_and_kwargs = None
        self._tables = tables
        for table in self._tables:
            table.compact_gradients = True
        return optimizer

    def use_dense_gradients(self) -> None:
        """Gives all tables dense gradients again, which other optimizers need."""
        for table in getattr(self, "_tables", []):
            table.compact_gradients = False
        self._tables = []

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        if getattr(self, "_tables", []):
            return clip_gradients(model.parameters(), self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        if grad_norm is None and getattr(self, "_tables", []):
            return clip_gradients(model.parameters(), float("inf"))
        return super()._get_grad_norm(model, grad_norm=grad_norm)
