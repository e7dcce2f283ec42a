"""What SQL texts may write, begin and end, told without a database; what is not known counts as all."""

import pytest

from freshcache import sql_statements
from freshcache.sql_statements import (
    ANY,
    LONGEST_KEPT,
    MOST_LONG,
    READS,
    After,
    _known,
    _long,
    effect_of,
)

READING = [
    "SELECT * FROM store_product",
    "SELECT 1;",
    "(SELECT 1) UNION (SELECT 2)",
    "/* UPDATE a */ -- DELETE FROM b\n SELECT 'x; UPDATE store_product', `a;b`, \"c;d\"",
    "SELECT 'it''s; DELETE FROM store_product'",
    "WITH cheap AS (SELECT 1) SELECT REPLACE(name, 'a', 'b') FROM cheap",
    "EXPLAIN UPDATE store_product SET price = 1",
]
READING_MYSQL = [
    "# UPDATE a\nSELECT 1",
    r"SELECT 'a\\'; SELECT 2",
    "SELECT /*!40001 SQL_NO_CACHE */ * FROM store_product",
    "SHOW CREATE TABLE store_product",
    "SET NAMES utf8mb4",
    "SET SQL_AUTO_IS_NULL = 0; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION max_statement_time = 3",
    "SET STATEMENT max_statement_time = 1 FOR SELECT 1",
    "ANALYZE FORMAT=JSON SELECT * FROM store_product",
]
READING_SQLITE = [
    "SELECT '\\'; SELECT 2 -- '; UPDATE store_product",
    "/*! UPDATE store_product SET price = 1 */ SELECT 1",
    "PRAGMA foreign_keys = ON",
    'PRAGMA table_info("store_product")',
    "SELECT [a;b]",
    "SELECT 1 /* never closed; UPDATE store_product",
]


@pytest.mark.parametrize("vendor", ["mysql", "sqlite"])
@pytest.mark.parametrize("text", READING)
def test_what_only_reads_is_let_through(text, vendor):
    assert effect_of(text, vendor) is READS


@pytest.mark.parametrize("text", READING_MYSQL)
def test_what_only_reads_on_mysql_is_let_through(text):
    assert effect_of(text, "mysql") is READS


@pytest.mark.parametrize("text", READING_SQLITE)
def test_what_only_reads_on_sqlite_is_let_through(text):
    assert effect_of(text, "sqlite") is READS


WRITTEN = {
    "UPDATE `t` SET a = 1": {"t"},
    "# c\nUPDATE t SET a = 1": {"t"},
    "-- c\n/* d */ update `T` set a = 1": {"t"},
    "SELECT 1; UPDATE t SET a = 1": {"t"},
    "SELECT 1--\n; DELETE FROM t": {"t"},
    "SELECT '\\'; UPDATE t SET a = 1; -- '": {"t"},  # with NO_BACKSLASH_ESCAPES
    "SELECT '\\''; DELETE FROM t; -- '": {"t"},
    "/*!50000 UPDATE t SET a = 1 */": {"t"},
    "/*M!100000 DELETE FROM t */": {"t"},
    "/*!99999 SELECT */ DELETE FROM t": {"t"},  # where the comment is one
    "SELECT 1 /*!; DELETE FROM t */": {"t"},
    "REPLACE INTO t(a) VALUES (1)": {"t"},
    "INSERT LOW_PRIORITY IGNORE t SELECT a, b FROM store_product": {"t"},
    "INSERT INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 2": {"t"},
    "INSERT INTO other.t VALUES (1)": {"other", "t"},
    "UPDATE a, t AS u JOIN (v) ON a.x = u.y SET a.x = 1": {"a", "t", "v"},
    "DELETE `t` FROM `t` INNER JOIN `u` ON (`t`.`id` = `u`.`id`) WHERE 1": {"t", "u"},
    "DELETE FROM a USING a, t WHERE a.id = t.id": {"a", "t"},
    "WITH a AS (SELECT 1) UPDATE t, a SET x = 1": {"t", "a"},
    "WITH a AS (SELECT 1) DELETE FROM t": {"t"},
    "ANALYZE UPDATE t SET a = 1": {"t"},
    "EXPLAIN ANALYZE DELETE FROM t": {"t"},
    "SET STATEMENT max_statement_time = 1 FOR UPDATE t SET a = 1": {"t"},
    "DO f()": ANY,
    "HANDLER t READ FIRST": ANY,
    "LOAD DATA INFILE 'x' INTO TABLE t": ANY,
    "MERGE INTO t USING u": ANY,
    "CALL p()": ANY,
    "EXECUTE s": ANY,
    "EXECUTE IMMEDIATE 'DELETE FROM t'": ANY,
    "BEGIN NOT ATOMIC UPDATE t SET a = 1; END": ANY,
    "SET @x = f()": ANY,
    "SET sql_log_bin = 0; CALL p()": ANY,
    "SELECT 1; 'never closed": ANY,
    "IF 1 THEN DELETE FROM t; END IF": ANY,
}


