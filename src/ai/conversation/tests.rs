//! Conversations in a store: who finds them, how they grow together, when they go.

use std::sync::Arc;

use super::{store::purge, *};
use crate::tenant::{Table, Tenant, testing};

const NOW: i64 = 1_800_000_000_000_000;

async fn tenants() -> [Tenant; 2] {
    let directory = testing::directory(&["acme", "umbra"]).await;
    ["acme", "umbra"].map(|name| testing::tenant(&directory, name, "owner", "secret"))
}

async fn begun(tenant: &Tenant, user: &str, retention_days: Option<i64>) -> Uuid {
    let mut staged = Staged::default();
    let conversation = Conversation::new(user, Some("Greetings"), "{}".to_owned(), retention_days, NOW).unwrap();
    let id = conversation.id;
    staged.create(conversation);
    staged.commit(tenant, NOW, |_| Ok(())).await.unwrap();
    id
}

fn user_says(text: &str) -> Body {
    Body::new(Role::User, text).unwrap()
}

/// What [`Staged::append`] and a commit do, at a moment.
async fn append(tenant: &Tenant, user: &str, id: Uuid, text: &str, now: i64) -> Result<Uuid> {
    let mut staged = Staged::default();
    let stored = Conversations::of(tenant, user, now);
    let message = staged.append(&stored, user, id, user_says(text))?;
    staged.commit(tenant, now, |_| Ok(())).await?;
    Ok(message)
}

fn messages(tenant: &Tenant, user: &str, id: Uuid) -> Vec<Message> {
    let stored = Conversations::of(tenant, user, NOW);
    stored.messages(id).map(Result::unwrap).collect()
}

fn row(tenant: &Tenant, user: &str, id: Uuid, now: i64) -> Option<Conversation> {
    let found = Conversations::of(tenant, user, now).find(id).unwrap();
    found.map(|(row, _)| row)
}

fn listed(tenant: &Tenant, user: &str) -> Vec<Uuid> {
    let stored = Conversations::of(tenant, user, NOW);
    stored.list().map(|c| c.unwrap().id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_appends_lose_nothing_and_number_nothing_twice() {
    let [acme, _] = tenants().await;
    let id = begun(&acme, "ada", None).await;
    let appends = (0..100).map(|i| {
        let acme = acme.clone();
        tokio::spawn(async move { append(&acme, "ada", id, &format!("message {i}"), NOW).await })
    });
    let mut ids: Vec<Uuid> = Vec::new();
    for done in futures::future::join_all(appends).await {
        ids.push(done.unwrap().unwrap());
    }
    let all = messages(&acme, "ada", id);
    let numbers: Vec<u32> = all.iter().map(|m| m.seq).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    let mut stored: Vec<Uuid> = all.iter().map(|m| m.id).collect();
    stored.sort_unstable();
    ids.sort_unstable();
    assert_eq!(stored, ids);
    assert_eq!(row(&acme, "ada", id, NOW).unwrap().message_count, 100);
    let user = Conversations::of(&acme, "ada", NOW);
    for message in &all {
        assert_eq!(user.place(message.id).unwrap(), Some((id, message.seq)));
    }
}

/// A batch that also settles a paid call must not be refused: its turn keeps others away.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_holds_the_turn_never_meets_another() {
    let [acme, _] = tenants().await;
    let turns = Arc::new(Turns::default());
    let (a, b) = (begun(&acme, "ada", None).await, begun(&acme, "ada", None).await);
    let appends = (0..60).map(|i| {
        let (acme, turns) = (acme.clone(), turns.clone());
        tokio::spawn(async move {
            let mut staged = Staged::default();
            let stored = Conversations::of(&acme, "ada", NOW);
            // Both conversations, in either order.
            for id in if i % 2 == 0 { [a, b] } else { [b, a] } {
                staged.append(&stored, "ada", id, user_says("hello")).unwrap();
            }
            let _turn = turns.hold(&staged).await;
            let mut batch = acme.batch();
            staged.fill(&acme, &mut batch, NOW).unwrap();
            acme.commit(batch).await
        })
    });
    for done in futures::future::join_all(appends).await {
        done.unwrap().expect("no conflict while the turn is held");
    }
    assert_eq!(messages(&acme, "ada", a).len(), 60);
}

#[tokio::test]
async fn a_foreign_conversation_never_existed() {
    let [acme, umbra] = tenants().await;
    let id = begun(&acme, "ada", None).await;
    let message = append(&acme, "ada", id, "the vault is under the stairs", NOW)
        .await
        .unwrap();
    for (tenant, user, id, message) in [
        (&acme, "bob", id, message),
        (&umbra, "ada", id, message),
        (&acme, "ada", Uuid::now_v7(), Uuid::now_v7()),
    ] {
        let stored = Conversations::of(tenant, user, NOW);
        let mut staged = Staged::default();
        let refused = [
            staged.find(&stored, user, id).err(),
            staged.append(&stored, user, id, user_says("hi")).err(),
            staged.delete(&stored, user, id).err(),
            staged.summarise(&stored, user, id, window::summary(1, "x")).err(),
        ];
        for error in refused {
            let error = error.expect("refused");
            assert_eq!(format!("{error:?}"), format!("{:?}", not_found()));
        }
        let error = staged.rate(&stored, user, message, 5).unwrap_err();
        assert_eq!(format!("{error:?}"), format!("{:?}", message_not_found()));
        assert!(staged.is_empty());
        assert_eq!(stored.messages(id).count(), 0);
        assert!(!listed(tenant, user).contains(&id) || user == "ada");
    }
    assert!(listed(&acme, "bob").is_empty() && listed(&umbra, "ada").is_empty());
    assert_eq!(messages(&acme, "ada", id).len(), 1);
}

#[tokio::test]
async fn the_newest_conversation_is_listed_first() {
    let [acme, _] = tenants().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(begun(&acme, "ada", None).await);
    }
    begun(&acme, "bob", None).await;
    made.reverse();
    assert_eq!(listed(&acme, "ada"), made);
    // What is not committed yet stands among them in its place.
    let mut staged = Staged::default();
    let own = Conversation::new("ada", None, "{}".to_owned(), None, NOW).unwrap();
    let own_id = own.id;
    staged.create(own);
    let later = begun(&acme, "ada", None).await;
    let stored = Conversations::of(&acme, "ada", NOW);
    staged.delete(&stored, "ada", made[0]).unwrap();
    let seen: Vec<Uuid> = staged.list(&stored, "ada").map(|c| c.unwrap().id).collect();
    assert_eq!(seen, [&[later, own_id], &made[1..]].concat());
}

