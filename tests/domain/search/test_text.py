from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from av_assets.domain.errors import ModelError
from av_assets.domain.search.encoders import ImageEncoder
from av_assets.domain.search.hybrid import Question, answer
from av_assets.domain.search.text import TextEncoder
from av_assets.domain.search.tokens import ClipTokens
from av_assets.policies.embeddings import EmbeddingsPolicy

VOCAB = ["<|startoftext|>", "<|endoftext|>", "r", "e", "d</w>", "re", "red</w>", "b", "l", "u", "e</w>", "d"]
MERGES = ["r e", "re d</w>"]


def tokenizer(path: Path, **changes: object) -> Path:
    model = {
        "vocab": {w: i for i, w in enumerate(VOCAB)},
        "merges": MERGES,
        "end_of_word_suffix": "</w>",
    } | changes
    path.write_text(json.dumps({"model": model}))
    return path


def graph(
    path: Path, nodes: list, inputs: list, output: str, constants: dict[str, np.ndarray], **said: str
) -> None:
    held = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    out = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 3])]
    made = helper.make_graph(nodes, "tiny", inputs, out, held)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, said)
    path.write_bytes(model.SerializeToString())


def pair(folder: Path, **said: str) -> Path:
    """A picture half that gives the mean colour, and a text half that gives the sum of its tokens' colours."""
    pictures = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "h", "w"])]
    mean = helper.make_node("ReduceMean", ["pixel_values"], ["image_embeds"], axes=[2, 3], keepdims=0)
    graph(folder / "embedding.onnx", [mean], pictures, "image_embeds", {}, **said)
    colours = np.zeros((len(VOCAB), 3), np.float32)
    colours[VOCAB.index("red</w>")], colours[VOCAB.index("u")] = [1, 0, 0], [0, 0, 1]
    words = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 8])]
    nodes = [helper.make_node("Gather", ["colours", "input_ids"], ["each"]),
             helper.make_node("ReduceSum", ["each", "axis"], ["text_embeds"], keepdims=0)]  # fmt: skip
    graph(folder / "embedding_text.onnx", nodes, words, "text_embeds",
          {"colours": colours, "axis": np.array([1])})  # fmt: skip
    tokenizer(folder / "embedding_tokenizer.json")
    return folder


def test_merges_go_by_rank_and_words_are_cleaned(tmp_path: Path):
    tokens = ClipTokens(tokenizer(tmp_path / "t.json"))
    assert tokens.encode("  RED\n blue", 8) == [0, 6, 7, 8, 9, 10, 1, 1]
    assert tokens.encode("red red red", 4) == [0, 6, 6, 1]
    with pytest.raises(ModelError, match="no number"):
        tokens.encode("zebra", 8)


@pytest.mark.parametrize("changes", [{"end_of_word_suffix": None}, {"vocab": {"a": 0}}, {"merges": [["a"]]}])
def test_other_tokenizers_are_refused(tmp_path: Path, changes: dict[str, object]):
    with pytest.raises(ModelError) as caught:
        ClipTokens(tokenizer(tmp_path / "t.json", **changes))
    assert caught.value.code == "bad_tokenizer"


def test_words_lie_beside_the_pictures_they_name(tmp_path: Path):
    said = json.dumps({"size": 32, "mean": [0, 0, 0], "scale": [255, 255, 255]})
    folder, policy = pair(tmp_path, preparation=said), EmbeddingsPolicy.load()
    pictures = ImageEncoder(folder / "embedding.onnx", policy)
    assert (pictures.preparation.size, pictures.dimension) == (32, 3)
    red, blue = (
        pictures.features(np.full((20, 30, 3), rgb, np.uint8))[0] for rgb in ([255, 0, 0], [0, 0, 255])
    )
    words = TextEncoder(folder)
    assert words.embed_text("red") @ red == pytest.approx(1)
    assert words.embed_text("blue") @ blue > 0.99 > words.embed_text("blue") @ red


def test_preparation_of_a_clip_export_is_read_from_beside(tmp_path: Path):
    pair(tmp_path)
    beside = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
        "crop_size": {"height": 24, "width": 24},
    }
    (tmp_path / "embedding_preprocessor.json").write_text(json.dumps(beside))
    found = ImageEncoder(tmp_path / "embedding.onnx", EmbeddingsPolicy.load()).preparation
    assert found.size == 24
    assert np.allclose(found.mean, [127.5, 102, 76.5])
    (tmp_path / "embedding_preprocessor.json").write_text("[]")
    with pytest.raises(ModelError) as caught:
        ImageEncoder(tmp_path / "embedding.onnx", EmbeddingsPolicy.load())
    assert caught.value.code == "bad_preparation"


def test_model_without_a_text_half_says_so(tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        TextEncoder(tmp_path)
    assert caught.value.code == "no_text_half"


class Shelf:
    """Three rows; text matches the first two, pictures are near in the order 2, 1, 0."""

    def near(self, vector: np.ndarray, k: int, where: str | None) -> list[dict]:
        return (
            []
            if where
            else [{"clip_id": f"d/{i}", "similarity": 1 - 0.1 * n} for n, i in enumerate((2, 1, 0))][:k]
        )

    def matching(self, words: str, k: int, where: str | None) -> list[dict]:
        return (
            [{"clip_id": f"d/{i}", "bm25": 2.0 - i} for i in (0, 1)] if words == "rain" and not where else []
        )

    def count(self, where: str | None) -> int:
        return 3 if where is None else 0


def test_lists_are_fused_and_say_their_parts():
    found = answer(Shelf(), Question("rain", {"like": np.ones(2)}, without="d/2"), 5, 10, 60)
    assert [r["clip_id"] for r in found.results] == ["d/0", "d/1"]
    assert found.results[0]["parts"] == {
        "text": {"rank": 1, "bm25": 2.0},
        "like": {"rank": 2, "similarity": pytest.approx(0.8)},
    }
    assert found.emptied_by is None


def test_empty_answer_names_what_emptied_it():
    from av_assets.domain.search.filters import parse_filter

    found = answer(Shelf(), Question("snow"), 5, 10, 60)
    assert found.emptied_by == "text 'snow'"
    found = answer(Shelf(), Question("rain", filter=parse_filter("speed > 90 and light = 'day'")), 5, 10, 60)
    assert found.emptied_by == "filter speed > 90"
    assert found.counts["index"] == 3
