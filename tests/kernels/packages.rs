//! Kernels of Debian, for any host that has apt: package lists of their own, nothing is installed. What was unpacked once
//! stays in the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ingress_tests::node::run;

/// The suites that hold the kernels.
const SUITES: &[&str] = &["bookworm", "trixie", "trixie-backports"];
const ARCHIVE: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The package that depends on the newest kernel of a suite.
const NEWEST: &str = "linux-image-cloud-amd64";
/// After this the package lists are fetched anew.
const FRESH: Duration = Duration::from_secs(7 * 24 * 3600);

/// A kernel, ready to start.
pub(crate) struct Kernel {
    /// As `uname -r` says.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// In the order in which they are loaded.
    pub(crate) modules: Vec<PathBuf>,
}

/// Modules that a machine loads.
#[derive(Clone, Copy)]
pub(crate) struct Modules {
    pub(crate) needed: &'static [&'static str],
    /// Built into some kernels, not all of which say so.
    pub(crate) where_there: &'static [&'static str],
}

impl Modules {
    /// What tells one choice from another.
    fn names(self) -> String {
        [self.needed, self.where_there].concat().join(" ")
    }
}

/// Where packages and what was unpacked stay.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME names no folder for the kernels")?;
    let folder = PathBuf::from(home).join(".cache/portcullis/kernels");
    fs::create_dir_all(folder.join("lists/partial"))?;
    Ok(folder)
}

/// The newest kernel whose version begins so, from the cache or from Debian.
pub(crate) fn obtain(folder: &Path, name: &str, version: &str, modules: Modules) -> anyhow::Result<Kernel> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the packages are those of x86-64, and this machine is {}", std::env::consts::ARCH);
    }
    let apt = Apt::new(folder)?;
    let known = folder.join(format!("{name}.release"));
    let release = match apt.refresh().and_then(|()| apt.release(version)) {
        Ok(release) => {
            fs::write(&known, &release)?;
            release
        }
        Err(error) => {
            let Ok(before) = fs::read_to_string(&known) else { return Err(error) };
            say(&format!("the package lists are out of reach, going on with {before}"));
            before
        }
    };
    let home = folder.join(&release);
    if !home.join("complete").exists() {
        unpack(&apt, &release, modules, &home).with_context(|| format!("Linux {release}"))?;
        fs::write(home.join("complete"), modules.names())?;
    } else if fs::read_to_string(home.join("complete"))? != modules.names() {
        fs::remove_dir_all(&home)?;
        return obtain(folder, name, version, modules);
    }
    let mut modules: Vec<PathBuf> =
        fs::read_dir(home.join("modules"))?.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    Ok(Kernel { image: home.join("vmlinuz"), release, modules })
}

#[expect(clippy::print_stdout, reason = "the tier says what it does")]
fn say(what: &str) {
    println!("kernels: {what}");
}

/// apt with a configuration of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!("no {KEYRING}: install the package debian-archive-keyring");
        }
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb [arch=amd64 signed-by={KEYRING}] {ARCHIVE} {suite} main\n"))
            .collect();
        let list = folder.join("sources.list");
        if fs::read_to_string(&list).ok().as_ref() != Some(&sources) {
            fs::write(&list, sources)?;
            let _ = fs::remove_file(folder.join("updated"));
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={folder}/lists"),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.current_dir(&self.folder);
        command
    }

    fn refresh(&self) -> anyhow::Result<()> {
        let stamp = self.folder.join("updated");
        let age = fs::metadata(&stamp).ok().and_then(|data| data.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age < FRESH) {
            return Ok(());
        }
        say("fetching the package lists");
        run(self.command("apt-get").args(["--quiet=2", "--error-on=any", "update"]))?;
        Ok(fs::write(stamp, "")?)
    }

    /// The newest release of a version.
    fn release(&self, version: &str) -> anyhow::Result<String> {
        let listed = run(self.command("apt-cache").args(["madison", NEWEST]))?;
        let mut versions = listed.lines().filter_map(|line| line.split('|').nth(1).map(str::trim));
        // apt lists the newest first.
        let full = versions.find(|full| full.starts_with(version)).with_context(|| {
            format!(
                "Debian has no {NEWEST} {version}* in {}: name another suite in tests/kernels",
                SUITES.join(", ")
            )
        })?;
        let image = self.depends(&format!("{NEWEST}={full}"), "linux-image-")?.into_iter().next();
        let image = image.with_context(|| format!("{NEWEST} {full} depends on no image"))?;
        Ok(image.trim_start_matches("linux-image-").to_owned())
    }

    /// Packages that a package depends on, of those that begin so.
    fn depends(&self, package: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
        let shown = run(self.command("apt-cache").args(["show", package]))?;
        let line = shown.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or_default();
        let names = line.split(',').filter_map(|one| one.split_whitespace().next());
        Ok(names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
    }
}

