"""The bridge between XLA and compiled kernels: layout of the call frame, calls, threads, the cache, Ctrl-C."""

import ast
import concurrent.futures
import ctypes
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

from eventsnn.engine.native.call import call
from eventsnn.engine.native.target import Kernel, NativeUnavailable, available, notice_once

pytestmark = pytest.mark.skipif(not available(), reason="Numba is not installed")

# JAX raises ValueError in place of JaxRuntimeError if the program has run before.
XlaError = (jax.errors.JaxRuntimeError, ValueError)

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "eventsnn"

SCALE = Kernel("demo_scale", "demo_kernel:scale")
STRICT = Kernel("demo_strict", "demo_kernel:strict")
SUMS = Kernel("demo_sums", "demo_kernel:sums")
STEPS = Kernel("demo_steps", "demo_kernel:steps")
WRONG = Kernel("demo_wrong", "demo_kernel:wrong")
EXPECTED = Kernel("demo_expected", "demo_kernel:scale")
RAISES = Kernel("demo_raises", "demo_kernel:raises")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVENTSNN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def like(x, shape=None, dtype=None):
    return jax.ShapeDtypeStruct(x.shape if shape is None else shape, dtype or x.dtype)


def scale_with_statuses(x, factor=3, shift=1):
    # In the order of names, `above` is attribute 0 and `below` attribute 1.
    return call(SCALE, (like(x), like(x, x.shape[:1], jnp.int32)), x, below=shift, above=factor)


def scale(x, factor=3, shift=1):
    return scale_with_statuses(x, factor, shift)[0]


def table(rows, columns=3, dtype=jnp.float64):
    return jnp.arange(rows * columns, dtype=dtype).reshape(rows, columns)


# --- The call frame ------------------------------------------------------------------------------------------------


def test_offsets_are_those_of_the_installed_header():
    import c_header

    from eventsnn.engine.native import frame, pool

    text = (Path(jaxlib.__file__).parent / "include/xla/ffi/api/c_api.h").read_text()
    at, values = c_header.structures(text), c_header.enumerators(text)
    call_frame, api = at["XLA_FFI_CallFrame"], at["XLA_FFI_Api"]
    arguments, results, attributes = at["XLA_FFI_Args"], at["XLA_FFI_Rets"], at["XLA_FFI_Attrs"]
    version = at["XLA_FFI_Metadata"]["api_version"]
    # JAX 0.11 calls it so; before, it was XLA_FFI_Extension_Base.
    extension = at.get("XLA_FFI_InternalExtension") or at["XLA_FFI_Extension_Base"]
    offsets = {
        "FRAME_EXTENSION": call_frame["extension_start"],
        "FRAME_API": call_frame["api"],
        "FRAME_CONTEXT": call_frame["ctx"],
        "FRAME_ARGUMENT_COUNT": call_frame["args"] + arguments["size"],
        "FRAME_ARGUMENTS": call_frame["args"] + arguments["args"],
        "FRAME_RESULT_COUNT": call_frame["rets"] + results["size"],
        "FRAME_RESULTS": call_frame["rets"] + results["rets"],
        "FRAME_ATTRIBUTES": call_frame["attrs"] + attributes["attrs"],
        "BUFFER_DTYPE": at["XLA_FFI_Buffer"]["dtype"],
        "BUFFER_DATA": at["XLA_FFI_Buffer"]["data"],
        "BUFFER_RANK": at["XLA_FFI_Buffer"]["rank"],
        "BUFFER_DIMS": at["XLA_FFI_Buffer"]["dims"],
        "SCALAR_VALUE": at["XLA_FFI_Scalar"]["value"],
        "EXTENSION_TYPE": extension["type"],
        "EXTENSION_NEXT": extension["next"],
        "EXTENSION_METADATA": at["XLA_FFI_Metadata_Extension"]["metadata"],
        "METADATA_MAJOR": version + at["XLA_FFI_Api_Version"]["major_version"],
        "METADATA_MINOR": version + at["XLA_FFI_Api_Version"]["minor_version"],
        "METADATA_TRAITS": at["XLA_FFI_Metadata"]["traits"],
        "METADATA_EXTENSION_TYPE": values["XLA_FFI_Extension_Metadata"],
        "API_ERROR_CREATE": api["XLA_FFI_Error_Create"],
        "API_ERROR_DESTROY": api["XLA_FFI_Error_Destroy"],
        "ERROR_CREATE_SIZE": at["XLA_FFI_Error_Create_Args"]["sizeof"],
        "ERROR_DESTROY_SIZE": at["XLA_FFI_Error_Destroy_Args"]["sizeof"],
        "CANCELLED": values["XLA_FFI_Error_Code_CANCELLED"],
        "ABORTED": values["XLA_FFI_Error_Code_ABORTED"],
        "INVALID_ARGUMENT": values["XLA_FFI_Error_Code_INVALID_ARGUMENT"],
        "INTERNAL": values["XLA_FFI_Error_Code_INTERNAL"],
    }
    assert {name: getattr(frame, name) for name in offsets} == offsets
    # The order of fields within the structures that are built from words.
    assert list(at["XLA_FFI_Error_Create_Args"]) == ["struct_size", "extension_start", "message", "errc", "sizeof"]
    assert list(at["XLA_FFI_Error_Destroy_Args"]) == ["struct_size", "extension_start", "error", "sizeof"]
    schedule, threads = at["XLA_FFI_ThreadPool_Schedule_Args"], at["XLA_FFI_ThreadPool_NumThreads_Args"]
    assert list(schedule) == ["struct_size", "extension_start", "ctx", "task", "data", "sizeof"]
    assert list(threads) == ["struct_size", "extension_start", "ctx", "num_threads", "sizeof"]
    assert "int64_t* num_threads" in text
    assert (pool.API_SCHEDULE, pool.API_NUM_THREADS) == (
        api["XLA_FFI_ThreadPool_Schedule"],
        api["XLA_FFI_ThreadPool_NumThreads"],
    )
    assert (pool.SCHEDULE_SIZE, pool.NUM_THREADS_SIZE) == (schedule["sizeof"], threads["sizeof"])
    codes = {np.bool_: "PRED", np.int32: "S32", np.int64: "S64", np.uint8: "U8", np.uint32: "U32"}
    codes |= {np.float32: "F32", np.float64: "F64"}
    assert frame.DTYPE_CODES == {dtype: values[f"XLA_FFI_DataType_{code}"] for dtype, code in codes.items()}


