//! Opens or makes the maps and loads the programs. Nothing is attached here.

mod refusal;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya::maps::{MapInfo, MapType};
use aya::programs::{Program, ProgramError, ProgramFd};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ingress_common::maps::LAYOUT_VERSION;
use ingress_common::maps::table::MAPS;
use tracing::{info, warn};

use super::maps::{self, Maps, MapsError};
use super::pins::Pins;
use super::{carry, object};
use crate::error_chain::chain;

/// The XDP program in the object. There are others beside it, for tests and measurements.
const XDP: &str = "portcullis_xdp";
/// The same at the ingress of TC.
const TC_IN: &str = "portcullis_tc";
/// What leaves, at TC.
const TC_OUT: &str = "portcullis_out";
/// The SK_LOOKUP program.
const SK_LOOKUP: &str = "portcullis_sk";
/// The one for connections that wait in a socket that closes.
const MOVE: &str = "portcullis_move";

/// The kernel half, loaded: its maps are pinned, its programs wait to be attached.
#[derive(Debug)]
pub struct Loaded {
    /// The maps.
    pub maps: Maps,
    /// The programs.
    pub(super) programs: Programs,
}

/// The programs, kept for interfaces that come later. One that the kernel refuses keeps no other from being used.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) xdp: Result<OwnedFd, LoadError>,
    pub(super) tc_in: Result<OwnedFd, LoadError>,
    pub(super) tc_out: Result<OwnedFd, LoadError>,
    pub(super) sk_lookup: OwnedFd,
    pub(super) migration: Result<OwnedFd, LoadError>,
}

/// Why the kernel half could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary carries none.
    #[error("this binary carries no kernel half; run `cargo xtask build-ebpf` and build it again")]
    NoObject,
    /// A pin of the wrong shape cannot be removed.
    #[error("cannot remove the pin of a map of another shape")]
    StalePin(#[source] io::Error),
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The object was refused.
    #[error("kernel refused the maps of layout v{LAYOUT_VERSION}{}", refusal::likely_of_object(.0))]
    Object(#[from] EbpfError),
    /// The object lacks a program.
    #[error("the kernel half has no program `{0}`; build it again with `cargo xtask build-ebpf`")]
    NoProgram(&'static str),
    /// A program was refused.
    #[error("kernel refused the program `{name}`: {reason}; the supported floor is Linux 6.1{log}")]
    Refused {
        /// Its name.
        name: &'static str,
        /// What the kernel's answer most likely means.
        reason: String,
        /// The verifier's last lines.
        log: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A program could not even be offered to the kernel.
    #[error("the program `{name}` cannot be loaded")]
    Program {
        /// Its name.
        name: &'static str,
        /// What aya says.
        #[source]
        source: ProgramError,
    },
    /// There are no descriptors left.
    #[error("a descriptor of a program cannot be kept")]
    Descriptor(#[source] io::Error),
}

/// Loads maps and programs. Maps that are pinned and of the right shape are kept with all they hold. Sockets are taken over
/// from the maps of another layout in `earlier`.
pub fn load(pins: &Pins, earlier: Option<&Path>) -> Result<Loaded, LoadError> {
    let object = object::OBJECT.ok_or(LoadError::NoObject)?;
    let mut loader = EbpfLoader::new();
    let paths: Vec<_> = MAPS.iter().map(|spec| (spec, pins.map(spec.name))).collect();
    for (spec, path) in &paths {
        match maps::check(path, spec) {
            Ok(()) | Err(MapsError::Missing { .. }) => {}
            Err(error @ MapsError::Shape { .. }) => {
                warn!(map = spec.name, %error, "pinned map replaced by an empty one");
                std::fs::remove_file(path).map_err(LoadError::StalePin)?;
            }
            Err(error) => return Err(error.into()),
        }
        loader.map_pin_path(spec.name, path.as_path());
        loader.map_max_entries(spec.name, spec.entries);
    }
    let old_sockets = earlier.map(|folder| folder.join("socks")).filter(|path| is_sockmap(path));
    if let Some(path) = &old_sockets {
        loader.map_pin_path(carry::OLD_SOCKETS, path.as_path());
    }
    let mut object = loader.load(object)?;
    if let Some(path) = &old_sockets {
        take_over_sockets(&mut object, path);
    }
    let programs = Programs {
        xdp: program(&mut object, XDP),
        tc_in: program(&mut object, TC_IN),
        tc_out: program(&mut object, TC_OUT),
        sk_lookup: program(&mut object, SK_LOOKUP)?,
        migration: program(&mut object, MOVE),
    };
    Ok(Loaded { maps: Maps::open(pins)?, programs })
}

fn is_sockmap(path: &Path) -> bool {
    let kind = MapInfo::from_pin(path).and_then(|info| info.map_type());
    kind.is_ok_and(|kind| kind == MapType::SockMap)
}

/// What cannot be taken over, the proxies hand over again.
fn take_over_sockets(object: &mut Ebpf, from: &Path) {
    let Some(Program::SchedClassifier(program)) = object.program_mut(carry::PROGRAM) else { return };
    match carry::move_sockets(program, from) {
        Ok(sockets) => info!(sockets, from = %from.display(), "sockets of another layout taken over"),
        Err(error) => warn!(error = %chain(&error), "sockets of another layout cannot be taken over"),
    }
}

fn program(object: &mut Ebpf, name: &'static str) -> Result<OwnedFd, LoadError> {
    let program = object.program_mut(name).ok_or(LoadError::NoProgram(name))?;
    let outcome = match program {
        Program::Xdp(xdp) => xdp.load(),
        Program::SchedClassifier(classifier) => classifier.load(),
        Program::SkLookup(sk_lookup) => sk_lookup.load(),
        Program::SkReuseport(sk_reuseport) => sk_reuseport.load(),
        _ => return Err(LoadError::NoProgram(name)),
    };
    outcome.map_err(|error| refusal::explain(name, error))?;
    let fd: &ProgramFd = program.fd().map_err(|source| LoadError::Program { name, source })?;
    fd.as_fd().try_clone_to_owned().map_err(LoadError::Descriptor)
}
