//! Shares rate limits with other nodes through a Redis.
//!
//! Workers say how often they charged each client; twice in 200 ms that is added to the client's bucket in the Redis, whose
//! level comes back and raises the bucket here. A bucket there is one number, when it will be empty, by the clock of
//! the Redis: nodes need no common clock. No request waits for any of this, and without the Redis each node goes on with
//! what it knows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::error_chain::chain;
use crate::model::shared_limits::SharedLimits;
use crate::proxy::limit_key::Key;
use crate::proxy::shares::{Charged, Charges, Outlet};
use crate::snapshot::buckets::{Buckets, now};

/// How often charges go out.
const EVERY: Duration = Duration::from_millis(100);
/// How long the Redis may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts to reach it.
const RETRY: Duration = Duration::from_secs(1);
/// Clients whose charges may wait.
const MOST: usize = 50_000;
/// Commands that are sent at once.
const BATCH: usize = 500;

/// Adds charges to a bucket and returns the microseconds until it is empty.
/// KEYS: the bucket. ARGV: charges, microseconds per charge.
const CHARGE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local empty_at = tonumber(redis.call('GET', KEYS[1]) or '0')
if empty_at < now then empty_at = now end
empty_at = empty_at + ARGV[1] * ARGV[2]
local lives = math.ceil((empty_at - now) / 1000) + 1000
redis.call('SET', KEYS[1], string.format('%.0f', empty_at), 'PX', string.format('%.0f', lives))
return string.format('%.0f', empty_at - now)
";

/// The role's end of the task.
#[derive(Debug)]
pub(super) struct LimitSync {
    /// What the workers tell.
    pub(super) outlet: Outlet,
    settings: watch::Sender<Option<SharedLimits>>,
    is_up: Arc<AtomicBool>,
}

impl LimitSync {
    /// Starts the task; it ends with the value and the workers.
    pub(super) fn start(buckets: Arc<Buckets>) -> Self {
        let (outlet, charges) = Outlet::new();
        let (settings, settings_seen) = watch::channel(None);
        let is_up = Arc::new(AtomicBool::new(false));
        let task = Task {
            buckets,
            outlet: outlet.clone(),
            is_up: Arc::clone(&is_up),
            settings: settings_seen,
            pending: HashMap::new(),
            connection: None,
            is_failing: false,
            retry_at: Instant::now(),
        };
        tokio::spawn(task.run(charges));
        Self { outlet, settings, is_up }
    }

    /// Takes over the settings of a model.
    pub(super) fn configure(&self, settings: Option<&SharedLimits>) {
        self.settings.send_if_modified(|known| {
            let is_new = known.as_ref() != settings;
            if is_new {
                *known = settings.cloned();
            }
            is_new
        });
    }

    /// Whether the Redis answers: asked when somebody scrapes.
    pub(super) fn status(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_up)
    }
}

struct Task {
    buckets: Arc<Buckets>,
    outlet: Outlet,
    is_up: Arc<AtomicBool>,
    settings: watch::Receiver<Option<SharedLimits>>,
    pending: Charges,
    connection: Option<Link>,
    /// The outage is in the log.
    is_failing: bool,
    retry_at: Instant,
}

struct Link {
    redis: MultiplexedConnection,
    script: String,
}

