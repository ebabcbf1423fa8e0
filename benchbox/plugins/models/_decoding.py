"""What the families that write text share: greedy decoding, and how far two of them agree. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchbox.plugins.contract import Evidence
from benchbox.schema.tensors import Array, Feeds, Forward, Outputs

STEPS = 8
"""Tokens that are decoded for parity: enough for a wrong step to lead somewhere else, few enough for a big
model."""


def greedy(
    first: Feeds, run: Forward, following: Callable[[Feeds, Outputs, Array], Feeds], steps: int = STEPS
) -> Array:
    """The tokens that greedy decoding gives: int64 of shape (batch, steps).

    Each step runs the feeds, takes the best token of the last position of `logits` (batch, length,
    vocabulary), and asks `following(feeds, outputs, token)`, token of shape (batch, 1), for the next step's
    feeds. It does not stop at an end token, so that all rows are equally long.
    """
    import numpy as np

    feeds, written = first, []
    for _ in range(steps):
        outputs = run(feeds)
        token = np.argmax(outputs["logits"][:, -1, :], axis=-1).astype(np.int64)[:, None]
        written.append(token)
        feeds = following(feeds, outputs, token)
    return np.concatenate(written, axis=1)


def begun(feeds: Feeds) -> Feeds:
    """The feeds with nothing but the first token of each row, from which a text is written anew."""
    return {**feeds, **{name: feeds[name][:, :1] for name in ("input_ids", "attention_mask")}}


def continued(
    feeds: Feeds, run: Forward, following: Callable[[Feeds, Outputs, Array], Feeds] | None = None
) -> Array:
    """The tokens (batch, steps) that greedy decoding writes behind the last real token of each row;
    `following` is `appended` where it is not given. The mask may reach over a past that the logits do not
    have."""

    def last_real(feeds: Feeds) -> Outputs:
        outputs = run(feeds)
        return {**outputs, "logits": _of_last_real(outputs["logits"], feeds["attention_mask"])}

    return greedy(feeds, last_real, following or appended)


def appended(feeds: Feeds, _outputs: Outputs, token: Array) -> Feeds:
    """The feeds with each row's token (batch, 1) behind its last real one, where padding begins."""
    import numpy as np

    ids, mask = feeds["input_ids"], feeds["attention_mask"]
    rows, ends = np.arange(len(ids)), mask.sum(axis=1)
    ids, mask = (np.concatenate([array, np.zeros_like(token)], axis=1) for array in (ids, mask))
    ids[rows, ends] = token[:, 0]
    mask[rows, ends] = 1
    return {**feeds, "input_ids": ids, "attention_mask": mask}


def _of_last_real(logits: Array, mask: Array) -> Array:
    """The logits (batch, 1, vocabulary) of the last token of each row that is no padding."""
    import numpy as np

    last = np.maximum(mask[:, -logits.shape[1] :].sum(axis=1) - 1, 0)
    rows: Array = logits[np.arange(len(last)), last][:, None]
    return rows


def next_token_agreement(evidence: Evidence, mask: Array | None = None) -> Mapping[str, float]:
    """Share of positions at which both `logits` (batch, length, vocabulary) have the same best token, and of
    the greedily decoded `tokens` (batch, steps) that are the same. `mask` (batch, length) says which
    positions count."""
    import numpy as np

    best, other = (np.argmax(o["logits"], axis=-1) for o in (evidence.reference, evidence.candidate))
    counted: Any = np.ones(best.shape, bool) if mask is None else mask.astype(bool)
    found = {"next_token_agreement": float(np.mean((best == other)[counted]))}
    return {**found, **token_agreement(evidence)}


def token_agreement(evidence: Evidence) -> Mapping[str, float]:
    """Share of the greedily decoded `tokens` (batch, steps) that are the same; nothing where none were
    decoded."""
    import numpy as np

    if "tokens" not in evidence.reference:
        return {}
    same = evidence.reference["tokens"] == evidence.candidate["tokens"]
    return {"token_agreement": float(np.mean(same))}


def cross_entropy(logits: Array, ids: Array, mask: Array) -> float:
    """Mean negative log likelihood, in nats, of each token given those before it; its exp is the perplexity.

    `logits` is (batch, length, vocabulary), `ids` and `mask` are (batch, length).
    """
    import numpy as np

    scores = logits[:, :-1].astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    of_next = np.take_along_axis(scores, ids[:, 1:, None], axis=-1)[..., 0]
    losses = np.log(np.exp(scores).sum(axis=-1)) - of_next
    counted = (mask[:, 1:] * mask[:, :-1]).astype(bool)
    return float(losses[counted].mean()) if counted.any() else 0.0
