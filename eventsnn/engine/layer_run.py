"""What the run of a layer gives."""

import equinox as eqx
from jaxtyping import Array, Float, Int


class LayerRun(eqx.Module):
    """What a run gives.

    - `times`, `neurons`: the spikes, by time and then by neuron; `inf` behind the last.
    - `slopes`: how steeply each of them crossed the threshold.
    - `count`: how many spikes the layer emitted, which is more than `capacity` if the list is too short.
    - `spikes`: how many spikes each neuron emitted.
    - `status`, `stopped`: how each neuron ended, and where its clock stood.
    - `states`: the state at every query time.
    """

    times: Float[Array, "*batch capacity"]
    neurons: Int[Array, "*batch capacity"]
    slopes: Float[Array, "*batch capacity"] | None
    count: Int[Array, "*batch"]
    spikes: Int[Array, "*batch neurons"]
    status: Int[Array, "*batch neurons"]
    stopped: Float[Array, "*batch neurons"]
    states: Float[Array, "*batch neurons times channels"] | None
