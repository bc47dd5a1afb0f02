//! The bpf(2) calls that aya lacks: links as plain descriptors, entries of maps as bytes. And a program of which only the
//! descriptor is kept.
//!
//! aya has no link update for SK_LOOKUP, does not tell what a pinned link is, and falls back to netlink where a link
//! cannot be made; a netlink attachment cannot be pinned, so for us that is an error.
#![expect(
    unsafe_code,
    reason = "bpf(2) has no safe wrapper; this is the one file of this crate that calls it"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::clsact::Direction;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_DETACH: libc::c_long = 34;

const BPF_SK_LOOKUP: u32 = 36;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

const BPF_LINK_TYPE_NETNS: u32 = 5;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Where a program is attached to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// XDP in the driver of the interface with this index.
    XdpNative(u32),
    /// XDP in the network stack, for the interface with this index.
    XdpGeneric(u32),
    /// TC on the interface with this index, behind the programs that are there (kernel 6.6).
    Tcx(u32, Direction),
    /// SK_LOOKUP of a network namespace.
    SkLookup(BorrowedFd<'a>),
}

/// What a link is attached to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPlace {
    /// XDP on the interface with this index; `None`: the interface is gone.
    Xdp(Option<u32>),
    /// TC on the interface with this index; `None`: the interface is gone, or the link was detached.
    Tcx(Option<u32>, Direction),
    /// SK_LOOKUP of the network namespace with this inode; `None`: the namespace is gone.
    SkLookup(Option<u32>),
    /// Something that is not ours.
    Other,
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Number of the link, as `bpftool link` prints it.
    pub id: u32,
    /// Number of the program behind it.
    pub program: u32,
    /// Where it is attached.
    pub place: LinkPlace,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ObjPath {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The head of `struct bpf_link_info`: three numbers, then a union of which our kinds use the first two words.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    // xdp: ifindex. tcx: ifindex, attach type. netns: inode, attach type.
    union: [u32; 2],
    rest: [u64; 6],
}

/// Attaches a program; the link lives as long as its descriptor or its pin.
pub(super) fn link_create(program: BorrowedFd<'_>, target: Target<'_>) -> io::Result<OwnedFd> {
    let (place, attach_type, flags) = match target {
        Target::XdpNative(index) => (index, BPF_XDP, XDP_FLAGS_DRV_MODE),
        Target::XdpGeneric(index) => (index, BPF_XDP, XDP_FLAGS_SKB_MODE),
        Target::Tcx(index, Direction::In) => (index, BPF_TCX_INGRESS, 0),
        Target::Tcx(index, Direction::Out) => (index, BPF_TCX_EGRESS, 0),
        Target::SkLookup(namespace) => (number(namespace), BPF_SK_LOOKUP, 0),
    };
    let attr = LinkCreate { prog_fd: number(program), target: place, attach_type, flags };
    let fd = bpf(BPF_LINK_CREATE, &attr)?;
    own(fd)
}

/// Replaces the program behind a link in one step: no packet sees neither.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = LinkUpdate { link_fd: number(link), new_prog_fd: number(program), flags: 0, old_prog_fd: 0 };
    bpf(BPF_LINK_UPDATE, &attr).map(drop)
}

/// Detaches a link, whoever else holds it.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let attr = number(link);
    bpf(BPF_LINK_DETACH, &attr).map(drop)
}

/// What a link is.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = RawLinkInfo::default();
    let attr = InfoByFd {
        bpf_fd: number(link),
        info_len: size_of::<RawLinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &attr)?;
    let [first, second] = info.union;
    let place = match info.kind {
        BPF_LINK_TYPE_XDP => LinkPlace::Xdp((first != 0).then_some(first)),
        BPF_LINK_TYPE_TCX if second == BPF_TCX_INGRESS => {
            LinkPlace::Tcx((first != 0).then_some(first), Direction::In)
        }
        BPF_LINK_TYPE_TCX if second == BPF_TCX_EGRESS => {
            LinkPlace::Tcx((first != 0).then_some(first), Direction::Out)
        }
        BPF_LINK_TYPE_NETNS if second == BPF_SK_LOOKUP => LinkPlace::SkLookup((first != 0).then_some(first)),
        _ => LinkPlace::Other,
    };
    Ok(LinkInfo { id: info.id, program: info.program, place })
}

/// Gives a descriptor a name in the BPF file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let attr = ObjPath { pathname: path.as_ptr() as u64, bpf_fd: number(object), file_flags: 0 };
    bpf(BPF_OBJ_PIN, &attr).map(drop)
}

