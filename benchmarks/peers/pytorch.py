"""PyTorch on the CPU by transformers, eager. Serves the requests of serve.mjs."""

import argparse
import json
import os
import sys
import time

parser = argparse.ArgumentParser()
for name in ("shape", "kind", "threads", "models"):
    parser.add_argument(f"--{name}", required=True)
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = args.threads

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import DynamicCache, LlamaForCausalLM  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(int(args.threads))
torch.set_num_interop_threads(1)
torch.set_grad_enabled(False)
model = LlamaForCausalLM.from_pretrained(
    os.path.join(args.models, f"llama-{args.shape}"),
    dtype={"f32": torch.float32, "bf16": torch.bfloat16}[args.kind],
    attn_implementation="sdpa",
).eval()


def ids(count):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(300, 31300, (1, count), generator=generator)


def step(tokens, cache):
    output = model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1].argmax(-1, keepdim=True)


def read(count):
    start = time.perf_counter()
    step(ids(count), DynamicCache(config=model.config))
    return time.perf_counter() - start


def write(prompt, count):
    cache = DynamicCache(config=model.config)
    token = step(ids(prompt), cache)
    start = time.perf_counter()
    for _ in range(count):
        token = step(token, cache)
    return time.perf_counter() - start


read(32)
write(4, 8)
print(json.dumps({"name": "PyTorch", "version": torch.__version__}), flush=True)
for line in sys.stdin:
    verb, *numbers = line.split()
    seconds = {"prefill": read, "decode": write}[verb](*map(int, numbers))
    print(json.dumps({"milliseconds": 1000 * seconds}), flush=True)
