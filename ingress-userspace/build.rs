//! Embeds the kernel half, `target/bpf/portcullis.bpf.o` of `cargo xtask build-ebpf`, into the binary.
//!
//! Without an object the binary builds all the same, says so, and runs in `userspace` mode.
//! `PORTCULLIS_BPF_OBJECT=FILE` names another object.
//!
//! Also names the layout of the model, `MODEL_LAYOUT`: a stored model is read by a build with the same sources of it only.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    name_model_layout()?;
    println!("cargo::rustc-check-cfg=cfg(has_bpf_object)");
    println!("cargo::rerun-if-env-changed=PORTCULLIS_BPF_OBJECT");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let object = match env::var_os("PORTCULLIS_BPF_OBJECT") {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            path
        }
        None => {
            // The folder is watched, not the file: cargo takes a missing file for a changed one, each time anew.
            let folder = target_dir()?.join("bpf");
            fs::create_dir_all(&folder)?;
            println!("cargo::rerun-if-changed={}", folder.display());
            folder.join("portcullis.bpf.o")
        }
    };
    let embedded = PathBuf::from(variable("OUT_DIR")?).join("portcullis.bpf.o");
    match fs::read(&object) {
        Ok(bytes) => {
            fs::write(&embedded, bytes)?;
            println!("cargo::rustc-cfg=has_bpf_object");
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => println!(
            "cargo::warning=no kernel half at {}: the binary will run in userspace mode only; `cargo xtask build-ebpf` makes it",
            object.display()
        ),
        Err(e) => return Err(io::Error::new(e.kind(), format!("cannot read {}: {e}", object.display()))),
    }
    Ok(())
}

fn name_model_layout() -> io::Result<()> {
    let mut files = BTreeSet::from([PathBuf::from("src/model.rs")]);
    find(Path::new("src/model"), &mut files)?;
    let mut hasher = DefaultHasher::new();
    variable("CARGO_PKG_VERSION")?.hash(&mut hasher);
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    println!("cargo::rerun-if-changed=src/model.rs");
    println!("cargo::rerun-if-changed=src/model");
    println!("cargo::rustc-env=MODEL_LAYOUT={:016x}", hasher.finish());
    Ok(())
}

fn find(folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

/// Where `cargo xtask build-ebpf` puts the object, too.
fn target_dir() -> io::Result<PathBuf> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    Ok(workspace.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())))
}

fn variable(name: &str) -> io::Result<std::ffi::OsString> {
    env::var_os(name).ok_or_else(|| io::Error::other(format!("cargo did not set {name}")))
}
