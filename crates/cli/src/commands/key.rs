//! `zhenjin key`: API keys for clients of a server that others can reach.

use crate::arguments::{KeyCommand, RoleArgument};
use crate::home::Home;
use anyhow::{Result, bail};
use zhenjin_store::{ApiKey, KeyRole, NewApiKey, Owner, Store};

/// How the command line names the conversations of the person at the machine.
const LOCAL: &str = "local";

pub(crate) async fn run(home: &Home, command: KeyCommand) -> Result<()> {
    let store = Store::open_beside_owner(&home.database()).await?;
    match command {
        KeyCommand::New { name, role, chats_of } => make(&store, name, role, chats_of).await?,
        KeyCommand::List => list(&store).await?,
        KeyCommand::Role { name, role } => change_role(&store, &name, role.into()).await?,
        KeyCommand::Revoke { name } => revoke(&store, &name).await?,
    }
    store.close().await;
    Ok(())
}

async fn make(
    store: &Store,
    name: String,
    role: Option<RoleArgument>,
    chats_of: Option<String>,
) -> Result<()> {
    let owner = match chats_of.as_deref() {
        None => None,
        Some(name) => Some(owner_named(store, name, "--chats-of").await?),
    };
    let new = NewApiKey { name, role: role.map(KeyRole::from), owner };
    let (key, secret) = store.create_api_key(new).await?;
    let keys = store.api_keys().await?;
    eprintln!("Role: {}. {}.", key.role, opens(&key, &keys));
    if !keys.iter().any(|key| key.revoked_at.is_none() && key.role == KeyRole::Operator) {
        eprintln!(
            "No operator has a key: over the network nobody can administer models. zhenjin key role {} operator changes that.",
            key.name
        );
    }
    eprintln!("The key of `{}`. It is shown only now; keep it:", key.name);
    println!("{}", secret.expose());
    Ok(())
}

async fn list(store: &Store) -> Result<()> {
    let keys = store.api_keys().await?;
    if keys.is_empty() {
        eprintln!("no keys yet; make one with: zhenjin key new NAME");
    }
    for key in &keys {
        let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
        println!("{}\t{state}\t{}\t{}\t{}", key.id, key.role, chats(key), key.name);
    }
    Ok(())
}

async fn change_role(store: &Store, wanted: &str, role: KeyRole) -> Result<()> {
    let keys = store.api_keys().await?;
    let key = store.set_api_key_role(&active(&keys, wanted)?.id, role).await?;
    eprintln!("{}: {}. {}, as before.", key.name, key.role, opens(&key, &keys));
    Ok(())
}

async fn revoke(store: &Store, wanted: &str) -> Result<()> {
    let keys = store.api_keys().await?;
    let key = active(&keys, wanted)?;
    store.revoke_api_key(&key.id).await?;
    eprintln!("revoked `{}`", key.name);
    let shared =
        |other: &ApiKey| other.owner == key.owner && other.id != key.id && other.revoked_at.is_none();
    if key.owner != Owner::Local && !keys.iter().any(shared) {
        eprintln!(
            "Its chats are kept; zhenjin key new NAME --chats-of {} makes another key that opens them.",
            key.id
        );
    }
    Ok(())
}

/// The accepted key of that name or id.
fn active<'a>(keys: &'a [ApiKey], wanted: &str) -> Result<&'a ApiKey> {
    let matches: Vec<&ApiKey> = keys
        .iter()
        .filter(|key| key.revoked_at.is_none() && (key.name == wanted || key.id.as_str() == wanted))
        .collect();
    match matches[..] {
        [] => bail!("no active key has the name or id `{wanted}`; see: zhenjin key list"),
        [key] => Ok(key),
        _ => {
            let ids: Vec<&str> = matches.iter().map(|key| key.id.as_str()).collect();
            bail!("{} keys have the name `{wanted}`; give the id of one: {}", ids.len(), ids.join(", "))
        }
    }
}

/// The owner that an option names: `local`, or the name or id of a key, which may be revoked, that opens the owner's chats.
pub(crate) async fn owner_named(store: &Store, wanted: &str, option: &str) -> Result<Owner> {
    if wanted == LOCAL {
        return Ok(Owner::Local);
    }
    let keys = store.api_keys().await?;
    let mut owners: Vec<&Owner> = keys
        .iter()
        .filter(|key| key.name == wanted || key.id.as_str() == wanted)
        .map(|key| &key.owner)
        .collect();
    owners.sort();
    owners.dedup();
    match owners[..] {
        [] => bail!("{option}: no key has the name or id `{wanted}`; see: zhenjin key list"),
        [owner] => Ok(owner.clone()),
        _ => bail!(
            "{option}: several keys with different chats have the name `{wanted}`; give an id of: zhenjin key list"
        ),
    }
}

/// Which chats a key opens, in a word: its own, `local`, or the id of the key that they began with.
fn chats(key: &ApiKey) -> &str {
    match &key.owner {
        Owner::Local => LOCAL,
        Owner::Key(id) if *id == key.id => "own",
        Owner::Key(id) => id.as_str(),
    }
}

fn opens(key: &ApiKey, keys: &[ApiKey]) -> String {
    match &key.owner {
        Owner::Local => {
            "It opens the chats of this machine, those that a server without keys shows".to_owned()
        }
        Owner::Key(id) if *id == key.id => "It opens chats of its own, which no other key opens".to_owned(),
        Owner::Key(id) => {
            let name = keys.iter().find(|key| key.id == *id).map_or(id.as_str(), |key| key.name.as_str());
            format!("It opens the chats of `{name}`")
        }
    }
}
