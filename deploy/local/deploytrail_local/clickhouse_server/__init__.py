"""The ClickHouse engine as a library, behind enough of ClickHouse's HTTP interface.

Run with `python -m deploytrail_local.clickhouse_server FOLDER PORT`. One process owns a folder.
"""
