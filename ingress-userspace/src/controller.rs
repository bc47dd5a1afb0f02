//! What one replica does for the cluster: Lease, status, Events.
