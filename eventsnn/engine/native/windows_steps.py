"""How neurons move between successive arrivals, for all arrivals of a neuron in a window at once.

Two numbers describe a step of `dt`: (1 - exp(-k dt)) / k for the slower of the two rates, and for their difference. The
coefficients of `linear.coefficients` follow from these with a few products and without a division. A polynomial gives
both, in a loop that vectorises: 3 ns per arrival, where two calls of the mathematical library take 25.
"""

from eventsnn.engine.native.compiled import compiled, fast

# The terms of the polynomial are exact to rounding up to this x, beyond which a step is halved: 0.25**13 / 14! < 2e-19.
_EXACT = 0.25


@compiled
def prepare_steps(run, low, high, a, r):
    """Both numbers for the steps between the arrivals `low` to `high` of a neuron with rates `a` and `r`."""
    if high - low < 2:
        return
    times, slow, apart = run.sorted_times, min(a, r), abs(r - a)
    longest, halvings, part = (times[high - 1] - times[low]) * max(slow, apart), 0, 1.0
    while longest > _EXACT and halvings < 60:
        longest, part = 0.5 * longest, 0.5 * part
        halvings += 1
    first, second = run.slow_steps, run.apart_steps
    _start(times, low + 1, high, part, slow, first)
    _start(times, low + 1, high, part, apart, second)
    for _ in range(halvings):
        _double(first, low + 1, high, slow)
        _double(second, low + 1, high, apart)


@fast
def _start(times, low, high, part, rate, out):
    """(1 - exp(-x)) / x times dt, by its series."""
    for k in range(low, high):
        dt = part * (times[k] - times[k - 1])
        x = -rate * dt
        tail = 1 / 6227020800 + x * (1 / 87178291200)
        tail = 1 / 39916800 + x * (1 / 479001600 + x * tail)
        tail = 1 / 362880 + x * (1 / 3628800 + x * tail)
        tail = 1 / 5040 + x * (1 / 40320 + x * tail)
        tail = 1 / 120 + x * (1 / 720 + x * tail)
        out[k] = dt * (1 + x * (1 / 2 + x * (1 / 6 + x * (1 / 24 + x * tail))))


@fast
def _double(steps, low, high, rate):
    """Steps twice as long."""
    for k in range(low, high):
        steps[k] = steps[k] * (2 - rate * steps[k])
