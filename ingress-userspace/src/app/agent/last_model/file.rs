//! The file of the last model: a header with layout, origin, length and digest, and MessagePack, compressed. It lies in
//! memory for as long as the pod lives, and models repeat themselves: a hundredth is left of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::Kept;
use crate::link::messages::ModelVersion;
use crate::model::Model;

const MAGIC: &[u8] = b"portcullis model\n";
/// Of this build.
const LAYOUT: &str = env!("MODEL_LAYOUT");
/// Longest file.
const MOST_BYTES: usize = 64 << 20;
/// Longest model in it.
const MOST_DECODED: u64 = 1 << 30;
/// Of zstd: speed counts, and more is hardly smaller.
const LEVEL: i32 = 1;
/// Of digest and origin.
const DIGEST: usize = 32;

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    #[error(
        "keys are kept in memory only, and this is no tmpfs or ramfs; let --last-model name a file on one, such as an \
         emptyDir of medium Memory"
    )]
    NotInMemory,
    #[error("cannot write")]
    Io(#[from] io::Error),
    #[error("cannot encode")]
    Encode(#[from] rmp_serde::encode::Error),
    #[error("{0} bytes are more than a model may have")]
    TooLong(usize),
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it was written by another version of the program")]
    OtherLayout,
    #[error("it was written for another cluster or with other flags")]
    OtherOrigin,
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it is not a file that only this user can open")]
    Foreign,
    #[error("it does not lie in memory")]
    NotInMemory,
    #[error("cannot read")]
    Io(#[from] io::Error),
    #[error("cannot decode")]
    Decode(#[from] rmp_serde::decode::Error),
}

/// Replaces the file; how many bytes it has.
pub(super) fn write(
    path: &Path,
    origin: &[u8; DIGEST],
    version: ModelVersion,
    model: &Model,
) -> Result<usize, NotKept> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")))?;
    if !is_in_memory(&folder)? {
        return Err(NotKept::NotInMemory);
    }
    let mut body = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    rmp_serde::encode::write_named(&mut body, model)?;
    let body = body.finish()?;
    if body.len() > MOST_BYTES {
        return Err(NotKept::TooLong(body.len()));
    }
    let mut head = [MAGIC, LAYOUT.as_bytes(), origin].concat();
    head.extend(version.to_le_bytes());
    head.extend((body.len() as u64).to_le_bytes());
    let sum = digest(&head, &body);
    head.extend(sum);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let fresh = path.with_file_name(name);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).and_then(|mut file| {
            file.write_all(&head)?;
            file.write_all(&body)?;
            std::fs::rename(&fresh, path)
        });
    if let Err(error) = written {
        // Half of a file takes room that the next needs; the first error is the one to tell.
        let _ = std::fs::remove_file(&fresh);
        return Err(error.into());
    }
    Ok(head.len() + body.len())
}

/// Reads the file; `None` when there is none.
pub(super) fn read(path: &Path, origin: &[u8; DIGEST]) -> Result<Option<Kept>, Unusable> {
    let mut options = OpenOptions::new();
    // Neither a link to a file of somebody else nor a pipe that nobody writes to.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let about = file.metadata()?;
    let is_ours = about.uid() == rustix::process::geteuid().as_raw();
    if !about.is_file() || !is_ours || about.mode() & 0o077 != 0 {
        return Err(Unusable::Foreign);
    }
    if !is_in_memory(&file)? {
        return Err(Unusable::NotInMemory);
    }
    if about.len() > (MOST_BYTES + 1024) as u64 {
        return Err(Unusable::Damaged("too long"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (version, model) = parse(&bytes, origin)?;
    Ok(Some(Kept { version, model: model.into(), current_at: about.mtime() }))
}

/// Sets the time of the file to now.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
    Ok(rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

fn parse(bytes: &[u8], origin: &[u8; DIGEST]) -> Result<(ModelVersion, Model), Unusable> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Unusable::Damaged("not a model"))?;
    let rest = rest.strip_prefix(LAYOUT.as_bytes()).ok_or(Unusable::OtherLayout)?;
    let rest = rest.strip_prefix(origin).ok_or(Unusable::OtherOrigin)?;
    let short = Unusable::Damaged("cut off");
    let Some((version, rest)) = rest.split_first_chunk::<8>() else { return Err(short) };
    let Some((length, rest)) = rest.split_first_chunk::<8>() else { return Err(short) };
    let Some((sum, body)) = rest.split_first_chunk::<DIGEST>() else { return Err(short) };
    if body.len() as u64 != u64::from_le_bytes(*length) {
        return Err(short);
    }
    let head = bytes.get(..bytes.len() - body.len() - DIGEST).unwrap_or_default();
    if digest(head, body) != *sum {
        return Err(Unusable::Damaged("its digest differs"));
    }
    let body = io::BufReader::new(zstd::stream::read::Decoder::with_buffer(body)?.take(MOST_DECODED));
    Ok((u64::from_le_bytes(*version), rmp_serde::from_read(body)?))
}

fn digest(head: &[u8], body: &[u8]) -> [u8; DIGEST] {
    let mut context = Context::new(&SHA256);
    context.update(head);
    context.update(body);
    let mut sum = [0; DIGEST];
    for (to, from) in sum.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    sum
}

/// Whether nothing that is written there reaches a disk, save by swapping.
fn is_in_memory(file: &File) -> io::Result<bool> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    // The width and the sign of the field differ between architectures; the numbers have 32 bits.
    let kind = rustix::fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    Ok(kind == TMPFS || kind == RAMFS)
}
