//! A copy of a body that is made while it streams, up to a length.

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

/// Gathers the parts; the receiver gets them when all are there, and an error when they were too many or broke off.
#[derive(Debug)]
pub(super) struct Copy {
    parts: Vec<Bytes>,
    left: usize,
    done: Option<oneshot::Sender<Bytes>>,
}

impl Copy {
    /// A copy of at most `most` bytes.
    pub(super) fn new(most: usize) -> (Self, oneshot::Receiver<Bytes>) {
        let (done, copied) = oneshot::channel();
        (Self { parts: Vec::new(), left: most, done: Some(done) }, copied)
    }

    /// Another part.
    pub(super) fn add(&mut self, part: &Bytes) {
        match self.left.checked_sub(part.len()) {
            Some(left) if self.done.is_some() => {
                self.left = left;
                self.parts.push(part.clone());
            }
            _ => {
                self.done = None;
                self.parts = Vec::new();
            }
        }
    }

    /// That was all.
    pub(super) fn end(&mut self) {
        let Some(done) = self.done.take() else { return };
        let parts = std::mem::take(&mut self.parts);
        let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        // Whoever wanted it may have gone.
        let _ = done.send(whole.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_or_none() {
        let (mut copy, mut copied) = Copy::new(4);
        copy.add(&Bytes::from_static(b"ab"));
        assert!(copied.try_recv().is_err());
        copy.add(&Bytes::from_static(b"cd"));
        copy.end();
        assert_eq!(copied.try_recv().unwrap(), "abcd");
        let (mut copy, mut copied) = Copy::new(3);
        copy.add(&Bytes::from_static(b"abcd"));
        copy.add(&Bytes::from_static(b"e"));
        copy.end();
        assert!(copied.try_recv().is_err());
    }
}
