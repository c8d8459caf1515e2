"""PostgreSQL: SIGKILL of the client, and of its process in the server, while an encoding is loaded by COPY.

CLASS_HF_LONG_TESTS=1 kills each at 10 moments in place of 1.
"""

import os
import random
import signal
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_forked import Forked

from class_hf import MoleculeIndex
from class_hf.search.building import IndexSettings
from class_hf.shards.indexing import index_vectors
from class_hf.shards.run import EncodeSettings, encode_table

MOMENTS = 10 if os.environ.get("CLASS_HF_LONG_TESTS") else 1
ROWS = 2_000
TEXT = "The molecule is a carboxylic acid."


@pytest.fixture(scope="module")
def encoding(saved_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("load")
    smiles = ["C" * (row % 30 + 1) + "O" for row in range(ROWS)]
    pq.write_table(pa.table({"id": [f"m{row}" for row in range(ROWS)], "smiles": smiles}), folder / "t.parquet")
    encode_table(folder / "t.parquet", str(saved_model), folder / "encoded", EncodeSettings(shard_size=500))
    return str(folder / "encoded")


def load(encoding, location):
    """`class-hf index --vectors ENCODING --store LOCATION`, with a graph."""
    print("ready")
    index_vectors(encoding, store=location, settings=IndexSettings(exact_up_to=1_000)).close()
    print("loaded")


def connection_to(server):
    import psycopg

    parameters = {"host": str(server.folder), "user": "postgres", "dbname": "postgres"}
    for _ in range(600):
        try:
            return psycopg.connect(**parameters, autocommit=True)
        except psycopg.OperationalError:  # the server recovers
            time.sleep(0.1)
    raise AssertionError("the server does not come back")


@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_killed_load_leaves_all_rows_or_none(victim, encoding, saved_model, postgres_server):
    generator = random.Random(victim)
    # With many moments, a load is timed first, so that they cover it on a slow machine too.
    seconds = 0.3 if MOMENTS == 1 else None
    for moment in range(0 if MOMENTS == 1 else -1, MOMENTS):
        location = postgres_server.location(f"load_{victim}_{moment + 1}")
        process = Forked(load, encoding, location)
        process.wait_for("ready")
        began = time.monotonic()
        if seconds is None:
            process.wait_for("loaded")
            seconds = time.monotonic() - began
        else:
            time.sleep(generator.uniform(0, seconds))
            if victim == "client":
                process.kill()
            else:
                kill_backend(postgres_server)
        ended = process.end()
        assert ended.returncode in ((0, -signal.SIGKILL) if victim == "client" else (0, 1)), ended.stderr
        if ended.returncode == 1:
            assert "ValueError: PostgreSQL at" in ended.stderr.splitlines()[-1]
        table = location.split("?")[0].split("/")[-1]
        with connection_to(postgres_server) as connection:
            committed = connection.execute("SELECT to_regclass(%s)", [table]).fetchone()[0] is not None
            assert committed == ("loaded" in ended.stdout) or victim == "client"
            rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] if committed else 0
        if moment >= 0:
            print(f"{victim} killed: {rows} rows committed")
        assert rows == ROWS * committed
        if not committed:
            with pytest.raises(ValueError, match="there is no complete index"):
                MoleculeIndex.load(location)
            load(encoding, location)
        with MoleculeIndex.load(location, str(saved_model)) as index:
            assert index.store.count() == len(index) == len(index.search(TEXT, k=ROWS)) == ROWS


def kill_backend(server):
    """Ends the server's process of the load by SIGKILL. The server then ends the others, and recovers."""
    with connection_to(server) as connection:
        statement = (
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        for (process,) in connection.execute(statement).fetchall():
            os.kill(process, signal.SIGKILL)
