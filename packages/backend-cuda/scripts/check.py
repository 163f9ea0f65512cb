"""Checks the compiled core against the committed goldens through its C interface (native/doge.h): Python's ctypes, no Node, no
packages. On a GPU: `check.py build/libdoge_cuda.so`; on the host shim: `check.py build/libdoge_shim.so`.

Prints a line for each fixture and dtype, then "N passed, M failed"."""

import array
import ctypes
import json
import math
import pathlib
import re
import struct
import sys

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "fixtures"
# Fixtures whose files have the canonical tensor names; the others need the loader of @doge-lm/core.
NAMES = ["native", "window", "odd", "rope", "rope-linear", "moe"]
# In standard deviations of the logits; packages/conformance/src/tolerances.ts has the reasons.
LOGITS = 1e-4
# Under bf16 and q8 keys and values are kept as halves, 11 bits of each; those of a prompt of a dense bf16 model without a window are multiplied
# in half precision too, on compute capability 9.0. The shim finds up to 2.6e-3 over all fixtures; activations in bf16 would move logits by 0.1.
HALF = 5e-3
# What bf16 and q8 round (core's quantizable()).
ROUNDED = re.compile(r"(^lm_head|\.(embed_tokens|[qkvo]_proj|gate_proj|up_proj|down_proj|down_embed|up_embed))\.weight$")


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_char * 32), ("message", ctypes.c_char * 480)]


class Row(ctypes.Structure):
    _fields_ = [
        ("sequence", ctypes.c_void_p), ("tokens", ctypes.POINTER(ctypes.c_int32)), ("token_count", ctypes.c_int32),
        ("count", ctypes.c_int32), ("alternatives", ctypes.c_int32), ("top_k", ctypes.c_int32), ("seed", ctypes.c_uint32),
        ("temperature", ctypes.c_double), ("top_p", ctypes.c_double), ("min_p", ctypes.c_double),
        ("repetition_penalty", ctypes.c_double), ("stops", ctypes.POINTER(ctypes.c_int32)), ("stop_count", ctypes.c_int32),
        ("allowed", ctypes.POINTER(ctypes.c_uint32)),
    ]


class Drawn(ctypes.Structure):
    _fields_ = [("drawn", ctypes.c_int32), ("ids", ctypes.POINTER(ctypes.c_int32)), ("logprobs", ctypes.POINTER(ctypes.c_float)),
                ("top_ids", ctypes.POINTER(ctypes.c_int32)), ("top_logprobs", ctypes.POINTER(ctypes.c_float))]


class Core:
    """doge.h with exceptions."""

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))
        self.library.doge_model_room.restype = ctypes.c_int64
        for name in ("model_close", "sequence_close", "close", "sequence_length", "model_room"):
            getattr(self.library, f"doge_{name}").argtypes = [ctypes.c_void_p]

    def call(self, name, *arguments):
        error = Error()
        if getattr(self.library, f"doge_{name}")(*arguments, ctypes.byref(error)) != 0:
            raise RuntimeError(f"{error.code.decode()}: {error.message.decode()}")

    def made(self, name, *arguments):
        result = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(result))
        return result


def tensors(path):
    """Every tensor of a safetensors file as (name, array of f32)."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        yield name, entry["shape"], widened(entry["dtype"], data[8 + size + begin : 8 + size + end])


def widened(dtype, data):
    """Little-endian F32, F16 or BF16 numbers as f32, exactly."""
    if dtype == "F32":
        values = array.array("f")
        values.frombytes(data)
        return values
    halves = len(data) // 2
    if dtype == "F16":
        return array.array("f", struct.unpack(f"<{halves}e", data))
    assert dtype == "BF16", dtype
    words = array.array("I", [half << 16 for half in struct.unpack(f"<{halves}H", data)])
    return array.array("f", words.tobytes())


def rounded(name, shape, values, dtype):
    """The numbers that core's bf16 or q8 makes of a tensor, as f32."""
    if dtype == 0 or not ROUNDED.search(name):
        return values
    if dtype == 1:
        bits = array.array("I", values.tobytes())
        return array.array("f", array.array("I", [(word + 0x7FFF + (word >> 16 & 1)) & 0xFFFF0000 for word in bits]).tobytes())
    result = array.array("f", bytes(4 * len(values)))
    columns = shape[-1]
    for row in range(0, len(values), columns):
        for start in range(row, row + columns, 32):
            stop = min(start + 32, row + columns)
            (scale,) = array.array("f", [max(abs(value) for value in values[start:stop]) / 127])
            for at in range(start, stop):
                code = 0 if scale == 0 else math.floor(abs(values[at]) / scale + 0.5)
                result[at] = math.copysign(min(code, 127), values[at]) * scale
    return result


