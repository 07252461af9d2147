//! Logins from names to handles: one error for all, decoys, suspension, users, throttling.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{super::throttle::Throttle, *};
use crate::limits;

#[tokio::test]
async fn unknown_names_and_wrong_passwords_look_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme", "umbra"]).await;
    testing::operator(&directory, "admin's")
        .drop_tenant("umbra")
        .await
        .expect("an erasure");
    let challenge = |directory: &Arc<Directory>, dbname: &str, user: &str| {
        let mut attempt = directory.attempt(dbname, user, IpAddr::from([10, 0, 0, 1]));
        let first = attempt
            .first("SCRAM-SHA-256", b"n,,n=,r=abc", Binding::Plain)
            .expect("a challenge");
        let text = String::from_utf8(first).expect("text");
        let (nonce, rest) = text.split_once(",s=").expect("a salt");
        (nonce.len(), rest.to_owned())
    };
    let real = challenge(&directory, "acme", "owner");
    let mut salts = vec![real.1.clone()];
    let names = [
        ("nobody", "owner"),
        ("acme", "nobody"),
        ("umbra", "owner"),
        ("bulkhead", "nobody"),
        ("", ""),
        ("a", "cme"),
    ];
    for (dbname, user) in names {
        let decoy = challenge(&directory, dbname, user);
        assert_eq!((decoy.0, decoy.1.len()), (real.0, real.1.len()), "one shape");
        assert_eq!(
            decoy.1.split_once(",i=").map(|p| p.1),
            real.1.split_once(",i=").map(|p| p.1),
            "one iteration count"
        );
        assert_eq!(decoy, challenge(&directory, dbname, user), "stable");
        salts.push(decoy.1);
    }
    assert_eq!(challenge(&directory, "acme", "owner"), real);
    let count = salts.len();
    salts.sort();
    salts.dedup();
    assert_eq!(salts.len(), count, "every name has its own salt");
    let wrong = testing::log_in(&directory, "acme", "owner", "wrong").expect_err("refused");
    for (dbname, user) in names {
        let error = testing::log_in(&directory, dbname, user, "secret").expect_err("refused");
        assert_eq!(format!("{error:?}"), format!("{wrong:?}"));
        assert_eq!((error.detail(), error.hint(), error.reason()), (None, None, None));
    }
    assert_eq!(
        (wrong.code(), wrong.message()),
        (Code::InvalidPassword, "password authentication failed")
    );
    let before: Vec<_> = names.map(|(dbname, user)| challenge(&directory, dbname, user)).to_vec();
    drop(directory);
    let directory = open(folder.path(), MasterKey::File(None)).expect("a directory");
    let after: Vec<_> = names.map(|(dbname, user)| challenge(&directory, dbname, user)).to_vec();
    assert_eq!(after, before, "stable over restarts");
}

#[tokio::test]
async fn suspension_is_told_to_the_right_password_only() {
    let directory = testing::directory(&["acme"]).await;
    let (acme, operator) = (owner(&directory, "acme"), testing::operator(&directory, "operator's"));
    let suspend = |suspended| AlterTenant {
        suspended: Some(suspended),
        ..AlterTenant::default()
    };
    operator.alter_tenant("acme", suspend(true)).await.expect("altered");
    assert_eq!(code(acme.check_open()), Some(Code::NotReady));
    assert!(acme.settings().suspended);
    let error = testing::log_in(&directory, "acme", "owner", "secret").expect_err("suspended");
    assert_eq!((error.code(), error.message()), (Code::NotReady, "tenant is suspended"));
    assert_eq!(
        code(testing::log_in(&directory, "acme", "owner", "wrong")),
        Some(Code::InvalidPassword)
    );
    operator.alter_tenant("acme", suspend(false)).await.expect("altered");
    acme.check_open().expect("open again");
    owner(&directory, "acme");
    let tier = |tier: &str| AlterTenant {
        tier: Some(tier.to_owned()),
        ai_enabled: Some(false),
        ..AlterTenant::default()
    };
    assert_eq!(
        code(operator.alter_tenant("acme", tier("gold")).await),
        Some(Code::UndefinedObject)
    );
    assert!(acme.settings().ai_enabled, "nothing of a refused change");
    operator.alter_tenant("acme", tier("free")).await.expect("altered");
    assert!(!acme.settings().ai_enabled);
    assert_eq!(
        code(operator.alter_tenant("nobody", suspend(true)).await),
        Some(Code::UndefinedObject)
    );
}

