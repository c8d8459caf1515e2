"""PostgreSQL: the documented columns, SQL of a user's own, locations, passwords, servers that end, no cartridge."""

import itertools
import threading
from datetime import date, timedelta

import pytest
from postgres_server import has_cartridge

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.search.stores.base import check_store
from class_hf.search.stores.postgres import PostgresStore

TEXT = "The molecule is a carboxylic acid."
_numbers = itertools.count()


@pytest.fixture(scope="module")
def new_location(postgres_server):
    return lambda: postgres_server.location(f"own_{next(_numbers)}")


@pytest.fixture
def built(molecules, indexed_model, processor, new_location):
    with MoleculeIndex.build(molecules, indexed_model, processor, store=new_location()) as index:
        yield index


def table_of(location):
    return location.split("?")[0].split("/")[-1]


def rows(index, statement, *values):
    return index.store._connection.execute(statement.format(table=index.store._names.molecules.as_string()), values)


def test_the_documented_columns(built):
    found = rows(
        built,
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass"
        "(%s) AND attnum > 0",
        built.store._names.molecules.as_string(),
    )
    columns = dict(found)
    if has_cartridge():
        assert columns.pop("mol") == "mol"
    assert columns == {
        "number": "bigint",
        "id": "text",
        "smiles": "text",
        "description": "text",
        "number_of_table": "bigint",
        "weight": "double precision",
        "elements": "text[]",
        "embedding": "vector(8)",
    }


def test_the_search_of_the_documentation(built):
    if not has_cartridge():
        pytest.skip("PostgreSQL has no cartridge")
    query = built.encoder().embed_queries("text", [TEXT])[0]
    statement = "SELECT id FROM {table} WHERE mol @> %s::qmol ORDER BY embedding <=> %s LIMIT 5"
    found = [row[0] for row in rows(built, statement, "[CX4][OX2H]", query)]
    hits = built.search(TEXT, k=5, filters=MoleculeFilter(substructure="[CX4][OX2H]"))
    assert found == [hit.id for hit in hits] and len(found) == 5


def test_a_password_is_neither_stored_nor_printed(molecules, indexed_model, processor, new_location, caplog):
    store = new_location().replace("postgres@", "postgres:s3cret@") + "&password=s3cret"
    with MoleculeIndex.build(molecules, indexed_model, processor, store=store) as index:
        settings = index.store._names.settings.as_string()
        assert "s3cret" not in str(rows(index, f"SELECT settings FROM {settings}").fetchall())
        assert "s3cret" not in repr(index) + str(index.config)
    with pytest.raises(FileExistsError) as caught:
        MoleculeIndex.build(molecules, indexed_model, processor, store=store)
    assert "s3cret" not in str(caught.value) + caplog.text
    for wrong in (store.replace("/postgres/", "/nowhere/"), store.replace("own_", "absent_")):
        with pytest.raises(ValueError, match="PostgreSQL at|no complete index") as caught:
            MoleculeIndex.load(wrong)
        assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("postgresql://HOST/DATABASE", "expected postgresql:"),
        ("postgresql://HOST/DATABASE/a.b.c", "expected TABLE or SCHEMA.TABLE"),
        ("postgresql://HOST/DATABASE/" + "x" * 60, "expected TABLE or SCHEMA.TABLE with up to 50 bytes"),
        ("postgresql://ann:s3cret@127.0.0.1:1/DATABASE/TABLE", "PostgreSQL at .*ann:\\*\\*\\*@"),
        ("postgresql://ann:s3cret%@127.0.0.1:1/DATABASE/TABLE", "ann:\\*\\*\\*@.* cannot be read.*as %XX"),
        ("postgresql://ann:x@s3cret@127.0.0.1:1/DATABASE/TABLE", "ann:\\*\\*\\*@127.* cannot be read.*as %XX"),
        ("postgresql://127.0.0.1:1/DATABASE/TABLE?user=ann&password=x s3cret", "password=\\*\\*\\*' cannot be read"),
        ("postgresql://ann:s3cret#x/?y@127.0.0.1:1/DATABASE/TABLE", "ann:\\*\\*\\*@.* is not a location"),
        ("postgresql://HOST/DATABASE/a%25b", "without %"),
    ],
)
def test_wrong_locations(location, message):
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    pytest.importorskip("pgvector", reason="needs the extra `postgres`")
    with pytest.raises(ValueError, match=message) as caught:
        MoleculeIndex.load(check_store(location))
    assert "\n" not in str(caught.value) and "s3cret" not in str(caught.value)


