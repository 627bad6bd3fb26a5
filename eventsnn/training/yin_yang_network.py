"""The network that is trained on Yin-Yang, as published for LIF, and a like one for QIF."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..evnn import FFEvNN
from ..neuron_models import LIF, QIF
from .yin_yang import CLASS_NAMES, IN_SIZE

NEURONS = ("lif", "qif")
"""The names of the neuron models that `make_network` knows."""

PUBLISHED_HIDDEN = 200

# Inputs come until 30 ms; an output that should win may spike some time after.
_T_END = 45.0
_TMEM = {"lif": 20.0, "qif": 10.0}
# Mean and standard deviation of the initial weights into the hidden and the output layer.
_WEIGHTS = {"lif": ((1.5, 0.78), (0.93, 0.1)), "qif": ((1.5, 0.78), (0.93, 0.1))}
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

    - `neuron`: `"lif"` or `"qif"`.
    - `hidden`: the number of hidden neurons. The weights into the outputs are scaled by
        200 / `hidden`, so that networks of all sizes spike from the start.
    - `delays`: with a number greater than 0 every synapse has a delay that is trained, at first uniform between 0 and
        that many ms. The run becomes longer by as much, weights into hidden neurons are larger at first, and those into
        the outputs have both signs.
    - `seed`: determines the initial weights and delays.
    - `rtol`, `atol`, `dtype`: see `FFEvNN`.

    **Raises:** `ValueError` for another neuron, fewer than one hidden neuron, or a negative delay.

    Source: Wunderlich and Pehle (2021), with the time constants 20 ms (here 10 ms
    for QIF, whose potential takes longer to rise) and 5 ms and the threshold 1.
    """
    if neuron not in NEURONS:
        raise ValueError(f"neuron is {neuron!r}, expected one of {', '.join(NEURONS)}")
    if hidden < 1:
        raise ValueError(f"hidden is {hidden}, expected at least 1 neuron")
    if not 0 <= delays < math.inf:
        raise ValueError(f"delays is {delays}, expected a time in ms, or 0 for none")
    random = np.random.default_rng(seed)
    into_hidden, into_output = _WEIGHTS_WITH_DELAYS if delays else _WEIGHTS[neuron]
    scale = PUBLISHED_HIDDEN / hidden
    of_delays: Any = {"dlim": delays, "trainable": "delays"} if delays else {}
    weights = [
        random.normal(*into_hidden, (IN_SIZE, hidden)),
        scale * random.normal(*into_output, (hidden, len(CLASS_NAMES))),
    ]
    return FFEvNN(
        [hidden, len(CLASS_NAMES)],
        IN_SIZE,
        {"lif": LIF, "qif": QIF}[neuron],
        _T_END + delays,
        jax.random.PRNGKey(seed),
        tsyn=5.0,
        tmem=_TMEM[neuron],
        init_bias=0.0,
        init_weights=weights,
        rtol=rtol,
        atol=atol,
        max_event_steps=max(1000, 10 * hidden),
        dtype=dtype,
        **of_delays,
    )
