CREATE TABLE every (
    id integer PRIMARY KEY, b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, n numeric,
    n2 numeric(10, 2), t text, v varchar(20), c char(5), y bytea, d date, ti time, ts timestamp, tz timestamptz,
    iv interval, u uuid, j json, jb jsonb, ai integer[], at text[], ab boolean[], af double precision[], an numeric[],
    ad date[], au uuid[], atz timestamptz[], vec vector(3));
INSERT INTO every VALUES (
    1, true, 2, 3, 4, 1.5, 2.5, 3.1400, 12.345, 'text', 'varchar', 'char', '\x00ff10', '2024-02-29', '12:34:56.789',
    '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789+02', '1 year 2 months 3 days 04:05:06.7',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"b": 1, "a": [1,  2]}', '{"b": 1, "a": [1,  2.50, null]}', '{1,NULL,3}',
    ARRAY['a', 'b c', 'd"e', NULL, ''], '{t,f,NULL}', '{1.5,-2.5}', '{1.10,2}', '{2024-02-29,1999-12-31}',
    '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', '{2024-02-29 12:00:00+00}', '[1,2.5,-3]');
INSERT INTO every (id) VALUES (2);
INSERT INTO every VALUES (
    3, false, -32768, -2147483648, -9223372036854775808, 3.4028235e38, -1.7976931348623157e308,
    12345678901234567890.123456789, -99999999.99, E'häß €😀\t''quoted"\nline', '', '', '', '0001-01-01', '00:00',
    '0001-01-01 00:00', '1900-01-01 00:00+00', '-1 day -00:00:01', '00000000-0000-0000-0000-000000000000', '[]', '"s"',
    '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '[0,0,0]');
INSERT INTO every (id, i2, i4, i8, n, d, ts, tz, jb, ai, at) VALUES (
    4, 32767, 2147483647, 9223372036854775807, -0.000001, '9999-12-31', '9999-12-31 23:59:59.999999',
    '2262-04-11 23:47:16+00', '{"deep": {"er": [{"x": true}, {}]}, "ü": "\u00fc"}', '{1,-2}', '{"{}",",","NULL","\\"}');