def test_the_metadata_extension_is_found_behind_others():
    from eventsnn.engine.native.compiled import compiled
    from eventsnn.engine.native.handler import Handler

    @compiled
    def body(frame):
        return 42

    handler = Handler("demo_body", body)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(handler.address)
    metadata = (ctypes.c_int32 * 12)(*[-1] * 12)
    # Size, type, next and, for the metadata extension, the address of the metadata.
    last = (ctypes.c_int64 * 4)(32, 1, 0, ctypes.addressof(metadata))
    first = (ctypes.c_int64 * 3)(24, 77, ctypes.addressof(last))
    frame = (ctypes.c_int64 * 22)()
    frame[1] = ctypes.addressof(first)
    assert function(ctypes.addressof(frame)) == 0
    assert metadata[6:9] == [0, 1, 0]  # version 0.1, no traits
    first[2] = 0
    assert function(ctypes.addressof(frame)) == 42


def test_arrays_of_three_and_four_axes_are_read_in_order():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (2, 3, 4)).astype(float), rng.integers(0, 2, (2, 3, 4, 2)).astype(float)
    expected = [int("".join(str(int(bit)) for bit in array.ravel()), 2) for array in (x, y)]
    np.testing.assert_array_equal(call(SUMS, like(x, (2,)), jnp.asarray(x), jnp.asarray(y)), expected)


# --- Calls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("rows", [1, 500])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_a_kernel_is_called(wrap, rows, dtype):
    x = table(rows, dtype=dtype)
    y, statuses = wrap(scale_with_statuses)(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, 3 * x + 1)
    np.testing.assert_array_equal(statuses, np.zeros(rows))


def test_attributes_are_read_in_the_order_of_their_names():
    np.testing.assert_array_equal(scale(table(2), factor=-5, shift=2), -5 * table(2) + 2)


def test_an_empty_batch():
    assert scale(table(0)).shape == (0, 3)


def test_a_dtype_without_variant():
    with pytest.raises(TypeError, match="no variant for float16: use float32 or float64"):
        SCALE.target(jnp.float16)


def test_gradients_through_a_custom_rule():
    @jax.custom_vjp
    def tripled(x):
        return scale(x)

    tripled.defvjp(lambda x: (scale(x), None), lambda _, cotangent: (scale(cotangent, 3, 0),))

    def loss(x):
        return jnp.sum(jnp.sin(tripled(x)))

    x = table(4) / 100  # the cosine is positive; negative rows are failures of this kernel
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(x), 3 * jnp.cos(3 * x + 1), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(jax.checkpoint(loss))(x), 3 * jnp.cos(3 * x + 1), rtol=1e-12)


