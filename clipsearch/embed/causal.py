"""Causal text towers of open_clip, run on as many positions as a text has.

The same steps as open_clip's own ``encode_text``, which adds the position embeddings at full length and so cannot be
given fewer tokens. What stands behind the end mark is masked for everything before it, and only the end mark's
position is read: cutting there is exact.
"""

from typing import Any

import torch

_PARTS = ("token_embedding", "positional_embedding", "transformer", "ln_final", "attn_mask", "text_projection")
_MODELS = ("CLIP", "CustomTextCLIP")  # others, such as CoCa, do more in encode_text than these steps


class CausalText(torch.nn.Module):
    """A causal text tower.

    Attributes:
        pool: how the end mark is found, see ``lengths.end_marks``.
        eos: id of the end mark, where ``pool`` is "eos".
    """

    def __init__(self, tower: Any, pool: str, eos: int | None) -> None:  # Any: CLIP or TextTransformer
        super().__init__()
        self._tower = tower
        self.pool, self.eos = pool, eos

    def forward(self, words: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Run the tower on token embeddings (B, T, W); its answer at positions ``last`` (B,) → (B, D)."""
        tower, length = self._tower, words.shape[1]
        x = words + tower.positional_embedding[:length].to(words.dtype)
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        x = tower.ln_final(x[torch.arange(x.shape[0], device=x.device), last])
        if tower.text_projection is None:
            return x
        linear = isinstance(tower.text_projection, torch.nn.Linear)
        return tower.text_projection(x) if linear else x @ tower.text_projection

    def encode(self, tokens: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Run the tower on token ids (B, T)."""
        tower = self._tower
        return self(tower.token_embedding(tokens).to(tower.transformer.get_cast_dtype()), last)

    def table(self) -> torch.Tensor:
        """Return the embeddings of all tokens (V, W)."""
        return self._tower.token_embedding.weight


def causal_text(model: Any) -> CausalText | None:  # Any: CLIP, CustomTextCLIP or CoCa share no typed base
    """Return the text tower of a model as one that may be cut; None where cutting would change its answer."""
    tower = getattr(model, "text", model)
    pool = getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", None)
    if type(model).__name__ not in _MODELS or not all(hasattr(tower, part) for part in _PARTS):
        return None
    if pool not in ("argmax", "eos") or getattr(tower, "cls_emb", None) is not None:
        return None
    if tower.attn_mask is None or getattr(tower, "use_pad_mask", False) or not _is_causal(tower.attn_mask):
        return None
    eos = getattr(tower, "text_eos_id", None) if tower is model else getattr(tower, "eos_id", None)
    return CausalText(tower, pool, eos if pool == "eos" else None)


def _is_causal(mask: torch.Tensor) -> bool:
    """Say whether no position may look behind itself."""
    above = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool((mask[above] == float("-inf")).all()) and not bool(mask[~above].any())
