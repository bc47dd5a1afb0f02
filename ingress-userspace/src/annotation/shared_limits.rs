//! `rate-limit-redis-*`: limits of requests per time that nodes share.

use super::Reader;
use super::registry::config_keys;
use super::value::{self, limit};

config_keys! { "Limits over nodes";
    /// Share `limit-rps`, `limit-rpm` and `rate-limit` over all nodes through this Redis. A node answers by itself at once and
    /// hears within about 200 ms what others have let through, so together they let through at most what each of
    /// them does in that time too much, and less after it. When the Redis is gone each node keeps its own limits. Without
    /// this key limits hold per node.
    RATE_LIMIT_REDIS_ADDRESS: String = "rate-limit-redis-address", parse: limit::host_and_port,
    values: "host:port", default: "", on_invalid: Warn, support: Own;
    /// Secret with the key `password`, and `username` if the Redis wants one; key `ca.crt` holds the authorities by which
    /// `rate-limit-redis-tls` verifies its certificate.
    RATE_LIMIT_REDIS_SECRET: (String, String) = "rate-limit-redis-secret", parse: limit::qualified_name,
    values: "namespace/name", default: "", on_invalid: Warn, support: Own;
    /// Number of the database in the Redis.
    RATE_LIMIT_REDIS_DATABASE: u32 = "rate-limit-redis-database", parse: value::integer, values: "a bare whole number",
    default: "0", on_invalid: Warn, support: Own;
    /// Speak TLS with the Redis; its certificate must be for the host of `rate-limit-redis-address`, and is verified by the
    /// authorities in key `ca.crt` of `rate-limit-redis-secret`, or those of the system where there is no such key.
    RATE_LIMIT_REDIS_TLS: bool = "rate-limit-redis-tls", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Own;
    /// What all keys in the Redis begin with. Clusters with a prefix each can use one Redis.
    RATE_LIMIT_REDIS_PREFIX: String = "rate-limit-redis-prefix", parse: limit::prefix,
    values: "letters, digits and -_.:", default: "portcullis", on_invalid: Warn, support: Own;
}

/// The settings as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisText {
    /// Host and port.
    pub address: String,
    /// Namespace and name of a Secret, or a reference that cannot be read.
    pub secret: Option<(String, String)>,
    /// Number of the database.
    pub database: u32,
    /// Over TLS.
    pub is_tls: bool,
    /// In front of every key.
    pub prefix: String,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<RedisText> {
    let secret = reader.get(&RATE_LIMIT_REDIS_SECRET).value();
    let database = reader.value(&RATE_LIMIT_REDIS_DATABASE);
    let is_tls = reader.value(&RATE_LIMIT_REDIS_TLS);
    let prefix = reader.value(&RATE_LIMIT_REDIS_PREFIX);
    let address = reader.get(&RATE_LIMIT_REDIS_ADDRESS).value()?;
    Some(RedisText { address, secret, database, is_tls, prefix })
}