/// Opens what is pinned at a path: a map, a program or a link.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let attr = ObjPath { pathname: path.as_ptr() as u64, ..ObjPath::default() };
    let fd = bpf(BPF_OBJ_GET, &attr)?;
    own(fd)
}

/// Makes a program choose within the SO_REUSEPORT group of a socket, instead of the one before.
pub(super) fn attach_to_group(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let fd = program.as_raw_fd();
    // SAFETY: the option takes the number of a descriptor, which lives across the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_EBPF,
            (&raw const fd).cast(),
            size_of_val(&fd) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has a packet socket send by one interface.
pub(super) fn bind_to_interface(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is of the family and length that are given, and lives across the call.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens a map by its number, as `bpftool map` prints it.
pub(super) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(BPF_MAP_GET_FD_BY_ID, &ById { id, ..ById::default() })?;
    own(fd)
}

/// The key after this one, or the first; whether there is any. Keys are as long as the map's.
pub(super) fn map_next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let attr = MapElement {
        map_fd: number(map),
        key: key.map_or(0, |key| key.as_ptr() as u64),
        value: next.as_mut_ptr() as u64,
        ..MapElement::default()
    };
    match bpf(BPF_MAP_GET_NEXT_KEY, &attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The value under a key. Both are as long as the map's; of a map per CPU, the value is all CPUs' values.
pub(super) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let value = value.as_mut_ptr() as u64;
    let attr = MapElement { map_fd: number(map), key: key.as_ptr() as u64, value, ..MapElement::default() };
    bpf(BPF_MAP_LOOKUP_ELEM, &attr).map(drop)
}

/// Sets the value under a key; lengths as in [`map_lookup`].
pub(super) fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let value = value.as_ptr() as u64;
    let attr = MapElement { map_fd: number(map), key: key.as_ptr() as u64, value, ..MapElement::default() };
    bpf(BPF_MAP_UPDATE_ELEM, &attr).map(drop)
}

/// The oldest element of a queue, which stays in it; `None`: there is none. The value is as long as the map's.
pub(super) fn map_peek(map: BorrowedFd<'_>, value: &mut [u8]) -> io::Result<Option<()>> {
    let attr = MapElement { map_fd: number(map), value: value.as_mut_ptr() as u64, ..MapElement::default() };
    match bpf(BPF_MAP_LOOKUP_ELEM, &attr) {
        Ok(_) => Ok(Some(())),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The rows of an array whose values are so many 64-bit words, from the first.
pub(super) fn read_words(map: BorrowedFd<'_>, rows: u32, each: usize) -> io::Result<Vec<u64>> {
    let (mut keys, mut words) = (vec![0_u32; rows as usize], vec![0_u64; rows as usize * each]);
    let mut next = 0_u64;
    let mut attr = Batch {
        out_batch: (&raw mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: words.as_mut_ptr() as u64,
        count: rows,
        map_fd: number(map),
        ..Batch::default()
    };
    match bpf_batch(BPF_MAP_LOOKUP_BATCH, &mut attr) {
        // ENOENT: there is nothing behind.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
        _ => {}
    }
    if attr.count != rows {
        return Err(io::Error::other(format!("{} of {rows} rows were read", attr.count)));
    }
    Ok(words)
}

/// Writes rows of an array of 64-bit words.
pub(super) fn write_words(map: BorrowedFd<'_>, rows: &[u32], words: &[u64]) -> io::Result<()> {
    let count = rows.len().min(words.len());
    let mut attr = Batch {
        keys: rows.as_ptr() as u64,
        values: words.as_ptr() as u64,
        count: u32::try_from(count).map_err(io::Error::other)?,
        map_fd: number(map),
        ..Batch::default()
    };
    bpf_batch(BPF_MAP_UPDATE_BATCH, &mut attr)
}

/// One call about many entries of a map; the kernel writes into the attribute how many it did.
fn bpf_batch(command: libc::c_long, attr: &mut Batch) -> io::Result<()> {
    // SAFETY: `attr` is a live, initialised, repr(C) attribute of the batch commands; the buffers in it hold `count` keys of
    // 4 bytes and as many values, of the sizes of the maps that the callers above are given, and live across the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<Batch>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One call. The kernel takes a shorter attribute than its own as filled with zeros.
fn bpf<A>(command: libc::c_long, attr: &A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live, initialised, repr(C) attribute of this command of the length given; pointers in it
    // (paths, the info buffer, keys and values of the lengths of their map) point at buffers that the callers above
    // keep alive across the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn own(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor as the attributes hold it; descriptors are never negative.
pub(super) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
