"""The keep window of Doge's dynamic mask with a fixed rule for ties, for training, evaluation and golden texts.

transformers chooses the keys a query row keeps with torch.topk, which leaves the order of equal values unspecified. Ties are
ordinary here: equal tokens have equal biases in layer 0, and every bias is 1 while A is 0. The runtime's rule is that among
equal biases the most recent key stays. A key is kept, then, when fewer than `keep` visible keys stand above it, and key i
stands above key j when bias_i > bias_j, or bias_i = bias_j and i > j. Counting them needs no sort.
"""

import torch
from transformers.models.doge import modeling_doge


def kept_by_counting(bias, queries, keep):
    """Which keys each row keeps. bias [B, KV, S] of all keys; the rows are the last `queries` positions. -> bool [B, KV, queries, S]."""
    positions = torch.arange(bias.shape[-1])
    later = positions[:, None] > positions[None, :]
    above = (bias[..., :, None] > bias[..., None, :]) | ((bias[..., :, None] == bias[..., None, :]) & later)
    # above[.., i, j] counts for row r as soon as key i is visible to it, that is for r >= i: a running count over i.
    count = above.cumsum(-2, dtype=torch.int16)[..., -queries:, :]
    return count < keep


def kept_by_sorting(row_bias, keep):
    """The same choice as a descending stable sort of the flipped rows. row_bias [.., S], unseen keys at finfo.min. -> bool [.., S]."""
    last = row_bias.shape[-1] - 1
    order = torch.sort(row_bias.flip(-1), dim=-1, descending=True, stable=True).indices[..., :keep]
    return torch.zeros_like(row_bias, dtype=torch.bool).scatter(-1, last - order, True)


def prepare_dynamic_mask(self, hidden_states, dt_states, keep_window_size, attention_mask):
    """DogeAttention.prepare_dynamic_mask with the tie rule: [B, KV, T, S] of biases, finfo.min where a key is not seen."""
    lowest = torch.finfo(hidden_states.dtype).min
    rows, keys = hidden_states.shape[1], dt_states.shape[-1]
    mask = dt_states[:, :, None, :].expand(-1, -1, rows, -1)
    # Eager attention always gets a causal mask, boolean or additive.
    seen = attention_mask[..., :keys]
    hidden = ~seen if seen.dtype == torch.bool else seen != 0
    if keys > keep_window_size:
        hidden = hidden | ~kept_by_counting(dt_states.detach(), rows, keep_window_size)
    return mask.masked_fill(hidden, lowest)


def install():
    """Replaces the method in transformers for this process."""
    modeling_doge.DogeAttention.prepare_dynamic_mask = prepare_dynamic_mask
