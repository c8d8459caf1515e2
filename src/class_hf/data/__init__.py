"""Data in: read, checked, prepared and collated. `exchange_captions` is loaded on first use."""

from typing import Any

__all__ = ["exchange_captions"]


def __getattr__(name: str) -> Any:
    if name == "exchange_captions":
        from class_hf.data.exchange import exchange_captions

        return exchange_captions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
