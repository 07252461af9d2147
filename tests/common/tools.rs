//! What the tests of clients need from registries, made once under the target directory: a virtual environment of
//! Python, a folder of Node packages; and Debian's JDBC driver. Where a registry cannot be reached the reason is
//! returned, and the test says that it was skipped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fs2::FileExt;

use super::tests_dir;

/// What a package manager says when there is no way to its registry.
const UNREACHABLE: &[&str] = &[
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "ConnectTimeoutError",
    "EAI_AGAIN",
    "ENOTFOUND",
    "ETIMEDOUT",
    "ECONNREFUSED",
];

/// Whether this program runs.
pub fn exists(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
}

/// All that a program wrote.
pub fn shown(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs it. An error means that its registry cannot be reached; anything else that fails is a failure of the test.
fn install(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = shown(&output);
    if output.status.success() {
        return Ok(());
    }
    match said
        .lines()
        .find(|line| UNREACHABLE.iter().any(|words| line.contains(words)))
    {
        Some(line) => Err(format!("no registry: {line}")),
        None => panic!("{command:?}: {}\n{said}", output.status),
    }
}

/// A folder that `make` filled from this list of packages, once for each version of the list.
fn made(name: &str, list: &Path, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(base.join(format!("{name}.lock"))).expect("the target directory can be written");
    lock.lock_exclusive().expect("a lock on our own file");
    let place = base.join(name);
    let wanted = fs::read_to_string(list).expect("the list of packages");
    let seal = place.join("made-from");
    if fs::read_to_string(&seal).ok().as_ref() != Some(&wanted) {
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).expect("the target directory can be written");
        make(&place)?;
        fs::write(&seal, wanted).expect("written");
    }
    Ok(place)
}

/// Python with the packages of tests/clients/requirements.txt.
pub fn python() -> Result<PathBuf, String> {
    if !exists("python3") {
        return Err("python3 is not installed".to_owned());
    }
    let list = tests_dir().join("clients/requirements.txt");
    let place = made("clients-venv", &list, |place| {
        install(Command::new("python3").args(["-m", "venv"]).arg(place))?;
        let mut pip = Command::new(place.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "-r"]);
        install(pip.arg(&list))
    })?;
    Ok(place.join("bin/python"))
}

/// A folder with the packages of tests/clients/package.json and the scripts that use them.
pub fn node() -> Result<PathBuf, String> {
    if !exists("node") || !exists("npm") {
        return Err("node and npm are not installed (Debian: nodejs, npm)".to_owned());
    }
    let scripts = tests_dir().join("clients");
    let list = scripts.join("package.json");
    let place = made("clients-npm", &list, |place| {
        fs::copy(&list, place.join("package.json")).expect("copied");
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--loglevel=error",
        ]);
        install(npm.current_dir(place))
    })?;
    // Node looks for packages beside the script.
    for entry in fs::read_dir(&scripts).expect("our own folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "mjs" || e == "sql") {
            let name = path.file_name().expect("a file has a name");
            let fresh = place.join(format!(".{}-{}", std::process::id(), name.to_string_lossy()));
            fs::copy(&path, &fresh).expect("copied");
            fs::rename(&fresh, place.join(name)).expect("renamed");
        }
    }
    Ok(place)
}

/// The driver of Debian's libpostgresql-jdbc-java.
pub fn jdbc() -> Result<PathBuf, String> {
    let jar = PathBuf::from("/usr/share/java/postgresql.jar");
    if !jar.exists() {
        return Err("no JDBC driver (Debian: libpostgresql-jdbc-java)".to_owned());
    }
    // A single file of source is run by the compiler's module, which a mere JRE has not.
    if !exists("javac") {
        return Err("no Java compiler (Debian: default-jdk-headless)".to_owned());
    }
    Ok(jar)
}

/// pgbench: Debian's, or the one that comes with pgserver.
pub fn pgbench() -> Result<PathBuf, String> {
    if exists("pgbench") {
        return Ok(PathBuf::from("pgbench"));
    }
    let python = python()?;
    let ask = "import pgserver, pathlib; print(pathlib.Path(pgserver.__file__).parent / 'pginstall/bin/pgbench')";
    let output = Command::new(python).args(["-W", "ignore", "-c", ask]).output();
    let output = output.expect("python runs");
    assert!(output.status.success(), "{}", shown(&output));
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
