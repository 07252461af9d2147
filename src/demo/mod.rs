//! `bulkhead demo`: two tenants on a real server, over the wire, with everything checked.
//!
//! Whatever differs from what this program promises ends the demo with exit code 1, so that it is a
//! smoke test as well.

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use bulkhead::{
    config::DemoConfig,
    limits,
    server::ServerOptions,
    sql::EngineOptions,
    tenant::{MasterKey, OpenOptions},
};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, config::SslMode};

use self::page::Page;
use crate::{Running, told_to_stop};

mod page;

/// All steps together; far more than they take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What both tenants are asked, and a word that only the second one knows.
const QUESTION: &str = "How long do we keep customer backups?";
const SECRET: &str = "quillwort";

struct Sample {
    tenant: &'static str,
    about: &'static str,
    documents: &'static str,
    /// What an answer to [`QUESTION`] must say.
    fact: &'static str,
}

const SAMPLES: [Sample; 2] = [
    Sample {
        tenant: "harbor",
        about: "Harbor Hosting, servers for medical practices",
        documents: include_str!("../../sql/demo/harbor.sql"),
        fact: "35 days",
    },
    Sample {
        tenant: "summit",
        about: "Summit Bookings, lift passes for ski resorts",
        documents: include_str!("../../sql/demo/summit.sql"),
        fact: "90 days",
    },
];

/// Why the demo ended early.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the demo failed: {}", self.0)
    }
}

impl From<bulkhead::error::Error> for Failure {
    fn from(error: bulkhead::error::Error) -> Self {
        Self(crate::with_causes(&error))
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Runs the demo until its end, Ctrl-C or the first surprise.
pub async fn run(config: DemoConfig) -> Result<()> {
    let told_to_stop = told_to_stop()?;
    tokio::pin!(told_to_stop);
    let mut page = Page::new(config.colour);
    page.title("Bulkhead: two customers, one server, a wall between them");
    let directory = Scratch(config.data.clone());
    let admin_password = password();
    let running = start(&config, &admin_password, &mut page).await?;
    let demo = Demo::new(running.address, admin_password, config.operator_sql.clone());
    let shown = tokio::select! {
        shown = tokio::time::timeout(PATIENCE, demo.show(&mut page)) => {
            shown.unwrap_or_else(|_| Err(Failure(format!("not finished after {PATIENCE:?}"))))
        }
        () = &mut told_to_stop => Err(Failure("interrupted".to_owned())),
    };
    if shown.is_ok() && !config.once {
        demo.invite(&mut page);
        told_to_stop.await;
        page.line("");
    }
    let stopped = running.stop().await;
    drop(directory);
    shown?;
    stopped?;
    if config.once {
        page.line("");
        page.line("All of it was as it should be.");
    }
    Ok(())
}

/// Starts the server; if the usual port is taken and no other was asked for, on a free one.
async fn start(config: &DemoConfig, admin_password: &str, page: &mut Page) -> Result<Running> {
    page.section("A server on an empty directory");
    let open = OpenOptions {
        data: config.data.clone(),
        master_key: MasterKey::File(None),
        min_free_bytes: limits::MIN_FREE_BYTES,
        admin_password: Some(admin_password.to_owned()),
    };
    let mut listen = config.listen;
    if !config.listen_given && std::net::TcpListener::bind(listen).is_err() {
        page.note(&format!("port {} is in use, so another one is taken", listen.port()));
        listen.set_port(0);
    }
    let listen = ServerOptions {
        listen: listen.to_string(),
        tls: None,
        require_tls: false,
    };
    let running = Running::start(open, &listen, EngineOptions::default()).await?;
    page.fact("listening on", &running.address.to_string());
    page.fact("data in", &config.data.display().to_string());
    Ok(running)
}

/// The temporary directory, removed when the demo ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Demo {
    address: SocketAddr,
    admin_password: String,
    operator_sql: Option<String>,
    owners: [String; SAMPLES.len()],
}

impl Demo {
    fn new(address: SocketAddr, admin_password: String, operator_sql: Option<String>) -> Self {
        Self {
            address,
            admin_password,
            operator_sql,
            owners: std::array::from_fn(|_| password()),
        }
    }

