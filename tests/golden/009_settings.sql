# Settings are an allow-list; none of them moves a wall.
acme> SET application_name = 'golden';
acme> SHOW application_name;
application_name
golden
(1 row)
acme> SET statement_timeout = '5s';
acme> SHOW statement_timeout;
statement_timeout
5s
(1 row)
acme> RESET ALL;
acme> SET datafusion.execution.batch_size = 1;
ERROR 42501
acme> RESET datafusion.runtime.memory_limit;
ERROR 42501
acme> SET row_security = off;
ERROR 42501
acme> SET client_encoding = 'SJIS';
ERROR 22023
acme> SET client_encoding = 'UTF8';
acme> SELECT current_setting('server_version_num');
current_setting
160006
(1 row)
acme> SELECT current_setting('server_version') LIKE '16.6 (Bulkhead %' AS named;
named
t
(1 row)
acme> SELECT version() LIKE 'PostgreSQL 16.6 (Bulkhead %' AS named;
named
t
(1 row)
