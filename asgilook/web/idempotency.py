"""Idempotency keys of uploads (draft-ietf-httpapi-idempotency-key-header).

The id of an image that is uploaded with a key is derived from the key and the client's
token. So no table of keys is needed, a key never expires, and every worker recognizes
a retry as long as the image exists.
"""

from __future__ import annotations

import hashlib
import re

import falcon.asgi

from ..errors import InvalidRequest
from ..models import uuid_from_digest

MAX_KEY_LENGTH = 255

# A string of structured fields (RFC 9651 section 3.3.3), or the same without quotes.
_quoted = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"').fullmatch
_unquoted = re.compile(r'[!#-~][ -~]*').fullmatch


def get_idempotency_key(req: falcon.asgi.Request) -> str | None:
    """Return the key of a request, or None; raises `InvalidRequest`."""
    value = req.get_header('Idempotency-Key')
    if value is None:
        return None
    quoted = _quoted(value.strip())
    if quoted:
        key = re.sub(r'\\(.)', r'\1', quoted[1])
    elif _unquoted(value.strip()):
        key = value.strip()
    else:
        raise InvalidRequest('The Idempotency-Key must be a quoted string of ASCII.')
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(
            f'The Idempotency-Key must have 1 to {MAX_KEY_LENGTH} characters.'
        )
    return key


def derive_image_id(key: str, token: str) -> str:
    """Return the id of the image that an upload with this key and token makes."""
    return uuid_from_digest(
        hashlib.sha256(f'{len(token)}:{token}{key}'.encode()).digest()
    )
