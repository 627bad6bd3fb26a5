"""Both precisions in one session, strict about dtypes; `EVENTSNN_TYPECHECK=1` checks every annotated shape as well."""

import gc
import importlib.metadata
import os
import tempfile

# Nearly all of the time of the tests is compilation; what they compile runs for moments. XLA's older way to emit code,
# and not looking for what a loop computes again and again, halve it. With that way and without optimisation the
# scheduler for concurrency is at fault: it gives wrong gradients now and then, so it stays out. The examples
# of the README run with XLA's own settings. Other versions of XLA may not know these, and would not start.
FLAGS = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS += [
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_disable_hlo_passes=while-loop-invariant-code-motion",
    ]
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Tracing makes many objects that live long; Python need not look through all of them again and again.
gc.set_threshold(100_000, 50, 100)

# What is split over devices needs more than one; everything else runs on the first.
jax.config.update("jax_num_cpu_devices", 2)

# Native kernels that the tests compile do not belong among those of the user.
os.environ.setdefault("EVENTSNN_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"eventsnn-tests-native-{os.getuid()}"))

# Many tests compile the same program.
jax.config.update("jax_compilation_cache_dir", os.path.join(tempfile.gettempdir(), f"eventsnn-tests-{os.getuid()}"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(autouse=True, scope="module")
def _few_programs_in_memory():
    """Forget compiled programs after each file: hundreds of them use up the memory maps that a process may have."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _both_engines(request, monkeypatch):
    """Where a test does not say which, quick ones take native kernels and slow ones the programs of XLA.

    So what all tests ask is asked of both. Tests of parity name the engine. With `-m ""` a program that a test of the
    other kind has compiled may be taken.
    """
    if request.node.get_closest_marker("slow") is not None:
        monkeypatch.setattr("eventsnn.engine.native.choice.NATIVE_ENGINES", ["native"])


@pytest.fixture
def change_engine(monkeypatch):
    """Gives a module of the engine another number; programs traced before would not know, so all are forgotten."""

    def change(place, number):
        monkeypatch.setattr(f"eventsnn.engine.{place}", number)
        jax.clear_caches()

    yield change
    monkeypatch.undo()
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    """The notebooks first: they take longest, and at the end one worker would wait for the other."""
    items.sort(key=lambda item: "test_the_notebook_runs" not in item.nodeid)


if os.environ.get("EVENTSNN_TYPECHECK") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("eventsnn", "beartype.beartype")