    async fn show(&self, page: &mut Page) -> Result<()> {
        let operator = self.connect("bulkhead", "admin", &self.admin_password).await?;
        if let Some(sql) = &self.operator_sql {
            let done = operator.batch_execute(sql).await;
            done.map_err(|e| failed("the operator's SQL", &e))?;
            page.note("the operator's own SQL is done");
        }
        self.create_tenants(&operator, page).await?;
        let harbor = self.connect(SAMPLES[0].tenant, "owner", &self.owners[0]).await?;
        let summit = self.connect(SAMPLES[1].tenant, "owner", &self.owners[1]).await?;
        let tenants = [&harbor, &summit];
        load(tenants, page).await?;
        ask(tenants, page).await?;
        self.attack(&harbor, &summit, page).await?;
        costs(&operator, tenants, page).await
    }

    async fn create_tenants(&self, operator: &Client, page: &mut Page) -> Result<()> {
        page.section("The operator creates two tenants");
        for (sample, password) in SAMPLES.iter().zip(&self.owners) {
            let sql = "SELECT bulkhead.create_tenant($1, tier => 'pro', owner => 'owner', password => $2)";
            let created = operator.query(sql, &[&sample.tenant, password]).await;
            created.map_err(|e| failed("creating a tenant", &e))?;
            page.row(&[(10, sample.tenant), (0, sample.about)]);
        }
        Ok(())
    }

    /// Everything here has to fail, and to fail as if the other tenant did not exist.
    async fn attack(&self, harbor: &Client, summit: &Client, page: &mut Page) -> Result<()> {
        page.section("Trying to cross the wall");
        let wrong = self.login(SAMPLES[1].tenant, "owner", &self.owners[0]).await.err();
        let nobody = self.login("nosuchtenant", "owner", &self.owners[0]).await.err();
        let refused = same_refusal("28P01", wrong, nobody, |text| text.to_owned())?;
        page.held(
            "log in to summit with the password of harbor",
            &format!("{refused}, the same as for a tenant that does not exist"),
        );

        for table in ["ai.documents", "documents", "bulkhead.usage"] {
            let select = |tenant: &str| format!("SELECT * FROM {tenant}.{table}");
            let foreign = harbor.simple_query(&select("summit")).await.err();
            let nobody = harbor.simple_query(&select("nosuch")).await.err();
            let refused = same_refusal("42P01", foreign, nobody, |text| text.replace("summit", "nosuch"))?;
            page.held(&format!("harbor> {}", select("summit")), &refused);
        }

        let search = format!("SELECT count(*) FROM ai.search('{SECRET}', mode => 'keyword')");
        let scan = format!("SELECT count(*) FROM documents WHERE lower(content) LIKE '%{SECRET}%'");
        for sql in [search, scan] {
            let (own, foreign) = (number(summit, &sql).await?, number(harbor, &sql).await?);
            // Without the first, an empty index would pass.
            expect(own > 0, || format!("summit does not find its own word: {sql}"))?;
            expect(foreign == 0, || format!("harbor sees {foreign} rows of summit: {sql}"))?;
            page.held(&format!("harbor> {sql}"), &format!("{foreign} (in summit: {own})"));
        }
        Ok(())
    }

    fn invite(&self, page: &mut Page) {
        page.section("Now you");
        for (sample, password) in SAMPLES.iter().zip(&self.owners) {
            page.line(&format!(
                "  psql \"postgresql://owner:{password}@{}/{}\"",
                self.address, sample.tenant
            ));
        }
        page.line(&format!(
            "  psql \"postgresql://admin:{}@{}/bulkhead\"",
            self.admin_password, self.address
        ));
        page.line("");
        page.note("In a tenant, try:");
        for sql in [
            "SELECT answer, citations FROM ai.rag('Who pays when a lift is closed?');",
            "SELECT rank, title, score FROM ai.search('restore a server', k => 3);",
            "INSERT INTO documents (title, content) VALUES ('Note', 'The kettle is on the second floor.');",
            "SELECT ai.rag('Where is the kettle?');",
            "SELECT * FROM bulkhead.costs;",
        ] {
            page.line(&format!("  {sql}"));
        }
        page.line("");
        page.note("Ctrl-C stops the server and removes its directory.");
    }

