"""Makes the goldens of generation: what transformers' own processors, streamer and generate() do.

  python tools/generation.py processors   random logits through the processors: which ids are left, and how likely
  python tools/generation.py streamer     what TextStreamer prints, piece by piece
  python tools/generation.py greedy       greedy ids of generate() under processors, on committed fixtures

The processors are those that transformers puts together for a GenerationConfig, in its order. They run in float64, and
a row where float32 keeps another set is left out: a cut lies within rounding there, and either answer is right.
"""

import argparse
import json
import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, GenerationConfig, TextStreamer
from transformers.generation.utils import GenerationMixin

from golden.oracle import Oracle
from golden.record import SELECTION_GAP

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "packages" / "core" / "test"
FIXTURES = ROOT / "packages" / "conformance" / "fixtures"
VOCABULARY = 48
ROWS = 2600
CUTS = ("top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def pcg3d(x: np.ndarray, y: int, z: int) -> np.ndarray:
    """First word of the hash of core's noise (Jarzynski and Olano 2020), so that a test makes the same logits."""
    x, y, z = (np.asarray(value, dtype=np.uint32) * np.uint32(1664525) + np.uint32(1013904223) for value in (x, y, z))
    x = x + y * z
    y = y + z * x
    z = z + x * y
    x, y, z = (value ^ (value >> np.uint32(16)) for value in (x, y, z))
    return x + y * z


def row_logits(row: int, scale: float) -> np.ndarray:
    """[vocabulary] float32: a sum of three uniform numbers, so that a few ids lead and most lie close together."""
    ids = np.arange(VOCABULARY)
    with np.errstate(over="ignore"):
        parts = [(pcg3d(ids, row, seed) >> np.uint32(8)).astype(np.float64) / 2**24 for seed in (1, 2, 3)]
    return (scale * (parts[0] + parts[1] + parts[2] - 1.5)).astype(np.float32)


def draw_options(draw: random.Random) -> dict:
    """Options by transformers' names; each is there with a probability, so that they meet alone and in company."""

    def some(most: int) -> list[int]:
        return draw.sample(range(VOCABULARY), draw.randint(1, most))

    def word(lengths: list[int]) -> list[int]:
        return draw.sample(range(12), draw.choice(lengths))

    makers = {
        "temperature": lambda: draw.choice([0.3, 0.7, 0.8, 1.5, 3.0]),
        "top_k": lambda: draw.choice([1, 2, 5, 20, 47, 48, 100]),
        "top_p": lambda: draw.choice([0.0, 0.1, 0.5, 0.9, 0.95, 0.999]),
        "min_p": lambda: draw.choice([0.01, 0.05, 0.2, 0.7, 1.0]),
        # At 1 the whole entropy is compared with itself.
        "top_h": lambda: draw.choice([0.1, 0.4, 0.8, 0.97]),
        "typical_p": lambda: draw.choice([0.05, 0.2, 0.5, 0.9, 0.99]),
        "epsilon_cutoff": lambda: draw.choice([3e-4, 0.01, 0.05, 0.3, 0.9]),
        "eta_cutoff": lambda: draw.choice([3e-4, 0.01, 0.05, 0.3, 0.9]),
        "repetition_penalty": lambda: draw.choice([0.5, 1.1, 1.3, 2.0]),
        "no_repeat_ngram_size": lambda: draw.randint(1, 4),
        "bad_words_ids": lambda: [word([1, 1, 2, 3]) for _ in range(draw.randint(1, 6))],
        "sequence_bias": lambda: [[word([length]), draw.choice([-5.0, -1.5, 2.0, 6.0])] for length in (1, 2, 3)],
        "min_length": lambda: draw.randint(1, 20),
        "min_new_tokens": lambda: draw.randint(1, 12),
        "suppress_tokens": lambda: some(20),
        "begin_suppress_tokens": lambda: some(20),
        "exponential_decay_length_penalty": lambda: [draw.randint(0, 6), draw.choice([1.02, 1.2, 1.5])],
        "forced_bos_token_id": lambda: draw.randrange(VOCABULARY),
        "forced_eos_token_id": lambda: draw.choice([5, [5, 9]]),
    }
    share = 0.4 if draw.random() < 0.3 else 0.12
    options = {}
    for name, make in makers.items():
        if draw.random() < (0.04 if name.startswith("forced") else share):
            options[name] = make()
    if {"forced_bos_token_id", "forced_eos_token_id"} & options.keys():
        options.pop("suppress_tokens", None)  # transformers refuses to do both
    return options


def processed(
    options: dict, ids: list[int], prompt: int, eos: list[int], end: int, logits: torch.Tensor
) -> torch.Tensor:
    """[vocabulary] scores after every processor of transformers for these options, -inf where an id is left out."""
    neutral = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_beams": 1}
    config = GenerationConfig(**{**neutral, **options, "max_length": end})
    config._eos_token_tensor = torch.tensor(eos) if eos else None
    if not eos and config.exponential_decay_length_penalty is not None:
        raise ValueError("transformers needs an eos id here")
    model = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=False))
    model._merge_criteria_processor_list = GenerationMixin._merge_criteria_processor_list.__get__(model)
    processors = GenerationMixin._get_logits_processor(model, config, prompt, device="cpu")
    return processors(torch.tensor([ids]), logits[None])[0]


