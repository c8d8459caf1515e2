"""Object storage by URL, on a server that speaks S3's protocol: a table, its encoding, and an index in LanceDB."""

import urllib.request

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.shards.indexing import index_vectors
from class_hf.shards.run import EncodeSettings, encode_table

TEXT = "The molecule is a carboxylic acid."


@pytest.fixture
def bucket(monkeypatch):
    """The URL of an empty bucket, in a server of this process."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    server = pytest.importorskip("moto.server", reason="needs moto[server], a server with S3's protocol")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",  # of LanceDB
    }.items():
        monkeypatch.setenv(name, value)
    request = urllib.request.Request(f"http://{host}:{port}/chemistry", method="PUT")
    urllib.request.urlopen(request).close()
    fsspec.filesystem("s3").clear_instance_cache()
    yield "s3://chemistry"
    fsspec.filesystem("s3").clear_instance_cache()
    running.stop()


def test_table_encoding_and_index(pairs, saved_model, bucket, tmp_path):
    columns = {name: pairs[name][:] for name in ("id", "smiles")} | {"price": list(range(24))}
    system = fsspec.filesystem("s3")
    for number in range(2):
        part = pa.table({name: values[12 * number : 12 * (number + 1)] for name, values in columns.items()})
        pq.write_table(part, tmp_path / f"{number}.parquet")
        system.put_file(str(tmp_path / f"{number}.parquet"), f"{bucket}/catalogue/{number}.parquet")
    settings = EncodeSettings(shard_size=9)
    model, location = str(saved_model), f"lance:{bucket}/index"
    encode_table(f"{bucket}/catalogue/*.parquet", model, f"{bucket}/encoded", settings)
    encode_table(f"{tmp_path}/*.parquet", model, tmp_path / "encoded", settings)
    names = [f"part-{number:07d}.parquet" for number in range(3)]
    for name in names:
        assert system.cat_file(f"{bucket}/encoded/{name}") == (tmp_path / "encoded" / name).read_bytes()
    system.rm(f"{bucket}/encoded/{names[1]}")
    assert encode_table(f"{bucket}/catalogue/*.parquet", model, f"{bucket}/encoded", settings).encoded == 1

    pytest.importorskip("lancedb", reason="needs the extra `lance`")
    index_vectors(f"{bucket}/encoded", store=location)
    with MoleculeIndex.load(location, model) as index:
        index.delete([columns["id"][0]])
        index.add(pairs.select([0]).select_columns(["id", "smiles"]).add_column("price", [0]))
    expected = index_vectors(str(tmp_path / "encoded"), tmp_path / "index")
    with MoleculeIndex.load(location, model) as index:
        assert len(index) == index.store.count() == 24
        for filters in (None, MoleculeFilter(where="price > 5"), MoleculeFilter(substructure="CO")):
            found, hits = (some.search(TEXT, k=24, filters=filters) for some in (index, expected))
            assert [(hit.id, hit.fields) for hit in found] == [(hit.id, hit.fields) for hit in hits]
