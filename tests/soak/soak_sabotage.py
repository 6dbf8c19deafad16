"""Damage done behind the daemon's back, to see that the oracle sees it."""

from __future__ import annotations

import random
from typing import Any

import psycopg2
from soak_oracle import ledger_says

KINDS = ("lose", "alter", "double", "stick")

STORED = """
    SELECT id, object_key FROM file_uploads
    WHERE state = 'uploaded' AND is_current AND size_bytes > 0 ORDER BY id
"""


def sabotage(kind: str, dice: random.Random, client: Any, bucket: str, dsn: str) -> str:
    """Damage one stored file, picked by chance, and say what was done."""
    row = dice.choice(ledger_says(dsn, STORED))
    key = row["object_key"]
    if kind == "lose":
        client.delete_object(Bucket=bucket, Key=key)
    elif kind == "alter":
        body = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        body[dice.randrange(len(body))] ^= 1
        client.put_object(Bucket=bucket, Key=key, Body=bytes(body))
    elif kind == "double":
        body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        client.put_object(Bucket=bucket, Key=f"{key}.again", Body=body)
    else:
        _forget_in_queue(dsn, row["id"])
    return f"sabotage: {kind} {key!r} (row {row['id']})"


def _forget_in_queue(dsn: str, upload_id: int) -> None:
    """Have a file wait for ever: pending, and in no queue."""
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "UPDATE file_uploads SET state = 'pending', finished_at = NULL WHERE id = %s",
                (upload_id,),
            )
    finally:
        connection.close()