    async fn connect(&self, tenant: &str, user: &str, password: &str) -> Result<Client> {
        let login = self.login(tenant, user, password).await;
        login.map_err(|e| failed(&format!("logging in to {tenant}"), &e))
    }

    async fn login(&self, tenant: &str, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.address.ip().to_string())
            .port(self.address.port())
            .ssl_mode(SslMode::Disable);
        config
            .dbname(tenant)
            .user(user)
            .password(password)
            .application_name("bulkhead demo");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

async fn load(tenants: [&Client; 2], page: &mut Page) -> Result<()> {
    page.section("Each loads its documents: INSERT INTO documents (title, content, metadata) ...");
    for (sample, client) in SAMPLES.iter().zip(tenants) {
        let start = Instant::now();
        let loaded = client.simple_query(sample.documents).await;
        loaded.map_err(|e| failed("loading documents", &e))?;
        let took = format!("{} ms", start.elapsed().as_millis());
        let documents = number(client, "SELECT count(*) FROM documents").await?;
        let chunks = number(client, "SELECT count(*) FROM chunks").await?;
        expect(documents == 6 && chunks >= documents, || {
            format!(
                "{} has {documents} documents and {chunks} chunks after loading 6",
                sample.tenant
            )
        })?;
        let counts = format!("{documents} documents, {chunks} chunks embedded and indexed");
        page.row(&[(10, sample.tenant), (52, &counts), (0, &took)]);
    }
    Ok(())
}

async fn ask(tenants: [&Client; 2], page: &mut Page) -> Result<()> {
    page.section(&format!("The same question to both: \"{QUESTION}\""));
    for (sample, client) in SAMPLES.iter().zip(tenants) {
        let start = Instant::now();
        let sql = "SELECT answer, citations::text FROM ai.rag($1)";
        let rows = client
            .query(sql, &[&QUESTION])
            .await
            .map_err(|e| failed("ai.rag", &e))?;
        let took = start.elapsed().as_millis();
        let [row] = &rows[..] else {
            return Err(Failure(format!("ai.rag gave {} rows", rows.len())));
        };
        let text = |column| row.try_get::<_, String>(column).map_err(|e| failed("ai.rag", &e));
        let (answer, citations) = (text(0)?, text(1)?);
        expect(answer.contains(sample.fact), || {
            format!("{} does not know '{}': {answer}", sample.tenant, sample.fact)
        })?;
        for other in SAMPLES.iter().filter(|other| other.tenant != sample.tenant) {
            expect(!answer.contains(other.fact), || {
                format!("{} answers for {}", sample.tenant, other.tenant)
            })?;
        }
        page.answer(sample.tenant, &answer, &format!("{took} ms"));
        let citations: Vec<serde_json::Value> =
            serde_json::from_str(&citations).map_err(|e| Failure(format!("citations are not JSON: {e}")))?;
        expect(!citations.is_empty(), || {
            format!("{} answers without a citation", sample.tenant)
        })?;
        for citation in &citations {
            let title = citation["title"].as_str().unwrap_or_default();
            let own = client
                .query("SELECT 1 FROM documents WHERE title = $1", &[&title])
                .await;
            let own = own.map_err(|e| failed("looking up a citation", &e))?;
            expect(own.len() == 1, || {
                format!("{} cites '{title}', which it does not have", sample.tenant)
            })?;
            page.cited(&citation["n"].to_string(), title);
        }
    }
    Ok(())
}

async fn costs(operator: &Client, tenants: [&Client; 2], page: &mut Page) -> Result<()> {
    page.section("What it cost, to the nano-dollar: bulkhead.costs");
    const WIDTHS: [usize; 4] = [10, 14, 14, 18];
    let row = |page: &mut Page, cells: [&str; 5]| {
        let widths = WIDTHS.iter().copied().chain([0]);
        page.row(&widths.zip(cells).collect::<Vec<_>>());
    };
    row(page, ["", "model tokens", "statements", "vector searches", "USD"]);
    let sql = "SELECT sum(llm_tokens), sum(db_query_count), sum(vector_search_count), sum(total_cost_usd) FROM costs";
    for (sample, client) in SAMPLES.iter().zip(tenants) {
        let found = cells(client, sql).await?;
        let [tokens, statements, searches, total] = &found[..] else {
            return Err(Failure(format!("bulkhead.costs gave {} columns", found.len())));
        };
        row(page, [sample.tenant, tokens, statements, searches, total]);
        let sql = "SELECT (SELECT sum(cost_usd) FROM usage) = (SELECT sum(total_cost_usd) FROM costs)";
        let equal = cells(client, sql).await?;
        expect(equal == ["t"], || {
            format!("the usage of {} does not add up to its costs", sample.tenant)
        })?;
    }
    page.note("Each sum equals the sum of the tenant's usage lines. The operator sees amounts and no content:");
    for sample in SAMPLES {
        let sql = format!(
            "SELECT sum(total_cost_usd) FROM bulkhead.costs WHERE tenant = '{}'",
            sample.tenant
        );
        let total = cells(operator, &sql).await?.concat();
        expect(total.parse::<f64>().is_ok(), || {
            format!("the operator does not see what {} costs", sample.tenant)
        })?;
        page.row(&[(10, sample.tenant), (0, &format!("{total} USD written so far"))]);
    }
    let content = operator.simple_query("SELECT * FROM documents").await.err();
    let code = content.as_ref().and_then(|e| e.code()).map_or("", |code| code.code());
    expect(code == "42P01", || {
        "the operator can name a table of documents".to_owned()
    })?;
    page.held("operator> SELECT * FROM documents", code);
    Ok(())
}

/// The cells of the only row of a statement.
async fn cells(client: &Client, sql: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(sql).await.map_err(|e| failed(sql, &e))?;
    let mut rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let (Some(row), None) = (rows.next(), rows.next()) else {
        return Err(Failure(format!("not one row: {sql}")));
    };
    Ok((0..row.len()).map(|i| row.get(i).unwrap_or("").to_owned()).collect())
}

async fn number(client: &Client, sql: &str) -> Result<i64> {
    let cell = cells(client, sql).await?.concat();
    cell.parse()
        .map_err(|_| Failure(format!("'{cell}' is not a number: {sql}")))
}

/// The SQLSTATE of two refusals, which must be alike once `masked` has hidden the names asked for.
fn same_refusal(
    code: &str,
    foreign: Option<tokio_postgres::Error>,
    nobody: Option<tokio_postgres::Error>,
    masked: impl Fn(&str) -> String,
) -> Result<String> {
    let refusal = |e: Option<tokio_postgres::Error>| {
        let e = e.ok_or_else(|| Failure("something passed that must be refused".to_owned()))?;
        let shown = e
            .as_db_error()
            .map(|db| (db.code().code().to_owned(), db.message().to_owned()));
        shown.ok_or_else(|| failed("waiting for a refusal", &e))
    };
    let ((foreign_code, foreign_text), (nobody_code, nobody_text)) = (refusal(foreign)?, refusal(nobody)?);
    expect(foreign_code == code && nobody_code == code, || {
        format!("refused with {foreign_code} and {nobody_code} instead of {code}: {foreign_text}")
    })?;
    expect(masked(&foreign_text) == masked(&nobody_text), || {
        format!("a tenant that exists is refused otherwise than one that does not: {foreign_text} / {nobody_text}")
    })?;
    Ok(format!("refused ({code})"))
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Failure(otherwise())) }
}

fn failed(what: &str, error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(db) => Failure(format!("{what}: {} {}", db.code().code(), db.message())),
        None => Failure(format!("{what}: {error}")),
    }
}

fn password() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..20].to_owned()
}