#[tokio::test]
async fn what_has_expired_is_gone_at_once_and_purged_later() {
    let [acme, _] = tenants().await;
    let kept = begun(&acme, "ada", None).await;
    let short = begun(&acme, "ada", Some(30)).await;
    append(&acme, "ada", kept, "hello", NOW).await.unwrap();
    let last = NOW + 20 * DAY_MICROS;
    let message = append(&acme, "ada", short, "hello", last).await.unwrap();
    let end = last + 30 * DAY_MICROS;
    assert!(
        row(&acme, "ada", short, end - 1).is_some(),
        "thirty days after the last message"
    );
    assert!(row(&acme, "ada", short, end).is_none());
    let stored = Conversations::of(&acme, "ada", end);
    assert_eq!(stored.list().map(|c| c.unwrap().id).collect::<Vec<_>>(), [kept]);
    let refused = append(&acme, "ada", short, "again", end).await.unwrap_err();
    assert_eq!(refused.code(), Code::NoDataFound);
    let refused = Staged::default().rate(&stored, "ada", message, 5).unwrap_err();
    assert_eq!(refused.code(), Code::NoDataFound);
    assert_eq!(purge(&acme, end - 1).await.unwrap(), 0);
    assert_eq!(purge(&acme, end).await.unwrap(), 1);
    let left = |table| acme.scan(table, &[]).count();
    assert_eq!(
        (left(Table::Conversations), left(Table::Messages)),
        (1, 2),
        "the other's row, message and place"
    );
}

#[tokio::test]
async fn a_deleted_conversation_leaves_nothing() {
    let [acme, _] = tenants().await;
    let id = begun(&acme, "ada", None).await;
    let message = append(&acme, "ada", id, "hello", NOW).await.unwrap();
    let stored = Conversations::of(&acme, "ada", NOW);
    let (mut delete, mut rate, mut grow) = (Staged::default(), Staged::default(), Staged::default());
    delete.delete(&stored, "ada", id).unwrap();
    rate.rate(&stored, "ada", message, 1).unwrap();
    grow.append(&stored, "ada", id, user_says("late")).unwrap();
    assert!(delete.only_deletes() && !rate.only_deletes());
    delete.commit(&acme, NOW, |_| Ok(())).await.unwrap();
    for late in [rate, grow] {
        let refused = late.commit(&acme, NOW, |_| Ok(())).await.unwrap_err();
        assert_eq!(refused.code(), Code::NoDataFound);
    }
    delete.commit(&acme, NOW, |_| Ok(())).await.unwrap();
    assert_eq!(
        acme.scan(Table::Conversations, &[]).count() + acme.scan(Table::Messages, &[]).count(),
        0
    );
}

/// A rating that was read before a deletion must not put its message back after it.
#[tokio::test]
async fn a_rating_does_not_outlive_its_conversation() {
    let [acme, _] = tenants().await;
    let id = begun(&acme, "ada", None).await;
    let message = append(&acme, "ada", id, "hello", NOW).await.unwrap();
    let stored = Conversations::of(&acme, "ada", NOW);
    let (mut delete, mut rate) = (Staged::default(), Staged::default());
    rate.rate(&stored, "ada", message, 1).unwrap();
    delete.delete(&stored, "ada", id).unwrap();
    let (mut first, mut second) = (acme.batch(), acme.batch());
    rate.fill(&acme, &mut second, NOW).unwrap();
    delete.fill(&acme, &mut first, NOW).unwrap();
    acme.commit(first).await.unwrap();
    assert_eq!(
        acme.commit(second).await.unwrap_err().code(),
        Code::SerializationFailure
    );
    assert_eq!(acme.scan(Table::Messages, &[]).count(), 0);
}

