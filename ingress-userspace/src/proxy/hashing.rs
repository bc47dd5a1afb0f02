//! Password hashes take milliseconds by design: they are computed on threads of their own, with a bounded queue, and the
//! verdict is remembered for a moment. Workers are never held up; when the queue is full the request fails.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::Instant;

use crate::snapshot::users::{Candidate, Users, password};

/// Comparisons that may wait for each thread.
const WAITING: usize = 64;
/// How long a right password is remembered.
const LIFE: Duration = Duration::from_secs(60);
/// How long a wrong one is.
const WRONG_LIFE: Duration = Duration::from_secs(5);
/// Verdicts that one worker remembers.
const REMEMBERED: usize = 4096;

/// All threads are busy and have enough to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the threads that compare passwords are busy")]
pub struct Busy;

struct Job {
    password: Vec<u8>,
    hash: Arc<str>,
    answer: oneshot::Sender<bool>,
}

/// The threads; shared by all workers.
#[derive(Clone, Debug)]
pub struct Pool {
    threads: Arc<[SyncSender<Job>]>,
    next: Arc<AtomicUsize>,
    key: hmac::Key,
}

impl Pool {
    /// Starts the threads.
    pub fn start(count: usize) -> io::Result<Self> {
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let (jobs, inbox) = sync_channel(WAITING);
            std::thread::Builder::new().name(format!("hashing-{index}")).spawn(move || work(&inbox))?;
            threads.push(jobs);
        }
        let random = aws_lc_rs::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_unspecified| io::Error::other("no random numbers"))?;
        Ok(Self { threads: threads.into(), next: Arc::default(), key })
    }

    async fn compare(&self, password: &[u8], hash: &Arc<str>) -> Result<bool, Busy> {
        let (answer, answered) = oneshot::channel();
        let mut job = Job { password: password.to_vec(), hash: Arc::clone(hash), answer };
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for offset in 0..self.threads.len() {
            let thread = self.threads.get((first.wrapping_add(offset)) % self.threads.len());
            match thread.map(|thread| thread.try_send(job)) {
                Some(Ok(())) => return answered.await.map_err(|_gone| Busy),
                Some(Err(error)) => {
                    job = match error {
                        std::sync::mpsc::TrySendError::Full(job)
                        | std::sync::mpsc::TrySendError::Disconnected(job) => job,
                    }
                }
                None => break,
            }
        }
        Err(Busy)
    }
}

fn work(inbox: &Receiver<Job>) {
    for Job { password, hash, answer } in inbox {
        // Nobody waits any more when the client has gone.
        if !answer.is_closed() {
            let _ = answer.send(password::is_right(&password, &hash));
        }
    }
}

/// A verdict that is there or being found out.
#[derive(Debug)]
struct Remembered {
    since: Instant,
    verdict: Rc<OnceCell<bool>>,
}

impl Remembered {
    fn is_old(&self, now: Instant) -> bool {
        let life = if self.verdict.get() == Some(&false) { WRONG_LIFE } else { LIFE };
        now.duration_since(self.since) >= life
    }
}

/// One worker's side: the threads, and what it remembers.
#[derive(Debug)]
pub struct Passwords {
    pool: Pool,
    /// By keyed hash of list, user and password.
    remembered: RefCell<HashMap<[u8; 32], Remembered>>,
}

impl Passwords {
    /// Nothing remembered.
    pub fn new(pool: Pool) -> Self {
        Self { pool, remembered: RefCell::default() }
    }

    /// Whether a user of a list has this password. The same question is asked once at a time.
    pub async fn is_right(&self, users: &Users, name: &str, password: &[u8]) -> Result<bool, Busy> {
        let Some(Candidate { hash, is_known }) = users.candidate(name, "") else { return Ok(false) };
        if password::is_cheap(&hash) {
            return Ok(password::is_right(password, &hash) && is_known);
        }
        let verdict = self.verdict(self.key(users, name, password));
        let is_right = verdict.get_or_try_init(|| self.pool.compare(password, &hash)).await?;
        Ok(*is_right && is_known)
    }

    fn key(&self, users: &Users, name: &str, password: &[u8]) -> [u8; 32] {
        let mut keyed = hmac::Context::with_key(&self.pool.key);
        let id = &users.id;
        for part in
            [&id.namespace, &id.name, &id.version.0, name].map(str::as_bytes).into_iter().chain([password])
        {
            keyed.update(&part.len().to_le_bytes());
            keyed.update(part);
        }
        let mut key = [0; 32];
        key.iter_mut().zip(keyed.sign().as_ref()).for_each(|(to, from)| *to = *from);
        key
    }

    fn verdict(&self, key: [u8; 32]) -> Rc<OnceCell<bool>> {
        let now = Instant::now();
        let mut remembered = self.remembered.borrow_mut();
        if let Some(found) = remembered.get(&key).filter(|found| !found.is_old(now)) {
            return Rc::clone(&found.verdict);
        }
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, found| !found.is_old(now));
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
        }
        let verdict = Rc::new(OnceCell::new());
        remembered.insert(key, Remembered { since: now, verdict: Rc::clone(&verdict) });
        verdict
    }
}
