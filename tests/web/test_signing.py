from __future__ import annotations

import time
from typing import Any

from hypothesis import given, strategies as st

from tintype.web.signing import Signer


def test_a_signature_is_good_for_its_purpose_and_parts_only() -> None:
    signer = Signer(b"secret")
    signature = signer.sign("upload", ["a", "b"])
    assert signer.verify("upload", ["a", "b"], signature)
    assert not signer.verify("upload", ["ab", ""], signature)
    assert not signer.verify("other", ["a", "b"], signature)
    assert not Signer(b"other").verify("upload", ["a", "b"], signature)


def test_a_token_stands_for_its_key_until_it_ends() -> None:
    signer = Signer(b"secret")
    assert signer.token_key(signer.token("key", time.time() + 60)) == "key"
    assert signer.token_key(signer.token("key", time.time() - 1)) is None
    claims, signature = signer.token("key", time.time() + 60).split(".")
    assert signer.token_key(f"{claims[:-2]}AA.{signature}") is None


@given(st.text())
def test_any_other_text_is_no_token(text: Any) -> None:
    assert Signer(b"secret").token_key(text) is None
