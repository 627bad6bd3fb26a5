"""Where a sum of exponentials first reaches a threshold, with certainty.

Let f(t) be the spike condition along a state that is a sum of exponentials with the rates r1 ... rn and a constant. Its
derivative f1 has no constant any more, f2 = f1' + r1 f1 has no exponential with r1, and so on: the last, fn, is one
exponential, whose sign never changes. Because exp(r t) g(t) rises where g' + r g is positive and falls where it is
negative, there is at most one zero of each function between two zeros of the next. So all zeros are found from the
last function to the first, each by a change of sign, and none is overlooked.
"""

import abc
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..materialise import materialised
from .base import AbstractFlow
from .cubic import root_of_cubic
from .growth import relative_growth, relative_log

# Newton's method doubles the digits. Where it cannot, the bracket is halved.
_MAX_ROUNDS = 100


class AbstractExponentialFlow(AbstractFlow):
    """A flow that is linear, with rates that are real and known; the crossing follows.

    Besides `after` it says what the dynamics and the spike condition are, and with which rates states decay.
    """

    @abc.abstractmethod
    def velocity(self, y: Float[Array, "neurons channels"]) -> Float[Array, "neurons channels"]:
        """The free dynamics `dy/dt`, per ms; a linear function of `y` and a constant."""

    @abc.abstractmethod
    def height(self, y: Float[Array, "neurons channels"]) -> Float[Array, " neurons"]:
        """The spike condition; a linear function of `y` and a constant."""

    @abc.abstractmethod
    def rates(self) -> tuple[Float[Array, "*neurons"], ...]:
        """The rates of all exponentials in the state, per ms, in any order: 1 over the time constants."""

    def first_crossing(
        self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"], resolution: Float[Array, " neurons"]
    ) -> Float[Array, " neurons"]:
        known = jnp.any(dt >= 0)
        rates = materialised(known, lambda dt: [jnp.broadcast_to(rate, dt.shape) for rate in self.rates()], dt)

        def at(s: Float[Array, "times neurons"]) -> Float[Array, "functions times neurons"]:
            later = materialised(known, jax.vmap(lambda s: self.after(y, s)), s)
            return jax.vmap(lambda y: self._chain(rates, y), out_axes=1)(later)

        start, end = self._chain(rates, y)[:, None], at(dt[None])
        zeros = jnp.zeros((0, *dt.shape), dt.dtype)
        if len(rates) > 1:
            zeros = jnp.clip(_zero_of_last(rates, start), 0, dt)
        # How exact these are hardly matters: f is flat there.
        coarse = 0.1 * jnp.finfo(dt.dtype).eps ** 0.25 * dt
        for level in reversed(range(1, len(rates) - 1)):
            places, values = _around(zeros, dt), jnp.concatenate([start, at(zeros), end], axis=1)
            rate = rates[level - 1]

            def look(s, level=level, rate=rate):
                f = at(s)
                return f[level], f[level + 1] - rate * f[level]

            slopes = values[level + 1] - rate * values[level]
            changes = values[level, :-1] * values[level, 1:] < 0
            found = _zero_between(look, places, values[level], slopes, changes, coarse, jnp.zeros_like(dt))
            zeros = jnp.where(changes, found, places[:-1])
        places, values = _around(zeros, dt), jnp.concatenate([start, at(zeros), end], axis=1)
        # From one of these places to the next f rises or falls.
        above = values[0, 1:] >= 0
        first = above & (jnp.cumsum(above, axis=0) == 1)

        def ends(rows: Float[Array, "places neurons"]) -> Float[Array, "2 neurons"]:
            return jnp.stack([jnp.sum(jnp.where(first, rows[k : k + first.shape[0]], 0), axis=0) for k in (0, 1)])

        crosses = jnp.any(above, axis=0)
        places, heights, slopes = ends(places), ends(values[0]), ends(values[1])
        s = _zero_between(
            lambda s: tuple(at(s)[:2]), places, heights, slopes, crosses[None], resolution, self._rounding(y)
        )
        return jnp.where(crosses, s[0], jnp.inf)

    def may_cross(self, y, y_end, dt) -> Bool[Array, " neurons"]:
        rates = [jnp.broadcast_to(rate, dt.shape) for rate in self.rates()]
        start, end = self._chain(rates, y), self._chain(rates, y_end)
        # As many zeros at most as signs change less often along the functions at the end than at the start: a theorem
        # of Budan and Fourier, in the form that it has for such functions. The last one keeps its sign, and of those
        # that rounding has made of nothing at the end any sign is possible.
        noise = 16 * jnp.finfo(dt.dtype).eps * self._sizes(rates, jnp.abs(y) + jnp.abs(y_end))
        end = jnp.concatenate([end[:-1], start[-1:]])
        unsure = (jnp.abs(end) <= noise).at[-1].set(False)
        zeros = _sign_changes(start, jnp.zeros_like(unsure)) - _sign_changes(end, unsure)
        # And f gains no more than the largest values of the others, one after the other, let it.
        bound = start[-1]
        for k in reversed(range(1, len(rates))):
            rate, behind = rates[k - 1], rates[k]
            bound = start[k] + jnp.maximum(bound, 0) * dt * relative_growth((rate - behind) * dt)
        top = start[0] + jnp.maximum(bound, 0) * dt * relative_growth(-rates[0] * dt)
        return (end[0] + noise[0] >= 0) | ((zeros > 1) & ~(top + noise[0] < 0))

    def _chain(self, rates, y) -> Float[Array, "functions neurons"]:
        """The spike condition, and all functions behind it."""
        height, velocity = self.height(y), self.velocity(y)
        functions = [height]
        for number in range(len(rates)):
            _, by = jax.jvp(self.height, (y,), (velocity,))
            functions.append(by)
            if number < len(rates) - 1:
                _, moved = jax.jvp(self.velocity, (y,), (velocity,))
                velocity = moved + rates[number][:, None] * velocity
        return jnp.stack(functions)

    def _rounding(self, y: Float[Array, "neurons channels"]) -> Float[Array, " neurons"]:
        """By how much rounding may move the spike condition."""
        base, slopes = self._height_parts(y)
        return 2 * jnp.finfo(y.dtype).eps * (jnp.abs(base) + jnp.sum(jnp.abs(slopes * y), axis=1))

    def _sizes(self, rates, size: Float[Array, "neurons channels"]) -> Float[Array, "functions neurons"]:
        """How large the terms are that f and the functions behind it are sums of, where channels have that `size`."""
        zero = jnp.zeros_like(size)
        base, slopes = self._height_parts(size)
        columns = []
        for channel in range(size.shape[1]):
            _, column = jax.jvp(self.velocity, (zero,), (zero.at[:, channel].set(1),))
            columns.append(jnp.abs(column))

        def moved(size):
            return sum(column * size[:, channel, None] for channel, column in enumerate(columns))

        def seen(size):
            return jnp.sum(jnp.abs(slopes) * size, axis=1)

        sizes = [jnp.abs(base) + seen(size)]
        size = moved(size) + jnp.abs(self.velocity(zero))
        for rate in rates:
            sizes.append(seen(size))
            size = moved(size) + rate[:, None] * size
        return jnp.stack(sizes)

    def _height_parts(self, y: Float[Array, "neurons channels"]) -> tuple[Array, Array]:
        """The spike condition of a state of zeros, and its derivatives by the channels."""
        base, pull = jax.vjp(self.height, jnp.zeros_like(y))
        return base, pull(jnp.ones_like(base))[0]


