//! What each layer may say, which one wins, and what a wrong setting is told.

use super::*;

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command, Refusal> {
    let arguments = ["bulkhead"]
        .iter()
        .chain(arguments)
        .map(OsString::from)
        .collect::<Vec<_>>();
    let environment = environment
        .iter()
        .map(|(k, v)| (OsString::from(k), OsString::from(v)))
        .collect::<Vec<_>>();
    parse(arguments, environment, Path::new("/scratch"), false)
}

fn serve(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, String> {
    let arguments = ["serve"].iter().chain(arguments).copied().collect::<Vec<_>>();
    match run(&arguments, environment) {
        Ok(Command::Serve(config)) => Ok(*config),
        Ok(Command::Demo(_) | Command::BenchVectors(_)) => Err("no server".to_owned()),
        Err(refusal) => {
            assert_eq!(refusal.exit_code(), 2, "{refusal}");
            Err(refusal.to_string())
        }
    }
}

fn refused(arguments: &[&str], environment: &[(&str, &str)], words: &[&str]) {
    let Err(text) = serve(arguments, environment) else {
        panic!("{arguments:?} {environment:?} is accepted")
    };
    for word in words {
        assert!(
            text.contains(word),
            "{arguments:?} {environment:?}: no '{word}' in: {text}"
        );
    }
}

struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bulkhead-config-{}.toml", uuid::Uuid::new_v4().simple()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn defaults_are_local_and_safe() {
    let config = serve(&[], &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:5433");
    assert_eq!(config.data, Path::new("./bulkhead-data"));
    assert!(config.tls.is_none() && !config.require_tls);
    assert!(matches!(config.master_key, MasterKey::File(None)));
    assert_eq!(config.min_free_bytes, limits::MIN_FREE_BYTES);
    assert!(config.vector_memory >= 64 << 20, "{}", config.vector_memory);
    assert_eq!(config.log_level, LogLevel::Info);
    assert_eq!(config.admin_password, None);
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let file = File::new("data = 'file'\nregion = 'eu-file'\nmin_free_mib = 7\nlog_level = 'debug'\n");
    let flags = ["--data", "flag", "--config", file.path()];
    let environment = [("BULKHEAD_DATA", "env"), ("BULKHEAD_REGION", "eu-env"), ("HOME", "/x")];
    let config = serve(&flags, &environment).unwrap();
    assert_eq!(config.data, Path::new("flag"));
    assert_eq!(config.region.as_deref(), Some("eu-env"));
    assert_eq!(config.min_free_bytes, 7 << 20);
    assert_eq!(config.log_level, LogLevel::Debug);
}

#[test]
fn a_wrong_setting_is_named_with_its_source_and_what_is_allowed() {
    refused(
        &["--listen", "nowhere"],
        &[],
        &["listen", "--listen", "nowhere", "HOST:PORT"],
    );
    refused(
        &[],
        &[("BULKHEAD_LISTEN", "1.2.3.4:99999")],
        &["environment BULKHEAD_LISTEN", "99999"],
    );
    refused(
        &["--log-level", "loud"],
        &[],
        &["log_level (--log-level)", "off, error"],
    );
    refused(&["--min-free-mib", "0"], &[], &["min_free_mib", "1 to 1048576"]);
    for (text, bytes) in [
        ("1MiB", 1 << 20),
        ("1048576", 1 << 20),
        ("3GiB", 3 << 30),
        ("2048KiB", 2 << 20),
    ] {
        assert_eq!(serve(&["--vector-memory", text], &[]).unwrap().vector_memory, bytes);
    }
    for text in ["1048575", "1", "GiB", "+5GiB", "1.5GiB", "8G", "99999999999TiB"] {
        refused(&["--vector-memory", text], &[], &["vector_memory", "512MiB", text]);
    }
    refused(&["--min-free-mib=-5"], &[], &["-5", "--min-free-mib"]);
    refused(&["--region", "Mars!"], &[], &["region", "a-z"]);
    refused(&["--bogus"], &[], &["--bogus"]);
    refused(
        &[],
        &[("BULKHEAD_REGION", "")],
        &["region", "BULKHEAD_REGION", "is empty"],
    );
    refused(
        &[],
        &[("BULKHEAD_ADMIN_PASSWORD", &"x".repeat(1025))],
        &["admin_password", "too long"],
    );
}

#[test]
fn unknown_settings_stop_the_start() {
    refused(
        &[],
        &[("BULKHEAD_TLS_CRET", "x")],
        &["BULKHEAD_TLS_CRET", "BULKHEAD_TLS_CERT"],
    );
    let file = File::new("tls_crt = 'x'\n");
    refused(&["--config", file.path()], &[], &["tls_crt", file.path(), "tls_cert"]);
    let file = File::new("listen = [1]\n");
    refused(&["--config", file.path()], &[], &["listen", file.path(), "HOST:PORT"]);
    let file = File::new("listen = \n");
    refused(&["--config", file.path()], &[], &["not TOML"]);
    let file = File::new("master_key = 'aa'\n");
    refused(&["--config", file.path()], &[], &["BULKHEAD_MASTER_KEY"]);
    refused(
        &["--config", "/does/not/exist.toml"],
        &[],
        &["/does/not/exist.toml", "cannot be read"],
    );
    let of_kubernetes = [
        ("BULKHEAD_SERVICE_HOST", "10.0.0.1"),
        ("BULKHEAD_PORT", "tcp://10.0.0.1:5433"),
    ];
    assert!(serve(&[], &of_kubernetes).is_ok());
}

#[test]
fn security_settings_never_downgrade() {
    refused(
        &["--tls-cert", "c.pem"],
        &[],
        &["tls_cert (--tls-cert)", "without tls_key"],
    );
    refused(
        &[],
        &[("BULKHEAD_TLS_KEY", "k.pem")],
        &["tls_key (environment BULKHEAD_TLS_KEY)", "without tls_cert"],
    );
    refused(&["--tls-cert", "", "--tls-key", ""], &[], &["is empty"]);
    for everywhere in ["0.0.0.0:5433", "[::]:5433", "192.0.2.1:5433"] {
        refused(
            &["--listen", everywhere],
            &[],
            &["--allow-plaintext", "tls_cert", everywhere],
        );
        assert!(serve(&["--listen", everywhere, "--allow-plaintext"], &[]).is_ok());
        assert!(serve(&["--listen", everywhere, "--tls-cert", "c", "--tls-key", "k"], &[]).is_ok());
    }
    refused(
        &["--listen", "0.0.0.0:1"],
        &[("BULKHEAD_ALLOW_PLAINTEXT", "false")],
        &["--allow-plaintext"],
    );
    refused(
        &[],
        &[("BULKHEAD_ALLOW_PLAINTEXT", "yes")],
        &["allow_plaintext", "true or false"],
    );
    assert!(serve(&["--listen", "[::1]:0"], &[]).is_ok());
}

#[test]
fn the_master_key_is_64_digits_and_never_shown() {
    let digits = "00ff".repeat(16);
    let config = serve(&[], &[("BULKHEAD_MASTER_KEY", &digits)]).unwrap();
    assert!(matches!(config.master_key, MasterKey::Bytes(key) if key[..4] == [0, 255, 0, 255]));
    let wrong_digit = format!("{}zz", &digits[2..]);
    for bad in ["abcdef", wrong_digit.as_str(), "\u{e9}".repeat(32).as_str()] {
        refused(
            &[],
            &[("BULKHEAD_MASTER_KEY", bad)],
            &["master_key", "64 hexadecimal digits"],
        );
        assert!(!serve(&[], &[("BULKHEAD_MASTER_KEY", bad)]).err().unwrap().contains(bad));
    }
    refused(
        &["--master-key-file", "f"],
        &[("BULKHEAD_MASTER_KEY", &digits)],
        &["both", "--master-key-file"],
    );
    let config = serve(&["--master-key-file", "f"], &[]).unwrap();
    assert!(matches!(config.master_key, MasterKey::File(Some(path)) if path == Path::new("f")));
}

#[test]
fn the_demo_stays_on_loopback_and_ignores_the_environment() {
    let Ok(Command::Demo(demo)) = run(&["demo", "--once"], &[("BULKHEAD_LISTEN", "x")]) else {
        panic!("no demo")
    };
    assert!(demo.once && !demo.listen_given && demo.data.starts_with("/scratch"));
    let refusal = run(&["demo", "--listen", "0.0.0.0:1"], &[]).err().unwrap();
    assert!(refusal.to_string().contains("loopback") && refusal.exit_code() == 2);
    for help in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        assert_eq!(run(help, &[]).err().unwrap().exit_code(), 0);
    }
    assert_eq!(run(&[], &[]).err().unwrap().exit_code(), 2);
}

