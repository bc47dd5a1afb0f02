//! Stage 3: the Cluster view → the model and the Problems. It never fails: a mistake degrades its own object.

pub mod problem;

use problem::ObjectRef;

/// An Ingress that we serve, as far as status needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurIngress {
    /// Which.
    pub object: ObjectRef,
    /// Addresses and host names that its status holds now.
    pub published: Vec<String>,
}
