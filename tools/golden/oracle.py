"""The oracle: transformers' own Doge (eager, float32), patched only where a published checkpoint needs another rule.

Each patch, and nothing else, departs from transformers 5.18.0 `models/doge/modeling_doge.py`:
- LEGACY attention: A and dt_proj per query head, no norms of query and key, no key is ever dropped.
- Ties at the keep window: torch.topk leaves their order open; here, inside the dynamic mask only, the most recent of
  equally biased keys stays (a descending stable sort of the flipped row).
- v_proj, dt_proj, softplus and exp work row by row: torch rounds an element by where it lies in its tensor (number of
  rows, vector or tail of a loop), and then equal tokens would no longer tie exactly.
- Dynamic RoPE beyond max_position_embeddings: every position uses the base of its own position + 1, which is what
  upstream arrives at when it decodes token by token (`rope="upstream"` runs upstream's own).
- `per-token` routing: the router's output is laid out so that upstream's reshape splits it as intended.
- Index bug: the expert id is the position inside the sorted grid (small-doge from ae7abf7 to 14d9f90).
"""

import json
import math
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import DogeConfig, DogeForCausalLM, DynamicCache
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.doge import modeling_doge as upstream

from golden.checkpoint import OLD_NAMES


class Witness:
    """What a run passed through: the narrowest gap at every cut, and the tensors kept for comparing step by step."""

    def __init__(self) -> None:
        self.window_gap = math.inf  # (last kept - first dropped bias) / last kept, exact ties apart
        self.window_ties = 0  # cuts (layer, bias head, row) that fall between exactly equal biases
        self.expert_gap = math.inf  # (last chosen - first left out) / standard deviation of the pair scores
        self.ids: list[int] = []  # all that has been handed over
        self.cuts: list[tuple[int, float]] = []  # (position, gap) of every cut but the ties that a rule decides
        self.tensors: dict[str, torch.Tensor] = {}

    def undecided(self, least: float) -> int | None:
        """The first position with a cut narrower than `least`, where two float32 implementations may part."""
        return min((position for position, gap in self.cuts if gap < least), default=None)

    def see_window(
        self, ordered: torch.Tensor, keys: torch.Tensor, keep: int, lowest: float, layer: int, ones: torch.Tensor
    ) -> None:
        """ordered: [1, heads, rows, S] descending biases of each row, invisible ones at `lowest`; keys: their positions;
        ones: [heads] whose biases are all exactly 1, since A is 0."""
        kept, dropped = ordered[..., keep - 1], ordered[..., keep]
        seen = dropped > lowest
        gaps = ((kept - dropped) / kept)[seen]
        self.window_ties += int((gaps == 0).sum())
        if (gaps > 0).any():
            self.window_gap = min(self.window_gap, float(gaps[gaps > 0].min()))
        _, heads, rows = seen.nonzero(as_tuple=True)
        rows = rows + len(self.ids) - ordered.shape[2]
        places = zip(heads.tolist(), rows.tolist(), keys[..., keep - 1][seen].tolist(), keys[..., keep][seen].tolist())
        for (head, row, last, out), gap in zip(places, gaps.tolist()):
            # In layer 0 equal tokens have bit-equal biases, and the most recent stays. Behind it biases can be equal in exact
            # arithmetic alone: then rounding decides, and equal bits here say nothing of other implementations.
            if not ones[head] and (layer > 0 or self.ids[last] != self.ids[out]):
                self.cuts.append((row, gap))

    def see_experts(self, router: torch.Tensor, top_k: int) -> None:
        """router: [2, R, K] the halves as they are paired."""
        pairs = (router[0][:, :, None] + router[1][:, None, :]).flatten(1)
        if pairs.shape[1] > top_k:
            ordered = pairs.sort(dim=-1, descending=True).values
            gaps = (ordered[:, top_k - 1] - ordered[:, top_k]) / pairs.std()
            self.expert_gap = min(self.expert_gap, float(gaps.min()))
            self.cuts += enumerate(gaps.tolist(), len(self.ids) - len(gaps))


