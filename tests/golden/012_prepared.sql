# Statements prepared in SQL; another session's names do not exist here.
acme> INSERT INTO documents (title, content) VALUES ('p', 'prepared');
INSERT 0 1
acme> PREPARE p AS SELECT title FROM documents WHERE content = $1;
PREPARE
acme> EXECUTE p('prepared');
title
p
(1 row)
acme> PREPARE p AS SELECT 1;
ERROR 42P05
acme#2> EXECUTE p('prepared');
ERROR 26000
acme> SET ROLE admin;
ERROR 42501
acme> EXECUTE p('prepared');
title
p
(1 row)
acme> DEALLOCATE p;
DEALLOCATE
acme> EXECUTE p('prepared');
ERROR 26000
acme> DISCARD ALL;
DISCARD ALL
