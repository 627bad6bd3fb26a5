"""Times one program on one work. `bench.py` starts it with the interpreter of that program.

`worker.py JOB.json WORK.npz RESULT.npz`; a job names the program, the work and how often to repeat a step.
"""

import json
import resource
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

TMEM, TSYN = 20.0, 5.0


def build_eventsnn(job, arrays, dtype=jnp.float32, **tolerances):
    """The network with the weights and biases of the work, and what to train of it."""
    import eventsnn

    work = job["work"]
    numbers = range(len(work["layers"]))
    net = eventsnn.FFEvNN(
        layers=work["layers"],
        in_size=work["inputs"],
        neuron_model=getattr(eventsnn, work["neuron"]),
        max_solver_time=job["t_end"],
        key=jax.random.PRNGKey(0),
        max_event_steps=work["max_event_steps"],
        dtype=dtype,
        tmem=TMEM,
        tsyn=TSYN,
        init_weights=[arrays[f"weights{number}"] for number in numbers],
        init_bias=[arrays[f"bias{number}"] for number in numbers],
        **tolerances,
    )
    return net, eventsnn.trainable(net)


def build_eventax(job, arrays, max_event_steps=None):
    """The same network in Eventax, which keeps all weights in one matrix: hidden, output and input rows."""
    import eventax.neuron_models
    from eventax.evnn import FFEvNN

    work = job["work"]
    hidden, out = work["layers"]
    n_neurons = hidden + out
    weights = np.zeros((n_neurons + work["inputs"], n_neurons), np.float32)
    weights[n_neurons:, :hidden] = arrays["weights0"]
    weights[:hidden, hidden:] = arrays["weights1"]
    net = FFEvNN(
        layers=work["layers"],
        in_size=work["inputs"],
        neuron_model=getattr(eventax.neuron_models, work["neuron"]),
        max_solver_time=job["t_end"],
        key=jax.random.PRNGKey(0),
        solver_stepsize=job["eventax_stepsize"],
        max_event_steps=max_event_steps or work["max_event_steps"],
        dtype=jnp.float32,
        tmem=TMEM,
        tsyn=TSYN,
        init_weights=jnp.asarray(weights),
        init_bias=jnp.concatenate([jnp.asarray(arrays["bias0"]), jnp.asarray(arrays["bias1"])]),
        **({"thresh": 1.0} if work["neuron"] == "LIF" else {}),
    )
    return net, eqx.is_inexact_array


def build_recurrent_eventsnn(job, arrays, dtype=jnp.float32, **tolerances):
    """The recurrent network of the work, and what to train of it."""
    import eventsnn

    work = job["work"]
    net = eventsnn.EvNN(
        eventsnn.QIF,
        work["neurons"],
        work["inputs"],
        job["t_end"],
        jax.random.PRNGKey(0),
        init_weights=arrays["weights"],
        wmask=arrays["mask"],
        input_neurons=~arrays["output"],
        output_neurons=arrays["output"],
        max_event_steps=work["max_event_steps"],
        dtype=dtype,
        tmem=TMEM,
        tsyn=TSYN,
        init_bias=0.0,
        **tolerances,
    )
    return net, eventsnn.trainable(net)


def build_recurrent_eventax(job, arrays):
    """The same network in Eventax."""
    from eventax.evnn import EvNN
    from eventax.neuron_models import QIF

    work = job["work"]
    net = EvNN(
        neuron_model=QIF,
        n_neurons=work["neurons"],
        in_size=work["inputs"],
        max_solver_time=job["t_end"],
        key=jax.random.PRNGKey(0),
        solver_stepsize=0.1,
        max_event_steps=work["max_event_steps"],
        wmask=jnp.asarray(arrays["mask"], jnp.float32),
        init_weights=jnp.asarray(arrays["weights"]),
        input_neurons=jnp.asarray(~arrays["output"], jnp.float32),
        output_neurons=jnp.asarray(arrays["output"], jnp.float32),
        tmem=TMEM,
        tsyn=TSYN,
        init_bias=0.0,
    )
    return net, eqx.is_inexact_array


def cross_entropy(times, label, t_end):
    """The output that spikes first should be that of the label."""
    return -jax.nn.log_softmax(-jnp.where(jnp.isinf(times), t_end, times) / 0.5)[label]


def squared_error(times, target, t_end):
    """The output should spike at the target."""
    return jnp.sum((jnp.where(jnp.isinf(times), t_end, times) - target) ** 2)


