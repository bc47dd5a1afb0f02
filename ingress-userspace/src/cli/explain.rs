//! `portcullis explain URL`: what becomes of a request, from objects or from a running process.

use std::io;

use tokio::net::UnixStream;

use super::objects::{self, ObjectsError};
use super::probe;
use crate::args::objects::{ExplainArgs, ObjectFormat};
use crate::explain::question::{asked, query};
use crate::explain::{ExplainError, explain};

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum ExplainCommandError {
    /// There is nothing to explain it with.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The request.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// The running process.
    #[error("{path} cannot be asked; is this the --admin-socket of a running process?")]
    Socket {
        /// Of the socket.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The running process says no.
    #[error("the process says: {0}")]
    Refused(String),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Runs the command.
pub fn run(args: &ExplainArgs, out: &mut dyn io::Write) -> Result<(), ExplainCommandError> {
    let asked = asked(args)?;
    if let Some(path) = &args.socket {
        let failed = |source| ExplainCommandError::Socket { path: path.display().to_string(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let target = format!("/explain?{}", query(args));
        let answer = runtime
            .block_on(async { probe::ask(UnixStream::connect(path).await?, &target).await })
            .map_err(failed)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if !head.contains(" 200 ") {
            return Err(ExplainCommandError::Refused(body.trim().to_owned()));
        }
        out.write_all(body.as_bytes())?;
        return Ok(());
    }
    let objects = objects::read(&args.objects)?;
    let mut explanation = explain(&objects.translation.model, &asked)?;
    explanation.add_problems(&objects.translation.problems);
    match args.output {
        ObjectFormat::Table => out.write_all(explanation.text().as_bytes())?,
        format => objects::print(out, format, &explanation)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