#[tokio::test]
async fn ratings_are_kept_with_their_messages() {
    let [acme, _] = tenants().await;
    let id = begun(&acme, "ada", None).await;
    let message = append(&acme, "ada", id, "hello", NOW).await.unwrap();
    let stored = Conversations::of(&acme, "ada", NOW);
    let mut staged = Staged::default();
    staged.rate(&stored, "ada", message, rating(4).unwrap()).unwrap();
    let own = staged.append(&stored, "ada", id, user_says("and again")).unwrap();
    staged.rate(&stored, "ada", own, rating(2).unwrap()).unwrap();
    let seen: Vec<_> = staged.messages(&stored, "ada", id).map(|m| m.unwrap().rating).collect();
    assert_eq!(seen, [Some(4), Some(2)]);
    staged.commit(&acme, NOW, |_| Ok(())).await.unwrap();
    let seen: Vec<_> = messages(&acme, "ada", id).iter().map(|m| m.rating).collect();
    assert_eq!(seen, [Some(4), Some(2)]);
    for wrong in [i64::MIN, -1, 0, 6, 261] {
        assert_eq!(rating(wrong).unwrap_err().code(), Code::InvalidParameterValue);
    }
}

#[tokio::test]
async fn a_summary_only_advances() {
    let [acme, _] = tenants().await;
    let id = begun(&acme, "ada", None).await;
    for i in 0..6 {
        append(&acme, "ada", id, &format!("message {i}"), NOW).await.unwrap();
    }
    for (covers, stands) in [(4, 4), (2, 4), (9, 4), (5, 5)] {
        let mut staged = Staged::default();
        let stored = Conversations::of(&acme, "ada", NOW);
        let text = format!("up to {covers}");
        staged
            .summarise(&stored, "ada", id, window::summary(covers, &text))
            .unwrap();
        staged.commit(&acme, NOW, |_| Ok(())).await.unwrap();
        assert_eq!(row(&acme, "ada", id, NOW).unwrap().summary.unwrap().covers, stands);
    }
    let stored = Conversations::of(&acme, "ada", NOW);
    let numbers: Vec<u32> = stored.messages_from(id, 5).map(|m| m.unwrap().seq).collect();
    assert_eq!(numbers, [5, 6]);
}

#[tokio::test]
async fn consent_is_no_until_it_is_given_and_can_be_taken_back() {
    let [acme, umbra] = tenants().await;
    begun(&acme, "ada", None).await;
    assert!(store::consenting(&acme).unwrap().is_empty());
    for (user, given, names) in [
        ("bob", true, vec!["bob"]),
        ("ada", true, vec!["ada", "bob"]),
        ("bob", false, vec!["ada"]),
    ] {
        let mut staged = Staged::default();
        staged.consent(user, given);
        staged.commit(&acme, NOW, |_| Ok(())).await.unwrap();
        assert_eq!(store::consenting(&acme).unwrap(), names);
    }
    assert!(store::consenting(&umbra).unwrap().is_empty());
    assert_eq!(listed(&acme, "ada").len(), 1, "a consent is no conversation");
}

#[test]
fn sizes_and_days_are_bounded() {
    let made = |title: &str, days| Conversation::new("ada", Some(title), "{}".to_owned(), days, NOW);
    for days in [0, -1, i64::MAX, i64::from(limits::RETENTION_DAYS) + 1] {
        assert_eq!(made("t", Some(days)).unwrap_err().code(), Code::InvalidParameterValue);
    }
    assert!(made("t", Some(i64::from(limits::RETENTION_DAYS))).is_ok());
    let long = "x".repeat(limits::TITLE_BYTES + 1);
    assert_eq!(made(&long, None).unwrap_err().code(), Code::TooLarge);
    let long = "x ".repeat(limits::MESSAGE_BYTES / 2 + 1);
    assert_eq!(Body::new(Role::User, &long).unwrap_err().code(), Code::TooLarge);
    let mut full = made("t", None).unwrap();
    full.message_count = limits::CONVERSATION_MESSAGES;
    let mut message = Message {
        id: Uuid::nil(),
        conversation_id: full.id,
        seq: 0,
        created_at: NOW,
        rating: None,
        body: user_says("one more"),
    };
    assert_eq!(full.grow(&mut message).unwrap_err().code(), Code::TooLarge);
    assert_eq!("robot".parse::<Role>().unwrap_err().code(), Code::InvalidParameterValue);
}