impl Task {
    async fn run(mut self, mut charges: mpsc::Receiver<Charges>) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.connection = None;
                    self.retry_at = Instant::now();
                    self.is_failing = false;
                    self.is_up.store(false, Ordering::Relaxed);
                }
                Some(charges) = charges.recv() => self.add(charges),
                _ = tick.tick() => self.exchange().await,
            }
        }
    }

    fn add(&mut self, charges: Charges) {
        for (charged, count) in charges {
            let has_room = self.pending.len() < MOST;
            match self.pending.get_mut(&charged) {
                Some(sum) => *sum = sum.saturating_add(count),
                None if has_room => drop(self.pending.insert(charged, count)),
                None => self.outlet.drop_charges(count.into()),
            }
        }
    }

    /// Tells what is pending and learns what others did. Charges that cannot be told are forgotten.
    async fn exchange(&mut self) {
        let Some(settings) = self.settings.borrow().clone() else {
            self.pending.clear();
            return;
        };
        if let Err(error) = self.try_exchange(&settings).await {
            self.connection = None;
            self.retry_at = Instant::now() + RETRY;
            self.is_up.store(false, Ordering::Relaxed);
            if !std::mem::replace(&mut self.is_failing, true) {
                let error = chain(&*error);
                warn!(address = settings.address, error, "limits are not shared with other nodes for now");
            }
        }
    }

    async fn try_exchange(&mut self, settings: &SharedLimits) -> anyhow::Result<()> {
        if self.connection.is_none() {
            if Instant::now() < self.retry_at {
                let lost = self.pending.drain().map(|(_, count)| u64::from(count)).sum();
                self.outlet.drop_charges(lost);
                return Ok(());
            }
            self.connection = Some(timeout(2 * PATIENCE, connect(settings)).await??);
            self.is_failing = false;
            self.is_up.store(true, Ordering::Relaxed);
            info!(address = settings.address, "limits are shared with other nodes");
        }
        let Some(link) = &mut self.connection else { return Ok(()) };
        let pending: Vec<(Charged, u32)> = self.pending.drain().collect();
        for part in pending.chunks(BATCH) {
            let mut commands = redis::pipe();
            for (charged, count) in part {
                let key = key(settings, charged);
                for limit in &charged.rate.limits {
                    let micros = limit.rate_ns as f64 / 1000.0;
                    let bucket = format!("{key}:{}", limit.rate_ns);
                    commands.cmd("EVALSHA").arg(&link.script).arg(1).arg(bucket).arg(*count).arg(micros);
                }
            }
            let levels: Vec<u64> = timeout(PATIENCE, commands.query_async(&mut link.redis)).await??;
            let limits = part
                .iter()
                .flat_map(|(charged, _)| charged.rate.limits.iter().map(move |limit| (charged, limit)));
            for ((charged, limit), micros) in limits.zip(levels) {
                let empty_at = now().saturating_add(micros.saturating_mul(1000));
                let identity = &*charged.rate.identity;
                match &charged.key {
                    Key::Address(address) => self.buckets.raise(identity, address, limit, empty_at),
                    Key::Text(text) => self.buckets.raise(identity, text, limit, empty_at),
                }
            }
        }
        Ok(())
    }
}

async fn connect(settings: &SharedLimits) -> anyhow::Result<Link> {
    let SharedLimits { address, database, is_tls, authorities, prefix: _, user, password } = settings;
    let scheme = if *is_tls { "rediss" } else { "redis" };
    let mut login = RedisConnectionInfo::default().set_db((*database).into()).set_skip_set_lib_name();
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(password) = password {
        login = login.set_password(&password.0);
    }
    let info = format!("{scheme}://{address}").into_connection_info()?.set_redis_settings(login);
    let limits = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let client = match authorities {
        Some(pem) => {
            let root_cert = Some(pem.as_bytes().to_vec());
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?
        }
        None => Client::open(info)?,
    };
    let mut redis = client.get_multiplexed_async_connection_with_config(&limits).await?;
    let script: String = redis::cmd("SCRIPT").arg("LOAD").arg(CHARGE).query_async(&mut redis).await?;
    Ok(Link { redis, script })
}

/// The name of a client's bucket, without its limit. What clients sent, such as API keys, is not readable in it.
fn key(settings: &SharedLimits, charged: &Charged) -> String {
    let (prefix, identity) = (&settings.prefix, &charged.rate.identity);
    match &charged.key {
        Key::Address(address) => format!("{prefix}:{identity}:{address}"),
        Key::Text(text) => {
            let digest = digest::digest(&digest::SHA256, text.as_bytes());
            let half = digest.as_ref().iter().take(16);
            let hex: String = half.map(|byte| format!("{byte:02x}")).collect();
            format!("{prefix}:{identity}:sha256-{hex}")
        }
    }
}
