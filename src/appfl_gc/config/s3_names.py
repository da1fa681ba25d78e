"""What the name of an S3 bucket, and the address of an S3 service, can be."""

from __future__ import annotations

import re

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
ADDRESS = re.compile(r"https?://[^\s/@?#]+/?")
