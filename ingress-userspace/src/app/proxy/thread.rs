//! Worker threads: one current-thread runtime each, and the channel by which the role talks to it.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use crate::l4::udp::{self, Datagrams};
use crate::listener::accept::{Listening, accept};
use crate::proxy::hashing;
use crate::proxy::worker::{Phase, Shared, Worker};
use crate::telemetry::access_log::writer::Writer;
use crate::telemetry::metrics::Samples;
use crate::telemetry::shard::{Detail, Reporter};

/// How often log lines are handed over.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two sweeps of idle connections.
const SWEEP: u32 = 50;

enum Command {
    Listen(Listening),
    Receive(Datagrams),
    Unlisten(String),
    Collect(oneshot::Sender<Samples>),
}

/// The threads.
#[derive(Debug)]
pub(super) struct Workers {
    commands: Vec<mpsc::UnboundedSender<Command>>,
    ended: Vec<oneshot::Receiver<()>>,
}

/// Asks all workers for their metrics.
#[derive(Clone, Debug)]
pub(super) struct Asker(Vec<mpsc::UnboundedSender<Command>>);

impl Asker {
    pub(super) async fn collect(&self) -> Vec<Samples> {
        let mut answers = Vec::new();
        for commands in &self.0 {
            let (answer, answered) = oneshot::channel();
            if commands.send(Command::Collect(answer)).is_ok() {
                answers.push(answered);
            }
        }
        let mut shards = Vec::new();
        for answered in answers {
            shards.extend(answered.await);
        }
        shards
    }
}

impl Workers {
    /// Starts `count` threads.
    pub(super) fn start(
        count: u32,
        shared: &Shared,
        (writer, detail): (&Writer, Detail),
        phase: &watch::Receiver<Phase>,
        hashing: &hashing::Pool,
    ) -> anyhow::Result<Self> {
        let mut workers = Self { commands: Vec::new(), ended: Vec::new() };
        for index in 0..count {
            let (commands, inbox) = mpsc::unbounded_channel();
            let (ended, is_ended) = oneshot::channel();
            let (shared, writer, phase, hashing) =
                (shared.clone(), writer.clone(), phase.clone(), hashing.clone());
            let body = move || {
                if let Err(error) = work(index, shared, Reporter::new(writer, detail), phase, hashing, inbox)
                {
                    error!(worker = index, %error, "worker failed");
                    return;
                }
                // The receiver is gone only when nobody waits any more.
                let _ = ended.send(());
            };
            std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(body)
                .context("a worker thread cannot be started")?;
            workers.commands.push(commands);
            workers.ended.push(is_ended);
        }
        Ok(workers)
    }

    /// Gives a socket to a worker.
    pub(super) fn listen(&self, worker: u32, listening: Listening) {
        let commands = usize::try_from(worker).ok().and_then(|index| self.commands.get(index));
        if let Some(commands) = commands {
            // A worker that has ended is reported by `failed`.
            let _ = commands.send(Command::Listen(listening));
        }
    }

    /// Gives a socket for datagrams to a worker.
    pub(super) fn receive(&self, worker: u32, datagrams: Datagrams) {
        let commands = usize::try_from(worker).ok().and_then(|index| self.commands.get(index));
        if let Some(commands) = commands {
            let _ = commands.send(Command::Receive(datagrams));
        }
    }

    /// Closes the sockets of a listener on all workers; open connections go on.
    pub(super) fn unlisten(&self, listener: &str) {
        for commands in &self.commands {
            let _ = commands.send(Command::Unlisten(listener.to_owned()));
        }
    }

    pub(super) fn asker(&self) -> Asker {
        Asker(self.commands.clone())
    }

    /// Returns when a worker ended that should not have.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        let all = self.ended.iter_mut().map(|ended| async move {
            let _ = ended.await;
        });
        let _ = futures_util::future::select_all(all.map(Box::pin)).await;
        anyhow!("a worker thread has ended; the process cannot serve without it")
    }

    /// Returns when all workers have ended.
    pub(super) async fn finished(&mut self) {
        while let Some(ended) = self.ended.last_mut() {
            // A thread that panicked has ended, too.
            let _ = ended.await;
            self.ended.pop();
        }
    }
}

fn work(
    index: u32,
    shared: Shared,
    reporter: Reporter,
    phase: watch::Receiver<Phase>,
    hashing: hashing::Pool,
    inbox: mpsc::UnboundedReceiver<Command>,
) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let worker = Rc::new(Worker::new(index, shared, Rc::new(reporter), phase, hashing));
    runtime.block_on(run(&worker, inbox));
    // Tasks hold log records; they are written when the runtime drops them.
    drop(runtime);
    worker.reporter.flush();
    Ok(())
}

async fn run(worker: &Rc<Worker>, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let mut accepting: HashMap<String, Vec<AbortHandle>> = HashMap::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0_u32;
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Listen(listening)) => {
                    let name = listening.listener.clone();
                    let task = tokio::task::spawn_local({
                        let (worker, name) = (Rc::clone(worker), name.clone());
                        async move {
                            if let Err(error) = accept(worker, listening).await {
                                error!(listener = name, %error, "accept loop failed");
                            }
                        }
                    });
                    accepting.entry(name).or_default().push(task.abort_handle());
                }
                Some(Command::Receive(datagrams)) => {
                    let name = datagrams.listener.clone();
                    let task = tokio::task::spawn_local({
                        let (worker, name) = (Rc::clone(worker), name.clone());
                        async move {
                            if let Err(error) = udp::serve(worker, datagrams).await {
                                error!(listener = name, %error, "datagrams cannot be received");
                            }
                        }
                    });
                    accepting.entry(name).or_default().push(task.abort_handle());
                }
                Some(Command::Unlisten(name)) => {
                    accepting.remove(&name).into_iter().flatten().for_each(|task| task.abort());
                }
                Some(Command::Collect(answer)) => {
                    let mut samples = Samples::default();
                    worker.counters.collect(&mut samples);
                    worker.reporter.collect(&mut samples);
                    // A scrape that was given up waits no more.
                    let _ = answer.send(samples);
                }
                None => return,
            },
            _ = tick.tick() => {
                worker.reporter.flush();
                worker.shares.flush();
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(SWEEP) {
                    worker.pools.sweep();
                    worker.subrequests.sweep();
                }
                let phase = worker.phase();
                if phase == Phase::Closing || (phase == Phase::Stopped && worker.counters.open.value() == 0) {
                    return;
                }
            }
        }
    }
}
