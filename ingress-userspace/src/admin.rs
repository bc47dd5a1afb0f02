//! Health, metrics and read-only dumps, on the control runtime.
