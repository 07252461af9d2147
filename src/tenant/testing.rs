//! The client's side of a login, for tests: the same messages as over the wire, so no test has a
//! way to a tenant that an app does not have.

use std::{net::IpAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};

use super::*;

/// Logs in over SCRAM-SHA-256, in memory.
pub(crate) fn log_in(directory: &Arc<Directory>, dbname: &str, user: &str, password: &str) -> Result<Login> {
    attempt(directory, dbname, user, password)
        .outcome
        .map(|(login, _)| login)
}

/// Logs in as a tenant's user; panics if that fails.
pub(crate) fn tenant(directory: &Arc<Directory>, name: &str, user: &str, password: &str) -> Tenant {
    match log_in(directory, name, user, password) {
        Ok(Login::Tenant(tenant, _)) => tenant,
        other => panic!("no login: {other:?}"),
    }
}

/// Logs in as [`FIRST_OPERATOR`]; panics if that fails.
pub(crate) fn operator(directory: &Arc<Directory>, password: &str) -> Operator {
    match log_in(directory, OPERATOR_DATABASE, FIRST_OPERATOR, password) {
        Ok(Login::Operator(operator)) => operator,
        other => panic!("no login: {other:?}"),
    }
}

/// A directory in memory with a tier `free` and the tenants named, each with a user `owner` whose password is `secret`.
pub(crate) async fn directory(tenants: &[&str]) -> Arc<Directory> {
    let directory = Directory::in_memory("operator's").expect("a directory");
    populate(&directory, "operator's", tenants).await;
    directory
}

/// Makes tier and tenants as [`directory`] does.
pub(crate) async fn populate(directory: &Arc<Directory>, admin_password: &str, tenants: &[&str]) {
    let mut key = Vec::new();
    crate::codec::key::put_bytes(&mut key, b"free");
    directory
        .seed(vec![(Table::Tiers, key, b"a tier".to_vec())])
        .expect("a tier");
    let operator = operator(directory, admin_password);
    for name in tenants {
        operator.create_tenant(new_tenant(name)).await.expect("a tenant");
    }
}

/// A tenant of tier `free` with the user `owner`, password `secret`.
pub(crate) fn new_tenant(name: &str) -> NewTenant {
    NewTenant {
        name: name.to_owned(),
        tier: "free".to_owned(),
        region: None,
        owner: "owner".to_owned(),
        password: "secret".to_owned(),
    }
}

/// One whole login, right or wrong.
pub(crate) fn attempt(directory: &Arc<Directory>, dbname: &str, user: &str, password: &str) -> Verdict {
    let mut attempt = directory.attempt(dbname, user, IpAddr::from([127, 0, 0, 1]));
    let first = attempt
        .first("SCRAM-SHA-256", b"n,,n=,r=clientnonce", Binding::Plain)
        .expect("a challenge");
    let client_final = client_final(password, b"n,,", b"n=,r=clientnonce", &first, &[]);
    attempt.last(&client_final)
}

/// The client-final-message of a client that knows `password`.
pub(crate) fn client_final(password: &str, gs2: &[u8], bare: &[u8], server_first: &[u8], binding: &[u8]) -> Vec<u8> {
    let server_first = std::str::from_utf8(server_first).expect("text");
    let bare = std::str::from_utf8(bare).expect("text");
    let part = |name: &str| {
        server_first
            .split(',')
            .find_map(|a| a.strip_prefix(name))
            .expect("an attribute")
    };
    let salt = BASE64.decode(part("s=")).expect("base64");
    let salted = scram::salted(password, &salt, part("i=").parse().expect("a number"));
    let client_key = scram::hmac(&salted, b"Client Key");
    let stored_key: [u8; 32] = Sha256::digest(client_key).into();
    let without_proof = format!("c={},r={}", BASE64.encode([gs2, binding].concat()), part("r="));
    let signature = scram::hmac(&stored_key, format!("{bare},{server_first},{without_proof}").as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
    format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes()
}
