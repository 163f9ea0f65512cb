"""Makes a fixture: writes its checkpoint, runs its cases, and keeps the first seed whose cuts are all wide enough."""

import json
import math
import platform
import random
import shutil
import tempfile
from pathlib import Path

import torch
import transformers

from golden.checkpoint import Recipe, write
from golden.fixtures import Case, Fixture
from golden.oracle import Oracle

ARGMAX_GAP = 1e-4  # best - second best logit of a greedy step, in standard deviations of the logits
SELECTION_GAP = 1e-5  # at the keep window relative to the bias, at the experts to the scores' standard deviation; ties too
AGREEMENT = 2e-5  # largest difference between two ways to the same logits, in standard deviations of the logits


class Rejected(Exception):
    """A seed whose numbers leave a cut too narrow for two float32 implementations to agree."""


def ids_of(case: Case, recipe: Recipe, seed: int) -> list[int]:
    draw = random.Random(f"{seed} {case.name}")
    tokens = draw.sample(range(recipe.vocab), case.distinct) if case.distinct else range(recipe.vocab)
    return [draw.choice(tokens) for _ in range(case.length)]


def log_probabilities(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """ln p of every id but the first, given those before it: [len(ids) - 1]."""
    table = torch.log_softmax(logits[:-1].double(), dim=-1)
    return table.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].float()


def round_to(value: float, digits: int) -> float:
    return value if isinstance(value, int) else float(f"{value:.{digits}g}")


def mixes(recipe: Recipe, routing: str) -> bool:
    """Whether a token's logits depend on the other tokens of its call."""
    return recipe.moe and routing == "reference"


class Plain:
    """transformers without any patch, where it is right by itself: shows that the patches change nothing else."""

    def __init__(self, folder: Path) -> None:
        # A new model for every case, since upstream's dynamic RoPE remembers the longest text it has seen.
        self.model = transformers.DogeForCausalLM.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        )

    @staticmethod
    def is_right(fixture: Fixture, case: Case, routing: str) -> bool:
        """LEGACY does not load, index bug and clean routing exist only patched, beyond a window ties fall by chance."""
        recipe = fixture.recipe
        patched = recipe.layout == "legacy" or fixture.index_bug or (recipe.moe and routing == "per-token")
        return not patched and case.length + case.greedy <= recipe.window

    def run(self, ids: list[int], calls: list[int]) -> torch.Tensor:
        cache, rows, start = transformers.DynamicCache(config=self.model.config), [], 0
        with torch.no_grad():
            for length in calls:
                part = torch.tensor([ids[start : start + length]])
                rows.append(self.model(input_ids=part, past_key_values=cache, use_cache=True).logits[0])
                start += length
        return torch.cat(rows)

    def greedy(self, ids: list[int], count: int) -> list[int]:
        prompt = torch.tensor([ids])
        out = self.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count, eos_token_id=None
        )
        return out[0, len(ids) :].tolist()


