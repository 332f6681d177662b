"""A text in its context as 256 bits: alike in meaning, few bits differ. Pure, and the same on every machine.

Each bit is the side of a fixed random hyperplane that a vector lies on; the share of bits that differ estimates the angle between two
vectors. The first 192 bits are of the text itself, the last 64 of what it was said in: what came before, or its task. So one signature
answers three questions: what is nearly the same (the text's bits), what belongs to a task (the context's bits), and what is worth
an exact look in a very large scope (the text's bits again, by `coarse.nearest`).

Source: sign random projections (Charikar 2002), hyperplanes orthogonal in blocks (Ji et al. 2012, "Super-Bit"). The layout is ours.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from memos_core.errors import InvalidInput

BITS, TEXT_BITS = 256, 192
BYTES = BITS // 8
TEXT, CONTEXT = slice(0, TEXT_BITS // 8), slice(TEXT_BITS // 8, BYTES)
"""Where in the bytes of a fingerprint the text's bits are, and its context's: `fingerprints[..., TEXT]`."""
_SEED = b"memos contextual fingerprint 1"


def fingerprint(vector: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
    """uint8 [32] of a text's vector [d] and the vector [d] of what it was said in; without one, or all zeros, the text is its own context."""
    one: np.ndarray = fingerprints(np.asarray(vector)[None], None if context is None else np.asarray(context)[None])[0]
    return one


def fingerprints(vectors: np.ndarray, contexts: np.ndarray | None = None) -> np.ndarray:
    """uint8 [n, 32]: `fingerprint` of every row of [n, d]. Raises InvalidInput when the shapes do not fit or a value is not finite."""
    texts = _checked(vectors, "vectors")
    around = texts if contexts is None else _checked(contexts, "contexts")
    if around.shape != texts.shape:
        raise InvalidInput(f"contexts must have the shape of vectors, {texts.shape}, got {around.shape}")
    around = np.where(around.any(axis=1, keepdims=True), around, texts)
    planes = hyperplanes(texts.shape[1])
    sides = np.concatenate([texts @ planes[:TEXT_BITS].T, around @ planes[TEXT_BITS:].T], axis=1) > 0
    return np.packbits(sides, axis=1)


def _checked(vectors: np.ndarray, name: str) -> np.ndarray:
    # Double precision: the sum's order, which differs between one row and many, then practically never turns a bit.
    checked = np.asarray(vectors, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] == 0:
        raise InvalidInput(f"{name} must be an array [n, d], got shape {checked.shape}")
    if not np.isfinite(checked).all():
        raise InvalidInput(f"{name} hold a value that is not finite; check the embedder")
    return checked


@lru_cache(maxsize=4)
def hyperplanes(dimensions: int) -> np.ndarray:
    """float64 [256, d]: the normals, read-only. Drawn from a hash stream, since numpy's generators may change between versions."""
    uniform = np.frombuffer(hashlib.shake_256(_SEED).digest(16 * BITS * dimensions), dtype="<u8").reshape(2, BITS, dimensions)
    radius, angle = (uniform + 1.0) / 2.0**64
    normals: np.ndarray = np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)  # Box and Muller 1958
    for start in range(0, BITS, dimensions):
        block = normals[start : start + dimensions]
        orthogonal, triangle = np.linalg.qr(block.T)
        block[:] = (orthogonal * np.sign(np.diag(triangle))).T  # as Gram and Schmidt: the factors' signs are the library's whim
    normals.setflags(write=False)
    return normals


def distance(one: np.ndarray, other: np.ndarray) -> int:
    """How many bits differ between two fingerprints, or between the same part of two. Raises InvalidInput."""
    return int(distances(one, np.asarray(other)[None])[0])


def distances(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """int64 [n]: how many bits differ between one, uint8 [b], and each row of many, uint8 [n, b]. Raises InvalidInput."""
    a, b = comparable(one, many)
    unit = np.uint64 if len(a) % 8 == 0 else np.uint8
    mine, theirs = a.view(unit), b.view(unit)
    counts = np.zeros(len(b), dtype=np.int64)
    for column in range(len(mine)):  # by column: a sum over an axis as short as this one costs several times more
        counts += np.bitwise_count(mine[column] ^ theirs[:, column])
    return counts


def comparable(one: np.ndarray, many: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, checked to be uint8 [b] and [n, b] and laid out in one piece. Raises InvalidInput."""
    a, b = _bytes(one, 1), _bytes(many, 2)
    if a.shape[0] != b.shape[1]:
        raise InvalidInput(f"fingerprints of {a.shape[0]} and of {b.shape[1]} bytes cannot be compared; take the same part of both")
    return a, b


def _bytes(bits: np.ndarray, axes: int) -> np.ndarray:
    checked = np.asarray(bits)
    if checked.dtype != np.uint8 or checked.ndim != axes:
        shape = "[bytes]" if axes == 1 else "[n, bytes]"
        raise InvalidInput(f"a fingerprint is an array uint8 {shape}, got {checked.dtype} {checked.shape}")
    contiguous: np.ndarray = np.ascontiguousarray(checked)
    return contiguous


def cosine(differing: int | np.ndarray, bits: int = TEXT_BITS) -> np.ndarray:
    """float64: the cosine that so many differing bits of `bits` stand for; its standard error is at most 1.6 / sqrt(bits)."""
    estimate: np.ndarray = np.cos(np.pi * np.asarray(differing, dtype=np.float64) / bits)
    return estimate


def alignment(many: np.ndarray, centroid: np.ndarray) -> np.ndarray:
    """float64 [n]: estimated cosine between what each of many fingerprints was said in and a task's centroid, float [d].

    The centroid is at hand in full, so it is not made bits of: that loses half as much (Dong et al. 2008, asymmetric estimators).
    Sixty-four bits tell tasks that are far apart; among many that are alike, look at the vectors.
    """
    task = _checked(np.asarray(centroid)[None], "centroid")[0]
    sides = 2.0 * np.unpackbits(np.asarray(many)[:, CONTEXT], axis=1) - 1
    scale = np.sqrt(np.pi / 2 * len(task)) / (BITS - TEXT_BITS) / max(float(np.linalg.norm(task)), 1e-12)
    estimate: np.ndarray = np.clip(scale * (sides @ (hyperplanes(len(task))[TEXT_BITS:] @ task)), -1, 1)
    return estimate


def to_hex(one: np.ndarray) -> str:
    """A fingerprint as 64 hexadecimal digits."""
    return _bytes(one, 1).tobytes().hex()


def from_hex(text: str) -> np.ndarray:
    """uint8 [32] from `to_hex`. Raises InvalidInput."""
    try:
        data = bytes.fromhex(text)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a fingerprint is {2 * BYTES} hexadecimal digits, got {text!r}") from error
    if len(data) != BYTES:
        raise InvalidInput(f"a fingerprint is {2 * BYTES} hexadecimal digits, got {text!r}")
    return np.frombuffer(data, dtype=np.uint8)


def respelled(before: str | None, vector: np.ndarray) -> str:
    """The fingerprint, in hexadecimal, of a text by its vector [d], in the context of the one whose fingerprint is given."""
    bits = fingerprint(vector)
    return to_hex(bits if before is None else np.concatenate([bits[TEXT], from_hex(before)[CONTEXT]]))


def text_only(many: np.ndarray) -> np.ndarray:
    """Fingerprints, uint8 [..., 32], with the bits of the context cleared. For scans of the text's bits: they are fastest at 32 bytes."""
    cleared = np.array(many, dtype=np.uint8)
    cleared[..., CONTEXT] = 0
    return cleared