#[tokio::test]
async fn names_of_tenants_are_strict() {
    let directory = testing::directory(&["a0", "a_b-c"]).await;
    let operator = testing::operator(&directory, "operator's");
    operator
        .create_tenant(testing::new_tenant(&"x".repeat(63)))
        .await
        .expect("the longest name");
    let long = "x".repeat(64);
    let bad = [
        "",
        "a",
        "A0",
        "aB",
        "0a",
        "_a",
        "-a",
        "a/",
        "a:",
        "a.b",
        "a b",
        "a\0",
        "aä",
        "aa\u{308}",
        "bulkhead",
        "postgres",
        "template0",
        "template1",
        &long,
    ];
    for name in bad {
        let made = operator.create_tenant(testing::new_tenant(name)).await;
        assert_eq!(code(made), Some(Code::InvalidParameterValue), "{name:?}");
    }
    let tierless = NewTenant {
        tier: "gold".to_owned(),
        ..testing::new_tenant("fine")
    };
    assert_eq!(
        code(operator.create_tenant(tierless).await),
        Some(Code::UndefinedObject)
    );
    assert_eq!(
        code(operator.create_tenant(testing::new_tenant("a0")).await),
        Some(Code::DuplicateObject)
    );
}

#[tokio::test]
async fn users_come_change_and_go() {
    let directory = testing::directory(&["acme", "umbra"]).await;
    let acme = owner(&directory, "acme");
    acme.create_user("Ada", "pass", Role::Analyst, None)
        .await
        .expect("a user");
    assert_eq!(
        code(acme.create_user("Ada", "other", Role::Member, None).await),
        Some(Code::DuplicateObject)
    );
    acme.create_user("ada", "pass", Role::Service, None)
        .await
        .expect("names are case-sensitive");
    let Ok(Login::Tenant(_, user)) = testing::log_in(&directory, "acme", "Ada", "pass") else {
        panic!("no login")
    };
    assert_eq!((user.name.as_str(), user.role), ("Ada", Role::Analyst));
    assert_eq!(
        code(testing::log_in(&directory, "umbra", "Ada", "pass")),
        Some(Code::InvalidPassword)
    );
    acme.alter_user("Ada", Some("new"), None, None).await.expect("altered");
    assert_eq!(
        code(testing::log_in(&directory, "acme", "Ada", "pass")),
        Some(Code::InvalidPassword)
    );
    testing::tenant(&directory, "acme", "Ada", "new");
    let names: Vec<_> = acme
        .users()
        .expect("users")
        .into_iter()
        .map(|u| (u.name, u.role))
        .collect();
    let expected = [("Ada", Role::Analyst), ("ada", Role::Service), ("owner", Role::Owner)];
    assert_eq!(names, expected.map(|(name, role)| (name.to_owned(), role)));

    let refused = Some(Code::InvalidParameterValue);
    assert_eq!(code(acme.drop_user("owner", None).await), refused, "the last owner");
    assert_eq!(
        code(acme.alter_user("owner", None, Some(Role::Member), None).await),
        refused
    );
    acme.alter_user("Ada", None, Some(Role::Owner), None)
        .await
        .expect("altered");
    let (one, two) = tokio::join!(acme.drop_user("owner", None), acme.drop_user("Ada", None));
    assert_eq!(
        [one, two].into_iter().filter_map(code).collect::<Vec<_>>(),
        [Code::InvalidParameterValue]
    );
    assert_eq!(code(acme.drop_user("nobody", None).await), Some(Code::UndefinedObject));
    assert_eq!(
        code(acme.alter_user("nobody", None, None, None).await),
        Some(Code::UndefinedObject)
    );
    let long = "x".repeat(limits::NAME_BYTES + 1);
    for name in ["", "a\0", "a\n", &long] {
        assert_eq!(
            code(acme.create_user(name, "pass", Role::Member, None).await),
            refused,
            "{name:?}"
        );
    }
    let long = "x".repeat(limits::PASSWORD_BYTES + 1);
    for password in [
        "",
        &long,
        "md5c4ca4238a0b923820dcc509a6f75849b",
        "SCRAM-SHA-256$1:x$y:z",
    ] {
        assert_eq!(
            code(acme.create_user("u", password, Role::Member, None).await),
            refused,
            "{password:?}"
        );
    }
    for &role in Role::ALL {
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
}

#[tokio::test]
async fn a_user_changed_during_its_login_does_not_get_in() {
    let directory = testing::directory(&["acme"]).await;
    let acme = owner(&directory, "acme");
    acme.create_user("ada", "pass", Role::Member, None)
        .await
        .expect("a user");
    let begin = || {
        let mut attempt = directory.attempt("acme", "ada", IpAddr::from([10, 0, 0, 1]));
        let first = attempt
            .first("SCRAM-SHA-256", b"n,,n=,r=abc", Binding::Plain)
            .expect("a challenge");
        (attempt, testing::client_final("pass", b"n,,", b"n=,r=abc", &first, &[]))
    };
    let (attempt, client_final) = begin();
    acme.alter_user("ada", Some("new"), None, None).await.expect("altered");
    assert_eq!(code(attempt.last(&client_final).outcome), Some(Code::InvalidPassword));
    acme.alter_user("ada", Some("pass"), None, None).await.expect("altered");
    let (attempt, client_final) = begin();
    acme.drop_user("ada", None).await.expect("dropped");
    assert_eq!(code(attempt.last(&client_final).outcome), Some(Code::InvalidPassword));
    let (attempt, client_final) = {
        acme.create_user("ada", "pass", Role::Member, None)
            .await
            .expect("a user");
        begin()
    };
    testing::operator(&directory, "operator's")
        .drop_tenant("acme")
        .await
        .expect("dropped");
    assert_eq!(code(attempt.last(&client_final).outcome), Some(Code::InvalidPassword));
}

#[tokio::test]
async fn failures_delay_the_next_answers_good_or_bad() {
    let directory = testing::directory(&["acme"]).await;
    let delays: Vec<_> = (0..6)
        .map(|_| testing::attempt(&directory, "acme", "owner", "wrong").delay)
        .collect();
    assert_eq!(delays[..3], [Duration::ZERO; 3]);
    assert!(delays[3] > Duration::ZERO && delays[4] > delays[3] && delays[5] > delays[4]);
    let right = testing::attempt(&directory, "acme", "owner", "secret");
    assert!(
        right.outcome.is_ok() && right.delay >= delays[5],
        "a quick answer would say that the guess is right"
    );
    assert_eq!(
        testing::attempt(&directory, "acme", "owner", "secret").delay,
        Duration::ZERO
    );
}

#[test]
fn throttling_grows_forgives_and_spares_other_addresses() {
    let (throttle, now) = (Throttle::new(), Instant::now());
    let at = |n: u32| IpAddr::from(n.to_be_bytes());
    let fail = |user: &str, peer, now| throttle.record("acme", user, peer, false, now);
    let mut last = Duration::ZERO;
    for n in 0..100_000 {
        let delay = fail("ada", at(1), now);
        assert!(delay >= last && delay <= limits::LOGIN_DELAY_MAX);
        assert!(n < 12 || delay == limits::LOGIN_DELAY_MAX);
        last = delay;
    }
    assert_eq!(
        throttle.record("acme", "ada", at(2), true, now),
        Duration::ZERO,
        "from elsewhere she gets in"
    );
    assert!(
        throttle
            .record("acme", "ada", at(1), true, now + Duration::from_secs(3600))
            .is_zero(),
        "forgiven"
    );
    // One address, many users: each has free failures, the address has not.
    let delays: Vec<_> = (0..200).map(|n| fail(&format!("user{n}"), at(3), now)).collect();
    assert!(delays[0].is_zero() && delays[199] == limits::LOGIN_DELAY_MAX);
    // An IPv6 customer has a /64 to itself.
    let v6 = |host: u64| IpAddr::from(((0x2001_0db8_u128) << 96 | u128::from(host)).to_be_bytes());
    let delays: Vec<_> = (0..20).map(|n| fail("eve", v6(n), now)).collect();
    assert_eq!(delays[19], limits::LOGIN_DELAY_MAX);
}

#[test]
fn throttling_is_bounded_in_memory_and_keeps_who_fails_often() {
    let (throttle, now) = (Throttle::new(), Instant::now());
    let guesser = IpAddr::from([10, 0, 0, 1]);
    for n in 0..3 * limits::THROTTLE_ENTRIES as u32 {
        throttle.record("acme", "ada", IpAddr::from(n.to_be_bytes()), false, now);
        if n % 10_000 == 0 {
            throttle.record("acme", "ada", guesser, false, now);
        }
        assert!(n % 1_000 > 0 || throttle.entries() <= limits::THROTTLE_ENTRIES);
    }
    assert_eq!(
        throttle.record("acme", "ada", guesser, false, now),
        limits::LOGIN_DELAY_MAX
    );
}
