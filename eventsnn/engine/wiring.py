"""Which spikes reach which neurons: synapses one by one, and how the windows of a network look at connections."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..neuron_models.parameter import Parameter
from .arrivals import from_input, in_order
from .feed_forward import Synapses
from .lanes import Arrivals


class AbstractWiring(eqx.Module):
    """Connections of neurons and inputs to neurons, with numbers for the synapses.

    Rows are the neurons, then the inputs. The synapses of a row have successive numbers.

    - `weights`: of every synapse, 0 where there is none.
    - `delays`: of every synapse, in ms, infinite where there is none.
    """

    weights: Float[Array, "synapses *ports"]
    delays: Float[Array, " synapses"]

    def shortest(self, neurons: int) -> Float[Array, ""]:
        """The shortest delay among neurons."""
        of_neurons = jnp.arange(self.delays.shape[0], dtype=jnp.int32) < self.first(jnp.asarray(neurons, jnp.int32))
        return jnp.min(jnp.where(of_neurons, self.delays, jnp.inf), initial=jnp.inf)

    @abc.abstractmethod
    def first(self, row: Int[Array, "*any"]) -> Int[Array, "*any"]:
        """The first synapse of a row; that of the row behind it ends them."""

    @abc.abstractmethod
    def target(self, synapse: Int[Array, "*any"]) -> Int[Array, "*any"]:
        """The neuron that a synapse reaches, or the number of neurons where there is none."""

    @abc.abstractmethod
    def from_inputs(self, in_spikes: Float[Array, "inputs spikes"]) -> Arrivals:
        """What arrives from the inputs, in one list, or in one for each neuron.

        The sources are those that `synapse` understands.
        """

    @abc.abstractmethod
    def synapse(self, source: Int[Array, "neurons any"]) -> Int[Array, "neurons any"]:
        """Through which synapse of each neuron a spike in a list of `from_inputs` arrives."""


class DenseWiring(AbstractWiring):
    """Every row reaches every neuron, as far as the mask lets it.

    - `of_inputs`: the rows of the inputs.
    """

    mask: Bool[Array, " synapses"] | None
    of_inputs: Synapses
    neurons: int = eqx.field(static=True)

    def first(self, row):
        return row * self.neurons

    def target(self, synapse):
        target = synapse % self.neurons
        return target if self.mask is None else jnp.where(self.mask[synapse], target, self.neurons)

    def from_inputs(self, in_spikes):
        return self.of_inputs.deliver(from_input(in_spikes))

    def synapse(self, source):
        return (self.neurons + source) * self.neurons + jnp.arange(self.neurons, dtype=jnp.int32)[:, None]


class SparseSynapses(eqx.Module):
    """Synapses one by one, sorted by the rows that they come from: the neurons, then the inputs.

    - `rows`, `targets`: where each comes from and leads to.
    - `from_inputs`: those that each neuron has from inputs, and the number of synapses where it has fewer.
    - `weights`: of every synapse.
    - `delays`, `axonal_delays`: how long a spike is on its way, in ms; `None` where it arrives at once.
    """

    rows: Int[Array, " synapses"]
    targets: Int[Array, " synapses"]
    from_inputs: Int[Array, "neurons fan_in"]
    weights: Float[Array, "synapses *ports"]
    delays: Parameter | None
    axonal_delays: Parameter | None

    @property
    def neurons(self) -> int:
        """How many neurons there are."""
        return self.from_inputs.shape[0]

    @property
    def total_delays(self) -> Float[Array, " synapses"]:
        """How long a spike is on its way in all."""
        delays = jnp.zeros(self.rows.shape, self.weights.dtype)
        if self.delays is not None:
            delays = delays + self.delays.frozen().value
        if self.axonal_delays is not None:
            delays = delays + self.axonal_delays.frozen().value[self.rows]
        return delays

    def dense(self, rows: int) -> Synapses:
        """The same as matrices. No two synapses may join the same neurons."""
        shape, place = (rows, self.neurons), (self.rows, self.targets)
        ports = self.weights.shape[1:]
        weights = jnp.zeros((*shape, *ports), self.weights.dtype).at[place].add(self.weights)
        delays = None
        if self.delays is not None:
            delays = jnp.zeros(shape, self.weights.dtype).at[place].add(self.delays.frozen().value)
            delays = Parameter(delays, self.delays.trainable)
        return Synapses(weights, jnp.zeros(shape, bool).at[place].set(True), delays, self.axonal_delays)


class SparseWiring(AbstractWiring):
    """As many synapses as there are.

    - `rows`, `targets`: where each comes from and leads to.
    - `starts`: the first synapse of each neuron, and behind them that of the inputs.
    - `in_synapses`: those that each neuron has from inputs, and the number of synapses where it has fewer.
    """

    rows: Int[Array, " synapses"]
    targets: Int[Array, " synapses"]
    starts: Int[Array, " rows"]
    in_synapses: Int[Array, "neurons fan_in"]

    def first(self, row):
        return self.starts[row]

    def target(self, synapse):
        return self.targets[synapse]

    def from_inputs(self, in_spikes):
        neurons, fan_in = self.in_synapses.shape
        delays = self.delays.at[self.in_synapses].get(mode="fill", fill_value=jnp.inf)
        inputs = self.rows.at[self.in_synapses].get(mode="clip") - neurons
        times = in_spikes.at[inputs].get(mode="clip") + delays[..., None]
        sources = jnp.broadcast_to(self.in_synapses[..., None], times.shape)
        shape = (neurons, fan_in * in_spikes.shape[1])
        return in_order(times.reshape(shape), sources.reshape(shape))

    def synapse(self, source):
        return source


def wiring_of(synapses: Synapses | SparseSynapses) -> AbstractWiring:
    """The connections from neurons and inputs, synapse by synapse."""
    if isinstance(synapses, SparseSynapses):
        rows, targets, weights, delays = synapses.rows, synapses.targets, synapses.weights, synapses.total_delays
        if not rows.size:
            # Arrays of no length cannot be read from. This one synapse delivers nothing.
            rows, targets = jnp.array([synapses.neurons], jnp.int32), jnp.zeros(1, jnp.int32)
            weights = jnp.zeros((1, *weights.shape[1:]), weights.dtype)
            delays = jnp.full(1, jnp.inf, delays.dtype)
        starts = jnp.searchsorted(rows, jnp.arange(synapses.neurons + 1, dtype=jnp.int32)).astype(jnp.int32)
        return SparseWiring(weights, delays, rows, targets, starts, synapses.from_inputs)
    neurons, delays, mask = synapses.weights.shape[1], synapses.total_delays, synapses.mask
    if delays is None:
        delays = jnp.zeros(synapses.weights.shape[:2], synapses.weights.dtype)
    if mask is not None:
        delays, mask = jnp.where(mask, delays, jnp.inf), mask.reshape(-1)
    of_inputs = split_rows(synapses, neurons)[1]
    weights = synapses.present.reshape(-1, *synapses.weights.shape[2:])
    return DenseWiring(weights, delays.reshape(-1), mask, of_inputs, neurons)


def split_rows(synapses: Synapses, neurons: int) -> tuple[Synapses, Synapses]:
    """The connections from neurons, and those from inputs."""
    return jax.tree.map(lambda x: x[:neurons], synapses), jax.tree.map(lambda x: x[neurons:], synapses)


def inputs_table(rows: np.ndarray, targets: np.ndarray, neurons: int) -> np.ndarray:
    """The synapses that each neuron has from inputs, and behind them the number of all synapses."""
    number = np.flatnonzero(rows >= neurons)
    number = number[np.argsort(targets[number], kind="stable")]
    target = targets[number]
    fan_in = np.bincount(target, minlength=neurons)
    table = np.full((neurons, fan_in.max(initial=0)), len(rows), np.int32)
    table[target, np.arange(len(target)) - np.repeat(np.cumsum(fan_in) - fan_in, fan_in)] = number
    return table
