//! API keys: only the holder of the secret has it.

use std::time::Duration;

use crate::common::fresh_store;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use zhenjin_store::{KeyRole, NewApiKey, Owner, Store, StoreError};

#[tokio::test]
async fn a_key_is_accepted_until_it_is_revoked() {
    let (_folder, store) = fresh_store().await;
    assert!(!store.has_api_key().await.unwrap());
    let (key, secret) = store.create_api_key(NewApiKey::named(" laptop ")).await.unwrap();
    let (other, _) = store.create_api_key(NewApiKey::named("phone")).await.unwrap();
    assert!(store.has_api_key().await.unwrap());

    let accepted = store.verify_api_key(secret.expose()).await.unwrap().expect("the key");
    assert_eq!((accepted.id, accepted.name.as_str()), (key.id.clone(), "laptop"));
    let upper = secret.expose().to_uppercase();
    for wrong in ["", "zj-", &secret.expose()[..66], upper.as_str(), other.id.as_str()] {
        assert!(store.verify_api_key(wrong).await.unwrap().is_none(), "{wrong}");
    }
    let listed = store.api_keys().await.unwrap();
    assert!(listed[0].last_used_at.is_some() && listed[1].last_used_at.is_none());

    let revoked = store.revoke_api_key(&key.id).await.unwrap();
    assert!(store.verify_api_key(secret.expose()).await.unwrap().is_none());
    assert_eq!(store.revoke_api_key(&key.id).await.unwrap().revoked_at, revoked.revoked_at);
    store.revoke_api_key(&other.id).await.unwrap();
    assert!(!store.has_api_key().await.unwrap());
}

#[tokio::test]
async fn the_secret_is_neither_printed_nor_stored() {
    let (folder, store) = fresh_store().await;
    let (key, secret) = store.create_api_key(NewApiKey::named("laptop")).await.unwrap();
    let digits = secret.expose().strip_prefix("zj-").unwrap();
    assert_eq!(digits.len(), 64, "256 bits");
    assert!(!format!("{secret:?} {key:?}").contains(digits));
    store.close().await;
    let file = std::fs::read(folder.path().join("zhenjin.db")).unwrap();
    assert!(!file.windows(64).any(|window| window == digits.as_bytes()));
}

#[tokio::test]
async fn names_are_bounded() {
    let (_folder, store) = fresh_store().await;
    for name in ["", "  ", "a\nb", &"字".repeat(101)] {
        assert!(matches!(
            store.create_api_key(NewApiKey::named(name)).await,
            Err(StoreError::Invalid { field: "name", .. })
        ));
    }
}

#[tokio::test]
async fn the_first_key_is_the_operators_and_opens_what_was_there_before_it() {
    let (_folder, store) = fresh_store().await;
    let (first, _) = store.create_api_key(NewApiKey::named("mine")).await.unwrap();
    assert_eq!((first.role, &first.owner), (KeyRole::Operator, &Owner::Local));
    store.revoke_api_key(&first.id).await.unwrap();
    // Later keys are for others, even while no operator's key is accepted.
    let (second, secret) = store.create_api_key(NewApiKey::named("guest")).await.unwrap();
    assert_eq!((second.role, &second.owner), (KeyRole::User, &Owner::Key(second.id.clone())));

    let (third, third_secret) = store
        .create_api_key(NewApiKey { owner: Some(second.owner.clone()), ..NewApiKey::named("guest's phone") })
        .await
        .unwrap();
    assert_eq!((third.role, &third.owner), (KeyRole::User, &second.owner));
    let promoted = store.set_api_key_role(&second.id, KeyRole::Operator).await.unwrap();
    assert_eq!((promoted.role, &promoted.owner), (KeyRole::Operator, &second.owner));
    let verified = store.verify_api_key(secret.expose()).await.unwrap().expect("the key is valid");
    assert_eq!((verified.id, verified.role), (promoted.id.clone(), KeyRole::Operator));
    assert_eq!(store.verify_api_key(third_secret.expose()).await.unwrap().unwrap().role, KeyRole::User);
    let session = store.create_session(&second.id, Duration::from_secs(60)).await.unwrap();
    let held = store.verify_session(session.expose()).await.unwrap().expect("a session");
    assert_eq!((held.role, held.owner), (KeyRole::Operator, second.owner));
}

#[tokio::test]
async fn two_accepted_keys_never_have_one_name() {
    let (_folder, store) = fresh_store().await;
    let (first, _) = store.create_api_key(NewApiKey::named("laptop")).await.unwrap();
    let error = store.create_api_key(NewApiKey::named(" laptop")).await.expect_err("the name is taken");
    assert!(matches!(&error, StoreError::Invalid { field: "name", .. }), "{error}");
    assert_eq!(store.api_keys().await.unwrap().len(), 1);
    store.revoke_api_key(&first.id).await.unwrap();
    store.create_api_key(NewApiKey::named("laptop")).await.unwrap();
}

#[tokio::test]
async fn a_key_made_beside_the_owner_is_accepted_by_it() {
    let (_folder, store) = fresh_store().await;
    let beside = Store::open_beside_owner(store.path()).await.unwrap();
    let (_, secret) = beside.create_api_key(NewApiKey::named("made while serving")).await.unwrap();
    assert!(store.verify_api_key(secret.expose()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_session_lives_until_it_ends_expires_or_its_key_is_revoked() {
    let (_folder, store) = fresh_store().await;
    let (key, secret) = store.create_api_key(NewApiKey::named("browser")).await.unwrap();
    let hour = Duration::from_secs(3600);
    let first = store.create_session(&key.id, hour).await.unwrap();
    let second = store.create_session(&key.id, hour).await.unwrap();
    let expired = store.create_session(&key.id, Duration::ZERO).await.unwrap();
    assert!(!format!("{first:?}").contains(first.expose()));
    assert!(store.verify_session(first.expose()).await.unwrap().is_some());
    for wrong in [expired.expose(), secret.expose(), ""] {
        assert!(store.verify_session(wrong).await.unwrap().is_none());
    }
    store.end_session(first.expose()).await.unwrap();
    assert!(store.verify_session(first.expose()).await.unwrap().is_none());
    assert!(store.verify_session(second.expose()).await.unwrap().is_some());
    store.revoke_api_key(&key.id).await.unwrap();
    assert!(store.verify_session(second.expose()).await.unwrap().is_none());
}

/// Regression: on a full or read-only disk every request with a key failed, since its use could not be noted.
#[tokio::test]
async fn a_key_is_accepted_though_its_use_cannot_be_noted() {
    let (_folder, store) = fresh_store().await;
    let (key, secret) = store.create_api_key(NewApiKey::named("laptop")).await.unwrap();
    // It refuses as a disk does that takes no more.
    let refuse =
        "CREATE TRIGGER refuse BEFORE UPDATE ON api_keys BEGIN SELECT RAISE(ABORT, 'no space left'); END";
    let mut connection = SqliteConnectOptions::new().filename(store.path()).connect().await.unwrap();
    sqlx::raw_sql(refuse).execute(&mut connection).await.unwrap();
    for _ in 0..2 {
        let accepted = store.verify_api_key(secret.expose()).await.unwrap().expect("the key");
        assert_eq!((&accepted.id, accepted.last_used_at), (&key.id, None));
    }
    assert!(store.verify_api_key("zj-wrong").await.unwrap().is_none());
    connection.close().await.unwrap();
}
