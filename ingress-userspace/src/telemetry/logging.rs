//! The process log: `tracing` to standard error, as text or JSON. The access log is another thing, in `access_log`.

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

/// Starts logging for the whole process; call it once, before anything logs.
pub fn start(args: &LogArgs) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{}", args.log_level))
        .map_err(|source| LoggingError::Level { value: args.log_level.clone(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).try_init()?,
    }
    Ok(())
}
