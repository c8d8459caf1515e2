"""Serve an index over HTTP: search and embeddings as JSON.

    class-hf serve --index INDEX [--host 0.0.0.0 --port 8000 --workers 2]

`class-hf index` builds an index. `GET /openapi.json` describes the routes. The variable CLASS_HF_SERVICE_TOKEN holds
a bearer token that requests must carry. SIGTERM and Ctrl-C stop the service after it has answered open requests.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from class_hf.config.command import CommandParser, run_script
from class_hf.config.recipe_files import program
from class_hf.service.server import require_packages, serve
from class_hf.service.settings import ServiceSettings
from class_hf.utils.numbers import port_number, positive, positive_integer


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog=program("serve"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--index", required=True, help="folder or URL of the index")
    parser.add_argument("--model", help="folder or Hub id of the index's model, if it moved")
    server = parser.add_argument_group("server")
    server.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    server.add_argument("--port", type=port_number, default=8000, help="port, 0 for any (default: %(default)s)")
    server.add_argument("--workers", type=positive_integer, default=1, help="processes (default: %(default)s)")
    limits = parser.add_argument_group("limits")
    defaults = ServiceSettings()
    for name, kind, text in (
        ("max_body", positive_integer, "bytes of a request"),
        ("max_queries", positive_integer, "queries of a request"),
        ("max_k", positive_integer, "hits of a query"),
        ("max_hits", positive_integer, "hits of a request"),
        ("max_waiting", positive_integer, "queries that may wait"),
        ("max_batch", positive_integer, "queries that are encoded together"),
        ("time_limit", positive, "seconds of a request"),
        ("substructure_time_limit", positive, "seconds for the substructure of a request"),
    ):
        default = getattr(defaults, name)
        limits.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default: {default:,})")
    parser.add_log_arguments("info", "json")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    require_packages()
    limits = {name: getattr(args, name) for name in ServiceSettings.__dataclass_fields__}
    serve(
        args.index,
        model=args.model,
        host=args.host,
        port=args.port,
        workers=args.workers,
        settings=ServiceSettings(**limits),
        log_level=args.log_level,
        log_format=args.log_format,
    )


if __name__ == "__main__":
    run_script(main)
