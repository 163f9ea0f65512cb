"""Seeded Doge checkpoints of every published layout, written to disk the way their generation wrote them.

Sources: transformers 5.18.0 `models/doge` (NATIVE names and config), SmallDoges/small-doge `models/doge` at 42e5a63,
8eec8cc and 14d9f90 (LEGACY names, config keys, expert forms).
"""

import json
import math
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@dataclass
class Recipe:
    """Everything about a checkpoint but the seed."""

    layout: str = "native"  # native | legacy: width of A and dt_proj, norms of query and key
    moe: bool = False
    index_bug: bool = False  # weights as training with expert id = grid position leaves them
    names: str = "new"  # new | old tensor names
    config_style: str = "v5"  # v5: rope_parameters; v4: rope_theta and rope_scaling; early: v4 with hidden_bias
    vocab: int = 128
    hidden: int = 32
    intermediate: int = 48
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int | None = None  # None: hidden / heads, and no key in config.json
    max_positions: int = 256
    window: int = 256
    rope: dict = field(default_factory=lambda: {"rope_type": "default", "rope_theta": 10000.0})
    bias: bool = False
    tied: bool = True
    head_copy: bool = False  # tied, yet lm_head.weight stands in the file
    eps: float = 1e-6
    experts: int = 64
    experts_per_token: int = 4
    norm_topk_prob: bool = False
    dtypes: tuple[str, ...] = ("f32",)  # one per shard
    rotary_buffer: bool = False  # the inv_freq buffer that old files carry
    residual_suffix: str = ""  # ".weight": the spelling of a converter for the two gates
    zero_a: tuple[tuple[int, int], ...] = ()  # (layer, bias head) whose A is exactly 0: a sliding window

    @property
    def width(self) -> int:
        """Values per head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def bias_heads(self) -> int:
        return self.heads if self.layout == "legacy" else self.kv_heads


def used_by_index_bug(keys: int, top_k: int) -> torch.Tensor:
    """Which of the keys x keys grid positions the index-bug form can ever pick: (rank x + 1)(rank y + 1) <= top_k."""
    ranks = torch.arange(1, keys + 1)
    return (ranks[:, None] * ranks[None, :] <= top_k).reshape(-1)


def weights(recipe: Recipe, seed: int) -> dict[str, torch.Tensor]:
    """Random float32 tensors under canonical (NATIVE) names, scaled so that every part of the forward pass matters."""
    generator = torch.Generator().manual_seed(seed)
    d, f, D = recipe.hidden, recipe.intermediate, recipe.width

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * std

    def uniform(*shape: int, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    def signs(*shape: int, negative: float) -> torch.Tensor:
        return 1.0 - 2.0 * (torch.rand(*shape, generator=generator) < negative)

    tensors: dict[str, torch.Tensor] = {}

    def linear(name: str, out: int, inner: int, gain: float = 1.0, bias: bool = recipe.bias) -> None:
        tensors[f"{name}.weight"] = normal(out, inner, std=gain / math.sqrt(inner))
        if bias:
            tensors[f"{name}.bias"] = normal(out, std=0.3)

    def norm(name: str, size: int) -> None:
        tensors[f"{name}.weight"] = 1.0 + normal(size, std=0.2)

    tensors["model.embed_tokens.weight"] = normal(recipe.vocab, d, std=0.3)
    for index in range(recipe.layers):
        layer = f"model.layers.{index}"
        norm(f"{layer}.input_layernorm", d)
        # Trained gates lie around 1 with a few negative entries (measured by others on Doge-260M).
        tensors[f"{layer}.input_residual"] = uniform(d, low=0.5, high=1.5) * signs(d, negative=0.03)
        attention = f"{layer}.self_attn"
        linear(f"{attention}.q_proj", recipe.heads * D, d)
        linear(f"{attention}.k_proj", recipe.kv_heads * D, d)
        linear(f"{attention}.v_proj", recipe.kv_heads * D, d)
        linear(f"{attention}.o_proj", d, recipe.heads * D)
        n = recipe.bias_heads
        tensors[f"{attention}.A"] = uniform(n, low=0.1, high=0.3) * signs(n, negative=0.5)
        linear(f"{attention}.dt_proj", n, recipe.kv_heads * D, gain=2.0)
        if recipe.layout == "native":
            norm(f"{attention}.q_norm", D)
            norm(f"{attention}.k_norm", D)
        norm(f"{layer}.post_attention_layernorm", d)
        tensors[f"{layer}.post_attention_residual"] = uniform(d, low=0.5, high=1.5) * signs(d, negative=0.03)
        linear(f"{layer}.mlp.gate_proj", f, d)
        linear(f"{layer}.mlp.up_proj", f, d)
        linear(f"{layer}.mlp.down_proj", d, f)
        if recipe.moe:
            keys = math.floor(math.sqrt(recipe.experts))
            linear(f"{layer}.mlp.router_gate", 2 * keys, d, gain=1.5, bias=False)
            down = normal(recipe.experts, d, std=1.5 / math.sqrt(d))
            up = normal(recipe.experts, d, std=0.5)
            if recipe.index_bug:
                # Rows that training never reached keep their initial N(0, 0.02).
                never = torch.ones(recipe.experts, dtype=torch.bool)
                never[: keys * keys] = ~used_by_index_bug(keys, recipe.experts_per_token)
                down[never] = normal(recipe.experts, d, std=0.02)[never]
                up[never] = normal(recipe.experts, d, std=0.02)[never]
            tensors[f"{layer}.mlp.down_embed.weight"] = down
            tensors[f"{layer}.mlp.up_embed.weight"] = up
    norm("model.norm", d)
    if not recipe.tied:
        tensors["lm_head.weight"] = normal(recipe.vocab, d, std=0.3)
    for layer_index, head in recipe.zero_a:
        tensors[f"model.layers.{layer_index}.self_attn.A"][head] = 0.0
    return tensors


OLD_NAMES = {
    "embed_tokens": "word_embed",
    "model.norm": "model.final_layernorm",
    "input_layernorm": "pre_layernorm",
    "post_attention_layernorm": "post_layernorm",
    "input_residual": "pre_residual.weight",
    "post_attention_residual": "post_residual.weight",
    ".mlp.": ".feed_forward.",
}


def old_name(name: str) -> str:
    """The LEGACY name of a canonical one."""
    for new, old in OLD_NAMES.items():
        name = name.replace(new, old)
    return name


def config(recipe: Recipe) -> dict:
    """config.json as the generation that `config_style` names wrote it."""
    common = {
        "architectures": ["DogeForCausalLM"],
        "model_type": "doge",
        "vocab_size": recipe.vocab,
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.intermediate,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        **({"head_dim": recipe.head_dim} if recipe.head_dim else {}),
        "hidden_act": "silu",
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rms_norm_eps": recipe.eps,
        "max_position_embeddings": recipe.max_positions,
        "keep_window_size": recipe.window,
        "tie_word_embeddings": recipe.tied,
        "use_cache": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "is_moe": recipe.moe,
    }
    if recipe.moe:
        common["num_experts"] = recipe.experts
        common["num_experts_per_tok"] = recipe.experts_per_token
        common["norm_topk_prob"] = recipe.norm_topk_prob
    stored = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[recipe.dtypes[0]]
    if recipe.config_style == "v5":
        return {
            **common,
            "attention_bias": recipe.bias,
            "mlp_bias": recipe.bias,
            "sliding_window": None,
            "rope_parameters": recipe.rope,
            "dtype": stored,
            "transformers_version": "5.18.0",
        }
    scaling = {key: value for key, value in recipe.rope.items() if key != "rope_theta"}
    older = {
        **common,
        "rope_theta": recipe.rope["rope_theta"],
        "rope_scaling": None if recipe.rope["rope_type"] == "default" else scaling,
        "torch_dtype": stored,
    }
    if recipe.config_style == "v4":
        return {
            **older,
            "attention_bias": recipe.bias,
            "mlp_bias": recipe.bias,
            "sliding_window": None,
            "transformers_version": "4.54.0",
        }
    if older["rope_scaling"]:
        # Before "rope_type" the key was "type".
        older["rope_scaling"]["type"] = older["rope_scaling"].pop("rope_type")
    return {
        **older,
        "auto_map": {
            "AutoConfig": "configuration_doge.DogeConfig",
            "AutoModelForCausalLM": "modeling_doge.DogeForCausalLM",
        },
        "dynamic_mask_ratio": 0.0,
        "hidden_bias": recipe.bias,
        "transformers_version": "4.50.0",
    }


def save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(0o644)  # safetensors writes files that only their owner can read


def write(recipe: Recipe, seed: int, folder: Path) -> None:
    """Writes config.json and the safetensors file or files of a recipe into a folder."""
    tensors = weights(recipe, seed)
    if recipe.head_copy:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    if recipe.rotary_buffer:
        steps = torch.arange(0, recipe.width, 2, dtype=torch.float32) / recipe.width
        tensors["model.rotary_emb.inv_freq"] = 1.0 / recipe.rope["rope_theta"] ** steps
    named = {}
    for name, tensor in tensors.items():
        if name.endswith("_residual"):
            name += recipe.residual_suffix
        named[old_name(name) if recipe.names == "old" else name] = tensor

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(recipe), indent=2) + "\n")
    count = len(recipe.dtypes)
    names = list(named)
    if count == 1:
        only = {name: named[name].to(DTYPES[recipe.dtypes[0]]).contiguous() for name in names}
        save(only, folder / "model.safetensors")
        return
    placed, total = {}, 0
    for index, dtype in enumerate(recipe.dtypes):
        part = names[len(names) * index // count : len(names) * (index + 1) // count]
        shard = {name: named[name].to(DTYPES[dtype]).contiguous() for name in part}
        file = f"model-{index + 1:05}-of-{count:05}.safetensors"
        save(shard, folder / file)
        placed.update({name: file for name in part})
        total += sum(tensor.nbytes for tensor in shard.values())
    listing = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listing, indent=2) + "\n")


def varied(recipe: Recipe, seed: int) -> Recipe:
    """The same layout with sizes and options drawn from the seed."""
    draw = random.Random(f"sizes {seed}")
    kv_heads = draw.randint(1, 4)
    rope = {"rope_type": draw.choice(["default", "default", "linear", "dynamic"])}
    rope["rope_theta"] = draw.choice([10000.0, 40000.0, 500.0])
    if rope["rope_type"] != "default":
        rope["factor"] = draw.choice([2.0, 4.0])
    keys = draw.randint(2, 12)
    drawn = {
        "vocab": draw.choice([draw.randint(3, 6), draw.randint(30, 300)]),
        "hidden": draw.randint(12, 96),
        "intermediate": draw.randint(9, 150),
        "layers": draw.randint(1, 3),
        "kv_heads": kv_heads,
        "heads": kv_heads * draw.randint(1, 4),
        "head_dim": 2 * draw.randint(2, 20),
        "window": draw.choice([draw.randint(2, 6), draw.randint(4, 40), 2048]),
        "max_positions": draw.choice([16, 64, 256]) if rope["rope_type"] == "dynamic" else 256,
        "rope": rope,
        # Nobody has seen a MoE with biases, but the config allows them.
        "bias": draw.random() < 0.3,
        "tied": draw.random() < 0.6,
        "eps": draw.choice([1e-6, 1e-5]),
        "experts": keys * keys + draw.choice([0, 0, 1]),
        "experts_per_token": draw.randint(1, min(8, keys * keys - 1)),
        "norm_topk_prob": draw.random() < 0.5,
        "dtypes": tuple(draw.choice(list(DTYPES)) for _ in range(draw.randint(1, 3))),
    }
    return replace(recipe, zero_a=(), head_copy=False, **drawn)
