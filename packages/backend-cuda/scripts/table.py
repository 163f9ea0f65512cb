"""The table of a GPU run: medians of doge_runner beside what the GPU's memory and tensor cores allow.

    table.py MACHINE.csv TIMES.jsonl [RATES.json]      RATES: what `doge_runner rates` measured on that machine

The ceiling of decoding one row is bytes of weights read for a token over the memory's rate; that of a prompt its multiplications over
the tensor cores' rate, counted once though they are done in two halves of each number. Without measured rates the vendor's figures
for the name are taken, and where there are none, none. Decoding many rows is given as a rate alone: keys and values, which differ in
length, are most of its bytes."""

import json
import pathlib
import sys

# By the vendors' data sheets: GB/s of memory, TFLOP/s of dense bf16.
RATES = {"H200": (4800, 989), "H100": (3350, 989), "A100": (2039, 312), "L40S": (864, 362), "RTX 4090": (1008, 165), "RTX 5090": (1792, 210)}
# hidden, intermediate, layers, heads, numbers of a head, vocabulary; two query heads to a key head, tied.
SHAPES = {
    "20M": (256, 512, 8, 2, 128, 32768), "60M": (512, 1024, 16, 4, 128, 32768), "160M": (768, 1536, 24, 6, 128, 32768),
    "320M": (1024, 2048, 32, 8, 128, 32768), "tiny": (64, 96, 2, 2, 32, 512),
}
BYTES = {"f32": 4.0, "bf16": 2.0, "q8": 1.0 + 4 / 32}


def layer_weights(size):
    """Numbers of every matrix but the head."""
    hidden, inner, layers, heads, dim, _ = SHAPES[size]
    queries, keys = heads * dim, heads * dim // 2
    return layers * (hidden * (2 * queries + 2 * keys) + 3 * hidden * inner)


def read_for_a_token(size, dtype):
    """Bytes of weights, the head included."""
    hidden, *_, vocabulary = SHAPES[size]
    return (vocabulary * hidden + layer_weights(size)) * BYTES[dtype]


def prompt_work(size, tokens):
    """Floating-point operations of a prompt: two for each weight and token, and attention over half of the pairs."""
    _, _, layers, heads, dim, _ = SHAPES[size]
    return 2 * layer_weights(size) * tokens + layers * heads * 2 * tokens * tokens * dim


def share(found, most):
    return "" if most is None else f"{100 * found / most:.1f} %"


def line_of(run, memory, tensor):
    start = f"| {run['size']} | {run['dtype']} | {run['what']} "
    if "kl" in run:
        return f"{start}| | | | KL {run['kl']:.2g} | {100 * run['agreement']:.0f} % same token | |"
    rate = part = ""
    if run["what"].startswith("decode, 1 row,"):
        speed = run["tokensPerSecond"] * read_for_a_token(run["size"], run["dtype"]) / 1e9
        rate, part = f"{speed:.3g} GB/s", share(speed, memory)
    elif run["what"].startswith("prefill"):
        tokens = int(run["what"].split()[-1])
        speed = prompt_work(run["size"], tokens) / (run["ms"] / 1e3) / 1e12
        rate, part = f"{speed:.3g} TFLOP/s", share(speed, tensor)
    return f"{start}| {run['ms']:.3f} | {run['spreadMs']:.3f} | {run['tokensPerSecond']:.0f} | {rate} | {part} | {run['hash']} |"


def main():
    machine = open(sys.argv[1]).read().strip().splitlines()
    name = machine[1].split(",")[0]
    memory, tensor = next((rates for key, rates in RATES.items() if key in name), (None, None))
    whose = "the vendor's figures" if memory is not None else "none known"
    measured = pathlib.Path(sys.argv[3]).read_text().strip() if len(sys.argv) > 3 else ""
    if measured:
        rates = json.loads(measured)
        whose = "measured here"
        memory, tensor = rates["bytesPerSecond"] / 1e9, 2 * rates["tensorMacsPerSecond"] / 1e12 or None
    print(machine[1])
    print(f"ceilings, {whose}: {memory or 0:.3g} GB/s, {tensor or 0:.3g} TFLOP/s of bf16 on tensor cores\n")
    print("| size | weights | what | ms, median | spread | tokens/s | rate | of the device's | result |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in open(sys.argv[2]):
        print(line_of(json.loads(line), memory, tensor))


if __name__ == "__main__":
    main()
