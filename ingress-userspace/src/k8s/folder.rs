//! A folder of manifests as the source of the Cluster view.
//!
//! Every YAML or JSON file below the folder is read, symbolic links followed (a mounted ConfigMap is made of them), hidden
//! names skipped. A file that cannot be read keeps the objects it held before, a deleted file takes its objects along.
//! The same object in two files: the first by path has it. `watch` says when to look again.

pub mod marks;
mod mirror;
pub mod parse;
mod shape;
pub mod watch;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::parse::{Located, Object, Parsed, parse};
use super::cluster::{Cluster, ObjectKey, Objects, Origin};
use crate::problem::{Code, ObjectRef, Problem, Severity};

/// Larger files are not manifests.
const LARGEST_FILE: u64 = 32 << 20;
/// A file written this shortly before it was read may change again without a visible change of its time stamp.
const RACY: Duration = Duration::from_secs(2);

/// The folder as last read.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    files: BTreeMap<String, File>,
    /// What is wrong with the folder itself.
    problems: Vec<Problem>,
    was_read: bool,
}

/// What came of looking at the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Objects or Problems differ from before.
    pub is_changed: bool,
    /// Something could not be read or was still being written: look again soon, events or not.
    pub is_unsettled: bool,
}

/// Kind, namespace and name of an object.
pub type ObjectName = (String, String, String);

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, below the folder as it was given.
    pub file: PathBuf,
    /// First line of its document.
    pub line: usize,
}

#[derive(Debug)]
struct File {
    stamp: Option<Stamp>,
    hash: u64,
    objects: Vec<Located>,
    problems: Vec<Problem>,
    is_broken: bool,
}

/// Tells an unchanged file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    len: u64,
    inode: u64,
}

impl Folder {
    /// A folder (or a single file) that was not read yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), files: BTreeMap::new(), problems: Vec::new(), was_read: false }
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it was there once. Before that, there is nothing to publish.
    pub fn was_read(&self) -> bool {
        self.was_read
    }

    /// Reads what changed. Files in `being_written` are left as they are.
    pub fn scan(&mut self, being_written: &HashSet<PathBuf>) -> Scan {
        let mut found = Found::default();
        find(&self.root, &mut found);
        let mut scan =
            Scan { is_changed: found.problems != self.problems, is_unsettled: !found.problems.is_empty() };
        if found.is_root_unreadable {
            // The folder may be in the middle of being replaced: what it held before is kept.
            self.problems = found.problems;
            return scan;
        }
        self.was_read = true;
        self.problems = found.problems;
        let names: BTreeMap<String, PathBuf> =
            found.files.into_iter().map(|path| (self.name(&path), path)).collect();
        let before = self.files.len();
        self.files.retain(|name, _| names.contains_key(name));
        scan.is_changed |= self.files.len() != before;
        for (name, path) in names {
            if being_written.contains(&path) {
                scan.is_unsettled = true;
            } else {
                scan.is_changed |= self.read(name.clone(), &path);
                scan.is_unsettled |= self.files.get(&name).is_some_and(|file| file.is_broken);
            }
        }
        scan
    }

    /// The path as Problems name it: below the folder.
    fn name(&self, path: &Path) -> String {
        match path.strip_prefix(&self.root) {
            Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
            _ => path.display().to_string(),
        }
    }

    fn read(&mut self, name: String, path: &Path) -> bool {
        let stamp = stamp(path);
        let known = self.files.get_mut(&name);
        if let (Some(file), Some(_)) = (&known, stamp)
            && file.stamp == stamp
        {
            return false;
        }
        let settled = stamp.filter(|stamp| stamp.modified.elapsed().is_ok_and(|age| age > RACY));
        let (text, hash) = match read_text(path) {
            Ok(text) => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                (Ok(text), hasher.finish())
            }
            Err(message) => (Err(message), 0),
        };
        if let (Some(file), Ok(_)) = (known, &text)
            && file.hash == hash
        {
            file.stamp = settled;
            return false;
        }
        let parsed = match text {
            Ok(text) => parse(&name, &text),
            Err(message) => {
                Parsed { problems: vec![unreadable(&name, &message)], is_broken: true, ..Parsed::default() }
            }
        };
        let file = File {
            stamp: settled,
            hash,
            objects: parsed.objects,
            problems: parsed.problems,
            is_broken: parsed.is_broken,
        };
        self.replace(name, file)
    }

    fn replace(&mut self, name: String, mut file: File) -> bool {
        match self.files.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(file);
                true
            }
            Entry::Occupied(mut entry) => {
                let before = entry.get_mut();
                let is_changed = file.hash != before.hash || file.problems != before.problems;
                if file.is_broken {
                    // Which object the unreadable document was cannot be known: each that no readable one replaces stays.
                    let mut kept = std::mem::take(&mut before.objects);
                    kept.retain(|old| file.objects.iter().all(|new| new.reference != old.reference));
                    file.objects.append(&mut kept);
                }
                *before = file;
                is_changed
            }
        }
    }

    /// The file that each object was read from, and the line of its document. An object that could not be read is
    /// named by what is wrong with it.
    pub fn places(&self) -> BTreeMap<ObjectName, Place> {
        let mut places = BTreeMap::new();
        for (name, file) in &self.files {
            let objects = file.objects.iter().map(|located| (&located.reference, located.line));
            let others = file.problems.iter().map(|problem| (&problem.object, 1));
            for (object, line) in objects.chain(others) {
                let key = (object.kind.clone(), object.namespace.clone(), object.name.clone());
                places.entry(key).or_insert_with(|| Place { file: self.path(name), line });
            }
        }
        places
    }

    /// The path of a file by its name in Problems.
    fn path(&self, name: &str) -> PathBuf {
        let is_root = self.root.display().to_string() == name;
        if is_root { self.root.clone() } else { self.root.join(name) }
    }

    /// The objects as a Cluster view.
    pub fn cluster(&self) -> Cluster {
        let mut cluster =
            Cluster { origin: Origin::Folder, problems: self.problems.clone(), ..Cluster::default() };
        let mut places: BTreeMap<(String, ObjectKey), String> = BTreeMap::new();
        for (name, file) in &self.files {
            cluster.problems.extend(file.problems.iter().cloned());
            for located in &file.objects {
                let reference = &located.reference;
                let key = ObjectKey::new(reference.namespace.clone(), reference.name.clone());
                let place = format!("{name}, document at line {}", located.line);
                match places.entry((reference.kind.clone(), key.clone())) {
                    Entry::Vacant(entry) => {
                        entry.insert(place);
                        insert(&mut cluster, key, &located.object);
                    }
                    Entry::Occupied(first) => cluster.problems.push(duplicate(located, &place, first.get())),
                }
            }
        }
        mirror::drop_shadowed(&mut cluster);
        cluster
    }
}

