//! `zhenjin serve`: the chat page and the OpenAI API, until Ctrl-C or SIGTERM.

use crate::arguments::{DraftArgument, ServeArguments};
use crate::home::Home;
use crate::machine;
use crate::memory_size::MemorySize;
use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::sync::Arc;
use zhenjin_assistant::{
    AdapterSpec, AssistantError, DraftSpec, Embedder, ModelSpec, RepetitionDetection, ServedModels,
};
use zhenjin_engine::Speculation;
use zhenjin_hub::ModelStore;
use zhenjin_promotions::{Improvements, Promotions};
use zhenjin_server::{ImproveCommand, Library, Metrics, Server, ServerOptions, Services};
use zhenjin_store::Store;

pub(crate) async fn run(home: &Home, arguments: ServeArguments) -> Result<()> {
    let model_store = ModelStore::new(home.models());
    let specs = specs(&model_store, &arguments.models)?;
    let metrics = Metrics::default();
    let mut options =
        machine::serve_options(&arguments.engine, usize::from(arguments.max_batch), arguments.queue)?;
    options.speculation = arguments.speculation;
    if arguments.no_repetition_detection {
        options.repetition_detection = RepetitionDetection::Off;
    }
    options.observer = Some(metrics.observer_of_model());
    tracing::info!(
        threads = options.compute.threads,
        simd = %options.compute.simd,
        memory = %MemorySize(options.memory_bytes),
        models = specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", "),
        "serving"
    );
    let first = specs.iter().find(|spec| !Embedder::is_at(&spec.path)).map(|spec| spec.name.clone());
    options.drafts = drafts(&model_store, &arguments, first.as_deref())?;
    let named = if arguments.models.is_empty() { Vec::new() } else { specs.clone() };
    let models = Arc::new(ServedModels::new(specs, options)?);
    models.check_drafts().context("--draft")?;
    for adapter in arguments.adapter {
        let model = adapter.model.or_else(|| first.clone());
        let model =
            model.context("--adapter: there is no model that it could belong to; name one to serve")?;
        let spec = AdapterSpec { model, name: adapter.name, path: adapter.path };
        let name = spec.served_name();
        models.load_adapter(spec).with_context(|| format!("--adapter {name}"))?;
    }
    let promotions = Promotions::new(home.promoted());
    if let Some((model, error)) = zhenjin_server::apply_promotions(&models, &promotions)?.into_iter().next() {
        bail!(
            "what was promoted for `{model}` cannot be served: {error}; `zhenjin rollback {model}` takes it back"
        );
    }
    expect_to_fit(&named, &models, arguments.engine.memory.is_some())?;
    let store = Store::open(&home.database()).await?;
    let waiting_and_running = usize::from(arguments.max_batch).saturating_add(arguments.queue);
    let streams = arguments.streams.map_or(waiting_and_running, usize::from);
    let connections = streams.saturating_mul(2).max(ServerOptions::default().connection_limit);
    let server_options = ServerOptions {
        stream_limit: streams,
        connection_limit: machine::connections_with_files(connections),
        address: arguments.addr,
        require_key: arguments.require_key,
        allowed_hosts: arguments.allowed_host,
        cors_origins: arguments.cors_origin,
        shutdown_limit: arguments.shutdown_limit,
        ..ServerOptions::default()
    };
    let library = Library {
        models: model_store,
        adapters: home.adapters(),
        promotions,
        improvements: Improvements::new(home.improvements()),
        improve: Some(improve_command(home)?),
        pull: machine::pull_options(),
        memory_total: machine::memory()?.total,
    };
    let services = Services { store: store.clone(), models: Arc::clone(&models), library, metrics };
    let server = Server::bind(server_options, services).await?;
    println!("listening on http://{}", server.address());
    let limit = arguments.shutdown_limit;
    server.run(stop_signal()?).await;
    models.shutdown(limit).await;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// An improvement is made by this program, behind everything else that the machine does.
fn improve_command(home: &Home) -> Result<ImproveCommand> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let home = home.root().to_owned();
    Ok(ImproveCommand::new(move |id, model, method| {
        let mut command = Command::new(&program);
        command.arg("--home").arg(&home).args(["improve", "--background", "--id", id]);
        if let Some(method) = method {
            command.args(["--method", method]);
        }
        command.arg("--").arg(model);
        command
    }))
}

/// The models that draft for served ones; `first` is the served model for which an argument without a name is meant.
fn drafts(store: &ModelStore, arguments: &ServeArguments, first: Option<&str>) -> Result<Vec<DraftSpec>> {
    if !arguments.draft.is_empty() && arguments.speculation == Speculation::Off {
        bail!(
            "--draft guesses tokens, and --speculation off says that none are guessed; leave one of them out"
        );
    }
    let draft = |argument: &DraftArgument| {
        let model = argument.model.clone().or_else(|| first.map(str::to_owned));
        let model = model.context("--draft: there is no model that it could draft for; name one to serve")?;
        machine::draft_spec(store, model, &argument.draft)
    };
    arguments.draft.iter().map(draft).collect()
}

fn specs(store: &ModelStore, names: &[OsString]) -> Result<Vec<ModelSpec>> {
    let specs = match names {
        [] => machine::every_model(store)?,
        names => names.iter().map(|name| named_spec(store, name)).collect::<Result<_>>()?,
    };
    if specs.is_empty() {
        tracing::warn!("{}, or in the chat page's model menu", machine::no_model());
    }
    Ok(specs)
}

/// A named model. What is no model is refused before it is offered to anybody.
fn named_spec(store: &ModelStore, name: &OsStr) -> Result<ModelSpec> {
    let spec = machine::named_spec(store, name)?;
    spec.check()?;
    Ok(spec)
}

/// Refuses to serve where none of the named models could ever be loaded within the memory that somebody allowed: every request would be told so.
/// Where some could, or the limit is what was free just now, the others are told.
fn expect_to_fit(named: &[ModelSpec], models: &ServedModels, is_limit_given: bool) -> Result<()> {
    let mut unfit = Vec::new();
    for spec in named {
        match models.check_fits(&spec.name) {
            Err(error @ AssistantError::OutOfMemory { .. }) => unfit.push(error),
            checked => checked?,
        }
    }
    let all = unfit.len() == named.len();
    for (index, error) in unfit.into_iter().enumerate() {
        if all && index == 0 && is_limit_given {
            return Err(error.into());
        }
        tracing::warn!(%error, "requests to this model will be refused");
    }
    Ok(())
}

/// Resolves at the first Ctrl-C or SIGTERM, or when the terminal is closed; a second Ctrl-C ends the program at once.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    use tokio::signal::unix::{SignalKind, signal};
    #[cfg(unix)]
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    #[cfg(unix)]
    let mut hang_up = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("stopping: running answers may finish; Ctrl-C again ends them at once");
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    })
}
