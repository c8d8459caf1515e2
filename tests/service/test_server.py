"""The server as a process: it answers what it has accepted before SIGTERM, and ends with status 0."""

import json
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from recipe_scripts import load_recipe_script
from run_forked import Forked, run_script

pytest.importorskip("fastapi", reason="needs the extra `serve`")
httpx = pytest.importorskip("httpx2", reason="needs the extra `test`")

RECIPE = Path(__file__).parents[2] / "recipes" / "serve.py"


@pytest.fixture
def recipe():
    return load_recipe_script("serve")


def test_sigterm_under_load_answers_what_was_accepted(index_folder, saved_model, tmp_path):
    process = Forked(run_script, RECIPE, "--index", index_folder, "--model", saved_model, "--port", "0", cwd=tmp_path)
    try:
        process.wait_for(" at http://")
        address = re.search(r"at (http://127\.0\.0\.1:\d+) ", process.printed())[1]
        statuses, broken, stopping = [], [], threading.Event()

        def load():
            # A new connection each time: a request on an idle connection can meet its end, whatever the server does.
            while not stopping.is_set():
                try:
                    body = {"text": ["a carboxylic acid", "a thiol"] * 20, "k": 5}
                    statuses.append(
                        (httpx.post(f"{address}/v1/search", json=body, timeout=30).status_code, time.time())
                    )
                except httpx.ConnectError:
                    return  # nobody listens any more
                except httpx.TransportError as error:
                    broken.append((time.time(), repr(error)))
                    return

        for _ in range(100):
            try:
                assert httpx.get(f"{address}/health").status_code == 200
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        while len(statuses) < 20:
            time.sleep(0.01)
        signalled = time.time()
        process.kill(signal.SIGTERM)
        done = process.end(seconds=30)
        assert done.returncode == 0, done.stderr
        stopping.set()
        for thread in threads:
            thread.join()
    finally:
        process.kill()
    assert {status for status, _ in statuses} == {200}
    assert [moment for _, moment in statuses if moment > signalled], "no open request was answered"
    # A connection that the system had accepted and the server had not yet seen is reset.
    assert all(moment >= signalled for moment, _ in broken), broken
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert len([line for line in lines if line["route"] == "/v1/search" and line["queries"] == 40]) == len(statuses)


def test_a_wrong_address_index_or_token_is_one_line(recipe, index_folder, tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(
            OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use. Choose another"
        ):
            recipe.main(["--index", str(index_folder), "--port", port])
    with pytest.raises(ValueError, match="holds no index"):
        recipe.main(["--index", str(tmp_path), "--port", "0"])
    monkeypatch.setenv("CLASS_HF_SERVICE_TOKEN", "")
    with pytest.raises(ValueError, match="CLASS_HF_SERVICE_TOKEN is set to an empty"):
        recipe.main(["--index", str(index_folder)])


def test_a_missing_extra_is_named(recipe, monkeypatch, index_folder):
    monkeypatch.setattr("class_hf.service.server.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "class-hf\[serve\]"'):
        recipe.main(["--index", str(index_folder)])
