//! A body that is compressed on its way, part by part: never more than one part and the coder's window in memory.
//!
//! When the inner body has nothing more for now, everything that came so far is flushed: an event stream arrives event
//! by event, and a backend that pauses holds nothing back.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};

use super::{Body, BodyError};
use crate::model::bodies::Coding;

/// What is compressed between two outputs: bounds the time that one poll takes.
const PART: usize = 16 * 1024;
/// log2 of brotli's window; as much as it needs of memory per response.
const BROTLI_WINDOW: u32 = 19;
/// The same of zstd.
const ZSTD_WINDOW: u32 = 20;

/// A body with a coding.
#[derive(Debug)]
pub(super) struct CompressedBody {
    inner: Body,
    /// Gone when it has ended.
    coder: Option<Coder>,
    /// What came and is not compressed yet.
    rest: Bytes,
    /// Something was compressed and not flushed.
    is_dirty: bool,
    trailers: Option<Frame<Bytes>>,
}

enum Coder {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl Coder {
    fn new(coding: Coding, level: u32) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(level);
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
            Coding::Brotli => {
                let writer = brotli::CompressorWriter::new(Vec::new(), 4096, level, BROTLI_WINDOW);
                Self::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let level = i32::try_from(level).unwrap_or_default();
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(ZSTD_WINDOW)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn write(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(coder) => coder.write_all(part),
            Self::Brotli(coder) => coder.write_all(part),
            Self::Zstd(coder) => coder.write_all(part),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(coder) => coder.flush(),
            Self::Brotli(coder) => coder.flush(),
            Self::Zstd(coder) => coder.flush(),
        }
    }

    /// What is ready.
    fn take(&mut self) -> Bytes {
        let ready = match self {
            Self::Gzip(coder) => coder.get_mut(),
            Self::Brotli(coder) => coder.get_mut(),
            Self::Zstd(coder) => coder.get_mut(),
        };
        Bytes::from(std::mem::take(ready))
    }

    fn finish(self) -> io::Result<Bytes> {
        Ok(Bytes::from(match self {
            Self::Gzip(coder) => coder.finish()?,
            Self::Brotli(coder) => coder.into_inner(),
            Self::Zstd(coder) => coder.finish()?,
        }))
    }
}

impl CompressedBody {
    /// Fails only where there is no memory for the coder; the body comes back then.
    pub(super) fn new(inner: Body, coding: Coding, level: u32) -> Result<Self, Body> {
        match Coder::new(coding, level) {
            Ok(coder) => {
                Ok(Self { inner, coder: Some(coder), rest: Bytes::new(), is_dirty: false, trailers: None })
            }
            Err(_) => Err(inner),
        }
    }

    pub(super) fn is_end(&self) -> bool {
        self.coder.is_none() && self.trailers.is_none()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Some(coder) = &mut self.coder else {
                return Poll::Ready(self.trailers.take().map(Ok));
            };
            let mut output = Bytes::new();
            if self.rest.is_empty() {
                match Pin::new(&mut self.inner).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                        self.rest = frame.into_data().unwrap_or_default();
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(end) => {
                        self.trailers = end.and_then(Result::ok);
                        if let Some(coder) = self.coder.take() {
                            output = coder.finish().map_err(BodyError::Temporary)?;
                        }
                    }
                    Poll::Pending if self.is_dirty => {
                        self.is_dirty = false;
                        coder.flush().map_err(BodyError::Temporary)?;
                        output = coder.take();
                        if output.is_empty() {
                            return Poll::Pending;
                        }
                    }
                    Poll::Pending => return Poll::Pending,
                }
            } else {
                let part = self.rest.split_to(self.rest.len().min(PART));
                coder.write(&part).map_err(BodyError::Temporary)?;
                self.is_dirty = true;
                output = coder.take();
            }
            if !output.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(output))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http_body_util::BodyExt;

    use super::*;

    fn plain(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut plain).unwrap(),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut plain).unwrap(),
            Coding::Zstd => {
                plain = zstd::stream::decode_all(coded).unwrap();
                plain.len()
            }
        };
        plain
    }

    #[tokio::test]
    async fn what_was_compressed_is_the_same_again() {
        let text: Vec<u8> =
            (0..200_000_u32).flat_map(|number| (number / 7).to_string().into_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            for input in [&text[..], b"", b"x"] {
                let mut body = CompressedBody::new(Body::full(input.to_vec()), coding, 3).unwrap();
                let mut coded = Vec::new();
                while let Some(frame) = std::future::poll_fn(|cx| body.poll(cx)).await {
                    coded.extend_from_slice(frame.unwrap().data_ref().unwrap());
                }
                assert!(body.is_end());
                assert_eq!(plain(coding, &coded), input, "{coding:?}");
                assert!(coded.len() < input.len() / 3 + 100, "{coding:?} {}", coded.len());
            }
        }
        let whole = Body::full("x").compressed(Coding::Gzip, 1).collect().await.unwrap().to_bytes();
        assert_eq!(plain(Coding::Gzip, &whole), b"x");
    }
}
