//! The one debounced loop of a process: sources → Cluster view → translate → [`World`].

use std::sync::Arc;

use tokio::sync::watch;

use crate::link::messages::ModelVersion;
use crate::model::Model;
use crate::translate::OurIngress;
use crate::translate::problem::Problem;

/// One build of the world. Everything behind it (agent, controller) reads this and nothing of Kubernetes.
#[derive(Debug)]
pub struct World {
    /// Counts builds that differ from the one before.
    pub version: ModelVersion,
    /// What to serve.
    pub model: Arc<Model>,
    /// What is wrong, ordered.
    pub problems: Vec<Problem>,
    /// The Ingresses that are ours, for status.
    pub ingresses: Vec<OurIngress>,
}

/// The newest build; `None` until every source was ready once.
pub type WorldReceiver = watch::Receiver<Option<Arc<World>>>;