def camel(options: dict) -> dict:
    """Option names as core has them."""
    return {re.sub("_(.)", lambda match: match[1].upper(), name): value for name, value in options.items()}


def processors() -> None:
    draw = random.Random(20)
    # Rows that are masked as a whole must come out as not a number, not as an exception.
    torch.distributions.Distribution.set_default_validate_args(False)
    rows, numbers, skipped, row = [], [], 0, 0
    while len(rows) < ROWS:
        row += 1
        options = draw_options(draw)
        if not options:
            continue
        length = draw.choice([1, 2, 3, 6, 12, 30])
        ids = [draw.randrange(12) for _ in range(length)]
        prompt = draw.randint(1, length)
        eos = draw.choice([[5], [5, 9], [2, 30, 31]])
        end = draw.choice([length + 1, length + 8])
        scale = draw.choice([2.0, 4.0, 8.0, 14.0])
        logits = torch.from_numpy(row_logits(row, scale))
        single = processed(options, ids, prompt, eos, end, logits)
        double = processed(options, ids, prompt, eos, end, logits.double())
        kept = double > -torch.inf
        # Also no number: -inf for an early end of text plus the +inf by which the length penalty raises it.
        if not kept.any() or double.isnan().any():
            continue
        if not torch.equal(kept, single > -torch.inf):
            skipped += 1
            continue
        uncut = {name: value for name, value in options.items() if name not in CUTS}
        before = processed(uncut, ids, prompt, eos, end, logits)
        dropped = before[~kept & (before > -torch.inf)]
        if torch.isin(dropped, before[kept]).any():
            continue  # a cut through equals: upstream leaves it to the order of a sort
        rows.append([row, scale, ids, prompt, eos, end, camel(options)])
        mask = np.packbits(kept.numpy().astype(np.uint8), bitorder="little").tobytes()
        numbers.append(mask + double.softmax(-1)[kept].numpy().astype("<f4").tobytes())
    if skipped > ROWS / 20:
        raise AssertionError(f"{skipped} rows were left out.")
    torch_version = torch.__version__.split("+")[0]
    source = f"transformers {transformers.__version__}, torch {torch_version}, {skipped} rows left out"
    lines = ",\n".join(json.dumps(line, separators=(",", ":")) for line in rows)
    head = json.dumps({"source": source, "vocabulary": VOCABULARY})[:-1]
    (CORE / "sampling/fixtures/processors.json").write_text(f'{head}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    (CORE / "sampling/fixtures/processors.bin").write_bytes(b"".join(numbers))
    print(source, [sum(name in line[6] for line in rows) for name in ("topP", "typicalP", "noRepeatNgramSize")])


class Collected(TextStreamer):
    """Keeps what it would print."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.said = []

    def on_finalized_text(self, text, stream_end=False):
        if text or stream_end:
            self.said.append([text, stream_end])


TEXTS = [
    "Hello there, how are you doing today?\nI am fine, thank you.\n\nBye",
    "One two three  four   ",
    "\n\n  indented\n",
    "你好,世界。今天 good\n中文 and 日本語のテキスト and more",
    "emoji 😀👍🏽 in the middle, and at the end 😀",
    "𠀀𪜀 rare ideographs 豈 compatibility",
    "",
    "no space",
    "ÄÖÜ naïve café — dash… ",
]


def streamer() -> None:
    folder = CORE / "text/fixtures"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    draw = random.Random(4)
    cases = []
    for skip_prompt in (False, True):
        for skip_special in (False, True):
            # Two answers in a row: what is skipped or kept must begin anew.
            for text in TEXTS:
                stream = Collected(tokenizer, skip_prompt=skip_prompt, skip_special_tokens=skip_special)
                puts = []
                for answer in (text, draw.choice(TEXTS)):
                    prompt = tokenizer.encode("What is it? " + draw.choice(TEXTS))
                    ids = tokenizer.encode(answer, add_special_tokens=False) + [tokenizer.eos_token_id]
                    steps = [prompt, *([token] for token in ids)]
                    for step in steps:
                        stream.put(torch.tensor(step))
                    stream.end()
                    puts.append(steps)
                flags = {"skipPrompt": skip_prompt, "skipSpecialTokens": skip_special}
                cases.append({**flags, "answers": puts, "said": stream.said})
    source = f"transformers {transformers.__version__}, TextStreamer"
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    head = json.dumps({"source": source})[:-1]
    (CORE / "text/fixtures/streamer.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(source, len(cases))


def greedy_options(free: list[int], eos: int) -> list[dict]:
    """Options around what the model writes without any, so that they matter."""
    return [
        {},
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3},
        {"suppress_tokens": sorted(set(free[:4]))},
        {"begin_suppress_tokens": free[:1]},
        {"bad_words_ids": [[free[0]], free[1:3], free[3:6]]},
        {"eos_token_id": free[2]},
        {"eos_token_id": free[2], "min_new_tokens": 9},
        {"eos_token_id": [free[1], free[4]], "min_length": 14},
        {"forced_eos_token_id": eos},
        {"eos_token_id": free[-1], "exponential_decay_length_penalty": [3, 1.3]},
        {"sequence_bias": [[[free[0]], -4.0], [[free[1], free[2]], 3.0]]},
        {
            "repetition_penalty": 1.2,
            "no_repeat_ngram_size": 2,
            "suppress_tokens": free[5:7],
            "bad_words_ids": [[free[1]]],
            "eos_token_id": free[0],
            "min_new_tokens": 5,
        },
    ]


def greedy() -> None:
    count = 20
    for name in ("native", "legacy", "window"):
        oracle = Oracle(FIXTURES / name)
        own = oracle.config.eos_token_id
        cases = []
        for seed in (1, 2):
            draw = random.Random(seed)
            prompt = [draw.randrange(3, oracle.config.vocab_size) for _ in range(8)]
            free, _ = oracle.greedy(prompt, count)
            for options in greedy_options(free, own):
                settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": count, "pad_token_id": 2}
                config = GenerationConfig(**settings, **{"eos_token_id": own, **options})
                with oracle._fresh() as cache:
                    out = oracle.model.generate(
                        torch.tensor([prompt]),
                        generation_config=config,
                        past_key_values=cache,
                        output_scores=True,
                        output_logits=True,
                        return_dict_in_generate=True,
                    )
                if oracle.witness.undecided(SELECTION_GAP) is not None:
                    raise AssertionError(f"{name}, {options}: a cut of the window is narrower than {SELECTION_GAP:.0e}.")
                ids = out.sequences[0, len(prompt):].tolist()
                margins = []
                for scores, logits in zip(out.scores, out.logits):
                    best = scores[0].topk(2).values
                    gap = float((best[0] - best[1]) / logits[0].std())
                    margins.append(round(min(gap, 1e3), 6))
                cases.append({"prompt": prompt, "options": camel(options), "ids": ids, "margins": margins})
        source = f"transformers {transformers.__version__}, generate(), eager, float32, greedy, {count} new tokens"
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        head = json.dumps({"source": source, "maxNewTokens": count})[:-1]
        (FIXTURES / name / "generation.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
        print(name, len(cases), "cases, smallest margin", min(min(case["margins"]) for case in cases))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["processors", "streamer", "greedy"])
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    {"processors": processors, "streamer": streamer, "greedy": greedy}[parser.parse_args().what]()


if __name__ == "__main__":
    main()
