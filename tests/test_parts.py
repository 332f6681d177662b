"""Messages of several parts: every shape is read, images are checked by what they are, nothing is dropped in silence, and back."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from PIL import Image

from memos_core.errors import InvalidInput
from memos_core.parts import Part, blocks, content, data_url, mime_type_of


def picture(form: str, colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(buffer, form)
    return buffer.getvalue()


PNG, JPEG, GIF, WEBP = (picture(form) for form in ("PNG", "JPEG", "GIF", "WEBP"))
PACKED = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{PACKED}"
FAR = "https://images.example/cat.png"

HELD = [
    {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
    {"type": "image_url", "image_url": URL},
    {"type": "input_image", "image_url": URL},
    {"type": "image", "source_type": "base64", "data": PACKED, "mime_type": "image/png"},
    {"type": "image", "base64": PACKED, "mime_type": "image/png"},
    {"type": "image", "base64": PACKED},
    {"type": "image", "url": URL},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PACKED}},
    {"type": "non_standard", "value": {"type": "input_image", "image_url": URL}},
    {"block_type": "image", "image": PNG, "image_mimetype": "image/png"},
    {"block_type": "image", "image": PACKED.encode(), "image_mimetype": "image/png"},
    ImageBlock(image=PNG).model_dump(),
    ImageBlock(url=URL).model_dump(),
    ImageBlock(image=PNG).model_dump(mode="json"),
]


@pytest.mark.parametrize("block", HELD, ids=range(len(HELD)))
def test_every_shape_that_holds_an_image_is_read(block: dict) -> None:
    before = json.dumps(block, default=str)
    found = content([{"type": "text", "text": "Look:"}, block, "nice?"])
    assert found.parts == (Part("image/png", PNG, hashlib.sha256(PNG).hexdigest()),)
    assert found.text == "Look:\n[image]\nnice?"
    assert json.dumps(block, default=str) == before


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": FAR}},
        {"type": "image", "source_type": "url", "url": FAR},
        {"type": "image", "url": FAR, "mime_type": "image/png"},
        {"type": "image", "source": {"type": "url", "url": FAR}},
        ImageBlock(url=FAR).model_dump(),
    ],
)
def test_a_remote_image_stays_a_link(block: dict) -> None:
    found = content([block])
    assert found.text == f"[image: {FAR}]" and found.parts == ()


def test_images_beside_the_content(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(JPEG)
    images = [PNG, path, str(path), URL, FAR, {"image": GIF, "caption": "A red\nsquare", "mime_type": "image/gif"}, bytearray(WEBP)]
    found = content("Seven of them", images)
    assert [part.mime_type for part in found.parts] == ["image/png", "image/jpeg", "image/jpeg", "image/png", "image/gif", "image/webp"]
    assert found.text.split("\n") == ["Seven of them", *["[image]"] * 4, f"[image: {FAR}]", "[image: A red square]", "[image]"]
    assert content(None, PNG).parts == content(None, [PNG]).parts


@pytest.mark.parametrize("images", [7, [7], [None], [{"image": None}], [["a"]]])
def test_images_of_no_kind_are_refused(images: object) -> None:
    with pytest.raises(InvalidInput, match="image"):
        content("x", images)


def test_an_image_alone_still_makes_text() -> None:
    assert content([], [PNG]).text == "[image]"
    assert content([{"type": "image", "file_id": "file-7"}]).text == "[image: file-7]"


@given(st.text())
def test_a_str_is_verbatim(text: str) -> None:
    assert content(text).text == (text if text.strip() else "")


@pytest.mark.parametrize(
    ("data", "name"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp"), (b"", None), (b"<svg/>", None)]
)
def test_types_by_first_bytes(data: bytes, name: str | None) -> None:
    assert mime_type_of(data) == name


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"type": "image", "base64": PACKED, "mime_type": "image/jpeg"}, "part 0 .*declared as image/jpeg and its bytes are image/png"),
        ({"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{PACKED}"}}, "image/gif"),
        ({"type": "image", "base64": base64.b64encode(b"%PDF-1.7 and so on").decode()}, "PNG, JPEG, GIF or WebP"),
        ({"type": "image", "base64": "not base64!"}, "base64"),
        ({"type": "image", "base64": "näh"}, "base64"),
        ({"type": "image_url", "image_url": {"url": "data:image/png"}}, "data URL"),
        ({"words": 3}, "'type'"),
        (7, "must be a str or a dictionary"),
    ],
)
def test_what_is_wrong_with_a_part_is_said(block: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        content([block])


@pytest.mark.parametrize("declared", ["image/jpg", "IMAGE/JPEG", "image/jpeg; q=1", "image/*", "application/octet-stream", None])
def test_loose_declarations_are_understood(declared: str | None) -> None:
    assert content(None, [{"image": JPEG, "mime_type": declared}]).parts[0].mime_type == "image/jpeg"


def test_too_large_is_refused_before_it_is_decoded_or_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(PNG + bytes(1000))
    large = base64.b64encode(PNG + bytes(1000)).decode()
    for given_content, images in ((None, [path]), (None, [PNG + bytes(1000)]), ([{"type": "image", "base64": large}], ())):
        with pytest.raises(InvalidInput, match="limit for an image is 500"):
            content(given_content, images, limit=500)
    assert content(None, [PNG], limit=len(PNG)).parts
    with pytest.raises(InvalidInput, match="limit"):
        content(None, [PNG], limit=len(PNG) - 1)


def test_files_are_read_for_images_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    for block in ({"type": "image", "path": str(secret)}, {"type": "image_url", "image_url": {"url": f"file://{secret}"}}):
        assert content([block]).parts == ()
    with pytest.raises(InvalidInput, match="cannot be read"):
        content(None, [tmp_path / "none.png"])
    with pytest.raises(InvalidInput, match="cannot be read"):
        content(None, ["\0"])


def test_other_parts_are_named_and_machinery_is_left_out() -> None:
    found = content(
        [
            {"type": "reasoning", "reasoning": "hm"},
            {"type": "text", "text": "Listen"},
            {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
            {"type": "file", "url": "https://x.example/a.pdf"},
            {"type": "tool_call", "name": "f", "args": {}, "id": "1"},
            {"type": "video", "url": "data:video/mp4;base64,AAAA"},
        ]
    )
    assert found.text == "Listen\n[audio]\n[file: https://x.example/a.pdf]\n[video]"
    assert found.left_out == ("reasoning", "audio", "file", "tool_call", "video")


# ------------------------------------------------------------------ captions
def test_a_captioner_is_asked_only_where_there_is_no_caption() -> None:
    asked = []

    def captioner(data: bytes, mime_type: str) -> str:
        asked.append((data, mime_type))
        return " A red  square "

    found = content([{"type": "image", "base64": PACKED, "extras": {"caption": "given"}}], [JPEG], captioner=captioner)
    assert asked == [(JPEG, "image/jpeg")]
    assert [part.caption for part in found.parts] == ["given", "A red square"]
    assert found.text == "[image: given]\n[image: A red square]"


@pytest.mark.parametrize("answer", [None, "", "  ", 7])
def test_a_captioner_without_an_answer_is_counted(answer: object) -> None:
    found = content("x", [PNG], captioner=lambda data, mime_type: answer)
    assert found.text == "x\n[image]" and found.parts[0].caption is None and len(found.uncaptioned) == 1


def test_a_failing_captioner_loses_no_message_and_an_interrupt_passes() -> None:
    def fails(data: bytes, mime_type: str) -> str:
        raise LookupError("no model")

    def interrupted(data: bytes, mime_type: str) -> str:
        raise KeyboardInterrupt

    found = content("hello", [PNG], captioner=fails)
    assert found.text == "hello\n[image]" and found.uncaptioned == ("image 0: LookupError: no model",)
    with pytest.raises(KeyboardInterrupt):
        content("hello", [PNG], captioner=interrupted)


# ------------------------------------------------------------------ and back
captions = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: bool(text.strip())))
pictures = st.lists(st.tuples(st.sampled_from([PNG, JPEG, GIF, WEBP]), captions), max_size=4)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=20), pictures, st.sampled_from(["langchain", "openai", "llamaindex"]))
def test_images_come_back_from_every_shape(text: str, images: list, shape: str) -> None:
    found = content(text, [{"image": data, "caption": caption} for data, caption in images])
    again = content(blocks(found.text, found.parts, shape))
    assert [(part.mime_type, part.data, part.sha256) for part in again.parts] == [
        (part.mime_type, part.data, part.sha256) for part in found.parts
    ]
    assert again.text.startswith(found.text)
    if shape == "langchain":  # the shape that has a place for captions
        assert again == found


def test_the_frameworks_take_what_is_given_back() -> None:
    parts = content(None, [{"image": PNG, "caption": "A red square"}, JPEG]).parts
    for shape in ("langchain", "openai"):
        message = HumanMessage(content=blocks("Here", parts, shape))
        assert message.text == "Here"
        assert [block["base64"] for block in message.content_blocks if block["type"] == "image"] == [
            base64.b64encode(part.data).decode() for part in parts
        ]
    message = ChatMessage(role="user", blocks=blocks("Here", parts, "llamaindex"))
    assert isinstance(message.blocks[0], TextBlock) and message.content == "Here"
    assert [block.resolve_image().read() for block in message.blocks[1:]] == [part.data for part in parts]
    assert data_url(parts[0]) == URL


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match="llamaindex"):
        blocks("x", (), "gemini")


json_like = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=6),
        st.binary(max_size=6),
        st.sampled_from(["image", "text", "image_url", URL, PACKED, FAR]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["type", "block_type", "text", "image", "image_url", "url", "base64", "data", "source", "mime_type", "extras", "value"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(json_like)
def test_any_content_is_read_or_refused_as_invalid(given_content: object) -> None:
    try:
        found = content(given_content)
    except InvalidInput:
        return
    assert isinstance(found.text, str)
