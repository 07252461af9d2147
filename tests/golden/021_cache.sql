# Each tenant has a response cache of its own; it can be looked at and cleared.
acme>        CREATE USER ann PASSWORD 'pw-ann' IN ROLE analyst;
CREATE ROLE
acme>        SELECT * FROM bulkhead.cache_stats;
entries|bytes|hits|misses|saved_usd
0|0|0|0|0
(1 row)
acme/ann>    SELECT entries, saved_usd FROM cache_stats;
entries|saved_usd
0|0
(1 row)
acme>        SELECT ai.clear_cache();
clear_cache
0
(1 row)
acme/ann>    SELECT ai.clear_cache();
ERROR 42501
acme>        DELETE FROM bulkhead.cache_stats;
ERROR 42501