def test_a_table_of_others_is_not_replaced(built, molecules, indexed_model, processor, new_location):
    location = new_location()
    name = table_of(location)
    rows(built, f"CREATE TABLE {name} (number bigint)")
    with pytest.raises(FileExistsError, match="was not written by class_hf"):
        MoleculeIndex.build(molecules, indexed_model, processor, store=location, overwrite=True)


def test_names_and_values_are_quoted(molecules, indexed_model, processor, new_location, postgres_server):
    odd = molecules.rename_column("number", 'a"; DROP TABLE x; --').add_column("it's", ["o'x; --"] * len(molecules))
    location = postgres_server.location("%22%3B%20DROP%20TABLE%20x")
    with MoleculeIndex.build(odd, indexed_model, processor, store=location) as index:
        hits = index.search(TEXT, k=50, filters=MoleculeFilter(where="`it's` = \"o'x; --\""))
        assert len(hits) == len(molecules) and {hit.fields["it's"] for hit in hits} == {"o'x; --"}
        assert index.search(TEXT, filters=MoleculeFilter(where="`it's` = \"' OR true --\"")) == []


def test_a_replaced_index_is_not_searched_or_changed(molecules, indexed_model, processor, new_location):
    location = new_location()
    with MoleculeIndex.build(molecules, indexed_model, processor, store=location) as old:
        MoleculeIndex.build(
            molecules.select(range(9)), indexed_model, processor, store=location, overwrite=True
        ).close()
        for call in (lambda: old.search(TEXT), lambda: old.delete(["m00"])):
            with pytest.raises(ValueError, match="another process has changed the index .*; open it again"):
                call()


