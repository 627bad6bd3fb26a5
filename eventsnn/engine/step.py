"""One step of a Diffrax solver for a block of rows, each row with its own step size."""

import abc
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .rows import Channels, Rows


class Step(eqx.Module):
    """What one step gives: the state at its end, its error estimate, and dy/dt at both ends."""

    y1: Channels
    error: Channels | None
    slope0: Channels
    slope1: Channels


class AbstractStepper(eqx.Module):
    """How rows that do not see each other get from one event to the next."""

    @abc.abstractmethod
    def advance(
        self, rows: Rows, t: Float[Array, "batch neurons"], y: Channels, h: Float[Array, "batch neurons"]
    ) -> Channels:
        """The state at the end of a step of size `h`; differentiable."""

    @abc.abstractmethod
    def linearise(
        self, rows: Rows, t: Float[Array, "batch neurons"], y: Channels, h: Float[Array, "batch neurons"]
    ) -> tuple[Channels, Channels, PyTree]:
        """The state at the end of the step, its derivative by `h`, and what `pull_back` wants to know."""

    @abc.abstractmethod
    def pull_back(
        self,
        rows: Callable[[PyTree], Rows],
        numbers: PyTree,
        t: Float[Array, "batch neurons"],
        y: Channels,
        h: Float[Array, "batch neurons"],
        known: PyTree,
        ct: Channels,
    ) -> tuple[PyTree, Float[Array, "batch neurons"], Channels]:
        """From a cotangent of the end of the step to those of `numbers`, `t` and `y`, for fixed `h`.

        The cotangent of `h` is the product of `ct` and the derivative that `linearise` gives.
        """


class AbstractSolver(AbstractStepper):
    """A one-step method, which also says how far off it may be."""

    @abc.abstractmethod
    def step(self, rows: Rows, t: Float[Array, "batch neurons"], y: Channels, h: Float[Array, "batch neurons"]) -> Step:
        """One step of size `h` with its error estimate."""


class ExplicitStepper(AbstractSolver):
    """Any explicit Runge-Kutta method of Diffrax, evaluated from its tableau.

    Written out rather than called through `solver.step`, so that the adjoint sweep differentiates
    seven stages and nothing else.
    """

    solver: diffrax.AbstractERK

    def step(self, rows, t, y, h) -> Step:
        slopes, y1 = self._stages(rows, t, y, h)
        error = _combine(self._tableau.b_error, slopes, y)
        slope1 = slopes[-1] if self._tableau.fsal else rows.dynamics(t + h, y1)
        return Step(y1, tuple(h * e for e in error), slopes[0], slope1)

    def advance(self, rows, t, y, h) -> Channels:
        return self._stages(rows, t, y, h, last=not self._tableau.ssal)[1]

    def linearise(self, rows, t, y, h) -> tuple[Channels, Channels, PyTree]:
        tableau = self._tableau
        one = jnp.ones_like(t)
        slopes, tangents, stages = [], [], []

        def stage(a, c):
            k, dk = _combine(a, slopes, y), _combine(a, tangents, y)
            z = tuple(yi + h * ki for yi, ki in zip(y, k, strict=True))
            dz = tuple(ki + h * di for ki, di in zip(k, dk, strict=True))
            stages.append(z)
            slope, tangent = jax.jvp(rows.dynamics, (t + float(c) * h, z), (float(c) * one, dz))
            slopes.append(slope)
            tangents.append(tangent)

        for a, c in self._needed_stages():
            stage(a, c)
        b = tableau.b_sol[: len(slopes)]
        k, dk = _combine(b, slopes, y), _combine(b, tangents, y)
        y1 = tuple(yi + h * ki for yi, ki in zip(y, k, strict=True))
        return y1, tuple(ki + h * di for ki, di in zip(k, dk, strict=True)), tuple(stages)

    def pull_back(self, rows, numbers, t, y, h, known, ct) -> tuple[PyTree, Array, Channels]:
        stages = self._needed_stages()
        total_numbers, total_t, total_y = jax.tree.map(jnp.zeros_like, numbers), jnp.zeros_like(t), ct
        # What each stage receives from the later ones, through the tableau's columns.
        pulled: dict[int, Channels] = {}
        for i in reversed(range(len(stages))):
            weights = [self._tableau.b_sol[i], *(stages[j][0][i] for j in pulled)]
            ct_slope = tuple(h * k for k in _combine(weights, [ct, *pulled.values()], y))
            time = t + float(stages[i][1]) * h
            _, pull = jax.vjp(lambda n, t, z: rows(n).dynamics(t, z), numbers, time, known[i])
            ct_numbers, ct_t, ct_z = pull(ct_slope)
            pulled[i] = ct_z
            total_numbers = jax.tree.map(jnp.add, total_numbers, ct_numbers)
            total_t = total_t + ct_t
            total_y = tuple(a + b for a, b in zip(total_y, ct_z, strict=True))
        return total_numbers, total_t, total_y

    def _needed_stages(self) -> list[tuple[np.ndarray, float]]:
        """The tableau's rows that the solution depends on: without the last where it only serves the next step."""
        tableau = self._tableau
        rows = [(np.zeros(0), 0.0), *zip(tableau.a_lower, tableau.c, strict=True)]
        return rows[:-1] if tableau.ssal else rows

    @property
    def _tableau(self) -> diffrax.ButcherTableau:
        tableau = self.solver.tableau
        assert isinstance(tableau, diffrax.ButcherTableau)
        return tableau

    def _stages(self, rows, t, y, h, last: bool = True):
        """All stages; without the `last` one where the solution is known before it."""
        tableau = self._tableau
        slopes = [rows.dynamics(t, y)]
        stage = y
        for row, (a, c) in enumerate(zip(tableau.a_lower, tableau.c, strict=True)):
            stage = tuple(yi + h * k for yi, k in zip(y, _combine(a, slopes, y), strict=True))
            if last or row + 1 < len(tableau.c):
                slopes.append(rows.dynamics(t + float(c) * h, stage))
        if tableau.ssal:
            return slopes, stage
        return slopes, tuple(yi + h * k for yi, k in zip(y, _combine(tableau.b_sol, slopes, y), strict=True))


