"""How a record of the spool is closed, so that a changed bit is found; with a key, unread as well.

Without a key a CRC-32 stands behind the content; with one, the content is encrypted by AES-256-GCM,
whose tag does the same and more. Both cover a `context` too, which is not stored with the content:
a record that stands in another's place does not open.
"""

import hashlib
import os
import zlib
from typing import Protocol

_CRC_BYTES = 4
_NONCE_BYTES = 12
_KEY_BYTES = 32
SALT_BYTES = 16

# 16 MiB and some tens of milliseconds, once a start: a key may be a sentence of a person's.
_SCRYPT_COST = 1 << 14
_SCRYPT_BLOCK = 8


class Broken(Exception):
    """What was sealed has changed, or was sealed with another key."""


class Seal(Protocol):
    """Closes and opens contents."""

    def close(self, content: bytes, context: bytes) -> bytes:
        """Return what may be stored."""
        ...

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the content; raise Broken unless it is the one closed in this context."""
        ...


class Checksum:
    """Finds what a disk has changed; hides nothing."""

    def close(self, content: bytes, context: bytes) -> bytes:
        """Return content and checksum."""
        return content + _crc(content, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the content; raise Broken if the checksum is another."""
        content = sealed[:-_CRC_BYTES]
        if _crc(content, context) != sealed[-_CRC_BYTES:]:
            raise Broken
        return content


class Encryption:
    """Finds what anybody has changed, and hides the content from who has not the key."""

    def __init__(self, key: str, salt: bytes) -> None:
        # Imported by who has a key: it takes longer than all the rest of this package.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        derived = hashlib.scrypt(
            key.encode(), salt=salt, n=_SCRYPT_COST, r=_SCRYPT_BLOCK, p=1, dklen=_KEY_BYTES
        )
        self._cipher = AESGCM(derived)

    def close(self, content: bytes, context: bytes) -> bytes:
        """Return nonce, ciphertext and tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the content; raise Broken if it was not closed with this key in this context."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise Broken from None


def seal_of(key: str | None, salt: bytes) -> Seal:
    """Return the seal for a key; the salt is the file's own, so that no two share a cipher key."""
    return Checksum() if key is None else Encryption(key, salt)


def _crc(content: bytes, context: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(context)).to_bytes(_CRC_BYTES, "big")
