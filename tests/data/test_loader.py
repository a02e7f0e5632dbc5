"""Data loaders: every kind of data, and what is wrong with data is said before it is used."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from decimal import Decimal

import h5py
import numpy as np
import pandas
import polars
import pyarrow
import pymc as pm
import pytensor
import pytest
import scipy.sparse
import xarray as xr
import zarr
from pyarrow import dataset, parquet

from pymc_svi import SVI, DataLoader, Trainer, callbacks, optim
from pymc_svi.data import DataError
from pymc_svi.data.blocks import Cut, Pace, read_ahead
from pymc_svi.data.checks import check_batch
from pymc_svi.data.columns import Columns
from pymc_svi.guides import AutoNormal

FAST = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
X = np.arange(20.0).reshape(10, 2)
Y = np.arange(10.0)


def model(y):
    mu = pm.Normal("mu")
    pm.Normal("y", mu, 1.0, observed=y)


def fit(loader, n=20):
    return Trainer(SVI(model, AutoNormal(model), **FAST), loader).fit(n=n, random_seed=0)


def rows(loader, name="y"):
    return np.concatenate([batch[name] for batch in loader])


def test_linked_arrays_stay_aligned():
    for batch in DataLoader({"X": X, "y": Y}, batch_size=3):
        np.testing.assert_array_equal(batch["X"][:, 0], 2 * batch["y"])


def test_frames_and_datasets_are_read_by_column():
    frames = [
        pandas.DataFrame({"a": Y, "y": Y}),
        polars.DataFrame({"y": Y}),
        xr.Dataset({"X": (("row", "k"), X), "y": ("row", Y)}),
    ]
    for frame in frames:
        loader = DataLoader(frame, batch_size=4, shuffle=False)
        np.testing.assert_array_equal(rows(loader), Y)


def test_rows_that_are_shuffled_once_keep_their_neighbours_and_change_their_batches():
    loader = DataLoader({"y": np.arange(103)}, 5, "once", seed=4)
    epochs = [np.concatenate([b["y"] for b in loader.batches(epoch)]) for epoch in range(20)]
    beginnings = set()
    for epoch, rows in enumerate(epochs):
        np.testing.assert_array_equal(np.sort(rows), np.arange(103))
        np.testing.assert_array_equal(rows, loader.order(epoch))
        np.testing.assert_array_equal(rows[7:30], loader.order(epoch, start=7, stop=30))
        turned = np.roll(rows, -int(np.flatnonzero(rows == epochs[0][0])[0]))
        np.testing.assert_array_equal(turned, epochs[0])
        beginnings |= set(rows[::5].tolist())
    assert len(beginnings) == 103  # batches begin anywhere
    assert not np.array_equal(epochs[0], np.arange(103))
    other = DataLoader({"y": np.arange(103)}, 5, "once")
    assert not np.array_equal(other.order(0, seed=1), other.order(0, seed=2))


@pytest.mark.parametrize(("n_rows", "batch_size"), [(103, 5), (100, 10), (8, 3), (2_049, 256)])
def test_rows_that_are_shuffled_once_are_left_out_equally_often(n_rows, batch_size):
    loader = DataLoader({"y": np.arange(n_rows)}, batch_size, "once", seed=0, drop_last=True)
    used = len(loader) * batch_size
    counts = np.zeros(n_rows)
    n_epochs = 20 * n_rows
    for epoch in range(n_epochs):
        first = loader.first_position(epoch)
        counts[(first + np.arange(used, n_rows)) % n_rows] += 1
    expected = n_epochs * (n_rows - used) / n_rows
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataLoader([{"y": Y}], shuffle="once"), "once.* is for arrays in memory.*list"),
        (lambda: DataLoader({"y": Y}, 5, "once", buffer_size=8), "has no blocks.*buffer_size=8"),
    ],
)
def test_what_cannot_be_shuffled_once_is_told(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_a_misspelt_way_of_shuffling_is_told():
    with pytest.raises(ValueError, match="shuffle is one of three values.*'twice'.*\"once\""):
        DataLoader({"y": Y}, 5, "twice")


@pytest.mark.parametrize("drop_last", [True, False])
def test_arrays_in_memory_are_shuffled_within_blocks(drop_last):
    values = np.random.default_rng(1).normal(size=(103, 2))
    loader = DataLoader(
        {"X": values, "y": np.arange(103)}, 5, seed=0, buffer_size=20, drop_last=drop_last
    )
    assert len(loader) == 20 + (not drop_last)
    epochs = [np.concatenate([b["y"] for b in loader.batches(epoch)]) for epoch in range(2)]
    for epoch, rows in enumerate(epochs):
        np.testing.assert_array_equal(rows, loader.order(epoch)[: 100 if drop_last else 103])
        for block in np.split(rows, range(16, 97, 16))[:6]:
            beginnings = set(block) - set((block + 1) % 103)
            assert len(beginnings) == 1  # a run, around the end of the data
    assert not np.array_equal(*epochs)
    for batch in loader.batches(0):
        np.testing.assert_array_equal(batch["X"], values[batch["y"]])
    with pytest.raises(DataError, match="buffer_size does not apply to a stream"):
        DataLoader(iter([]), buffer_size=10)


def test_arrays_of_an_hdf5_file_are_read_in_blocks(tmp_path):
    values = np.random.default_rng(1).normal(size=(50, 2))
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["X"], file["y"] = values, np.arange(50)
        loader = DataLoader({"X": file["X"], "y": file["y"]}, batch_size=8, seed=0)
        assert not loader.in_memory and loader.total_size == 50
        batches = list(loader)
    rows = np.concatenate([batch["y"] for batch in batches])
    np.testing.assert_array_equal(np.sort(rows), np.arange(50))
    np.testing.assert_array_equal(np.concatenate([b["X"] for b in batches]), values[rows])


def test_parquet_files_of_different_kinds(tmp_path):
    def write(name, **columns):
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")

    def loader():
        return DataLoader.from_parquet(tmp_path, {"y": "y"}, batch_size=2, shuffle=False)

    write("0", y=[1.0, 2.0])
    write("1", y=pyarrow.array([], pyarrow.float64()))  # as Spark writes them
    write("2", y=pyarrow.array([3.0, 4.0], pyarrow.float32()), not_used=["a", "b"])
    np.testing.assert_array_equal(np.concatenate([batch["y"] for batch in loader()]), [1, 2, 3, 4])
    with pytest.raises(DataError, match="2.parquet has other columns than 0.*Say which ones"):
        DataLoader.from_parquet(tmp_path, batch_size=2)
    write("3", y=["a", "b"])
    with pytest.raises(DataError, match="'y' of 3.parquet has another type .* string.*floating"):
        loader()
    write("3", y=[1.0, None])
    with pytest.raises(DataError, match="3.parquet, row group 0: column 'y' has missing values"):
        list(loader())
    (tmp_path / "3.parquet").write_bytes((tmp_path / "2.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="3.parquet cannot be read as a Parquet file"):
        loader()


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError)])
def test_a_buffer_has_some_rows(size, error, tmp_path):
    parquet.write_table(pyarrow.table({"a": [1.0, 2.0]}), tmp_path / "0.parquet")
    with pytest.raises(error, match="buffer_size"):
        DataLoader.from_parquet(tmp_path, batch_size=1, buffer_size=size)


def test_a_zarr_group_is_read_in_blocks():
    group = zarr.create_group(store={})
    group.create_array("y", data=np.arange(1_000.0))
    loader = DataLoader(group, batch_size=7)
    assert not loader.in_memory and loader.total_size == 1_000
    found = rows(loader)
    np.testing.assert_array_equal(np.sort(found), np.arange(1_000.0))
    assert not np.array_equal(found, np.arange(1_000.0))


def write_parquet(folder, n=1_000):
    for i, part in enumerate(np.array_split(np.arange(float(n)), 3)):
        table = pyarrow.table({"x0": part, "x1": 2 * part, "y": 3 * part})
        parquet.write_table(table, folder / f"{i}.parquet", row_group_size=100)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_parquet_folder_gives_each_row_once(tmp_path, shuffle):
    write_parquet(tmp_path)
    columns = {"X": ["x0", "x1"], "y": "y"}
    loader = DataLoader.from_parquet(tmp_path, columns, batch_size=64, shuffle=shuffle)
    batches = list(loader.batches(0, 1))
    assert [len(b["y"]) for b in batches] == [64] * 15 + [40]
    found = np.concatenate([b["X"] for b in batches])
    y = np.concatenate([b["y"] for b in batches])
    np.testing.assert_array_equal(3 * found[:, 0], y)
    np.testing.assert_array_equal(np.sort(y), 3 * np.arange(1_000.0))
    again = np.concatenate([b["y"] for b in loader.batches(0, 1)])
    np.testing.assert_array_equal(again, y)


def test_a_model_is_fitted_from_parquet(tmp_path):
    write_parquet(tmp_path)
    loader = DataLoader.from_parquet(tmp_path, {"y": "y"}, batch_size=64)
    assert fit(loader, 40).losses.shape == (40,)


def test_parquet_files_without_the_column_are_refused(tmp_path):
    write_parquet(tmp_path)
    with pytest.raises(DataError, match="no column 'z'"):
        DataLoader.from_parquet(tmp_path, {"y": "z"})
    with pytest.raises(DataError, match="no Parquet files"):
        DataLoader.from_parquet(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"y": np.array([1.0, np.nan])}, {}, "NaN or infinite.*row 1.*handlers.mask"),
        ({"y": np.array([1.0, np.inf])}, {}, "NaN or infinite.*row 1.*switch"),
        ({"y": np.array(["a", "b"])}, {}, "not numeric"),
        ({"X": X, "y": Y[:9]}, {}, "different numbers of rows"),
        ({"y": np.zeros(0)}, {}, "nothing in it"),
        ({}, {}, "nothing in it"),
        ({"y": Y}, {"batch_size": 11}, "larger than the data"),
        ({"y": Y}, {"total_size": 11}, "contradicts"),
        ({"y": np.float64(1.0)}, {}, "no rows"),
        ([{"y": Y}], {"batch_size": 5}, "does not apply to a stream"),
    ],
)
def test_bad_data_are_refused_at_once(data, options, message):
    with pytest.raises(DataError, match=message):
        DataLoader(data, **options)


def test_wrong_columns_are_named():
    with pytest.raises(DataError, match="column 'z' that neither model nor guide takes"):
        fit(DataLoader({"y": Y, "z": Y}))


def test_a_stream_needs_its_total_size():
    with pytest.raises(DataError, match="total_size=1_000_000"):
        fit(DataLoader(iter([{"y": Y}])))


def test_a_loader_is_true_even_if_it_does_not_know_its_length():
    endless = DataLoader(lambda: iter([{"y": Y}]), total_size=100)
    with pytest.raises(TypeError, match="fit\\(n=10_000\\)"):
        len(endless)
    assert endless


def test_a_misspelt_column_of_a_batch_is_suggested():
    with pytest.raises(DataError, match=r"other columns.*Did you mean 'yields'\?"):
        check_batch({"yield": Y}, {"yields": Y}, "The batch")


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"y": np.append(Y[1:], np.nan)}, "Batch 2.*NaN"),
        ({"z": Y}, "other columns"),
        ({"y": np.arange(10)}, "another dtype"),
        ({"y": X}, "another shape"),
        (None, "Batch 2 of epoch 0 is neither a dict.*NoneType"),
        ((Y, Y), "Batch 2 of epoch 0 is a tuple without names"),
    ],
)
def test_a_bad_batch_of_a_stream_is_an_error(bad, message, prefetch):
    batches = [{"y": Y}, {"y": Y + 1}, bad]
    with pytest.raises(DataError, match=message):
        fit(DataLoader(batches, total_size=30, prefetch=prefetch), 3)


def test_a_stream_that_is_too_short_is_an_error():
    with pytest.raises(DataError, match="ended after 2 batches.*2 of the 5"):
        fit(DataLoader(({"y": Y} for _ in range(2)), total_size=20), 5)


def test_a_list_of_batches_has_many_epochs_and_a_generator_one():
    batches = [{"y": Y}, {"y": Y[:4]}, {"y": Y + 1}]
    again = fit(DataLoader(lambda: iter(batches * 3), total_size=24), 9)
    once = fit(DataLoader(iter(batches * 3), total_size=24), 9)
    many = fit(DataLoader(batches, total_size=24), 9)
    np.testing.assert_array_equal(again.losses, once.losses)
    np.testing.assert_array_equal(again.losses, many.losses)


def test_a_function_that_makes_batches_is_called_for_each_epoch():
    def batches():
        yield {"y": Y}
        yield {"y": Y[:4]}

    once = fit(DataLoader(list(batches()), total_size=14), 6)
    again = fit(DataLoader(batches, total_size=14), 6)
    np.testing.assert_array_equal(once.losses, again.losses)
    with pytest.raises(DataError, match="does not return an iterable.*Found: NoneType"):
        fit(DataLoader(lambda: None, total_size=24), 1)
    with pytest.raises(TypeError, match="arrays by name, or an iterable of batches"):
        DataLoader(int)


def parquet_of(folder, **columns):
    number = len(list(folder.iterdir()))
    parquet.write_table(pyarrow.table(columns), folder / f"{number}.parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, None, 3.0], "row group 0: column 'y' has missing values.*1 of 3"),
        ([1.0, np.nan, 3.0], "'y' has values that are NaN.*the first is row 1"),
        (["a", "b", "c"], "'y' is not numeric"),
    ],
)
def test_bad_rows_of_a_parquet_file_are_an_error_at_the_step(tmp_path, column, message):
    parquet_of(tmp_path, y=column)
    with pytest.raises(DataError, match=message):
        fit(DataLoader.from_parquet(tmp_path, batch_size=3, shuffle=False))


def test_parquet_files_that_do_not_belong_together_are_refused(tmp_path):
    parquet_of(tmp_path, y=[1.0, 2.0])
    with pytest.raises(DataError, match="larger than the data.*batch_size=5 of 2 rows"):
        DataLoader.from_parquet(tmp_path, batch_size=5)
    parquet_of(tmp_path, z=[1.0, 2.0])
    with pytest.raises(DataError, match="1.parquet has other columns than 0.parquet"):
        DataLoader.from_parquet(tmp_path, batch_size=2)


def test_masked_data_are_refused():
    masked = np.ma.masked_greater(Y, 7.5)
    with pytest.raises(DataError, match="'y' has missing values.*2 masked entries"):
        DataLoader({"y": masked})


def test_a_stream_without_batches_is_an_error():
    with pytest.raises(DataError, match="The stream has no batches"):
        fit(DataLoader([], total_size=3))


def test_rows_of_another_kind_than_those_of_the_model_are_refused():
    with pm.Model() as built:
        X_ = pm.Data("X", np.zeros((4, 3)))
        group = pm.Data("group", np.zeros(4, dtype=int))
        w = pm.Normal("w", shape=2)
        pm.Normal("y", w[group] + X_.sum(-1), 1.0, observed=np.zeros(4))
    svi = SVI(built, AutoNormal(built), **FAST)
    with pytest.raises(DataError, match=r"'X' have another shape.*\(2,\).*Expected: \(3,\)"):
        Trainer(svi, DataLoader({"X": X})).fit(n=1)
    with pytest.raises(DataError, match="'group' has another dtype.*float64.*Expected: int"):
        Trainer(svi, DataLoader({"group": Y})).fit(n=1)


def test_a_bad_batch_leaves_nothing_half_updated(tmp_path):
    good = [{"y": Y + i} for i in range(8)]
    bad = [*good[:5], {"y": Y * np.nan}, *good[6:]]

    def run(batches, resume=False):
        svi = SVI(model, AutoNormal(model), **FAST)
        saved = callbacks.Checkpoint(tmp_path, every=2) if resume is not None else None
        trainer = Trainer(svi, DataLoader(batches, total_size=80), [saved] if saved else [])
        return trainer.fit(n=8, random_seed=0, resume=bool(resume))

    whole = run(good, resume=None)
    with pytest.raises(DataError, match="Batch 5"):
        run(bad)
    resumed = run(good, resume=True)
    assert resumed.state == whole.state
    np.testing.assert_array_equal(resumed.losses, whole.losses)


@pytest.mark.parametrize("n_columns", [2, 4, 11])
def test_columns_are_put_into_rows(n_columns):
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 5, 10_000), *rng.normal(size=(n_columns - 1, 10_000))]
    out = np.empty((10_000, n_columns))
    Columns(columns).put(out)
    np.testing.assert_array_equal(out, np.column_stack(columns))


@pytest.mark.parametrize("dtype", ["bool", "int8", "float32", "uint64"])
@pytest.mark.parametrize("n_rows", [0, 1, 513])
def test_columns_of_any_type_need_not_be_contiguous(dtype, n_rows):
    values = np.random.default_rng(0).normal(scale=3.0, size=(2 * n_rows, 5)).astype(dtype)[::2]
    rows = np.asarray(Columns(list(values.T)))
    assert rows.dtype == ("float64" if dtype == "float32" else dtype)  # the precision of the fit
    np.testing.assert_array_equal(rows, values)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_whole_numbers_beside_others_leave_them_in_the_precision_of_the_fit(kind, tmp_path):
    table = pyarrow.table({"x": Y, "n": np.arange(10), "b": Y > 3})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytensor.config.change_flags(floatX=kind):
        columns = {"X": ["x", "n", "b"], "whole": ["n", "b"]}
        loader = DataLoader.from_parquet(tmp_path, columns, batch_size=10, shuffle=False)
        batch = next(iter(loader))
    assert (batch["X"].dtype, batch["whole"].dtype) == (kind, "int64")
    np.testing.assert_array_equal(batch["X"], np.column_stack([Y, np.arange(10), Y > 3]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 3, 4])  # in and behind a group of four
def test_columns_say_where_a_number_is_not_finite(bad, column, tmp_path):
    columns = {f"x{i}": np.arange(6_000.0) for i in range(5)}
    columns[f"x{column}"][5_432] = bad
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=2_000)
    loader = DataLoader.from_parquet(tmp_path, {"X": list(columns)}, batch_size=10)
    message = "a.parquet, row group 2: 'X' has values that are NaN.*the first is row 1432"
    with pytest.raises(DataError, match=message):
        list(loader)


def test_numbers_whose_sum_is_too_large_are_taken():
    looked: list[str] = []
    columns = Columns(np.full((5, 3), 1e308), check=lambda: looked.append("closer"))
    columns.put(out := np.empty((3, 5)))
    np.testing.assert_array_equal(out, 1e308)
    assert looked == ["closer"]


@pytest.mark.parametrize("at_once", [1, 10**6])
@pytest.mark.parametrize("mapped", [1, 1_000])
def test_files_closed_in_between_and_row_groups_read_in_parts(
    tmp_path, monkeypatch, at_once, mapped
):
    monkeypatch.setattr("pymc_svi.data.parquet._BYTES_MAPPED", mapped)
    monkeypatch.setattr("pymc_svi.data.parquet._BYTES_AT_ONCE", at_once)
    monkeypatch.setattr("pymc_svi.data.parquet._BYTES_OF_A_PART", 2 * 8 * 4)  # four rows
    values = np.arange(200.0).reshape(20, 10)
    for number, part in enumerate(values):
        table = pyarrow.table({"a": part, "b": part + 0.5})
        parquet.write_table(table, tmp_path / f"{number:02}.parquet")
    loader = DataLoader.from_parquet(tmp_path, {"X": ["a", "b"]}, batch_size=3, seed=1)
    for epoch in range(2):
        rows = np.concatenate([batch["X"] for batch in loader.batches(epoch)])
        np.testing.assert_array_equal(np.sort(rows[:, 0]), values.ravel())
        np.testing.assert_array_equal(rows[:, 1], rows[:, 0] + 0.5)


def test_a_bad_row_of_a_row_group_that_is_read_in_parts_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pymc_svi.data.parquet._BYTES_AT_ONCE", 1)
    monkeypatch.setattr("pymc_svi.data.parquet._BYTES_OF_A_PART", 8 * 40)
    values = np.arange(100.0)
    values[57] = np.nan
    parquet.write_table(pyarrow.table({"y": values}), tmp_path / "a.parquet")
    loader = DataLoader.from_parquet(tmp_path, batch_size=10)
    with pytest.raises(DataError, match="a.parquet, row group 0, rows 40 to 80: 'y'.*is row 17"):
        list(loader)


def test_a_cache_is_filled_once_and_changes_no_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("pymc_svi.data.parquet._BYTES_AT_ONCE", 500)
    monkeypatch.setattr("pymc_svi.data.parquet._BYTES_OF_A_PART", 240)
    cache = tmp_path / "cache"
    columns = {"a": np.arange(100.0), "b": np.arange(100), "c": np.arange(100) % 3 == 0}
    for name, part in (("0.parquet", slice(0, 73)), ("1.parquet", slice(73, None))):
        table = pyarrow.table({n: column[part] for n, column in columns.items()})
        parquet.write_table(table, tmp_path / name, row_group_size=30)

    def batches(cache):
        loader = DataLoader.from_parquet(
            tmp_path, {"X": ["a", "b"], "c": "c"}, batch_size=7, seed=1, cache=cache
        )
        return [batch for epoch in range(2) for batch in loader.batches(epoch)]

    plain = batches(None)
    first = batches(cache)
    decoded = []
    monkeypatch.setattr(
        "pymc_svi.data.parquet.arrow_column", lambda *column: decoded.append(column)
    )
    for cached in (first, batches(cache)):
        for mine, expected in zip(cached, plain, strict=True):
            for name, array in expected.items():
                np.testing.assert_array_equal(mine[name], array)
                assert mine[name].dtype == array.dtype
    assert not decoded


def test_a_file_that_has_changed_is_decoded_anew_into_the_cache(tmp_path):
    def values():
        return DataLoader.from_parquet(tmp_path, batch_size=3, shuffle=False, cache=tmp_path / "c")

    parquet.write_table(pyarrow.table({"a": [1.0, 2.0, 3.0]}), tmp_path / "0.parquet")
    [before] = values()
    parquet.write_table(pyarrow.table({"a": [4.0, 5.0, 6.0]}), tmp_path / "0.parquet")
    [after] = values()
    np.testing.assert_array_equal(before["a"], [1, 2, 3])
    np.testing.assert_array_equal(after["a"], [4, 5, 6])


def test_a_cache_has_whole_row_groups_only(tmp_path):
    table = pyarrow.table({"a": [1.0, 2.0, np.nan, 4.0]})
    parquet.write_table(table, tmp_path / "0.parquet", row_group_size=2)
    loader = DataLoader.from_parquet(tmp_path, batch_size=1, cache=tmp_path / "c", shuffle=False)
    for _ in range(2):
        with pytest.raises(DataError, match="row group 1: 'a' has values that are NaN"):
            list(loader)
    [kept] = (tmp_path / "c").iterdir()
    assert not kept.name.startswith("unfinished")


# --- reading ahead ---------------------------------------------------------------------------------


def test_tables_read_ahead_are_the_same_tables_and_errors_come_in_their_place():
    def tables():
        yield from range(3)
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        for table in read_ahead(tables(), Pace(), 2):
            found.append((table, threading.active_count()))
    assert [table for table, _ in found] == [0, 1, 2]
    assert not [t for t in threading.enumerate() if t.name.startswith("reading")]
    assert list(read_ahead(iter([]), Pace(), 2)) == []


@pytest.mark.parametrize("n_ready", [0, 9])  # the thread that reads has no time to join, or has
@pytest.mark.parametrize("seed", [None, [1, 2]])
@pytest.mark.parametrize("lengths", [[7, 1, 30, 4, 10], [12, 12, 4], [10, 10], [3], [25, 2]])
def test_blocks_are_the_same_whichever_thread_joins_them(lengths, seed, n_ready, monkeypatch):
    ends = np.cumsum([0, *lengths])
    columns = np.random.default_rng(0).normal(size=(ends[-1], 2))

    def tables():
        for start, stop in zip(ends, ends[1:], strict=False):
            part = columns[start:stop]
            y = np.arange(start, stop)
            y.flags.writeable = False  # as those of Arrow
            yield {"y": y, "X": Columns(list(part.T))}

    pace = Pace()
    monkeypatch.setattr(Pace, "n_ready", n_ready)
    cut = Cut(batch_size=4, enough=12, seed=seed, ragged=ends[-1] % 4 > 0)
    blocks = list(cut.blocks(tables(), pace))
    batches = [b.batch(i * 4, i * 4 + 4) for b in blocks for i in range(b.n_batches)]
    assert [len(batch["y"]) for batch in batches[:-1]] == [4] * (len(batches) - 1)
    rows = np.concatenate([batch["y"] for batch in batches])
    np.testing.assert_array_equal(np.sort(rows) if seed else rows, np.arange(ends[-1]))
    np.testing.assert_array_equal(np.concatenate([b["X"] for b in batches]), columns[rows])
    plain = [b.batch(i * 4, i * 4 + 4) for b in cut.blocks(tables()) for i in range(b.n_batches)]
    np.testing.assert_array_equal(np.concatenate([batch["y"] for batch in plain]), rows)


@pytest.mark.parametrize("n_ready", [0, 9])
def test_a_few_tables_are_held_however_many_there_are(n_ready, monkeypatch):
    monkeypatch.setattr(Pace, "n_ready", n_ready)
    alive = [0]

    def tables():
        for number in range(200):
            columns = [np.full(30, float(number)) for _ in range(2)]
            alive.append(alive[-1] + 1)
            weakref.finalize(columns[0], lambda: alive.append(alive[-1] - 1))
            yield {"X": Columns(columns)}

    for number, block in enumerate(Cut(10, 25, [1], False).blocks(tables(), Pace())):
        assert (block.rows["X"] == number).all()
        time.sleep(0.001)  # what reads ahead is far ahead if nothing holds it back
    assert number == 199 and max(alive) <= 12


def test_memory_of_a_block_is_used_again_once_nothing_refers_to_it():
    table = {"X": Columns([np.arange(40.0), np.arange(40.0)])}
    blocks = Cut(10, 25, None, False).blocks([table] * 6)
    places, kept = [], None
    for number, block in enumerate(blocks):
        places.append(block.rows["X"].ctypes.data)
        if number == 1:
            kept = block.batch(0, 10)["X"]
        assert (block.rows["X"] == np.arange(40.0)[:, None]).all()
        del block
    assert (kept == np.arange(10.0)[:, None]).all()
    assert len(set(places)) < 6 and places[1] not in places[2:]


def test_an_epoch_that_is_left_ends_its_reading(tmp_path):
    columns = {"x": np.arange(1_000.0), "y": np.arange(1_000.0)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=100)
    loader = DataLoader.from_parquet(tmp_path, batch_size=10, buffer_size=100)
    ahead = loader.source.blocks(0, 3, ahead=True)
    for mine, plain in zip(ahead, loader.source.blocks(0, 3), strict=False):
        np.testing.assert_array_equal(mine.rows["x"], plain.rows["x"])
        np.testing.assert_array_equal(mine.order, plain.order)
        np.testing.assert_array_equal(mine.rows["x"], mine.rows["y"])
        break
    ahead.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("reading")]


# --- what frames, datasets and streams may hold ------------------------------------------------


def whole(data, **options):
    return DataLoader(data, shuffle=False, **options).arrays


def test_objects_that_are_numbers_are_numbers():
    frame = pandas.DataFrame({"f": [0.5, 1.5], "b": [True, False], "n": [np.zeros(2), np.ones(2)]})
    arrays = whole({"X": frame[["f", "b"]], "n": frame["n"]})
    np.testing.assert_array_equal(arrays["X"], [[0.5, 1.0], [1.5, 0.0]])
    np.testing.assert_array_equal(arrays["n"], [[0.0, 0.0], [1.0, 1.0]])
    with pytest.raises(DataError, match="'b' has missing values. Found: 1 of 2 entries"):
        whole(pandas.DataFrame({"b": pandas.array([True, None], dtype="boolean")}))
    with pytest.raises(DataError, match="'n' is not numeric"):
        whole(pandas.DataFrame({"n": [np.zeros(2), np.ones(3)]}))


def test_frames_of_which_rows_or_columns_cannot_be_told_are_refused():
    x, y = pandas.Series([1.0, 2.0], index=[0, 1]), pandas.Series([1.0, 2.0], index=[1, 0])
    with pytest.raises(DataError, match="'x' and 'y' have the same rows in another order"):
        whole({"x": x, "y": y})
    assert len(whole({"x": x, "y": y.reset_index(drop=True)})) == 2
    with pytest.raises(DataError, match="columns of the same name. Found: 'a'"):
        whole(pandas.DataFrame(np.eye(3), columns=["a", "a", "b"]))

    class Frame(pandas.DataFrame):
        pass

    assert set(whole(Frame({"a": [1.0]}))) == {"a"}


def test_a_dataset_is_cut_along_the_dim_that_is_named():
    X = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("feature", "row"))
    data = xr.Dataset({"X": X, "y": ("row", np.arange(3.0))})
    np.testing.assert_array_equal(whole(data, dim="row")["X"], X.values.T)
    with pytest.raises(DataError, match="different first dims.*dim="):
        whole(data)
    with pytest.raises(DataError, match="'y' of the Dataset have no dim 'feature'"):
        whole(data, dim="feature")
    with pytest.raises(TypeError, match="dim is for an xarray.Dataset"):
        whole({"X": X}, dim="row")


TABLE = {"x": np.arange(6.0), "group": np.arange(6) % 2, "there": np.arange(6) > 2}


@pytest.mark.parametrize(
    "make", [pyarrow.table, pyarrow.record_batch, pandas.DataFrame, polars.DataFrame]
)
def test_tables_are_columns_whole_or_in_a_stream(make):
    whole = DataLoader(make(TABLE), batch_size=2, shuffle=False)
    parts = [{name: column[i : i + 2] for name, column in TABLE.items()} for i in (0, 2, 4)]
    stream = DataLoader([make(part) for part in parts])
    assert whole.total_size == stream.total_size == 6
    for loader in (whole, stream):
        for batch, part in zip(loader, parts, strict=True):
            assert list(batch) == list(TABLE)
            for name, array in part.items():
                np.testing.assert_array_equal(batch[name], array)
                assert batch[name].dtype == array.dtype
    with pytest.raises(DataError, match="'x' has .* NaN|'x' has missing values.*1 of 2"):
        DataLoader(
            make(
                {"x": pyarrow.array([1.0, None])}
                if "pyarrow" in make.__module__
                else {"x": [1.0, None]}
            )
        )


def test_tables_that_have_not_been_read_say_how_to_read_them(tmp_path):
    with pytest.raises(TypeError, match="LazyFrame.*frame.collect.*sink_parquet"):
        DataLoader(polars.LazyFrame(TABLE), 2)
    parquet.write_table(pyarrow.table(TABLE), tmp_path / "0.parquet")
    data = dataset.dataset(tmp_path)
    with pytest.raises(TypeError, match=r"FileSystemDataset.*from_parquet.*dataset.to_batches\(\)"):
        DataLoader(data, 2)
    [batch] = DataLoader(lambda: data.to_batches(), total_size=data.count_rows())
    assert list(batch) == list(TABLE)


def test_names_are_for_arrays_without_them():
    x, y = np.arange(6.0), np.arange(6) * 2
    for data in ((x, y), [x, y]):
        loader = DataLoader(data, 4, names=["x", "y"])
        assert loader.total_size == 6 and list(loader.arrays) == ["x", "y"]
    assert list(DataLoader(x, 4, names=["x"]).arrays) == ["x"]
    with pytest.raises(DataError, match="names 'z', and data with the names 'x'"):
        DataLoader({"x": x}, names=["z"])
    with pytest.raises(TypeError, match="names is a list of words"):
        DataLoader([(x, y)], names="xy")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.array(["2020-01-01"], "datetime64[D]"), r"\(x - x.min\(\)\) / np.timedelta64"),
        (np.array([1], "timedelta64[D]"), "such as days: x / np.timedelta64"),
        (pandas.Categorical(["a"]), r"np.unique\(x, return_inverse=True\)"),
        (np.array([Decimal(1)]), r"x.astype\(float\)"),
        (np.zeros(1, [("a", float)]), "fields one by one"),
    ],
)
def test_columns_of_other_kinds_say_how_they_become_numbers(column, message):
    with pytest.raises(DataError, match=f"'x' is not numeric.*{message}"):
        DataLoader({"x": column})


@pytest.mark.parametrize("columns", [["a", "b"], "a", {}, {"X": []}, {"X": [1]}, {"X": 1}])
def test_from_parquet_says_how_columns_are_written(columns, tmp_path):
    with pytest.raises(TypeError, match='columns={"X"'):
        DataLoader.from_parquet(tmp_path, columns)
    with pytest.raises(TypeError, match="a folder, or one file"):
        DataLoader.from_parquet([tmp_path])


def test_mistakes_in_what_is_passed_are_told_apart():
    for name in ("drop_last", "prefetch"):
        with pytest.raises(TypeError, match=f"{name} is True or False. Found: 'batch'"):
            DataLoader({"y": np.ones(3)}, **{name: "batch"})
    with pytest.raises(TypeError, match="are a DataLoader already"):
        DataLoader(DataLoader(np.ones(3)))
    with pytest.raises(TypeError, match="not the path to a file.*from_parquet"):
        DataLoader("folder/data.parquet")
    with pytest.raises(DataError, match="a sparse matrix. Pass it as .toarray"):
        DataLoader({"X": scipy.sparse.csr_array(np.eye(3))})
    for seed in (-1, "abc", np.random.default_rng(1)):
        with pytest.raises((TypeError, ValueError), match="DataLoader: seed"):
            DataLoader({"y": np.ones(3)}, seed=seed)
    with pytest.raises(DataError, match="'y' has no rows"):
        DataLoader({"y": zarr.zeros((0, 2))})


def test_a_stream_with_more_rows_than_its_total_size_is_an_error():
    y = np.ones(10)

    def endless():
        while True:
            yield {"y": y}

    def run(batches, total_size):
        loader = DataLoader(batches, total_size=total_size)
        return Trainer(SVI(model, AutoNormal(model), **FAST), loader).fit(n=9, random_seed=0)

    with pytest.raises(DataError, match="total_size=5, but 10 rows in batch 0"):
        run(deque([{"y": y}]), 5)
    with pytest.raises(DataError, match="total_size=20, but 40 rows in the 4 batches of an epoch"):
        run(deque([{"y": y}] * 4), 20)
    for total_size in (20, 80):
        with pytest.raises(DataError, match=f"total_size={total_size}. Expected: 40, the rows"):
            run([{"y": y}] * 4, total_size)
    assert DataLoader([{"y": y}, {"y": y[:4]}]).total_size == 14
    assert len(run(endless, 20).losses) == 9


# --- data of a built model that are not fed ----------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "batch_size", "message"),
    [
        ({}, 3, "'y_data' stayed as long as it is.*mismatch"),
        ({}, 1, "'y_data' stayed as long as it is"),
        ({"dims": "row"}, 3, "'y_data' stayed as long as it is"),
    ],
)
def test_data_that_stay_as_long_as_they_are_beside_batches_are_named(dims, batch_size, message):
    with pm.Model(coords={"row": range(6)}) as built:
        x = pm.Data("x", np.zeros(6), **dims)
        y = pm.Data("y_data", np.zeros(6), **dims)
        pm.Normal("y", pm.Normal("slope") * x, 1.0, observed=y)
    loader = DataLoader({"x": np.ones(6)}, batch_size=batch_size)
    with pytest.raises(DataError, match=message):
        Trainer(SVI(built, AutoNormal(built), **FAST), loader).fit(n=2)


def built_with_arrays_of_its_own(x):
    with pm.Model() as built:
        slope = pm.Normal("slope")
        pm.Normal("y", slope * pm.Data("x", x), 1.0, observed=Y)
    return built


def function_with_arrays_of_its_own(x):
    pm.Normal("y", pm.Normal("slope") * x, 1.0, observed=Y)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    "program", [built_with_arrays_of_its_own(np.ones(10)), function_with_arrays_of_its_own]
)
def test_arrays_of_the_model_that_are_as_long_as_all_data_are_told_beside_batches(
    program, batch_size
):
    """With batches of one row everything fits, and each row would stand beside all outcomes."""
    loader = DataLoader({"x": np.ones(10)}, batch_size=batch_size)
    with pytest.raises(DataError, match="as many rows as all data, 10, beside.*pm.Data"):
        Trainer(SVI(program, AutoNormal(program), **FAST), loader).fit(n=2)


def test_arrays_as_long_as_the_data_that_are_not_beside_their_rows_are_taken():
    def program(x):
        w = pm.Normal("w", np.zeros(10), 1.0)
        pm.Normal("y", (x * w).sum(-1), 1.0, observed=np.zeros(1))
        pm.Normal("z", w, 1.0, observed=Y)

    loader = DataLoader({"x": np.ones((10, 10))}, batch_size=1)
    assert len(Trainer(SVI(program, AutoNormal(program), **FAST), loader).fit(n=2).losses) == 2


def test_a_column_for_an_array_that_a_built_model_has_as_it_is_is_told():
    built = built_with_arrays_of_its_own(np.ones(10))
    loader = DataLoader({"x": np.ones(10), "y": Y}, batch_size=3)
    with pytest.raises(DataError, match=r"'y' that neither.*or make pm.Data\('y', ...\) of it"):
        Trainer(SVI(built, AutoNormal(built), **FAST), loader).fit(n=2)


def test_rows_along_a_dim_of_the_observed_site_alone_are_those_of_the_batch():
    with pm.Model(coords={"row": range(6)}) as built:
        y = pm.Data("y_data", np.zeros(6))
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=y, dims="row")
    loader = DataLoader({"y_data": np.full(9, 2.0)}, batch_size=4)
    result = Trainer(SVI(built, AutoNormal(built), optim.Adam(0.1), **FAST), loader).fit(n=90)
    assert abs(result.params["mu_auto_loc"] - 1.8) < 0.3


def test_data_with_rows_along_another_axis_are_told():
    with pm.Model(coords={"feature": range(2), "row": range(4)}) as model:
        X = pm.Data("X", np.zeros((2, 4)), dims=("feature", "row"))
        w = pm.Normal("w", dims="feature")
        y = pm.Data("y", np.zeros(4), dims="row")
        pm.Normal("obs", w @ X, observed=y, dims="row")
    message = r"'X' are not along its first axis.*dims=\('row', 'feature'\)"
    with pytest.raises(DataError, match=message):
        Trainer(SVI(model, AutoNormal(model)), DataLoader({"y": np.zeros(8)}, 4)).fit(n=1)


def test_data_along_a_dim_of_their_own_may_be_as_long_as_those_of_rows():
    with pm.Model(coords={"place": range(4), "row": range(4)}) as model:
        prior = pm.Data("prior", np.arange(4.0), dims="place")
        group = pm.Data("group", np.zeros(4, int), dims="row")
        level = pm.Normal("level", prior, dims="place")
        pm.Normal("obs", level[group], observed=pm.Data("y", np.zeros(4), dims="row"), dims="row")
    data = {"y": np.zeros(4), "group": np.arange(4)}
    result = Trainer(SVI(model, AutoNormal(model), **FAST), DataLoader(data, 1)).fit(n=1)
    assert np.isfinite(result.losses).all()
