from __future__ import annotations

import hashlib

import pytest

from scr_export.oci.digest import Digest

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha384:{HEX}{HEX[:32]}", f"sha512:{HEX}{HEX}"])
def test_a_digest_is_a_text(text: str) -> None:
    digest = Digest.parse(text)
    assert digest == text
    assert f"{digest.algorithm}:{digest.encoded}" == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        b"sha256:" + HEX.encode(),
        [f"sha256:{HEX}"],
        "",
        "sha256",
        "sha256:",
        HEX,
        f":{HEX}",
        f"sha256:{HEX[1:]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha256:{HEX[:-1]} ",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX[:-1]}\0",
        f"sha256:{'٣' * 64}",  # digits, but not of ASCII
        f"sha256:{'../' * 21}a",
        f"sha256:/etc/passwd{HEX[11:]}",
        f"sha256:{HEX[:32]}/{HEX[33:]}",
        f"../sha256:{HEX}",
        f"sha512:{HEX}",  # another algorithm's length
        f"sha384:{HEX}{HEX}",
        f"sha1:{HEX[:40]}",
        f"md5:{HEX[:32]}",
        f"blake3:{HEX}",
        f"sha256+b64:{HEX}",
        f"sha256-{HEX}",
        f"sha256:sha256:{HEX}",
        "sha256:" + "a" * 100_000,
    ],
)
def test_a_malformed_digest_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"digest|digits") as caught:
        Digest.parse(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_of_and_is_of_agree(algorithm: str) -> None:
    digest = Digest.of(b"bytes", algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, b'bytes').hexdigest()}"
    assert Digest.parse(digest) == digest
    hasher = digest.hasher()
    hasher.update(b"byte")
    assert not digest.is_of(hasher)
    hasher.update(b"s")
    assert digest.is_of(hasher)
