//! `use-gzip`, `enable-brotli`, `enable-zstd` and how they compress.

use super::registry::config_keys;
use super::value::media;
use super::{Reader, value};
use crate::model::bodies::{Coding, CodingPolicy};

config_keys! { "Compression";
    /// Compress responses with gzip for clients that accept it: status 200, 403 or 404, of `gzip-types`, not shorter than
    /// `gzip-min-length`, not compressed yet, and not if `Cache-Control: no-transform` forbids it. They get
    /// `Vary: Accept-Encoding`, and a strong `ETag` becomes a weak one. Unlike in ingress-nginx the preferences (`q`) of the
    /// client decide between several codings, and what the backend has sent so far is never held back.
    USE_GZIP: bool = "use-gzip", parse: value::boolean, values: "true or false", default: "false", on_invalid: Warn,
    support: Differs;
    /// How hard gzip tries, from 1 to 9.
    GZIP_LEVEL: u32 = "gzip-level", parse: media::level::<1, 9>, values: "a number from 1 to 9", default: "1",
    on_invalid: Warn, support: Same;
    /// Bytes below which gzip leaves a response alone; one of unknown length is compressed.
    GZIP_MIN_LENGTH: u32 = "gzip-min-length", parse: value::integer, values: "a bare number of bytes", default: "256",
    on_invalid: Warn, support: Same;
    /// Media types that gzip compresses beside `text/html`; `*` is every one.
    GZIP_TYPES: Vec<String> = "gzip-types", parse: media::types, values: "media types, separated by blanks",
    default: "application/atom+xml application/javascript application/x-javascript application/json application/rss+xml application/vnd.ms-fontobject application/x-font-ttf application/x-web-app-manifest+json application/xhtml+xml application/xml font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component",
    on_invalid: Warn, support: Same;
    /// Clients whose `User-Agent` matches this expression, without regard to case, get no gzip. `msie6` stands for
    /// old versions of Internet Explorer.
    GZIP_DISABLE: String = "gzip-disable", parse: media::agents, values: "a regular expression", default: "",
    on_invalid: Warn, support: Same;
    /// Compress responses with brotli, as `use-gzip` does. Of codings that the client likes equally zstd comes first,
    /// then brotli, then gzip.
    ENABLE_BROTLI: bool = "enable-brotli", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, support: Differs;
    /// How hard brotli tries, from 0 to 11.
    BROTLI_LEVEL: u32 = "brotli-level", parse: media::level::<0, 11>, values: "a number from 0 to 11", default: "4",
    on_invalid: Warn, support: Same;
    /// Bytes below which brotli leaves a response alone; one of unknown length is compressed.
    BROTLI_MIN_LENGTH: u32 = "brotli-min-length", parse: value::integer, values: "a bare number of bytes",
    default: "20", on_invalid: Warn, support: Same;
    /// Media types that brotli compresses beside `text/html`; `*` is every one.
    BROTLI_TYPES: Vec<String> = "brotli-types", parse: media::types, values: "media types, separated by blanks",
    default: "application/xml+rss application/atom+xml application/javascript application/x-javascript application/json application/rss+xml application/vnd.ms-fontobject application/x-font-ttf application/x-web-app-manifest+json application/xhtml+xml application/xml font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component",
    on_invalid: Warn, support: Same;
    /// Compress responses with zstd, as `use-gzip` does.
    ENABLE_ZSTD: bool = "enable-zstd", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, support: Own;
    /// How hard zstd tries, from 1 to 19.
    ZSTD_LEVEL: u32 = "zstd-level", parse: media::level::<1, 19>, values: "a number from 1 to 19", default: "3",
    on_invalid: Warn, support: Own;
    /// Bytes below which zstd leaves a response alone; one of unknown length is compressed.
    ZSTD_MIN_LENGTH: u32 = "zstd-min-length", parse: value::integer, values: "a bare number of bytes", default: "256",
    on_invalid: Warn, support: Own;
    /// Media types that zstd compresses beside `text/html`; `*` is every one.
    ZSTD_TYPES: Vec<String> = "zstd-types", parse: media::types, values: "media types, separated by blanks",
    default: "application/atom+xml application/javascript application/x-javascript application/json application/rss+xml application/vnd.ms-fontobject application/x-font-ttf application/x-web-app-manifest+json application/xhtml+xml application/xml font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component",
    on_invalid: Warn, support: Own;
}

/// The codings in use, the preferred one first, and who gets no gzip.
pub(super) fn parse(reader: &mut Reader<'_>) -> (Vec<CodingPolicy>, Option<String>) {
    let keys = [
        (Coding::Zstd, &ENABLE_ZSTD, &ZSTD_LEVEL, &ZSTD_MIN_LENGTH, &ZSTD_TYPES),
        (Coding::Brotli, &ENABLE_BROTLI, &BROTLI_LEVEL, &BROTLI_MIN_LENGTH, &BROTLI_TYPES),
        (Coding::Gzip, &USE_GZIP, &GZIP_LEVEL, &GZIP_MIN_LENGTH, &GZIP_TYPES),
    ];
    let codings = keys.map(|(coding, is_on, level, min_length, types)| {
        // All are read, so that a mistake is reported although the coding is off.
        let policy = CodingPolicy {
            coding,
            level: reader.value(level),
            min_length: reader.value(min_length).into(),
            types: reader.value(types),
        };
        reader.value(is_on).then_some(policy)
    });
    let except = reader.get(&GZIP_DISABLE).value();
    (codings.into_iter().flatten().collect(), except)
}
