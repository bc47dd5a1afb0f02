//! The file system of a machine: programs with the libraries that they need, written as the archive that a kernel unpacks
//! (cpio, format "newc").

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use ingress_tests::node::run;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Files by their path in the machine.
#[derive(Clone)]
pub(crate) struct Image {
    files: BTreeMap<String, Vec<u8>>,
    /// Where programs are stripped.
    folder: PathBuf,
}

impl Image {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { files: BTreeMap::new(), folder: folder.to_owned() })
    }

    /// A shell with the usual commands, and these programs of this machine, which come before them.
    pub(crate) fn system(&mut self, tools: &[&str]) -> anyhow::Result<()> {
        let busybox = find("busybox").context("no busybox: install the package busybox-static")?;
        if libraries(&busybox).is_ok_and(|libraries| !libraries.is_empty()) {
            bail!("{} is not static: install the package busybox-static", busybox.display());
        }
        self.file("/bin/busybox", fs::read(busybox)?);
        for tool in tools {
            let path = find(tool).with_context(|| format!("no `{tool}` here: run `cargo xtask setup`"))?;
            self.with_libraries(&format!("/tools/{tool}"), &path)?;
        }
        Ok(())
    }

    /// A program of ours, without its debug information.
    pub(crate) fn program(&mut self, at: &str, program: &Path) -> anyhow::Result<()> {
        let small = self.folder.join("stripped");
        run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&small).arg(program))?;
        self.with_libraries(at, &small)?;
        Ok(fs::remove_file(small)?)
    }

    pub(crate) fn text(&mut self, at: &str, text: &str) -> anyhow::Result<()> {
        self.file(at, text.as_bytes().to_vec());
        Ok(())
    }

    fn with_libraries(&mut self, at: &str, program: &Path) -> anyhow::Result<()> {
        for library in libraries(program)? {
            let name = library.to_string_lossy().into_owned();
            self.file(&name, fs::read(&library).with_context(|| name.clone())?);
        }
        self.file(at, fs::read(program).with_context(|| program.display().to_string())?);
        Ok(())
    }

    fn file(&mut self, at: &str, bytes: Vec<u8>) {
        self.files.insert(at.to_owned(), bytes);
    }

    /// Writes the archive, with the modules in the order in which they are loaded.
    pub(crate) fn with_modules(&self, modules: &[PathBuf], to: &Path) -> anyhow::Result<PathBuf> {
        let mut archive = Archive { file: std::io::BufWriter::new(fs::File::create(to)?), entries: 0 };
        let modules = modules.iter().filter_map(|module| {
            Some((format!("/modules/{}", module.file_name()?.to_str()?), fs::read(module).ok()?))
        });
        let mut files = self.files.clone();
        files.extend(modules);
        let mut folders: Vec<&str> = Vec::new();
        for path in files.keys() {
            folders.extend(path.match_indices('/').filter_map(|(at, _)| path.get(1..at)));
        }
        folders.sort_unstable();
        folders.dedup();
        for folder in folders.into_iter().filter(|folder| !folder.is_empty()) {
            archive.entry(folder, FOLDER, &[])?;
        }
        for (path, bytes) in &files {
            archive.entry(path.trim_start_matches('/'), PROGRAM, bytes)?;
        }
        archive.entry("TRAILER!!!", 0, &[])?;
        archive.file.flush()?;
        Ok(to.to_owned())
    }
}

struct Archive {
    file: std::io::BufWriter<fs::File>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        self.entries += 1;
        let (size, name_size) = (u32::try_from(bytes.len())?, u32::try_from(name.len() + 1)?);
        write!(self.file, "070701")?;
        // Number, mode, owner, group, links, time, size, four device numbers, size of the name, no checksum.
        for field in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            write!(self.file, "{field:08x}")?;
        }
        write!(self.file, "{name}\0")?;
        self.pad(110 + name.len() + 1)?;
        self.file.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn pad(&mut self, written: usize) -> anyhow::Result<()> {
        let zeros = [0; 3];
        let missing = written.next_multiple_of(4) - written;
        Ok(self.file.write_all(zeros.get(..missing).unwrap_or_default())?)
    }
}

/// The libraries of a program and the loader of both, as they are found here.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let printed = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    let libraries: Vec<PathBuf> = printed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect();
    if let Some(line) = printed.lines().find(|line| line.contains("not found")) {
        bail!("{}: {line}", program.display());
    }
    Ok(libraries)
}

/// A program in the search path or where only root's path leads.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