def config_of(raw, shapes, dtype, reference, context):
    heads = raw["num_attention_heads"]
    rope = raw.get("rope_parameters") or {"rope_theta": raw.get("rope_theta", 10000.0), **(raw.get("rope_scaling") or {})}
    experts = raw["num_experts"] if raw.get("is_moe") else 0
    qk_norm = "model.layers.0.self_attn.q_norm.weight" in shapes
    numbers = [
        raw["vocab_size"], raw["hidden_size"], raw["intermediate_size"], raw["num_hidden_layers"], heads,
        raw.get("num_key_value_heads") or heads, raw.get("head_dim") or raw["hidden_size"] // heads, raw["rms_norm_eps"],
        raw["max_position_embeddings"], {"default": 0, "linear": 1, "dynamic": 2}[rope.get("rope_type", "default")],
        rope.get("rope_theta", 10000.0), rope.get("factor", 1.0), qk_norm, shapes["model.layers.0.self_attn.A"][0],
        raw["keep_window_size"] if qk_norm else 0, raw.get("attention_bias", False), raw.get("mlp_bias", False),
        raw["tie_word_embeddings"], experts, raw["num_experts_per_tok"] if experts else 0, math.isqrt(experts),
        bool(experts and raw.get("norm_topk_prob")), 0, dtype, reference, context, 4 * context,
    ]
    return (ctypes.c_double * len(numbers))(*map(float, numbers))


def ids_of(ids):
    return (ctypes.c_int32 * len(ids))(*ids)


def loaded(core, device, config, weights, raw):
    model = core.made("model_create", device, ctypes.byref(config))
    for name, _, values in weights:
        if name == "lm_head.weight" and raw["tie_word_embeddings"]:
            continue
        buffer = (ctypes.c_float * len(values)).from_buffer(values)
        core.call("model_write", model, name.encode(), buffer, ctypes.c_int64(len(values)))
    core.call("model_ready", model)
    return model


def last_logits(core, model, case, vocabulary):
    """(position, logits) after each call of a case."""
    sequence = core.made("sequence_create", model)
    at = 0
    for length in case["calls"]:
        tokens = ids_of(case["ids"][at : at + length])
        at += length
        logits = (ctypes.c_float * vocabulary)()
        row = Row(sequence=sequence, tokens=tokens, token_count=length)
        core.call("forward", model, ctypes.byref(row), 1, logits)
        yield at - 1, logits
    core.library.doge_sequence_close(sequence)


def apart(found, expected):
    """Largest difference; a NaN compares as nothing and must count as the worst."""
    return max((abs(a - b) if a == a else math.inf) for a, b in zip(found, expected))


def check(core, device, name, dtype):
    """Largest difference, in standard deviations: under f32 from the golden logits; under bf16 and q8 from f32 with the numbers
    that those formats make of the weights, so that nothing but the arithmetic of the format is judged."""
    folder = FIXTURES / name
    raw = json.loads((folder / "config.json").read_text())
    golden = json.loads((folder / "golden.json").read_text())
    numbers = array.array("f")
    numbers.frombytes((folder / "golden.bin").read_bytes())
    weights = [each for path in sorted(folder.glob("*.safetensors")) for each in tensors(path)]
    shapes = {key: shape for key, shape, _ in weights}
    exact = [(key, shape, rounded(key, shape, values, dtype)) for key, shape, values in weights]
    vocabulary = raw["vocab_size"]
    worst = 0.0
    for case in golden["cases"]:
        if "logits" not in case.get("arrays", {}):
            continue
        reference = case.get("routing", "reference") == "reference" and bool(raw.get("is_moe"))
        context = max(raw["max_position_embeddings"], 128)
        model = loaded(core, device, config_of(raw, shapes, dtype, reference, context), weights, raw)
        start = case["arrays"]["logits"]["offset"]
        if dtype == 0:
            for position, found in last_logits(core, model, case, vocabulary):
                at = start + (position - case["logitsFrom"]) * vocabulary
                if position >= case["logitsFrom"]:
                    worst = max(worst, apart(found, numbers[at : at + vocabulary]) / case["logitsStd"])
        else:
            twin = loaded(core, device, config_of(raw, shapes, 0, reference, context), exact, raw)
            both = zip(last_logits(core, model, case, vocabulary), last_logits(core, twin, case, vocabulary))
            for (_, found), (_, expected) in both:
                worst = max(worst, apart(found, expected) / case["logitsStd"])
            core.library.doge_model_close(twin)
        core.library.doge_model_close(model)
    return worst


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_file():
        sys.exit("Use: check.py LIBRARY, a file such as build/libdoge_cuda.so; scripts/build.mjs makes it (command library).")
    core = Core(pathlib.Path(sys.argv[1]).resolve())
    device = core.made("open", 0)
    passed = failed = 0
    for name in NAMES:
        for number, dtype in enumerate(["f32", "bf16", "q8"]):
            try:
                worst = check(core, device, name, number)
                allowed = LOGITS if dtype == "f32" else HALF
                good = worst <= allowed
                line = f"{worst:.2e} standard deviations, allowed {allowed:g}"
            except RuntimeError as error:
                good, line = False, str(error)
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok  ' if good else 'FAIL'} logits {name:12} {dtype:5} {line}", flush=True)
    core.library.doge_close(device)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
