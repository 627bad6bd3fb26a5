"""Where a sum of exponentials first reaches a threshold, with certainty.

Let f(t) be the spike condition along a state that is a sum of exponentials with the rates r1 ... rn and a constant. Its
derivative f1 has no constant any more, f2 = f1' + r1 f1 has no exponential with r1, and so on: the last, fn, is one
exponential, whose sign never changes. Because exp(r t) g(t) rises where g' + r g is positive and falls where it is
negative, there is at most one zero of each function between two zeros of the next. So all zeros are found from the
last function to the first, each by a change of sign, and none is overlooked.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..materialise import materialised
from .base import AbstractFlow
from .cubic import root_of_cubic
from .growth import relative_growth, relative_log
from .systems import SystemRules, system_of

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

    def held(self, channels: tuple[int, ...]) -> "AbstractExponentialFlow | None":
        return None

    def jumps_are_linear(self) -> bool:
        """Whether arrivals and resets of the model are linear too, as a native kernel needs; by default, no.

        Linear means that an arrival adds the same to the state for each unit of its weight, whatever the state is, and
        that a reset is a linear function of the state and a constant.
        """
        return False

    def system(self, model: Any, n_neurons: int) -> SystemRules | None:
        return system_of(model, n_neurons) if self.jumps_are_linear() else None

    def first_crossing(
        self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"], resolution: Float[Array, " neurons"]
    ) -> Float[Array, " neurons"]:
        known = jnp.any(dt >= 0)
        rates = materialised(known, lambda dt: [jnp.broadcast_to(rate, dt.shape) for rate in self.rates()], dt)
        start, count, zero = self._chain(rates, y)[:, None], len(rates), jnp.zeros_like(dt)
        # The derivative of each function is the next one less so much of itself.
        shifts = jnp.stack([zero, *rates[:-1], zero])[:, None]
        # How exact zeros behind f are hardly matters: the function before is flat there.
        eps = jnp.finfo(dt.dtype).eps
        coarse, rounding = 0.1 * eps**0.25 * dt[None], self._rounding(y)[None]
        # What has decayed to less than this has any sign.
        noise = 16 * eps * self._sizes(rates, y)[:, None]

        def at(s: Float[Array, "times neurons"]) -> Float[Array, "functions times neurons"]:
            later = materialised(known, jax.vmap(lambda s: self.after(y, s)), s)
            return jax.vmap(lambda y: self._chain(rates, y), out_axes=1)(later)

        def turn(search: _Search) -> _Search:
            values = jnp.concatenate([start, at(search.x)], axis=1)
            # All functions behind f in one loop, because compiling `at` takes long.
            busy = jnp.any(search.active)
            sought = jnp.where(busy, search.level, search.level - 1)
            f, behind = (jax.lax.dynamic_index_in_dim(values, sought + k, keepdims=False) for k in (0, 1))
            slope = behind - jax.lax.dynamic_index_in_dim(shifts, sought, keepdims=False) * f
            unclear = jax.lax.dynamic_index_in_dim(noise, sought, keepdims=False)
            refined = search.refine(f[1:], slope[1:], jnp.zeros_like(slope[1:]), unclear, coarse, coarse, zero[None])
            begun = search.begin(sought, jnp.concatenate([zero[None], search.x]), f, slope, unclear)
            return jax.tree.map(lambda a, b: jnp.where(busy, a, b), refined, begun)

        def last_turn(search: _Search) -> _Search:
            f, slope, *behind = at(search.x)
            bend = (behind[0] if behind else zero[None]) - shifts[1] * slope
            return search.refine(f, slope, bend, jnp.zeros_like(f), resolution[None] * search.x, coarse, rounding)

        # The last but one has a zero that is known; between it and the end the others are looked for.
        last = jnp.clip(_zero_of_last(rates, start[:, 0]), 0, dt) if count > 1 else dt
        places = jnp.stack([last, *[dt] * (count - 1)])
        none = jnp.zeros(places.shape, bool)
        level = jnp.int32(max(count - 1, 1))
        search = _Search(level, places, places, places, jnp.ones_like(places), none, jnp.int32(0))
        search = jax.lax.while_loop(lambda s: (s.level > 0) & (s.rounds < _MAX_ROUNDS * count), turn, search)
        # Of f itself the first crossing alone is wanted.
        low, high, x, sign, active = (x[:1] for x in (search.low, search.high, search.x, search.sign, search.active))
        search = _Search(search.level, low, high, x, sign, active, jnp.int32(0))
        search = jax.lax.while_loop(lambda s: jnp.any(s.active) & (s.rounds < _MAX_ROUNDS), last_turn, search)
        return jnp.where(search.sign[0] > 0, search.x[0], jnp.inf)

    def may_cross(self, y, y_end, dt) -> Bool[Array, " neurons"]:
        rates = [jnp.broadcast_to(rate, dt.shape) for rate in self.rates()]
        functions, height = self._chain(rates, y), self.height(y_end)
        rounding = 8 * self._rounding(y)
        # Between which numbers every function stays, times its exponential: the one behind it drives it.
        lower = upper = upper_behind = functions[-1]
        for k in reversed(range(1, len(rates))):
            gain = dt * relative_growth((rates[k - 1] - rates[k]) * dt)
            upper_behind = upper
            lower = functions[k] + jnp.minimum(lower, 0) * gain
            upper = functions[k] + jnp.maximum(upper, 0) * gain
        top = functions[0] + jnp.maximum(upper, 0) * dt * relative_growth(-rates[0] * dt)
        rises = lower >= 0
        if len(rates) > 1:
            # If the slope times its exponential falls all the way, it is enough that there is some left at the end.
            slope, noise = self._slope(y_end)
            rises = rises | ((upper_behind <= 0) & (slope > noise))
            if len(rates) <= 3:
                # It may rise first.
                rises = rises | ((functions[1] >= 0) & (functions[2] >= 0) & (slope > noise))
        return (height + rounding >= 0) | ~(rises | (top + rounding < 0))

    def _slope(self, y) -> tuple[Float[Array, " neurons"], Float[Array, " neurons"]]:
        """How fast the spike condition changes, and what rounding may make of it."""

        def slope(y):
            return jax.jvp(self.height, (y,), (self.velocity(y),))[1]

        base, pull = jax.vjp(slope, jnp.zeros_like(y))
        (by,) = pull(jnp.ones_like(base))
        return slope(y), 64 * jnp.finfo(y.dtype).eps * (jnp.abs(base) + jnp.sum(jnp.abs(by * y), axis=1))

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

    def _sizes(self, rates, y: Float[Array, "neurons channels"]) -> Float[Array, "functions neurons"]:
        """How large the terms are that the functions are sums of."""
        zero = jnp.zeros_like(y)
        base, pull = jax.vjp(self.height, zero)
        slopes = jnp.abs(pull(jnp.ones_like(base))[0])
        units = [zero.at[:, channel].set(1) for channel in range(y.shape[1])]
        columns = [jnp.abs(jax.jvp(self.velocity, (zero,), (unit,))[1]) for unit in units]

        def moved(size):
            return sum((column * size[:, k, None] for k, column in enumerate(columns)), zero)

        sizes, size = [jnp.abs(base) + jnp.sum(slopes * jnp.abs(y), axis=1)], jnp.abs(y)
        size = moved(size) + jnp.abs(self.velocity(zero))
        for rate in rates:
            sizes.append(jnp.sum(slopes * size, axis=1))
            size = moved(size) + rate[:, None] * size
        return jnp.stack(sizes)

    def _rounding(self, y: Float[Array, "neurons channels"]) -> Float[Array, " neurons"]:
        """By how much rounding may move the spike condition."""
        base, pull = jax.vjp(self.height, jnp.zeros_like(y))
        (slopes,) = pull(jnp.ones_like(base))
        return 2 * jnp.finfo(y.dtype).eps * (jnp.abs(base) + jnp.sum(jnp.abs(slopes * y), axis=1))


def _zero_of_last(rates: list[Array], start: Float[Array, "functions neurons"]) -> Float[Array, " neurons"]:
    """Where the last function but one is 0, if it is; the last one is a single exponential."""
    value, last = start[-2], start[-1]
    x = -value / jnp.where(last == 0, 1, last)
    z = (rates[-2] - rates[-1]) * x
    exists = (last != 0) & (x > 0) & (z > -1)
    return jnp.where(exists, x * relative_log(jnp.where(exists, z, 0)), 0)


class _Search(eqx.Module):
    """The search for the zeros of function number `level`, one in each of some intervals in which it has one at most.

    - `low`, `high`: around each zero, and `x` the place to look at next, or the zero if it is no longer `active`.
    - `sign`: 1 if the function rises there, -1 if it falls; for f itself 0 if it is not reached.
    """

    level: Int[Array, ""]
    low: Float[Array, "intervals neurons"]
    high: Float[Array, "intervals neurons"]
    x: Float[Array, "intervals neurons"]
    sign: Float[Array, "intervals neurons"]
    active: Bool[Array, "intervals neurons"]
    rounds: Int[Array, ""]

    def refine(
        self, f: Array, slope: Array, bend: Array, unclear: Array, tolerance: Array, coarse: Array, rounding: Array
    ) -> "_Search":
        """After a look at `x`: a step of Newton's method, or half the interval.

        Good enough is a step within `coarse` that `bend`, the second derivative, makes wrong by `tolerance` at most, or
        where the function is not more than `rounding`. What is `unclear` counts as behind the zero.
        """
        f, slope, x = self.sign * f, self.sign * slope, self.x
        before, clear = f < -unclear, jnp.abs(f) >= unclear
        low, high = jnp.where(before, x, self.low), jnp.where(before, self.high, x)
        safe = jnp.where(slope > 0, slope, 1)
        step = -f / safe
        left = jnp.where(bend == 0, jnp.abs(step), jnp.abs(bend * step * step / safe))
        inside = clear & (slope > 0) & (x + step > low) & (x + step < high)
        found = (
            (inside & (left <= tolerance) & (jnp.abs(step) <= coarse))
            | (jnp.abs(f) <= rounding)
            | (high - low <= tolerance)
        )
        new = jnp.where(inside, x + step, jnp.where(found, x, 0.5 * (low + high)))
        new = jnp.where(self.active, new, x)
        return _Search(self.level, low, high, new, self.sign, self.active & ~found, self.rounds + 1)

    def begin(self, level: Array, places: Array, f: Array, slope: Array, unclear: Array) -> "_Search":
        """The search for function `level`, which is `f` at the zeros of the one behind and at both ends.

        Where it is `unclear` it may have changed its sign before it decayed.

        Of the last, the spike condition, only the first crossing is wanted: it takes the first interval.
        """
        above = f[1:] >= 0
        first = above & (jnp.cumsum(above, axis=0, dtype=jnp.int32) == 1)
        of_first = jnp.zeros(above.shape, bool).at[0].set(jnp.any(above, axis=0))

        def ends(rows: Array) -> tuple[Array, Array]:
            parts = []
            for side in (rows[:-1], rows[1:]):
                moved = jnp.where(of_first, jnp.sum(jnp.where(first, side, 0), axis=0), side)
                parts.append(jnp.where(level == 0, moved, side))
            return parts[0], parts[1]

        (low, high), (f0, f1), (slope0, slope1) = ends(places), ends(f), ends(slope)
        changes = (jnp.abs(f0) > unclear) & ((f0 * f1 < 0) | (jnp.abs(f1) <= unclear)) & (high > low)
        active = jnp.where(level == 0, of_first, changes)
        sign, length = jnp.where(f0 < 0, 1, -1).astype(low.dtype), high - low
        over = jnp.maximum(sign * f1, 0)
        guess = low + length * root_of_cubic(-sign * f0, over, sign * slope0 * length, sign * slope1 * length)
        sign = jnp.where(level == 0, of_first.astype(low.dtype), sign)
        return _Search(level, low, high, jnp.where(active, guess, low), sign, active, self.rounds + 1)
