"""The trainer: methods, callbacks, what it does with steps that are not finite."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi import ADVI, SVI, DataLoader, FullRankADVI, Inference, Trainer, callbacks, fit, optim
from pymc_svi.errors import NonFiniteError
from pymc_svi.guides import AutoNormal

FAST = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
Y = np.random.default_rng(0).normal(2.0, 1.0, size=60)


def model(y):
    mu = pm.Normal("mu", 0, 10)
    pm.Normal("y", mu, 1.0, observed=y)


def trainer(*called, program=model, data=Y, **options):
    svi = SVI(program, AutoNormal(program), optim.Adam(0.05), **FAST)
    return Trainer(svi, DataLoader({"y": data}, batch_size=20), called, **options)


def test_an_inference_of_a_dozen_lines():
    class Mine(Inference):
        def init(self, batch):
            self.mean, self.count = 0.0, 0

        def step(self, batch):
            self.count += 1
            error = batch["y"].mean() - self.mean
            self.mean += error / self.count
            return error**2

    result = Trainer(method=Mine(), dataloader=DataLoader({"y": Y}, batch_size=20)).fit(epochs=2)
    np.testing.assert_allclose(result.params["mean"], Y.mean())
    assert result.losses.shape == (6,)


def test_a_method_of_ones_own_resumes_from_its_checkpoint(tmp_path):
    class Mine(Inference):
        def init(self):
            self.mean = 0.0

        def step(self, batch):
            self.mean += 0.1 * (batch["y"].mean() - self.mean)
            return self.mean

    def run(n, *called, resume=False):
        loader = DataLoader({"y": Y}, batch_size=7)
        return Trainer(Mine(), loader, called).fit(n=n, random_seed=4, resume=resume)

    whole = run(30)
    run(11, callbacks.Checkpoint(tmp_path, every=5))
    resumed = run(30, callbacks.Checkpoint(tmp_path, every=5), resume=True)
    np.testing.assert_array_equal(resumed.losses, whole.losses)


@pytest.mark.parametrize("method", [ADVI, FullRankADVI])
def test_methods_take_the_model_of_the_context(method):
    with pm.Model():
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, 1.0, observed=Y)
        result = Trainer(method(optim=optim.Adam(0.05))).fit(n=50, random_seed=0)
    assert result.losses.shape == (50,)
    with pytest.raises(TypeError, match="has no model"):
        Trainer(method()).fit(n=1)


def test_fit_names_its_methods():
    with pytest.raises(ValueError, match="Did you mean 'advi'"):
        fit(lambda: pm.Normal("x"), method="advl")


def test_callbacks_are_called_with_what_they_take():
    seen = []
    trainer(
        lambda moment: seen.append(moment.params["mu_auto_loc"].shape),
        lambda state, losses: seen.append((state.step, len(losses))),
        lambda approx, losses, i: seen.append((len(approx.params), i)),
    ).fit(n=150, random_seed=0)
    assert seen == [(), (100, 100), (2, 100), (), (150, 150), (2, 150)]


def test_callbacks_of_pymc_work():
    from pymc.variational.callbacks import CheckParametersConvergence

    result = trainer(CheckParametersConvergence(every=1, tolerance=10.0)).fit(n=500, random_seed=0)
    assert len(result.losses) == 200


def test_early_stopping_and_convergence_end_the_fit():
    stop = callbacks.EarlyStopping(patience=1, min_delta=1e9, every=10)
    assert len(trainer(stop).fit(n=100, random_seed=0).losses) == 20
    converged = callbacks.CheckParametersConvergence(every=10, tolerance=10.0)
    assert len(trainer(converged).fit(n=100, random_seed=0).losses) == 20


def test_trackers_record():
    tracker = callbacks.Tracker(every=10, step=lambda moment: moment.step)
    held = callbacks.HeldOutELBO({"y": Y[:30]}, every=20)
    rates = callbacks.LearningRateMonitor(lambda step: 1 / (1 + step), every=20)
    trainer(tracker, held, rates).fit(n=40, random_seed=0)
    assert tracker["step"] == [10, 20, 30, 40]
    assert held.steps == [20, 40] and held.elbos[1] > held.elbos[0]
    np.testing.assert_allclose(rates.rates, [1 / 21, 1 / 41])


def fragile(y):
    # A step on a batch with the marked row has a loss that is not a number.
    mu = pm.Normal("mu", 0, 10)
    pm.Normal("y", mu, 1.0, observed=y)
    pm.Potential("trap", pm.math.switch(pm.math.max(y) > 50, np.nan, 0.0))


MARKED = np.where(np.arange(60) == 17, 100.0, Y)


def test_a_step_that_is_not_finite_raises_with_the_site_and_the_state_before():
    with pytest.raises(NonFiniteError, match="site 'trap'") as raised:
        trainer(program=fragile, data=MARKED).fit(n=30, random_seed=0)
    assert raised.value.step < 3 and raised.value.state.step == raised.value.step


def test_a_step_that_is_not_finite_is_skipped_and_the_next_batch_is_another():
    result = trainer(program=fragile, data=MARKED, on_nonfinite="skip").fit(n=30, random_seed=0)
    assert np.isnan(result.losses).sum() == 10  # one of the three batches of each epoch
    assert np.isfinite(result.params["mu_auto_loc"])


def test_a_rollback_gives_up_if_it_does_not_help():
    with pytest.raises(NonFiniteError):
        trainer(program=fragile, data=MARKED, on_nonfinite="rollback").fit(n=30, random_seed=0)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="ADVI\\(\\)"):
        Trainer(ADVI)
    with pytest.raises(ValueError, match="'raise', 'skip' or 'rollback'"):
        trainer(on_nonfinite="ignore")
    with pytest.raises(ValueError, match="n or epochs"):
        trainer().fit(n=1, epochs=1)
    with pytest.raises(ValueError, match="at least 1"):
        trainer().fit(n=0)
    with pytest.raises(ValueError, match="there is none"):
        trainer().fit(n=1, resume=True)
