//! One file per filter, one shape.
