-- Users of a ClickHouse server, as an administrator runs it once:
--   clickhouse client --multiquery --param_writer=… --param_sre=… --param_auditor=… --param_admin=… < users.sql
-- (each parameter is the SHA-256 of a password, hexadecimal). The same users as a file: users.xml.
-- `deploytrail_*` are the databases of mirrored clusters, such as deploytrail_eu; ClickHouse 24.10 and later read that.
CREATE ROLE IF NOT EXISTS deploytrail_writer;
GRANT SELECT, INSERT ON deploytrail.* TO deploytrail_writer;
GRANT SELECT, INSERT ON deploytrail_*.* TO deploytrail_writer;
GRANT SELECT ON system.columns TO deploytrail_writer;
GRANT SELECT ON system.tables TO deploytrail_writer;

CREATE ROLE IF NOT EXISTS deploytrail_sre;
GRANT SELECT ON deploytrail.* TO deploytrail_sre;
GRANT SELECT ON deploytrail_*.* TO deploytrail_sre;

CREATE ROLE IF NOT EXISTS deploytrail_auditor;
GRANT SELECT ON deploytrail.* TO deploytrail_auditor;
GRANT SELECT ON deploytrail_*.* TO deploytrail_auditor;
GRANT SELECT ON system.parts TO deploytrail_auditor;
GRANT SELECT ON system.query_log TO deploytrail_auditor;

CREATE ROLE IF NOT EXISTS deploytrail_admin;
GRANT ALL ON *.* TO deploytrail_admin WITH GRANT OPTION;

-- On a cluster, questions join tables that are spread over its shards; ClickHouse refuses that unless it is told how:
-- each inner question is asked once, of all shards.
CREATE SETTINGS PROFILE IF NOT EXISTS deploytrail_writer SETTINGS
    async_insert = 0,
    distributed_product_mode = 'global',
    max_memory_usage = 8000000000
TO deploytrail_writer;

CREATE SETTINGS PROFILE IF NOT EXISTS deploytrail_sre SETTINGS
    readonly = 2 CONST,
    distributed_product_mode = 'global',
    max_execution_time = 30 MIN 1 MAX 60,
    max_memory_usage = 4000000000 MIN 1 MAX 4000000000,
    max_rows_to_read = 2000000000 MIN 1 MAX 2000000000,
    max_result_rows = 1000000 MIN 1 MAX 1000000,
    max_threads = 4
TO deploytrail_sre;

CREATE SETTINGS PROFILE IF NOT EXISTS deploytrail_auditor SETTINGS
    readonly = 2 CONST,
    distributed_product_mode = 'global',
    max_execution_time = 1800 MIN 1 MAX 3600,
    max_memory_usage = 8000000000 MIN 1 MAX 8000000000
TO deploytrail_auditor;

CREATE SETTINGS PROFILE IF NOT EXISTS deploytrail_admin SETTINGS distributed_product_mode = 'global' TO deploytrail_admin;

CREATE QUOTA IF NOT EXISTS deploytrail_sre KEYED BY user_name
    FOR INTERVAL 60 second MAX queries = 600, errors = 100,
    FOR INTERVAL 3600 second MAX queries = 20000, read_rows = 50000000000
TO deploytrail_sre;

CREATE QUOTA IF NOT EXISTS deploytrail_auditor KEYED BY user_name FOR INTERVAL 3600 second MAX queries = 5000
TO deploytrail_auditor;

CREATE USER IF NOT EXISTS deploytrail_writer IDENTIFIED WITH sha256_hash BY {writer:String}
DEFAULT ROLE deploytrail_writer;

CREATE USER IF NOT EXISTS deploytrail_sre IDENTIFIED WITH sha256_hash BY {sre:String}
DEFAULT ROLE deploytrail_sre;

CREATE USER IF NOT EXISTS deploytrail_auditor IDENTIFIED WITH sha256_hash BY {auditor:String}
DEFAULT ROLE deploytrail_auditor;

CREATE USER IF NOT EXISTS deploytrail_admin IDENTIFIED WITH sha256_hash BY {admin:String}
DEFAULT ROLE deploytrail_admin;

GRANT deploytrail_writer TO deploytrail_writer;
GRANT deploytrail_sre TO deploytrail_sre;
GRANT deploytrail_auditor TO deploytrail_auditor;
GRANT deploytrail_admin TO deploytrail_admin;
