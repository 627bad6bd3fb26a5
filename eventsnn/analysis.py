"""What researchers read off a run: states sampled around the spikes, and firing rates."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from .arguments import checked_count
from .evnn import EvNN, FFEvNN
from .neuron_models import NeuronModel
from .neuron_models.parameter import reject_unfit_times

# Just before a spike are that many units in the last place, twice what its time may be off.
_BEFORE = 8


class Traces(eqx.Module):
    """The states of some neurons over time, and their spikes.

    - `times`: in ms, sorted, shape `(times,)`.
    - `states`: as `state_at_t` gives them, shape `(neurons, times, channels)`.
    - `spikes`: the spike times of each neuron in ms, padded with `inf`, shape `(neurons, spikes)`.
    - `neurons`: which neurons they are.
    - `channels`: the names of the channels.
    """

    times: Float[np.ndarray, " times"]
    states: Float[np.ndarray, "neurons times channels"]
    spikes: Float[np.ndarray, "neurons spikes"]
    neurons: tuple[int, ...] = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)


def sample_traces(
    net: FFEvNN | EvNN,
    in_spikes: ArrayLike,
    *,
    layer: int = -1,
    neurons: Sequence[int] | None = None,
    t_start: float = 0.0,
    t_end: float | None = None,
    n_times: int = 1000,
) -> Traces:
    """Run one sample, and look at the states evenly over time as well as just before and at every spike.

    So potentials are seen to reach the threshold, however coarse the times are otherwise.

    **Arguments:**

    - `net`, `in_spikes`: a network and its input, shape `(in_size, spikes)`.
    - `layer`: which layer of an `FFEvNN` to look at, by default the last.
    - `neurons`: which neurons to look at, by default all of the layer.
    - `t_start`, `t_end`: from when to when, in ms, by default the whole run.
    - `n_times`: how many times there are besides those at spikes.

    **Raises:** `ValueError` for a layer, a neuron or a time that does not exist.
    """
    sizes = net.layers if isinstance(net, FFEvNN) else (net.n_neurons,)
    if not -len(sizes) <= layer < len(sizes):
        raise ValueError(f"layer is {layer}, expected one of the {len(sizes)} layers, counted from 0")
    layer %= len(sizes)
    n_times = checked_count("n_times", n_times)
    chosen = tuple(range(sizes[layer])) if neurons is None else tuple(neurons)
    bad = [neuron for neuron in chosen if not 0 <= neuron < sizes[layer]]
    if bad:
        raise ValueError(f"neurons holds {bad[0]}, expected numbers from 0 to {sizes[layer] - 1}")
    end = net.max_solver_time if t_end is None else t_end
    if not 0 <= t_start < end <= net.max_solver_time:
        raise ValueError(
            f"t_start is {t_start} and t_end {end}, expected 0 <= t_start < t_end <= max_solver_time = "
            f"{net.max_solver_time:g} ms"
        )
    record = net.record(in_spikes)
    emitted, who = np.asarray(record.times[layer]), np.asarray(record.neurons[layer])
    seen = np.isfinite(emitted) & (emitted >= t_start) & (emitted <= end)
    trains = [emitted[seen & (who == neuron)] for neuron in chosen]
    spikes = np.full((len(chosen), max(map(len, trains), default=0)), np.inf, emitted.dtype)
    for row, train in zip(spikes, trains, strict=True):
        row[: len(train)] = train
    times = _times_around(spikes, t_start, end, n_times)
    # Of another number of spikes, the states are the same program.
    padded = np.append(times, np.full(-len(times) % 512, times[-1], times.dtype))
    where = {"layer": layer} if isinstance(net, FFEvNN) else {}
    states = np.asarray(net.state_at_t(in_spikes, padded, **where))[list(chosen), : len(times)]
    return Traces(times, states, spikes, chosen, _model_of(net, layer).channels)


def firing_rates(
    spike_times: Float[ArrayLike, "... spikes"], duration: float, *, transient: float = 0.0
) -> Float[np.ndarray, "..."]:
    """The rate of every spike train in Hz: how many spikes there are, over how long that took.

    Spikes count from `transient` to `duration`, and are divided by the time between the two.

    >>> print(firing_rates([[1.0, 11.0, 21.0], [5.0, jnp.inf, jnp.inf]], 200.0))
    [15.  5.]

    **Arguments:**

    - `spike_times`: in ms, in any order, padded with `inf`, as `spikes_until_t` gives them.
    - `duration`: how long the run was, in ms.
    - `transient`: how much of its start to leave out, in ms.

    **Raises:** `ValueError` if a time is nan, or if `transient` is not before `duration`.
    """
    times = _spike_times(spike_times)
    if np.ndim(duration) or not 0 <= transient < duration < math.inf:
        raise ValueError(
            f"transient is {transient} and duration {duration}, expected times in ms with 0 <= transient < duration"
        )
    return 1000.0 * ((times >= transient) & (times <= duration)).sum(axis=-1) / (duration - transient)


def mean_interval_rates(
    spike_times: Float[ArrayLike, "... spikes"], *, transient: float = 0.0
) -> Float[np.ndarray, "..."]:
    """The rate of every spike train in Hz: one over the mean interval between its spikes.

    For regular trains it does not depend on where the run began and ended, as `firing_rates` does. A train with fewer
    than two spikes has the rate 0: it takes two to see an interval.

    >>> print(mean_interval_rates([[1.0, 11.0, 21.0], [5.0, jnp.inf, jnp.inf]]))
    [100.   0.]

    **Arguments:**

    - `spike_times`: in ms, in any order, padded with `inf`, as `spikes_until_t` gives them.
    - `transient`: spikes before this time in ms are left out.

    **Raises:** `ValueError` if a time is nan, or if all spikes of a train are at the same instant.
    """
    times = _spike_times(spike_times)
    kept = np.isfinite(times) & (times >= transient)
    several = kept.sum(axis=-1) > 1
    first = np.min(times, axis=-1, where=kept, initial=np.inf)
    last = np.max(times, axis=-1, where=kept, initial=-np.inf)
    if np.any(several & (first == last)):
        raise ValueError(f"all spikes of a train are at {first[several & (first == last)][0]:g} ms: it has no rate")
    intervals = np.where(several, kept.sum(axis=-1) - 1, 0)
    return 1000.0 * intervals / np.where(several, last - first, 1.0)


def _spike_times(spike_times: ArrayLike) -> np.ndarray:
    reject_unfit_times("spike_times", spike_times)
    times = np.asarray(spike_times, float)
    if times.ndim == 0:
        raise ValueError(f"spike_times is {spike_times}, expected an array of shape (..., spikes)")
    if np.isnan(times).any():
        where = ", ".join(map(str, np.argwhere(np.isnan(times))[0]))
        raise ValueError(f"spike_times[{where}] is nan: use inf where there is no spike")
    return times


def fi_curve(
    neuron_model: type[NeuronModel],
    currents: Float[ArrayLike, " currents"],
    *,
    duration: float = 1000.0,
    transient: float = 200.0,
    bias_name: str = "init_bias",
    key: PRNGKeyArray | None = None,
    **options: Any,
) -> Float[np.ndarray, " currents"]:
    """The firing rate in Hz at each bias current: all neurons of one layer, which have no input.

    Rates are those of `mean_interval_rates`: below two spikes in `duration - transient` the rate is 0.

    **Arguments:**

    - `neuron_model`: a `NeuronModel` class.
    - `currents`: one bias current per neuron.
    - `duration`: how long to simulate, in ms.
    - `transient`: how long to wait before intervals between spikes count, in ms.
    - `bias_name`: the keyword by which the model takes one bias current per neuron.
    - `key`: a JAX random key, for a model that draws something.
    - `options`: other keywords of `FFEvNN` and of the model. `max_event_steps`, how many spikes there
        may be in all, is 1000 for each neuron by default.

    **Raises:** `TypeError` for something else than a model class, or one that does not take `bias_name`;
    `ValueError` for currents or times out of range; `SimulationError` for a run that cannot be completed.
    """
    if not (inspect.isclass(neuron_model) and issubclass(neuron_model, NeuronModel)):
        raise TypeError(f"neuron_model is {neuron_model!r}, expected a class that subclasses NeuronModel")
    currents = np.asarray(currents, float)
    if currents.ndim != 1:
        raise ValueError(f"currents has shape {currents.shape}, expected (currents,)")
    if not np.isfinite(currents).all():
        raise ValueError(f"currents holds {currents[~np.isfinite(currents)][0]}, expected finite numbers")
    if not 0 <= transient < duration:
        raise ValueError(f"transient is {transient}, expected 0 ms or more and less than duration = {duration} ms")
    if bias_name not in inspect.signature(neuron_model).parameters:
        raise TypeError(
            f"{neuron_model.__name__} takes no {bias_name!r}: pass bias_name, the keyword of its bias current"
        )
    if not currents.size:
        return np.zeros(0)
    options = {"max_event_steps": 1000 * len(currents), "key": jax.random.PRNGKey(0) if key is None else key} | options
    biases = jnp.asarray(currents, options.get("dtype", jnp.float32))
    layer = FFEvNN([len(currents)], 0, neuron_model, duration, **{bias_name: biases}, **options)
    record = layer.record(np.zeros((0, 0)))
    times, who = np.asarray(record.times[0]), np.asarray(record.neurons[0])
    trains = [times[who == neuron] for neuron in range(len(currents))]
    return np.array([mean_interval_rates(train, transient=transient) for train in trains])


def _model_of(net: FFEvNN | EvNN, layer: int) -> NeuronModel:
    return net.neurons[layer] if isinstance(net, FFEvNN) else net.neurons


def _times_around(
    spikes: Float[np.ndarray, "neurons spikes"], start: float, end: float, n_times: int
) -> Float[np.ndarray, " times"]:
    """Times evenly from `start` to `end`, and two at every spike, sorted."""
    at = spikes[np.isfinite(spikes)]
    before = np.maximum(at - _BEFORE * np.spacing(at), at.dtype.type(start))
    return np.unique(np.concatenate([np.linspace(start, end, n_times).astype(at.dtype), before, at]))
