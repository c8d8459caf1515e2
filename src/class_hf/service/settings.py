"""Limits and addresses of the service."""

import os
from dataclasses import dataclass

from class_hf.utils.numbers import positive, positive_integer

# The variable with the bearer token. A token on the command line would be in shell histories and process lists.
TOKEN_VARIABLE = "CLASS_HF_SERVICE_TOKEN"


@dataclass(frozen=True)
class ServiceSettings:
    """Limits of the service.

    Args:
        max_body (`int`, defaults to 1,000,000): bytes of a request. Larger ones get the status 413.
        max_queries (`int`, defaults to 256): queries, texts or molecules of a request. More get 422.
        max_k (`int`, defaults to 1,000): hits of a query. More get 422.
        max_hits (`int`, defaults to 10,000): hits of a request, that is k times its queries. More get 422.
        max_waiting (`int`, defaults to 1,024): queries that may wait. Requests beyond get 429.
        max_batch (`int`, defaults to 64): queries that are encoded together.
        time_limit (`float`, defaults to 30.0): seconds per request. Later ones get 503.
        substructure_time_limit (`float`, defaults to 10.0): seconds for matching the substructure of a query.

    Raises:
        ValueError: If a limit is not a number above 0.

    >>> ServiceSettings(max_k=0)
    Traceback (most recent call last):
    ValueError: max_k is 0; expected an integer of at least 1.
    """

    max_body: int = 1_000_000
    max_queries: int = 256
    max_k: int = 1_000
    max_hits: int = 10_000
    max_waiting: int = 1_024
    max_batch: int = 64
    time_limit: float = 30.0
    substructure_time_limit: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            (positive if name.endswith("time_limit") else positive_integer).check(name, value)


def token_from_environment() -> str | None:
    """The bearer token that requests must carry. None if the variable is not set.

    Raises:
        ValueError: If the token is empty, or no HTTP header can carry it.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise ValueError(f"{TOKEN_VARIABLE} is set to an empty or unusable token; expected ASCII without spaces.")
    return token
