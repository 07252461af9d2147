# Numbers are typed, computed and rounded as PostgreSQL does; what does not fit is an error, never another number.
acme> SELECT pg_typeof(1), pg_typeof(3000000000), pg_typeof(1.5), pg_typeof(1 + 1.0), pg_typeof(1.5 * 2::float8);
pg_typeof|pg_typeof|pg_typeof|pg_typeof|pg_typeof
integer|bigint|numeric|numeric|double precision
(1 row)
acme> SELECT 7 / 2, -7 / 2, 7 % 3, mod(-7, 3), 10 / 4.0, 1.10 + 1, 2.0 * 1.50;
?column?|?column?|?column?|mod|?column?|?column?|?column?
3|-3|1|-1|2.5000000000000000|2.10|3.000
(1 row)
acme> SELECT 1.10, '1.10'::numeric, 1.10::numeric, 1234.567::numeric(6, 1), 5::numeric, 2.5::float8;
?column?|numeric|numeric|numeric|numeric|float8
1.10|1.10|1.10|1234.6|5|2.5
(1 row)
acme> SELECT 1.5::int, 2.5::int, -2.5::int, 2.5::float8::int, '  42 '::int, true::int, 0::bool;
int4|int4|?column?|int4|int4|int4|bool
2|3|-3|2|42|1|f
(1 row)
acme> SELECT sum(x), avg(x), sum(x::bigint), pg_typeof(sum(x)), pg_typeof(avg(x)) FROM (VALUES (1), (2), (4)) v(x);
sum|avg|sum|pg_typeof|pg_typeof
7|2.3333333333333333|7|bigint|numeric
(1 row)
acme> SELECT n FROM generate_series(1, 3) AS g(n) WHERE n BETWEEN 1.5 AND 3 ORDER BY 1 DESC LIMIT 2;
n
3
2
(2 rows)
acme> SELECT 2147483647 + 1;
ERROR 22003: integer out of range
acme> SELECT 9223372036854775807 * 2;
ERROR 22003: bigint out of range
acme> SELECT 32767::smallint + 1::smallint;
ERROR 22003: smallint out of range
acme> SELECT 1.5 / 0;
ERROR 22012: division by zero
acme> SELECT 1::float8 / 0;
ERROR 22012: division by zero
acme> SELECT 12345.6::numeric(4, 1);
ERROR 22003: numeric field overflow
acme> SELECT '12x'::int;
ERROR 22P02: invalid input syntax for type integer: "12x"
acme> SELECT true::date;
ERROR 42846: cannot cast type boolean to date
acme> SELECT 'x'::nosuchtype;
ERROR 42704: type "nosuchtype" does not exist
acme> SELECT to_char(1234567.891, '9,999,999.99'), to_char(-5, '999'), to_char(42, 'FM0000'), to_char(485, 'FMRN');
to_char|to_char|to_char|to_char
 1,234,567.89|  -5|0042|CDLXXXV
(1 row)
