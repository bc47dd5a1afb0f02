//! What every tier uses: rigs, scripted backends, clients.
