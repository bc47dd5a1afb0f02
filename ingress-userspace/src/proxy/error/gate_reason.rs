//! Why the gate refuses requests.

use http::StatusCode;

/// Why the gate refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`name` says what each means")]
pub enum GateReason {
    Method,
    MethodNotAllowed,
    HostMissing,
    HostRepeated,
    HostInvalid,
    UserInfo,
    Scheme,
    TargetForm,
    TargetBytes,
    TargetEncoding,
    TargetAboveRoot,
    TargetAmbiguous,
    TargetTooLong,
    HeadersTooLarge,
    Framing,
    Unreadable,
}

impl GateReason {
    /// All of them, in order.
    pub const ALL: [Self; 16] = [
        Self::Method,
        Self::MethodNotAllowed,
        Self::HostMissing,
        Self::HostRepeated,
        Self::HostInvalid,
        Self::UserInfo,
        Self::Scheme,
        Self::TargetForm,
        Self::TargetBytes,
        Self::TargetEncoding,
        Self::TargetAboveRoot,
        Self::TargetAmbiguous,
        Self::TargetTooLong,
        Self::HeadersTooLarge,
        Self::Framing,
        Self::Unreadable,
    ];

    /// The label in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "method_invalid",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostInvalid => "host_invalid",
            Self::UserInfo => "user_info",
            Self::Scheme => "scheme",
            Self::TargetForm => "target_form",
            Self::TargetBytes => "target_bytes",
            Self::TargetEncoding => "target_encoding",
            Self::TargetAboveRoot => "target_above_root",
            Self::TargetAmbiguous => "target_ambiguous",
            Self::TargetTooLong => "target_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Framing => "framing",
            Self::Unreadable => "unreadable",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
