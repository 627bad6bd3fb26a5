"""Step sizes: decided separately for every neuron."""

import abc

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .rows import Channels

Decision = tuple[Bool[Array, "batch neurons"], Float[Array, "batch neurons"], PyTree]


class AbstractControl(eqx.Module):
    """Decides per row whether a step is kept and how long the next one is."""

    @abc.abstractmethod
    def init(self, y: Channels) -> tuple[Float[Array, "batch neurons"], PyTree]:
        """The size of the first step, and what the controller remembers, per row."""

    @abc.abstractmethod
    def decide(
        self, y0: Channels, y1: Channels, error: Channels | None, h: Float[Array, "batch neurons"], memory: PyTree
    ) -> Decision:
        """Whether to keep each step, the next step sizes, and what to remember."""


class ConstantControl(AbstractControl):
    """Every step has the same size, unless an event ends it earlier."""

    size: float = eqx.field(static=True)

    def init(self, y) -> tuple[Float[Array, "batch neurons"], PyTree]:
        return jnp.full_like(y[0], self.size), ()

    def decide(self, y0, y1, error, h, memory) -> Decision:
        return jnp.ones(h.shape, bool), jnp.full_like(h, self.size), memory


class NoControl(AbstractControl):
    """Every step goes on to the next event."""

    def init(self, y) -> tuple[Float[Array, "batch neurons"], PyTree]:
        return jnp.full_like(y[0], jnp.inf), ()

    def decide(self, y0, y1, error, h, memory) -> Decision:
        return jnp.ones(h.shape, bool), jnp.full_like(h, jnp.inf), memory


class AdaptiveControl(AbstractControl):
    """A Diffrax `PIDController` asked once per row.

    It sees a clock that starts at 0 with each step, so that short steps keep their digits at late
    times.
    """

    controller: diffrax.PIDController
    error_order: float = eqx.field(static=True)
    first_step: float = eqx.field(static=True)

    def init(self, y) -> tuple[Float[Array, "batch neurons"], PyTree]:
        def one(y):
            zero, first = jnp.zeros_like(y[0]), jnp.full_like(y[0], self.first_step)
            terms = diffrax.ODETerm(lambda t, y, args: y)
            return self.controller.init(terms, zero, first, y, first, None, terms.vf_prod, self.error_order)

        start = jax.vmap(jax.vmap(one))(y)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, y[0].shape), start)

    def decide(self, y0, y1, error, h, memory) -> Decision:
        if error is None:
            raise ValueError("the solver gave no error estimate to control")
        # A step so long that it left the range of numbers is far off, whatever its end is compared with.
        fine = tuple(jnp.isfinite(e) & jnp.isfinite(y) for e, y in zip(error, y1, strict=True))
        error = tuple(jnp.where(ok, e, jnp.inf) for ok, e in zip(fine, error, strict=True))
        y1 = tuple(jnp.where(ok, y, start) for ok, y, start in zip(fine, y1, y0, strict=True))

        def one(y0, y1, error, h, memory):
            zero = jnp.zeros_like(h)
            keep, t0, t1, _, memory, _ = self.controller.adapt_step_size(
                zero, h, y0, y1, None, error, self.error_order, memory
            )
            return jnp.asarray(keep), jnp.asarray(t1 - t0), memory

        return jax.vmap(jax.vmap(one))(y0, y1, error, h, memory)


def make_control(controller, solver: diffrax.AbstractSolver, first_step: float) -> AbstractControl:
    """Check a step size controller and wrap it.

    **Raises:** `TypeError` for a controller other than `PIDController` and `ConstantStepSize`
    (jump and step times are the engine's own business), `ValueError` for an adaptive controller
    with a solver that has no error estimate.
    """
    if isinstance(controller, diffrax.ConstantStepSize):
        return ConstantControl(first_step)
    if not isinstance(controller, diffrax.PIDController):
        raise TypeError(
            f"stepsize_controller is {type(controller).__name__}, expected diffrax.PIDController or "
            "diffrax.ConstantStepSize: steps already stop at every spike, input and end time"
        )
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"{type(solver).__name__} has no error estimate: pass solver_stepsize and "
            "stepsize_controller=diffrax.ConstantStepSize(), or a solver such as diffrax.Tsit5()"
        )
    order = solver.error_order(diffrax.ODETerm(lambda t, y, args: y))
    order = controller.error_order if order is None else order
    if order is None:
        raise ValueError(f"{type(solver).__name__} does not tell its order: pass PIDController(..., error_order=...)")
    return AdaptiveControl(controller=controller, error_order=float(order), first_step=first_step)
