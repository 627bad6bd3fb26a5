"""The list of spikes that a layer emits."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from . import flat
from .turns import Turn


class SpikeList(eqx.Module):
    """Spikes in the order in which the loop found them, `inf` where there is none.

    - `times`, `neurons`: when, and which neuron.
    - `slopes`: how steeply each crossed the threshold, or `None` where nobody asks.
    - `count`: how many spikes there were, which may be more than fit.
    """

    times: Float[Array, "batch capacity"]
    neurons: Int[Array, "batch capacity"]
    slopes: Float[Array, "batch capacity"] | None
    count: Int[Array, " batch"]


def empty_list(batch: int, capacity: int, dtype, slopes: bool) -> SpikeList:
    """A list for `capacity` spikes of each sample, with the `slopes` if they are wanted."""
    return SpikeList(
        jnp.full((batch, capacity), jnp.inf, dtype),
        jnp.zeros((batch, capacity), jnp.int32),
        jnp.full((batch, capacity), jnp.inf, dtype) if slopes else None,
        jnp.zeros((batch,), jnp.int32),
    )


def append(
    spikes: SpikeList,
    spiked: Bool[Array, "batch neurons"],
    times: Float[Array, "batch neurons"],
    slopes: Float[Array, "batch neurons"],
) -> tuple[SpikeList, Int[Array, "batch neurons"]]:
    """Add the spikes of one iteration; those that do not fit are only counted. Also where each one went."""
    capacity = spikes.times.shape[1]
    ones = spiked.astype(jnp.int32)
    slot = spikes.count[:, None] + jnp.cumsum(ones, axis=1, dtype=jnp.int32) - ones
    slot = jnp.where(spiked, slot, capacity)
    neurons = jnp.broadcast_to(jnp.arange(spiked.shape[1], dtype=jnp.int32), spiked.shape)
    spikes = SpikeList(
        put(spikes.times, slot, times),
        put(spikes.neurons, slot, neurons),
        None if spikes.slopes is None else put(spikes.slopes, slot, slopes),
        spikes.count + jnp.sum(ones, axis=1, dtype=jnp.int32),
    )
    return spikes, slot


def append_some(
    spikes: SpikeList, turn: Turn, spiked: Bool[Array, " turn"], times: Array, slopes: Array
) -> tuple[SpikeList, Int[Array, " turn"]]:
    """As `append`, for some of the neurons. Arrays have an entry for each of these."""
    sample, ones = turn.sample, spiked.astype(jnp.int32)
    capacity = spikes.times.shape[1]
    slot = jnp.where(spiked, turn.look(spikes.count[:, None]) + turn.rank(spiked), capacity)
    spikes = SpikeList(
        put_some(spikes.times, turn, slot, times),
        put_some(spikes.neurons, turn, slot, turn.lanes - sample * turn.shape[1]),
        None if spikes.slopes is None else put_some(spikes.slopes, turn, slot, slopes),
        flat.add(spikes.count, sample, ones),
    )
    return spikes, slot


def put_some(column: Array, turn: Turn, slot: Int[Array, " turn"], values: Array) -> Array:
    """As `put`, for some of the neurons."""
    batch, capacity = column.shape
    places = jnp.where(slot < capacity, turn.sample * capacity + slot, batch * capacity)
    return flat.write(column, places, values)


def at_some(column: Array, turn: Turn, slot: Int[Array, " turn"]) -> Array:
    """As `at`, for some of the neurons."""
    capacity = column.shape[1]
    return flat.read(column, turn.sample * capacity + jnp.clip(slot, 0, capacity - 1))


def put(column: Array, slot: Int[Array, "batch neurons"], values: Array) -> Array:
    """Write into a column of a list; what has no place there is dropped."""
    batch, capacity = column.shape
    places = jnp.arange(batch, dtype=jnp.int32)[:, None] * capacity + slot
    return flat.write(column, jnp.where(slot < capacity, places, batch * capacity), values)


def at(column: Array, slot: Int[Array, "batch *any"]) -> Array:
    """The entries of a column of a list; anything for a slot that is not in it."""
    batch, capacity = column.shape
    first = jnp.arange(batch, dtype=jnp.int32).reshape(-1, *[1] * (slot.ndim - 1)) * capacity
    return flat.read(column, first + jnp.clip(slot, 0, capacity - 1))


class Sortable(eqx.Module):
    """A list of spikes and what is known of them besides.

    - `spikes`: the list.
    - `columns`: more columns of it.
    - `slots`: numbers of entries of the list, negative for none, with the batch in front.
    - `links`: columns that hold such numbers.
    """

    spikes: SpikeList
    columns: PyTree = None
    slots: PyTree = None
    links: PyTree = None


def sort(held: Sortable, finely: bool = False) -> Sortable:
    """The list by time, then by neuron, and all else so that it belongs to the same spikes as before.

    Sorting costs far more per entry than the physics, so only as much of the list is sorted as
    the fullest sample of the batch needs, rounded up: by a factor of less than 4 and to at least
    256, or, for more compilation, by a factor of less than 2 and to at least 32.
    """
    capacity = held.spikes.times.shape[1]
    needed = jnp.max(held.spikes.count, initial=0)
    todo = jnp.ones((), bool)
    sizes = (2**k for k in range(5, 29)) if finely else (4**k for k in range(4, 15))
    for size in [size for size in sizes if size < capacity] + [capacity]:
        # A loop that runs once or never sorts in place, where a conditional would copy the whole list.
        fits = (needed <= size) | (size == capacity)
        held, todo = jax.lax.while_loop(
            lambda state, fits=fits: state[1] & fits,
            lambda state, size=size: (_sort_some_rows(state[0], size), jnp.zeros((), bool)),
            (held, todo),
        )
    return held


def _sort_some_rows(held: Sortable, size: int) -> Sortable:
    """Sort the first `size` entries, for as many samples at once as fit into a cache."""
    batch = held.spikes.times.shape[0]
    rows = min(batch, max(1, 2**16 // size))
    lists, slots = (held.spikes.times, held.spikes.neurons, held.spikes.slopes, held.columns, held.links), held.slots

    def sort_rows(number, carry):
        lists, slots = carry
        first = jnp.minimum(number * rows, batch - rows)
        # The last rows may have been sorted before, which changes nothing.
        head = jax.tree.map(lambda column: jax.lax.dynamic_slice(column, (first, 0), (rows, size)), lists)
        some = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, rows), slots)
        head, some = _sort_whole(head, some)
        lists = jax.tree.map(lambda leaf, part: jax.lax.dynamic_update_slice(leaf, part, (first, 0)), lists, head)
        slots = jax.tree.map(lambda leaf, part: jax.lax.dynamic_update_slice_in_dim(leaf, part, first, 0), slots, some)
        return lists, slots

    lists, slots = jax.lax.fori_loop(0, -(-batch // rows), sort_rows, (lists, slots))
    times, neurons, slopes, columns, links = lists
    return Sortable(SpikeList(times, neurons, slopes, held.spikes.count), columns, slots, links)


def _sort_whole(lists: PyTree, slots: PyTree) -> tuple[PyTree, PyTree]:
    """Sort lists that are full or end with `inf`."""
    times, neurons, slopes, columns, links = lists
    size = times.shape[1]
    position = jax.lax.broadcasted_iota(jnp.int32, times.shape, 1)

    def swapped(order):
        return _swapped(at(times, order), at(neurons, order))

    def mend(carry):
        order, wrong, odd = carry
        # Pairs that start at even places in one turn, those that start at odd ones in the next.
        wrong = wrong & (position[:, 1:] % 2 != odd)
        forth, back = jnp.pad(wrong, ((0, 0), (0, 1))), jnp.pad(wrong, ((0, 0), (1, 0)))
        order = at(order, position + forth.astype(jnp.int32) - back.astype(jnp.int32))
        return order, swapped(order), 1 - odd

    order = _rough_order(times)
    start = (order, swapped(order), jnp.zeros((), jnp.int32))
    order = jax.lax.while_loop(lambda carry: jnp.any(carry[1]), mend, start)[0]
    place = put(jnp.zeros_like(order), order, position)

    def renamed(slots):
        return jnp.where((slots >= 0) & (slots < size), at(place, slots), slots)

    columns = (times, neurons, slopes, columns, jax.tree.map(renamed, links))
    return jax.tree.map(lambda column: at(column, order), columns), jax.tree.map(renamed, slots)


def _rough_order(times: Float[Array, "batch size"]) -> Int[Array, "batch size"]:
    """The order by time, apart from pairs that lie closer than about a millionth.

    On CPUs a sort of one array of whole numbers is ten times faster than any that carries something
    along. So the time and the position share the bits of one number.
    """
    bits = max(times.shape[1] - 1, 1).bit_length()
    finite = jnp.isfinite(times)
    longest = jnp.maximum(jnp.max(jnp.where(finite, times, 0), initial=0), jnp.finfo(times.dtype).tiny)
    last = min(2 ** (32 - bits), 2**24) - 1  # behind all times; whole numbers up to here are exact in float32
    rank = jnp.where(finite, times / longest * (last - 1), last)
    position = jax.lax.broadcasted_iota(jnp.uint32, times.shape, 1)
    key = jax.lax.sort(rank.astype(jnp.uint32) << bits | position, dimension=1)
    return (key & (2**bits - 1)).astype(jnp.int32)


def _swapped(times: Float[Array, "batch spikes"], neurons: Int[Array, "batch spikes"]) -> Bool[Array, "batch pairs"]:
    """Which neighbours stand in the wrong order."""
    same = (times[:, 1:] == times[:, :-1]) & jnp.isfinite(times[:, 1:])
    return (times[:, 1:] < times[:, :-1]) | same & (neurons[:, 1:] < neurons[:, :-1])
