"""Text and metadata that are safe in a card, wherever they come from."""

import html
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$^])")


def plain(text: Any) -> str:
    """Escapes a text for Markdown, so that it appears as it is: no markup, no HTML, no line break.

    Args:
        text: any value, such as the name of a data set.

    >>> plain("<b>my*set</b>")
    '&lt;b&gt;my\\\\*set&lt;/b&gt;'
    """
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def code(text: Any) -> str:
    """Writes a text as inline code.

    Args:
        text: any value.

    >>> code("a`b")
    '`` a`b ``'
    """
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}"


def code_block(text: str, language: str = "bash") -> str:
    """Writes a text as a block of code, whatever backticks it contains.

    Args:
        text (`str`): the text.
        language (`str`, *optional*, defaults to `"bash"`): language of the block.

    >>> print(code_block("class-hf train"))
    ```bash
    class-hf train
    ```
    """
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def hub_ids(names: Iterable[Any]) -> list[str]:
    """Selects those names that are ids `ORG/NAME` of the Hub, since metadata must not hold other names.

    Args:
        names: names of models or data sets. Paths and names without an organisation are left out. Whether a folder has
            the same name is not asked: what was loaded is decided when it is loaded, not when the card is written.

    >>> hub_ids(["me/set", "ChEBI-20", "/home/me/set", "runs/me/set", "package:minilm", None])
    ['me/set']
    """
    ids = []
    for name in names:
        if not isinstance(name, str) or name.count("/") != 1:
            continue
        try:
            validate_repo_id(name)
        except HFValidationError:
            continue
        ids.append(name)
    return ids


def license_fields(name: str) -> dict[str, Any]:
    """Writes a licence as the Hub's metadata needs it.

    Args:
        name (`str`): an identifier of the Hub such as `apache-2.0`, or the name of another licence.

    >>> license_fields("Apache-2.0"), license_fields("My own licence")
    ({'license': 'apache-2.0'}, {'license': 'other', 'license_name': 'my-own-licence'})
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", name):
        return {"license": name.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.+-]+", "-", name.lower()).strip("-")}


def template(name: str) -> str:
    """Reads a template of a card.

    Args:
        name (`str`): its file in `hub/templates`.
    """
    return (files("class_hf") / "hub" / "templates" / name).read_text(encoding="utf-8")
