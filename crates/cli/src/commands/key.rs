//! `zhenjin key`: API keys for clients of a server that others can reach.

use crate::arguments::KeyCommand;
use crate::home::Home;
use anyhow::{Result, bail};
use zhenjin_store::{ApiKey, Store};

pub(crate) async fn run(home: &Home, command: KeyCommand) -> Result<()> {
    let store = Store::open_beside_owner(&home.database()).await?;
    match command {
        KeyCommand::New { name } => make(&store, &name).await?,
        KeyCommand::List => list(&store).await?,
        KeyCommand::Revoke { name } => revoke(&store, &name).await?,
    }
    store.close().await;
    Ok(())
}

async fn make(store: &Store, name: &str) -> Result<()> {
    let (key, secret) = store.create_api_key(name).await?;
    eprintln!("The key of {:?}. It is shown only now; keep it:", key.name);
    println!("{}", secret.expose());
    Ok(())
}

async fn list(store: &Store) -> Result<()> {
    let keys = store.api_keys().await?;
    if keys.is_empty() {
        eprintln!("no keys yet; make one with: zhenjin key new NAME");
    }
    for key in keys {
        let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
        println!("{}\t{state}\t{}", key.id, key.name);
    }
    Ok(())
}

async fn revoke(store: &Store, wanted: &str) -> Result<()> {
    let keys = store.api_keys().await?;
    let matches: Vec<&ApiKey> = keys
        .iter()
        .filter(|key| key.revoked_at.is_none() && (key.name == wanted || key.id.to_string() == wanted))
        .collect();
    match matches[..] {
        [] => bail!("no active key has the name or id {wanted:?}; see: zhenjin key list"),
        [key] => {
            store.revoke_api_key(&key.id).await?;
            eprintln!("revoked {:?}", key.name);
            Ok(())
        }
        _ => {
            let ids: Vec<String> = matches.iter().map(|key| key.id.to_string()).collect();
            bail!("{} keys have the name {wanted:?}; give the id of one: {}", ids.len(), ids.join(", "))
        }
    }
}
