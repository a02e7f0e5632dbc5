"""The trainer: methods, callbacks, what it does with steps that are not finite."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace

import numpy as np
import pandas
import pymc as pm
import pytensor
import pytest
from pymc.pytensorf import rewrite_pregrad
from pytensor_ml import optim as pml
from scipy.stats import norm

from pymc_svi import (
    ADVI,
    SVI,
    DataLoader,
    FullRankADVI,
    Inference,
    Trace_ELBO,
    Trainer,
    callbacks,
    fit,
    optim,
    param,
)
from pymc_svi.callbacks.base import remembered, restore_callbacks
from pymc_svi.engine import Arguments, ParamStore, SVIState
from pymc_svi.engine.progress import create_simple_progress, describe
from pymc_svi.errors import DataError, NonFiniteError, StateError
from pymc_svi.guides import AutoDelta, AutoNormal

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


def test_fit_gives_its_model_to_a_method_that_has_none():
    with pm.Model() as one:
        pm.Normal("x", 1.0, 1.0)
    with pm.Model() as other:
        pm.Normal("z", 1.0, 1.0)
    method = ADVI(init_scale=0.5)
    result = fit(one, method, n=2, random_seed=1, progressbar=False)
    assert set(result.params) == {"x_auto_loc", "x_auto_scale"}
    assert method.model is None  # it can be used again
    with pytest.raises(TypeError, match="cannot take the model. Found: ADVI has another one"):
        fit(other, ADVI(one), n=2)
    with pytest.raises(TypeError, match="'optim' would not be used.*Give them to the method"):
        fit(method=ADVI(one), n=2, optim=optim.Adam(0.1))


def test_fit_names_its_methods():
    with pytest.raises(ValueError, match="Did you mean 'advi'"):
        fit(lambda: pm.Normal("x"), method="advl")


@pytest.mark.parametrize("method", ["advi", "fullrank_advi"])
def test_fit_steps_are_large_at_first_and_small_at_last(method):
    """Constant ones of 0.001 would be at 2.5 when they end, those of 0.05 still be moving."""
    with pm.Model() as far:
        mu = pm.Normal("mu", 0, 100)
        pm.Normal("y", mu, 0.5, observed=10.0)
    result = fit(far, method, 2_500, random_seed=0, progressbar=False)
    falling = optim.AdamNC(optim.cosine_decay(0.05, 2_500, 0.01))
    same = fit(far, method, 2_500, optim=falling, random_seed=0, progressbar=False)
    np.testing.assert_array_equal(result.losses, same.losses)
    draws = result.sample_posterior(4_000, random_seed=1).posterior["mu"].values
    assert abs(draws.mean() - 10.0) < 0.05
    assert abs(draws.std() / 0.5 - 1) < 0.1


def test_fit_leaves_a_start_whose_gradients_are_a_million_times_those_at_the_end():
    """Adam remembers them for tens of thousands of steps, in which its steps have almost no length."""
    x = np.linspace(-1.0, 1.0, 100)
    times = np.exp(3.0 + 0.5 * x) * np.random.default_rng(0).weibull(5.0, size=100)

    def far():
        a, b = pm.Normal("a", 0.0, 10.0), pm.Normal("b", 0.0, 1.0)
        pm.Weibull("t", 5.0, pm.math.exp(a + b * x), observed=times)

    # A regression of the logarithm of t whose errors have a Gumbel law: its mode by Newton's method.
    def slope_and_curvature(a, b):
        hazard = 25 * np.exp(5 * (np.log(times) - a - b * x))
        design = np.column_stack([np.ones(100), x])
        slope = design.T @ (hazard / 5 - 5) - [a / 100, b]
        return slope, (design.T * hazard) @ design + np.diag([0.01, 1.0])

    mode = np.array([np.log(times).mean(), 0.0])
    for _ in range(30):
        slope, curvature = slope_and_curvature(*mode)
        mode = mode + np.linalg.solve(curvature, slope)
    sds = 1 / np.sqrt(np.diag(curvature))
    result = fit(far, n=5_000, random_seed=0, progressbar=False)
    found = np.array([result.params["a_auto_loc"], result.params["b_auto_loc"]])
    np.testing.assert_allclose(found, mode, atol=0.3 * sds.min())
    scales = [result.params["a_auto_scale"], result.params["b_auto_scale"]]
    np.testing.assert_allclose(scales, sds, rtol=0.1)
    slow = fit(far, n=5_000, optim=optim.Adam(0.05), random_seed=0, progressbar=False)
    assert np.abs(slow.params["a_auto_loc"] - mode[0]) > 10 * sds[0]


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
    with pytest.raises(AttributeError, match="callback sees has no 'mean'.*moment.params"):
        trainer(lambda approx, losses, i: approx.mean).fit(n=1)


def test_early_stopping_and_convergence_end_the_fit():
    stop = callbacks.EarlyStopping(patience=1, min_delta=1e9, every=10)
    assert len(trainer(stop).fit(n=100, random_seed=0).losses) == 20
    converged = callbacks.CheckParametersConvergence(every=10, tolerance=10.0)
    assert len(trainer(converged).fit(n=100, random_seed=0).losses) == 20


@pytest.mark.filterwarnings("error")
def test_early_stopping_counts_steps_that_were_all_left_out():
    stop = callbacks.EarlyStopping(patience=2, every=2)
    losses, state = np.array([1.0, 1.0, np.nan, np.nan, np.nan, np.nan]), SVIState({}, {}, 0, 0)
    for step in (2, 4):
        stop(callbacks.Moment(replace(state, step=step), losses[:step]))
    with pytest.raises(StopIteration, match="has not improved on 1 in 2 calls"):
        stop(callbacks.Moment(replace(state, step=6), losses))


def test_early_stopping_may_look_at_data_that_are_held_out():
    # The loss still falls, while rows that are far from the others get ever less likely.
    far = callbacks.HeldOutELBO({"y": np.full(10, -5.0)}, every=10)
    stop = callbacks.EarlyStopping(2, every=10, monitor=lambda moment: -far.elbos[-1])
    result = trainer(far, stop).fit(n=200, random_seed=0)
    best = int(np.argmax(far.elbos))
    assert len(far.elbos) == best + 3 and len(result.losses) == 10 * len(far.elbos) < 200
    with pytest.raises(StopIteration, match="monitored number has not improved on"):
        stop(callbacks.Moment(result.state, result.losses))


def best_at(step, **options):
    """Stop by a number that is best at a step."""
    return callbacks.EarlyStopping(
        2, every=10, monitor=lambda moment: abs(moment.step - step), restore_best=True, **options
    )


@pytest.mark.parametrize("n", [80, 50])
def test_early_stopping_restores_the_best_state_stopped_or_not(n):
    fitting = trainer(best_at(40))
    result = fitting.fit(n=n, random_seed=0)
    expected = trainer().fit(n=40, random_seed=0)
    assert result.state == expected.state and result.state.step == 40
    np.testing.assert_array_equal(result.losses, expected.losses)
    assert result.params == expected.params
    assert fitting.fit(n=20, random_seed=0).state.step == 20  # the best of another fit is forgotten


def test_the_best_state_is_in_a_checkpoint(tmp_path):
    def run(n):
        saving = callbacks.Checkpoint(tmp_path, every=10)
        return trainer(best_at(20), saving).fit(n=n, random_seed=0, resume=True)

    expected = trainer().fit(n=20, random_seed=0)
    assert run(30).state == expected.state
    assert run(60).state == expected.state  # from step 30, stopped at 40
    again = run(60)  # nothing is left to do
    assert again.state == expected.state and len(again.losses) == 20


def test_the_best_state_has_its_names_after_a_checkpoint():
    state = SVIState(
        {"a/b": np.ones(2), "a/c": np.zeros(()), "d": np.ones(())},
        {},
        np.ones((1, 6), np.uint64),
        20,
    )
    before, after = best_at(20), best_at(20)
    before(callbacks.Moment(state, np.zeros(20)))
    restore_callbacks([after], remembered([before]))
    assert after.chosen == before.chosen == state


def test_trackers_record():
    tracker = callbacks.Tracker(every=10, step=lambda moment: moment.step)
    held = callbacks.HeldOutELBO({"y": Y[:30]}, every=20)
    rates = callbacks.LearningRateMonitor(lambda step: 1 / (1 + step), every=20)
    trainer(tracker, held, rates).fit(n=40, random_seed=0)
    assert tracker["step"] == tracker.steps == [10, 20, 30, 40]
    assert held.steps == [20, 40] and held.elbos[1] > held.elbos[0]
    np.testing.assert_allclose(rates.rates, [1 / 21, 1 / 41])


def test_the_end_of_a_fit_is_recorded_and_dropped_when_it_is_gone_on_with():
    tracker = callbacks.Tracker(every=10, step=lambda moment: moment.step)
    rates = callbacks.LearningRateMonitor(lambda step: 1 / (1 + step), every=20)
    fitting = trainer(tracker, rates)
    first = fitting.fit(n=25, random_seed=0)
    assert tracker["step"] == [10, 20, 25] and rates.steps == [20, 25]
    fitting.fit(n=47, resume=first)
    assert tracker["step"] == tracker.steps == [10, 20, 30, 40, 47]
    assert rates.steps == [20, 40, 47]
    np.testing.assert_allclose(rates.rates, [1 / 21, 1 / 41, 1 / 48])


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


def test_a_guide_that_draws_what_is_not_finite_is_named_with_its_params():
    def guide(y):
        pm.Normal("mu", param("loc", 0.0), pm.math.sqrt(param("variance", 0.05)))

    svi = SVI(model, guide, optim.Adam(0.05), **FAST)
    message = "'mu' in the guide is .*variance = -.*If 'variance' has to be positive, say so"
    with pytest.raises(NonFiniteError, match=message):
        Trainer(svi, DataLoader({"y": Y}, batch_size=20)).fit(n=200, random_seed=0)


def test_a_step_that_is_not_finite_is_skipped_and_the_next_batch_is_another():
    result = trainer(program=fragile, data=MARKED, on_nonfinite="skip").fit(n=30, random_seed=0)
    assert np.isnan(result.losses).sum() == 10  # one of the three batches of each epoch
    assert np.isfinite(result.params["mu_auto_loc"])


def test_a_rollback_gives_up_if_it_does_not_help():
    with pytest.raises(NonFiniteError, match="'trap'.*It broke in each of 21 attempts"):
        trainer(program=fragile, data=MARKED, on_nonfinite="rollback").fit(n=30, random_seed=0)

    class Broken(Inference):
        def step(self, batch):
            return np.nan

    with pytest.raises(NonFiniteError, match="It broke in each of 20 attempts"):
        Trainer(Broken(), on_nonfinite="rollback").fit(n=1)


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
    with pytest.raises(TypeError, match="resume is not what a fit.*Expected: True, the folder"):
        trainer().fit(n=1, resume=3)
    with pytest.raises(TypeError, match=r"Data go to the trainer: Trainer\(method, dataloader"):
        trainer().fit(DataLoader({"y": Y}))
    with pytest.raises(TypeError, match="callbacks is a list of functions"):
        Trainer(ADVI(), callbacks=3)


@pytest.mark.parametrize("make", [lambda loader: loader, lambda loader: Trainer(ADVI(), loader)])
def test_batches_are_for_the_trainer(make):
    svi = SVI(model, AutoNormal(model), **FAST)
    batches = make(DataLoader({"y": Y}, 20))
    for call in (lambda: svi.run(5, batches, progressbar=False), lambda: svi.init(y=batches)):
        with pytest.raises(TypeError, match=r"Found: an object of type.*fit\(model, dataloader="):
            call()
    frame = pandas.DataFrame({"batch_size": [1]})  # has an attribute of that name too
    assert Arguments((frame,), {}).values == [frame]


def test_a_model_that_takes_data_needs_a_loader():
    message = r"'y', and there is no data loader.*DataLoader\(\{\"y\": y\}.*svi.run\(n, y\)"
    with pytest.raises(TypeError, match=message):
        Trainer(SVI(model, AutoNormal(model))).fit(n=1)


def test_fit_goes_through_the_data_some_times():
    data = {"y": Y}
    by_epochs = fit(model, dataloader=DataLoader(data, 25), epochs=4, random_seed=0, progressbar=0)
    by_steps = fit(model, dataloader=DataLoader(data, 25), n=12, random_seed=0, progressbar=0)
    np.testing.assert_array_equal(by_epochs.losses, by_steps.losses)
    with pytest.raises(ValueError, match="n or epochs"):
        fit(model, n=1, epochs=1, dataloader=data)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: callbacks.EarlyStopping(0), ValueError, "patience is a whole number of calls"),
        (lambda: callbacks.EarlyStopping(monitor=-1.0), TypeError, "monitor=lambda moment"),
        (lambda: callbacks.Tracker(loc=3.0), TypeError, "'loc' is a function of a moment.*lambda"),
        (lambda: callbacks.HeldOutELBO(Y), TypeError, "a dict of arrays.*type ndarray"),
    ],
)
def test_callbacks_refuse_what_they_cannot_call(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_scal": 0.1}, "'advi' has no option 'init_scal'.*Did you mean 'init_scale'"),
        ({"callback": []}, "'advi' has no option 'callback'.*Did you mean 'callbacks'"),
        ({"method": "svgd", "num_particle": 3}, "Did you mean 'num_particles'"),
        ({"n": "many"}, "n is a whole number. Found: 'many'"),
        ({"batch_size": 3}, r"dataloader=DataLoader\(data, batch_size=128"),
        ({"data": {"y": Y}}, r"dataloader=DataLoader\(data, batch_size=128"),
        ({"method": DataLoader({"y": Y})}, r"the method.*Data go by name: fit\(model, dataloader="),
        ({"method": ADVI}, "one of 'advi'.*or an object such as"),
        ({"resume": True}, r"Trainer\(.*\).fit\(n=10_000, resume=True\)"),
    ],
)
def test_misspelt_options_of_fit_are_suggested(options, message):
    with pm.Model() as model:
        pm.Normal("x")
    with pytest.raises(TypeError, match=message):
        fit(model, **options)


def _returns(loss):
    class Method(Inference):
        def step(self, batch):
            return loss

    return Method()


def _takes(**functions):
    return type("Method", (Inference,), functions)()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (_returns(None), "Method.step does not return one number.*None of type NoneType"),
        (_returns(np.ones(3)), "Method.step does not return one number.*type ndarray"),
        (
            _takes(step=lambda self: 1.0),
            r"Method.step does not take.*Expected: step\(self, batch\)",
        ),
        (
            _takes(init=lambda self, data: None, step=lambda self, batch: 1.0),
            "Method.init does not take.*'data'.*any of 'model', 'batch', 'random_seed'",
        ),
    ],
)
def test_what_a_method_of_ones_own_takes_and_returns_is_checked(method, message):
    with pytest.raises(TypeError, match=message):
        Trainer(method).fit(n=1)


@pytest.mark.parametrize("name", ["init", "step"])
def test_an_iterator_that_ends_in_a_method_does_not_end_the_fit(name):
    class Method(Inference):
        def init(self):
            self.items = iter(range(3 if name == "step" else 0))
            self.item = next(self.items)

        def step(self, batch):
            self.item = next(self.items)
            return 1.0

    with pytest.raises(
        RuntimeError, match=rf"Method\.{name}.* raised StopIteration.*in a callback"
    ):
        Trainer(Method()).fit(n=10)


# --- methods of one's own ---------------------------------------------------------------------


def test_advi_is_written_in_a_dozen_lines():
    class Sketch(Inference):
        def __init__(self, optimizer):
            self.optimizer = optimizer

        def init(self, model):
            elbo = Trace_ELBO(num_particles=10)
            with pm.Model(coords=model.coords), ParamStore() as params:
                loss = elbo.loss(model, AutoNormal(model)).value
            self.params = params.variables
            grads = pytensor.grad(rewrite_pregrad(loss), list(params.variables.values()))
            updates = self.optimizer(grads, list(params.variables.values()))
            self.update = pytensor.function([], loss, updates=updates, mode="FAST_COMPILE")

        def step(self, batch):
            return self.update()

    with pm.Model():
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, 1.0, observed=Y)
        result = Trainer(Sketch(optim.Adam(0.1))).fit(n=100)
    assert abs(result.params["mu_auto_loc"] - Y.mean()) < 0.2
    assert result.losses[-20:].mean() < result.losses[:20].mean()
    with pytest.raises(TypeError, match="no guide to draw from.*'mu_auto_loc'.*result.params"):
        result.sample_posterior()


def test_params_of_a_method_may_be_set_and_are_restored(tmp_path):
    class Mine(Inference):
        def init(self):
            self.params = {"mean": np.zeros(2)}
            self.moment = {"first": pytensor.shared(np.zeros(2))}

        def step(self, batch):
            gradient = self.params["mean"] - batch["y"][:2]
            self.moment["first"].set_value(0.5 * self.moment["first"].get_value() + gradient)
            self.params = {"mean": self.params["mean"] - 0.1 * self.moment["first"].get_value()}
            return (gradient**2).sum()

    def run(n, resume=False):
        called = [callbacks.Checkpoint(tmp_path, every=4)] if resume is not None else []
        return Trainer(Mine(), DataLoader({"y": Y}, batch_size=7), called).fit(
            n=n, random_seed=4, resume=bool(resume)
        )

    whole = run(20, resume=None)
    run(8)
    resumed = run(20, resume=True)
    assert list(whole.params) == ["mean"]
    np.testing.assert_array_equal(resumed.params["mean"], whole.params["mean"])
    np.testing.assert_array_equal(resumed.losses, whole.losses)


def test_a_method_without_step_says_so():
    with pytest.raises(NotImplementedError, match=r"Define step\(self, batch\) -> loss"):
        Trainer(Inference()).fit(n=1)


def test_steps_of_ones_own_that_are_not_finite_are_taken_back():
    class Mine(Inference):
        def init(self):
            self.count = 0

        def step(self, batch):
            self.count += 1
            return np.nan if self.count == 3 else float(self.count)

    with pytest.raises(NonFiniteError, match="broke at step 2: the loss is nan.*skip") as raised:
        Trainer(Mine()).fit(n=5)
    assert raised.value.state["count"] == 2
    with pytest.warns(UserWarning, match="3 of 5 steps"):
        result = Trainer(Mine(), on_nonfinite="skip").fit(n=5)
    np.testing.assert_array_equal(result.losses, [1.0, 2.0, np.nan, np.nan, np.nan])


def test_ctrl_c_ends_a_fit_with_the_steps_that_were_taken(tmp_path):
    class Mine(Inference):
        def init(self):
            self.pressed, self.total = False, 0.0

        def step(self, batch):
            self.total += batch["y"].sum()
            if len(seen) == 7 and not self.pressed:
                raise KeyboardInterrupt  # half-way through a step
            seen.append(self.total)
            return self.total

    def fit(n, *called, resume=False):
        loader = DataLoader({"y": Y}, batch_size=20)
        return Trainer(Mine(), loader, called).fit(n=n, random_seed=0, resume=resume)

    seen = []
    with pytest.warns(UserWarning, match="interrupted after 7 of 12 steps"):
        result = fit(12)
    assert result.state.step == 7 and len(result.losses) == 7
    assert result.params["total"] == seen[-1]
    seen = [0.0] * 8  # so that it is not pressed again
    np.testing.assert_array_equal(fit(12, resume=result).losses, fit(12).losses)


# --- what callbacks see -----------------------------------------------------------------------


def point_elbo(y, mu, n_rows):
    """The ELBO of ``model`` under a guide that is a point, for rows that stand for ``n_rows``."""
    log_likelihood = norm.logpdf(y, mu, 1.0).sum() * n_rows / len(y)
    return log_likelihood + norm.logpdf(mu, 0.0, 10.0)


def test_the_held_out_elbo_is_that_of_the_held_out_rows():
    svi = SVI(model, AutoDelta(model), optim.SGD(0.001), **FAST)
    held = callbacks.HeldOutELBO({"y": Y[:7]}, every=5)
    points = callbacks.Tracker(every=5, mu=lambda moment: moment.params["mu_auto_loc"])
    Trainer(svi, DataLoader({"y": Y}, batch_size=20), [held, points]).fit(n=10, random_seed=0)
    expected = [point_elbo(Y[:7], mu, len(Y)) for mu in points["mu"]]
    np.testing.assert_allclose(held.elbos, expected)


def test_held_out_data_need_a_method_that_has_a_loss_on_them():
    class Mine(Inference):
        def step(self, batch):
            return 1.0

    loader = DataLoader({"y": Y}, batch_size=20)
    with pytest.raises(TypeError, match="no loss on other data"):
        Trainer(Mine(), loader, [callbacks.HeldOutELBO({"y": Y})]).fit(n=1)
    with pytest.raises(DataError, match="other columns.*'z'.*Expected: 'y'"):
        trainer(callbacks.HeldOutELBO({"z": Y})).fit(n=1)


def test_held_out_elbos_do_not_change_the_fit():
    held = trainer(callbacks.HeldOutELBO({"y": Y[:30]}, every=10)).fit(n=40, random_seed=0)
    assert held.state == trainer().fit(n=40, random_seed=0).state


def test_the_learning_rate_is_that_of_the_optimizer():
    svi = SVI(model, AutoNormal(model), optim.Adam(optim.linear_decay(0.1, 40)), **FAST)
    monitor = callbacks.LearningRateMonitor(every=10)
    Trainer(svi, DataLoader({"y": Y}, batch_size=20), [monitor]).fit(n=30, random_seed=0)
    assert monitor.steps == [10, 20, 30]
    np.testing.assert_allclose(monitor.rates, [0.075, 0.05, 0.025])
    svi.optim = optim.chain(optim.clip_by_value(1.0), svi.optim)
    monitor = callbacks.LearningRateMonitor(every=10)
    Trainer(svi, DataLoader({"y": Y}, batch_size=20), [monitor]).fit(n=20, random_seed=0)
    np.testing.assert_allclose(monitor.rates, [0.075, 0.05])
    for unknown in (pm.adam(learning_rate=0.1), optim.chain(optim.Adam(0.1), pml.scale(0.5))):
        svi.optim = unknown
        with pytest.raises(ValueError, match=r"LearningRateMonitor\(schedule\)"):
            Trainer(svi, DataLoader({"y": Y}), [callbacks.LearningRateMonitor()]).fit(n=1)


def test_convergence_is_that_of_pymc():
    from pymc.variational.callbacks import CheckParametersConvergence

    def stops_at(callback):
        return len(trainer(callback).fit(n=400, random_seed=0).losses)

    for diff in ("relative", "absolute"):
        ours = callbacks.CheckParametersConvergence(every=100, tolerance=0.3, diff=diff)
        theirs = CheckParametersConvergence(every=1, tolerance=0.3, diff=diff)
        assert 100 < stops_at(ours) == stops_at(theirs)


def test_the_progress_says_loss_and_rate(monkeypatch):
    losses = np.array([np.nan] + [4.0] * 1_000)
    assert describe(losses, 1234.5) == "Fitting, loss 4, 1,234 steps/s"
    assert describe(losses[:1]) == "Fitting"
    shown = []

    class Bar(contextlib.nullcontext):
        def add_task(self, description, total):
            shown.append(total)

        def update(self, task, completed, description):
            shown.append((completed, description))

    monkeypatch.setattr("pymc_svi.engine.progress.create_simple_progress", lambda shown: Bar())
    trainer(callbacks.ProgressBar()).fit(n=120, random_seed=0)
    assert shown[0] == 120 and shown[-1][0] == 120
    assert re.fullmatch(r"Fitting, loss [\d.]+, [\d,]+ steps/s", shown[-1][1])


# --- steps that are not finite ------------------------------------------------------------------


def test_a_rollback_goes_on_with_other_random_numbers():
    def rare(y):
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, 1.0, observed=y)
        pm.Potential("trap", pm.math.switch(mu > 2.25, np.nan, 0.0))

    def run(**options):
        made = trainer(program=rare, **options)
        return made.fit(n=300, random_seed=0)

    with pytest.raises(NonFiniteError, match="'trap'.*mu_auto_loc = ") as raised:
        run()
    result = run(on_nonfinite="rollback")
    assert len(result.losses) == 300 and np.isfinite(result.losses).all()
    n = raised.value.step
    np.testing.assert_array_equal(result.losses[:n], raised.value.losses)


# --- going on ---------------------------------------------------------------------------------


def test_a_fit_goes_on_from_a_result_in_the_order_of_its_data():
    whole = trainer().fit(n=30, random_seed=3)
    first = trainer().fit(n=13, random_seed=3)
    resumed = trainer().fit(n=30, random_seed=99, resume=first)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    assert resumed.state == whole.state
    from_state = trainer().fit(n=30, random_seed=3, resume=first.state)
    assert from_state.state == whole.state and len(from_state.losses) == 17


def test_run_goes_on_from_a_result_or_its_state():
    svi = SVI(model, AutoNormal(model), optim.Adam(0.05), **FAST)
    whole = svi.run(20, Y, random_seed=1, progressbar=False)
    first = svi.run(8, Y, random_seed=1, progressbar=False)
    for start in (first, first.state):
        assert svi.run(12, Y, init_state=start, progressbar=False).state == whole.state


def test_counts_that_are_stored_as_floats_are_the_same_data():
    def counts(y):
        pm.Bernoulli("y", pm.Beta("p", 1, 1), observed=y)

    whole = (Y > 2).astype(int)
    fits = [
        trainer(program=counts, data=data).fit(n=10, random_seed=0).losses
        for data in (whole, whole.astype(float))
    ]
    np.testing.assert_array_equal(*fits)
    late = whole.astype(float)
    late[-1] = 0.5  # not in the rows that the step is built with
    with pytest.raises(NonFiniteError, match="log-probability of site 'y' in the model is -inf"):
        trainer(program=counts, data=late).fit(n=10, random_seed=0)


def test_fit_shows_progress_when_it_is_asked_to(monkeypatch):
    shown = []

    def bar(visible):
        shown.append(visible)
        return create_simple_progress(False)

    monkeypatch.setattr("pymc_svi.engine.progress.create_simple_progress", bar)
    method = trainer()
    for progressbar in (None, True, None, False):
        method.fit(n=2, random_seed=0, progressbar=progressbar)
    assert shown == [False, True, True, False]


# --- methods of one's own: models, random numbers, optimizers ------------------------------------


class Noisy(Inference):
    """ADVI of one mean, in PyTensor alone: its optimizer and its noise are known to a function."""

    def __init__(self, optimizer=None):
        self.optimizer = optimizer or pm.adam(learning_rate=0.05)

    def init(self, model, batch, random_seed):
        self.params = [pytensor.shared(np.zeros(()), name=name) for name in ("loc", "log_sd")]
        loc, log_sd = self.params
        noise = pytensor.shared(np.random.default_rng(random_seed))
        after, eps = pytensor.tensor.random.normal(rng=noise).owner.outputs
        y, mu = pytensor.tensor.vector("y"), loc + pytensor.tensor.exp(log_sd) * eps
        self.loss = 0.5 * len(Y) / y.shape[0] * ((y - mu) ** 2).sum() - log_sd
        self.grads = pytensor.grad(self.loss, self.params)
        updates = self.optimizer(self.grads, self.params)
        self.update = pytensor.function(
            [y], self.loss, updates=[*updates.items(), (noise, after)], mode="FAST_COMPILE"
        )

    def step(self, batch):
        return self.update(batch["y"])

    def evaluate(self, batch):
        return ((batch["y"] - self.params[0].get_value()) ** 2).sum()


def noisy(n, *called, folder=None, data=Y, method=Noisy, resume=False, **options):
    if folder is not None:
        called = (callbacks.Checkpoint(folder, every=10), *called)
    loader = DataLoader({"y": data}, batch_size=7)
    made = Trainer(method(), loader, called, model=model, **options)
    return made.fit(n=n, random_seed=4, resume=resume)


def test_moments_and_noise_that_only_a_compiled_function_knows_are_resumed(tmp_path):
    whole = noisy(30)
    assert set(whole.params) == {"loc", "log_sd"}
    noisy(13, folder=tmp_path)
    resumed = noisy(30, folder=tmp_path, resume=True)
    assert resumed.state == whole.state
    np.testing.assert_array_equal(resumed.losses, whole.losses)


def test_a_method_of_ones_own_gets_its_best_state_back(tmp_path):
    expected = noisy(20)
    result = noisy(60, best_at(20))
    assert result.state == expected.state and result.params == expected.params
    np.testing.assert_array_equal(result.losses, expected.losses)


def test_a_checkpoint_of_another_method_is_refused(tmp_path):
    class Other(Noisy):
        pass

    class More(Noisy):
        def init(self, model, batch, random_seed):
            super().init(model, batch, random_seed)
            self.count = 0

    noisy(10, folder=tmp_path)
    with pytest.raises(StateError, match="another method. Found: Noisy. Expected: Other"):
        noisy(20, folder=tmp_path, method=Other, resume=True)
    More.__name__ = "Noisy"
    with pytest.raises(StateError, match="Noisy has more state.*'count'"):
        noisy(20, folder=tmp_path, method=More, resume=True)


def test_fit_gives_its_model_to_a_method_of_ones_own():
    seen = []

    class Mine(Inference):
        def init(self, model):
            seen.append(model)

        def step(self, batch):
            return 1.0

    class Without(Inference):
        def step(self, batch):
            return 1.0

    fit(model, Mine(), n=1, progressbar=False)
    with pm.Model() as built:
        fit(method=Mine(), n=1, progressbar=False)
    assert seen == [model, built]
    with pytest.raises(TypeError, match=r"Mine has no model.*Trainer\(..., model=model\)"):
        fit(method=Mine(), n=1)
    fit(method=Without(), n=1, progressbar=False)
    with pytest.raises(TypeError, match=r"cannot take the model.*Without.init takes no `model`"):
        fit(model, Without(), n=1)


def test_callbacks_see_what_a_method_of_ones_own_has():
    held = callbacks.HeldOutELBO({"y": Y[:3]}, every=5)
    noisy(10, held)
    assert len(held.elbos) == 2 and held.elbos[0] < held.elbos[1]
    rates = callbacks.LearningRateMonitor(every=5)
    noisy(10, rates, method=lambda: Noisy(optim.Adam(0.03)))
    assert rates.rates == [0.03, 0.03]
    converged = callbacks.CheckParametersConvergence(every=5, tolerance=10.0)
    assert len(noisy(30, converged).losses) == 10


def test_a_broken_step_of_ones_own_is_named_and_goes_on_with_other_noise():
    class Rare(Noisy):
        def init(self, model, batch, random_seed):
            super().init(model, batch, random_seed)
            self.fate = np.random.default_rng(random_seed)

        def step(self, batch):
            loss = super().step(batch)
            if self.fate.random() < 0.05:
                self.params[0].set_value(np.nan)
            return loss

    with pytest.raises(
        NonFiniteError, match="'loc' is not finite after it. Found: the params loc = "
    ) as found:
        noisy(60, method=Rare)
    assert np.isfinite(found.value.state["params/loc"])
    skipped = noisy(60, method=Rare, on_nonfinite="skip").losses
    assert 0 < np.isnan(skipped).sum() < 30
    tried = noisy(60, method=Rare, on_nonfinite="rollback").losses
    n = found.value.step
    assert np.isfinite(tried).all()
    np.testing.assert_array_equal(tried[:n], skipped[:n])


def test_callbacks_go_on_from_a_checkpoint_with_what_they_remember(tmp_path):
    def run(n, folder=None, resume=False):
        called = [
            callbacks.EarlyStopping(patience=3, every=4, min_delta=20.0),
            callbacks.HeldOutELBO({"y": Y[:3]}, every=4),
            callbacks.Tracker(every=4, loc=lambda moment: moment.params["loc"]),
        ]
        return noisy(n, *called, folder=folder, resume=resume), called

    whole, expected = run(200)
    assert len(whole.losses) < 200 and expected[0].waited == 3
    run(10, tmp_path)
    resumed, found = run(200, tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    # The first part ended at step 10, where no record is due: it is not one of the whole.
    assert found[1].steps == found[2].steps == expected[1].steps
    np.testing.assert_array_equal(found[1].elbos, expected[1].elbos)
    np.testing.assert_array_equal(found[2]["loc"], expected[2]["loc"])


def test_a_fit_that_was_stopped_is_not_gone_on_with(tmp_path):
    def run(folder):
        stop = callbacks.CheckParametersConvergence(every=10, tolerance=10.0)
        return noisy(50, stop, folder=folder, resume=True)

    assert run(tmp_path).state == run(tmp_path).state
    assert run(tmp_path).state.step == 20


def test_function_programs_have_the_coords_of_the_svi():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 60)
    y = rng.normal(group, 1.0)

    def model(group, y):
        level = pm.Normal("level", 0.0, 3.0, dims="shop")
        pm.Normal("y", level[group], 1.0, observed=y)

    coords = {"shop": ["a", "b", "c"]}
    svi = SVI(model, AutoNormal(model), optim.Adam(0.05), coords=coords)
    result = Trainer(svi, DataLoader({"group": group, "y": y}, batch_size=20)).fit(
        n=300, random_seed=0
    )
    level = result.sample_posterior(200, random_seed=1).posterior["level"]
    assert level.dims == ("chain", "draw", "shop") and list(level["shop"]) == coords["shop"]
    means = [y[group == each].mean() for each in range(3)]
    np.testing.assert_allclose(level.mean(("chain", "draw")), means, atol=0.3)


def test_a_dim_of_all_rows_in_a_function_program_is_told():
    def model(y):
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=y, dims="row")

    svi = SVI(model, AutoNormal(model), coords={"row": range(6)})
    message = r"'row' has a label for each row of all data, 6, beside batches.*row=6.*pm.Data\(..., dims=\"row\"\)"
    with pytest.raises(DataError, match=message):
        Trainer(svi, DataLoader({"y": np.zeros(6)}, batch_size=2)).fit(n=2)