def _sign_changes(
    functions: Float[Array, "functions neurons"], unsure: Bool[Array, "functions neurons"]
) -> Int[Array, " neurons"]:
    """How often the sign changes from one function to the next, without those that are `unsure`."""
    negative = functions[0] < 0
    count = jnp.zeros(negative.shape, jnp.int32)
    for f, skip in zip(functions[1:], unsure[1:], strict=True):
        other = ~skip & ((f < 0) != negative)
        count, negative = count + other.astype(jnp.int32), negative != other
    return count


def _around(zeros: Float[Array, "zeros neurons"], dt: Float[Array, " neurons"]) -> Float[Array, "places neurons"]:
    return jnp.concatenate([jnp.zeros_like(dt)[None], zeros, dt[None]])


def _zero_of_last(rates: list[Array], start: Float[Array, "functions 1 neurons"]) -> Float[Array, "1 neurons"]:
    """Where the last function but one is 0, if it is; the last one is a single exponential."""
    value, last = start[-2], start[-1]
    x = -value / jnp.where(last == 0, 1, last)
    z = (rates[-2] - rates[-1]) * x
    exists = (last != 0) & (x > 0) & (z > -1)
    return jnp.where(exists, x * relative_log(jnp.where(exists, z, 0)), 0)


def _zero_between(
    look: Callable[[Array], tuple[Array, Array]],
    places: Float[Array, "places neurons"],
    values: Float[Array, "places neurons"],
    slopes: Float[Array, "places neurons"],
    changes: Bool[Array, "intervals neurons"],
    tolerance: Float[Array, " neurons"],
    rounding: Float[Array, " neurons"],
) -> Float[Array, "intervals neurons"]:
    """The zero of a monotone function between one place and the next, where its sign `changes`.

    `look` gives the function and its slope. It is good enough within `tolerance`, or where the function is not more
    than `rounding`.
    """
    low, high = places[:-1], places[1:]
    sign, length = jnp.where(values[1:] > 0, 1, -1).astype(low.dtype), high - low
    x = low + length * root_of_cubic(
        -sign * values[:-1], sign * values[1:], sign * slopes[:-1] * length, sign * slopes[1:] * length
    )

    def searching(carry):
        return jnp.any(carry[0]) & (carry[-1] < _MAX_ROUNDS)

    def turn(carry):
        active, low, high, x, rounds = carry
        f, slope = look(x)
        f, slope = sign * f, sign * slope
        low, high = jnp.where(f < 0, x, low), jnp.where(f < 0, high, x)
        step = -f / jnp.where(slope > 0, slope, 1)
        inside = (slope > 0) & (x + step > low) & (x + step < high)
        found = (inside & (jnp.abs(step) <= tolerance)) | (jnp.abs(f) <= rounding) | (high - low <= tolerance)
        new = jnp.where(inside, x + step, jnp.where(found, x, 0.5 * (low + high)))
        return active & ~found, low, high, jnp.where(active, new, x), rounds + 1

    return jax.lax.while_loop(searching, turn, (changes, low, high, x, jnp.int32(0)))[3]
