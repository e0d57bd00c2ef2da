"""Words as vectors in the space of pictures, where the chosen model has a text half.

Belongs here: running the text network. Does not belong here: tokens, the picture half, full-text search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.privacy.sessions import open_session
from av_assets.domain.search.embedding import unit
from av_assets.domain.search.encoders import vector_output
from av_assets.domain.search.tokens import ClipTokens

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = 77
"""Tokens that CLIP's text halves take, where the graph does not say."""
TEXT_FILE, TOKENS_FILE = "embedding_text.onnx", "embedding_tokenizer.json"


class TextEncoder:
    """The text half of the model in `folder`, whose picture half is `embedding.onnx` beside it.

    Attributes:
        model_digest: of the picture half: only vectors with it may be compared.

    Raises:
        ModelError: `no_text_half`; `bad_model`, `bad_ends`, `bad_tokenizer`: it is there, but is none.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        path, tokens = folder / TEXT_FILE, folder / TOKENS_FILE
        if not path.is_file() or not tokens.is_file():
            remedy = "set AV_EMBEDDING_MODEL to a folder with image.onnx, text.onnx and tokenizer.json"
            raise ModelError("this model cannot embed text", code="no_text_half", remedy=remedy)
        self._session, self._tokens = open_session(path, threads), ClipTokens(tokens)
        self._inputs = {i.name: i for i in self._session.get_inputs()}
        if "input_ids" not in self._inputs or self._inputs.keys() - {"input_ids", "attention_mask"}:
            reason = "a text encoder takes input_ids (batch, tokens), and attention_mask where it likes"
            raise ModelError(reason, code="bad_ends", file=path)
        self._output, _ = vector_output(self._session, path)
        self.model_digest = sha256_file(folder / "embedding.onnx")

    def embed_text(self, words: str) -> np.ndarray:
        """(D,) float32 unit vector."""
        shape = self._inputs["input_ids"].shape
        length = shape[1] if isinstance(shape[1], int) else CONTEXT
        ids = self._tokens.encode(words, length)
        used = ids.index(self._tokens.end) + 1
        given = {"input_ids": ids, "attention_mask": [1] * used + [0] * (length - used)}
        kinds = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
        feeds = {
            name: np.array([given[name]], kinds.get(i.type, np.int64)) for name, i in self._inputs.items()
        }
        return np.asarray(unit(np.asarray(self._session.run([self._output], feeds)[0])[0]))