def time_steps(net, wanted, arrays, t_end, repeats, spread=lambda function, **_: function):
    """Compile time, and the times of single steps and of the spike times alone, after a warm-up.

    `spread` splits a batch over devices.
    """
    weights, rest = eqx.partition(net, wanted)
    recurrent = "targets" in arrays
    of_one, labels = (squared_error, arrays["targets"]) if recurrent else (cross_entropy, arrays["labels"])
    in_spikes, labels = jnp.asarray(arrays["in_spikes"], jnp.float32), jnp.asarray(labels)
    optimizer = optax.adam(0.01)

    def loss_of(weights, in_spikes, labels):
        def one(spikes, label):
            return of_one(eqx.combine(weights, rest).ttfs(spikes), label, t_end)

        return jnp.mean(jax.vmap(one)(in_spikes, labels))

    def step(weights, state, in_spikes, labels):
        loss, gradient = spread(jax.value_and_grad(loss_of))(weights, in_spikes, labels)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(weights, updates), state, loss

    def first_spikes(weights, in_spikes):
        return jax.vmap(eqx.combine(weights, rest).ttfs)(in_spikes)

    forward = spread(first_spikes, mean=False)

    state = optimizer.init(weights)
    start = time.perf_counter()
    compiled = jax.jit(step).lower(weights, state, in_spikes, labels).compile()
    compile_time = time.perf_counter() - start
    # Every step starts from the same weights, so that every one of them is the same work.
    seconds = repeated(lambda: compiled(weights, state, in_spikes, labels), repeats)
    # Before anything is compiled that a training run does not need.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    alone = jax.jit(forward).lower(weights, in_spikes).compile()
    forward_seconds = repeated(lambda: alone(weights, in_spikes), repeats)
    return {"compile": compile_time, "seconds": seconds, "forward": forward_seconds, "peak": peak}


def repeated(call, repeats):
    """The times of single calls after a warm-up: `repeats` of them, and as many as a second holds if that is more."""
    jax.block_until_ready(call())
    begin = time.perf_counter()
    while time.perf_counter() - begin < 0.5:
        jax.block_until_ready(call())
    seconds = []
    while len(seconds) < repeats or sum(seconds) < 1.0:
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return seconds


def hidden_spikes_eventsnn(net, in_spikes):
    in_spikes = jnp.asarray(in_spikes, net.dtype)
    record = jax.jit(jax.vmap(net.record))(in_spikes)
    return np.asarray(record.times[0]), np.asarray(record.neurons[0])


def hidden_spikes_eventax(net, in_spikes, hidden):
    times, neurons, buffered = jax.jit(jax.vmap(net.record))(in_spikes)
    times, neurons = np.array(times), np.array(neurons).astype(int)
    # Every event takes one entry; a used last entry means that later events are missing.
    if (np.asarray(buffered)[:, -1] >= 0).any():
        raise RuntimeError("Eventax needed more events than it may record: raise --record-events")
    times[neurons >= hidden] = np.inf
    return times, neurons


def output_spikes(net, in_spikes):
    """The first spikes of the outputs, shape `(batch, out)`."""
    in_spikes = jnp.asarray(in_spikes, net.dtype)
    return np.asarray(eqx.filter_jit(lambda net, x: jax.vmap(net.ttfs)(x))(net, in_spikes))


def do_recurrent(job, arrays):
    """A job on a recurrent work."""
    if job["program"] == "reference":
        jax.config.update("jax_enable_x64", True)
        net, _ = build_recurrent_eventsnn(job, arrays, jnp.float64, rtol=1e-10, atol=1e-12, max_steps=100_000)
        return {"first": output_spikes(net, arrays["in_spikes"])}
    if job["program"] == "eventsnn":
        from eventsnn import over_devices

        jax.config.update("jax_num_cpu_devices", job["devices"])
        (net, wanted), spread = build_recurrent_eventsnn(job, arrays), {"spread": over_devices}
    else:
        (net, wanted), spread = build_recurrent_eventax(job, arrays), {}
    out = time_steps(net, wanted, arrays, job["t_end"], job["repeats"], **spread)
    return out | {"first": output_spikes(net, arrays["in_spikes"])}


def main(job_path, work_path, result_path):
    """Do the job and write what came out."""
    job, arrays = json.loads(open(job_path).read()), dict(np.load(work_path))
    if "targets" in arrays:
        np.savez(result_path, **do_recurrent(job, arrays))
        return
    some = arrays["in_spikes"][: job["samples"]]
    out = {}
    if job["program"] == "reference":
        jax.config.update("jax_enable_x64", True)
        net, _ = build_eventsnn(job, arrays, jnp.float64, engine="numerical", rtol=1e-10, atol=1e-12, max_steps=100_000)
        out["times"], out["neurons"] = hidden_spikes_eventsnn(net, some)
    elif job["program"] == "eventsnn":
        from eventsnn import over_devices

        jax.config.update("jax_num_cpu_devices", job["devices"])
        net, wanted = build_eventsnn(job, arrays)
        out = time_steps(net, wanted, arrays, job["t_end"], job["repeats"], over_devices)
        if job["samples"]:
            out["times"], out["neurons"] = hidden_spikes_eventsnn(net, some)
    else:
        net, wanted = build_eventax(job, arrays)
        out = time_steps(net, wanted, arrays, job["t_end"], job["repeats"])
        if job["samples"]:
            net, _ = build_eventax(job, arrays, job["record_events"])
            out["times"], out["neurons"] = hidden_spikes_eventax(net, jnp.asarray(some), job["work"]["layers"][0])
    device = jax.devices()[0]
    out["device"] = f"{device.platform} {device.device_kind}"
    np.savez(result_path, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
