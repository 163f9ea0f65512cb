"""Compares the command line with transformers on checkpoints nobody has seen: random layout, sizes, options and ids.

    python tools/fuzz.py --count 60 --seed 1 --backends reference,wasm

Each case writes a seeded checkpoint, asks the oracle of golden/ for the logits of all positions and the greedy continuation, and
`doge logits --all` and `doge generate` for the same. Logits must agree within 1e-4 of their standard deviation; greedy ids must be
equal up to the first step whose margin is below that. Both are compared up to the first position with an undecided cut (window,
experts): one whose gap lies within float32's rounding, as behind layer 0 every tie does (docs/contract.md, S4). So what disagrees
is a defect. Cases that are undecided from the first position on are counted apart, as are those whose few experts do not tell by
which numbering they were trained (`doge inspect` says so). Needs requirements.txt, and a checkout whose `npm run doge` works.
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import numpy
import torch
import transformers

from golden.checkpoint import varied, write
from golden.fixtures import FIXTURES
from golden.oracle import Oracle

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4
GAP = TOLERANCE / 10  # at a cut: of the bias, or of the scores' standard deviation


def doge(*arguments: str) -> str:
    command = ["npm", "run", "--silent", "doge", "--", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"doge {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def compare(case: dict, folder: Path, backends: list[str]) -> list[str]:
    """What disagrees, as sentences; empty when nothing does."""
    oracle = Oracle(folder, case["routing"], case["index_bug"])
    ids = case["ids"]

    def decided() -> int:
        """Positions of the last run before its first undecided cut."""
        first = oracle.witness.undecided(GAP)
        if first is None:
            return len(oracle.witness.ids)
        # Where the tokens of a call route each other, a choice in one layer reaches all of them in the next.
        return 0 if case["mixes"] and first < len(ids) else first

    expected = oracle.run(ids).numpy()
    rows = decided()
    if rows == 0:
        return ["undecided"]
    case["whole"] = rows == len(ids)
    if case["index_bug"]:
        warnings = json.loads(doge("inspect", "--model", str(folder), "--json"))["warnings"]
        if any("expert numbering" in warning for warning in warnings):
            return ["undecided"]
    deviation = float(expected.std())
    chosen, margins = oracle.greedy(ids, case["steps"])
    # The logits of the last id of the prompt choose step 0.
    sure = max(0, min(len(chosen), decided() - len(ids) + 1))
    sure = next((step for step, margin in enumerate(margins[:sure]) if margin < 4 * TOLERANCE), sure)
    listed = ",".join(map(str, ids))
    faults = []
    for backend in backends:
        common = ["--model", str(folder), "--prompt-ids", listed, "--backend", backend, "--routing", case["routing"]]
        out = folder / f"{backend}.bin"
        try:
            doge("logits", *common, "--all", "--out", str(out))
            found = numpy.fromfile(out, "<f4").reshape(expected.shape)
            difference = float(numpy.abs(found - expected)[:rows].max()) / deviation
            if not difference <= TOLERANCE:
                faults.append(f"{backend}: logits differ by {difference:.2e} standard deviations")
            printed = doge("generate", *common, "--max-new-tokens", str(case["steps"]), "--greedy", "--ignore-eos", "--json")
            drawn = json.loads(printed)["ids"]
            if drawn[:sure] != chosen[:sure]:
                faults.append(f"{backend}: greedy {drawn} instead of {chosen} (sure of the first {sure})")
        except (RuntimeError, ValueError) as error:
            faults.append(f"{backend}: {error}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backends", default="reference,wasm")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    bad = undecided = parts = 0
    for index in range(options.count):
        seed = options.seed * 100_000 + index
        draw = random.Random(seed)
        fixture = draw.choice(FIXTURES)
        recipe = varied(fixture.recipe, seed)
        longest = recipe.max_positions - 12
        length = draw.randint(1, max(1, min(longest, draw.choice([8, 40, 120]))))
        few = draw.choice([recipe.vocab, 5])  # few distinct ids: ties at the window
        case = {
            "ids": [draw.randrange(min(few, recipe.vocab)) for _ in range(length)],
            "steps": min(8, recipe.max_positions - length),
            "routing": draw.choice(["reference", "per-token"]) if recipe.moe else "reference",
            "index_bug": recipe.index_bug,
        }
        case["mixes"] = recipe.moe and case["routing"] == "reference"
        with tempfile.TemporaryDirectory() as name:
            write(recipe, seed, Path(name))
            faults = compare(case, Path(name), options.backends.split(","))
        if faults == ["undecided"]:
            undecided += 1
        elif faults:
            bad += 1
            print(f"seed {seed} ({fixture.name}, {length} ids, {case['routing']}): " + "; ".join(faults), flush=True)
        elif not case["whole"]:
            parts += 1
    print(f"{options.count - bad - undecided} agree ({parts} up to an undecided cut), {bad} disagree, {undecided} undecided")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    main()