/// Fetches the packages of a release and keeps the kernel and these modules, with those that they need.
fn unpack(apt: &Apt, release: &str, modules: Modules, home: &Path) -> anyhow::Result<()> {
    let image = format!("linux-image-{release}");
    // From 7.0 on the image is an empty package that depends on these two.
    let mut packages = apt.depends(&image, "linux-binary-")?;
    packages.extend(apt.depends(&image, "linux-modules-")?);
    if packages.is_empty() {
        packages.push(image);
    }
    let _ = fs::remove_dir_all(home);
    fs::create_dir_all(home.join("modules"))?;
    let root = home.join("root");
    for package in &packages {
        say(&format!("fetching {package}"));
        run(apt.command("apt-get").args(["--quiet=2", "download", package]).current_dir(home))
            .with_context(|| format!("cannot fetch {package} from Debian"))?;
    }
    for entry in fs::read_dir(home)?.flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&root))?;
            fs::remove_file(entry.path())?;
        }
    }
    let place = ["lib/modules", "usr/lib/modules"].map(|folder| root.join(folder).join(release));
    let place = place.iter().find(|folder| folder.is_dir()).context("the packages hold no modules")?;
    // Until 6.x the kernel is in a folder of its own.
    let places = [root.join(format!("boot/vmlinuz-{release}")), place.join("vmlinuz")];
    let vmlinuz = places.iter().find(|file| file.is_file()).context("the packages hold no vmlinuz")?;
    fs::copy(vmlinuz, home.join("vmlinuz"))?;
    let mut chosen =
        Chosen { place, files: &files(place)?, done: BTreeSet::new(), to: &home.join("modules") };
    for module in modules.where_there {
        if chosen.file(module).is_some() {
            chosen.take(module)?;
        }
    }
    for module in modules.needed {
        chosen.take(module)?;
    }
    Ok(fs::remove_dir_all(root)?)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Modules in the order in which they can be loaded.
struct Chosen<'a> {
    place: &'a Path,
    files: &'a [PathBuf],
    done: BTreeSet<String>,
    to: &'a Path,
}

impl Chosen<'_> {
    fn file(&self, module: &str) -> Option<&PathBuf> {
        let named = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
            [".ko", ".ko.xz", ".ko.zst"].iter().any(|ending| name.strip_suffix(ending) == Some(module))
        };
        self.files.iter().find(named)
    }

    fn take(&mut self, module: &str) -> anyhow::Result<()> {
        let module = module.replace('-', "_");
        if !self.done.insert(module.clone()) {
            return Ok(());
        }
        let Some(file) = self.file(&module) else {
            let builtin = fs::read_to_string(self.place.join("modules.builtin")).unwrap_or_default();
            if builtin.replace('-', "_").contains(&format!("/{module}.ko")) {
                return Ok(());
            }
            bail!("the kernel has no module {module}");
        };
        let bytes = match file.extension().and_then(|ending| ending.to_str()) {
            Some("xz") => output(Command::new("xz").arg("-dc").arg(file))?,
            Some("zst") => output(Command::new("zstd").arg("-qdc").arg(file))?,
            _ => fs::read(file)?,
        };
        for needed in needed(&bytes) {
            self.take(&needed)?;
        }
        let number = fs::read_dir(self.to)?.count();
        Ok(fs::write(self.to.join(format!("{number:02}-{module}.ko")), bytes)?)
    }
}

fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// What a module says that it depends on.
fn needed(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(at) = module.windows(FIELD.len()).position(|window| window == FIELD) else { return Vec::new() };
    let rest = module.get(at + FIELD.len()..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
    let names = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
