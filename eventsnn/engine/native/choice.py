"""Whether neurons run by a native kernel."""

from collections.abc import Callable
from typing import Any

import jax

from ...flows.rules import LinearRules
from ...flows.systems import SystemRules
from ...neuron_models.base import NeuronModel, native_rules, native_system
from ...neuron_models.parameter import frozen
from .run import kernels_are_there
from .systems_run import MOST_CHANNELS, systems_are_there
from .target import NativeUnavailable, notice_once

# With what `engine` neurons run by a native kernel, if there is one for them.
NATIVE_ENGINES = ["auto", "native"]


def rules_if_native(
    engine: str, model: NeuronModel, n_neurons: int, dtype: Any, kernels: Callable[[Any], None] = kernels_are_there
) -> LinearRules | SystemRules | None:
    """What the kernel has to know of the neurons, or `None` if they run by another engine.

    `kernels` compiles the kernels for a dtype: by default those on one clock, where there are some for linear systems
    as well.

    **Raises:** `ValueError` if `engine` is `"native"` and they cannot.
    """
    if engine not in NATIVE_ENGINES:
        return None
    rules: LinearRules | SystemRules | None = native_rules(frozen(model), n_neurons)
    if rules is None and kernels is kernels_are_there:
        rules, kernels = native_system(frozen(model), n_neurons), systems_are_there
        rules = rules if rules is not None and rules.channels <= MOST_CHANNELS else None
    if rules is None:
        if engine == "native":
            raise ValueError(
                f"engine is 'native', but {type(model).__name__} has no closed form for which there is a native kernel "
                "with such delays: use engine='auto'"
            )
        return None
    if not _runs_on_cpu():
        return None
    try:
        kernels(dtype)
    except NativeUnavailable as error:
        if engine == "native":
            raise ValueError(f"engine is 'native', but there are no native kernels here: {error}") from error
        notice_once(str(error))
        return None
    return rules


def _runs_on_cpu() -> bool:
    """Whether programs that are traced now are for the CPU. Lowered for another device, they run by XLA there."""
    config: Any = jax.config
    device = config.jax_default_device
    if device is None:
        return jax.default_backend() == "cpu"
    return (device if isinstance(device, str) else device.platform) == "cpu"
