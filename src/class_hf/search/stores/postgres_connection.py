"""Connections to PostgreSQL: locations, extensions, the settings of an index, and errors in one line."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from class_hf.search.stores.base import hide_password
from class_hf.search.stores.postgres_tables import Names, sql_of
from class_hf.utils.messages import one_line

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)

_LONGEST = 50  # bytes in the name of the table, to which an ending is added
_OLDEST_PGVECTOR = (0, 8)  # it has iterative scans
CARTRIDGE = "rdkit"
_ENDINGS = ("", "_captions", "_bank", "_settings")
_FORM = "postgresql://[USER@]HOST[:PORT]/DATABASE/[SCHEMA.]TABLE"


def connect(url: str) -> tuple["psycopg.Connection[Any]", tuple[str, ...]]:
    """Connects to a server. Returns a connection and the name of the table, with its schema if there is one."""
    try:
        import pgvector  # noqa: F401
        import psycopg
    except ImportError as error:
        raise ImportError('an index in PostgreSQL needs its client: pip install "class-hf[postgres]".') from error
    try:
        parts = urlsplit(url)
    except ValueError as error:  # its text can have a part of the password
        raise ValueError(f"{hide_password(url)!r} is not a URL; expected {_FORM}.") from error
    path = [unquote(part) for part in parts.path.split("/")[1:]]
    if len(path) != 2 or not all(path):
        raise ValueError(f"{hide_password(url)!r} is not a location in PostgreSQL; expected {_FORM}.")
    table = tuple(path[1].split("."))
    if len(table) > 2 or not all(table) or len(table[-1].encode()) > _LONGEST or set(path[1]) & set("\0%"):
        raise ValueError(
            f"the table is {path[1]!r}; expected TABLE or SCHEMA.TABLE with up to {_LONGEST} bytes, without %."
        )
    # Without a host, `urlunsplit` would leave out the slashes.
    server = f"{parts.scheme}://{parts.netloc}/{parts.path.split('/')[1]}" + (f"?{parts.query}" if parts.query else "")
    try:
        psycopg.conninfo.conninfo_to_dict(server)
    except psycopg.ProgrammingError:
        is_readable = False
    else:
        is_readable = parts.netloc.count("@") <= 1
    if not is_readable:  # the client's reason would print the password
        raise ValueError(
            f"{hide_password(url)!r} cannot be read; expected {_FORM} with known parameters. Write special characters "
            "of the user or the password as %XX, for instance %40 for @ and %25 for %."
        )
    with reporting(url):
        # Plans depend on the values: prepared statements would lose that.
        return psycopg.connect(server, autocommit=True, prepare_threshold=None), table


def prepare(connection: "psycopg.Connection[Any]") -> None:
    from pgvector.psycopg import register_vector

    register_vector(connection)


def exists(connection: "psycopg.Connection[Any]", table: Sequence[str], ending: str = "") -> bool:
    name = Names.of((*table[:-1], table[-1] + ending)).molecules.as_string(connection)
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
    return row is not None and row[0]


def check_free(connection: "psycopg.Connection[Any]", table: Sequence[str], overwrite: bool) -> None:
    shown = ".".join(table)
    schema = table[0] if len(table) == 2 else connection.execute("SELECT current_schema()").fetchall()[0][0]
    if not connection.execute("SELECT has_schema_privilege(%s, 'CREATE')", [schema]).fetchall()[0][0]:
        raise ValueError(f"the user may not create tables in the schema {schema!r}; grant CREATE, or name another.")
    if any(exists(connection, table, ending) for ending in _ENDINGS):
        if read_settings(connection, Names.of(table)) is None:
            raise FileExistsError(f"the table {shown!r} was not written by class_hf: it is not replaced.")
        if not overwrite:
            raise FileExistsError(f"the table {shown!r} exists. Choose another name, or pass --overwrite.")
        for name in (f"{table[-1]}_new{ending}" for ending in _ENDINGS):
            if exists(connection, (*table[:-1], name)):
                raise FileExistsError(f"the table {name!r} exists, and the new index needs this name. Rename it.")


def create_extensions(connection: "psycopg.Connection[Any]", url: str) -> bool:
    """Creates pgvector and, if it can be had, RDKit's cartridge. Returns whether the cartridge is there."""
    import psycopg

    present = {}
    for name in ("vector", CARTRIDGE):
        try:
            with connection.transaction():
                connection.execute(sql_of("CREATE EXTENSION IF NOT EXISTS {}", _identifier(name)))
        except psycopg.Error as error:
            logger.debug("%s: %s", name, error)
        row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = %s", [name]).fetchone()
        present[name] = None if row is None else row[0]
    shown = hide_password(url)
    if present["vector"] is None:
        raise ValueError(f"the database of {shown!r} lacks pgvector. Install it, and run CREATE EXTENSION vector.")
    if tuple(map(int, present["vector"].split(".")[:2])) < _OLDEST_PGVECTOR:
        raise ValueError(f"the database of {shown!r} has pgvector {present['vector']}; expected 0.8 or newer.")
    if present[CARTRIDGE] is None:
        logger.warning("the database lacks RDKit's cartridge: substructures are matched by this package instead.")
    prepare(connection)
    return present[CARTRIDGE] is not None


def _identifier(name: str) -> Any:
    from psycopg import sql

    return sql.Identifier(name)


def replace(connection: "psycopg.Connection[Any]", new: Names, old: Names, table: Sequence[str]) -> None:
    """Replaces the tables of an index by new ones."""
    for new_name, old_name, ending in zip(new, old, _ENDINGS, strict=True):
        connection.execute(sql_of("DROP TABLE IF EXISTS {}", old_name))
        connection.execute(sql_of("ALTER TABLE IF EXISTS {} RENAME TO {}", new_name, _identifier(table[-1] + ending)))


def read_settings(connection: "psycopg.Connection[Any]", names: Names, lock: bool = False) -> dict[str, Any] | None:
    """The settings of an index. None if there is no table of them, or another program wrote it."""
    import psycopg

    try:
        with connection.transaction():
            statement = "SELECT settings FROM {}" + (" FOR UPDATE NOWAIT" if lock else "")
            row = connection.execute(sql_of(statement, names.settings)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return None
    except psycopg.errors.LockNotAvailable as error:
        raise ValueError("another process changes the index; try again later.") from error
    is_ours = row is not None and isinstance(row[0], dict) and {"format", "config", "features", "names"} <= set(row[0])
    return row[0] if row is not None and is_ours else None


def read_identity(connection: "psycopg.Connection[Any]", names: Names) -> int | None:
    """The number of the table of molecules, which is another after a build. Its transaction keeps the table.

    None if SQL has deleted all molecules.
    """
    row = connection.execute(sql_of("SELECT tableoid::bigint FROM {} LIMIT 1", names.molecules)).fetchone()
    return None if row is None else row[0]


@contextmanager
def reporting(url: str) -> Iterator[None]:
    """Turns errors of the server and of its client into one line that names the location."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise ValueError(f"PostgreSQL at {hide_password(url)!r}: {one_line(error, limit=300)}") from error