class Writer:
    """Float32 arrays one behind the other in golden.bin."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.floats = 0

    def add(self, tensor: torch.Tensor) -> dict:
        values = tensor.detach().to(torch.float32).contiguous()
        assert bool(torch.isfinite(values).all())
        entry = {"offset": self.floats, "shape": list(values.shape)}
        self.parts.append(values.numpy().astype("<f4").tobytes())
        self.floats += values.numel()
        return entry


def record(fixture: Fixture, case: Case, folder: Path, seed: int, writer: Writer, gaps: dict) -> dict:
    """Runs a case, checks its cuts, and stores what it says."""
    recipe = fixture.recipe
    routing = case.routing or "reference"
    ids = ids_of(case, recipe, seed)
    oracle = Oracle(folder, routing, fixture.index_bug)

    def see() -> None:
        witness = oracle.witness
        gaps["window"] = min(gaps["window"], witness.window_gap)
        gaps["experts"] = min(gaps["experts"], witness.expert_gap)
        gaps["windowTies"] += witness.window_ties
        undecided = witness.undecided(SELECTION_GAP)
        if undecided is not None:
            raise Rejected(f"{case.name}: a cut at position {undecided} is narrower than {SELECTION_GAP:.0e}.")

    entry: dict = {"name": case.name, **({"routing": routing} if recipe.moe else {}), "ids": ids}
    plain = Plain(folder) if Plain.is_right(fixture, case, routing) else None
    if case.greedy:
        new, margins = oracle.greedy(ids, case.greedy)
        see()
        gaps["argmax"] = min(gaps["argmax"], min(margins))
        if min(margins) < ARGMAX_GAP:
            raise Rejected(f"{case.name}: argmax margin {min(margins):.1e} against {ARGMAX_GAP:.0e}.")
        if plain and plain.greedy(ids, case.greedy) != new:
            raise AssertionError(f"{fixture.name}, {case.name}: transformers' generate() continues differently.")
        return {**entry, "greedy": new, "margins": [round_to(margin, 4) for margin in margins]}

    calls = case.calls or [case.length]
    logits = oracle.run(ids, calls)
    see()
    kept = dict(oracle.witness.tensors)
    std = float(logits.std())

    def agree(name: str, other: torch.Tensor) -> None:
        apart = float((logits - other).abs().max()) / std
        gaps[name] = max(gaps[name], apart)
        if apart > AGREEMENT:
            raise Rejected(f"{case.name}: {name} logits differ by {apart:.1e} against {AGREEMENT:.0e}.")

    if len(calls) > 1 and not mixes(recipe, routing):
        agree("decode", oracle.run(ids))
        see()
    if plain:
        agree("unpatched", plain.run(ids, calls))
    entry["calls"] = calls
    entry["logitsFrom"] = case.keep_from
    entry["logitsStd"] = round_to(std, 6)
    arrays = {"logits": writer.add(logits[case.keep_from :])}
    if case.score:
        arrays["score"] = writer.add(log_probabilities(logits, ids))
    if case.inspect:
        assert len(calls) == 1
        for layer in range(case.inspect):
            for kind in ("bias", "value"):
                name = f"layers.{layer}.{kind}"
                arrays[name] = writer.add(kept[name])
        arrays["hidden"] = writer.add(kept["hidden"])
    return {**entry, "arrays": arrays}


def text_of(golden: dict) -> str:
    """golden.json with one line per field and per case's field, so that lists of ids stay on one line."""
    lines = []
    for key, value in golden.items():
        if key != "cases":
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
            continue
        cases = []
        for case in value:
            fields = ",\n".join(f"      {json.dumps(name)}: {json.dumps(field)}" for name, field in case.items())
            cases.append(f"    {{\n{fields}\n    }}")
        lines.append('  "cases": [\n' + ",\n".join(cases) + "\n  ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def attempt(fixture: Fixture, seed: int, folder: Path) -> dict:
    """Writes the checkpoint and its goldens for one seed; raises Rejected when a cut is too narrow."""
    recipe = fixture.recipe
    write(recipe, seed, folder)
    writer = Writer()
    gaps = {"window": math.inf, "experts": math.inf, "argmax": math.inf, "windowTies": 0, "decode": -1, "unpatched": -1}
    cases = [record(fixture, case, folder, seed, writer, gaps) for case in fixture.cases]
    rounded = {name: None if gap in (math.inf, -1) else round_to(gap, 3) for name, gap in gaps.items()}
    golden = {
        "format": 1,
        "name": fixture.name,
        "purpose": fixture.purpose,
        "seed": seed,
        "made": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
        },
        "layout": {
            "layout": recipe.layout,
            "names": recipe.names,
            "moe": recipe.moe,
            "indexBug": fixture.index_bug,
            "biasHeads": recipe.bias_heads,
            "headDim": recipe.width,
            "window": recipe.window if recipe.layout == "native" else None,
        },
        "gaps": rounded,
        "cases": cases,
    }
    (folder / "golden.bin").write_bytes(b"".join(writer.parts))
    (folder / "golden.json").write_text(text_of(golden))
    return rounded


def make(fixture: Fixture, target: Path) -> None:
    """Writes a fixture into target/<name>, from the first seed at or after its own that passes every check."""
    for seed in range(fixture.seed, fixture.seed + 100):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / fixture.name
            try:
                gaps = attempt(fixture, seed, folder)
            except Rejected as reason:
                print(f"{fixture.name}: seed {seed} rejected: {reason}", flush=True)
                continue
            shutil.rmtree(target / fixture.name, ignore_errors=True)
            shutil.copytree(folder, target / fixture.name)
        size = sum(file.stat().st_size for file in (target / fixture.name).iterdir())
        said = ", ".join(f"{name} {gap}" for name, gap in gaps.items())
        print(f"{fixture.name}: seed {seed}, {size} bytes; narrowest {said}", flush=True)
        return
    raise SystemExit(f"{fixture.name}: none of 100 seeds leaves wide enough gaps.")
