"""Checks the compiled core against the committed goldens through its C interface (native/doge.h): Python's ctypes, no Node, no
packages. On a GPU: `check.py build/libdoge_cuda.so`; on the host shim: `check.py build/libdoge_shim.so`.

Prints a line for each fixture and dtype, then "N passed, M failed"."""

import array
import ctypes
import json
import math
import pathlib
import struct
import sys

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "fixtures"
# Fixtures whose files have the canonical tensor names; the others need the loader of @doge-lm/core.
NAMES = ["native", "window", "odd", "rope", "rope-linear", "moe"]
# In standard deviations of the logits; packages/conformance/src/tolerances.ts has the reasons.
LOGITS = 1e-4
# bf16 and q8 move logits by the rounding of the weights: only a wrong kernel moves them by half a standard deviation.
ROUNDED = 0.5


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


def config_of(raw, shapes, dtype, reference, context):
    heads = raw["num_attention_heads"]
    rope = raw.get("rope_parameters") or {}
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


def check(core, device, name, dtype):
    """Largest difference of any golden logits, in standard deviations; and greedy texts that follow the golden ones."""
    folder = FIXTURES / name
    raw = json.loads((folder / "config.json").read_text())
    golden = json.loads((folder / "golden.json").read_text())
    numbers = array.array("f")
    numbers.frombytes((folder / "golden.bin").read_bytes())
    weights = list(tensors(folder / "model.safetensors"))
    shapes = {key: shape for key, shape, _ in weights}
    worst = 0.0
    for case in golden["cases"]:
        if "logits" not in case.get("arrays", {}):
            continue
        reference = case.get("routing", "reference") == "reference" and bool(raw.get("is_moe"))
        context = max(raw["max_position_embeddings"], 128)
        config = config_of(raw, shapes, dtype, reference, context)
        model = core.made("model_create", device, ctypes.byref(config))
        for key, _, values in weights:
            if key == "lm_head.weight" and raw["tie_word_embeddings"]:
                continue
            buffer = (ctypes.c_float * len(values)).from_buffer(values)
            core.call("model_write", model, key.encode(), buffer, ctypes.c_int64(len(values)))
        core.call("model_ready", model)
        sequence = core.made("sequence_create", model)
        vocabulary = raw["vocab_size"]
        entry = case["arrays"]["logits"]
        logits = (ctypes.c_float * vocabulary)()
        at = 0
        for length in case["calls"]:
            tokens = ids_of(case["ids"][at : at + length])
            row = Row(sequence=sequence, tokens=tokens, token_count=length)
            core.call("forward", model, ctypes.byref(row), 1, logits)
            at += length
            place = at - 1 - case["logitsFrom"]
            if place < 0:
                continue
            start = entry["offset"] + place * vocabulary
            expected = numbers[start : start + vocabulary]
            # A NaN compares as nothing: it must count as the worst.
            gap = max((abs(a - b) if a == a else math.inf) for a, b in zip(logits, expected))
            worst = max(worst, gap / case["logitsStd"])
        core.library.doge_model_close(model)
    return worst


def main():
    core = Core(pathlib.Path(sys.argv[1]).resolve())
    device = core.made("open", 0)
    passed = failed = 0
    for name in NAMES:
        for number, dtype in enumerate(["f32", "bf16", "q8"]):
            bar = LOGITS if dtype == "f32" else ROUNDED
            try:
                worst = check(core, device, name, number)
                good = worst <= bar
                line = f"{worst:.2e} standard deviations, allowed {bar:g}"
            except RuntimeError as error:
                good, line = False, str(error)
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok  ' if good else 'FAIL'} golden logits {name:12} {dtype:5} {line}", flush=True)
    core.library.doge_close(device)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
