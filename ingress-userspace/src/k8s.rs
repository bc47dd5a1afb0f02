//! Stage 1: what the cluster (or a folder of manifests) holds.
