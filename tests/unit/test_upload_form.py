"""The multipart form fed in pieces of any size: the same outcome, and an error of ours for any junk."""

from __future__ import annotations

import random

import pytest

from app.errors import AttuneError, InvalidRequest
from app.files.form import UploadForm

BODY = (
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n'
    b"Content-Type: text/csv\r\n\r\na,b\r\n--B-not-yet\r\n1,2\r\n"
    b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--B--\r\n'
)


def outcome(body: bytes, size: int) -> tuple[bytes, str, dict[str, str]]:
    sink = bytearray()
    form = UploadForm("multipart/form-data; boundary=B", sink.extend, 1000)
    for start in range(0, len(body), size):
        form.feed(body[start : start + size])
    return bytes(sink), form.finish(), form.fields


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_pieces_of_any_size_make_the_same_form(size: int):
    assert outcome(BODY, size) == (b"a,b\r\n--B-not-yet\r\n1,2", "x.csv", {"purpose": "fine-tune"})


def test_a_body_cut_anywhere_before_its_end_is_refused():
    for length in range(BODY.index(b"--B--") + 5):
        with pytest.raises(InvalidRequest) as caught:
            outcome(BODY[:length], 16)
        assert caught.value.error_code == "upload_cut_off"


def test_damage_is_an_error_of_ours_or_another_form():
    dice = random.Random(0)  # noqa: S311 - damage, not a secret
    for _ in range(2000):
        damaged = bytearray(BODY)
        for _ in range(dice.randint(1, 5)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            _, filename, _ = outcome(bytes(damaged), dice.randint(1, 200))
        except AttuneError:
            continue
        assert "/" not in filename
        assert "\\" not in filename
        assert "\0" not in filename


@pytest.mark.parametrize(
    "content_type",
    ["", "text/csv", "multipart/form-data", "multipart/form-data; boundary=",
     "multipart/mixed; boundary=B", "multipart/form-data; boundary=" + "B" * 5000,
     'multipart/form-data; boundary="', "multipart/form-data; boundary=\u00ff"],
)  # fmt: skip
def test_a_content_type_without_a_usable_boundary_is_refused(content_type: str):
    with pytest.raises(InvalidRequest):
        outcome_of(content_type)


def outcome_of(content_type: str) -> str:
    form = UploadForm(content_type, bytearray().extend, 1000)
    form.feed(BODY)
    return form.finish()
