# The login decides who one is, and nothing else does.
acme>      CREATE USER bob PASSWORD 'pw-bob' IN ROLE member;
CREATE ROLE
acme>      SELECT current_tenant(), current_user, current_database();
current_tenant|current_user|current_database
acme|owner|acme
(1 row)
acme/bob>  SELECT current_tenant(), current_user, session_user;
current_tenant|current_user|session_user
acme|bob|bob
(1 row)
acme/bob>  SET ROLE owner;
ERROR 42501
acme/bob>  SET SESSION AUTHORIZATION owner;
ERROR 42501
acme/bob>  SELECT set_config('bulkhead.tenant', 'umbra', false);
ERROR 42501
acme/bob>  SELECT current_tenant(), current_user;
current_tenant|current_user
acme|bob
(1 row)
acme/bob>  CREATE USER eve PASSWORD 'pw-eve' IN ROLE owner;
ERROR 42501
umbra/bob> SELECT 1;
ERROR 28P01: password authentication failed
# no tenant nowhere
nowhere/bob> SELECT 1;
ERROR 28P01: password authentication failed
