"""Times a training step of snnTorch on one work, with time steps of a given length.

`worker_snntorch.py JOB.json WORK.npz RESULT.npz`, with the interpreter of an environment with torch and snntorch.
"""

import json
import math
import sys
import time

import numpy as np
import snntorch
import torch

TMEM, TSYN = 20.0, 5.0


def main(job_path, work_path, result_path):
    """Time steps of surrogate gradient descent: loss on the spike counts, gradient and Adam."""
    job, arrays = json.loads(open(job_path).read()), dict(np.load(work_path))
    torch.set_num_threads(2)
    dt, layers = job["dt"], job["work"]["layers"]
    n_steps = round(job["t_end"] / dt)
    alpha, beta = math.exp(-dt / TSYN), math.exp(-dt / TMEM)
    in_spikes, labels = arrays["in_spikes"][..., 0], torch.tensor(arrays["labels"])
    binned = torch.zeros(n_steps, *in_spikes.shape)
    sample, channel = np.nonzero(np.isfinite(in_spikes))
    binned[np.minimum(in_spikes[sample, channel] / dt, n_steps - 1).astype(int), sample, channel] = 1.0
    linear = [torch.nn.Linear(*arrays[f"weights{n}"].shape, bias=False) for n in range(len(layers))]
    for number, layer in enumerate(linear):
        layer.weight.data = torch.tensor(arrays[f"weights{number}"].T.copy())
    neurons = [snntorch.Synaptic(alpha=alpha, beta=beta, reset_mechanism="zero") for _ in layers]
    optimizer = torch.optim.Adam([parameter for layer in linear for parameter in layer.parameters()], lr=1e-3)

    def step():
        states = [neuron.init_synaptic() for neuron in neurons]
        counts = 0.0
        for moment in binned:
            spikes = moment
            for number, (layer, neuron) in enumerate(zip(linear, neurons, strict=True)):
                # A spike adds its weight to the current, which moves V by the share that dt is of tmem.
                spikes, current, v = neuron(layer(spikes) * (dt / TMEM), *states[number])
                states[number] = (current, v)
            counts = counts + spikes
        loss = torch.nn.functional.cross_entropy(counts, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    seconds = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < 0.5:
        step()
    while len(seconds) < job["repeats"] or sum(seconds) < 1.0:
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    np.savez(result_path, seconds=seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
