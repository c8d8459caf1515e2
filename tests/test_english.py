"""No text of the project uses words that readers stumble over. CONTRIBUTING.md says how texts are written."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENDINGS = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".cff", ".ipynb"}

# Each word with what to write in its place.
BANNED = {
    r"anew": "again, or: once more",
    r"mend(s|ed|ing)?": "repair, fix, correct",
    r"beside": "next to, with, compared with",
    r"reckon(s|ed|ing)?": "compute, count",
    r"dear": "expensive",
    r"as ever": "as always, or nothing",
    r"deals?|dealt|dealing": "draw, split, distribute",
    r"begun": "started",
    r"at hand": "available",
    r"by itself": "automatically, alone",
    r"told apart": "distinguished",
}

# (path, text that holds the word): texts that are not ours to change, or that name a word on purpose.
EXCEPTIONS = {
    ("tests/test_english.py", ""),
}
# Code that a released version wrote, numbers of earlier runs, and files of other people.
OUTSIDE = ("tests/fixtures/", "benchmarks/results/", "src/class_hf/static/", "src/class_hf/page/static/")


def texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:  # an archive without git
        paths = [path for path in ROOT.rglob("*") if ".venv" not in path.parts]
    return [path for path in paths if path.suffix in ENDINGS and path.is_file()]


def test_no_banned_words():
    pattern = re.compile(r"\b(" + "|".join(f"(?:{word})" for word in BANNED) + r")\b", re.IGNORECASE)
    found = []
    for path in texts():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(OUTSIDE) or (name, "") in EXCEPTIONS:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            excepted = any(place == name and text in line for place, text in EXCEPTIONS)
            match = None if excepted else pattern.search(line.replace("_", " "))
            if match:
                found.append(f"{name}:{number}: {match[0]!r} in {line.strip()[:100]}")
    assert not found, "\n".join(["rewrite these sentences:", *found])
