"""Fixtures of the page's tests: a page in a process of its own, started once."""

import signal
import socket
from pathlib import Path
from typing import NamedTuple

import pytest
from datasets import Dataset
from run_forked import Forked, run_script

from class_hf import MoleculeIndex

RECIPES = Path(__file__).parents[2] / "recipes"
NASTY = '<img src=x onerror="window.hacked=1"> {{value}} ${value} {% raw %} </article>'


class Server(NamedTuple):
    """A running page."""

    address: str
    process: Forked


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
    pytest.importorskip("gradio", reason="needs the extra `app`")
    nasty = tmp_path_factory.mktemp("nasty") / "nasty"
    table = Dataset.from_dict({"id": ["x"], "smiles": ["CCO"], "description": [NASTY]})
    MoleculeIndex.build(table, indexed_model, processor, nasty)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--index", index_folder, nasty, "--model", saved, "--port", port]
    process = Forked(run_script, RECIPES / "app.py", *arguments)
    process.wait_for("http")
    _running.append(Server(f"http://127.0.0.1:{port}/", process))
    request.config.add_cleanup(lambda: (process.kill(signal.SIGTERM), process.end()))
    return _running[0]


@pytest.fixture(scope="session")
def address(server):
    return server.address
