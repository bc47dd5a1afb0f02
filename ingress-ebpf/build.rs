//! Another bpf-linker makes another object: rebuild when it changes.

use std::env;

fn main() {
    println!("cargo::rerun-if-env-changed=PATH");
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(linker) =
        env::split_paths(&path).map(|dir| dir.join("bpf-linker")).find(|file| file.is_file())
    {
        println!("cargo::rerun-if-changed={}", linker.display());
    }
}
