"""`index.json` of an index in a folder: its settings, and the sizes and checksums of its files."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from class_hf.search.stores.opening import check_format
from class_hf.utils.files import file_digest, write_text
from class_hf.utils.json_text import JsonValue

CONFIG = "index.json"
LOCK = ".lock"  # held while the index is changed
# 2: the files are in a subfolder, because the index was changed after it was built.
FORMAT = 2
# Files up to this many bytes are compared with their checksum before their first use, which takes about 30 ms each.
# Larger files are compared by `verify`.
CHECKED_BEFORE_USE = 32 << 20

_DATA = "data-"
# A file or one in a subfolder, and no path that leads out of the folder.
_FILE = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

_TYPES: dict[str, tuple[type, ...]] = {
    "class_hf_version": (str,),
    "dimension": (int,),
    "molecules": (int,),
    "captions": (int,),
    "exact_up_to": (int,),
    "query_bank": (dict, type(None)),
    "model": (str, type(None)),
    "revision": (str, type(None)),
    "probes": (dict,),
}
# Settings that indexes of earlier versions lack.
_OPTIONAL_TYPES: dict[str, tuple[type, ...]] = {
    "oversampling": (int,),
    "changes": (int,),
    "columns": (dict,),
    "model_digest": (str, type(None)),
}


class Manifest:
    """The settings of an index, and its list of files.

    Args:
        folder: folder of the index.
        config (`dict`): settings of the index.
        files (`dict` or `None`): size and digest of each file, by its name in the data folder. None for an index that
            was written before checksums were.
        data (`str`): the subfolder with the files, `"."` for the folder itself.
    """

    def __init__(self, folder: Path, config: dict[str, Any], files: dict[str, Any] | None, data: str = "."):
        self.folder, self.config, self.files = folder, config, files
        self.data_name = data
        self.data = folder / data
        self._checked: set[str] = set()

    @classmethod
    def read(cls, folder: str | Path) -> "Manifest":
        """Reads and checks `index.json`.

        Raises:
            ValueError: If there is none, if it is damaged, or if a later version wrote it.
        """
        folder = Path(folder)
        path = folder / CONFIG
        if not path.is_file():
            raise ValueError(f"{str(folder)!r} holds no index (no {CONFIG}).")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"the file {str(path)!r} is damaged: it is not valid JSON. Build the index again."
            ) from error
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise ValueError(f"the file {str(path)!r} is damaged: it has no format. Build the index again.")
        check_format(str(folder), content["format"], FORMAT, str(content.get("class_hf_version")))
        checksum, files, data = content.pop("checksum", None), content.get("files"), content.get("data", ".")
        if (checksum is None) != (files is None) or (checksum is not None and checksum != _digest(content)):
            raise ValueError(f"the file {str(path)!r} is damaged: its checksum differs. Build the index again.")
        if not isinstance(data, str) or not re.fullmatch(rf"\.|{_DATA}\d+", data):
            raise ValueError(f"the file {str(path)!r} is damaged: data is {data!r}. Build the index again.")
        if files is not None and not _is_listing(files):
            raise ValueError(
                f"the file {str(path)!r} is damaged: its list of files is invalid. Build the index again."
            )
        config = {name: value for name, value in content.items() if name not in ("format", "files", "data")}
        present = {name: types for name, types in _OPTIONAL_TYPES.items() if name in config}
        for name, types in (_TYPES | present).items():
            value = config.get(name)
            if (name not in config) or isinstance(value, bool) or not isinstance(value, types):
                raise ValueError(f"the file {str(path)!r} is damaged: {name} is {value!r}. Build the index again.")
        if config["molecules"] < 1 or config["captions"] < 0 or config["dimension"] < 1:
            raise ValueError(f"the file {str(path)!r} is damaged: its counts are out of range. Build the index again.")
        return cls(folder, config, files, data)

    def write(self) -> None:
        """Lists the files of the data folder with their digests, and writes `index.json` as the last file."""
        ours = (self.folder / CONFIG, self.folder / LOCK)
        paths = sorted(path for path in self.data.rglob("*") if path.is_file() and path not in ours)
        self.files = {
            path.relative_to(self.data).as_posix(): {"size": path.stat().st_size, "sha256": file_digest(path)}
            for path in paths
        }
        content = {"format": 1 if self.data_name == "." else FORMAT, **self.config, "files": self.files}
        if self.data_name != ".":
            content["data"] = self.data_name
        write_text(
            self.folder / CONFIG,
            json.dumps({**content, "checksum": _digest(content)}, indent=2, ensure_ascii=False) + "\n",
        )

    def check_sizes(self) -> None:
        """Checks that all files are there and have their sizes.

        Raises:
            ValueError: If one differs.
        """
        for name, expected in (self.files or {}).items():
            path = self.data / name
            if not path.is_file():
                raise ValueError(f"the file {str(path)!r} is missing. Build the index again.")
            if path.stat().st_size != expected["size"]:
                raise ValueError(
                    f"the file {str(path)!r} is damaged: it has {path.stat().st_size:,} bytes; expected "
                    f"{expected['size']:,}. Build the index again."
                )

    def check_content(self, name: str, content: Any = None) -> None:
        """Compares a small file with its checksum, once.

        Args:
            name (`str`): name of the file in the data folder.
            content (buffer, *optional*): the mapped file. Default: the file is read.

        Raises:
            ValueError: If the file differs.
        """
        expected = (self.files or {}).get(name)
        if expected is None or expected["size"] > CHECKED_BEFORE_USE or name in self._checked:
            return
        digest = file_digest(self.data / name) if content is None else hashlib.sha256(content).hexdigest()
        if digest != expected["sha256"]:
            raise ValueError(
                f"the file {str(self.data / name)!r} is damaged: its checksum differs. Build the index again."
            )
        self._checked.add(name)

    def next_data_name(self) -> str:
        """The name of a new data folder."""
        number = 0 if self.data_name == "." else int(self.data_name.removeprefix(_DATA))
        return f"{_DATA}{number + 1}"

    def remove_files(self) -> None:
        """Removes the data folder, or the files of the list in the folder of the index."""
        if self.data_name != ".":
            shutil.rmtree(self.data, ignore_errors=True)
            return
        for name in self.files or [path.name for path in self.data.glob("*.npy")]:
            (self.data / name).unlink(missing_ok=True)
        shutil.rmtree(self.data / "table", ignore_errors=True)

    def remove_other_data(self) -> None:
        """Removes the data that changes of killed processes left: data folders, and files of a new index."""
        if self.data_name != ".":
            for name in self.files or ():
                (self.folder / name).unlink(missing_ok=True)
            shutil.rmtree(self.folder / "table", ignore_errors=True)
        for path in self.folder.glob(f"{_DATA}*"):
            if path.name != self.data_name and path.name.removeprefix(_DATA).isdigit():
                shutil.rmtree(path, ignore_errors=True)

    def faults(self) -> list[str]:
        """Compares all files with their checksums. Returns one line for each file that differs."""
        faults = []
        for name, expected in (self.files or {}).items():
            path = self.data / name
            if not path.is_file():
                faults.append(f"{name} is missing")
            elif path.stat().st_size != expected["size"]:
                faults.append(f"{name} has {path.stat().st_size:,} bytes; expected {expected['size']:,}")
            elif file_digest(path) != expected["sha256"]:
                faults.append(f"the checksum of {name} differs")
        return faults


def _is_listing(files: Any) -> bool:
    """Whether a value lists files inside of the data folder. A change of the index removes these files."""
    return isinstance(files, dict) and all(
        _FILE.fullmatch(name)
        and isinstance(entry, dict)
        and type(entry.get("size")) is int
        and isinstance(entry.get("sha256"), str)
        for name, entry in files.items()
    )


def _digest(content: dict[str, JsonValue]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
