"""Random neurons of every model, for the package and for the oracle, which share no code.

A case has three neurons with numbers of their own and a batch of input times, one spike in each channel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracle_zoo

import eventsnn
from eventsnn import FFEvNN

NEURONS, CHANNELS, SAMPLES, MAX_SPIKES = 3, 6, 3, 24
KEY = jax.random.PRNGKey(0)


class Drive(NamedTuple):
    """How a model is made to spike a few times: mean bias, mean and deviation of weights, how long, seed."""

    bias: float
    weight: float
    spread: float
    t_end: float = 50.0
    seed: int = 0


DRIVES = {
    "IF": Drive(0.3, 1.0, 2.0),
    "LIF": Drive(1.2, 1.5, 2.0),
    "DeltaLIF": Drive(1.3, 0.2, 0.4),
    "LeakyIntegrator": Drive(0.9, 1.0, 2.0),
    "AlphaLIF": Drive(0.9, 1.0, 1.5),
    "DualExpLIF": Drive(0.9, 1.0, 1.5),
    "ConductanceLIF": Drive(4.0, 0.4, 0.8),
    "ExpLIF": Drive(12.0, 15.0, 20.0),
    "QIF": Drive(3.0, 5.0, 6.0),
    "EIF": Drive(6.0, 10.0, 20.0, seed=1),
    "AdEx": Drive(700.0, 200.0, 400.0),
    "Izhikevich": Drive(7.0, 4.0, 6.0),
    "ALIF": Drive(1.9, 2.0, 3.0),
    "MAT": Drive(16.0, 15.0, 20.0),
    "TwoCompartment": Drive(1.4, 2.0, 3.0),
    "HodgkinHuxley": Drive(10.0, 4.0, 4.0, t_end=30.0),
    "EGRU": Drive(0.9, 0.5, 1.5),
}
# The bias is a hyperparameter in these.
BIASES = {"ExpLIF": "I_e", "EGRU": "bias_z"}


class Case(NamedTuple):
    """`numbers` has an array for every hyperparameter, `y0` and the bias; `times` is (samples, channels)."""

    name: str
    numbers: dict[str, np.ndarray]
    weights: np.ndarray
    times: np.ndarray
    t_end: float


def make_case(name: str) -> Case:
    """Numbers within 5 % of the defaults, so that no two neurons are alike."""
    model, drive = getattr(eventsnn, name), DRIVES[name]
    rng = np.random.default_rng(drive.seed)
    default = model(1, dtype=jnp.float64)
    numbers = {}
    for field, declaration in model._declared.items():
        if declaration.kind == "hyperparameter":
            value = float(getattr(default, field).value)
            numbers[field] = value + 0.05 * (abs(value) or 1.0) * rng.uniform(-1, 1, NEURONS)
    numbers[BIASES.get(name, "ic")] = drive.bias * rng.uniform(0.9, 1.1, NEURONS)
    numbers["y0"] = np.asarray(default.y0.value) * rng.uniform(0.98, 1.02, (NEURONS, 1))
    ports = (len(model.ports),) if model.ports else ()
    weights = rng.normal(drive.weight, drive.spread, (CHANNELS, NEURONS, *ports))
    return Case(name, numbers, weights, rng.uniform(1, 0.7 * drive.t_end, (SAMPLES, CHANNELS)), drive.t_end)


def keywords(case: Case) -> dict[str, np.ndarray]:
    """What the network takes."""
    return {"init_bias" if name == "ic" else name: value for name, value in case.numbers.items()}


def network(case: Case, rtol: float = 1e-9, dtype=jnp.float64, model=None, **options) -> FFEvNN:
    """One layer of the case's neurons."""
    model = getattr(eventsnn, case.name) if model is None else model
    given = keywords(case) | {"init_weights": case.weights, "max_event_steps": NEURONS * MAX_SPIKES} | options
    return FFEvNN([NEURONS], CHANNELS, model, case.t_end, KEY, dtype=dtype, rtol=rtol, **given)


def for_oracle(case: Case, neuron: int) -> dict[str, np.ndarray]:
    """The numbers of one neuron, as the oracle wants them."""
    own = {name: value[neuron] for name, value in case.numbers.items()}
    y0 = own["y0"]
    if case.name == "QIF":
        y0 = np.array([-np.pi / np.tan(np.pi * y0[0]), *y0[1:]])
    if case.name == "HodgkinHuxley":
        y0 = y0[:5]
    return {name: value for name, value in own.items() if name != "y0"} | {"y0": y0}


def arrivals(case: Case, sample: int, neuron: int) -> list[tuple[float, np.ndarray]]:
    """What reaches one neuron in one sample."""
    return list(zip(case.times[sample], case.weights[:, neuron], strict=True))


def oracle_spikes(case: Case, sample: int, neuron: int, **wrappers) -> np.ndarray:
    parameters = for_oracle(case, neuron)
    return oracle_zoo.simulate(case.name, parameters, arrivals(case, sample, neuron), case.t_end, **wrappers)


def oracle_states(case: Case, sample: int, neuron: int, times: np.ndarray, **wrappers) -> np.ndarray:
    parameters = for_oracle(case, neuron)
    return oracle_zoo.states(case.name, parameters, arrivals(case, sample, neuron), times, **wrappers)
