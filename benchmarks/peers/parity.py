"""Checks the ONNX stand-ins against PyTorch: the same logits behind the same ids, as far as their weights are the same.

    python3 parity.py --shape tiny [--models models]
"""

import argparse
import json
import os

import numpy as np
import onnxruntime
import torch
from transformers import LlamaForCausalLM

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--shape", default="tiny")
parser.add_argument("--models", default="models")
args = parser.parse_args()

ids = np.random.default_rng(3).integers(300, 32000, (1, 24))
model = LlamaForCausalLM.from_pretrained(os.path.join(args.models, f"llama-{args.shape}"), dtype=torch.float32).eval()
with torch.no_grad():
    expected = model(torch.tensor(ids)).logits[0, -1].numpy()
with open(os.path.join(args.models, f"llama-{args.shape}.onnx.json")) as file:
    meta = json.load(file)
for kind, bound in {"fp32": 1e-5, "int8": 0.1, "q4": 0.5}.items():
    path = os.path.join(args.models, f"llama-{args.shape}-{kind}.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {
        "input_ids": ids.astype(np.int64),
        "seqlens_k": np.array([23], np.int32),
        "total_sequence_length": np.array(24, np.int32),
    }
    for layer in range(meta["layers"]):
        for part in ("key", "value"):
            feeds[f"past_key_values.{layer}.{part}"] = np.zeros((1, meta["kv_heads"], 0, meta["head_dim"]), np.float32)
    logits = session.run(["logits"], feeds)[0][0, -1]
    difference = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
    print(f"{kind}: relative difference {difference:.2e}")
    assert difference < bound, f"{kind} differs by {difference}, more than {bound}"
