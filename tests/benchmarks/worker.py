"""Times one training step of one program, and writes down the spikes of its hidden layer.

`bench_yin_yang.py` starts it with the interpreter of that program:
`worker.py PROGRAM SETTING.json WORK.npz RESULT.npz`.
"""

import json
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

T_END, TMEM, TSYN = 30.0, 20.0, 5.0


def build_eventsnn(setting, work, dtype, max_event_steps, **tolerances):
    """The network with the weights and biases of the work, and what to train of it."""
    from eventsnn import QIF, FFEvNN, trainable

    net = FFEvNN(
        layers=[setting["hidden"], 3],
        in_size=5,
        neuron_model=QIF,
        max_solver_time=T_END,
        key=jax.random.PRNGKey(0),
        max_event_steps=max_event_steps,
        dtype=dtype,
        tmem=TMEM,
        tsyn=TSYN,
        init_weights=[work["weights0"], work["weights1"]],
        init_bias=[work["bias0"], work["bias1"]],
        **tolerances,
    )
    return net, trainable(net)


def build_eventax(setting, work, dtype, max_event_steps):
    """The same network in Eventax, which keeps all weights in one matrix: hidden, output and input rows."""
    from eventax.evnn import FFEvNN
    from eventax.neuron_models import QIF

    hidden = setting["hidden"]
    n_neurons = hidden + 3
    weights = np.zeros((n_neurons + 5, n_neurons), dtype)
    weights[n_neurons:, :hidden] = work["weights0"]
    weights[:hidden, hidden:] = work["weights1"]
    net = FFEvNN(
        layers=[hidden, 3],
        in_size=5,
        neuron_model=QIF,
        max_solver_time=T_END,
        key=jax.random.PRNGKey(0),
        solver_stepsize=setting["eventax_stepsize"],
        max_event_steps=max_event_steps,
        dtype=dtype,
        tmem=TMEM,
        tsyn=TSYN,
        init_weights=jnp.asarray(weights),
        init_bias=jnp.concatenate([jnp.asarray(work["bias0"], dtype), jnp.asarray(work["bias1"], dtype)]),
    )
    return net, eqx.is_inexact_array


def time_step(net, wanted, in_spikes, labels, repeats):
    """Compile time, the times of single steps after a warm-up, and the loss of the first step."""
    weights, rest = eqx.partition(net, wanted)
    optimizer = optax.adam(0.01)

    def loss_of(weights, in_spikes, labels):
        def one(spikes, label):
            t = eqx.combine(weights, rest).ttfs(spikes)
            return -jax.nn.log_softmax(-jnp.where(jnp.isinf(t), T_END, t) / 0.5)[label]

        return jnp.mean(jax.vmap(one)(in_spikes, labels))

    def step(weights, state, in_spikes, labels):
        loss, gradient = jax.value_and_grad(loss_of)(weights, in_spikes, labels)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(weights, updates), state, loss

    state = optimizer.init(weights)
    start = time.perf_counter()
    compiled = jax.jit(step).lower(weights, state, in_spikes, labels).compile()
    compile_time = time.perf_counter() - start

    seconds, losses = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        weights, state, loss = jax.block_until_ready(compiled(weights, state, in_spikes, labels))
        seconds.append(time.perf_counter() - start)
        losses.append(float(loss))
    # The first step is the warm-up.
    return compile_time, seconds[1:], losses[0]


def hidden_spikes_eventsnn(net, in_spikes, hidden):
    record = jax.jit(jax.vmap(net.record))(in_spikes)
    return np.asarray(record.times[0]), np.asarray(record.neurons[0])


def hidden_spikes_eventax(net, in_spikes, hidden):
    times, neurons, buffered = jax.jit(jax.vmap(net.record))(in_spikes)
    times, neurons = np.array(times), np.array(neurons).astype(int)
    # Every event takes one entry; a used last entry means that later events are missing.
    if (np.asarray(buffered)[:, -1] >= 0).any():
        raise RuntimeError("Eventax needed more than --record-events events: raise it")
    times[neurons >= hidden] = np.inf
    return times, neurons


def main(program, setting, work, result):
    """Time the program, or run the reference, and write what came out."""
    setting = json.loads(open(setting).read())
    work = np.load(work)
    samples, hidden = setting["samples"], setting["hidden"]
    in_spikes, labels = jnp.asarray(work["in_spikes"], jnp.float32), jnp.asarray(work["labels"])
    out = {}
    if program == "reference":
        jax.config.update("jax_enable_x64", True)
        limit = setting["max_event_steps"]
        net, _ = build_eventsnn(setting, work, jnp.float64, limit, rtol=1e-10, atol=1e-12, max_steps=100_000)
        in_spikes = jnp.asarray(work["in_spikes"][:samples], jnp.float64)
        out["times"], out["neurons"] = hidden_spikes_eventsnn(net, in_spikes, hidden)
    else:
        build = {"eventsnn": build_eventsnn, "eventax": build_eventax}[program]
        spikes = {"eventsnn": hidden_spikes_eventsnn, "eventax": hidden_spikes_eventax}[program]
        record_limit = {"eventsnn": setting["max_event_steps"], "eventax": setting["record_events"]}[program]
        net, wanted = build(setting, work, jnp.float32, setting["max_event_steps"])
        out["compile"], out["seconds"], out["loss"] = time_step(net, wanted, in_spikes, labels, setting["repeats"])
        net, _ = build(setting, work, jnp.float32, record_limit)
        out["times"], out["neurons"] = spikes(net, in_spikes[:samples], hidden)
    device = jax.devices()[0]
    out["device"] = f"{device.platform} {device.device_kind}"
    np.savez(result, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
