"""Randomly damaged files are read, or refused in one line; the seed is fixed."""

import gzip
import random

import datasets
import pytest
from datasets import Dataset
from rdkit import Chem

from class_hf.data.loading import load_pairs
from class_hf.data.molecule_tables import read_molecules

BLOCK = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")).split("\n", 1)[1]
FILES = {
    "a.csv": 'id,smiles,description\n1,CCO,"An, alcohol"\n2,CCN,an amine\n',
    "a.tsv": 'id\tsmiles\tdescription\n1\tCCO\tAn alcohol\n2\tCCN\t"a ""b"""\n',
    "a.txt": "smiles;text\nCCO;x\nCCN;y\n",
    "a.smi": "CCO a\nC[C@H](O)CC |&1:1| b\nCCN c\n",
    "a.sdf": f"a\n{BLOCK}>  <caption>\nAn alcohol\n\n$$$$\nb\n{BLOCK}$$$$\n",
    "a.jsonl": '{"id": 1, "smiles": "CCO", "text": "x"}\n{"id": 2, "smiles": "CCN", "text": "y"}\n',
}
PIECES = [
    *(b'"', b",", b"\t", b";", b"\n", b"\r", b"\r\n", b"\0", b"|", b"{", b"[", b"}", b"]", b"  ", b"id", b"smiles"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xb5", b"\xe2\x80\x8b", b"\x85", b"\xe2\x80\xa8", b"\x1f\x8b", b"PK\x03\x04"),
    *(b"$$$$\n", b"M  END\n", b">  <x>\n", b"V3000", b"999", b"sep=;\n", b"_x,", b"C1CC1" * 50),
]


def damage(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        place, kind = rng.randrange(len(data) + 1), rng.random()
        if kind < 0.5:
            data[place:place] = rng.choice(PIECES)
        elif kind < 0.75:
            del data[place : place + rng.randint(1, 8)]
        else:
            data[place : place + 1] = bytes([rng.randrange(256)])
    result = bytes(data)
    if rng.random() < 0.1:
        result = gzip.compress(result)
        result = result[: rng.randint(3, len(result))]
    return result


@pytest.mark.parametrize("name", [*FILES, "a.parquet"])
def test_damaged_files_are_read_or_refused(name, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / name
    if name == "a.parquet":
        Dataset.from_dict({"id": ["1"], "smiles": ["CCO"], "text": ["x"]}).to_parquet(path)
        content = path.read_bytes()
    else:
        content = FILES[name].encode()
    rng = random.Random(name)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(40):
        path.write_bytes(damage(content, rng))
        for reader in (read_molecules, load_pairs):
            for on_error in ("raise", "drop"):
                try:
                    reader(path, on_error=on_error)
                    outcomes["read"] += 1
                except (ValueError, FileNotFoundError) as error:  # any other error fails the test
                    assert "\n" not in str(error) and len(str(error)) < 600, str(error)
                    outcomes["refused"] += 1
    assert outcomes["refused"] and (outcomes["read"] or name == "a.parquet")
