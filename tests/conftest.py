"""The environment and the hooks of the tests. The fixtures are in `shared_fixtures.py`."""

import atexit
import gc
import importlib
import importlib.util
import os
import shutil
import signal
import tempfile

import pytest

# Before any import of the libraries that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
# The workers of pytest-xdist and the processes that a test starts share what is built once, such as the demo pairs.
if "CLASS_HF_TESTS_CACHE" not in os.environ:
    os.environ["CLASS_HF_TESTS_CACHE"] = tempfile.mkdtemp(prefix="class_hf_tests_")
    atexit.register(shutil.rmtree, os.environ["CLASS_HF_TESTS_CACHE"], ignore_errors=True)
os.environ["HF_DATASETS_CACHE"] = os.environ["CLASS_HF_TESTS_CACHE"]
# transformers writes the modules of a model without a lock.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="modules_", dir=os.environ["CLASS_HF_TESTS_CACHE"])
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# A shell starts jobs in the background with this signal ignored, and child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples in docstrings that need an extra, with its packages.
_EXAMPLES_WITH_EXTRAS = {
    "class_hf.models.trivial_names.look_up": ("chemicals",),
    "class_hf.models.chemical_names.read_names": ("chemicals", "py2opsin"),
    "class_hf.search.vector_search.measure_code_recall": ("faiss",),
}


def __getattr__(name):
    """What test files import from here, such as `tiny_model`."""
    if name.startswith(("_", "pytest", "collect_")):  # pytest asks for these
        raise AttributeError(name)
    return getattr(importlib.import_module("shared_fixtures"), name)


def pytest_configure(config):
    """Registers the fixtures, for the doctests too, which lie in another folder.

    The process of `pytest -n 2` runs no test. Its workers start after this, so it does not spend seconds on imports.
    """
    has_workers = getattr(config.option, "dist", "no") != "no" and not config.option.collectonly
    if has_workers and not hasattr(config, "workerinput"):
        return
    for name in ("process_state", "shared_fixtures"):
        config.pluginmanager.register(importlib.import_module(name))


def pytest_collection_modifyitems(items):
    """Puts slow tests first, so that no worker waits for one at the end. Skips examples without what they need."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        needed = _EXAMPLES_WITH_EXTRAS.get(item.name, ())
        missing = [package for package in needed if importlib.util.find_spec(package) is None]
        if "py2opsin" in needed and shutil.which("java") is None:
            missing.append("Java")
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}: an extra"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker takes tests that lie together, which share a module's fixtures, and helps another one at the end."""
    if config.option.dist == "load":  # the default of -n
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)


def freeze_objects():
    """Frees garbage, and takes the other objects out of later collections.

    Each training collects garbage. With the objects of the imports, of the collection of tests and of earlier test
    files, that would take longer than a tiny training itself.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish():
    freeze_objects()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    if nextitem is None or nextitem.path != item.path:
        freeze_objects()
