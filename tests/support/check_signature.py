"""Checks a webhook's signature with nothing of tintype's and no library: ED25519 written down from RFC 8032.

    python check_signature.py < {"headers": {…}, "body": "<base64>", "keys": <the key set>}

Exits with 0 for a signature by one of the keys, 1 for any other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
IDENTITY = (0, 1)
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return ((x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P)


def times(number: int, point: Point) -> Point:
    result = IDENTITY
    while number:
        if number & 1:
            result = add(result, point)
        point, number = add(point, point), number >> 1
    return result


def point_of(text: bytes) -> Point:
    number = int.from_bytes(text, "little")
    y, odd = number & (2**255 - 1), number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        raise ValueError("not a point")
    return (P - x if x & 1 != odd else x), y


BASE = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_valid(public: bytes, message: bytes, signature: bytes) -> bool:
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if s >= ORDER or len(signature) != 64:
        return False
    h = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little")
    return times(s, BASE) == add(point_of(r), times(h, point_of(public)))


def main() -> None:
    given = json.load(sys.stdin)
    headers = {name.lower(): value for name, value in given["headers"].items()}
    parts = [headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")]
    digest = hashlib.sha256(base64.b64decode(given["body"])).hexdigest()
    message = "\n".join([*parts, digest]).encode()
    signature = bytes.fromhex(headers["x-fal-webhook-signature"])
    keys = [base64.urlsafe_b64decode(key["x"] + "=") for key in given["keys"]["keys"]]
    sys.exit(0 if any(is_valid(key, message, signature) for key in keys) else 1)


if __name__ == "__main__":
    main()
