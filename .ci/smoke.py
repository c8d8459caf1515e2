"""A smoke test of the installed wheel without extras: import, train the demo, search, load a model that carries code.

    python .ci/smoke.py

It runs in a temporary folder, so that nothing of the checkout is imported.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FIXTURE = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "saved_by_0_1_0" / "graph_with_code"

LOAD = """
import sys
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
print(tuple(model(**processor(text="an alcohol", smiles=["CCO", "CC"])).molecule_embeds.shape))
"""


def run(folder: str, *command: str) -> str:
    """Runs a command in the folder and returns what it prints; an error ends the smoke test."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": f"{folder}/home"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        installed = run(folder, sys.executable, "-c", "import class_hf; print(class_hf.__file__)").strip()
        assert "site-packages" in installed, f"class_hf comes from {installed}, not from the wheel"
        console = str(Path(sys.executable).with_name("class-hf"))
        run(folder, console, "--version")
        run(folder, console, "train", "demo", "--num_train_epochs", "2", "--output_dir", "model")
        run(folder, console, "index", "--model", "model", "--demo", "--output_dir", "index")
        hits = run(folder, console, "search", "an aromatic amine", "--index", "index", "--k", "3")
        assert len(hits.splitlines()) >= 4, hits
        assert run(folder, sys.executable, "-c", LOAD, str(FIXTURE)).strip() == "(2, 8)"
    print("the wheel works without extras")


if __name__ == "__main__":
    main()
