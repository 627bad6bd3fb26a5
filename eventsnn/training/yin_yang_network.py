"""The network that is trained on Yin-Yang, as published for LIF, and like ones for other neurons."""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..evnn import FFEvNN
from ..neuron_models import EIF, LIF, QIF, Izhikevich, NeuronModel, TwoCompartment
from .fit import Recipe
from .yin_yang import CLASS_NAMES, IN_SIZE


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How a neuron model is used.

    - `model`, `keywords`: the model and its hyperparameters.
    - `unit`: the size of its weights in units of those of LIF. Learning rates are in this unit as well.
    - `into_hidden`, `into_output`: mean and standard deviation of the initial weights, in that unit.
    """

    model: type[NeuronModel]
    keywords: Mapping[str, float]
    unit: float = 1.0
    into_hidden: tuple[float, float] = (1.5, 0.78)
    into_output: tuple[float, float] = (0.93, 0.1)


_KINDS = MappingProxyType(
    {
        "lif": _Kind(LIF, {"tmem": 20.0, "tsyn": 5.0}),
        # Its potential takes longer to rise.
        "qif": _Kind(QIF, {"tmem": 10.0, "tsyn": 5.0}),
        "eif": _Kind(EIF, {"tsyn": 5.0}, unit=4.5),
        "izhikevich": _Kind(Izhikevich, {"tsyn": 5.0}, unit=2.0),
        "two-compartment": _Kind(TwoCompartment, {"tsyn": 5.0}, unit=2.5),
    }
)

NEURONS = tuple(_KINDS)
"""The names of the neuron models that `make_network` knows."""

PUBLISHED_HIDDEN = 200

# Inputs come until 30 ms; an output that should win may spike some time after.
_T_END = 45.0
# Delays scatter what arrives, and a hidden neuron that is silent at first stays so: no gradient wakes it.
_WEIGHTS_WITH_DELAYS = ((3.0, 1.5), (0.56, 1.2))


def make_network(
    neuron: str = "lif",
    hidden: int = PUBLISHED_HIDDEN,
    *,
    delays: float = 0.0,
    seed: int = 0,
    rtol: float = 1e-3,
    atol: float = 1e-4,
    dtype=jnp.float32,
) -> FFEvNN:
    """A network of 5 inputs, one hidden layer and 3 outputs, without bias.

    **Arguments:**

    - `neuron`: `"lif"`, `"qif"`, `"eif"`, `"izhikevich"` or `"two-compartment"`.
    - `hidden`: the number of hidden neurons. The weights into the outputs are scaled by
        200 / `hidden`, so that networks of all sizes spike from the start.
    - `delays`: with a number greater than 0 every synapse has a delay that is trained, at first uniform between 0 and
        that many ms. The run becomes longer by as much, weights into hidden neurons are larger at first, and those into
        the outputs have both signs.
    - `seed`: determines the initial weights and delays.
    - `rtol`, `atol`, `dtype`: see `FFEvNN`.

    **Raises:** `ValueError` for another neuron, fewer than one hidden neuron, or a negative delay.

    Source: Wunderlich and Pehle (2021) for LIF, with the time constants 20 ms and 5 ms and the threshold 1. The
    others have weights of the same distribution, in a unit in which hidden neurons spike about as often.
    """
    kind = _kind(neuron)
    if hidden < 1:
        raise ValueError(f"hidden is {hidden}, expected at least 1 neuron")
    if not 0 <= delays < math.inf:
        raise ValueError(f"delays is {delays}, expected a time in ms, or 0 for none")
    random = np.random.default_rng(seed)
    into_hidden, into_output = _WEIGHTS_WITH_DELAYS if delays else (kind.into_hidden, kind.into_output)
    scale = kind.unit * PUBLISHED_HIDDEN / hidden
    of_delays: Any = {"dlim": delays, "trainable": "delays"} if delays else {}
    weights = [
        kind.unit * random.normal(*into_hidden, (IN_SIZE, hidden)),
        scale * random.normal(*into_output, (hidden, len(CLASS_NAMES))),
    ]
    return FFEvNN(
        [hidden, len(CLASS_NAMES)],
        IN_SIZE,
        kind.model,
        _T_END + delays,
        jax.random.PRNGKey(seed),
        init_bias=0.0,
        init_weights=weights,
        rtol=rtol,
        atol=atol,
        max_event_steps=max(1000, 10 * hidden),
        dtype=dtype,
        **kind.keywords,
        **of_delays,
    )


def make_recipe(neuron: str = "lif", **options: Any) -> Recipe:
    """How to train the network of `make_network`: the published recipe, with steps in the unit of the weights.

    `options` are those of `Recipe`. **Raises** `ValueError` for another neuron, or for what `Recipe` refuses.
    """
    rate: dict[str, Any] = {"learning_rate": Recipe().learning_rate * _kind(neuron).unit}
    return Recipe(**(rate | options))


def _kind(neuron: str) -> _Kind:
    if neuron not in NEURONS:
        raise ValueError(f"neuron is {neuron!r}, expected one of {', '.join(NEURONS)}")
    return _KINDS[neuron]
