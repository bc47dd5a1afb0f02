//! Endpoints: choice and connections.