def test_a_call_in_a_loop():
    def body(x, _):
        return scale(x, 2, 1), None

    np.testing.assert_array_equal(jax.jit(lambda x: jax.lax.scan(body, x, length=5)[0])(table(3)), 32 * table(3) + 31)


def test_vmap_is_refused():
    with pytest.raises(NotImplementedError, match="vmap"):
        jax.vmap(scale)(jnp.stack([table(2)] * 2))


def test_a_call_on_another_device():
    x = jax.device_put(table(5), jax.devices()[1])
    np.testing.assert_array_equal(jax.jit(scale)(x), 3 * x + 1)


def test_unexpected_buffers_are_an_error_of_xla():
    x = table(2)
    for results in [
        (like(x), like(x, (2,))),
        (like(x, (2, 3, 1)), like(x, (2,), jnp.int32)),
        (like(x),),
    ]:
        with pytest.raises(XlaError, match="INTERNAL: results of a native kernel have another number"):
            jax.block_until_ready(call(EXPECTED, results, x, a=1, b=1))
    with pytest.raises(XlaError, match="INTERNAL: arguments of a native kernel have another number"):
        jax.block_until_ready(call(EXPECTED, (like(x), like(x, (2,), jnp.int32)), x[0], a=1, b=1))


def test_the_sentence_of_an_error_arrives():
    assert call(STRICT, like(table(1), (1,)), jnp.zeros(3))[0] == 0
    with pytest.raises(XlaError, match="INTERNAL: the first failure is eleven: ≠ 12"):
        jax.block_until_ready(call(STRICT, like(table(1), (1,)), jnp.array([0.0, 11.0, 5.0])))


def test_an_exception_in_a_kernel_is_an_error_of_xla():
    with pytest.raises(XlaError, match="INTERNAL: a native kernel raised an exception"):
        jax.block_until_ready(call(RAISES, like(table(1), (1,)), jnp.zeros(1)))


# --- Items over threads --------------------------------------------------------------------------------------------


def test_the_status_of_the_smallest_item_wins():
    statuses = np.zeros(1000)
    statuses[[100, 500, 900]] = [7, -5, 3]
    for _ in range(50):
        assert call(STRICT, like(table(1), (1,)), jnp.asarray(statuses))[0] == 7
    assert call(STRICT, like(table(1), (1,)), jnp.asarray(statuses[200:]))[0] == -5


def test_failed_items_do_not_stop_the_others():
    from demo_kernel import NEGATIVE

    from eventsnn.engine.native.memory import RAISED

    x = table(300).at[17, 0].set(-1.0).at[200, 0].set(jnp.inf)
    y, statuses = scale_with_statuses(x)
    expected = np.zeros(300)
    expected[17], expected[200] = NEGATIVE, RAISED
    np.testing.assert_array_equal(statuses, expected)
    np.testing.assert_array_equal(y[expected == 0], 3 * x[expected == 0] + 1)


def test_simultaneous_calls_from_several_threads():
    scaled = jax.jit(scale)

    def calls(k):
        x = table(200) + k
        return all(bool(jnp.array_equal(scaled(x), 3 * x + 1)) for _ in range(40))

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        assert all(threads.map(calls, range(12)))


def test_first_use_in_several_threads_at_once():
    kernel = Kernel("demo_first_use", "demo_kernel:strict")

    def first(_):
        return call(kernel, like(table(1), (1,)), jnp.zeros(3))[0]

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert list(threads.map(first, range(8))) == [0] * 8


# --- Where a kernel cannot be had ----------------------------------------------------------------------------------


def test_a_kernel_that_does_not_compile_says_why_and_is_not_tried_again():
    with pytest.raises(
        NativeUnavailable, match="kernel demo_wrong cannot be compiled: TypingError: NameError.*missing"
    ):
        WRONG.target(jnp.float64)
    missing = sys.modules.pop("demo_kernel")
    try:
        with pytest.raises(NativeUnavailable, match="NameError"):
            WRONG.target(jnp.float64)
        assert "demo_kernel" not in sys.modules
    finally:
        sys.modules["demo_kernel"] = missing


def test_the_notice_is_given_once():
    with pytest.warns(UserWarning, match="the XLA engine runs instead of the native one.*: no compiler"):
        notice_once("no compiler")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notice_once("no compiler")


# --- Other processes -----------------------------------------------------------------------------------------------