@pytest.mark.parametrize(("text", "tables"), WRITTEN.items())
def test_what_mysql_may_write_is_named(text, tables):
    assert effect_of(text, "mysql").tables >= tables


@pytest.mark.parametrize("verb", ["REPLACE INTO", "INSERT INTO", "DELETE FROM"])
def test_behind_with_no_other_table_is_written(verb):
    found = effect_of(f"WITH a AS (SELECT 1) {verb} t", "mysql")
    assert (found.tables, found.commits) == ({"t"}, False)


def test_tables_that_are_changed_are_named_wherever_they_stand():
    for text in ("TRUNCATE t", "SELECT 1; DROP TABLE a, `T`", "RENAME TABLE a TO t; COMMIT"):
        assert "t" in effect_of(text, "mysql").made


def test_what_sqlite_may_write_is_named():
    for text in (
        "UPDATE OR REPLACE [t] SET a = 1",
        'DELETE FROM "T"',
        "REPLACE INTO 't' VALUES (1)",
    ):
        assert effect_of(text, "sqlite").tables
    for text in ("ATTACH 'x' AS y", "PRAGMA writable_schema = 1", "SELECT 1 # 2; x"):
        assert effect_of(text, "sqlite").tables == ANY


COMMITTING = """ALTER TABLE a ADD b INT | ANALYZE TABLE a | BEGIN | BEGIN WORK | CACHE INDEX a IN b |
CALL p() | CHANGE MASTER TO a | CHECK TABLE a | COMMIT | CREATE INDEX a ON b (c) | CREATE USER a |
DROP TABLE a | FLUSH TABLES | GRANT ALL ON a TO b | IMPORT TABLE FROM 'a' | INSTALL PLUGIN a SONAME 'b' |
KILL 1 | LOAD INDEX INTO CACHE a | LOCK TABLES a READ | OPTIMIZE TABLE a | PURGE BINARY LOGS TO 'a' |
RENAME TABLE a TO b | REPAIR TABLE a | RESET MASTER | REVOKE ALL ON a FROM b | SET PASSWORD = 'a' |
SET @@session.autocommit = 1 | SET `autocommit` = 1 | START SLAVE | START TRANSACTION READ ONLY |
STOP SLAVE | TRUNCATE a | UNINSTALL PLUGIN a | UNLOCK TABLES | XA END 'a' | XA COMMIT 'a' |
# c\nTRUNCATE TABLE a | /*! CREATE */ TABLE a (b INT) | SELECT 1; ANALYZE TABLE a | PREPARE s FROM 'x'"""


@pytest.mark.parametrize("text", [text.strip() for text in COMMITTING.split("|")])
def test_what_mysql_commits_before_is_known(text):
    assert effect_of(text, "mysql").commits


