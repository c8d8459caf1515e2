"""A user's YAML file is read as it is written, or refused in one line."""

import time
import tracemalloc

import pytest

from class_hf.config.yaml_files import read_mapping

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CASES = {
    "repeated key": (b"a: 1\nb: 2\na: 3\n", "line 3: not valid YAML: the key 'a' is already on line 1; remove one"),
    "repeated inner key": (b"arms:\n  x: {s: 1}\n  x: {s: 2}\n", "line 3: .* the key 'x' is already on line 2"),
    "alias bomb": (BOMB.encode(), "more than 10,000 values, aliases expanded"),
    "alias of itself": (b"a: &a [*a]\n", "line 1: .* an alias refers to a value that contains it"),
    "deep and open": (b"a: " + b"[" * 100_000, "nested deeper than 20 levels"),
    "deep": (b"a: " + b"[" * 30 + b"]" * 30, "nested deeper than 20 levels"),
    "list": (b"- 1\n", "must be a mapping of names to values; it holds a list"),
    "empty": (b"", "it holds nothing"),
    "syntax": (b"a: [1\nb: 2", "line 2: not valid YAML: expected"),
    "tab": (b"a:\n\t- 1", "line 2: not valid YAML: found character"),
    "code": (b"a: !!python/object/apply:os.system [x]", "line 1: not valid YAML: could not determine a constructor"),
    "date": (b"a: 2024-13-01", "has a value that YAML cannot read: month must be in 1..12. Quote it."),
    "null byte": (b"a: \x00", "special characters are not allowed"),
    "large": (b"a: x\n" * 300_000, "has 1,500,000 bytes; expected at most 1,000,000"),
    "Latin-1": (b"a: \xe9\n", r"is not UTF-8 text \(byte 3\). Save it as UTF-8"),
    "two documents": (b"a: 1\n---\nb: 1\n", "line 2: .* another document"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line_with_little_time_and_memory(case, tmp_path):
    content, message = CASES[case]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(ValueError, match=message) as raised:
        read_mapping(path, "the recipe")
    assert time.process_time() - started < 5 and tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert str(raised.value).startswith(f"the recipe {str(path)!r}") and "\n" not in str(raised.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="the study '/no/such.yaml' does not exist."):
        read_mapping("/no/such.yaml", "the study")
    with pytest.raises(ValueError, match="is not a file"):
        read_mapping(tmp_path)


def test_what_is_valid(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: &a {x: 1}\nb:\n  <<: *a\n  x: 2\nc: *a\nrate: 1e-3\n1: one\n'1': text\n")
    assert read_mapping(path) == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 1}, "rate": "1e-3", 1: "one", "1": "text"}