def test_an_ended_connection_is_opened_again(built):
    with pytest.raises(ValueError, match="PostgreSQL at"):
        rows(built, "SELECT 1")
        with built.store._transaction():
            rows(built, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert len(built.search(TEXT)) == 10
    built.close()
    with pytest.raises(ValueError, match="connection is closed"):
        built.search(TEXT)


def test_tables_and_settings_of_others_are_not_replaced(built, molecules, indexed_model, processor, new_location):
    location = new_location()
    name = table_of(location)
    for statement in (
        "CREATE TABLE {0} (x int)",
        "CREATE TABLE {0}_settings (settings jsonb)",
        "INSERT INTO {0}_settings VALUES ('[1]')",
    ):
        built.store._connection.execute(statement.format(name))
    with pytest.raises(FileExistsError, match="was not written by class_hf"):
        MoleculeIndex.build(molecules, indexed_model, processor, store=location, overwrite=True)
    with pytest.raises(ValueError, match="no complete index"):
        MoleculeIndex.load(location)
    rows(built, f"CREATE TABLE {table_of(built.store.url)}_new (x int)")
    with pytest.raises(FileExistsError, match="needs this name"):
        PostgresStore.check_location(built.store.url, overwrite=True)
    with pytest.raises(ValueError, match='schema "absent" does not exist'):
        PostgresStore.check_location(location.replace(name, "absent.t"))
    socket = location.replace("postgres@", "") + "&user=postgres"
    with pytest.raises(ValueError, match="no complete index"):
        MoleculeIndex.load(socket)


def test_columns_that_a_table_of_postgresql_has_itself(molecules, indexed_model, processor, new_location):
    odd = molecules.select(range(4)).add_column("ctid", ["x"] * 4).add_column("length", [timedelta(seconds=2)] * 4)
    with MoleculeIndex.build(odd, indexed_model, processor, store=new_location()) as index:
        hit = index.search(TEXT, k=1)[0]
        assert (hit.fields["ctid"], hit.fields["length"]) == ("x", timedelta(seconds=2))
        assert list(hit.fields) == ["description", "number", "ctid", "length"]
    for values in ([float("nan")], ["\0"], [date(2020, 1, 1)]):
        lists = molecules.select(range(4)).add_column("lists", [values] * 4)
        with pytest.raises(ValueError, match="the column 'lists' has .*, which JSON in PostgreSQL cannot hold"):
            MoleculeIndex.build(lists, indexed_model, processor, store=new_location())


def test_a_failed_build_leaves_nothing(molecules, indexed_model, processor, built, new_location, monkeypatch):
    location = new_location()
    monkeypatch.setattr("class_hf.search.stores.postgres_tables.PostgresWriter.finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        MoleculeIndex.build(molecules, indexed_model, processor, store=location)
    assert rows(built, "SELECT to_regclass(%s)", table_of(location)).fetchone() == (None,)


def test_one_process_changes_an_index_at_a_time(built, indexed_model, processor):
    settings = built.store._names.settings.as_string()
    with MoleculeIndex.load(built.store.url, indexed_model, processor) as other:
        with other.store._connection.transaction():
            rows(other, f"SELECT settings FROM {settings} FOR UPDATE")
            with pytest.raises(ValueError, match="another process changes the index"):
                built.delete(["m00"])
        built.delete(["m00"])
        with pytest.raises(ValueError, match="another process has changed the index .*; open it again"):
            other.delete(["m01"])
        assert len(other.search(TEXT, k=50)) == 27


def test_threads_share_a_connection(built):
    expected = [built.search(TEXT, k=k) for k in range(1, 9)]
    found = {}

    def search(k):
        found[k] = built.search(TEXT, k=k)

    threads = [threading.Thread(target=search, args=[k]) for k in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[k] for k in range(1, 9)] == expected


def test_a_substructure_has_a_time_limit(built):
    if not has_cartridge():
        pytest.skip("PostgreSQL has no cartridge")
    rows(
        built,
        "INSERT INTO {table} (number, id, smiles, weight, elements, embedding) SELECT 100 + n, 'x' || n, smiles, "
        "weight, elements, embedding FROM {table}, generate_series(1, 5000) AS n WHERE number = 5",
    )
    with pytest.raises(TimeoutError, match="takes longer than the time limit of 0.005 s"):
        built.store.nearest(
            "molecule",
            built.encoder().embed_queries("text", [TEXT]),
            5,
            MoleculeFilter(substructure="[#6;$([#6]~[#6;$(*~[!#1])])]", time_limit=0.005),
        )


def test_a_killed_server_keeps_the_old_or_the_new_index(built, molecules, indexed_model, processor, postgres_server):
    location, before = built.store.url, len(built)
    change = threading.Thread(target=lambda: pytest.raises(ValueError, built.delete, ["m00"]))
    with MoleculeIndex.load(location, indexed_model, processor) as other, other.store._connection.transaction():
        # The change waits for this lock in its last step.
        rows(other, "LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        table = built.store._names.captions.as_string()
        rows(other, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        change.start()
        change.join(0.3)
        postgres_server.kill()
        change.join()
        with pytest.raises(ValueError, match="PostgreSQL at"):
            other.search(TEXT)
        other.store._connection.close()
    postgres_server.start()
    with MoleculeIndex.load(location, indexed_model, processor) as index:
        assert len(index) == index.store.count() == before == len(index.search(TEXT, k=50))


def test_without_the_cartridge(molecules, indexed_model, processor, new_location, index, monkeypatch, caplog):
    monkeypatch.setattr("class_hf.search.stores.postgres_connection.CARTRIDGE", "no_such_extension")
    filters = MoleculeFilter(substructure="[CX3](=O)[OX2H]")
    with MoleculeIndex.build(molecules, indexed_model, processor, store=new_location()) as built:
        assert "lacks RDKit's cartridge" in caplog.text
        found = built.search(TEXT, filters=filters)
    assert [hit.id for hit in found] == [hit.id for hit in index.search(TEXT, filters=filters, query_bank=False)]
