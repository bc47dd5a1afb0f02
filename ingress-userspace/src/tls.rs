//! Certificates by SNI and the server side of TLS.
