"""Reads the YAML files of users: recipes and studies."""

from pathlib import Path
from typing import Any

import yaml

from class_hf.utils.messages import one_line

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 10_000  # with each alias counted as often as it is used


def read_mapping(path: str | Path, kind: str = "the file") -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    A file is data of a user, so it is checked before it is built: a key that appears twice would silently lose its
    first value, and a few lines of nested aliases can expand to gigabytes.

    Args:
        path: the file, UTF-8.
        kind: what the file is, for errors, such as `"the recipe"`.

    Returns:
        The mapping.

    Raises:
        ValueError: in one line with the file and, where there is one, the line: if the file does not exist, is larger
            than 1 MB, is not valid YAML, holds no mapping, repeats a key, nests deeper than 20 levels or has more than
            10,000 values.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "recipe.yaml")
    >>> _ = file.write_text("seed: 1\\nlearning_rate: 2.0e-3\\n")
    >>> read_mapping(file)
    {'seed': 1, 'learning_rate': 0.002}
    """
    path = Path(path)
    where = f"{kind} {str(path)!r}"
    if not path.exists():
        raise ValueError(f"{where} does not exist.")
    if not path.is_file():
        raise ValueError(f"{where} is not a file.")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{where} has {path.stat().st_size:,} bytes; expected at most {MAX_BYTES:,}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    try:
        values = _construct(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{where}{line}: not valid YAML: {_reason(error.problem or error.context)}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not valid YAML: {_reason(getattr(error, 'reason', error))}") from error
    except (ValueError, OverflowError) as error:
        # A value that looks like a date or a number and is none, such as 2024-13-01.
        raise ValueError(f"{where} has a value that YAML cannot read: {_reason(error)}. Quote it.") from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise ValueError(f"{where} must be a mapping of names to values; it holds {found}.")
    return values


def _reason(error: Any) -> str:
    """What the YAML library says, in one line without the full stop."""
    return one_line(error).rstrip(".")


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses repeated keys and nesting without end."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _error(f"values are nested deeper than {MAX_DEPTH} levels", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in seen:
                raise _error(f"the key {key.value!r} is already on line {seen[name]}; remove one", key.start_mark)
            seen[name] = line
        return node


def _construct(text: str) -> Any:
    """The value of a YAML document, None for an empty one."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Number of values below a node, aliases expanded; `counts` remembers it by the identity of the node."""
    if id(node) in counts:
        if counts[id(node)] == 0:  # set, and not yet counted: the node holds itself
            raise _error("an alias refers to a value that contains it", node.start_mark)
        return counts[id(node)]
    counts[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    total = 1 + sum(_count_values(child, counts) for child in children)
    if total > MAX_VALUES:
        raise _error(f"there are more than {MAX_VALUES:,} values, aliases expanded", node.start_mark)
    counts[id(node)] = total
    return total


def _error(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(problem=problem, problem_mark=mark)
