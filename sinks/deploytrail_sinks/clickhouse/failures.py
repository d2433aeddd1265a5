"""What the sink does about each error of ClickHouse, in one table.

Codes: https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp. One that is not
listed is tried again: no row is lost by waiting, and `/readyz` says no meanwhile.
"""

from __future__ import annotations

from enum import Enum


class Response(Enum):
    """What to do about a failed insert."""

    RETRY = "the same range again, on the next replica where there is one"
    SPLIT = "find the row that is refused, set it aside, insert the rest"
    STOP = "end with exit code 78: an operator has to act, and the trail waits in Kafka"


RESPONSES: dict[int, tuple[Response, str]] = {
    6: (Response.SPLIT, "CANNOT_PARSE_TEXT: text that does not fit its column"),
    26: (Response.SPLIT, "CANNOT_PARSE_QUOTED_STRING: a row's own text"),
    27: (Response.SPLIT, "CANNOT_PARSE_INPUT_ASSERTION_FAILED: a file that is misread"),
    33: (Response.SPLIT, "CANNOT_READ_ALL_DATA: a body shorter than its fields"),
    38: (Response.SPLIT, "CANNOT_PARSE_DATE: a row's own value"),
    41: (Response.SPLIT, "CANNOT_PARSE_DATETIME: a row's own value"),
    53: (Response.SPLIT, "TYPE_MISMATCH: a row's own value"),
    69: (Response.SPLIT, "ARGUMENT_OUT_OF_BOUND: a row's own value"),
    70: (Response.SPLIT, "CANNOT_CONVERT_TYPE: a row's own value"),
    72: (Response.SPLIT, "CANNOT_PARSE_NUMBER: a row's own value"),
    117: (Response.SPLIT, "INCORRECT_DATA: a body that is no record of its schema"),
    131: (Response.SPLIT, "TOO_LARGE_STRING_SIZE: a length that lies"),
    321: (Response.SPLIT, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE: a row's own value"),
    349: (Response.SPLIT, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN: a null where none may be"),
    469: (Response.SPLIT, "VIOLATED_CONSTRAINT: a row that a CHECK refuses"),
    691: (Response.SPLIT, "UNKNOWN_ELEMENT_OF_ENUM: a symbol that the column does not have"),
    1001: (Response.SPLIT, "STD_EXCEPTION: the Avro library refuses a body"),
    159: (Response.RETRY, "TIMEOUT_EXCEEDED: the server is busy; the token tells whether it was stored"),
    202: (Response.RETRY, "TOO_MANY_SIMULTANEOUS_QUERIES: the server is busy"),
    209: (Response.RETRY, "SOCKET_TIMEOUT: the network"),
    210: (Response.RETRY, "NETWORK_ERROR: the network"),
    225: (Response.RETRY, "NO_ZOOKEEPER: Keeper is away"),
    241: (Response.RETRY, "MEMORY_LIMIT_EXCEEDED: other queries have the memory now"),
    242: (Response.RETRY, "TABLE_IS_READ_ONLY: a replica that lost Keeper for a while"),
    243: (Response.RETRY, "NOT_ENOUGH_SPACE: the disk is full; what is acknowledged is kept"),
    252: (Response.RETRY, "TOO_MANY_PARTS: merges are behind; waiting lets them catch up"),
    285: (Response.RETRY, "TOO_FEW_LIVE_REPLICAS: a quorum is missing"),
    319: (Response.RETRY, "UNKNOWN_STATUS_OF_INSERT: perhaps stored; the token tells"),
    999: (Response.RETRY, "KEEPER_EXCEPTION: Keeper is away"),
    16: (Response.STOP, "NO_SUCH_COLUMN_IN_TABLE: the tables are older than this sink; run `deploytrail migrate`"),
    60: (Response.STOP, "UNKNOWN_TABLE: run `deploytrail migrate`"),
    62: (Response.STOP, "SYNTAX_ERROR: this ClickHouse is too old"),
    81: (Response.STOP, "UNKNOWN_DATABASE: run `deploytrail migrate`, or mend DEPLOYTRAIL_CLICKHOUSE_DATABASE"),
    115: (Response.STOP, "UNKNOWN_SETTING: this ClickHouse is too old"),
    164: (Response.STOP, "READONLY: this user may not write; mend DEPLOYTRAIL_CLICKHOUSE_USER"),
    192: (Response.STOP, "UNKNOWN_USER: mend DEPLOYTRAIL_CLICKHOUSE_USER"),
    193: (Response.STOP, "WRONG_PASSWORD: mend DEPLOYTRAIL_CLICKHOUSE_PASSWORD"),
    194: (Response.STOP, "REQUIRED_PASSWORD: set DEPLOYTRAIL_CLICKHOUSE_PASSWORD"),
    452: (Response.STOP, "SETTING_CONSTRAINT_VIOLATION: this user's profile forbids a setting that inserts need"),
    497: (Response.STOP, "ACCESS_DENIED: grant INSERT to the sink's user"),
    516: (Response.STOP, "AUTHENTICATION_FAILED: mend DEPLOYTRAIL_CLICKHOUSE_USER or DEPLOYTRAIL_CLICKHOUSE_PASSWORD"),
}


def response_to(code: int | None) -> Response:
    """What to do about an error code; RETRY where it is none that we know."""
    return RESPONSES[code][0] if code in RESPONSES else Response.RETRY


def reason_of(code: int | None) -> str:
    """Why, in words, and what an operator can do."""
    return RESPONSES[code][1] if code in RESPONSES else f"code {code}, which is not known here"