class RowLinear(nn.Linear):
    """A linear map computed row by row, so that equal rows give equal bits in a call of any length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        # The clone puts every row at the same memory alignment, which the product's kernel may depend on.
        out = torch.cat([F.linear(row[None].clone(), self.weight, self.bias) for row in rows])
        return out.reshape(*x.shape[:-1], -1)


def row_by_row(function):
    """The elementwise function applied to each row of the last dimension by itself."""

    def rows(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([function(row[None].clone()) for row in x.reshape(-1, x.shape[-1])]).reshape(x.shape)

    return rows


class NativeAttention(upstream.DogeAttention):
    """Upstream's attention with the tie rule at the keep window."""

    witness: Witness

    def forward(self, *arguments, **options):
        # Inside, upstream calls these two for the bias and for nothing else.
        exp, softplus = row_by_row(torch.exp), row_by_row(F.softplus)
        with mock.patch.object(torch, "exp", exp), mock.patch.object(F, "softplus", softplus):
            return self.attend(*arguments, **options)

    def attend(self, *arguments, **options):
        return super().forward(*arguments, **options)

    def prepare_dynamic_mask(self, hidden_states, dt_states, keep_window_size=2048, attention_mask=None):
        self.witness.tensors[f"layers.{self.layer_idx}.bias"] = dt_states[0]
        lowest = torch.finfo(hidden_states.dtype).min

        def most_recent_first(values, k, dim, largest, sorted):
            assert dim == -1 and largest
            ordered = torch.sort(values.flip(-1), dim=-1, descending=True, stable=True)
            keys = values.shape[-1] - 1 - ordered.indices
            heads = values.shape[1]
            ones = (self.A == 0).repeat_interleave(heads // len(self.A))
            self.witness.see_window(ordered.values, keys, k, lowest, self.layer_idx, ones)
            return SimpleNamespace(indices=keys[..., :k])

        with mock.patch.object(torch, "topk", most_recent_first):
            return super().prepare_dynamic_mask(hidden_states, dt_states, keep_window_size, attention_mask)


class LegacyAttention(NativeAttention):
    """Attention as the LEGACY checkpoints expect it (small-doge 42e5a63 ... 8eec8cc)."""

    def __init__(self, config: DogeConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        inner = config.num_key_value_heads * self.head_dim
        self.A = nn.Parameter(torch.zeros(config.num_attention_heads))
        self.dt_proj = nn.Linear(inner, config.num_attention_heads, bias=config.attention_bias)
        self.q_norm = nn.Identity()
        self.k_norm = nn.Identity()

    def attend(self, hidden_states, position_embeddings, attention_mask=None, past_key_values=None, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_proj(hidden_states).view(shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        query, key = upstream.apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        dt = self.dt_proj(value.transpose(1, 2).reshape(value.shape[0], value.shape[-2], -1))
        bias = torch.exp(self.A * F.softplus(dt)).transpose(-1, -2)
        # The bias is already one per query head, so it is not repeated; a window of S keys drops none.
        mask = self.prepare_dynamic_mask(hidden_states, bias, key.shape[-2], attention_mask)
        out, weights = upstream.eager_attention_forward(self, query, key, value, mask, self.scaling)
        return self.o_proj(out.reshape(*hidden_states.shape[:-1], -1).contiguous()), weights


class PerTokenRouter(nn.Linear):
    """Lays [B, T, 2K] out so that upstream's `.view(2, B * T, K)` finds each token's own two halves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        rows = out.shape[0] * out.shape[1]
        return out.reshape(rows, 2, -1).transpose(0, 1).reshape(out.shape)


class IndexBugExperts(upstream.DogeCDMoE):
    """CDMoE of small-doge ae7abf7 ... 14d9f90: upstream's forward but for the expert ids."""

    def forward(self, hidden_states, **kwargs):
        tokens = hidden_states.shape[0] * hidden_states.shape[1]
        router = self.router_gate(hidden_states).view(2, tokens, -1)
        scores_x, scores_y = router.topk(self.num_keys, dim=-1).values
        grid = (scores_x.unsqueeze(-1) + scores_y.unsqueeze(-2)).flatten(-2)
        scores, indices = grid.topk(self.top_k, dim=-1)  # the position in the sorted grid serves as the id
        routing = F.softmax(scores, dim=-1)
        if self.norm_topk_prob:
            routing = routing / routing.sum(dim=-1, keepdim=True)
        flat = hidden_states.view(tokens, -1, 1)
        chosen = self.act_fn(torch.matmul(self.down_embed(indices), flat).view(tokens, -1)) * routing
        experts = torch.matmul(chosen.view(tokens, 1, -1), self.up_embed(indices)).view(hidden_states.shape)
        dense = self.down_proj(self.act_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))
        return dense + experts, router


class OwnPositionRotary(upstream.DogeRotaryEmbedding):
    """Dynamic RoPE in which position p beyond the trained range uses the base of length p + 1."""

    def forward(self, x, position_ids):
        rows = []
        for position in position_ids[0].tolist():
            inv_freq = self.original_inv_freq
            if position + 1 > self.config.max_position_embeddings:
                length = torch.tensor(position + 1)
                inv_freq, _ = ROPE_INIT_FUNCTIONS["dynamic"](self.config, x.device, seq_len=length)
            rows.append(inv_freq * float(position))
        angles = torch.stack(rows)[None].repeat(1, 1, 2)
        return angles.cos(), angles.sin()


def canonical_name(name: str) -> str:
    """The NATIVE name of a tensor of any generation."""
    for new, old in OLD_NAMES.items():
        name = name.replace(old, new)
    for gate in ("input_residual", "post_attention_residual"):
        name = name.replace(f"{gate}.weight", gate)
    return name


def read_folder(folder: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """config.json and the tensors, in float32 under canonical names, of a single-file or sharded checkpoint."""
    config = json.loads((folder / "config.json").read_text())
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    tensors = {}
    for file in files:
        for name, tensor in load_file(folder / file).items():
            if "rotary_emb" not in name:
                tensors[canonical_name(name)] = tensor.to(torch.float32)
    return config, tensors


class Oracle:
    """A checkpoint folder of any layout, ready to run."""

    def __init__(self, folder: Path, routing: str = "reference", index_bug: bool = False, rope: str = "own") -> None:
        settings, tensors = read_folder(folder)
        if "hidden_bias" in settings:
            settings["attention_bias"] = settings["mlp_bias"] = settings["hidden_bias"]
        for unused in ("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"):
            settings.pop(unused, None)
        self.config = DogeConfig(**settings, attn_implementation="eager")
        self.native = "model.layers.0.self_attn.q_norm.weight" in tensors
        self.rope = rope
        self.witness = Witness()
        model = DogeForCausalLM(self.config).eval()
        attention_class = NativeAttention if self.native else LegacyAttention
        for index, layer in enumerate(model.model.layers):
            attention = attention_class(self.config, index)
            for projection in (attention.v_proj, attention.dt_proj):
                projection.__class__ = RowLinear
            layer.self_attn = attention
            if self.config.is_moe and routing == "per-token":
                layer.mlp.router_gate.__class__ = PerTokenRouter
            if self.config.is_moe and index_bug:
                layer.mlp.__class__ = IndexBugExperts
        if self.config.tie_word_embeddings:
            tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
        model.load_state_dict(tensors, strict=True)
        self.model = model.eval()
        self._watch()

    def _watch(self) -> None:
        def keep(name):
            return lambda module, inputs, output: self.witness.tensors.__setitem__(name, output[0])

        for index, layer in enumerate(self.model.model.layers):
            layer.self_attn.v_proj.register_forward_hook(keep(f"layers.{index}.value"))
            if self.config.is_moe:
                top_k = self.config.num_experts_per_tok
                layer.mlp.register_forward_hook(lambda m, i, output, k=top_k: self.witness.see_experts(output[1], k))
        self.model.model.norm.register_forward_hook(keep("hidden"))
        self.model.model.embed_tokens.register_forward_pre_hook(
            lambda module, inputs: self.witness.ids.extend(inputs[0][0].tolist())
        )

    @contextmanager
    def _fresh(self):
        """A new sequence: nothing remembered from the one before, upstream's growing RoPE base included."""
        self.witness = Witness()
        for layer in self.model.model.layers:
            layer.self_attn.witness = self.witness
        own = self.rope == "own" and self.config.rope_parameters["rope_type"] == "dynamic"
        rotary = OwnPositionRotary if own else upstream.DogeRotaryEmbedding
        self.model.model.rotary_emb = rotary(config=self.config)
        with torch.no_grad():
            yield DynamicCache(config=self.config)

    def _call(self, ids: list[int], cache: DynamicCache) -> torch.Tensor:
        out = self.model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)
        return out.logits[0]

    def run(self, ids: list[int], calls: list[int] | None = None) -> torch.Tensor:
        """Logits [positions, vocab], float32, of ids handed over in calls of the given lengths (default: one call)."""
        calls = calls or [len(ids)]
        assert sum(calls) == len(ids), f"The calls {calls} do not add up to {len(ids)} ids."
        rows, start = [], 0
        with self._fresh() as cache:
            for length in calls:
                rows.append(self._call(ids[start : start + length], cache))
                start += length
        self._check_equal_tokens()
        return torch.cat(rows)

    def greedy(self, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
        """The greedy continuation, without a stop at the end-of-text id, and each step's margin over the second best
        in units of the standard deviation of that step's logits."""
        chosen, margins = [], []
        with self._fresh() as cache:
            logits = self._call(prompt, cache)[-1]
            while True:
                best = logits.topk(2).values
                margins.append(float((best[0] - best[1]) / logits.std()))
                chosen.append(int(logits.argmax()))
                if len(chosen) == count:
                    break
                logits = self._call(chosen[-1:], cache)[-1]
        self._check_equal_tokens()
        return chosen, margins

    def _check_equal_tokens(self) -> None:
        bias = self.witness.tensors["layers.0.bias"]  # [bias heads, S]
        first: dict[int, int] = {}
        for position, token in enumerate(self.witness.ids):
            before = first.setdefault(token, position)
            if not torch.equal(bias[:, before], bias[:, position]):
                raise AssertionError(f"Token {token} has unequal layer 0 biases at positions {before} and {position}.")
