"""Long recordings with many inputs, as of spoken digits: training steps of eventsnn and of a clock-driven scan.

    python tests/benchmarks/long_inputs.py

700 inputs with 12 spikes each in 1 s, 256 LIF neurons (tau_mem 20 ms, tau_syn 5 ms) that all reach each other or are a
layer, and 20 leaky readouts; a step is the cross-entropy of the mean potentials of the readouts, and its gradient. The
clock-driven program is a `jax.lax.scan` over steps of 1 ms with a surrogate gradient, on the same spikes in bins. Every
program runs in a process of its own; times are medians of five after a warm-up.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

T_END, INPUTS, SPIKES, HIDDEN, READOUTS, TMEM, TSYN = 1000.0, 700, 12, 256, 20, 20.0, 5.0
PROGRAMS = {
    "eventsnn, no delay": ["events", "--delay", "0"],
    "eventsnn, 1 ms": ["events", "--delay", "1"],
    "eventsnn, no recurrence": ["layers"],
    "clock-driven scan at 1 ms": ["scan"],
    "clock-driven scan at 1 ms, no recurrence": ["scan", "--layers"],
}


def data(batch):
    """Input times, labels, and weights from inputs, among neurons, and to the readouts."""
    rng = np.random.default_rng(0)
    times = rng.uniform(0, T_END, (batch, INPUTS, SPIKES)).astype(np.float32)
    labels = rng.integers(0, READOUTS, batch)
    from_inputs = rng.uniform(0, 0.06, (INPUTS, HIDDEN)).astype(np.float32)
    among = rng.normal(0, 0.01, (HIDDEN, HIDDEN)).astype(np.float32)
    out = rng.normal(0, 0.3, (HIDDEN, READOUTS)).astype(np.float32)
    return times, labels, from_inputs, among, out


def events(batch, delay, engine, layers=False):
    """A step, its arguments, and how many spikes each neuron emits."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from eventsnn import LIF, EvNN, FFEvNN, LeakyIntegrator, Mixed

    times, labels, from_inputs, among, out = data(batch)
    common = {"tmem": TMEM, "tsyn": TSYN, "engine": engine, "max_event_steps": 20_000, "throw": False}
    key = jax.random.PRNGKey(0)
    if layers:
        weights = [jnp.asarray(from_inputs), jnp.asarray(out)]
        net = FFEvNN([HIDDEN, READOUTS], INPUTS, [LIF, LeakyIntegrator], T_END, key, init_weights=weights, **common)
    else:
        size = HIDDEN + READOUTS
        weights, mask = np.zeros((size + INPUTS, size), np.float32), np.zeros((size + INPUTS, size), bool)
        for rows, columns, block in (
            (slice(size, None), slice(0, HIDDEN), from_inputs),
            (slice(0, HIDDEN), slice(0, HIDDEN), among),
            (slice(0, HIDDEN), slice(HIDDEN, None), out),
        ):
            weights[rows, columns], mask[rows, columns] = block, True
        model = Mixed((LIF, HIDDEN), (LeakyIntegrator, READOUTS))
        delays = {"init_delays": delay} if delay else {}
        net = EvNN(model, size, INPUTS, T_END, key, init_weights=weights, wmask=mask, **delays, **common)

    def loss(net, x, labels):
        when = jnp.linspace(0, T_END, 50)
        logits = jax.vmap(lambda x: net.state_at_t(x, when)[-READOUTS:, :, 0].mean(axis=1))(x)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))

    counts = eqx.filter_jit(lambda x: net.record(x).neurons[0])(times[0])
    spikes = int(np.sum((np.asarray(counts) >= 0) & (np.asarray(counts) < HIDDEN))) / HIDDEN
    return eqx.filter_jit(eqx.filter_value_and_grad(loss)), (net, jnp.asarray(times), jnp.asarray(labels)), spikes


def scan(batch, layers):
    """The same by a clock."""
    import jax
    import jax.numpy as jnp

    times, labels, from_inputs, among, out = data(batch)
    steps = int(T_END)
    binned = np.zeros((steps, batch, INPUTS), np.float32)
    sample, channel, _ = np.indices(times.shape)
    np.add.at(binned, (times.astype(int), sample, channel), 1)
    keep, fade = np.exp(-1 / TMEM).astype(np.float32), np.exp(-1 / TSYN).astype(np.float32)

    @jax.custom_vjp
    def spike(v):
        return (v > 0).astype(v.dtype)

    spike.defvjp(lambda v: (spike(v), v), lambda v, ct: (ct / (1 + 10 * jnp.abs(v)) ** 2,))

    def loss(weights, x, labels):
        from_inputs, among, out = weights
        zeros = jnp.zeros((x.shape[1], HIDDEN)), jnp.zeros((x.shape[1], READOUTS))

        def step(state, inputs):
            v, i, s, u, j = state
            i = fade * i + inputs + (0 if layers else s @ among)
            v = keep * v * (1 - s) + (1 - keep) * i
            s = spike(v - 1)
            j = fade * j + s @ out
            u = keep * u + (1 - keep) * j
            return (v, i, s, u, j), u

        start = (zeros[0], zeros[0], zeros[0], zeros[1], zeros[1])
        # One product for all steps is faster than one in each.
        _, u = jax.lax.scan(step, start, x @ from_inputs)
        logits = u.mean(axis=0)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))

    weights = tuple(map(jnp.asarray, (from_inputs, among, out)))
    return jax.jit(jax.value_and_grad(loss)), (weights, jnp.asarray(binned), jnp.asarray(labels)), float("nan")


def measure(options):
    """Compile, warm up, time."""
    import jax

    begin = time.perf_counter()
    if options.program == "scan":
        step, arguments, spikes = scan(options.batch, options.layers)
    else:
        step, arguments, spikes = events(options.batch, options.delay, options.engine, options.program == "layers")
    built = time.perf_counter()
    jax.block_until_ready(step(*arguments))
    compiled = time.perf_counter()
    each = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(step(*arguments))
        each.append(time.perf_counter() - start)
    median = float(np.median(each))
    print(
        json.dumps(
            {
                "step": median,
                "samples_per_s": options.batch / median,
                "first_step": compiled - built,
                "building": built - begin,
                "spikes": spikes,
                "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", choices=["events", "layers", "scan"], help="run this one here")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--delay", type=float, default=0.0, help="of all synapses, in ms")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--layers", action="store_true", help="for scan: without recurrence")
    options = parser.parse_args()
    if options.program:
        measure(options)
        return
    for name, arguments in PROGRAMS.items():
        command = [sys.executable, __file__, *arguments, "--batch", str(options.batch), "--engine", options.engine]
        out = subprocess.run(command, capture_output=True, text=True)
        if out.returncode:
            print(name, "failed:", out.stderr.strip().splitlines()[-1:])
            continue
        told = json.loads(out.stdout.splitlines()[-1])
        print(
            f"{name:42} {told['samples_per_s']:7.1f} samples/s, step {told['step'] * 1e3:7.1f} ms, "
            f"first step {told['first_step']:5.1f} s, {told['spikes']:5.1f} spikes per neuron, "
            f"peak {told['peak_gb']:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
