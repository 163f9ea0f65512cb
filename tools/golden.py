"""Makes the goldens, and says what transformers makes of any Doge checkpoint.

  python tools/golden.py fixtures [NAME ...]                      regenerate the committed fixtures
  python tools/golden.py make --layout NAME --seed N --out DIR    write a seeded checkpoint; --vary draws its sizes too
  python tools/golden.py logits --model DIR --ids 0,5,9 --out FILE    float32 logits [positions, vocab], little-endian
  python tools/golden.py greedy --model DIR --ids 0,5,9 --count 24    the greedy continuation and its margins

`logits` and `greedy` print one JSON object with the narrowest gaps at the cuts. The package golden/ beside this file
holds the parts, requirements.txt the versions.
"""

import argparse
import dataclasses
import json
import math
from pathlib import Path

import torch
import transformers

from golden.checkpoint import Recipe, varied, write
from golden.fixtures import FIXTURES
from golden.oracle import Oracle
from golden.record import make

FOLDER = Path(__file__).resolve().parent.parent / "packages" / "conformance" / "fixtures"


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def value(text: str):
    """A recipe's value: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    some = commands.add_parser("fixtures", help="regenerate the committed fixtures")
    some.add_argument("names", nargs="*", help="default: all")

    new = commands.add_parser("make", help="write a seeded checkpoint")
    new.add_argument("--layout", required=True, choices=[fixture.name for fixture in FIXTURES], help="as that fixture")
    new.add_argument("--seed", type=int, required=True)
    new.add_argument("--out", type=Path, required=True)
    new.add_argument("--vary", action="store_true", help="draw sizes and options from the seed; flags below still win")
    for field in dataclasses.fields(Recipe):
        if field.name != "layout":
            flag = "--" + field.name.replace("_", "-")
            new.add_argument(flag, type=value, metavar="JSON", help=f"default of the type {field.type}")

    for name in ("logits", "greedy"):
        asked = commands.add_parser(name)
        asked.add_argument("--model", type=Path, required=True, help="a checkpoint folder of any layout")
        asked.add_argument("--ids", type=numbers, required=True, help="comma-separated")
        asked.add_argument("--routing", choices=["reference", "per-token"], default="reference")
        asked.add_argument("--index-bug", action="store_true", help="read expert ids as the index-bug form does")
        asked.add_argument("--rope", choices=["own", "upstream"], default="own", help="dynamic RoPE beyond the range")
        if name == "logits":
            asked.add_argument("--calls", type=numbers, help="lengths of successive cached calls; default: one call")
            asked.add_argument("--out", type=Path, required=True)
        else:
            asked.add_argument("--count", type=int, default=24)
    return parser.parse_args()


def recipe_of(options: argparse.Namespace) -> Recipe:
    recipe = next(fixture.recipe for fixture in FIXTURES if fixture.name == options.layout)
    if options.vary:
        recipe = varied(recipe, options.seed)
    given = {}
    for field in dataclasses.fields(Recipe):
        set_to = getattr(options, field.name, None)
        if field.name == "layout" or set_to is None:
            continue
        if field.name == "dtypes":
            set_to = tuple(set_to.split(",") if isinstance(set_to, str) else set_to)
        given[field.name] = set_to
    return dataclasses.replace(recipe, **given)


def ask(options: argparse.Namespace) -> None:
    oracle = Oracle(options.model, options.routing, options.index_bug, options.rope)
    if options.command == "greedy":
        ids, margins = oracle.greedy(options.ids, options.count)
        answer = {"ids": ids, "margins": margins}
    else:
        logits = oracle.run(options.ids, options.calls)
        options.out.write_bytes(logits.numpy().astype("<f4").tobytes())
        answer = {"positions": logits.shape[0], "vocab": logits.shape[1], "logitsStd": float(logits.std())}
    witness = oracle.witness
    gaps = {"window": witness.window_gap, "experts": witness.expert_gap}
    answer["gaps"] = {name: None if gap == math.inf else gap for name, gap in gaps.items()}
    answer["windowTies"] = witness.window_ties
    print(json.dumps(answer))


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options = arguments()
    if options.command == "fixtures":
        for fixture in FIXTURES:
            if not options.names or fixture.name in options.names:
                make(fixture, FOLDER)
    elif options.command == "make":
        write(recipe_of(options), options.seed, options.out)
    else:
        ask(options)


if __name__ == "__main__":
    main()
