"""The service: answers equal those of the index, limits have their status, and errors are one line of JSON.

CLASS_HF_LONG_TESTS=1 sends 1,000 malformed requests in place of 200.
"""

import asyncio
import json
import logging
import os
import random
import time
from io import StringIO

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
httpx = pytest.importorskip("httpx2", reason="needs the extra `test`")

from bad_queries import CASES  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from class_hf import MoleculeFilter, MoleculeIndex  # noqa: E402
from class_hf.service.app import build_app  # noqa: E402
from class_hf.service.settings import TOKEN_VARIABLE, ServiceSettings, token_from_environment  # noqa: E402
from class_hf.utils.logs import set_up_logging  # noqa: E402

TEXT = "The molecule is a carboxylic acid."
SECRET = "CONFIDENTIALCOMPOUND"
LONG = bool(os.environ.get("CLASS_HF_LONG_TESTS"))


@pytest.fixture(scope="module")
def make(index_folder, indexed_model, processor):
    """Builds a client of a service with its own settings."""
    opened = []

    def build(token=None, **settings):
        index = MoleculeIndex.load(index_folder, indexed_model, processor)
        app = build_app(index, ServiceSettings(**settings), token)
        client = TestClient(app, raise_server_exceptions=False)
        opened.append(client.__enter__())
        return client

    yield build
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(make):
    return make()


@pytest.fixture
def log():
    logger = logging.getLogger("class_hf")
    before = logger.handlers, logger.level
    stream = StringIO()
    set_up_logging("info", "json", stream)
    yield stream
    logger.handlers = before[0]
    logger.setLevel(before[1])


def assert_error(response, status):
    assert response.status_code == status, (response.status_code, response.text[:300])
    assert response.headers["content-type"] == "application/json"
    assert response.text.count("\n") == 1 and response.text.endswith("\n") and len(response.text) < 400, response.text
    assert list(response.json()) == ["error"] and response.json()["error"]
    return response.json()["error"]


def as_json(hits):
    return [{"rank": h.rank, "score": h.score, "id": h.id, "smiles": h.smiles, "fields": h.fields} for h in hits]


@pytest.mark.parametrize(
    "body",
    [
        {"text": TEXT},
        {"text": [TEXT, "a thiol"], "k": 3, "query_bank": False},
        {"smiles": "CCO", "k": 2},
        {"smiles": ["CCO", "CCS " + "|" + "&1:1" + "|"], "k": 2},
        {"text": TEXT, "k": 28, "filters": {"min_weight": 40, "max_weight": 80.5, "elements": ["O"]}},
        {"text": TEXT, "filters": {"where": "number > 2 and id != 'm03'", "min_score": 0.01}},
        {"text": "a thiol", "k": 4, "filters": {"substructure": "CC", "elements": "S"}},
        {"smiles": "C" * 300, "k": 1},
    ],
)
def test_search_equals_the_index(client, index, body):
    response = client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    arguments = {name: value for name, value in body.items() if name != "filters"}
    if "filters" in body:
        arguments["filters"] = MoleculeFilter(**body["filters"])
    expected = index.search(**arguments)
    several = expected if isinstance(body.get("text", body.get("smiles")), list) else [expected]
    results = response.json()["results"]
    assert len(results) == len(several)
    for found, hits in zip(results, several, strict=True):
        for hit, other in zip(found, as_json(hits), strict=True):
            assert hit.pop("score") == pytest.approx(other.pop("score"), abs=1e-6)
            assert hit == other


def test_captions_and_embeddings_equal_the_index(client, index):
    results = client.post("/v1/captions", json={"smiles": ["CCO", "CCS"], "k": 3}).json()["results"]
    expected = index.search_captions(["CCO", "CCS"], k=3)
    assert [[hit["id"] for hit in found] for found in results] == [[hit.id for hit in hits] for hits in expected]
    for path, name, inputs, side in (
        ("text", "texts", [TEXT, "a thiol"], "text"),
        ("molecules", "smiles", ["CCO", "C" * 250], "molecule"),
    ):
        answer = client.post(f"/v1/embed/{path}", json={name: inputs}).json()
        vectors = index.encoder().embed_queries(side, inputs)
        assert answer["dimension"] == vectors.shape[1]
        np.testing.assert_allclose(np.array(answer["embeddings"]), vectors, atol=1e-7)