class DiffraxStepper(AbstractSolver):
    """Any other solver, through its own `step` over s in [0, 1] of the field scaled by each row's size."""

    solver: diffrax.AbstractSolver

    def step(self, rows, t, y, h) -> Step:
        y1, error = self._call(rows, t, y, h)
        return Step(y1, error, rows.dynamics(t, y), rows.dynamics(t + h, y1))

    def advance(self, rows, t, y, h) -> Channels:
        return self._call(rows, t, y, h)[0]

    def linearise(self, rows, t, y, h) -> tuple[Channels, Channels, PyTree]:
        # In reverse, one channel at a time: implicit solvers know no forward mode.
        y1, pull = jax.vjp(lambda h: self.advance(rows, t, y, h), h)
        nothing = tuple(jnp.zeros_like(channel) for channel in y)

        def by_h(channel):
            ct = tuple(jnp.ones_like(zero) if i == channel else zero for i, zero in enumerate(nothing))
            return pull(ct)[0]

        return y1, tuple(by_h(channel) for channel in range(len(y))), ()

    def pull_back(self, rows, numbers, t, y, h, known, ct) -> tuple[PyTree, Array, Channels]:
        _, pull = jax.vjp(lambda n, t, y: self.advance(rows(n), t, y, h), numbers, t, y)
        return pull(ct)

    def _call(self, rows, t, y, h):
        terms = diffrax.ODETerm(lambda s, y, args: tuple(h * k for k in rows.dynamics(t + s * h, y)))
        zero, one = jnp.zeros((), h.dtype), jnp.ones((), h.dtype)
        state = self.solver.init(terms, zero, one, y, None)
        y1, error, _, _, _ = self.solver.step(terms, zero, one, y, None, state, made_jump=False)
        return y1, error


class ExactStepper(AbstractStepper):
    """The closed form of the model: steps of any size without an error."""

    def advance(self, rows, t, y, h) -> Channels:
        return rows.after(y, h)

    def linearise(self, rows, t, y, h) -> tuple[Channels, Channels, PyTree]:
        y1 = rows.after(y, h)
        return y1, rows.dynamics(t + h, y1), ()

    def pull_back(self, rows, numbers, t, y, h, known, ct) -> tuple[PyTree, Array, Channels]:
        _, pull = jax.vjp(lambda n, y: rows(n).after(y, h), numbers, y)
        ct_numbers, ct_y = pull(ct)
        return ct_numbers, jnp.zeros_like(t), ct_y


def make_stepper(solver: diffrax.AbstractSolver, controller: diffrax.AbstractStepSizeController) -> AbstractSolver:
    """The stepper for a Diffrax solver. An implicit one solves its equations to the `controller`'s tolerances.

    **Raises:** `TypeError` if `solver` is not a Diffrax solver, `ValueError` if it is implicit and
    has no tolerances.
    """
    if not isinstance(solver, diffrax.AbstractSolver):
        raise TypeError(f"solver is {solver!r}, expected a Diffrax solver such as diffrax.Tsit5()")
    if isinstance(solver, diffrax.AbstractERK) and isinstance(solver.tableau, diffrax.ButcherTableau):
        return ExplicitStepper(solver)
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        solver = _with_tolerances(solver, controller)
    return DiffraxStepper(solver)


def _with_tolerances(solver: diffrax.AbstractImplicitSolver, controller: diffrax.AbstractStepSizeController):
    """Fill the tolerances in that Diffrax leaves open in a root finder until it meets a controller."""
    for name in ("rtol", "atol", "norm"):
        value = getattr(solver.root_finder, name, None)
        if value is None or callable(value) or isinstance(value, float | int | Array):
            continue
        if not isinstance(controller, diffrax.PIDController):
            raise ValueError(
                f"{type(solver).__name__} is implicit and needs tolerances: pass a diffrax.PIDController, "
                "or a solver whose root_finder has its own rtol and atol"
            )
        solver = eqx.tree_at(lambda s, name=name: getattr(s.root_finder, name), solver, getattr(controller, name))
    return solver


def _combine(weights, slopes, like: Channels) -> Channels:
    """The weighted sum of slopes, channel by channel; terms with weight 0 cost nothing."""
    total = tuple(jnp.zeros_like(channel) for channel in like)
    for weight, slope in zip(weights, slopes, strict=True):
        if weight != 0:
            total = tuple(sofar + float(weight) * k for sofar, k in zip(total, slope, strict=True))
    return total
