"""A fit that is stopped, or killed, and resumed gives the numbers of one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pymc as pm
import pytest

from pymc_svi import SVI, DataLoader, Trainer, callbacks, optim
from pymc_svi.checkpoint import FILE_NAME, load_arrays, load_fit, save_arrays
from pymc_svi.errors import StateError
from pymc_svi.guides import AutoNormal

FAST = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
Y = np.random.default_rng(0).normal(2.0, 1.0, size=53)


def model(y):
    mu = pm.Normal("mu", 0, 10)
    pm.Normal("y", mu, pm.HalfNormal("sd"), observed=y)


def wider(y):
    mu = pm.Normal("mu", 0, 10, shape=2)
    pm.Normal("y", mu.sum(), 1.0, observed=y)


def trainer(folder=None, *, every=20, program=model, data=None, **options):
    data = DataLoader({"y": Y}, batch_size=10, **options) if data is None else data
    svi = SVI(program, AutoNormal(program), optim.Adam(0.05), **FAST)
    return Trainer(svi, data, [callbacks.Checkpoint(folder, every)] if folder else [])


def stream():
    return DataLoader([{"y": Y[i : i + 10]} for i in range(0, 53, 10)], total_size=53)


def assert_same(a, b):
    assert a.state == b.state
    np.testing.assert_array_equal(a.losses, b.losses)


def parquet(folder):
    """A loader of a folder in which row groups, buffers and batches end at different rows."""
    import pyarrow
    from pyarrow import parquet as pq

    folder.mkdir(exist_ok=True)
    pq.write_table(pyarrow.table({"y": Y}), folder / "0.parquet", row_group_size=17)
    return DataLoader.from_parquet(folder, batch_size=5, buffer_size=12)


@pytest.mark.parametrize("kind", ["shuffled", "once", "in blocks", "in order", "stream", "parquet"])
def test_a_resumed_fit_has_the_numbers_of_an_unbroken_one(tmp_path, kind):
    def make(folder=None):
        if kind == "parquet":
            return trainer(folder, data=parquet(tmp_path / "data"))
        if kind == "stream":
            return trainer(folder, data=stream())
        if kind == "in blocks":
            return trainer(folder, data=DataLoader({"y": Y}, batch_size=10, buffer_size=22))
        return trainer(folder, shuffle="once" if kind == "once" else kind == "shuffled")

    whole = make().fit(n=75, random_seed=3)
    make(tmp_path).fit(n=37, random_seed=3)
    resumed = make(tmp_path).fit(n=75, random_seed=99, resume=True)  # the seed is the saved one
    assert_same(resumed, whole)


def test_resuming_without_a_checkpoint_starts_anew(tmp_path):
    first = trainer(tmp_path).fit(n=5, random_seed=3, resume=True)
    assert first.losses.shape == (5,)


@pytest.mark.parametrize("shuffle", [True, "once"])
def test_one_trainer_fits_twice_with_the_numbers_of_two(shuffle):
    both = trainer(shuffle=shuffle)
    a, b = both.fit(n=20, random_seed=1), both.fit(n=20, random_seed=2)
    assert_same(a, trainer(shuffle=shuffle).fit(n=20, random_seed=1))
    assert_same(b, trainer(shuffle=shuffle).fit(n=20, random_seed=2))
    assert not np.array_equal(a.losses, b.losses)


def test_one_trainer_fits_twice_from_files_with_the_numbers_of_two(tmp_path):
    once = trainer(data=parquet(tmp_path))
    a, b = once.fit(n=14, random_seed=1), once.fit(n=9, random_seed=2)
    assert_same(a, trainer(data=parquet(tmp_path)).fit(n=14, random_seed=1))
    assert_same(b, trainer(data=parquet(tmp_path)).fit(n=9, random_seed=2))
    assert not np.array_equal(a.losses[:9], b.losses)


def test_each_epoch_has_each_row_once_in_another_order():
    loader = DataLoader({"y": np.arange(53.0)}, batch_size=10)
    epochs = [np.concatenate([b["y"] for b in loader.batches(e, seed=1)]) for e in range(2)]
    for rows in epochs:
        np.testing.assert_array_equal(np.sort(rows), np.arange(53.0))
    assert not np.array_equal(*epochs)


def test_compiled_steps_see_the_rows_that_the_loader_gives(tmp_path):
    from pymc_svi.trainer.feeds import feed_of

    loaders = [
        DataLoader({"y": Y}, **{"batch_size": 7, **options})
        for options in (
            {},
            {"batch_size": 10, "drop_last": True},
            {"shuffle": False},
            {"shuffle": "once"},
            {"shuffle": "once", "batch_size": 10, "drop_last": True},
        )
    ]
    for loader in [*loaders, parquet(tmp_path)]:
        feed = feed_of(loader, 5)
        steps = iter(range(1_000))
        for epoch in range(3):
            for batch in loader.batches(epoch, 5):
                np.testing.assert_array_equal(feed.batch_at(next(steps))["y"], batch["y"])
        feed.close()


@pytest.mark.parametrize("cores", [2, 8])
def test_files_give_the_same_rows_however_many_threads_read_them(tmp_path, monkeypatch, cores):
    from pymc_svi.trainer.feeds import feed_of, table

    monkeypatch.setattr(table.os, "cpu_count", lambda: cores)
    before = threading.active_count()
    loader = parquet(tmp_path)
    feed = feed_of(loader, 5)
    for step, batch in enumerate(loader.batches(0, 5)):
        np.testing.assert_array_equal(feed.batch_at(step)["y"], batch["y"])
        if step == 3:
            feed.close()  # and read again from where it was
    assert feed.in_background == (cores > 2)
    feed.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("buffer_size", [None, 22])
def test_parts_of_a_long_order_are_those_of_the_loader(monkeypatch, drop_last, buffer_size):
    from pymc_svi.trainer.feeds import feed_of, in_memory

    options = {"drop_last": drop_last, "buffer_size": buffer_size}
    loader = DataLoader({"y": Y}, batch_size=10, **options)
    whole = trainer(data=loader).fit(n=40, random_seed=3)
    monkeypatch.setattr(in_memory, "_ROWS_OF_ORDER", 25)  # so that 53 rows are many
    feed = feed_of(loader, 5)
    expected = [batch["y"] for epoch in range(4) for batch in loader.batches(epoch, 5)]
    for step in (*range(20), 7, 8, *range(12, 20)):  # going back included
        np.testing.assert_array_equal(feed.batch_at(step)["y"], expected[step])
    assert_same(trainer(data=loader).fit(n=40, random_seed=3), whole)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainer(tmp_path).fit(n=20, random_seed=1)
    with pytest.raises(StateError, match="belongs to another fit"):
        trainer(tmp_path, program=wider).fit(n=40, resume=True)
    with pytest.raises(StateError, match="other data"):
        trainer(tmp_path, drop_last=True).fit(n=40, resume=True)


def of_law(law, observed=None):
    """A model whose params have the same names and shapes whatever the law."""

    def built(y):
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, law("sd"), observed=y)

    if observed is None:
        return built
    with pm.Model() as program:
        built(observed)
    return program


@pytest.mark.parametrize(
    ("law", "differs"),
    [
        (lambda name: pm.Uniform(name, 0, 5), r"'HalfNormal\(0., 1.\)'.*'Uniform\(0, 5\)'"),
        (lambda name: pm.HalfNormal(name, 2), r"'HalfNormal\(0., 1.\)'.*'HalfNormal\(0., 2\)'"),
    ],
)
def test_a_checkpoint_of_a_model_of_other_laws_is_refused(tmp_path, law, differs):
    # Its params would fit, but mean something else, and none would be learned any more.
    trainer(tmp_path, program=of_law(pm.HalfNormal)).fit(n=20, random_seed=1)
    with pytest.raises(StateError, match=rf"it has another model\. Found: {{'sd': {differs}}}"):
        trainer(tmp_path, program=of_law(law)).fit(n=20, resume=True)


def test_a_checkpoint_of_a_model_with_data_of_its_own_is_refused_with_others(tmp_path):
    def fit(observed, **options):
        program = of_law(pm.HalfNormal, observed)
        svi = SVI(program, AutoNormal(program), optim.Adam(0.05), **FAST)
        return Trainer(svi, callbacks=[callbacks.Checkpoint(tmp_path)]).fit(n=5, **options)

    fit(Y)
    fit(Y, resume=True)
    with pytest.raises(StateError, match=r"another model\. Found: {'y': .*53"):
        fit(Y + 1, resume=True)


def test_a_checkpoint_of_other_data_is_refused_with_what_differs(tmp_path):
    trainer(tmp_path).fit(n=20, random_seed=1)
    others = {
        r"Found: \{'sample'": DataLoader({"y": Y + 1e-9}, batch_size=10),
        r"Found: \{'batch_size': 10\}. Expected: \{'batch_size': 9\}": DataLoader({"y": Y}, 9),
        r"Expected: \{'seed': 5\}": DataLoader({"y": Y}, 10, seed=5),
        r"Expected: \{'buffer_size': 20\}": DataLoader({"y": Y}, 10, buffer_size=20),
        r"'columns': \{'y': \['float64', \[\]\]\}": DataLoader({"y": Y.astype(int)}, 10),
    }
    for message, data in others.items():
        with pytest.raises(StateError, match=message):
            trainer(tmp_path, data=data).fit(n=40, resume=True)
    saved = load_fit(tmp_path / FILE_NAME)
    trainer(data=others.popitem()[1]).fit(n=21, resume=saved.state)  # of one's own will


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / FILE_NAME
    path.write_bytes(b"something else entirely")
    with pytest.raises(StateError, match="not a checkpoint"):
        load_fit(path)
    save_arrays(path, {"x": np.zeros(2)}, {})
    with pytest.raises(StateError, match="not a checkpoint of a fit"):
        load_fit(path)
    save_arrays(path, {"x": np.zeros(2)}, {"pymc_svi": json.dumps({"version": 99})})
    with pytest.raises(StateError, match="later version"):
        load_fit(path)


def test_a_checkpoint_that_is_not_complete_is_refused(tmp_path):
    path = tmp_path / FILE_NAME
    for about in ("{not json", "[]", json.dumps({"version": 1}), json.dumps({"version": "1"})):
        save_arrays(path, {"losses": np.zeros(2)}, {"pymc_svi": about})
        with pytest.raises(StateError, match="not a complete checkpoint"):
            load_fit(path)


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    steps = []
    made = trainer(tmp_path / "file")
    made.callbacks.append(callbacks.as_callback(lambda moment: steps.append(moment.step)))
    with pytest.raises(OSError, match="Checkpoints cannot be written to .*file.*another folder"):
        made.fit(n=1_000)
    assert not steps


def test_a_full_disk_ends_the_fit_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    whole = trainer().fit(n=60, random_seed=0)
    made = trainer(tmp_path)
    made.fit(n=20, random_seed=0)
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(full))
        with pytest.raises(OSError, match="step 40 could not be .*No space left.*resume=True"):
            made.fit(n=60, random_seed=0, resume=True)
    assert_same(made.fit(n=60, random_seed=0, resume=True), whole)


def test_fewer_steps_than_the_checkpoint_has_are_warned_of(tmp_path):
    first = trainer(tmp_path).fit(n=20, random_seed=0)
    with pytest.warns(UserWarning, match="20 steps taken, 6 asked for"):
        assert_same(trainer(tmp_path).fit(epochs=1, random_seed=0, resume=True), first)


def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / FILE_NAME
    save_arrays(path, {"x": np.zeros(2)}, {})
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_arrays(path, {"x": np.ones(2)}, {})
    np.testing.assert_array_equal(load_arrays(path)[0]["x"], np.zeros(2))
    assert [p.name for p in tmp_path.iterdir()] == [FILE_NAME]


_SCRIPT = """
import sys, time
from tests.trainer.test_resume import trainer
from pymc_svi import callbacks
made = trainer(sys.argv[1], every=10)
made.callbacks.append(callbacks.as_callback(lambda moment: time.sleep(float(sys.argv[2]))))
made.callbacks[-1].every = 5
made.fit(n=400, random_seed=7, resume=True)
"""


def _killed(folder: Path, kills: int, seed: int) -> int:
    """Run a fit in processes that are killed at random moments, until one of them ends."""
    generator = np.random.default_rng(seed)
    path, done = folder / FILE_NAME, 0
    while True:
        before = load_fit(path).state.step if path.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(folder), "0.02" if done < kills else "0"],
            cwd=Path(__file__).parents[2],
        )
        if done >= kills:
            assert process.wait(timeout=300) == 0
            return done
        # It is left alone until it has saved something new, then killed at a random moment.
        until = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < until:
            if path.exists() and load_fit(path).state.step > before:
                break
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_fit_that_is_killed_at_random_moments_ends_as_an_unbroken_one(tmp_path, kills):
    if kills > 3 and not os.environ.get("PYMC_SVI_MANY_KILLS"):
        pytest.skip("each process takes seconds to start: set PYMC_SVI_MANY_KILLS=1")
    _killed(tmp_path, kills, seed=kills)
    saved = load_fit(tmp_path / FILE_NAME)
    whole = trainer().fit(n=400, random_seed=7)
    assert saved.state == whole.state
    np.testing.assert_array_equal(saved.losses, whole.losses)