def start(code: str, **environment) -> subprocess.Popen:
    """A Python process that can import the package and the demo kernels."""
    own = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "EVENTSNN_TYPECHECK")}
    paths = os.pathsep.join([str(environment.pop("package", PACKAGE).parent), str(HERE)])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=HERE,
        env=own | {"PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


CALL_SCALE = """
    import sys
    import jax, jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
    from eventsnn.engine.native.call import call
    from eventsnn.engine.native.target import Kernel
    scale = Kernel("demo_scale", "demo_kernel:scale")

    def scaled(dtype):
        x = jnp.arange(12, dtype=dtype).reshape(4, 3)
        outputs = (jax.ShapeDtypeStruct(x.shape, dtype), jax.ShapeDtypeStruct((4,), jnp.int32))
        return int(jax.jit(lambda x: call(scale, outputs, x, above=3, below=1))(x)[0].sum())

    def compiled():
        return "eventsnn.engine.native.handler" in sys.modules
"""
RESULT = str(3 * 66 + 12)


def test_importing_the_package_does_not_import_numba_and_its_absence_is_explained():
    code = """
        import sys
        import eventsnn
        from eventsnn.engine.native import call
        from eventsnn.engine.native.target import Kernel, NativeUnavailable, available
        assert "numba" not in sys.modules and "llvmlite" not in sys.modules
        assert available()
        sys.modules["numba"] = None
        assert not available()
        try:
            Kernel("demo_scale", "demo_kernel:scale").target("float32")
        except NativeUnavailable as error:
            print(error)
    """
    assert output(start(code)) == "numba is not installed; `pip install numba` installs it"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The environment of processes with a cache to which two processes have written at the same time."""
    folder = tmp_path_factory.mktemp("processes")
    settings = {
        "EVENTSNN_CACHE_DIR": str(folder / "kernels"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    code = CALL_SCALE + "    print(scaled('{}'), compiled())"
    both = [start(code.format(dtype), **settings) for dtype in ("float32", "float64")]
    assert [output(process) for process in both] == [f"{RESULT} True"] * 2
    return settings


@pytest.mark.slow
def test_of_two_processes_that_want_the_same_kernel_one_compiles_it(tmp_path):
    code = CALL_SCALE + "    print(scaled('float32'), compiled())"
    both = [start(code, EVENTSNN_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert sorted(output(process) for process in both) == [f"{RESULT} False", f"{RESULT} True"]


def stored_files(settings) -> list[Path]:
    return sorted(path for path in Path(settings["EVENTSNN_CACHE_DIR"]).rglob("*") if path.is_file())


def test_kernels_of_several_processes_come_from_one_cache(settings):
    names = [path.name.split("-")[0] for path in stored_files(settings)]
    assert names == ["eventsnn_demo_scale_float32", "eventsnn_demo_scale_float64"]
    code = """
    hits = []
    from jax._src import monitoring
    monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
    print(scaled("float64"), scaled("float32"), compiled(), len(hits) >= 2)
    """
    assert output(start(CALL_SCALE + code, **settings)) == f"{RESULT} {RESULT} False True"


@pytest.mark.slow
def test_a_program_that_may_raise_comes_from_the_cache_of_jax(settings, tmp_path):
    code = """
    import jax, jax.numpy as jnp
    from jax._src import monitoring
    from eventsnn import LIF, FFEvNN
    # Single operations on numbers are programs of their own.
    net, spikes = FFEvNN([2], 1, LIF, 40.0, jax.random.PRNGKey(0), init_weights=3.0), jnp.ones((1, 1))
    events = []
    monitoring.register_event_listener(lambda name, **_: events.append(name.split("/")[-1]))
    query = jax.jit(lambda x: net.ttfs(x)).lower(spikes).compile()
    print(events.count("cache_hits"), events.count("cache_misses"))
    try:
        jax.block_until_ready(query(-spikes))
    except (RuntimeError, ValueError) as error:
        print(error)
    """
    sentence = "INVALID_ARGUMENT: in_spikes[0, 0] is -1: expected a time of 0 ms or later"
    settings = settings | {"EVENTSNN_CACHE_DIR": str(tmp_path)}
    first, second = (output(start(code, **settings)).splitlines() for _ in range(2))
    assert first[0] == "0 1" and second[0] == "1 0"
    assert first[1] == second[1] and first[1].startswith(sentence)


def test_a_change_in_any_file_of_the_engine_leads_to_a_new_kernel(settings, tmp_path):
    package = tmp_path / "eventsnn"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    # Attributes are read in `frame.py`, from which the kernel imports a function: make each one larger by one.
    frame = package / "engine" / "native" / "frame.py"
    before = "return _load(builder, _load(builder, builder.add(scalar, WORD(SCALAR_VALUE))))"
    text = frame.read_text()
    assert before in text
    frame.write_text(text.replace(before, before.replace("return ", "return builder.add(WORD(1), ") + ")"))
    code = CALL_SCALE + "    print(scaled('float64'), compiled())"
    # The stored kernels of the unchanged files are there, but not for others to find a third one among them.
    cache = tmp_path / "cache"
    shutil.copytree(settings["EVENTSNN_CACHE_DIR"], cache)
    process = start(code, package=package, **settings | {"EVENTSNN_CACHE_DIR": str(cache)})
    assert output(process) == f"{4 * 66 + 2 * 12} True"


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("")
    code = CALL_SCALE + "    print(scaled('float32'), compiled())"
    assert output(start(code, EVENTSNN_CACHE_DIR=str(occupied))) == f"{RESULT} True"


def test_damaged_files_of_the_cache_are_not_used(settings, tmp_path, monkeypatch):
    from eventsnn.engine.native.cache import StoredKernel

    cache = tmp_path / "copy"
    shutil.copytree(settings["EVENTSNN_CACHE_DIR"], cache)
    monkeypatch.setenv("EVENTSNN_CACHE_DIR", str(cache))
    stored = StoredKernel("eventsnn_demo_scale_float32", "demo_kernel")
    path = stored_files({"EVENTSNN_CACHE_DIR": cache})[0]
    whole = path.read_bytes()
    _, header, code = whole.split(b"\n", 2)
    missing = header.replace(b'"malloc"', b'"no_such_symbol"') + b"\n" + code
    assert header in whole and missing != whole
    missing = hashlib.sha256(missing).hexdigest().encode() + b"\n" + missing
    for content in (b"", whole[:500], whole[:-1] + b"!", missing):
        path.write_bytes(content)
        assert stored.load() is None
    path.write_bytes(whole)
    assert stored.load() is not None


def test_old_folders_of_the_cache_are_removed(tmp_path, monkeypatch):
    from eventsnn.engine.native import cache

    monkeypatch.setenv("EVENTSNN_CACHE_DIR", str(tmp_path))
    for age in range(6):
        folder = tmp_path / "native" / f"state{age}"
        folder.mkdir(parents=True)
        os.utime(folder, (1000 - age, 1000 - age))
    stored = cache.StoredKernel("demo", "demo_kernel")
    stored.save(("symbol", [], b"code"))
    left = sorted(path.name for path in (tmp_path / "native").iterdir())
    assert left == sorted([stored.state, "state0", "state1", "state2"])


@pytest.mark.slow
def test_kernels_compile_under_the_type_checker():
    pytest.importorskip("beartype")
    hook = """
    from jaxtyping import install_import_hook
    install_import_hook("eventsnn.engine.native", "beartype.beartype")
    """
    assert output(start(hook + CALL_SCALE + "    print(scaled('float32'))", EVENTSNN_CACHE_DIR=os.devnull)) == RESULT


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is not counted on Windows")
@pytest.mark.parametrize("items", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_ctrl_c_stops_a_kernel(items, tmp_path):
    code = f"""
        import signal, time
        import jax, jax.numpy as jnp
        from eventsnn.engine.native.call import call
        from eventsnn.engine.native.target import Kernel
        steps = Kernel("demo_steps", "demo_kernel:steps")
        outputs = (jax.ShapeDtypeStruct(({items},), jnp.float32), jax.ShapeDtypeStruct(({items},), jnp.int32))
        run = jax.jit(lambda x: call(steps, outputs, x))

        def statuses(n):
            return run(jnp.full({items}, n))[1].tolist()

        statuses(10.0)
        for handler in (signal.default_int_handler, lambda *_: None):
            signal.signal(signal.SIGINT, handler)
            print("ready", flush=True)
            try:
                print(statuses(1e15), flush=True)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            print(statuses(10.0), flush=True)
    """
    process = start(code)
    limit = threading.Timer(100, process.kill)
    limit.start()
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == "ready":
            # The call begins well within this time, and would take many days.
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            process.send_signal(signal.SIGINT)
    limit.cancel()
    output(process)
    assert lines == ["ready", "interrupted", str([0] * items), "ready", str([-2] * items), str([0] * items)]


def test_the_demo_kernels_are_found_by_name():
    assert importlib.util.find_spec("demo_kernel").origin == str(HERE / "demo_kernel.py")


def test_compiled_code_takes_nothing_from_outside_the_folder():
    for path in (PACKAGE / "engine" / "native").glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        modules = {node.module for node in imports}
        if "eventsnn.engine.native.compiled" in modules:
            own = {module for module in modules if module.startswith("eventsnn")}
            assert all(module.startswith("eventsnn.engine.native") for module in own), path
