"""The table of a GPU run: medians of doge_runner beside what the memory of the GPU allows.

    table.py MACHINE.csv TIMES.jsonl [GB/s]      GB/s: what the memory gives to a plain copy, when measured on that machine

The ceiling of decoding one row is bytes of weights read for a token over the memory's rate: its clock and width are not told by
the driver's tool, so without a third argument the vendor's figure for the name is taken, and where there is none, none."""

import json
import sys

# GB/s by the vendors' data sheets.
MEMORY = {"H200": 4800, "H100": 3350, "A100": 2039, "L40S": 864, "RTX 4090": 1008, "RTX 5090": 1792}
# hidden, intermediate, layers, heads; two query heads to a key head, heads of 128, vocabulary 32768, tied.
SHAPES = {"20M": (256, 512, 8, 2), "60M": (512, 1024, 16, 4), "160M": (768, 1536, 24, 6), "320M": (1024, 2048, 32, 8)}
BYTES = {"f32": 4.0, "bf16": 2.0, "q8": 1.0 + 4 / 32}


def weights(size):
    """Numbers that one token reads: every matrix, the head included."""
    hidden, inner, layers, heads = SHAPES[size]
    queries, keys = heads * 128, heads * 64
    return 32768 * hidden + layers * (hidden * (2 * queries + 2 * keys) + 3 * hidden * inner)


def main():
    machine = open(sys.argv[1]).read().strip().splitlines()
    name = machine[1].split(",")[0]
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else next((value for key, value in MEMORY.items() if key in name), None)
    print(f"{machine[1]}\n")
    print("| size | weights | what | ms, median | spread | tokens/s | weights read, GB/s | of the memory's rate | result |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in open(sys.argv[2]):
        run = json.loads(line)
        read = share = ""
        if run["what"].startswith("decode, 1 row"):
            speed = run["tokensPerSecond"] * weights(run["size"]) * BYTES[run["dtype"]] / 1e9
            read = f"{speed:.0f}"
            share = "" if rate is None else f"{100 * speed / rate:.1f} %"
        print(f"| {run['size']} | {run['dtype']} | {run['what']} | {run['ms']:.3f} | {run['spreadMs']:.3f} | {run['tokensPerSecond']:.0f} "
              f"| {read} | {share} | {run['hash']} |")


if __name__ == "__main__":
    main()
