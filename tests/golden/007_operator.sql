# The operator creates, suspends and drops tenants, and never sees inside one.
bulkhead> SELECT bulkhead.create_tenant('acme', tier => 'pro', owner => 'owner', password => 'pw-owner') IS NOT NULL AS made;
made
t
(1 row)
bulkhead> SELECT bulkhead.create_tenant('acme', owner => 'owner', password => 'other');
ERROR 42710
bulkhead> SELECT bulkhead.create_tenant('Acme', owner => 'owner', password => 'x');
ERROR 22023
bulkhead> SELECT bulkhead.create_tenant('bulkhead', owner => 'owner', password => 'x');
ERROR 22023
bulkhead> SELECT bulkhead.create_tenant('third', tier => 'nosuch', owner => 'owner', password => 'x');
ERROR 42704
acme>     INSERT INTO documents (title, content) VALUES ('t', 'Only acme reads this.');
INSERT 0 1
bulkhead> SELECT name, tier, state, ai_enabled FROM bulkhead.tenants WHERE name = 'acme';
name|tier|state|ai_enabled
acme|pro|active|t
(1 row)
bulkhead> SELECT * FROM ai.documents;
ERROR 42P01
bulkhead> SELECT ai.rag('What does acme read?');
ERROR 42883
bulkhead> SELECT bulkhead.alter_tenant('acme', state => 'suspended') IS NULL AS x;
x
f
(1 row)
acme>     SELECT count(*) FROM documents;
ERROR 55000
bulkhead> SELECT bulkhead.alter_tenant('acme', state => 'active') IS NULL AS x;
x
f
(1 row)
acme>     SELECT count(*) FROM documents;
count
1
(1 row)
bulkhead> SELECT bulkhead.alter_tenant('acme', ai_enabled => false) IS NULL AS x;
x
f
(1 row)
acme>     SELECT ai.rag('anything');
ERROR 55000
bulkhead> SELECT bulkhead.drop_tenant('acme') IS NULL AS x;
x
f
(1 row)
acme>     SELECT 1;
ERROR 28000
bulkhead> SELECT bulkhead.drop_tenant('acme');
ERROR 42704
other>    SELECT bulkhead.create_tenant('mine', owner => 'o', password => 'p');
ERROR 42883
