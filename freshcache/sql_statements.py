"""Say of an SQL text what it may write, and whether a transaction may begin or end by it.

What is known to only read is let through; everything else may write every table, so what calls a function
that is not MySQL's own as well. Nothing here asks the database: triggers, foreign keys with ON DELETE
CASCADE and views that call functions, which write to what the statement does not name, are not seen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache, reduce

from freshcache.sql_functions import MAY_PRECEDE_BRACKETS

ANY = frozenset("*")
NONE: frozenset[str] = frozenset()
LONGEST_KEPT = 4_000  # characters of a text whose effect is remembered: at most 1024 of them, 4 MB
# Longer ones, which bulk_create() and bulk_update() send again and again: at most 6 MB.
MOST_LONG, LONGEST_LONG, LONG_START = 32, 200_000, 200
Token = tuple[str, str]  # its kind (word, name, string, symbol, broken) and its text


class After(Enum):
    """What is known of a transaction once a text has been carried out."""

    SAME = "same"
    OPEN = "may be open"
    CLOSED = "closed"
    AS_TOLD = "as the driver says"


@dataclass(frozen=True)
class Effect:
    """The tables that a text may write (ANY: every one), and what it may do to a transaction.

    `tables` may be views of others; those `made`, changed or dropped are not. `commits`: what was written
    before may be committed by it. `several`: it may still be carried out once its first result is there.
    `chains`: from now on each COMMIT may begin the next transaction. `isolates`: what transactions see of
    others may be different from now on.
    """

    tables: frozenset[str] = NONE
    commits: bool = False
    after: After = After.SAME
    several: bool = False
    made: frozenset[str] = NONE
    chains: bool = False
    isolates: bool = False

    def then(self, other: "Effect") -> "Effect":
        if self is READS and other is READS:
            return READS
        is_told = other.after in (After.OPEN, After.CLOSED) or self.after is After.SAME
        return replace(
            self.either(other), after=other.after if is_told else self.after, several=True
        )

    def either(self, other: "Effect") -> "Effect":
        if self is READS and other is READS:
            return READS
        after = After.OPEN if After.OPEN in (self.after, other.after) else self.after
        same = after is other.after or after is After.OPEN
        return Effect(
            self.tables | other.tables,
            self.commits or other.commits,
            after if same else After.SAME,
            self.several or other.several,
            self.made | other.made,
            self.chains or other.chains,
            self.isolates or other.isolates,
        )


READS = Effect()
UNKNOWN = Effect(ANY, commits=True, after=After.OPEN)
ENDED = Effect(commits=True, after=After.CLOSED)
# MySQL commits before each of these, or does in some cases: the transaction may also go on.
MAY_COMMIT = Effect(commits=True)
CALLS_FUNCTIONS = Effect(ANY)

# What Django sends, in Django's own writing. A single table is written, as SET, WHERE or the columns
# follow its name. `make bench-statements` measures what a statement costs.
DJANGOS = re.compile(
    r"(?:INSERT (?:OR IGNORE |IGNORE )?INTO [`\"](\w+)[`\"] \("
    r"|UPDATE [`\"](\w+)[`\"] SET |DELETE FROM [`\"](\w+)[`\"](?: WHERE |\Z))",
    re.ASCII,
)
# What makes it more than it looks like: several statements, strings and comments.
ODD = (";", "'", '"', "\\", "#", "--", "/*")
WORD_AT_END = re.compile(r"(\.\s*)?[\w$`]+\Z")
LONGEST_BEFORE_BRACKET = 70  # A name of 64 characters in backticks, and a few spaces.

COMMENTS = r"/\*.*?(?:\*/|\Z)"
COMMON = r"(?P<word>[\w$]+)|(?P<space>\s+)|(?P<symbol>.)"


def _grammar(comments: str, quoted: str) -> re.Pattern[str]:
    return re.compile(f"(?P<comment>{comments})|{quoted}|{COMMON}", re.DOTALL)


def _mysql(string: str, comments: str) -> re.Pattern[str]:
    """With ANSI_QUOTES, text in double quotes is a name."""
    quoted = (
        rf"(?P<string>'(?:{string}''|[^'\\]|{{other}})*')|(?P<name>`(?:``|[^`])*`"
        rf"|\"(?:{string}\"\"|[^\"\\]|{{other}})*\")|(?P<broken>['\"`])"
    ).replace("{other}", "(?!)" if string else r"\\")
    return _grammar(rf"--(?=[\s\x00-\x20]|\Z)[^\n]*|\#[^\n]*|{comments}", quoted)


EXECUTABLE = r"/\*M?!\d*|\*/|" + COMMENTS
# With and without NO_BACKSLASH_ESCAPES; comments for some versions carried out and left out.
MYSQL = [
    _mysql(string, comments) for string in (r"\\.|", "") for comments in (EXECUTABLE, COMMENTS)
]
SQLITE = [
    _grammar(
        rf"--[^\n]*|{COMMENTS}",
        r"(?P<string>'(?:''|[^'])*')|(?P<name>\"(?:\"\"|[^\"])*\"|`(?:``|[^`])*`|\[[^\]]*\])"
        r"|(?P<broken>['\"`\[])",
    )
]


def effect_of(text: str, vendor: str) -> Effect:
    """Return what `text` may do on a database of Django's `vendor`; a statement of Django's: at once."""
    if vendor == "sqlite" and text.startswith("SELECT ") and ";" not in text:
        return READS  # There are no stored functions.
    if len(text) <= LONGEST_KEPT:
        return _known(text, vendor)
    # No hash of it, which takes ten times as long as to compare it with the last one of its kind.
    kind = (vendor, len(text), text[:LONG_START])
    known, effect = _long.get(kind, ("", READS))
    if known != text:
        effect = _examine(text, vendor)
        if len(text) <= LONGEST_LONG:
            if len(_long) >= MOST_LONG:
                _long.clear()
            _long[kind] = (text, effect)
    return effect


def _examine(text: str, vendor: str) -> Effect:
    found = DJANGOS.match(text)
    if vendor == "sqlite":
        if found and ";" not in text:
            return Effect(frozenset([found[found.lastindex or 1].lower()]))
        return _effect(text, SQLITE[0])
    if found or text.startswith("SELECT "):
        start = found.end() if found else 0
        if not any(one in text for one in ODD) and not _may_call_functions(text, start):
            # SELECT ... INTO writes files and variables only.
            return Effect(frozenset([found[found.lastindex or 1].lower()])) if found else READS
    grammars = MYSQL if "\\" in text else MYSQL[:2]
    return reduce(Effect.either, (_effect(text, grammar) for grammar in grammars))


def _may_call_functions(text: str, start: int) -> bool:
    """Say whether a text without strings and comments calls what is not known to write nothing."""
    at = text.find("(", start)
    while at >= 0:
        before = text[max(start, at - LONGEST_BEFORE_BRACKET) : at].rstrip()
        word = WORD_AT_END.search(before)
        if word and word[0].upper() not in MAY_PRECEDE_BRACKETS:  # With a "." before it, too.
            return True
        if not before and at > start:
            return True
        at = text.find("(", at + 1)
    return False


_known = lru_cache(maxsize=1024)(_examine)
_long: dict[tuple[str, int, str], tuple[str, Effect]] = {}


def _effect(text: str, grammar: re.Pattern[str]) -> Effect:
    statements = [statement for statement in _split(text, grammar) if statement]
    effects = list(map(_of_statement, statements))
    if grammar is not SQLITE[0]:
        for number, statement in enumerate(statements):
            if _calls_functions(statement):
                effects[number] = effects[number].either(CALLS_FUNCTIONS)
    return reduce(Effect.then, effects) if statements else READS


def _calls_functions(tokens: list[Token]) -> bool:
    """Say whether a function is called that is not known to write nothing, with or without spaces."""
    start = 1
    if tokens[0][1] in ONE_TABLE:  # Columns may follow its name.
        while start < len(tokens) and tokens[start][0] == "word" and tokens[start][1] in MODIFIERS:
            start += 1
        while tokens[start + 1 : start + 2] == [("symbol", ".")]:
            start += 2
        start += 1 + (tokens[start + 1 : start + 2] == [("symbol", "(")])
    return any(
        tokens[at] == ("symbol", "(")
        and tokens[at - 1][0] in ("word", "name")
        and (tokens[at - 1][1] not in MAY_PRECEDE_BRACKETS or tokens[at - 2] == ("symbol", "."))
        for at in range(start, len(tokens))
    )


def _split(text: str, grammar: re.Pattern[str]) -> Iterator[list[Token]]:
    statement: list[Token] = []
    for found in grammar.finditer(text):
        kind = found.lastgroup or ""
        if kind == "symbol" and found[0] == ";":
            yield statement
            statement = []
        elif kind == "word":
            statement.append((kind, found[0].upper()))
        elif kind not in ("comment", "space"):
            statement.append((kind, found[0]))
    yield statement


def _of_statement(tokens: list[Token]) -> Effect:
    if any(kind == "broken" for kind, _ in tokens):
        return UNKNOWN
    while tokens and tokens[0] == ("symbol", "("):
        tokens = tokens[1:]
    words = [text if kind == "word" else "" for kind, text in tokens]
    verb = words[0] if words else ""
    if verb in ("EXPLAIN", "DESCRIBE", "DESC", "ANALYZE"):
        return _explained(verb, tokens, words)
    if verb == "WITH":
        tokens = _main_part(tokens)
        words = [text if kind == "word" else "" for kind, text in tokens]
        verb = words[0] if words else ""
    if verb in ("SELECT", "SHOW", "VALUES", "HELP", "TABLE"):
        return READS
    if verb in ("INSERT", "REPLACE", "UPDATE", "DELETE"):
        return Effect(_written(tokens))
    if verb == "PRAGMA":
        return READS if set(words) & READING_PRAGMAS else UNKNOWN
    if verb == "SET":
        found = _set(tokens, words)
        # READ COMMITTED is what Django sets by itself, whenever it connects.
        isolates = ISOLATION & set(words) and not {"READ", "COMMITTED"} <= set(words)
        return replace(found, isolates=True) if isolates else found
    if verb in TRANSACTIONS:
        return _transaction(words)
    if verb == "LOAD":
        return Effect(ANY, commits=True)
    if verb in ("DO", "HANDLER"):
        return CALLS_FUNCTIONS
    if verb in COMMITTING:
        return MAY_COMMIT
    # What follows reads a temporary table in the place of the other, for as long as it is connected.
    if verb not in CHANGING or set(words) & {"TEMPORARY", "TEMP", "DATABASE", "SCHEMA"}:
        return UNKNOWN
    return Effect(commits=True, made=frozenset(_plain(*token) for token in tokens[1:]))


ISOLATION = frozenset(["ISOLATION", "TX_ISOLATION", "TRANSACTION_ISOLATION"])
COMMITTING = frozenset(
    ["FLUSH", "GRANT", "REVOKE", "CHECK", "OPTIMIZE", "REPAIR", "LOCK", "UNLOCK", "VACUUM", "KILL"]
)
CHANGING = frozenset(["CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE", "REINDEX"])
TRANSACTIONS = frozenset(["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"])
READING_PRAGMAS = frozenset(
    [
        "FOREIGN_KEYS",
        "FOREIGN_KEY_CHECK",
        "FOREIGN_KEY_LIST",
        "TABLE_INFO",
        "TABLE_XINFO",
        "TABLE_LIST",
        "INDEX_LIST",
        "INDEX_INFO",
        "INDEX_XINFO",
        "DATABASE_LIST",
        "COMPILE_OPTIONS",
        "DATA_VERSION",
    ]
)
BEGINNINGS = re.compile(
    r"BEGIN( WORK| (DEFERRED|IMMEDIATE|EXCLUSIVE))?( TRANSACTION)?"
    r"|START TRANSACTION( READ (ONLY|WRITE)| WITH CONSISTENT SNAPSHOT)?"
)
ENDS = re.compile(r"(COMMIT|END|ROLLBACK)( WORK| TRANSACTION)?( AND NO CHAIN)?( NO RELEASE)?")
SAVEPOINTS = re.compile(
    r"(SAVEPOINT|RELEASE( SAVEPOINT)?|ROLLBACK( WORK| TRANSACTION)? TO( SAVEPOINT)?) \S*"
)


def _transaction(words: list[str]) -> Effect:
    told = " ".join(words)
    if SAVEPOINTS.fullmatch(told):
        return Effect(after=After.AS_TOLD)  # SQLite begins and commits with the outermost one.
    if ENDS.fullmatch(told):
        return ENDED
    if BEGINNINGS.fullmatch(told):
        return Effect(commits=True, after=After.OPEN)
    return UNKNOWN


def _set(tokens: list[Token], words: list[str]) -> Effect:
    """Variables of a session write nothing, unless a function is called or they are these."""
    if words[1:2] == ["STATEMENT"] and "FOR" in words:
        return _of_statement(tokens[words.index("FOR") + 1 :])
    named = {text.strip('`"').upper() for _, text in tokens}
    if named & {"(", "PASSWORD", "COMPLETION_TYPE", "GLOBAL", "PERSIST"}:
        return replace(UNKNOWN, chains="COMPLETION_TYPE" in named)
    return Effect(commits=True) if "AUTOCOMMIT" in named else READS


def _explained(verb: str, tokens: list[Token], words: list[str]) -> Effect:
    """EXPLAIN says what a statement would do; with ANALYZE it is carried out."""
    if "ANALYZE" not in words:
        return READS
    if verb == "ANALYZE" and not set(words) & VERBS:
        return MAY_COMMIT
    begin = next((number for number, word in enumerate(words) if word in VERBS), None)
    return UNKNOWN if begin is None else _of_statement(tokens[begin:])


VERBS = frozenset(["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "MERGE"])


def _main_part(tokens: list[Token]) -> list[Token]:
    depth = 0
    for number, (kind, text) in enumerate(tokens):
        if kind == "symbol":
            depth += {"(": 1, ")": -1}.get(text, 0)
        elif depth <= 0 and number and kind == "word" and text in VERBS - {"WITH"}:
            return tokens[number:]
    return []


MODIFIERS = frozenset(
    [
        "LOW_PRIORITY",
        "DELAYED",
        "HIGH_PRIORITY",
        "QUICK",
        "IGNORE",
        "INTO",
        "OR",
        "ROLLBACK",
        "ABORT",
        "FAIL",
        "REPLACE",
    ]
)
TABLE_FOLLOWS = frozenset(["FROM", "JOIN", "STRAIGHT_JOIN", "USING", ","])
TABLES_END = frozenset(["SET", "WHERE", "ORDER", "LIMIT", "RETURNING"])


def _written(tokens: list[Token]) -> frozenset[str]:
    """Return the tables that an INSERT, REPLACE, UPDATE or DELETE names as written, or more of them."""
    verb, rest = tokens[0][1], tokens[1:]
    while rest and rest[0][0] == "word" and rest[0][1] in MODIFIERS:
        rest = rest[1:]
    found: set[str] = set()
    before, may_follow, was_table = verb, True, False
    for kind, text in rest:
        if (kind == "word" and text in TABLES_END) or (text == "(" and verb in ONE_TABLE):
            break
        if kind == "name" or (kind == "word" and text not in TABLE_FOLLOWS):
            if was_table := may_follow:
                found.add(_plain(kind, text))
            elif verb in ONE_TABLE:
                break
            may_follow = False
        elif text == ".":  # db.table: another database's is not known.
            may_follow = was_table
        else:
            may_follow = text in TABLE_FOLLOWS or (text == "(" and before in TABLE_FOLLOWS | {verb})
        before = text
    return frozenset(found) or ANY


ONE_TABLE = frozenset(["INSERT", "REPLACE"])


def _plain(kind: str, text: str) -> str:
    if kind in ("name", "string"):
        close = "]" if text[0] == "[" else text[0]
        text = text[1:-1].replace(close * 2, close)
    return text.lower()