def test_transactions_that_sql_begins_and_ends_are_known():
    for text in ("START TRANSACTION", "BEGIN", "XA START 'a'", "CALL p()", "COMMIT AND CHAIN"):
        assert effect_of(text, "mysql").after is After.OPEN
    for text in ("BEGIN; SAVEPOINT a", "BEGIN; SELECT 1", "COMMIT; BEGIN", "SAVEPOINT a; BEGIN"):
        assert effect_of(text, "mysql").after is After.OPEN
    for text in ("COMMIT", "ROLLBACK WORK", "BEGIN; UPDATE a SET b = 1; COMMIT"):
        assert effect_of(text, "mysql").after is After.CLOSED
    for text in (
        "SAVEPOINT `a`",
        "ROLLBACK TO SAVEPOINT `a`",
        "RELEASE SAVEPOINT a",
        "UNLOCK TABLES",
    ):
        assert effect_of(text, "mysql").after not in (After.OPEN, After.CLOSED)


ROWS = "INSERT INTO `t` (`a`) VALUES " + ", ".join(["(%s)"] * LONGEST_KEPT)


def test_long_texts_are_told_without_the_tokenizer_and_take_bounded_memory(monkeypatch):
    kept = _known.cache_info().currsize
    assert effect_of(f"{ROWS}; DELETE FROM u", "mysql").tables == {"t", "u"}
    monkeypatch.setattr(sql_statements, "_split", None)
    for number in range(MOST_LONG + 1):
        assert effect_of(f"{ROWS}{', (%s)' * number}", "mysql").tables == {"t"}
    assert len(_long) <= MOST_LONG
    assert _known.cache_info().currsize == kept


def test_a_long_text_is_not_taken_for_another_one_of_its_length():
    assert effect_of(f"{ROWS}, (abc)", "mysql").tables == {"t"}
    assert effect_of(f"{ROWS}; f %s", "mysql").tables == ANY | {"t"}
    assert effect_of(f"{ROWS}, f(%s)", "mysql").tables == ANY | {"t"}
    assert effect_of(f"{ROWS}, (abc)", "mysql").tables == {"t"}


CALLS = """SELECT f() | select f() | SELECT `f`() | SELECT f  () | SELECT f/**/() | SELECT a.f(1) |
SELECT UPPER(f(1)) | SELECT 1 FROM t WHERE f(a) | VALUES (f()) | WITH c AS (SELECT f()) SELECT 1 |
(SELECT f()) UNION SELECT 1 | INSERT INTO u SELECT f() | INSERT INTO `u` (`a`) VALUES (f()) |
UPDATE `u` SET `a` = f() | DELETE FROM `u` WHERE `a` = f() | EXPLAIN ANALYZE SELECT f() |
SELECT 1; SELECT f() | SELECT a.COUNT(1) | SELECT a . count (1) | SELECT 'x', a.COUNT(1) |
SELECT VALUE(1) | SELECT `COUNT`(1) | REPLACE INTO u VALUES (f()) | SELECT f \t\n() |
UPDATE `u` SET `a` = `f`(1)"""


@pytest.mark.parametrize("text", [text.strip() for text in CALLS.split("|")])
def test_what_calls_a_function_that_may_be_a_stored_one_may_write_everything(text):
    assert effect_of(text, "mysql").tables >= ANY
    assert not effect_of(text, "mysql").commits


def test_what_calls_functions_of_mysql_itself_only_reads():
    for text in (
        "SELECT COUNT(*), COALESCE(a, 1), CAST(a AS CHAR(10)) FROM `t` WHERE (`a` IN (1) AND (1))",
        "SELECT a, ROW_NUMBER() OVER (PARTITION BY b) FROM t USE INDEX (i) WHERE EXISTS(SELECT 1)",
        "SELECT t.a FROM t WHERE t.a IN(1) AND(t.b=1.5) OR t.a=ALL(SELECT MAX(b) FROM u)",
        "SELECT CAST(a AS DATETIME(6)), MATCH (a) AGAINST ('x') FROM t",
        "SELECT 'f()', \"g()\" -- h()",
        "SELECT JSON_EXTRACT(`a`, '$.f(')",
    ):
        assert effect_of(text, "mysql") is READS
    assert effect_of("SELECT django_date_trunc(a)", "sqlite") is READS


def test_a_commit_that_may_begin_the_next_transaction_is_known():
    assert effect_of("SET completion_type = 1", "mysql").chains
    assert effect_of("SELECT 1; SET @@session.completion_type = 'CHAIN'", "mysql").chains
    assert not effect_of("SET autocommit = 1", "mysql").chains
