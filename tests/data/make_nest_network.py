"""Makes `nest_network.npz`: the first spikes of a random network in NEST 3.10, off the grid.

    $PEERS/nest/bin/python tests/data/make_nest_network.py

A hundred `iaf_psc_exp_ps` neurons, every fifth of which inhibits, each with twenty synapses from others and one from
its input. Delays are whole steps of NEST's grid of 0.1 ms; spikes are not on it.
"""

from pathlib import Path

import nest
import numpy as np

N, FAN_IN, T_END, WANTED = 100, 20, 60.0, 300
CONSTANTS = {"tmem": 10.0, "tsyn": 2.0, "thresh": 1.0, "vreset": 0.0, "refractory": 1.0}


def main() -> None:
    """Run the network and write it down, with its input and its spikes."""
    rng = np.random.default_rng(0)
    sources = np.concatenate([rng.choice(N, FAN_IN, replace=False) for _ in range(N)])
    targets = np.repeat(np.arange(N), FAN_IN)
    weights = np.where(sources % 5 == 0, -1.5, 0.6) * rng.uniform(0.5, 1.5, len(sources))
    delays = rng.integers(5, 60, len(sources)) / 10
    trains = np.sort(rng.uniform(1, 50, (N, 6)).round(6), axis=1)
    into = rng.uniform(2, 5, N)
    drive = rng.uniform(0, 0.9, N)

    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.ResetKernel()
    nest.set(resolution=0.1)
    neurons = nest.Create(
        "iaf_psc_exp_ps",
        N,
        {
            "C_m": CONSTANTS["tmem"],
            "tau_m": CONSTANTS["tmem"],
            "tau_syn_ex": CONSTANTS["tsyn"],
            "tau_syn_in": CONSTANTS["tsyn"],
            "V_th": CONSTANTS["thresh"],
            "V_reset": CONSTANTS["vreset"],
            "t_ref": CONSTANTS["refractory"],
            "E_L": 0.0,
            "V_m": 0.0,
        },
    )
    neurons.I_e = drive
    nest.Connect(1 + sources, 1 + targets, "one_to_one", {"weight": weights, "delay": delays})
    for neuron, times, weight in zip(neurons, trains, into, strict=True):
        generator = nest.Create("spike_generator", 1, {"spike_times": times, "precise_times": True})
        nest.Connect(generator, neuron, syn_spec={"weight": weight, "delay": 1.0})
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    nest.Simulate(T_END)
    events = recorder.get("events")
    order = np.argsort(events["times"])[:WANTED]
    np.savez_compressed(
        Path(__file__).with_name("nest_network.npz"),
        synapses=np.stack([sources, targets], axis=1),
        weights=weights,
        delays=delays,
        trains=trains + 1.0,
        into=into,
        drive=drive,
        times=events["times"][order],
        neurons=events["senders"][order] - 1,
        **CONSTANTS,
    )
    print(f"{len(events['times'])} spikes, the first {len(order)} until {events['times'][order][-1]:.1f} ms")


if __name__ == "__main__":
    main()
