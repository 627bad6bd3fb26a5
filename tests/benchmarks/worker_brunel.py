"""Times one program on the balanced network. `bench.py` starts it with the interpreter of that program.

`worker_brunel.py JOB.json WORK.npz RESULT.npz`. What is timed is the run: not building the network, nor compiling.
"""

import json
import resource
import sys
import time

import numpy as np

REPEATS = 3
THRESHOLD, RESET = 20.0, 10.0


def run_eventsnn(work, arrays):
    """Every run is the same network with the same input."""
    import jax
    import jax.numpy as jnp

    import eventsnn

    net = eventsnn.EvNN(
        eventsnn.LIF,
        work["neurons"],
        work["neurons"],
        work["t_end"],
        jax.random.PRNGKey(0),
        synapses=arrays["synapses"],
        init_weights=arrays["weights"],
        init_delays=work["delay"],
        tmem=work["tmem"],
        tsyn=work["tsyn"],
        thresh=THRESHOLD,
        vreset=RESET,
        init_bias=0.0,
        y0=np.stack([arrays["potentials"], np.zeros(work["neurons"])], axis=1),
        max_event_steps=int(work["neurons"] * (2 + 0.12 * work["t_end"])),
        max_pending=96,
    )
    in_spikes = jnp.asarray(arrays["in_spikes"], jnp.float32)
    start = time.perf_counter()
    jax.block_until_ready(net.record(in_spikes))
    first, seconds = time.perf_counter() - start, []
    for _ in range(REPEATS):
        start = time.perf_counter()
        record = jax.block_until_ready(net.record(in_spikes))
        seconds.append(time.perf_counter() - start)
    times, neurons = np.asarray(record.times[0]), np.asarray(record.neurons[0])
    return {"compile": first - seconds[0], "seconds": seconds, "times": times[neurons >= 0]}


def run_nest(work, arrays):
    """Spikes off the grid, as exact as NEST has them. It draws the Poisson trains itself."""
    import nest

    nest.verbosity = nest.VerbosityLevel.ERROR
    seconds = []
    for repeat in range(REPEATS):
        nest.ResetKernel()
        nest.set(resolution=0.1, local_num_threads=2, rng_seed=1 + repeat)
        constants = {"C_m": work["tmem"], "tau_m": work["tmem"], "tau_syn_ex": work["tsyn"], "tau_syn_in": work["tsyn"]}
        # It knows no neuron without a refractory time: the shortest is a step.
        constants |= {"t_ref": 0.1, "E_L": 0.0, "V_th": THRESHOLD, "V_reset": RESET}
        neurons = nest.Create("iaf_psc_exp_ps", work["neurons"], constants)
        neurons.V_m = arrays["potentials"]
        rate = 1000 * work["eta"] * THRESHOLD / (work["jump"] * work["tmem"])
        outside = nest.Create("poisson_generator_ps", 1, {"rate": rate})
        recorder = nest.Create("spike_recorder")
        weight = work["jump"] * work["tmem"] / work["tsyn"]
        nest.Connect(outside, neurons, syn_spec={"weight": weight, "delay": work["delay"]})
        sources, targets = arrays["synapses"].T
        among = sources < work["neurons"]
        synapses = {"weight": arrays["weights"][among], "delay": np.full(among.sum(), work["delay"])}
        nest.Connect(1 + sources[among], 1 + targets[among], "one_to_one", synapses)
        nest.Connect(neurons, recorder)
        nest.Prepare()
        start = time.perf_counter()
        nest.Run(work["t_end"])
        seconds.append(time.perf_counter() - start)
        nest.Cleanup()
        times = recorder.get("events")["times"]
    return {"seconds": seconds, "times": times}


def run_brian2(work, arrays):
    """Spikes on a grid of 0.1 ms. It draws the Poisson trains itself."""
    import brian2
    from brian2 import Hz, ms

    brian2.defaultclock.dt = 0.1 * ms
    names = {"tmem": work["tmem"] * ms, "tsyn": work["tsyn"] * ms}
    neurons = brian2.NeuronGroup(
        work["neurons"],
        "dv/dt = (current - v) / tmem : 1\ndcurrent/dt = -current / tsyn : 1",
        threshold=f"v >= {THRESHOLD}",
        reset=f"v = {RESET}",
        method="exact",
        namespace=names,
    )
    neurons.v = arrays["potentials"]
    sources, targets = arrays["synapses"].T
    among = sources < work["neurons"]
    synapses = brian2.Synapses(neurons, neurons, "w : 1", on_pre="current_post += w", delay=work["delay"] * ms)
    synapses.connect(i=sources[among], j=targets[among])
    synapses.w = arrays["weights"][among]
    rate = work["eta"] * THRESHOLD / (work["jump"] * work["tmem"])
    # A thousand sources for every neuron, all of which spike alike.
    outside = brian2.PoissonInput(neurons, "current", 1000, rate * Hz, work["jump"] * work["tmem"] / work["tsyn"])
    monitor = brian2.SpikeMonitor(neurons)
    net = brian2.Network(neurons, synapses, outside, monitor)
    net.run(1 * ms)
    seconds = []
    for _ in range(REPEATS):
        start, before = time.perf_counter(), monitor.num_spikes
        net.run(work["t_end"] * ms)
        seconds.append(time.perf_counter() - start)
    times = np.asarray(monitor.t / ms)[before:]
    return {"seconds": seconds, "times": times - times[0]}


def main(job_path, work_path, result_path):
    """Do the job and write what came out."""
    job, arrays = json.loads(open(job_path).read()), dict(np.load(work_path))
    run = {"eventsnn": run_eventsnn, "nest": run_nest, "brian2": run_brian2}[job["program"]]
    out = run(job["work"], arrays)
    out["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(result_path, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
