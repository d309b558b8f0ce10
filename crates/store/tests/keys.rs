//! API keys: only the holder of the secret has it.

mod common;

use std::time::Duration;

use common::fresh_store;
use zhenjin_store::{Store, StoreError};

#[tokio::test]
async fn a_key_is_accepted_until_it_is_revoked() {
    let (_folder, store) = fresh_store().await;
    assert!(!store.has_api_key().await.unwrap());
    let (key, secret) = store.create_api_key(" laptop ").await.unwrap();
    let (other, _) = store.create_api_key("phone").await.unwrap();
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
    let (key, secret) = store.create_api_key("laptop").await.unwrap();
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
        assert!(matches!(store.create_api_key(name).await, Err(StoreError::Invalid { field: "name", .. })));
    }
}

#[tokio::test]
async fn a_key_made_beside_the_owner_is_accepted_by_it() {
    let (_folder, store) = fresh_store().await;
    let beside = Store::open_beside_owner(store.path()).await.unwrap();
    let (_, secret) = beside.create_api_key("made while serving").await.unwrap();
    assert!(store.verify_api_key(secret.expose()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_session_lives_until_it_ends_expires_or_its_key_is_revoked() {
    let (_folder, store) = fresh_store().await;
    let (key, secret) = store.create_api_key("browser").await.unwrap();
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
