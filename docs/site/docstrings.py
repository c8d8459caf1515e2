"""Prepares docstrings for the site: [`Name`] and :class:`Name` become links if Name is public, otherwise code."""

import re
from pathlib import Path

import griffe

import class_hf

_NAMED = {name: f"class_hf.{module}.{name}" for module, names in class_hf._PUBLIC.items() for name in names}
_REFERENCE = re.compile(r"\[`~?([\w.]+)`\](?![\[(])|:(?:class|func|meth|mod|attr):`~?([\w.]+)`")
_TARGET = re.compile(r"\[([^\[\]]+)\]\[(class_hf\.[\w.]+)\]")
_PAGES = Path(__file__).parents[1] / "reference"
_ENTRIES = {
    entry for page in _PAGES.glob("*.md") for entry in re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.M)
}


def linked(text: str) -> str:
    """Returns the text with references as Markdown links.

    >>> linked("see [`load_demo`] and :meth:`~a.b.C.c`")
    'see [`load_demo`][class_hf.data.demo.dataset.load_demo] and `C.c`'
    >>> linked("[`load_demo`][class_hf.load_demo], [`f`][class_hf.not_in.the_reference]")
    '[`load_demo`][class_hf.data.demo.dataset.load_demo], `f`'
    """

    def link(match: re.Match) -> str:
        path = match[1] or match[2]
        name = path.removeprefix("class_hf.")
        last = name.rsplit(".", 1)[-1]
        if _NAMED.get(last, "").endswith(name):
            return f"[`{last}`][{_NAMED[last]}]"
        return f"`{'.'.join(name.split('.')[-2:]) if match[2] and name[:1].islower() else name}`"

    def target(match: re.Match) -> str:
        path = match[2]
        full = _NAMED.get(path.removeprefix("class_hf."), path)
        known = any(full == entry or full.startswith(f"{entry}.") for entry in _ENTRIES)
        return f"[{match[1]}][{full}]" if known else match[1]

    return _TARGET.sub(target, _REFERENCE.sub(link, text))


def fenced(text: str) -> str:
    """Returns the text with each doctest inside a code fence."""
    lines: list[str] = []
    inside = doctest = False
    for line in text.splitlines():
        inside ^= line.lstrip().startswith("```")
        starts = line.lstrip().startswith(">>>")
        if starts and not inside and not doctest:
            lines.append(line[: len(line) - len(line.lstrip())] + "```python")
            doctest = True
        elif doctest and not line.strip():
            lines.append("```")
            doctest = False
        lines.append(line)
    return "\n".join([*lines, "```"] if doctest else lines)


def split_arguments(text: str) -> str:
    """Splits each argument line `a, b: text` into one line per argument, so that each gets its type and default."""

    def split(match: re.Match) -> str:
        return "".join(f"{match[1]}{name}: {match[3]}" for name in match[2].split(", "))

    return re.sub(r"^( +)(\*{0,2}\w+(?:, \*{0,2}\w+)+): ((?:.*\n?)(?:\1 +.*\n?)*)", split, text, flags=re.MULTILINE)


class Docstrings(griffe.Extension):
    """Apply the functions above, and give configurations the signature that transformers generates."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        if obj.docstring is not None:
            text = fenced(linked(obj.docstring.value))
            head, arguments, tail = text.partition("Args:\n")
            section, blank, rest = tail.partition("\n\n")
            obj.docstring.value = head + arguments + split_arguments(section + "\n").rstrip("\n") + blank + rest

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        for module in pkg.modules["models"].modules.values():
            for cls in module.classes.values():
                if not cls.is_alias and any(str(base).endswith("Config") for base in cls.bases):
                    cls.set_member("__init__", signature(cls))


def signature(config: griffe.Class) -> griffe.Function:
    """Returns the `__init__` of a configuration: its annotated fields, by keyword."""
    parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)] + [
        griffe.Parameter(
            field.name, annotation=field.annotation, kind=griffe.ParameterKind.keyword_only, default=field.value
        )
        for field in config.attributes.values()
        if field.annotation
    ]
    return griffe.Function("__init__", parameters=griffe.Parameters(*parameters), parent=config, runtime=False)
