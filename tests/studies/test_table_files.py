"""A table that is not as it was written is one sentence, whatever was done to it."""

from __future__ import annotations

import math
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from ttr.errors import DataError
from ttr.studies.table_files import Columns, read_columns, read_rows, require_in_each

COLUMNS = Columns(("name",), ("value",), ("n",))
KINDS = {"image": "text", "value": "number", "counts": "numbers"}
GOOD = "name,value,n,verdict,more\na,0.5,3,,1\nb,,4,higher,x\n"


def test_a_table_is_read_with_its_kinds(tmp_path):
    (tmp_path / "x.csv").write_text(GOOD)
    table = read_columns(tmp_path / "x.csv", COLUMNS)
    assert table["name"].tolist() == ["a", "b"]
    assert table["value"].fillna(-1).tolist() == [0.5, -1]
    assert (table["n"].tolist(), table["n"].dtype) == ([3, 4], "int64")
    assert table["verdict"].tolist() == ["", "higher"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column name"),
        ("name,value\na,1\n", "no column n"),
        ("name,value,n\n", "no rows"),
        ("name,value,n,value\na,1,1,2\n", "column value stands twice"),
        ("name,value,n\n,1,1\n", "a row without a name"),
        ("name,value,n\na,1,1\na,2,1\n", "a row stands twice"),
        ("name,value,n\na,much,1\n", "Unable to parse string"),
        ("name,value,n\na,True,1\n", "value holds no numbers"),
        ("name,value,n\na,inf,1\n", "an infinite number in value"),
        (f"name,value,n\na,{'9' * 400},1\n", "too large"),
        ("name,value,n\na,1,\n", "something else than a whole number in n"),
        ("name,value,n\na,1,-1\n", "something else than a whole number in n"),
        ("name,value,n\na,1,1.5\n", "something else than a whole number in n"),
        ("name,value,n\na,1,1e300\n", "something else than a whole number in n"),
        ("name,value,n\na,1,1,1,1\n", "a row that is longer or shorter"),
        ("name,value,n\na,1,1\na,1\n", "a row that is longer or shorter"),
        ("name,value,n\na,1,1", "a row that is longer or shorter"),
        ('name,value,n\n"a,1,1\n', "unexpected end of data"),
        (f"name,value,n{',' * 70_000}\na,1,1\n", "first line is too long"),
    ],
)
def test_a_damaged_table_is_one_sentence(text, says, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError) as refused:
        read_columns(tmp_path / "x.csv", COLUMNS, "ttr bench")
    assert says in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'x.csv'} is damaged (")
    assert str(refused.value).endswith("); run ttr bench again")
    assert "\n" not in str(refused.value)


def test_a_group_without_the_row_that_is_shown_is_one_sentence(tmp_path):
    table = pd.DataFrame({"block": [4, 4, 5], "part": ["patches", "cls", "patches"]})
    require_in_each(tmp_path / "x.csv", table, ["block"], "part", {"patches"})
    with pytest.raises(DataError, match=r"x.csv is damaged \(no row of cls\)"):
        require_in_each(tmp_path / "x.csv", table, ["block"], "part", {"patches", "cls"})


def test_what_is_no_text_or_no_file_is_one_sentence(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"name,value,n\n\xff\xfe,1,1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(1 << 40)
    for name, says in (
        ("x.csv", "can't decode"),
        ("pipe.csv", "no regular file"),
        ("huge.csv", "1,048,576 MiB, and at most 64 are read"),
        ("none.csv", "No such file"),
    ):
        with pytest.raises(DataError, match=f"{name} is damaged .*{says}"):
            read_columns(tmp_path / name, COLUMNS)


def rows(**change):
    return pd.DataFrame({"image": ["a", "b"], "value": [0.5, None], "counts": [[1, 2], []], **change})


def test_rows_are_read_with_their_kinds(tmp_path):
    path = tmp_path / "x.parquet"
    rows(counts=[[], []]).to_parquet(path)
    assert len(read_rows(path, KINDS, "ttr ablate")) == 2
    rows(more=[1, 2]).to_parquet(path)
    table = read_rows(path, KINDS, "ttr ablate")
    assert list(table) == list(KINDS)
    assert [list(each) for each in table["counts"]] == [[1, 2], []]
    for change, says in (
        ({"image": ["a", None]}, "a row without image"),
        ({"image": [1, 2]}, "image is of another type"),
        ({"value": ["a", "b"]}, "value is of another type"),
        ({"value": [True, False]}, "value is of another type"),
        ({"counts": [["a"], []]}, "counts is of another type"),
        ({"counts": [None, [1]]}, "a row without counts"),
        ({"counts": [1, 2]}, "counts is of another type"),
        ({"value": [0.5, math.inf]}, "an infinite number in value"),
        ({"counts": [[1.0, -math.inf], []]}, "an infinite number in counts"),
    ):
        rows(**change).to_parquet(path)
        with pytest.raises(DataError, match=f"x.parquet is damaged .{says}.; run ttr ablate again"):
            read_rows(path, KINDS, "ttr ablate")
    rows()[:0].to_parquet(path)
    for spoil in (lambda: None, lambda: path.write_bytes(b"PAR1"), path.unlink):
        spoil()
        with pytest.raises(DataError, match="x.parquet is damaged"):
            read_rows(path, KINDS, "ttr ablate")


def test_a_few_kilobytes_that_unpack_to_gigabytes_are_refused(tmp_path, monkeypatch):
    """Parquet says a value once, and how often it stands there."""
    monkeypatch.setattr("ttr.studies.table_files.MOST_UNPACKED", 1 << 20)
    monkeypatch.setattr("ttr.studies.table_files.MOST_VALUES", 1 << 20)
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300, np.int32)), pa.array(["x" * 10_000]))
    zeros = pa.array(np.zeros(100_000, np.int8))
    lists = pa.ListArray.from_arrays(pa.array([0, len(zeros)], pa.int32()), zeros)
    for name, column, times in (("image", text, 1), ("counts", lists, 11)):
        table = pa.table({name: column})
        with pyarrow.parquet.ParquetWriter(tmp_path / "x.parquet", table.schema, store_schema=False) as file:
            for _ in range(times):
                file.write_table(table)
        assert (tmp_path / "x.parquet").stat().st_size < 20_000
        with pytest.raises(DataError, match=f"x.parquet is damaged .*(text in {name}|{name} is too large)"):
            read_rows(tmp_path / "x.parquet", {name: KINDS[name]}, "ttr ablate")
