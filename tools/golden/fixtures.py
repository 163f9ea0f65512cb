"""The committed fixtures: which checkpoints, and which runs of each."""

from dataclasses import dataclass, replace

from golden.checkpoint import Recipe


@dataclass
class Case:
    """One run of a fixture. `length` ids in calls of the given lengths, or a greedy continuation of a prompt."""

    name: str
    length: int
    calls: list[int] | None = None  # None: all ids in one call
    keep_from: int = 0  # logits are stored from this position on
    greedy: int = 0  # new tokens; then no logits are stored
    routing: str | None = None
    score: bool = False
    inspect: int = 0  # layers whose biases and values are stored, with the final hidden states
    distinct: int | None = None  # ids come from so few tokens that they repeat


@dataclass
class Fixture:
    name: str
    purpose: str
    recipe: Recipe
    cases: list[Case]
    seed: int
    index_bug: bool = False


def decode(name: str, prompt: int, steps: int, **options) -> Case:
    """A prompt in one call, then token by token; logits from the prompt's last position on."""
    calls = [prompt] + [1] * steps
    return Case(name, prompt + steps, calls, keep_from=prompt - 1, **options)


NATIVE = Fixture(
    "native",
    "The NATIVE layout, grouped heads, tied head, default RoPE with another theta; the window is wider than any text.",
    Recipe(rope={"rope_type": "default", "rope_theta": 40000.0}),
    [
        Case("prefill", 40, score=True, inspect=2),
        Case("one-token", 1),
        decode("decode", 5, 11),
        Case("greedy", 8, greedy=24),
    ],
    seed=100,
)

WINDOW_CASES = [
    Case("length-w", 24, distinct=9),
    Case("length-w-plus-1", 25, distinct=9),
    Case("length-2w", 48, distinct=12),
    Case("length-90", 90, distinct=14, score=True, inspect=2),
    decode("decode", 20, 34, distinct=10),
    Case("greedy", 30, greedy=24, distinct=12),
]
WINDOW = Fixture(
    "window",
    "A keep window of 24 far below the texts, whose tokens repeat: exact ties at the cut in layer 0.",
    Recipe(vocab=64, window=24, dtypes=("f16",)),
    WINDOW_CASES,
    seed=200,
)
WINDOW_ZERO = Fixture(
    "window-zero",
    "As `window`, but A is exactly 0 for one bias head of each layer: every key ties, a plain sliding window.",
    Recipe(vocab=64, window=24, dtypes=("bf16",), zero_a=((0, 0), (1, 1))),
    [
        Case("length-2w", 48, inspect=2),
        Case("length-70", 70, distinct=14, score=True),
        decode("decode", 20, 30, distinct=10),
        Case("greedy", 30, greedy=24),
    ],
    seed=300,
)

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 2048}
LEGACY = Fixture(
    "legacy",
    "The LEGACY layout under its old names, with an early config and the inv_freq buffer of old files. "
    "keep_window_size is 8, and still no key may be dropped.",
    Recipe(
        layout="legacy", names="old", config_style="early", window=8, rope=DYNAMIC, max_positions=128,
        rotary_buffer=True,
    ),
    [
        Case("prefill", 40, score=True, inspect=2, distinct=20),
        Case("one-token", 1),
        decode("decode", 5, 15),
        Case("greedy", 12, greedy=24),
    ],
    seed=400,
)
LEGACY_NEW_NAMES = Fixture(
    "legacy-new-names",
    "The LEGACY layout under new names, bf16, gates spelled with `.weight`, a head that copies the embedding.",
    Recipe(
        layout="legacy", config_style="v4", window=16, rope=DYNAMIC, max_positions=128, dtypes=("bf16",),
        head_copy=True, residual_suffix=".weight",
    ),
    [
        Case("prefill", 32, score=True, inspect=1),
        decode("decode", 6, 10),
        Case("greedy", 9, greedy=24),
    ],
    seed=500,
)


