# A tenant's channels are its own, and what is said in them is said at the commit.
acme> LISTEN orders;
LISTEN
acme> LISTEN "Orders";
LISTEN
acme> SELECT pg_listening_channels() ORDER BY 1;
pg_listening_channels
Orders
orders
(2 rows)
acme> SELECT * FROM pg_listening_channels() AS c ORDER BY c;
c
Orders
orders
(2 rows)
acme#2> SELECT * FROM pg_listening_channels();
(0 rows)
acme> NOTIFY orders;
NOTIFY
acme> NOTIFY orders, 'two';
NOTIFY
acme> SELECT pg_notify('orders', 'three');
pg_notify
''
(1 row)
acme> NOTIFY orders, two;
ERROR 42601
acme> SELECT pg_notify('', 'x');
ERROR 22023: channel name cannot be empty
acme> SELECT pg_notify(repeat('x', 64), 'x');
ERROR 22023: channel name too long
acme> SELECT pg_notify('orders', repeat('x', 8000));
ERROR 22023: payload string too long
acme> BEGIN;
acme> UNLISTEN *;
acme> ROLLBACK;
acme> SELECT count(*) FROM pg_listening_channels();
count
2
(1 row)
acme> UNLISTEN "Orders";
UNLISTEN
acme> SELECT * FROM pg_listening_channels();
pg_listening_channels
orders
(1 row)
acme> DISCARD ALL;
acme> SELECT * FROM pg_listening_channels();
(0 rows)
bulkhead> LISTEN orders;
ERROR 0A000
bulkhead> NOTIFY orders;
ERROR 0A000
bulkhead> UNLISTEN *;
UNLISTEN
