"""Models saved by 0.1.0 load with this package and with their own code, and return the same vectors."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor

SAVED = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"
EXPECTED = json.loads((SAVED / "vectors.json").read_text())


@pytest.mark.parametrize("name", ["lexical_fingerprint", "graph_with_code"])
def test_with_the_package(name):
    model = AutoModel.from_pretrained(SAVED / name).eval()
    processor = AutoProcessor.from_pretrained(SAVED / name)
    with torch.no_grad():
        outputs = model(**processor(text=EXPECTED["captions"], smiles=EXPECTED["smiles"]))
    assert type(model).__module__.startswith("class_hf.")
    for side in ("text_embeds", "molecule_embeds"):
        np.testing.assert_allclose(outputs[side].numpy(), EXPECTED[name][side], atol=1e-6)


WITHOUT_PACKAGE = """
import json, sys
sys.modules["class_hf"] = None  # as if it were not installed
import torch
from transformers import AutoModel, AutoProcessor

folder, expected = sys.argv[1], json.load(open(sys.argv[2]))
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
with torch.no_grad():
    outputs = model(**processor(text=expected["captions"], smiles=expected["smiles"]))
print(json.dumps({side: outputs[side].tolist() for side in ("text_embeds", "molecule_embeds")}))
"""


def test_with_its_own_code():
    command = [sys.executable, "-c", WITHOUT_PACKAGE, str(SAVED / "graph_with_code"), str(SAVED / "vectors.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for side, values in json.loads(done.stdout.splitlines()[-1]).items():
        np.testing.assert_allclose(values, EXPECTED["graph_with_code"][side], atol=1e-6)