#[test]
fn a_bench_knows_its_server_before_it_begins() {
    let bench = |arguments: &[&str], environment: &[(&str, &str)]| {
        let arguments = ["bench", "vectors"]
            .iter()
            .chain(arguments)
            .copied()
            .collect::<Vec<_>>();
        match run(&arguments, environment) {
            Ok(Command::BenchVectors(bench)) => Ok(*bench),
            Ok(_) => Err("no bench".to_owned()),
            Err(refusal) => {
                assert_eq!(refusal.exit_code(), 2, "{refusal}");
                Err(refusal.to_string())
            }
        }
    };
    let plain = bench(&[], &[("BULKHEAD_LISTEN", "x")]).unwrap();
    assert_eq!((plain.tenants, plain.per_tenant, plain.dimensions), (10, 1000, 384));
    assert!(plain.url.is_none() && plain.data.starts_with("/scratch"));
    assert_eq!(bench(&["--connections", "1,64"], &[]).unwrap().connections, [1, 64]);

    let url = "postgresql://me@localhost:5432/db";
    let server = bench(&["--url", url], &[("PGPASSWORD", "from libpq")])
        .unwrap()
        .url
        .unwrap();
    assert_eq!(server.get_password(), Some(&b"from libpq"[..]));
    let url = "postgres://me:own@localhost/db";
    let server = bench(&["--url", url], &[("PGPASSWORD", "from libpq")])
        .unwrap()
        .url
        .unwrap();
    assert_eq!(server.get_password(), Some(&b"own"[..]));
    for (url, why) in [
        ("host=localhost user=me password=hushhush", "is not a postgresql:// URL"),
        ("postgresql://me:hushhush@localhost/db?sslmode=require", "plaintext"),
        ("postgresql://me:hushhush@localhost/db?port=hushhush", "port"),
        ("postgresql:///db", "names no host"),
        ("postgresql://localhost/db", "names no user"),
    ] {
        let refusal = bench(&["--url", url], &[]).err().unwrap();
        assert!(
            refusal.contains(why) && !refusal.contains("hushhush"),
            "{url}: {refusal}"
        );
    }
    for wrong in [
        ["--tenants", "0"],
        ["--dim", "16001"],
        ["--connections", "1,,2"],
        ["--k", "some"],
    ] {
        let refusal = bench(&wrong, &[]).err().unwrap();
        assert!(refusal.contains(wrong[0]), "{refusal}");
    }
}

#[test]
fn every_flag_is_a_setting() {
    let flags = ServeFlags::default().given().map(|(name, _)| name);
    let settings = SETTINGS
        .iter()
        .filter(|s| s.places != Places::Environment)
        .map(|s| s.name);
    assert!(settings.clone().all(|name| flags.contains(&name)));
    assert!(flags.iter().all(|flag| settings.clone().any(|name| name == *flag)));
}
