//! The `portcullis` binary: parse arguments, start logging, run the command, report its exit code.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "without logging there is no other place for an error")]

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use ingress_userspace::app::roles;
use ingress_userspace::args::tools::PreflightArgs;
use ingress_userspace::args::{Cli, Command, LogArgs};
use ingress_userspace::cli::lint::Verdict;
use ingress_userspace::cli::preflight::Level;
use ingress_userspace::error_chain::chain;
use ingress_userspace::{cli, telemetry};

/// Usage errors and failures; clap uses the same.
const FAILED: u8 = 2;
/// The command did its work and found something.
const FINDINGS: u8 = 1;

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Run(args) => role(&args.log, roles::run(&args)),
        Command::Agent(args) => role(&args.log, roles::agent(&args)),
        Command::Proxy(args) => role(&args.log, roles::proxy(&args)),
        Command::Controller(args) => role(&args.log, roles::controller(&args)),
        Command::Webhook(args) => role(&args.log, roles::webhook(&args)),
        Command::Lint(args) => cli::lint::run(&args, &mut io::stdout()).map(exit).map_err(Into::into),
        Command::Explain(args) => done(cli::explain::run(&args, &mut io::stdout())),
        Command::Ingresses(args) => done(cli::ingresses::run(&args, &mut io::stdout())),
        Command::Backends(args) => done(cli::backends::run(&args, &mut io::stdout())),
        Command::Certs(args) => done(cli::certs::run(&args, &mut io::stdout())),
        Command::Conf(args) => done(cli::conf::run(&args, &mut io::stdout())),
        Command::Probe(args) => tool(cli::probe::run(&args, &mut io::stdout())),
        Command::Maps(args) => done(cli::maps::run(&args, &mut io::stdout().lock())),
        Command::Status(args) => tool(cli::status::run(&args, &mut io::stdout())),
        Command::Drops(args) => tool(cli::drops::run(&args, &mut io::stdout())),
        Command::Bans(args) => done(cli::bans::run(&args, &mut io::stdout().lock())),
        Command::Top(args) => tool(cli::top::run(&args, &mut io::stdout())),
        Command::Preflight(args) => preflight(&args),
        Command::Cleanup(args) => tool(cli::cleanup::run(&args, &mut io::stdout())),
        Command::Reference(args) => done(cli::reference::run(&args, &mut io::stdout().lock())),
    };
    ended.unwrap_or_else(|error| {
        // Whoever reads has seen enough: `portcullis maps | head`.
        let is_unread = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
        if error.chain().any(|cause| cause.downcast_ref().is_some_and(is_unread)) {
            return ExitCode::SUCCESS;
        }
        eprintln!("portcullis: {}", chain(&*error));
        ExitCode::from(FAILED)
    })
}

fn exit(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Clean => ExitCode::SUCCESS,
        Verdict::Findings => ExitCode::from(FINDINGS),
    }
}

/// Runs a role on the control runtime; workers have threads and runtimes of their own.
fn role(log: &LogArgs, role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    telemetry::logging::start(log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    runtime.block_on(role)?;
    Ok(ExitCode::SUCCESS)
}

/// The exit code says how bad the worst is.
fn preflight(args: &PreflightArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(cli::preflight::run(args, &mut io::stdout()))? {
        Level::Ok => ExitCode::SUCCESS,
        Level::Warn => ExitCode::from(FINDINGS),
        Level::Fail => ExitCode::from(FAILED),
    })
}

/// Runs a short command.
fn tool<E: Into<anyhow::Error>>(tool: impl Future<Output = Result<(), E>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    done(runtime.block_on(tool))
}

fn done<E: Into<anyhow::Error>>(ended: Result<(), E>) -> anyhow::Result<ExitCode> {
    ended.map_err(Into::into)?;
    Ok(ExitCode::SUCCESS)
}
