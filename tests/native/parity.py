"""Random recurrent networks and single neurons for the native kernel, with their true spikes and states.

The truth comes from `oracle_recurrent` and `oracle_zoo`, which share no code with the package. One network of each
shape is built and jitted once; a case then changes its numbers with `with_`.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle_recurrent
import oracle_zoo
import random_networks

import eventsnn
from eventsnn import LIF, AtMostOneSpike, EvNN, FFEvNN, Refractory

KEY = jax.random.PRNGKey(0)
T_END = 30.0
N_SPIKES = 12  # of each input at most
OWN = ("tmem", "tsyn", "thresh", "vreset", "ic", "y0")


@eqx.filter_jit
def record(net, x):
    return net.record(x)


@eqx.filter_jit
def states(net, x, times):
    return net.state_at_t(x, times)


def spikes_of(record, layer=0):
    """The times and the neurons of all spikes of a layer, in their order."""
    times, neurons = np.asarray(record.times[layer], np.float64), np.asarray(record.neurons[layer])
    real = np.isfinite(times)
    return times[real], neurons[real]


def train(net, x, neuron=0, layer=0):
    times, neurons = spikes_of(net.record(x), layer)
    return times[neurons == neuron]


class Recurrent(NamedTuple):
    in_spikes: np.ndarray
    weights: np.ndarray
    delays: np.ndarray
    parameters: dict[str, np.ndarray]


REGIMES = ("silent", "sparse", "dense", "bursts")
DELAYS = ("none", "uniform", "axonal", "mixed")


def recurrent_case(size: int, n_inputs: int, regime: str, delays: str, seed: int) -> Recurrent:
    """Numbers that are exact in float32; every third network lives below 0, every fourth has inputs that coincide."""
    rng = np.random.default_rng((seed, size, REGIMES.index(regime), DELAYS.index(delays)))
    p = random_networks._random_parameters("LIF", size, rng)
    if seed % 3 == 2:
        p |= {"thresh": p["thresh"] - 2, "ic": p["ic"] - 2, "vreset": p["vreset"] - 2}
        p["y0"] = p["y0"] - np.array([2.0, 0.0])
    in_spikes = np.full((n_inputs, N_SPIKES), np.inf)
    for row in in_spikes if regime != "silent" else ():
        count = rng.integers(1, N_SPIKES + 1)
        row[:count] = rng.uniform(0, 0.9 * T_END, count)
        if seed % 4 == 3:
            row[:count] = np.round(row[:count])
    gain = {"silent": 0.3, "sparse": 1.0, "dense": 4.0, "bursts": 12.0}[regime]
    # More inhibition than excitation among neurons, and no strong excitation: activity must end.
    among = min(gain, 2.0) / np.sqrt(size) * rng.normal(-0.4, 0.5, (size, size))
    to_neurons = np.minimum(among, 0.4)
    from_inputs = gain * rng.normal(0.6, 1.0, (n_inputs, size))
    rows = size + n_inputs
    by_source = {
        "none": np.zeros(rows),
        "uniform": np.full(rows, 1.5),
        "axonal": rng.uniform(0.4, 6.0, rows),
        "mixed": rng.choice([0.0, 0.0, 0.4, 2.7], rows),
    }[delays]
    short = random_networks._short
    weights = short(np.concatenate([to_neurons, from_inputs]))
    p = {name: short(value) for name, value in p.items()}
    return Recurrent(short(in_spikes), weights, short(by_source), p)


def recurrent_net(size: int, n_inputs: int, **options) -> EvNN:
    """A network whose numbers `with_numbers` replaces."""
    start = {"tmem": np.ones(size), "tsyn": np.ones(size), "thresh": np.ones(size), "vreset": np.zeros(size)}
    options = {"engine": "native", "dtype": jnp.float64, "max_event_steps": 4000, **options}
    return EvNN(
        options.pop("model", LIF), size, n_inputs, T_END, KEY, wmean=1.0, init_axonal_delays=0.5, **start,
        y0=np.zeros((size, 2)), **options,
    )  # fmt: skip


def with_numbers(net: EvNN, case: Recurrent, **changes) -> EvNN:
    own = {name: case.parameters[name] for name in OWN}
    return net.with_(**{"weights": case.weights, "axonal_delays": case.delays, **own, **changes})


def truth_of(case: Recurrent, times=()) -> oracle_recurrent.Run:
    delays = np.repeat(case.delays[:, None], case.weights.shape[1], axis=1)
    return oracle_recurrent.simulate(
        "LIF", case.in_spikes, case.weights, delays, case.parameters, T_END, np.asarray(times)
    )


def assert_same_spikes(found, true: oracle_recurrent.Run, atol: float) -> None:
    times, neurons = found
    assert len(times) == len(true.times)
    np.testing.assert_allclose(times, true.times, rtol=0, atol=atol)
    # Spikes nearer than that may come in either order.
    order = [np.lexsort((who, np.round(when / (10 * atol)))) for when, who in ((times, neurons), true[:2])]
    np.testing.assert_array_equal(neurons[order[0]], true.neurons[order[1]])


# Single neurons of each model and wrapper, against an integrator.

MODELS = ("LIF", "IF", "DeltaLIF", "ExpLIF", "LeakyIntegrator")
WRAPPERS = {
    "plain": (lambda model: model, {}),
    "refractory": (Refractory, {"tref": True}),
    "all held": (lambda model: Refractory(model, hold=("V", "I")), {"tref": True, "held": ("V", "I")}),
    "none held": (lambda model: Refractory(model, hold=()), {"tref": True, "held": ()}),
    "block": (lambda model: Refractory(model, block=True), {"tref": True, "block": True}),
    "once": (AtMostOneSpike, {"once": True}),
    "once, refractory": (lambda model: AtMostOneSpike(Refractory(model)), {"tref": True, "once": True}),
    "refractory, once": (lambda model: Refractory(AtMostOneSpike(model)), {"tref": True, "once": True}),
}
ZOO_INPUTS, ZOO_END = 24, 50.0


def makes_sense(model: str, wrapper: str) -> bool:
    return (model != "LeakyIntegrator" or wrapper == "plain") and (model != "DeltaLIF" or wrapper != "all held")


def zoo_net(model: str, wrapper: str, **options) -> FFEvNN:
    cls = WRAPPERS[wrapper][0](getattr(eventsnn, model))
    options = {"engine": "native", "dtype": jnp.float64, "max_event_steps": 2000, **options}
    return FFEvNN([1], ZOO_INPUTS, cls, ZOO_END, KEY, wmean=1.0, **options)


class Single(NamedTuple):
    """Changes of the network, its input spikes and query times, and the true spike times and states."""

    changes: dict
    in_spikes: np.ndarray
    times: np.ndarray
    spikes: np.ndarray
    states: np.ndarray


def zoo_case(model: str, wrapper: str, seed: int) -> Single:
    rng = np.random.default_rng((seed, MODELS.index(model), list(WRAPPERS).index(wrapper)))
    around = dict(WRAPPERS[wrapper][1])
    p = dict(oracle_zoo.MODELS[model].defaults)
    in_mv = model == "ExpLIF"
    tau, bias, scale, base = ("tau", "I_e", 10.0, -60.0) if in_mv else ("tmem", "ic", 1.0, 0.0)
    p[tau] = float(np.exp(rng.uniform(0, 4)))
    if "tsyn" in p:
        p["tsyn"] = float(rng.choice([p[tau], p[tau] * 1.0001, np.exp(rng.uniform(0, 3.5))]))
    p[bias] = scale * float(rng.choice([0.0, 0.5, 1.3, -0.5])) * (0.3 if model == "IF" else 1.0)
    y0 = [base + scale * float(rng.choice([0.0, 0.9, -3.0, 1.2]))]
    if model != "DeltaLIF":
        y0.append(scale * float(rng.uniform(-1, 1)))
    n = int(rng.integers(0, ZOO_INPUTS + 1))
    arrivals = np.round(rng.uniform(0, 0.9 * ZOO_END, n), 3 if seed % 2 else 0)
    size = (0.6 if model == "DeltaLIF" else 1.0) * scale * np.exp(rng.uniform(0, 2.2))
    weights = size * rng.normal(0.3, 1.0, n)
    changes = {name: value for name, value in p.items()} | {"y0": y0}
    if around.pop("tref", False):
        around["tref"] = changes["tref"] = float(rng.choice([0.3, 1.0, 2.5, 7.0]))
    if model == "DeltaLIF" and around.get("held"):
        around["held"] = ("V",)
    pairs, times = list(zip(arrivals, weights, strict=True)), rng.uniform(0, ZOO_END, 5)
    oracle = {**p, "y0": y0}
    spikes = oracle_zoo.simulate(model, oracle, pairs, ZOO_END, **around)
    states = oracle_zoo.states(model, oracle, pairs, sorted(times), **around)
    in_spikes = np.full((ZOO_INPUTS, 1), np.inf)
    in_spikes[:n, 0] = arrivals
    all_weights = np.zeros((ZOO_INPUTS, 1))
    all_weights[:n, 0] = weights
    return Single(changes | {"weights": all_weights}, in_spikes, np.sort(times), spikes, states)
