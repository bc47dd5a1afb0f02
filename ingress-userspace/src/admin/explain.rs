//! `/explain`: what becomes of a request, of the model that is served. Problems are known where objects are: in the process
//! of the agent.

use std::sync::Arc;

use http::StatusCode;

use super::State;
use crate::model::Model;
use crate::problem::Problem;

/// Explains a request (the query of `/explain`) against a model: the text, or what is wrong with the question. Problems are
/// those of the objects, where they are known.
pub type Explain = fn(&Arc<Model>, Option<&[Problem]>, &str) -> Result<String, String>;

/// The objects as they were last translated.
#[derive(Clone, Debug)]
pub struct Translated {
    /// What is to be served.
    pub model: Arc<Model>,
    /// What is wrong with them.
    pub problems: Arc<[Problem]>,
}

pub(super) async fn answer(state: &State, query: &str) -> (StatusCode, String) {
    let translated = state.translated.borrow().clone();
    // What is served, and in an agent without a proxy what is to be.
    let model = state.model.current().or_else(|| translated.as_ref().map(|known| Arc::clone(&known.model)));
    let (Some(explain), Some(model)) = (state.explain, model) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "there is no configuration yet\n".to_owned());
    };
    let query = query.to_owned();
    // It compiles the model: not on a thread that others wait for.
    let problems = translated.map(|known| known.problems);
    match tokio::task::spawn_blocking(move || explain(&model, problems.as_deref(), &query)).await {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err(text)) => (StatusCode::BAD_REQUEST, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
