//! `cargo xtask`: set-up, build, demo, tests, checks and generated pages.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command-line tool talks to its user")]

mod bench;
mod build_ebpf;
mod demo;
mod evidence;
mod fuzz;
mod generate;
mod lint;
mod registry_tools;
mod setup;
mod shell;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what is missing on Debian and Ubuntu; elsewhere, or without root, says what to install.
    Setup,
    /// Builds the kernel half; says with which toolchain, prints the object's path and size.
    BuildEbpf(build_ebpf::BuildArgs),
    /// Measures.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Shows both halves at work: namespaces, kernel programs, a manifest folder, requests. Does its own set-up.
    Demo(demo::DemoArgs),
    /// Runs the test tiers (default: all), least powerful first. Does its own set-up.
    Test(test::TestArgs),
    /// Looks for inputs that break what must hold, with coverage guidance.
    Fuzz(fuzz::FuzzArgs),
    /// Formatting, clippy, licences and bans, tidy, generated pages.
    Lint,
    /// The rules no compiler checks: layers, file sizes, one name per feature.
    Tidy,
    /// Writes the reference pages and CRDs from the code.
    Gen {
        /// Write nothing; fail when a page differs from the code.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> std::process::ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo xtask: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Setup => setup::run(),
        Task::BuildEbpf(args) => build_ebpf::run(&args),
        Task::Bench(what) => bench::run(&what),
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Lint => lint::run(),
        Task::Tidy => tidy::run(),
        Task::Gen { check } => generate::run(check),
    }
}
