"""Conditions that come over the network: no file, no network, bounded in time and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from served import client, settings, survey
from skytwin.errors import UsageError
from skytwin.images.where import bound_this_thread, matching_rows, positive_rows
from skytwin.images.where_apart import Bounds, evaluate, evaluate_apart, is_plain
from skytwin.web.settings import Limits

BOUNDS = Bounds(seconds=30.0, memory=2 << 30)
SECONDS = 1.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[TestClient]:
    few = replace(Limits(), where_seconds=SECONDS)
    with client(settings(folder, limits=few)) as found:
        yield found


def table(count: int = 5000) -> pa.Table:
    rng = np.random.default_rng(1)
    return pa.table(
        {
            "mag": pa.array(rng.uniform(15, 22, count), mask=rng.random(count) < 0.1),
            "name": [f"g{number}" for number in range(count)],
            'odd "col"': rng.integers(0, 9, count),
            "List": [[number % 3] for number in range(count)],
        }
    )


PLAIN = [
    "mag < 18",
    "mag between 16 and 17 or name in ('g1', 'g2') and not isnan(mag)",
    '"odd ""col""" % 3 = 1 and abs(mag - 18) < .5 ** 2',
    "NAME like 'g1%' and mag is not null and mag::int = 17",
    "case when mag > 18 then name > 'g3' else false end",
]
OTHERS = [
    "mag > avg(mag) over ()",
    "row_number() over (order by mag) <= 100",
    "list_sum(list) > 1",
    'regexp_matches(name, \'^g[0-9]{2}$\') and "odd ""col""" > 3',
    "mag > (select 18)",
]


@pytest.mark.parametrize("condition", [PLAIN[2], *OTHERS])
def test_a_process_of_its_own_gives_the_same_answer(condition: str) -> None:
    data = table()
    expected = evaluate(data, condition)
    assert np.array_equal(evaluate_apart(data, condition, BOUNDS), expected)
    assert 0 < (expected == 1).sum() < len(data)


def test_what_costs_no_more_than_its_columns_is_known() -> None:
    assert all(map(is_plain, PLAIN))
    others = [*OTHERS, *ENDLESS, "columns(*) is not null", "repeat(name, 2) > 'g2'"]
    assert not any(map(is_plain, others))


@pytest.mark.slow
def test_what_is_wrong_is_said_alike_with_bounds_and_without() -> None:
    said = []
    for bounds in (None, BOUNDS):
        bound_this_thread(bounds)
        try:
            for condition in (
                "length(nome) > 2 and repeat('a', 2) = 'aa'",
                "repeat(name, 3)",
                "count(*) > 3 and list_sum(List) > mag",
                "nothing_such(mag) > 3",
                "mag <",
                "columns(*) is not null",
            ):
                with pytest.raises(UsageError) as reason:
                    matching_rows(table(10), condition)
                said.append(str(reason.value))
        finally:
            bound_this_thread(None)
    half = len(said) // 2
    assert said[:half] == said[half:]
    assert "unknown column 'nome'" in said[0]
    assert "not yes or no" in said[1]


def test_several_conditions_share_the_time() -> None:
    bound_this_thread(replace(BOUNDS, seconds=1.5))
    try:
        began = time.monotonic()
        with pytest.raises(UsageError, match="longer than"):
            positive_rows(table(), ("length(repeat(name, 3)) > 3",) * 3 + (ENDLESS[0],) * 20)
        assert time.monotonic() - began < 10
    finally:
        bound_this_thread(None)


#: Each of them would take minutes, or more memory than there is.
ENDLESS = [
    "(select count(*) from generate_series(1, 100000000000)) > 3",
    "length(repeat('a', 4000000000)) > 3",
    "length(repeat(name, 100000000)) > 3",
    "length(lpad('a', 2000000000, 'b')) > 3",
    "list_sum(range(100000000000)) > 3",
    "len(list_transform(range(1000000), lambda x: repeat(id, 100000))) > 3",
    "(select count(*) from range(10000000) a, range(10000000) b) > 3",
    "(with recursive t(n) as (select 1 union all select n + 1 from t) select max(n) from t) > 3",
    "levenshtein(repeat('a', 1000000), repeat('b', 1000000)) > 3",
    "len(string_split(repeat('a,', 1000000000), ',')) > 3",
    "regexp_replace(repeat('a', 300000000), '(a|b|ab)*(ab|c)', '', 'g') = 'x'",
    "sleep_ms(600000) is null",
]


