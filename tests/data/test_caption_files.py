"""Files with one caption in each line."""

from pathlib import Path

import pytest

from class_hf.data.caption_files import read_captions


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("CID\tdescription\n1\tAn acid.\n", r"captions.txt line 1 holds a tab; expected one caption in each line"),
        ("An acid.\n...\n", r"captions.txt line 2: the caption is '...'; expected a text with a letter or a digit"),
        ("word " * 4001, r"captions.txt line 1: the caption, 'word .*, has 20,004 characters"),
        ("", r"captions.txt: there is no caption"),
        ("Description\nAn acid.\n", "captions.txt line 1 is 'Description', the name of a column"),
        ("An acid.\nAn acid.\n", r"captions.txt: none of the 1 captions is new"),
    ],
)
def test_what_is_no_caption_is_located(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "captions.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_captions([path], leave_out=["An acid."])


def test_captions_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("An acid.\n An ester. \n")
    (tmp_path / "b.txt").write_bytes("An ester.\nAn \xe9tude.\n".encode("cp1252"))
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert read_captions(paths, encoding="cp1252") == ["An acid.", "An ester.", "An \xe9tude."]
    with pytest.raises(ValueError, match="b.txt line 2 is not UTF-8"):
        read_captions(paths)


def test_an_empty_file_and_a_table_hold_no_captions(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(ValueError, match=r"empty\.txt: there is no caption"):
        read_captions([tmp_path / "empty.txt"])
    for name in ("table.csv", "table.tsv.gz", "table.jsonl", "table.smi", "table.sdf"):
        (tmp_path / name).write_bytes(b'{"description": "An acid."}\n')
        with pytest.raises(ValueError, match=f"{name} is a table"):
            read_captions([tmp_path / name])
    (tmp_path / "parquet.txt").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"parquet\.txt is a table"):
        read_captions([tmp_path / "parquet.txt"])