def test_requests_that_arrive_together_are_encoded_together(index_folder, indexed_model, processor):
    index = MoleculeIndex.load(index_folder, indexed_model, processor)
    app = build_app(index)

    async def together():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            bodies = [{"text": f"a thiol {number}", "k": 1} for number in range(20)]
            answers = await asyncio.gather(*(client.post("/v1/search", json=body) for body in bodies))
            return answers, (await client.get("/metrics")).text

    answers, metrics = asyncio.run(together())
    assert {answer.status_code for answer in answers} == {200}
    numbers = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(numbers["class_hf_batch_queries_sum"]) == 20
    assert float(numbers["class_hf_batch_queries_count"]) <= 10
    assert float(numbers['class_hf_requests_total{route="/v1/search",status="200"}']) == 20
    assert float(numbers["class_hf_index_molecules"]) == 28 and float(numbers["class_hf_waiting_queries"]) == 0


def test_health_and_description(client):
    health = client.get("/health").json()
    assert health["status"] == "ok" and health["molecules"] == 28 and health["query_bank"] is True
    description = client.get("/openapi.json").json()
    assert set(description["paths"]) == {
        "/v1/search", "/v1/captions", "/v1/embed/text", "/v1/embed/molecules", "/health", "/metrics",
    }  # fmt: skip
    schemas = description["components"]["schemas"]
    for path, methods in description["paths"].items():
        if path.startswith("/v1/"):
            body = methods["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
            for example in schemas[body]["examples"]:  # each example works
                assert client.post(path, json=example).status_code == 200, (path, example)
            assert {"401", "413", "422", "429", "503"} <= set(methods["post"]["responses"])


NO_FIELD = "is not a field of this request."
FIELDS = "Its fields are text, smiles, k, filters, query_bank."


@pytest.mark.parametrize(
    ("route", "body", "message"),
    (
        ("search", {"txt": "a thiol"}, f"txt {NO_FIELD} Did you mean 'text'? {FIELDS}"),
        ("search", {"sequence": "a thiol"}, f"sequence {NO_FIELD} {FIELDS}"),
        ("search", {"text": "a", "filters": {"maxweight": 3}}, f"filters.maxweight {NO_FIELD} Did you mean "
         "'max_weight'? Its fields are min_weight, max_weight, elements, substructure, use_stereo, where, min_score."),
        ("embed/text", {"text": ["a thiol"]}, f"text {NO_FIELD} Did you mean 'texts'? Its fields are texts."),
        ("embed/molecules", {"SMILES": ["C"]}, f"SMILES {NO_FIELD} Its fields are smiles."),
        ("search", {"smiles": "C1CC"}, "RDKit cannot parse the SMILES 'C1CC': the syntax is invalid."),
        ("captions", {"smiles": ["CCO", "C(C)(C)(C)(C)C"]}, "RDKit cannot parse the SMILES 'C(C)(C)(C)(C)C': Explicit "
         "valence for atom # 0 C, 5, is greater than permitted."),
        ("embed/molecules", {"smiles": ["c1cccc1"]}, "RDKit cannot parse the SMILES 'c1cccc1': Can't kekulize mol. "
         "Unkekulized atoms: 0 1 2 3 4."),
    ),
)  # fmt: skip
def test_an_error_says_what_to_change(make, log, route, body, message):
    assert assert_error(make().post(f"/v1/{route}", json=body), 422) == message
    assert "thiol" not in log.getvalue() and "C(C)" not in log.getvalue()


def test_limits_have_their_status(make):
    client = make(max_body=2_000, max_queries=3, max_k=20, max_hits=30)
    assert "the limit is 2,000 bytes" in assert_error(client.post("/v1/search", content=b"x" * 2_001), 413)
    chunks = (b" " * 500 for _ in range(5))
    assert_error(client.post("/v1/search", content=chunks), 413)
    assert "4 queries; the limit is 3" in assert_error(client.post("/v1/search", json={"text": ["a"] * 4}), 422)
    assert "the limit of this service is 20" in assert_error(
        client.post("/v1/search", json={"text": "a", "k": 21}), 422
    )
    assert "30 hits per request" in assert_error(client.post("/v1/search", json={"text": ["a", "b"], "k": 20}), 422)
    assert_error(client.post("/v1/embed/text", json={"texts": ["a"] * 4}), 422)
    assert client.post("/v1/search", json={"text": "a thiol", "k": 20}).status_code == 200


def test_a_slow_request_gets_503_and_a_full_queue_429(index_folder, indexed_model, processor):
    """Both with a model that waits."""
    index = MoleculeIndex.load(index_folder, indexed_model, processor)
    app = build_app(index, ServiceSettings(time_limit=0.3, max_waiting=2))
    encode = index.encoder().embed_queries

    def slow(side, queries):
        time.sleep(0.4)
        return encode(side, queries)

    async def many():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            index.encoder().embed_queries = slow
            answers = await asyncio.gather(*(client.post("/v1/search", json={"text": TEXT}) for _ in range(8)))
            index.encoder().embed_queries = encode
            await asyncio.sleep(0.5)
            return answers, await client.post("/v1/search", json={"text": TEXT})

    answers, after = asyncio.run(many())
    assert sorted({answer.status_code for answer in answers}) == [429, 503]
    for answer in answers:
        assert answer.headers["retry-after"] == "1"
        assert_error(answer, answer.status_code)
    assert after.status_code == 200


@pytest.mark.parametrize(("route", "field"), [("embed/text", "texts"), ("search", "text")])
def test_work_that_a_503_abandons_ends(route, field, index_folder, indexed_model, processor):
    """The 256 queries have 25 parts, of which a few are encoded before the time limit, and at most one after it."""
    index = MoleculeIndex.load(index_folder, indexed_model, processor)
    app = build_app(index, ServiceSettings(time_limit=0.3))
    encode, parts = index.encoder().embed_queries, []

    def slow(side, queries):
        parts.append(len(queries))
        time.sleep(0.1)
        return encode(side, queries)

    async def scenario():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            index.encoder().embed_queries = slow
            texts = [f"{'an ester ' * 88}{number}" for number in range(256)]
            slow_answer = await client.post(f"/v1/{route}", json={field: texts})
            seen = len(parts)
            await asyncio.sleep(0.3)
            index.encoder().embed_queries = encode
            return slow_answer, seen, await client.post("/v1/search", json={"text": TEXT})

    answer, seen, after = asyncio.run(scenario())
    assert_error(answer, 503)
    assert max(parts) == 10 and 1 <= seen <= len(parts) <= seen + 1 < 10
    assert after.status_code == 200


def test_a_token_is_required(make, monkeypatch):
    client = make(token="s3cret")
    body = {"text": TEXT, "k": 1}
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "s3cret"},
        {"Authorization": "Basic s3cret"},
    ):
        response = client.post("/v1/search", json=body, headers=headers)
        assert_error(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    assert client.post("/v1/search", json=body, headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert client.get("/metrics").status_code == 401 and client.get("/health").status_code == 200
    for value, message in (("", "empty"), ("two words", "without spaces"), ("é", "ASCII")):
        monkeypatch.setenv(TOKEN_VARIABLE, value)
        with pytest.raises(ValueError, match=message):
            token_from_environment()
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert token_from_environment() is None


def test_errors_of_the_store_are_500_and_quote_nothing(make, log, monkeypatch):
    client = make()

    def fail(*arguments):
        raise ValueError(f"the store knows {SECRET}")

    monkeypatch.setattr("class_hf.search.stores.folder.FolderStore.nearest", fail)
    response = client.post("/v1/search", json={"text": f"{SECRET} acid"})
    assert assert_error(response, 500) == "the server could not answer this request."
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert lines[-1]["level"] == "error" and lines[-1]["cause"].startswith("RuntimeError in engine.py")
    assert SECRET not in log.getvalue()


def malformed(count):
    """Malformed requests, seeded: each has a path and a body."""
    generator = random.Random(0)
    paths = ["/v1/search", "/v1/captions", "/v1/embed/text", "/v1/embed/molecules"]
    bodies = [
        b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe\x00", b"1e999", b"{}", b'{"text": NaN}', b"\x00" * 100,
        b"[" * 50_000, b'{"text":' * 20_000, b'{"k":' + b"9" * 5_000 + b"}", b'{"text": "a", "text": 3}',
        b'{"text": "\\ud800"}', b'{"text": "a", "k": 1e400}', b'{"text": "a", "unknown": 1}',
    ]  # fmt: skip
    yield from ((path, body) for path in paths for body in bodies)
    good = {"text": SECRET, "k": 3}
    strange = [None, True, -1, 1e308, "", SECRET, [], [SECRET, 3], {}, {"a": [1]}, "\x00", [[SECRET]], 10**30, "5"]
    cases = []
    for name, value in CASES:  # the queries that the index refuses, if JSON can hold them
        if name == "time_limit" or value is None:
            continue
        try:
            json.dumps(value)
        except TypeError:
            continue
        if name in ("text", "smiles"):
            cases.append({name: value})
        else:
            cases.append({**good, name: value} if name == "k" else {**good, "filters": {name: value}})
    for name in ("k", "filters", "text", "smiles", "query_bank"):
        cases += [{**good, name: value} for value in strange]
    for name in ("min_weight", "max_weight", "elements", "substructure", "use_stereo", "where", "min_score"):
        cases += [{**good, "filters": {name: value}} for value in strange]
    generator.shuffle(cases)
    for case in cases[: max(count - len(paths) * len(bodies), 0)]:
        yield "/v1/search", json.dumps(case).encode()


def test_malformed_requests_get_one_line_and_are_not_logged(make, log):
    client = make(max_body=100_000)
    before = client.post("/v1/search", json={"text": TEXT}).json()
    sent = refused = 0
    for path, body in malformed(1_000 if LONG else 200):
        response = client.post(path, content=body, headers={"content-type": "application/json"})
        sent += 1
        if response.status_code == 200:
            assert isinstance(response.json()["results"], list), body[:200]
        else:
            assert response.status_code in (400, 413, 422), (body[:200], response.text[:300])
            assert_error(response, response.status_code)
            refused += 1
    assert sent >= 200 and refused > 0.8 * sent
    for method, path in (("GET", "/v1/search"), ("POST", "/health"), ("GET", "/docs"), ("GET", f"/{SECRET}")):
        assert_error(client.request(method, path), 405 if path != "/docs" and SECRET not in path else 404)
    assert_error(client.post("/v1/search", content=b'{"text": "a"}', headers={"content-type": "text/plain"}), 422)
    assert client.post("/v1/search", json={"text": TEXT}).json() == before
    assert SECRET not in log.getvalue()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert all(line["message"] == "request" and line["status"] < 500 for line in lines) and len(lines) > 200


def test_errors_name_the_field(client):
    for body, words in (
        ({"text": TEXT, "k": 0}, "k is 0; expected a whole number"),
        ({"text": TEXT, "k": "5"}, "k: input should be a valid integer"),
        ({"text": 5}, "text: input should be a valid string or a valid list."),
        ({}, "pass either text or smiles; neither was passed"),
        ({"smiles": "C1CC"}, "'C1CC'"),
        ({"text": TEXT, "filters": {"where": "nothing > 3"}}, "'nothing', which the index does not have"),
        ({"text": TEXT, "filters": {"weight": 3}}, "filters.weight is not a field"),
        ({"text": TEXT, "filters": {"substructure": "C("}}, "substructure"),
        ({"text": TEXT, "filters": {"elements": "Xx"}}, "'Xx' is not an element symbol"),
    ):
        assert words in assert_error(client.post("/v1/search", json=body), 422)
