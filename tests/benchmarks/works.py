"""The works that are timed: networks, samples and labels, made with NumPy so that all programs get the same."""

import dataclasses

import numpy as np

T_END, TMEM, TSYN = 30.0, 20.0, 5.0


@dataclasses.dataclass(frozen=True)
class Work:
    """A network and its samples.

    - `neuron`: `"LIF"` or `"QIF"`.
    - `layers`, `inputs`: how many neurons each layer has, and how many input channels there are.
    - `batch`: how many samples are one step.
    - `max_event_steps`: how many spikes a layer may emit for a sample.
    - `wide`: inputs that spike once or not at all, as pixels do, and not the five spikes of Yin-Yang.
    """

    neuron: str = "LIF"
    layers: tuple[int, ...] = (120, 3)
    inputs: int = 5
    batch: int = 256
    max_event_steps: int = 1000
    wide: bool = False

    @property
    def t_end(self) -> float:
        """How long a sample is simulated, in ms."""
        return 40.0 if self.wide else T_END

    def describe(self) -> str:
        """In a few words."""
        sizes = "-".join(map(str, (self.inputs, *self.layers)))
        return f"{sizes} {self.neuron}, batch {self.batch}"

    def make(self) -> dict[str, np.ndarray]:
        """Weights, biases, input spikes and labels.

        Weights are uniform in 0 … 4 for LIF and 0 … 40 for QIF, biases 0 and in ±0.5, as in the peers' own scripts.
        A layer that is wider or narrower than these gets as much input in the sum. For `wide` a neuron spikes once or
        twice: a fifth of the inputs spikes, at some time in 0 … 20 ms, and weights are normal.
        """
        rng = np.random.default_rng(0)
        arrays: dict[str, np.ndarray] = {}
        for number, (pre, post) in enumerate(zip((self.inputs, *self.layers), self.layers, strict=False)):
            if self.wide:
                mean, deviation = (0.078, 0.135) if number == 0 else (0.2, 0.37)
                weights = rng.normal(mean, deviation, (pre, post))
            else:
                # A neuron of the last layer hears all spikes of 120 neurons, one before as much as of five inputs.
                usual = 120 if number == len(self.layers) - 1 else 5
                weights = rng.uniform(0, {"LIF": 4.0, "QIF": 40.0}[self.neuron], (pre, post)) * usual / pre
            bias = np.zeros(post) if self.neuron == "LIF" else rng.uniform(-0.5, 0.5, post)
            arrays[f"weights{number}"], arrays[f"bias{number}"] = weights.astype(np.float32), bias.astype(np.float32)
        arrays["in_spikes"] = self._in_spikes(rng).astype(np.float32)
        arrays["labels"] = rng.integers(0, self.layers[-1], self.batch)
        return arrays

    def _in_spikes(self, rng: np.random.Generator) -> np.ndarray:
        if self.wide:
            shape = (self.batch, self.inputs, 1)
            return np.where(rng.uniform(size=shape) < 0.2, rng.uniform(0, 20, shape), np.inf)
        if self.inputs != 5:
            return rng.uniform(0, T_END, (self.batch, self.inputs, 1))
        # x, y, 1 - x and 1 - y in 0 … 30 ms, and a spike at 0. Rounded once, so that a reference in float64 gets
        # the same times.
        xy = rng.uniform(0, 1, (self.batch, 2))
        return 30 * np.concatenate([xy, 1 - xy, np.zeros((self.batch, 1))], 1)[..., None]


@dataclasses.dataclass(frozen=True)
class RecurrentWork:
    """QIF neurons that all reach each other without delay, and one output that hears them.

    Two inputs spike at 0 and at x, and the output is to spike at 5 sin(2πx/10) + x + 30 ms.
    """

    neurons: int = 21
    inputs: int = 2
    batch: int = 64
    max_event_steps: int = 500
    t_end: float = 80.0

    def describe(self) -> str:
        """In a few words."""
        return f"{self.neurons - 1} recurrent QIF, 1 output, batch {self.batch}"

    def make(self) -> dict[str, np.ndarray]:
        """Weights, which of them there are, which neuron is the output, input spikes and targets.

        The output spikes after about as long as the targets ask for, and every neuron about once before.
        """
        rng = np.random.default_rng(0)
        hidden, rows = self.neurons - 1, self.neurons + self.inputs
        weights = np.zeros((rows, self.neurons))
        weights[:hidden, :hidden] = rng.normal(0.5, 1.0, (hidden, hidden))
        weights[:hidden, hidden] = rng.normal(0.48, 0.2, hidden)
        weights[self.neurons :, :hidden] = rng.normal(8.0, 3.0, (self.inputs, hidden))
        x = rng.uniform(0, 10, self.batch)
        return {
            "weights": weights.astype(np.float32),
            "mask": weights != 0,
            "output": np.arange(self.neurons) == hidden,
            "in_spikes": np.stack([np.zeros(self.batch), x], axis=1)[..., None].astype(np.float32),
            "targets": (5 * np.sin(2 * np.pi * x / 10) + x + 30).astype(np.float32),
        }


@dataclasses.dataclass(frozen=True)
class BrunelWork:
    """The balanced random network of Brunel (2000), scaled down: four fifths of its neurons excite, the rest inhibit.

    A neuron hears `excitatory` and `inhibitory` others, drawn with repetition, and a Poisson train of its own.
    Potentials are in mV: the threshold 20, the reset 10, and a spike whose charge is worth a `jump` of the potential.

    - `g`: how much stronger inhibition is.
    - `eta`: the rate of the Poisson trains, in rates that would just reach the threshold.
    """

    neurons: int = 2000
    excitatory: int = 160
    inhibitory: int = 40
    jump: float = 0.3
    g: float = 5.0
    eta: float = 2.0
    delay: float = 1.5
    tmem: float = 20.0
    tsyn: float = 0.5
    t_end: float = 1000.0

    @property
    def rate(self) -> float:
        """Of the Poisson trains, per ms."""
        return self.eta * 20.0 / (self.jump * self.tmem)

    def describe(self) -> str:
        """In a few words."""
        return f"balanced network, {self.neurons} LIF, {self.t_end / 1000:g} s"

    def make(self) -> dict[str, np.ndarray]:
        """Synapses `(synapses, 2)` from neurons or inputs to neurons, their weights, potentials, and input spikes."""
        rng = np.random.default_rng(0)
        n, exciting = self.neurons, 4 * self.neurons // 5
        heard = np.concatenate(
            [rng.integers(0, exciting, (n, self.excitatory)), rng.integers(exciting, n, (n, self.inhibitory))], axis=1
        )
        own = np.arange(n)
        sources = np.concatenate([heard.ravel(), n + own])
        targets = np.concatenate([np.repeat(own, heard.shape[1]), own])
        weight = self.jump * self.tmem / self.tsyn
        weights = np.where((sources >= exciting) & (sources < n), -self.g * weight, weight)
        mean = self.rate * self.t_end
        trains = np.cumsum(rng.exponential(1 / self.rate, (n, int(mean + 8 * np.sqrt(mean)))), axis=1)
        trains[trains > self.t_end] = np.inf
        return {
            "synapses": np.stack([sources, targets], axis=1),
            "weights": weights,
            "potentials": rng.uniform(0, 20, n),
            "in_spikes": trains[:, : int(np.isfinite(trains).sum(axis=1).max())],
        }
