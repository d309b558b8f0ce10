//! From a checked request to its running answers: the one way that every dialect of the API takes.

mod generations;
mod stream;

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use zhenjin_assistant::{
    Assistant, AssistantError, ChatRequest, CompletionRequest, OutputFormat, ServedModels,
};

use crate::body::BodySize;
use crate::errors::ApiError;
use crate::observe::request_id;
use crate::openai::fault;
use crate::security::Caller;
use crate::shutdown::Shutdown;
use crate::stream_limit::{StreamLimit, StreamPermit};

pub(crate) use generations::{Generations, Heading, Progress, WholeAnswer, WholeCall, seconds_since_1970};
pub(crate) use stream::{AnswerWriter, Pieces, send_events, send_lines};

/// What a handler needs to let a model answer its caller.
pub(crate) struct Answering {
    models: Arc<ServedModels>,
    streams: StreamLimit,
    shutdown: Shutdown,
    caller: Caller,
    size: BodySize,
    id: String,
}

impl<S> FromRequestParts<S> for Answering
where
    S: Send + Sync,
    Arc<ServedModels>: FromRef<S>,
    StreamLimit: FromRef<S>,
    Shutdown: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Answering {
            models: FromRef::from_ref(state),
            streams: FromRef::from_ref(state),
            shutdown: FromRef::from_ref(state),
            caller: Caller::of(&parts.extensions)?,
            size: BodySize::of(parts),
            id: request_id(&parts.headers),
        })
    }
}

/// A loaded model and the right to let it answer.
pub(crate) struct Ready {
    assistant: Arc<Assistant>,
    permit: StreamPermit,
    shutdown: Shutdown,
    caller: Caller,
    /// Of the request, by which it gets its turn at the processors.
    size: BodySize,
    id: String,
}

impl Answering {
    /// Who asks.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The model `name`, loaded if it is not.
    pub(crate) async fn open(self, name: &str) -> Result<Ready, ApiError> {
        let models = Arc::clone(&self.models);
        let opened = self.open_with(async { models.get(name).await.map_err(fault) }).await;
        opened.map_err(|error| {
            let is_full = error.status() == StatusCode::TOO_MANY_REQUESTS;
            // Who waits for the same model knows best when one of its answers ends.
            let wait =
                if is_full { models.loaded(name).and_then(|model| model.expected_wait()) } else { None };
            match wait {
                Some(wait) => error.with_retry_after(wait),
                None => error,
            }
        })
    }

    /// The model that `find` gives. The right to answer comes first: whoever is refused it loads nothing.
    pub(crate) async fn open_with(
        self,
        find: impl Future<Output = Result<Arc<Assistant>, ApiError>>,
    ) -> Result<Ready, ApiError> {
        let permit = self.streams.permit(&self.caller.owner)?;
        let Answering { shutdown, caller, size, id, .. } = self;
        Ok(Ready { assistant: find.await?, permit, shutdown, caller, size, id })
    }
}

impl Ready {
    /// The model.
    pub(crate) fn assistant(&self) -> &Arc<Assistant> {
        &self.assistant
    }

    /// Lets it answer a conversation `choices` times. `refusal` words what the assistant refuses, with the dialect's own names.
    pub(crate) async fn chat(
        self,
        mut request: ChatRequest,
        choices: usize,
        refusal: fn(AssistantError, &OutputFormat) -> ApiError,
    ) -> Result<Generations, ApiError> {
        request.options.cache_salt = self.caller.cache_salt();
        let model = Arc::clone(&self.assistant);
        let answer = move || {
            model.chat_choices(&request, choices).map_err(|error| refusal(error, &request.output_format))
        };
        let generations = self.permit.compute(self.size.0, answer).await?;
        Ok(self.follow(generations))
    }

    /// Lets it answer a conversation, with as many tokens as were asked for or as the context has room for. True if that is fewer.
    pub(crate) async fn chat_within_context(
        self,
        mut request: ChatRequest,
        refusal: fn(AssistantError, &OutputFormat) -> ApiError,
    ) -> Result<(Generations, bool), ApiError> {
        request.options.cache_salt = self.caller.cache_salt();
        let model = Arc::clone(&self.assistant);
        let answer = move || {
            let mut answered = model.chat_choices(&request, 1);
            let has_room = has_room_for_less(&answered);
            if has_room && request.options.max_tokens.take().is_some() {
                answered = model.chat_choices(&request, 1);
            }
            let generations = answered.map_err(|error| refusal(error, &request.output_format))?;
            Ok((generations, has_room))
        };
        let (generations, reaches_context) = self.permit.compute(self.size.0, answer).await?;
        Ok((self.follow(generations), reaches_context))
    }

    /// Lets it continue a text, with as many tokens as were asked for or as the context has room for.
    pub(crate) async fn complete_within_context(
        self,
        mut request: CompletionRequest,
        refusal: fn(AssistantError, &OutputFormat) -> ApiError,
    ) -> Result<Generations, ApiError> {
        request.options.cache_salt = self.caller.cache_salt();
        let model = Arc::clone(&self.assistant);
        let answer = move || {
            let mut continued = model.complete_choices(&request, 1);
            if has_room_for_less(&continued) && request.options.max_tokens.take().is_some() {
                continued = model.complete_choices(&request, 1);
            }
            continued.map_err(|error| refusal(error, &request.output_format))
        };
        let generations = self.permit.compute(self.size.0, answer).await?;
        Ok(self.follow(generations))
    }

    /// Lets it continue each text `choices` times: all of them begin, or none.
    pub(crate) async fn complete(
        self,
        mut requests: Vec<CompletionRequest>,
        choices: usize,
        refusal: fn(AssistantError, &OutputFormat) -> ApiError,
    ) -> Result<Generations, ApiError> {
        let salt = self.caller.cache_salt();
        requests.iter_mut().for_each(|request| request.options.cache_salt = salt);
        let model = Arc::clone(&self.assistant);
        let answer = move || {
            let one_of_several = requests.len() > 1;
            let mut prepared = Vec::with_capacity(requests.len());
            for (index, request) in requests.iter().enumerate() {
                let answers = model.prepare_completion(request, choices).map_err(|error| {
                    let error = refusal(error, &request.output_format);
                    let place = format!("prompt[{index}]");
                    if one_of_several { error.with_field_renamed("prompt", &place) } else { error }
                })?;
                prepared.push(answers);
            }
            model.begin(prepared).map_err(|error| refusal(error, &OutputFormat::Text))
        };
        let generations = self.permit.compute(self.size.0, answer).await?;
        Ok(self.follow(generations))
    }

    /// How many tokens the conversation takes as a prompt.
    pub(crate) async fn count_prompt(
        self,
        request: ChatRequest,
        refusal: fn(AssistantError, &OutputFormat) -> ApiError,
    ) -> Result<usize, ApiError> {
        let model = Arc::clone(&self.assistant);
        let count =
            move || model.count_prompt(&request).map_err(|error| refusal(error, &request.output_format));
        self.permit.compute(self.size.0, count).await
    }

    fn follow(self, generations: Vec<zhenjin_assistant::TextGeneration>) -> Generations {
        Generations::new(generations, self.assistant, self.permit, self.shutdown, self.id)
    }
}

/// Whether it was refused only because more tokens were asked for than the context has room for behind the prompt.
fn has_room_for_less<T>(answered: &Result<T, AssistantError>) -> bool {
    matches!(answered, Err(AssistantError::ContextExceeded { prompt, context, .. }) if prompt < context)
}
