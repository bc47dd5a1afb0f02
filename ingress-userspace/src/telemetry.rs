//! Access log, logging, metrics.
