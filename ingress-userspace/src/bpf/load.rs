//! Opens or makes the maps and loads the programs. Nothing is attached here.

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ingress_common::maps::LAYOUT_VERSION;
use ingress_common::maps::table::MAPS;
use tracing::warn;

use super::maps::{self, Maps, MapsError};
use super::object;
use super::pins::Pins;

/// The XDP program in the object. There are others beside it, for tests and measurements.
pub(super) const XDP: &str = "portcullis_xdp";
/// The SK_LOOKUP program in the object.
pub(super) const SK_LOOKUP: &str = "portcullis_sk";

/// The kernel half, loaded: its maps are pinned, its programs wait to be attached.
#[derive(Debug)]
pub struct Loaded {
    /// The maps.
    pub maps: Maps,
    /// The programs; dropped once they are attached, the kernel keeps them.
    pub(super) programs: Ebpf,
}

/// Why the kernel half could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary carries none.
    #[error("this binary carries no kernel half; run `cargo xtask build-ebpf` and build it again")]
    NoObject,
    /// A pin of the wrong shape cannot be removed.
    #[error("cannot remove the pin of a map of another shape")]
    StalePin(#[source] std::io::Error),
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The object was refused.
    #[error("kernel refused the maps of layout v{LAYOUT_VERSION}")]
    Object(#[from] EbpfError),
    /// The object lacks a program.
    #[error("the kernel half has no program `{0}`; build it again with `cargo xtask build-ebpf`")]
    NoProgram(&'static str),
    /// A program was refused.
    #[error("kernel refused the program `{name}`; the supported floor is Linux 6.1")]
    Program {
        /// Its name.
        name: &'static str,
        /// The verifier's words, at the end.
        #[source]
        source: ProgramError,
    },
}

/// Loads maps and programs. Maps that are pinned and of the right shape are kept with all they hold.
pub fn load(pins: &Pins) -> Result<Loaded, LoadError> {
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
    }
    let mut programs = loader.load(object)?;
    for name in [XDP, SK_LOOKUP] {
        let loaded = match programs.program_mut(name) {
            Some(Program::Xdp(xdp)) => xdp.load(),
            Some(Program::SkLookup(sk_lookup)) => sk_lookup.load(),
            _ => return Err(LoadError::NoProgram(name)),
        };
        loaded.map_err(|source| LoadError::Program { name, source })?;
    }
    Ok(Loaded { maps: Maps::open(pins)?, programs })
}
