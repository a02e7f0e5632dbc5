"""The named optimizers, with NumPyro's names, argument order and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor_ml import optim as pml
from pytensor_ml.params import step_counter

from pymc_svi.optim.optimizer import Optimizer
from pymc_svi.optim.schedules import power_of, time_of
from pymc_svi.optim.step_sizes import StepSize

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "AdagradWindow",
    "Adam",
    "AdamNC",
    "AdamW",
    "Adamax",
    "ClippedAdam",
    "Momentum",
    "Nadam",
    "Nesterov",
    "RMSProp",
    "RMSPropMomentum",
]


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: ``p -= step_size * g`` [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        A positive number; a schedule such as :func:`cosine_decay` or any callable from the step
        count to a scalar; a dict of these by parameter name, or :class:`per_param`. A scalar
        shared variable is taken as it is, to be steered from outside.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or not a step size, at construction.

    References
    ----------
    .. [1] Robbins, H., Monro, S. (1951). A stochastic approximation method. Annals of Mathematical
       Statistics 22(3).

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.SGD(optim.inverse_time_decay(0.1, 100, 1.0))
    SGD(step_size=inverse_time_decay(step_size=0.1, decay_steps=100, decay_rate=1.0, \
staircase=False))
    """

    step_size: StepSize = 1e-2
    namespace: ClassVar[str] = "sgd"

    def _rule(self, rate):
        return pml.sgd(rate, namespace=self.namespace)


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient descent with heavy-ball momentum: ``v = mass * v + g; p -= step_size * v`` [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    mass : float, default 0.9
        In [0, 1).

    References
    ----------
    .. [1] Polyak, B. T. (1964). Some methods of speeding up the convergence of iteration methods.
       USSR Computational Mathematics and Mathematical Physics 4(5).

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Momentum(0.01, mass=0.5)
    Momentum(step_size=0.01, mass=0.5)
    """

    step_size: StepSize = 1e-2
    mass: float = 0.9
    namespace: ClassVar[str] = "momentum"
    _nesterov: ClassVar[bool] = False

    def _rule(self, rate):
        velocity = pml.trace(self.mass, nesterov=self._nesterov, namespace=self.namespace)
        return pml.chain(velocity, pml.sgd(rate, namespace=self.namespace))


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Momentum that looks ahead: ``v = mass * v + g; p -= step_size * (mass * v + g)`` [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    mass : float, default 0.9
        In [0, 1).

    References
    ----------
    .. [1] Nesterov, Y. (1983). A method for solving the convex programming problem with convergence
       rate O(1/k^2). Soviet Mathematics Doklady 27.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Nesterov(0.01)
    Nesterov(step_size=0.01, mass=0.9)
    """

    namespace: ClassVar[str] = "nesterov"
    _nesterov: ClassVar[bool] = True


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and its square [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2 : float, default 0.9 and 0.999
        Decay of the running means of the gradient and of its square, in [0, 1).
    eps : float, default 1e-8
        Added to the root of the (bias-corrected) mean square.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or not a step size, at construction.

    References
    ----------
    .. [1] Kingma, D. P., Ba, J. (2015). Adam: a method for stochastic optimization. ICLR.
       arXiv:1412.6980.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Adam(0.01)
    Adam(step_size=0.01, b1=0.9, b2=0.999, eps=1e-08)
    """

    step_size: StepSize = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    namespace: ClassVar[str] = "adam"

    def _rule(self, rate):
        return pml.adam(rate, self.b1, self.b2, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class AdamNC(Optimizer):
    """Adam whose memory of squared gradients grows with the steps [1]_ [2]_: for starts far away.

    Adam with ``b2 = 1 - t ** -power`` at the t-th step. Gradients at a start in the tails of a
    posterior are often a million times those near its mode, and Adam takes as many steps of
    almost no length until it has forgotten them, tens of thousands with its ``b2`` of 0.999. Here
    they are forgotten after a few hundred, and after 10,000 steps ``b2`` is 0.996.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1 : float, default 0.9
        Decay of the running mean of the gradient, in [0, 1).
    power : float, default 0.6
        In (0, 1): how fast the memory grows.
    eps : float, default 1e-8
        Added to the root of the mean square.

    References
    ----------
    .. [1] Reddi, S. J., Kale, S., Kumar, S. (2018). On the convergence of Adam and beyond. ICLR.
    .. [2] Shazeer, N., Stern, M. (2018). Adafactor: adaptive learning rates with sublinear memory
       cost. ICML. arXiv:1804.04235.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.AdamNC(0.01)
    AdamNC(step_size=0.01, b1=0.9, power=0.6, eps=1e-08)
    """

    step_size: StepSize = 1e-3
    b1: float = 0.9
    power: float = 0.6
    eps: float = 1e-8
    namespace: ClassVar[str] = "adam_nc"

    def _rule(self, rate):
        def scale_gradients(incoming, params):
            updates = pml.to_updates(incoming, params).copy()
            clock = step_counter(f"{self.namespace}/memory/step_count")
            updates[clock] = clock.advance()
            time = time_of(clock) + 1
            # All weights add up to 1 from the first step on, at which the new one is 1.
            new = pml.to_floatx(pt.power(time, -self.power))
            bias = pml.to_floatx(1 - power_of(self.b1, time))
            for param, gradient in zip(params, pml.steps_of(updates, params), strict=True):
                mean = pml.state_for(param, f"{self.namespace}/first_moment")
                square = pml.state_for(param, f"{self.namespace}/second_moment")
                updates[mean] = self.b1 * mean + (1 - self.b1) * gradient
                updates[square] = (1 - new) * square + new * gradient**2
                step = updates[mean] / bias / (pt.sqrt(updates[square]) + self.eps)
                updates[param] = param + step
            return updates

        return pml.chain(scale_gradients, pml.sgd(rate, namespace=self.namespace))


@dataclass(frozen=True)
class ClippedAdam(Optimizer):
    """Adam on gradients clipped element by element, with an optional decay of the step size.

    The workhorse for noisy ELBO gradients in Pyro and NumPyro: an outlier in one element neither
    reaches the running means nor, unlike :func:`clip_by_global_norm`, shrinks the other elements.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2, eps : float, default 0.9, 0.999 and 1e-8
        See :class:`Adam`.
    clip_norm : float, default 10.0
        Every element of the gradient is clipped to ``[-clip_norm, clip_norm]``.
    lrd : float, default 1.0
        Factor on the step size per step, applied from the first step on, as in Pyro:
        ``0.1 ** (1 / num_steps)`` ends a run with a tenth of ``step_size``.

    References
    ----------
    .. [1] Kingma, D. P., Ba, J. (2015). Adam: a method for stochastic optimization. ICLR.
       arXiv:1412.6980.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.ClippedAdam(0.01, clip_norm=5.0)
    ClippedAdam(step_size=0.01, b1=0.9, b2=0.999, eps=1e-08, clip_norm=5.0, lrd=1.0)
    """

    step_size: StepSize = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float = 10.0
    lrd: float = 1.0
    namespace: ClassVar[str] = "clipped_adam"

    def _rule(self, rate):
        if self.lrd != 1:
            rate = self._decayed(rate)
        adam = pml.adam(rate, self.b1, self.b2, self.eps, namespace=self.namespace)
        return pml.chain(pml.clip_by_value(-self.clip_norm, self.clip_norm), adam)

    def _decayed(self, rate):
        def schedule(step):
            base = rate(step) if callable(rate) and not isinstance(rate, Variable) else rate
            return base * power_of(self.lrd, time_of(step) + 1)

        return schedule


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay: parameters also shrink by ``step_size * weight_decay`` [1]_.

    The decay pulls *unconstrained* parameters to zero; meant for neural networks in a guide or
    model.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2, eps : float, default 0.9, 0.999 and 1e-8
        See :class:`Adam`.
    weight_decay : float, default 0.01
        By how much they shrink, as a fraction of the step size.

    References
    ----------
    .. [1] Loshchilov, I., Hutter, F. (2019). Decoupled weight decay regularization. ICLR.
       arXiv:1711.05101.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.AdamW(0.01, weight_decay=0.1).weight_decay
    0.1
    """

    step_size: StepSize = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2
    namespace: ClassVar[str] = "adamw"

    def _rule(self, rate):
        return pml.adamw(
            rate, self.weight_decay, self.b1, self.b2, self.eps, namespace=self.namespace
        )


@dataclass(frozen=True)
class Nadam(Adam):
    """Adam with Nesterov's look-ahead in the first moment [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2, eps : float, default 0.9, 0.999 and 1e-8
        See :class:`Adam`.

    References
    ----------
    .. [1] Dozat, T. (2016). Incorporating Nesterov momentum into Adam. ICLR workshop.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Nadam(0.01)
    Nadam(step_size=0.01, b1=0.9, b2=0.999, eps=1e-08)
    """

    namespace: ClassVar[str] = "nadam"

    def _rule(self, rate):
        return pml.nadam(rate, self.b1, self.b2, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class Adamax(Adam):
    """Adam with a running maximum in the place of the root mean square [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2, eps : float, default 0.9, 0.999 and 1e-8
        See :class:`Adam`; ``eps`` is added to the absolute gradient.

    References
    ----------
    .. [1] Kingma, D. P., Ba, J. (2015). Adam: a method for stochastic optimization. ICLR.
       arXiv:1412.6980, section 7.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Adamax(0.01)
    Adamax(step_size=0.01, b1=0.9, b2=0.999, eps=1e-08)
    """

    namespace: ClassVar[str] = "adamax"

    def _rule(self, rate):
        return pml.adamax(rate, self.b1, self.b2, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """Steps scaled by the root of a running mean square: ``p -= step_size * g / sqrt(m + eps)`` [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    gamma : float, default 0.9
        Decay of the running mean, in [0, 1).
    eps : float, default 1e-8
        Added to the mean square, against division by zero.
    centered : bool, default False
        Subtract the squared running mean of the gradient: scale by its deviation.

    References
    ----------
    .. [1] Hinton, G. (2012). Neural networks for machine learning, lecture 6e.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.RMSProp(0.01)
    RMSProp(step_size=0.01, gamma=0.9, eps=1e-08, centered=False)
    """

    step_size: StepSize = 1e-2
    gamma: float = 0.9
    eps: float = 1e-8
    centered: bool = False
    namespace: ClassVar[str] = "rmsprop"

    def _rule(self, rate):
        return pml.rmsprop(rate, self.gamma, 0.0, self.eps, self.centered, namespace=self.namespace)


@dataclass(frozen=True)
class RMSPropMomentum(Optimizer):
    """RMSProp with momentum on the scaled gradients.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    gamma : float, default 0.9
        Decay of the running mean square, in [0, 1).
    eps : float, default 1e-8
        Added to the mean square, against division by zero.
    momentum : float, default 0.9
        In [0, 1). The step size multiplies the velocity, so a schedule acts at once.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.RMSPropMomentum(0.01)
    RMSPropMomentum(step_size=0.01, gamma=0.9, eps=1e-08, momentum=0.9)
    """

    step_size: StepSize = 1e-2
    gamma: float = 0.9
    eps: float = 1e-8
    momentum: float = 0.9
    namespace: ClassVar[str] = "rmsprop_momentum"

    def _rule(self, rate):
        return pml.rmsprop(rate, self.gamma, self.momentum, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Steps in units of the root mean square of past steps [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 1.0
        See :class:`SGD`.
    rho : float, default 0.9
        Decay of the two running mean squares, in [0, 1).
    eps : float, default 1e-6
        Sets the size of the first steps.

    References
    ----------
    .. [1] Zeiler, M. D. (2012). ADADELTA: an adaptive learning rate method. arXiv:1212.5701.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Adadelta()
    Adadelta(step_size=1.0, rho=0.9, eps=1e-06)
    """

    step_size: StepSize = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    namespace: ClassVar[str] = "adadelta"

    def _rule(self, rate):
        return pml.adadelta(rate, self.rho, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Steps scaled by the root of the sum of all squared gradients [1]_, with momentum.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    momentum : float, default 0.9
        Decay of a running mean of the scaled gradients, in [0, 1); 0 is plain Adagrad. NumPyro's
        default.

    References
    ----------
    .. [1] Duchi, J., Hazan, E., Singer, Y. (2011). Adaptive subgradient methods for online learning
       and stochastic optimization. JMLR 12.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Adagrad(0.1)
    Adagrad(step_size=0.1, momentum=0.9)
    """

    step_size: StepSize = 1e-2
    momentum: float = 0.9
    namespace: ClassVar[str] = "adagrad"

    def _rule(self, rate):
        def scale_gradients(incoming, params):
            # Not pytensor_ml's, which adds an epsilon under the root: NumPyro takes 0 / 0 as 0.
            updates = pml.to_updates(incoming, params).copy()
            for param, gradient in zip(params, pml.steps_of(updates, params), strict=True):
                squares = pml.state_for(param, f"{self.namespace}/sum_squared_gradients")
                new_squares = squares + gradient**2
                nonzero = pt.gt(new_squares, 0)
                # The inner switch keeps the root of zero out of both branches.
                direction = gradient / pt.sqrt(pt.switch(nonzero, new_squares, 1.0))
                updates[squares] = new_squares
                if self.momentum:
                    mean = pml.state_for(param, f"{self.namespace}/momentum")
                    direction = self.momentum * mean + (1 - self.momentum) * direction
                    updates[mean] = direction
                updates[param] = param + direction
            return updates

        return pml.chain(scale_gradients, pml.sgd(rate, namespace=self.namespace))


@dataclass(frozen=True)
class AdagradWindow(Optimizer):
    """Adagrad over a window of recent gradients: the default of ``pm.fit``.

    ``p -= step_size * g / sqrt(sum of the last n_win squared gradients + eps)``.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    eps : float, default 0.1
        Added to the sum: what keeps the first steps from being large.
    n_win : int, default 10
        Number of gradients that are remembered; the state is ``n_win`` times the parameter.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.AdagradWindow()
    AdagradWindow(step_size=0.001, eps=0.1, n_win=10)
    """

    step_size: StepSize = 1e-3
    eps: float = 0.1
    n_win: int = 10
    namespace: ClassVar[str] = "adagrad_window"

    def _rule(self, rate):
        # Not PyMC's: it keeps an unnamed floating-point position for every parameter.
        def scale_gradients(incoming, params):
            updates = pml.to_updates(incoming, params).copy()
            clock = step_counter(f"{self.namespace}/window/step_count")
            updates[clock] = clock.advance()
            for param, gradient in zip(params, pml.steps_of(updates, params), strict=True):
                window = pml.state_for(
                    param, f"{self.namespace}/squared_gradients", history_size=self.n_win
                )
                updates[window] = window[clock % self.n_win].set(gradient**2)
                updates[param] = param + gradient / pt.sqrt(updates[window].sum(axis=0) + self.eps)
            return updates

        return pml.chain(scale_gradients, pml.sgd(rate, namespace=self.namespace))
