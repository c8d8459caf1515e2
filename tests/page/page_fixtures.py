"""Fixtures of the page's tests: a page in a process of its own, started once, and a browser."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from datasets import Dataset

from class_hf import MoleculeIndex

RECIPES = Path(__file__).parents[2] / "recipes"
NASTY = '<img src=x onerror="window.hacked=1"> {{value}} ${value} {% raw %} </article>'
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Server(NamedTuple):
    """A running page."""

    address: str
    log: Path
    process: subprocess.Popen


@pytest.fixture(scope="session")
def saved(saved_model):
    """The model of the index as a folder."""
    return saved_model


_running: list[Server] = []


@pytest.fixture(scope="session")
def server(request, saved, index_folder, indexed_model, processor, tmp_path_factory):
    """A page with two pools."""
    if _running:  # several test files import this fixture
        return _running[0]
    pytest.importorskip("gradio")
    nasty = tmp_path_factory.mktemp("nasty") / "nasty"
    table = Dataset.from_dict({"id": ["x"], "smiles": ["CCO"], "description": [NASTY]})
    MoleculeIndex.build(table, indexed_model, processor, nasty)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = nasty.parent / "log"
    arguments = ["--index", index_folder, nasty, "--model", saved, "--port", port]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", RECIPES / "app.py", *map(str, arguments)], stdout=output, stderr=output, text=True
        )
    for _ in range(600):
        if "http" in log.read_text() or process.poll() is not None:
            break
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            pass
    assert "http" in log.read_text(), log.read_text()
    _running.append(Server(f"http://127.0.0.1:{port}/", log, process))
    request.config.add_cleanup(lambda: (process.terminate(), process.wait()))
    return _running[0]


@pytest.fixture(scope="session")
def address(server):
    return server.address


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
