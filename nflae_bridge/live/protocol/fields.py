"""Define the types of the fields that several headers of the wire format have."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

MAX_ID = 128

Id = Annotated[str, Meta(max_length=MAX_ID)]
SchemeText = Annotated[str, Meta(max_length=512)]  # with its options; the server keeps what follows from it
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Convention = Literal["hermitian", "direct"]
