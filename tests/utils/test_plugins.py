"""Objects named as package.module:Name are loaded, and each mistake has one line that says what to do."""

import sys
from pathlib import Path

import pytest

from class_hf.utils.plugins import code_digest, is_object_path, load_object


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's with a class, and modules that cannot be imported."""
    (tmp_path / "users_module.py").write_text("class Length:\n    @classmethod\n    def fit(cls): ...\n")
    (tmp_path / "module_with_missing_import.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / "module_with_error.py").write_text("raise RuntimeError('two\\nlines')\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_objects_and_their_attributes_are_loaded(module):
    assert load_object("users_module:Length").__name__ == "Length"
    assert load_object("users_module:Length.fit").__name__ == "fit"


def test_the_digest_of_code_follows_the_file(module):
    before = code_digest("users_module:Length")
    assert before == code_digest(["alignment", "users_module:Length"]) == code_digest(["users_module:Length.fit"])
    assert code_digest("sys:path") and code_digest("alignment") == code_digest([]) == ""
    Path(sys.modules["users_module"].__file__).write_text("class Length: ...\n")
    assert code_digest("users_module:Length") != before


def test_a_module_of_the_current_folder_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "module_of_this_folder.py").write_text("class Length: ...\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    assert load_object("module_of_this_folder:Length").__name__ == "Length"
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("users_module", "expected package.module:Name"),
        ("users_module:", "expected package.module:Name"),
        (":Length", "expected package.module:Name"),
        ("users module:Length", "expected package.module:Name"),
        ("no_such_module:Length", "there is no module 'no_such_module'. Install it, or run in its folder"),
        ("users_module.sub:Length", "there is no module"),
        ("module_with_missing_import:Length", "there is no module 'a_package_that_nobody_has'. module_with_missing"),
        ("module_with_error:Length", "importing module_with_error raised RuntimeError: two lines. Check that module"),
        ("users_module:Lenght", "has no 'Lenght'; did you mean 'Length'"),
        ("users_module:something_else", "has no 'something_else'; check the name after the colon"),
    ],
)
def test_mistakes_have_one_line(module, path, message):
    with pytest.raises((ValueError, ImportError), match=message) as caught:
        load_object(path)
    assert "\n" not in str(caught.value)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("name", ["alignment", "http://localhost:6333", "C:\\models", "a:b c", ""])
def test_other_names_are_no_paths(name):
    assert not is_object_path(name)
