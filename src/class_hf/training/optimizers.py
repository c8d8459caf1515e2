"""Optimizers with a learning rate of their own for the text tower."""

from typing import Any

import torch
from torch import nn


def split_text_rate(optimizer: torch.optim.Optimizer, model: nn.Module, rate: float) -> None:
    """Moves the parameters of `text_model` into groups with their own learning rate.

    Args:
        optimizer: changed in place.
        model: the model whose parameters it trains.
        rate: learning rate of the text tower.

    Raises:
        ValueError: if the optimizer trains no parameters under `text_model`.

    >>> model = nn.ModuleDict({"text_model": nn.Linear(2, 2), "molecule_model": nn.Linear(2, 2)})
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> split_text_rate(optimizer, model, 0.01)
    >>> [(group["lr"], len(group["params"])) for group in optimizer.param_groups]
    [(0.1, 2), (0.01, 2)]
    """
    text = {id(parameter) for name, parameter in model.named_parameters() if "text_model" in name.split(".")}
    groups = list(optimizer.param_groups)
    for group in groups:
        text_parameters = [parameter for parameter in group["params"] if id(parameter) in text]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in text]
        if text_parameters:
            optimizer.add_param_group({**group, "params": text_parameters, "lr": rate})
    if len(optimizer.param_groups) == len(groups):
        raise ValueError(
            f"text_learning_rate is {rate}, but no parameters under `text_model` are trained. Leave it out, or do not "
            "freeze the text tower."
        )


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
