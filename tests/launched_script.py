"""What a launcher starts in `run_forked.run_launched`: it waits for the fork that does the work in its environment."""

import json
import os
import sys
import time
from pathlib import Path


def main(folder: str) -> None:
    """Writes the environment of this process, waits, and prints and ends as the fork did."""
    path = Path(folder, os.environ.get("RANK", "0"))
    path.with_suffix(".part").write_text(json.dumps(dict(os.environ)))
    path.with_suffix(".part").rename(path.with_suffix(".environment"))
    while not path.with_suffix(".finished").exists():
        time.sleep(0.02)
    status, printed, errors = json.loads(path.with_suffix(".finished").read_text())
    sys.stdout.write(printed)
    sys.stderr.write(errors)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
