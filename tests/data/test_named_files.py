"""Names of files that are relative to the folder of the data or to the current folder."""

from pathlib import Path

import pytest

from class_hf.data.caption_files import read_captions
from class_hf.data.named_files import find_named_file


def test_a_name_is_relative_to_the_data_or_to_the_current_folder(tmp_path: Path, monkeypatch) -> None:
    data, here = tmp_path / "data", tmp_path / "here"
    for path in (
        data / "pairs.tsv",
        data / "of_data.txt",
        data / "sub" / "a.txt",
        data / "both.txt",
        here / "both.txt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("An acid.\n")
    (here / "of_here.txt").write_text("An ester.\n")
    monkeypatch.chdir(here)
    for source in (data, data / "pairs.tsv", "../data"):
        assert find_named_file("of_data.txt", source, "x").samefile(data / "of_data.txt")
        assert find_named_file(Path("sub/a.txt"), source, "x").samefile(data / "sub" / "a.txt")
        assert find_named_file("of_here.txt", source, "x").samefile(here / "of_here.txt")
        assert find_named_file(here / "both.txt", source, "x") == here / "both.txt"
        with pytest.raises(
            ValueError, match=r"x: the folder of the data \(.*data\) and the current folder both have a f"
        ):
            find_named_file("both.txt", source, "x")
        with pytest.raises(
            FileNotFoundError, match=r"'none' in the folder of the data \(.*data\) or in the current fol"
        ):
            find_named_file("none", source, "x")
    for source in (None, "an/id", here):  # no folder of data, or the current folder
        assert find_named_file("both.txt", source, "x").samefile(here / "both.txt")
    with pytest.raises(FileNotFoundError, match="x: there is no file '/none'. Correct the name."):
        find_named_file("/none", data, "x")
    assert read_captions(["of_data.txt", "of_here.txt"], data_dir=data) == ["An acid.", "An ester."]
    with pytest.raises(
        FileNotFoundError, match=r"bank_captions: there is no file 'of_data\.txt' in the current folder"
    ):
        read_captions(["of_data.txt"])
