"""What arrivals and resets do to a state."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from .checked import Checked, close, close_rows, row_of


def unspiked_rows(checked: Checked) -> None:
    """Whoever else spikes."""
    numbers = jnp.arange(checked.n)
    for y, spiked in itertools.product(checked.states, (numbers < 0, numbers % 2 == 0, numbers % 2 == 1)):
        if "reset_spiked" in checked.broken:
            return
        after = checked.model.reset_spiked(y, spiked)
        changed = np.any(after != y, axis=1) & ~np.asarray(spiked)
        if changed.any():
            got = f"a neuron that did not spike goes from {row_of(y, changed)} to {row_of(after, changed)}"
            advice = "use jnp.where(spiked, …, y[:, 0])"
            checked.report("reset_spiked", got, "that it keeps its state", advice)


def arrivals(checked: Checked) -> None:
    """A spike of weight 0, which is what a masked connection gives, changes nothing; and no order matters."""
    if "input_spikes" in checked.broken:
        return
    one = checked.weights()
    two = one[::-1] * 1.5
    for y in checked.states:
        nothing = checked.model.input_spikes(y, jnp.zeros_like(one))
        if not close(nothing, y):
            got = f"a spike of weight 0 takes the state {row_of(y, np.any(nothing != y, axis=1))} to another"
            advice = "neurons without a connection are called with weight 0: let the jump be 0 as well"
            checked.report("input_spikes", got, "that it stays", advice)
            return
        forth, back = (
            checked.model.input_spikes(checked.model.input_spikes(y, a), b) for a, b in ((one, two), (two, one))
        )
        if not np.allclose(forth, back, rtol=1e-4, atol=1e-6, equal_nan=True):
            got = f"two spikes at one instant give another state in another order at {row_of(y, forth != back)}"
            advice = "let each spike add what does not depend on those before it"
            checked.report("input_spikes", got, "the same in any order", advice)
            return


def resets_that_end(checked: Checked) -> None:
    """Walk to the threshold along the slope of the condition, spike, and look again.

    A reset may lead to the threshold or above it only if it leaves the condition as it is, or if the condition falls
    there.
    """
    calls = checked.calls()
    condition, dynamics = calls.get("spike_condition"), calls.get("dynamics")
    if condition is None or dynamics is None or "reset_spiked" in checked.broken:
        return

    for y in checked.at_threshold:
        at_threshold = np.abs(condition(y)) < 1e-3
        all_spike = jnp.ones((checked.n,), bool)
        reset = checked.model.reset_spiked(y, all_spike)
        after, rises = jax.jvp(condition, (reset,), (dynamics(reset),))
        # One that is reset to the threshold stays there, too: look at another state as well.
        kept = close_rows(after, condition(y))
        kept &= close_rows(condition(checked.model.reset_spiked(y + 1, all_spike)), condition(y + 1))
        high = at_threshold & ~np.asarray(after < 0) & ~kept & ~np.asarray(rises < 0)
        if high.any():
            neuron = np.flatnonzero(high)[0]
            where = f"from {row_of(y, high)} at threshold neuron {neuron}"
            got = f"{where} goes on with spike_condition = {after[neuron]:.3g}, which rises"
            advice = "it would spike again at once and forever: reset below the threshold"
            checked.report("reset_spiked", got, "a number below 0, or one that falls", advice)
            return
