"""Which of the many combinations of precision and way of calling run every time."""

import jax.numpy as jnp
import pytest

# One of each is enough for a quick look; the others are for the whole run.
_QUICK = {("eager", jnp.float64), ("vmap", jnp.float32)}


def pytest_collection_modifyitems(items):
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "way" in parameters and "dtype" in parameters:
            if (parameters["way"], parameters["dtype"]) not in _QUICK:
                item.add_marker(pytest.mark.slow)
