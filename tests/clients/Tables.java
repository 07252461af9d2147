// JDBC (Debian's libpostgresql-jdbc-java) with tables of one's own: both query modes, binary, batches, cursors, COPY,
// arrays, metadata, updatable rows. Prints a transcript of a line for each thing that was seen.
import java.io.*;
import java.math.BigDecimal;
import java.nio.file.*;
import java.sql.*;
import java.time.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class Tables {
    interface Work { Object run() throws Exception; }

    static String shown(Object value) throws Exception {
        if (value == null) return "null";
        if (value instanceof byte[] b) return "bytes " + HexFormat.of().formatHex(b);
        if (value instanceof java.sql.Array a) return "Array " + a.getBaseTypeName() + " " + shown(a.getArray());
        if (value instanceof Object[] all) {
            List<String> each = new ArrayList<>();
            for (Object one : all) each.add(shown(one));
            return each.toString();
        }
        if (value instanceof int[] all) return Arrays.toString(all);
        if (value instanceof Collection<?> all) return shown(all.toArray());
        if (value instanceof PGobject o) return "PGobject " + o.getType() + " " + o.getValue();
        if (value instanceof String s) return '"' + s.replace("\n", "\\n").replace("\t", "\\t") + '"';
        return value.getClass().getSimpleName() + " " + value;
    }

    static void say(String key, Object value) throws Exception {
        System.out.println(key + "\t" + shown(value));
    }

    static void attempt(Connection c, String key, Work work) throws Exception {
        try {
            say(key, work.run());
        } catch (SQLException error) {
            SQLException cause = error.getNextException() != null ? error.getNextException() : error;
            ServerErrorMessage m = cause instanceof PSQLException p ? p.getServerErrorMessage() : null;
            String told = m == null ? cause.getMessage() : m.getMessage() + " detail=" + m.getDetail() + " table=" + m.getTable()
                + " column=" + m.getColumn() + " constraint=" + m.getConstraint() + " position=" + m.getPosition();
            System.out.println(key + "\t! " + cause.getSQLState() + " " + told.replace("\n", " / "));
            if (!c.getAutoCommit()) c.rollback();
        }
    }

    static List<Object> rows(ResultSet found) throws SQLException {
        List<Object> all = new ArrayList<>();
        int n = found.getMetaData().getColumnCount();
        while (found.next()) {
            Object[] row = new Object[n];
            for (int i = 0; i < n; i++) row[i] = found.getObject(i + 1);
            all.add(row);
        }
        return all;
    }

    static Object described(ResultSet found) throws SQLException {
        ResultSetMetaData m = found.getMetaData();
        List<Object> columns = new ArrayList<>();
        for (int i = 1; i <= m.getColumnCount(); i++)
            columns.add(m.getColumnLabel(i) + " " + m.getColumnTypeName(i) + " " + m.getColumnType(i) + " " + m.getPrecision(i) + " " + m.getScale(i)
                + " " + m.isNullable(i) + " " + m.isAutoIncrement(i) + " " + m.getTableName(i));
        return List.of(columns, rows(found));
    }

    static void run(Connection c, String key, String query, Object... parameters) throws Exception {
        attempt(c, key, () -> {
            try (PreparedStatement s = c.prepareStatement(query)) {
                for (int i = 0; i < parameters.length; i++) s.setObject(i + 1, parameters[i]);
                return s.execute() ? described(s.getResultSet()) : s.getUpdateCount();
            }
        });
    }

    static PGobject object(String type, String value) throws SQLException {
        PGobject o = new PGobject();
        o.setType(type);
        o.setValue(value);
        return o;
    }

    static void whole(String key, Connection c, String[] every) throws Exception {
        for (int i = 0; i < every.length; i++) run(c, key + " every " + i, every[i]);
        List<String> columns = new ArrayList<>();
        try (Statement s = c.createStatement(); ResultSet found = s.executeQuery("SELECT * FROM every LIMIT 0")) {
            for (int i = 1; i <= found.getMetaData().getColumnCount(); i++) columns.add(found.getMetaData().getColumnName(i));
        }
        for (String column : columns) run(c, key + " read " + column, "SELECT " + column + " FROM every WHERE id < 3 ORDER BY id");
        for (String column : List.of("i8", "f8", "n", "t", "y", "tz", "jb", "ai", "at")) run(c, key + " extreme " + column, "SELECT " + column + " FROM every WHERE id >= 3 ORDER BY id");
        attempt(c, key + " java.time", () -> {
            try (Statement s = c.createStatement(); ResultSet f = s.executeQuery("SELECT d, ti, ts, tz, u FROM every WHERE id = 1")) {
                f.next();
                return List.of(f.getObject(1, LocalDate.class), f.getObject(2, LocalTime.class), f.getObject(3, LocalDateTime.class), f.getObject(4, OffsetDateTime.class), f.getObject(5, UUID.class));
            }
        });
        run(c, key + " where", "SELECT id FROM every WHERE i4 > ? AND t = ? AND d < ? AND u = ?", 0, "text", java.sql.Date.valueOf("2025-01-01"), UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
        run(c, key + " array parameter", "SELECT id FROM every WHERE id = ANY (?) ORDER BY id", c.createArrayOf("int4", new Integer[] {1, 3}));
        run(c, key + " send", "SELECT ?::bool, ?::int, ?::int8, ?::numeric, ?::float8, ?::text, ?::bytea, ?::date, ?::timestamptz, ?::jsonb, ?::text[]",
            true, 5, 1L << 40, new BigDecimal("1.50"), 1.25, "häß", new byte[] {0, -1}, LocalDate.of(2024, 2, 29), OffsetDateTime.of(2024, 2, 29, 1, 2, 3, 0, ZoneOffset.UTC), object("jsonb", "{\"a\": 1}"), c.createArrayOf("text", new String[] {"a", null, "b,c"}));

        run(c, key + " create", "CREATE TABLE note (id serial PRIMARY KEY, title varchar(20) UNIQUE NOT NULL, n numeric(6,2), made timestamptz DEFAULT '2024-02-29', v vector(2))");
        attempt(c, key + " generated keys", () -> {
            try (PreparedStatement s = c.prepareStatement("INSERT INTO note (title, n) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                s.setString(1, "one");
                s.setBigDecimal(2, new BigDecimal("1.005"));
                int n = s.executeUpdate();
                return List.of(n, rows(s.getGeneratedKeys()));
            }
        });
        attempt(c, key + " batch", () -> {
            try (PreparedStatement s = c.prepareStatement("INSERT INTO note (title, n) VALUES (?, ?)", new String[] {"id"})) {
                for (int i = 0; i < 5; i++) {
                    s.setString(1, "batch " + i);
                    s.setInt(2, i);
                    s.addBatch();
                }
                int[] counts = s.executeBatch();
                return List.of(counts.length, rows(s.getGeneratedKeys()));
            }
        });
        attempt(c, key + " batch of statements", () -> {
            try (Statement s = c.createStatement()) {
                s.addBatch("UPDATE note SET n = 7 WHERE id = 1");
                s.addBatch("DELETE FROM note WHERE title = 'batch 4'");
                s.addBatch("DELETE FROM note WHERE title = 'nosuch'");
                return s.executeBatch();
            }
        });
        run(c, key + " vector", "UPDATE note SET v = ? WHERE id = ? RETURNING v, v <-> ?", object("vector", "[1,2]"), 1, object("vector", "[1,1]"));
        run(c, key + " rows", "SELECT * FROM note ORDER BY id");

        c.setAutoCommit(false);
        attempt(c, key + " transaction", () -> {
            try (Statement s = c.createStatement()) {
                s.executeUpdate("INSERT INTO note (title) VALUES ('outer')");
                Savepoint p = c.setSavepoint("p");
                s.executeUpdate("INSERT INTO note (title) VALUES ('inner')");
                c.rollback(p);
                c.releaseSavepoint(p);
                s.executeUpdate("INSERT INTO note (title) VALUES ('kept')");
                c.commit();
                return rows(s.executeQuery("SELECT title FROM note WHERE id > 6 ORDER BY title"));
            }
        });
        for (String[] bad : new String[][] {
            {"duplicate", "INSERT INTO note (title) VALUES ('one')"}, {"null", "UPDATE note SET title = NULL WHERE id = 1"}, {"no table", "SELECT * FROM nosuch"},
            {"no column", "SELECT nosuch FROM note"}, {"syntax", "SELEC 1"}, {"zero", "SELECT 1/0"}, {"long", "UPDATE note SET title = repeat('x', 30)"}, {"dimension", "UPDATE note SET v = '[1,2,3]'"},
        }) run(c, key + " " + bad[0], bad[1]);
        attempt(c, key + " aborted", () -> {
            try (Statement s = c.createStatement()) {
                try { s.execute("SELECT nosuch"); } catch (SQLException expected) { }
                return s.execute("SELECT 1");
            }
        });
        attempt(c, key + " fetch size", () -> {
            try (PreparedStatement s = c.prepareStatement("SELECT x FROM generate_series(1, ?) AS g(x)")) {
                s.setInt(1, 25);
                s.setFetchSize(10);
                long sum = 0;
                ResultSet f = s.executeQuery();
                while (f.next()) sum += f.getInt(1);
                return sum;
            }
        });
        attempt(c, key + " updatable", () -> {
            try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                ResultSet f = s.executeQuery("SELECT id, title, n FROM note WHERE id = 1");
                f.next();
                f.updateBigDecimal("n", new BigDecimal("42"));
                f.updateRow();
                f.moveToInsertRow();
                f.updateString("title", "by the row");
                f.insertRow();
                return rows(s.executeQuery("SELECT title, n FROM note WHERE id = 1 OR title LIKE 'by%' ORDER BY id"));
            }
        });
        c.rollback();
        c.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        c.setReadOnly(true);
        run(c, key + " level", "SELECT current_setting('transaction_isolation')");
        run(c, key + " read only", "DELETE FROM note");
        c.rollback();
        c.setReadOnly(false);
        c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        c.setAutoCommit(true);

        CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
        attempt(c, key + " copy in", () -> copy.copyIn("COPY note (title, n) FROM STDIN WITH (FORMAT csv, HEADER)", new StringReader("title,n\n\"c,1\",1\nc2,\n")));
        attempt(c, key + " copy bad", () -> copy.copyIn("COPY note (title, n) FROM STDIN", new StringReader("c3\t1\nc4\tx\n")));
        attempt(c, key + " copy out", () -> {
            StringWriter out = new StringWriter();
            return copy.copyOut("COPY (SELECT title, n, v FROM note ORDER BY title) TO STDOUT", out) + " " + out;
        });
        attempt(c, key + " notified", () -> {
            try (Statement s = c.createStatement()) {
                s.execute("LISTEN chatter");
                s.execute("NOTIFY chatter, 'hello'");
                var heard = c.unwrap(PGConnection.class).getNotifications(10_000);
                s.execute("UNLISTEN *");
                return heard[0].getName() + " " + heard[0].getParameter();
            }
        });
        attempt(c, key + " several", () -> {
            try (Statement s = c.createStatement()) {
                s.execute("SELECT 1; UPDATE note SET n = 1 WHERE id = 1; SELECT 2");
                List<Object> all = new ArrayList<>(rows(s.getResultSet()));
                s.getMoreResults();
                all.add(s.getUpdateCount());
                s.getMoreResults();
                all.addAll(rows(s.getResultSet()));
                return all;
            }
        });
    }

    static Object listed(ResultSet found, String... names) throws SQLException {
        List<String> all = new ArrayList<>();
        while (found.next()) {
            List<String> row = new ArrayList<>();
            for (String name : names) row.add(found.getString(name));
            all.add(row.toString());
        }
        Collections.sort(all);
        return all;
    }

    static void metadata(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            s.execute("CREATE TABLE child (id int PRIMARY KEY, note_id int REFERENCES note ON DELETE CASCADE, CHECK (id > 0))");
            s.execute("CREATE INDEX child_note ON child (note_id)");
            s.execute("CREATE VIEW titles AS SELECT title FROM note");
        }
        DatabaseMetaData m = c.getMetaData();
        attempt(c, "product", () -> List.of(m.getDatabaseProductName(), m.getDatabaseMajorVersion(), m.supportsTransactions(), m.getUserName(), m.getDefaultTransactionIsolation()));
        attempt(c, "tables", () -> listed(m.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME", "TABLE_TYPE", "REMARKS"));
        attempt(c, "columns", () -> listed(m.getColumns(null, "public", "note", null), "ORDINAL_POSITION", "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS", "NULLABLE", "COLUMN_DEF", "IS_AUTOINCREMENT"));
        attempt(c, "every column", () -> listed(m.getColumns(null, "public", "every", null), "ORDINAL_POSITION", "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME", "COLUMN_SIZE"));
        attempt(c, "primary keys", () -> listed(m.getPrimaryKeys(null, "public", "note"), "COLUMN_NAME", "PK_NAME", "KEY_SEQ"));
        attempt(c, "imported keys", () -> listed(m.getImportedKeys(null, "public", "child"), "PKTABLE_NAME", "PKCOLUMN_NAME", "FKCOLUMN_NAME", "DELETE_RULE", "FK_NAME"));
        attempt(c, "exported keys", () -> listed(m.getExportedKeys(null, "public", "note"), "FKTABLE_NAME", "FKCOLUMN_NAME"));
        attempt(c, "indexes", () -> listed(m.getIndexInfo(null, "public", "child", false, false), "INDEX_NAME", "COLUMN_NAME", "NON_UNIQUE", "TYPE"));
        attempt(c, "schemas", () -> listed(m.getSchemas(null, "public"), "TABLE_SCHEM"));
        attempt(c, "row identifier", () -> listed(m.getBestRowIdentifier(null, "public", "note", DatabaseMetaData.bestRowSession, true), "COLUMN_NAME", "TYPE_NAME"));
        attempt(c, "type", () -> {
            ResultSet f = m.getTypeInfo();
            Set<String> wanted = new TreeSet<>(List.of("bool", "int4", "text", "numeric", "timestamptz", "jsonb", "uuid", "vector"));
            Set<String> found = new TreeSet<>();
            while (f.next()) if (wanted.contains(f.getString("TYPE_NAME"))) found.add(f.getString("TYPE_NAME") + " " + f.getInt("DATA_TYPE"));
            return found;
        });
        attempt(c, "functions", () -> { ResultSet f = m.getFunctions(null, null, "lower"); return f.next(); });
        attempt(c, "parameters", () -> {
            try (PreparedStatement s = c.prepareStatement("SELECT * FROM note WHERE id = ? AND title = ? AND n > ?")) {
                ParameterMetaData p = s.getParameterMetaData();
                return p.getParameterTypeName(1) + " " + p.getParameterTypeName(2) + " " + p.getParameterTypeName(3) + " " + s.getMetaData().getColumnCount();
            }
        });
        attempt(c, "valid", () -> c.isValid(5));
        attempt(c, "schema", () -> c.getSchema() + " " + c.getCatalog());
    }

    public static void main(String[] arguments) throws Exception {
        TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
        Locale.setDefault(Locale.ROOT);
        var at = java.net.URI.create(arguments[0]);
        String[] login = at.getUserInfo().split(":");
        String url = "jdbc:postgresql://" + at.getHost() + ":" + at.getPort() + at.getPath();
        String[] every = Files.readString(Path.of(arguments[1])).split(";\n");
        try (Connection wrong = DriverManager.getConnection(url, login[0], "wrong")) {
            say("wrong password", "logs in");
        } catch (SQLException error) {
            say("wrong password", error.getSQLState());
        }
        for (String mode : List.of("extended", "simple", "prepareThreshold=-1", "reWriteBatchedInserts=true")) {
            String option = mode.contains("=") ? mode : "preferQueryMode=" + mode;
            try (Connection c = DriverManager.getConnection(url + "?" + option + "&ApplicationName=tables", login[0], login[1])) {
                try (Statement s = c.createStatement()) {
                    s.execute("CREATE EXTENSION IF NOT EXISTS vector");
                }
                whole(mode, c, every);
                if (mode.equals("extended")) metadata(c);
                try (Statement s = c.createStatement()) {
                    s.execute("DROP VIEW IF EXISTS titles");
                    s.execute("DROP TABLE IF EXISTS child, note, every");
                }
            }
        }
        say("done", true);
    }
}
