"""Asking a network for two things at once, so that half as much is compiled."""

import equinox as eqx
import jax
import jax.numpy as jnp

from eventsnn.engine.feed_forward import Wanted
from eventsnn.engine.trains import spike_trains


@eqx.filter_jit
def spikes_and_states(net, x, times, max_spikes):
    """What `spikes_until_t` and `state_at_t` of a whole feed-forward run answer, from one run.

    That those give the same is seen wherever they are held against an oracle.
    """
    last = len(net.neurons) - 1
    wanted = Wanted(jnp.asarray(net.max_solver_time, net.dtype), jnp.asarray(times))
    run = net._run(jnp.asarray(x), wanted)[0][last]
    states = jax.vmap(net.neurons[last].observe, in_axes=1, out_axes=1)(run.states)
    return spike_trains(run.times, run.neurons, len(net._outputs), max_spikes), states
