# Dates, times and intervals compute and print as PostgreSQL's do.
acme> SELECT date '2024-03-01' - date '2024-02-28', date '2024-02-28' + 2, date '2024-01-31' + interval '1 month', date '2024-01-01' + time '10:30';
?column?|?column?|?column?|?column?
2|2024-03-01|2024-02-29 00:00:00|2024-01-01 10:30:00
(1 row)
acme> SELECT timestamp '2024-03-01 00:00' - timestamp '2024-02-28 12:00', interval '1 day' * 2.5, interval '1 hour' / 3, interval '1 month' = interval '30 days';
?column?|?column?|?column?|?column?
1 day 12:00:00|2 days 12:00:00|00:20:00|t
(1 row)
acme> SELECT extract(year from date '2024-02-29'), extract(epoch from timestamptz '2024-01-01Z'), extract(second from timestamp '2024-01-01 00:00:07.5'), date_part('dow', date '2024-02-29');
extract|extract|extract|date_part
2024|1704067200.000000|7.500000|4
(1 row)
acme> SELECT date_trunc('month', timestamp '2024-02-29 12:34'), date_trunc('week', timestamptz '2024-02-29 12:34Z'), date_trunc('day', interval '3 days 4 hours');
date_trunc|date_trunc|date_trunc
2024-02-01 00:00:00|2024-02-26 00:00:00+00|3 days
(1 row)
acme> SELECT age(timestamp '2024-03-01', timestamp '2023-01-15'), justify_interval(interval '1 mon -1 hour'), make_interval(0, 0, 0, 10, 3), make_date(2024, 2, 29);
age|justify_interval|make_interval|make_date
1 year 1 mon 17 days|29 days 23:00:00|10 days 03:00:00|2024-02-29
(1 row)
acme> SELECT timestamp '2024-03-10 12:00' AT TIME ZONE 'America/New_York', timestamptz '2024-03-10 12:00Z' AT TIME ZONE 'Asia/Tokyo';
timezone|timezone
2024-03-10 16:00:00+00|2024-03-10 21:00:00
(1 row)
acme> SELECT to_char(timestamp '2024-02-29 13:05:09', 'FMDay, DD Mon YYYY HH12:MI:SS AM'), to_date('29 Feb 2024', 'DD Mon YYYY'), to_timestamp(1709208000);
to_char|to_date|to_timestamp
Thursday, 29 Feb 2024 01:05:09 PM|2024-02-29|2024-02-29 12:00:00+00
(1 row)
acme> SELECT now()::text, (timestamp '2024-02-29 12:00')::text, true::text, ARRAY[1, NULL]::text, 1e15::float8::text;
now|text|text|array|text
{time}|2024-02-29 12:00:00|true|{1,NULL}|1e+15
(1 row)
acme> SELECT t FROM generate_series(timestamp '2024-01-01', timestamp '2024-01-01 02:00', '1 hour') AS g(t);
t
2024-01-01 00:00:00
2024-01-01 01:00:00
2024-01-01 02:00:00
(3 rows)
acme> SELECT timestamptz '2024-03-10 12:00Z' AT TIME ZONE 'Nowhere/Land';
ERROR 22023: time zone "Nowhere/Land" not recognized
acme> SELECT extract(nosuch from date '2024-01-01');
ERROR 22023: unit "nosuch" not recognized for type date
acme> SELECT '2024-13-01'::date;
ERROR 22008
acme> SELECT 'not a date'::date;
ERROR 22007
