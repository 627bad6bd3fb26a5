"""A batch split over devices: the cores of a CPU, or several GPUs."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from .engine.failure import DEVICES


def over_devices(function: Callable, *, shared: int = 1, mean: bool = True) -> Callable:
    """Work through a batch on all devices at the same time, a part of it on each.

    XLA works through the events of a network on one core of a CPU. To use the others, let JAX take
    them as devices, before anything is computed:

        jax.config.update("jax_num_cpu_devices", 2)
        loss_and_gradient = eventsnn.over_devices(jax.value_and_grad(loss))  # loss(network, in_spikes, labels)

    The result may be used under `jax.jit`, which is where the gain is, but not under `jax.vmap`. With one device it
    does what `function` does. The largest number of devices that divides the batch is used. On several devices the
    neurons of an `EvNN` with a matrix of weights are always on one clock. One with `synapses` runs in windows, which
    can be simulated there but not differentiated.

    **Arguments:**

    - `function`: takes arguments that are pytrees. Those after the first `shared` are a batch: all
        of their arrays have the same first axis, and each device gets a part of it. Other leaves,
        and all of the first `shared` arguments, are the same on every device.
    - `shared`: how many arguments are not split.
    - `mean`: whether `function` gives means over its batch, such as a loss and its gradient; then
        the result is the mean over devices. Otherwise every array of its result has the batch as its first axis, and
        the parts are put together again.

    **Returns:** a function of the same arguments.

    **Raises:** `ValueError` if the arrays of the batch do not have the same first axis.
    """

    def spread(*arguments: Any) -> Any:
        common, batch = arguments[:shared], arguments[shared:]
        n_devices = _dividing(_batch_size(batch))
        if n_devices == 1:
            return function(*arguments)
        arrays, rest = eqx.partition((common, batch), _is_array)
        fixed: list[PyTree] = []

        def on_one(common, batch):
            common, batch = eqx.combine((common, batch), rest)
            out, other = eqx.partition(function(*common, *batch), eqx.is_array)
            fixed.append(other)
            return jax.lax.pmean(out, DEVICES) if mean else out

        split = PartitionSpec(DEVICES)
        mesh = Mesh(np.array(jax.devices()[:n_devices]), (DEVICES,))
        whole = PartitionSpec()
        on_all = jax.shard_map(
            on_one, mesh=mesh, in_specs=(whole, split), out_specs=whole if mean else split, check_vma=False
        )
        return eqx.combine(on_all(*arrays), fixed[0])

    return spread


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray))


def _batch_size(batch: tuple[Any, ...]) -> int:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(batch) if _is_array(leaf)]
    sizes = {shape[0] for shape in shapes if shape}
    if len(sizes) != 1 or () in shapes:
        raise ValueError(
            f"the batch has arrays of shapes {', '.join(map(str, shapes)) or 'none'}, expected the same first axis for "
            "all: pass what is not a batch first, and count it in shared"
        )
    return sizes.pop()


def _dividing(batch: int) -> int:
    n_devices = min(len(jax.devices()), max(batch, 1))
    while batch % n_devices:
        n_devices -= 1
    return n_devices
