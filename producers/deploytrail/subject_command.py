"""`deploytrail subject add|show|erase`: the table of people and their pseudonyms."""

from __future__ import annotations

import sys
from pathlib import Path

from deploytrail_schemas.arguments import Parser
from deploytrail_schemas.errors import ConfigurationError, DeploytrailError
from deploytrail_schemas.exit_codes import exit_code_of
from deploytrail_schemas.pseudonyms import NameMap
from deploytrail_schemas.settings import Settings

EXIT_NOTHING = 66  # EX_NOINPUT of sysexits.h


def main(argv: list[str]) -> int:
    """Exit code 0; 66 where nobody of that name is known, 69 where the table is in use, 78 where a setting is wrong."""
    parser = Parser(prog="deploytrail subject", description="People and their pseudonyms.")
    words = parser.add_subparsers(dest="word", required=True)
    for word, text in (
        ("add", "know a name before it comes first, so that no text keeps it either; says the pseudonym"),
        ("show", "the pseudonym of a name, as policies and questions need it, or the name of a pseudonym"),
        ("erase", "forget whose pseudonym it is, for good"),
    ):
        words.add_parser(word, help=text).add_argument("name", metavar="NAME")
    options = parser.parse_args(argv)
    try:
        path = Settings.load().pseudonyms
        if not path:
            raise ConfigurationError("DEPLOYTRAIL_PSEUDONYMS is not set; expected the gateway's file of names")
        if options.word != "add" and not Path(path).expanduser().exists():
            raise ConfigurationError(
                f"DEPLOYTRAIL_PSEUDONYMS: there is no {path}; the gateway makes it, or `deploytrail subject add`"
            )
        return _WORDS[options.word](NameMap(Path(path)), options.name)
    except DeploytrailError as error:
        sys.stderr.write(f"deploytrail subject: {error}\n")
        return exit_code_of(error)


def _add(names: NameMap, name: str) -> int:
    if not name.strip():
        raise ConfigurationError("the name is empty; expected somebody's name, as deployments give it")
    print(names.pseudonym(name))
    return 0


def _show(names: NameMap, name: str) -> int:
    found = names.find(name) or names.name_of(name)
    if found is None:
        return _unknown()
    print(found)
    return 0


def _erase(names: NameMap, name: str) -> int:
    pseudonym = names.erase(name)
    if pseudonym is None:
        return _unknown()
    print(f"{pseudonym} is nobody's now")
    return 0


def _unknown() -> int:
    sys.stderr.write("deploytrail subject: nobody of that name is in the table\n")
    return EXIT_NOTHING


_WORDS = {"add": _add, "show": _show, "erase": _erase}