/// Puts an object into a view.
pub fn insert(cluster: &mut Cluster, key: ObjectKey, object: &Object) {
    fn put<T>(objects: &mut Objects<T>, key: ObjectKey, object: &Arc<T>) {
        objects.insert(key, Arc::clone(object));
    }
    match object {
        Object::Ingress(object) => put(&mut cluster.ingresses, key, object),
        Object::IngressClass(object) => put(&mut cluster.ingress_classes, key, object),
        Object::Service(object) => put(&mut cluster.services, key, object),
        Object::EndpointSlice(object) => put(&mut cluster.endpoint_slices, key, object),
        Object::Endpoints(slices) => {
            for (number, slice) in slices.iter().enumerate() {
                put(&mut cluster.endpoint_slices, mirror::key(&key, number), slice);
            }
        }
        Object::Secret(object) => put(&mut cluster.secrets, key, object),
        Object::ConfigMap(object) => put(&mut cluster.config_maps, key, object),
        Object::Namespace(object) => put(&mut cluster.namespaces, key, object),
        Object::Node(object) => put(&mut cluster.nodes, key, object),
        Object::EdgePolicy(object) => put(&mut cluster.edge_policies, key, object),
        Object::AddressPool(object) => put(&mut cluster.address_pools, key, object),
    }
}

fn duplicate(located: &Located, place: &str, first: &str) -> Problem {
    Problem {
        object: located.reference.clone(),
        code: Code::Conflict,
        severity: Severity::Warning,
        field: "metadata.name".into(),
        value: located.reference.name.clone(),
        message: format!("written twice; {first} is served, {place} is ignored; remove or rename one"),
    }
}

fn unreadable(name: &str, message: &str) -> Problem {
    Problem {
        object: ObjectRef::file(name),
        code: Code::ObjectInvalid,
        severity: Severity::Error,
        field: String::new(),
        value: String::new(),
        message: format!(
            "cannot be read: {message}; what it held before is kept; correct the file or its permissions"
        ),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST_FILE {
        return Err(format!("{size} bytes are more than a manifest may have ({LARGEST_FILE})"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count();
        format!("line {} is not UTF-8", line + 1)
    })?;
    // A byte order mark is not part of the text.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: meta.modified().ok()?, len: meta.len(), inode: meta.ino() })
}

#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    problems: Vec<Problem>,
    is_root_unreadable: bool,
    /// Folders on the way, so that a link to a folder above ends.
    entered: BTreeSet<PathBuf>,
}

fn find(root: &Path, found: &mut Found) {
    match std::fs::metadata(root) {
        Ok(meta) if meta.is_dir() => {
            found.is_root_unreadable = !find_in(root, found);
        }
        Ok(_) => found.files.push(root.to_owned()),
        Err(error) => {
            found.is_root_unreadable = true;
            found.problems.push(unreadable(&root.display().to_string(), &error.to_string()));
        }
    }
}

fn find_in(folder: &Path, found: &mut Found) -> bool {
    let entries = std::fs::canonicalize(folder).and_then(|real| Ok((real, std::fs::read_dir(folder)?)));
    let (real, entries) = match entries {
        Ok(entries) => entries,
        Err(error) => {
            found.problems.push(unreadable(&folder.display().to_string(), &error.to_string()));
            return false;
        }
    };
    if !found.entered.insert(real) {
        return true;
    }
    for entry in entries.flatten() {
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if is_hidden {
            continue;
        }
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        let is_manifest =
            path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
                ["yaml", "yml", "json"].contains(&extension.to_ascii_lowercase().as_str())
            });
        if meta.is_dir() {
            find_in(&path, found);
        } else if meta.is_file() && is_manifest {
            found.files.push(path);
        }
    }
    true
}

#[cfg(test)]
mod tests;
