"""The settings of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from class_hf.evaluation.query_bank import BankMethod
from class_hf.utils.numbers import non_negative_integer, positive_integer
from class_hf.utils.suggestions import check_choice, did_you_mean


@dataclass(frozen=True)
class EvaluationSettings:
    """How a [`~class_hf.evaluation.retrieval_evaluator.RetrievalEvaluator`] embeds, ranks and reports.

    Args:
        name (`str`, *optional*, defaults to `"validation"`): name of the split in the report.
        pool_name (`str`, *optional*, defaults to `"full"`): name of the pool in the report. Choose another name if
            the pool is only a sample of the candidates.
        batch_size (`int`, *optional*, defaults to 256): rows embedded at a time.
        block_size (`int`, *optional*, defaults to 512): rows and columns of a block of similarities. Memory is the
            square of it.
        bootstrap_samples (`int`, *optional*, defaults to 1000): resamples of the 95 % intervals. 0: no intervals.
        rescore_top_k (`int`, *optional*): re-rank this number of first candidates by the `fine_scores` of the model.
            The report then also holds the metrics before re-ranking. None or 0: no re-ranking.
        bank_method (`str`, *optional*, defaults to `"softmax"`): `"softmax"` or `"nearest"`, see
            [`~class_hf.evaluation.query_bank.bank_penalties`]. Only used with a query bank.

    Raises:
        ValueError: if a value is out of range.

    >>> EvaluationSettings(rescore_top_k=0).rescore_top_k is None
    True
    """

    name: str = "validation"
    pool_name: str = "full"
    batch_size: int = 256
    block_size: int = 512
    bootstrap_samples: int = 1000
    rescore_top_k: int | None = None
    bank_method: BankMethod = "softmax"

    def __post_init__(self) -> None:
        positive_integer.check("batch_size", self.batch_size)
        positive_integer.check("block_size", self.block_size)
        non_negative_integer.check("bootstrap_samples", self.bootstrap_samples)
        non_negative_integer.check("rescore_top_k", self.rescore_top_k)
        check_choice("bank_method", self.bank_method, get_args(BankMethod))
        object.__setattr__(self, "rescore_top_k", self.rescore_top_k or None)

    def with_options(self, options: Mapping[str, Any]) -> "EvaluationSettings":
        """Returns the settings with some fields replaced.

        Args:
            options (`Mapping`): new values by field.

        Raises:
            ValueError: if there is no such field.

        >>> EvaluationSettings().with_options({"batch_size": 8}).batch_size
        8
        """
        known = [field.name for field in fields(self)]
        for name in options:
            if name not in known:
                raise ValueError(f"unknown argument {name!r} of RetrievalEvaluator; {did_you_mean(name, known)}")
        return replace(self, **options)
