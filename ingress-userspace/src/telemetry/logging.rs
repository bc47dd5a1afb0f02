//! The process log: `tracing` to standard error, as text or JSON. The access log is another thing, in `access_log`.

use tracing::info;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::args::{LogArgs, LogFormat};

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is neither a level nor a list of directives.
    #[error(
        "--log-level {value:?} is neither a level (error, warn, info, debug, trace) nor a list of target=level"
    )]
    Level {
        /// As given.
        value: String,
        /// What the parser said.
        #[source]
        source: ParseError,
    },
    /// A subscriber is already in place.
    #[error("logging was already started")]
    Twice(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// The client of the API server reports each failed attempt as an error; the reflectors say the same once. Directives of
/// the user come after it and win.
const QUIET: &str = "kube_client::client::builder=off";

/// From here on ingress-nginx logs what only its developers read.
const DEBUG_VERBOSITY: u8 = 5;

/// Starts logging for the whole process; call it once, before anything logs.
pub fn start(args: &LogArgs) -> Result<(), LoggingError> {
    let is_verbose = args.v.is_some_and(|level| level >= DEBUG_VERBOSITY) && args.log_level == "info";
    let level = if is_verbose { "debug" } else { args.log_level.as_str() };
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{level}"))
        .map_err(|source| LoggingError::Level { value: args.log_level.clone(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).try_init()?,
    }
    for (flag, reason) in &args.compat.ignored {
        info!(flag, reason, "flag of ingress-nginx ignored");
    }
    Ok(())
}
