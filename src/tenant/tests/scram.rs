//! SCRAM by the RFCs, and what a server must refuse (C20, C21).

use super::{
    super::scram::{Exchange, Verifier, salted},
    testing::client_final,
    *,
};

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";

fn verifier() -> Verifier {
    Verifier::of_password("pencil", [7; 16]).expect("a verifier")
}

fn tls(byte: u8) -> Binding {
    Binding::Tls {
        server_end_point: vec![byte; 32],
    }
}

fn begin(mechanism: &str, first: &[u8], binding: &Binding) -> Result<(Exchange, Vec<u8>)> {
    Exchange::begin(mechanism, first, binding, &verifier(), "server")
}

#[test]
fn the_example_of_rfc_7677() {
    let salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
    let verifier = Verifier::of_password("pencil", *salt).expect("a verifier");
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let (exchange, answer) = Exchange::begin(PLAIN, first, &Binding::Plain, &verifier, nonce).expect("an exchange");
    let expected = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    assert_eq!(answer, expected);
    let last =
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let answer = exchange
        .finish(&verifier, last)
        .expect("well-formed")
        .expect("the right password");
    assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn bindings_that_fit_and_that_do_not() {
    let violation = Some(Code::ProtocolViolation);
    let first = |gs2: &str| format!("{gs2}n=,r=client").into_bytes();
    let cases = [
        (PLAIN, "n,,", Binding::Plain, None),
        (PLAIN, "y,,", Binding::Plain, None),
        (PLAIN, "n,,", tls(1), None),
        (PLUS, "p=tls-server-end-point,,", tls(1), None),
        (PLAIN, "y,,", tls(1), violation),
        (PLAIN, "p=tls-server-end-point,,", tls(1), violation),
        (PLUS, "n,,", tls(1), violation),
        (PLUS, "y,,", tls(1), violation),
        (PLUS, "p=tls-unique,,", tls(1), violation),
        (PLUS, "p=tls-exporter,,", tls(1), violation),
        (PLUS, "p=,,", tls(1), violation),
        (PLUS, "p=tls-server-end-point,,", Binding::Plain, violation),
        (PLAIN, "n,a=other,", Binding::Plain, violation),
        (PLAIN, "x,,", Binding::Plain, violation),
        (PLAIN, "", Binding::Plain, violation),
        ("SCRAM-SHA-1", "n,,", Binding::Plain, violation),
        ("", "n,,", Binding::Plain, violation),
    ];
    for (mechanism, gs2, binding, expected) in cases {
        assert_eq!(
            code(begin(mechanism, &first(gs2), &binding)),
            expected,
            "{mechanism} {gs2} {binding:?}"
        );
    }
    let malformed: [&[u8]; 8] = [
        b"",
        b"n,,",
        b"n,,n=",
        b"n,,n=,r=",
        b"n,,m=x,n=,r=a",
        b"n,,r=a,n=",
        b"n,,n=,r=a b",
        b"n,,n=,r=\xff",
    ];
    for first in malformed {
        assert_eq!(code(begin(PLAIN, first, &Binding::Plain)), violation, "{first:?}");
    }
}

#[test]
fn a_relay_with_another_certificate_fails() {
    let (gs2, bare) = (b"p=tls-server-end-point,,", b"n=,r=client");
    let (exchange, answer) = begin(PLUS, &[&gs2[..], bare].concat(), &tls(1)).expect("an exchange");
    let finish = |end_point: u8| {
        let last = client_final("pencil", gs2, bare, &answer, &[end_point; 32]);
        exchange.finish(&verifier(), &last)
    };
    assert!(finish(1).expect("well-formed").is_some());
    assert_eq!(code(finish(2)), Some(Code::InvalidPassword));
    // A client that claims in its final message to have sent another header than it did.
    let (exchange, answer) = begin(PLAIN, &[b"n,,", &bare[..]].concat(), &Binding::Plain).expect("an exchange");
    let last = client_final("pencil", b"y,,", bare, &answer, &[]);
    assert_eq!(code(exchange.finish(&verifier(), &last)), Some(Code::InvalidPassword));
}

#[test]
fn final_messages_that_are_refused() {
    let bare = b"n=,r=client";
    let (exchange, answer) = begin(PLAIN, &[b"n,,", &bare[..]].concat(), &Binding::Plain).expect("an exchange");
    let good = client_final("pencil", b"n,,", bare, &answer, &[]);
    let text = String::from_utf8(good.clone()).expect("text");
    assert!(exchange.finish(&verifier(), &good).expect("well-formed").is_some());
    let wrong = client_final("pencils", b"n,,", bare, &answer, &[]);
    assert!(exchange.finish(&verifier(), &wrong).expect("well-formed").is_none());
    let (without, proof) = text.split_once(",p=").expect("a proof");
    let bad = [
        String::new(),
        without.to_owned(),
        format!("{without},p="),
        format!("{without},p={}", &proof[..40]),
        format!("{without},p={}", &proof[1..]),
        format!("{without},p=AAAA{proof}"),
        format!("{without},p={proof},x=1"),
        text.replace("r=clientserver", "r=clientserverx"),
        text.replace("r=clientserver", "r=client"),
        text.replace("r=clientserver", "r=otherserver"),
        text.replace("c=biws,", ""),
        text.replace("c=biws,r=clientserver", "r=clientserver,c=biws"),
    ];
    for last in bad {
        assert_eq!(
            code(exchange.finish(&verifier(), last.as_bytes())),
            Some(Code::ProtocolViolation),
            "{last}"
        );
    }
    let extended = text.replace(",p=", ",x=unsigned,p=");
    assert!(
        exchange
            .finish(&verifier(), extended.as_bytes())
            .expect("well-formed")
            .is_none(),
        "the proof covers all"
    );
    assert_eq!(
        code(exchange.finish(&verifier(), b"\xff\xfe")),
        Some(Code::ProtocolViolation)
    );
}

#[tokio::test]
async fn a_final_message_serves_one_attempt_only() {
    let directory = testing::directory(&["acme"]).await;
    let begin = || {
        let mut attempt = directory.attempt("acme", "owner", [127, 0, 0, 1].into());
        let first = attempt
            .first(PLAIN, b"n,,n=,r=client", Binding::Plain)
            .expect("a challenge");
        (attempt, first)
    };
    let ((one, first), (two, second)) = (begin(), begin());
    assert_ne!(first, second, "a fresh nonce each time");
    let last = client_final("secret", b"n,,", b"n=,r=client", &first, &[]);
    assert!(one.last(&last).outcome.is_ok());
    assert_eq!(code(two.last(&last).outcome), Some(Code::ProtocolViolation));
    let early = directory.attempt("acme", "owner", [127, 0, 0, 1].into());
    assert_eq!(code(early.last(&last).outcome), Some(Code::ProtocolViolation));
    let (mut again, _) = begin();
    assert!(again.first(PLAIN, b"bad", Binding::Plain).is_err());
    assert_eq!(code(again.last(&last).outcome), Some(Code::ProtocolViolation));
}

#[tokio::test]
async fn a_verifier_made_by_the_client_is_taken_as_it_is() {
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
    let directory = testing::directory(&["acme"]).await;
    let acme = owner(&directory, "acme");
    let made = verifier();
    let text = |rounds: u32, salt: &[u8]| {
        let parts = [salt, &made.stored_key, &made.server_key].map(|part| BASE64.encode(part));
        format!("SCRAM-SHA-256${rounds}:{}${}:{}", parts[0], parts[1], parts[2])
    };
    acme.create_user("ada", &text(4096, &made.salt), Role::Member, None)
        .await
        .expect("a user");
    testing::tenant(&directory, "acme", "ada", "pencil");
    for (rounds, salt) in [(1, &[7; 16][..]), (10_000, &[7; 16]), (4096, &[7; 8])] {
        let refused = acme.create_user("eve", &text(rounds, salt), Role::Member, None).await;
        assert_eq!(
            code(refused),
            Some(Code::InvalidParameterValue),
            "decoys have another shape"
        );
    }
}

#[test]
fn passwords_are_prepared_or_taken_as_bytes() {
    let key = |password| *salted(password, b"salt", 1);
    assert_eq!(key("I\u{AD}X"), key("IX"), "RFC 4013: mapped to nothing");
    assert_eq!(key("\u{AA}"), key("a"), "NFKC");
    assert_ne!(key("a\u{7}"), key("a"), "prohibited: as it is");
    assert_ne!(key("\u{AD}"), key(""), "never empty");
    assert!(!format!("{:?}", verifier()).contains(char::is_numeric));
}
