//! The kernel half, as bytes of an ELF object; see `build.rs`.

/// The object of `cargo xtask build-ebpf`, `None` in a binary that was built without it: `userspace` mode only.
#[cfg(has_bpf_object)]
pub static OBJECT: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portcullis.bpf.o")));

/// The object of `cargo xtask build-ebpf`, `None` in a binary that was built without it: `userspace` mode only.
#[cfg(not(has_bpf_object))]
pub static OBJECT: Option<&[u8]> = None;