@pytest.mark.slow
@pytest.mark.parametrize("where", ENDLESS)
def test_what_would_never_end_is_refused_in_time_and_the_server_goes_on(
    web: TestClient, where: str
) -> None:
    began = time.monotonic()
    answer = web.get("/api/objects", params={"where": where, "limit": 5})
    assert time.monotonic() - began < SECONDS + 5
    assert answer.status_code == 400, answer.text
    assert "cannot be used" in answer.json()["error"]
    assert web.get("/api/objects?where=mag<18&limit=5").status_code == 200


@pytest.mark.slow
def test_memory_of_the_server_does_not_grow_by_a_condition(web: TestClient) -> None:
    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    web.get("/api/objects?where=mag<18")
    before = resident()
    for where in ENDLESS[1:4]:
        web.get("/api/objects", params={"where": where})
    assert resident() - before < 100 << 20


@pytest.mark.parametrize(
    "where",
    [
        "(select count(*) from read_csv_auto('{inside}')) > 0",
        "(select count(*) from read_json_auto('{inside}')) > 0",
        "(select content from read_blob('{inside}')) is not null",
        "(select count(*) from parquet_scan('{inside}')) > 0",
        "(select count(*) from sniff_csv('{inside}')) > 0",
        "(select count(*) from 'https://127.0.0.1:9/x.parquet') > 0",
        "(select count(*) from read_csv('s3://bucket/x.csv')) > 0",
        "(select count(*) from sqlite_scan('{inside}', 't')) > 0",
        "(select count(*) from iceberg_scan('{inside}')) > 0",
        "(select count(*) from duckdb_secrets(), glob('{inside}')) > 0",
        "mag < 18) from t; install httpfs; load httpfs; select (1 = 1",
        "mag < 18); set enable_external_access = true; select (1 = 1",
        "mag < 18); export database '{out}'; select (1 = 1",
        "(select count(*) from query('copy (select 1) to ''{out}''')) > 0",
        "(select count(*) from query_table('{inside}')) > 0",
        "(from '{inside}' limit 1) is not null",
        "(select count(*) from pandas_scan(1)) > 0",
        "(select count(*) from arrow_scan(1, 2, 3)) > 0",
        "(select count(*) from python_map_function(1)) > 0",
        "(select count(*) from table) >= 0",
        "getenv('PATH') <> ''",
        "getvariable('x') is null and write_log('x') is null and read_text('{inside}') <> ''",
    ],
)
def test_no_condition_reaches_a_file_or_the_network(
    web: TestClient, folder: Path, where: str
) -> None:
    out = folder / "made-by-sql"
    text = where.format(inside=folder / "t.csv", out=out)
    answer = web.get("/api/objects", params={"where": text, "limit": 5})
    assert answer.status_code in {400, 404}, answer.text
    assert "587722981733826741" not in answer.text  # of that file
    assert not out.exists()
    assert sorted(path.name for path in folder.iterdir()) == [
        "cut",
        "emb",
        "files",
        "plane",
        "t.csv",
    ]


def test_deep_and_long_conditions_are_answered(web: TestClient) -> None:
    for where in (
        "(" * 480 + "mag<18" + ")" * 480,
        "not " * 240 + "mag < 18",
        "mag<18 " + "or mag<18 " * 98,
        "-" * 2 + "mag < 18",
        "[" * 400 + "1" + "]" * 400 + " is null",
        "name like '" + "%a" * 450 + "'",
    ):
        answer = web.get("/api/objects", params={"where": where, "limit": 1})
        assert answer.status_code in {200, 400, 404}, answer.text
