"""Values that a hostile visitor may send."""

from __future__ import annotations

VALUES = [
    b"",
    b" ",
    b"anonymous",
    b"anonymous-</script><script>alert(1)</script>",
    b'anonymous-"onload=alert(1)',
    b"anonymous-%3Cscript%3E",
    b"anonymous-a b",
    b"anonymous-user@example.com",
    b'"anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"',
    b"anonymous-" + b"a" * 10_000,
    b"a" * 10_000,
    b" " * 10_000,
    b"=" * 10_000,
    b"; _ALGOLIA" * 1_000,
    b"x_ALGOLIA=anonymous-1" * 500,
    b"anonymous-\xff\xfe\xfd",
    b"anonymous-\xe2\x80\xa8",
    b"anonymous-\xc3\xa4",
    b"null",
    b"undefined",
    b"__proto__",
    b"../../etc/passwd",
    bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F),
]
IDS = [f"{number}-{value[:16]!r}" for number, value in enumerate(VALUES)]
