"""Which PostgreSQL there is to test with."""

from __future__ import annotations

from sensordrop.adapters.ledger.embedded import find_binaries

MAJORS = sorted({each.major for each in find_binaries()})
"""The PostgreSQL versions that are on this machine."""
