"""What a table holds, as a number of rows and a hash of every value of every row, whatever their order."""

from __future__ import annotations

from clickhouse_connect.driver.client import Client


def content(client: Client, source: str, columns: str = "*", where: str = "1") -> tuple[int, str]:
    """Rows and hash of `source` (`database.table`, or with FINAL). Equal contents give equal hashes.

    Each row is hashed by SipHash-128 over its binary form, nulls and maps included; the sum of the hashes
    modulo 2^128 does not depend on their order, and counts a row that is there twice twice.
    """
    # The clause with an alias is computed once a row.
    found = client.query(
        f"SELECT count(), toString(sum(reinterpretAsUInt128(sipHash128(formatRowNoNewline('RowBinary', {columns}))))) "
        f"FROM {source} WHERE {where}"
    ).result_rows[0]
    return int(found[0]), str(found[1])