def both_routings(cases: list[Case]) -> list[Case]:
    """Every case under `reference` and under `per-token` routing, on the same ids."""
    return [replace(case, routing=routing) for case in cases for routing in ("reference", "per-token")]


MOE = Fixture(
    "moe",
    "NATIVE-MoE, 64 experts, 4 per token, both routings; prompts of odd and even length, decoding, and a split prompt.",
    Recipe(moe=True, dtypes=("bf16",)),
    both_routings(
        [
            Case("prefill-odd", 13),
            Case("prefill-even", 20, score=True, inspect=1),
            Case("one-token", 1),
            decode("decode", 9, 7),
            Case("calls", 16, [6, 5, 1, 4]),
            Case("greedy", 11, greedy=24),
        ]
    ),
    seed=600,
)
LEGACY_MOE = Fixture(
    "legacy-moe",
    "LEGACY-MoE under old names with router_gate, norm_topk_prob on, and 18 experts of which a 4 x 4 grid reaches 16.",
    Recipe(
        layout="legacy", moe=True, names="old", config_style="v4", rope=DYNAMIC, max_positions=128, window=8,
        experts=18, experts_per_token=5, norm_topk_prob=True, hidden=24, heads=2, kv_heads=1,
    ),
    both_routings([Case("prefill", 15, score=True, inspect=1), decode("decode", 6, 6), Case("greedy", 8, greedy=24)]),
    seed=700,
)
INDEX_BUG = Fixture(
    "moe-index-bug",
    "LEGACY-MoE of March and April 2025: expert id = position in the sorted grid. Rows outside the 8 positions that "
    "4 of 64 can reach are as small as initialisation left them.",
    Recipe(
        layout="legacy", moe=True, index_bug=True, names="old", config_style="early", rope=DYNAMIC, max_positions=128,
        dtypes=("bf16",),
    ),
    both_routings([Case("prefill", 15, score=True, inspect=1), decode("decode", 6, 6), Case("greedy", 8, greedy=24)]),
    seed=800,
    index_bug=True,
)
ODD = Fixture(
    "odd",
    "Awkward sizes: hidden 37, 6 heads on 3 of 10 values each (H x D is not hidden), intermediate 45, vocabulary 131; "
    "all biases, untied head, eps 1e-5, keep window 17, two shards of which one is f16.",
    Recipe(
        vocab=131, hidden=37, intermediate=45, heads=6, kv_heads=3, head_dim=10, window=17, bias=True, tied=False,
        eps=1e-5, dtypes=("f32", "f16"),
    ),
    [
        Case("prefill", 14, score=True, inspect=2),
        Case("beyond-window", 40, distinct=16),
        decode("decode", 12, 18),
        Case("greedy", 7, greedy=24),
    ],
    seed=900,
)
ROPE = Fixture(
    "rope",
    "Dynamic RoPE x4 beyond max_position_embeddings = 32 (original_max_position_embeddings, 16, plays no part).",
    Recipe(
        vocab=64, max_positions=32, window=2048,
        rope={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16},
        dtypes=("f16",),
    ),
    [
        Case("within", 32),
        replace(decode("decode-beyond", 10, 70), keep_from=0),
        decode("from-the-edge", 32, 12),
        Case("greedy", 20, greedy=24),
    ],
    seed=1000,
)
ROPE_LINEAR = Fixture(
    "rope-linear",
    "Linear RoPE scaling x4 in a v4 config, one key and value head for all queries.",
    Recipe(
        vocab=64, config_style="v4", kv_heads=1, layers=1,
        rope={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}, dtypes=("bf16",),
    ),
    [Case("prefill", 48, score=True), decode("decode", 20, 6), Case("greedy", 8, greedy=24)],
    seed=1100,
)

FIXTURES = [
    NATIVE, WINDOW, WINDOW_ZERO, LEGACY, LEGACY_NEW_NAMES, MOE, LEGACY_MOE, INDEX_BUG, ODD, ROPE, ROPE_LINEAR,
]
