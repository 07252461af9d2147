# Members use documents and AI; analysts see costs and usage only.
acme>        CREATE USER ann PASSWORD 'pw-ann' IN ROLE analyst;
CREATE ROLE
acme>        CREATE USER mel PASSWORD 'pw-mel' IN ROLE member;
CREATE ROLE
acme>        SELECT name, role FROM bulkhead.users ORDER BY name;
name|role
ann|analyst
mel|member
owner|owner
(3 rows)
acme/mel>    INSERT INTO documents (title, content) VALUES ('m', 'Mel was here.');
INSERT 0 1
acme/ann>    SELECT * FROM ai.documents;
ERROR 42501
acme/ann>    SELECT * FROM ai.chunks;
ERROR 42501
acme/ann>    SELECT * FROM ai.search('mel');
ERROR 42501
acme/ann>    SELECT ai.rag('mel');
ERROR 42501
acme/ann>    SELECT total_cost_usd >= 0 AS seen FROM bulkhead.costs;
seen
t
(1 row)
acme/mel>    DROP USER ann;
ERROR 42501
acme>        CREATE USER ann PASSWORD 'again';
ERROR 42710
acme>        DROP USER ann;
DROP ROLE
acme/ann#2>  SELECT 1;
ERROR 28P01
acme>        ALTER USER mel PASSWORD 'changed';
ALTER ROLE
acme/mel#2>  SELECT 1;
ERROR 28P01
acme>        DROP USER nobody;
ERROR 42704
