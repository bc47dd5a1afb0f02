use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::Folder;
use crate::problem::Code;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("portcullis-folder-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}

fn services(folder: &Folder) -> Vec<String> {
    folder.cluster().services.keys().map(|key| key.name.clone()).collect()
}

fn scan(folder: &mut Folder) -> (bool, bool) {
    let scan = folder.scan(&HashSet::new());
    (scan.is_changed, scan.is_unsettled)
}

#[test]
fn files_are_found_recursively_and_followed() {
    let dir = Dir::new("recursive");
    dir.write("a.yaml", &service("a"));
    dir.write("sub/b.yml", &service("b"));
    dir.write("sub/.hidden.yaml", &service("hidden"));
    dir.write("notes.txt", "no manifest");
    let mut folder = Folder::new(&dir.0);
    assert_eq!(scan(&mut folder), (true, false));
    assert_eq!(services(&folder), ["a", "b"]);
    assert_eq!(scan(&mut folder), (false, false));
    dir.write("a.yaml", &service("c"));
    std::fs::remove_file(dir.0.join("sub/b.yml")).unwrap();
    assert_eq!(scan(&mut folder), (true, false));
    assert_eq!(services(&folder), ["c"]);
}

#[test]
fn a_broken_file_keeps_what_it_held_and_others_go_on() {
    let dir = Dir::new("broken");
    dir.write("a.yaml", &service("a"));
    dir.write("b.yaml", &service("b"));
    let mut folder = Folder::new(&dir.0);
    scan(&mut folder);
    dir.write("a.yaml", "apiVersion: v1\nkind: [Serv");
    dir.write("b.yaml", &service("c"));
    assert_eq!(scan(&mut folder), (true, true));
    assert_eq!(services(&folder), ["a", "c"]);
    let problems = folder.cluster().problems;
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].code, problems[0].object.name.as_str()), (Code::ObjectInvalid, "a.yaml"));
    dir.write("a.yaml", &service("d"));
    assert_eq!(scan(&mut folder), (true, false));
    assert_eq!(services(&folder), ["c", "d"]);
    assert_eq!(folder.cluster().problems, []);
}

#[test]
fn a_broken_document_keeps_its_object_and_lets_the_others_of_its_file_change() {
    let dir = Dir::new("broken-document");
    let at = |port: u16| format!("spec: {{ports: [{{port: {port}}}]}}\n");
    dir.write("a.yaml", &format!("{}{}---\n{}", service("a"), at(80), service("b")));
    let mut folder = Folder::new(&dir.0);
    scan(&mut folder);
    dir.write("a.yaml", &format!("{}{}---\napiVersion: v1\nkind: [Serv", service("a"), at(81)));
    scan(&mut folder);
    assert_eq!(services(&folder), ["a", "b"]);
    let cluster = folder.cluster();
    let ports = cluster.services.values().filter_map(|service| service.spec.as_ref()?.ports.clone());
    assert_eq!(ports.flatten().map(|port| port.port).collect::<Vec<_>>(), [81]);
    dir.write("a.yaml", &service("a"));
    scan(&mut folder);
    assert_eq!(services(&folder), ["a"]);
}

#[test]
fn a_directive_before_a_document_is_read_over() {
    let dir = Dir::new("directive");
    dir.write("a.yaml", &format!("# written by a tool\n%YAML 1.2\n---\n{}", service("a")));
    let mut folder = Folder::new(&dir.0);
    assert_eq!(scan(&mut folder), (true, false));
    assert_eq!(services(&folder), ["a"]);
    assert_eq!(folder.cluster().problems, []);
}

#[test]
fn a_file_being_written_is_left_alone() {
    let dir = Dir::new("writing");
    dir.write("a.yaml", &service("a"));
    let mut folder = Folder::new(&dir.0);
    scan(&mut folder);
    dir.write("a.yaml", "");
    let writing = HashSet::from([dir.0.join("a.yaml")]);
    let seen = folder.scan(&writing);
    assert_eq!((seen.is_changed, seen.is_unsettled), (false, true));
    assert_eq!(services(&folder), ["a"]);
}

#[test]
fn the_first_of_two_equal_names_wins() {
    let dir = Dir::new("twice");
    dir.write("a.yaml", &service("a"));
    dir.write("b.yaml", &service("a"));
    let mut folder = Folder::new(&dir.0);
    scan(&mut folder);
    let problems = folder.cluster().problems;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].code, Code::Conflict);
    assert!(problems[0].message.contains("a.yaml, document at line 1 is served, b.yaml"), "{problems:?}");
}

#[test]
fn a_mounted_config_map_is_followed_through_its_links() {
    let dir = Dir::new("links");
    let version = |name: &str| dir.write(&format!("..{name}/a.yaml"), &service(name));
    let point = |name: &str| {
        let staged = dir.0.join("..data_tmp");
        symlink(format!("..{name}"), &staged).unwrap();
        std::fs::rename(&staged, dir.0.join("..data")).unwrap();
    };
    version("one");
    point("one");
    symlink("..data/a.yaml", dir.0.join("a.yaml")).unwrap();
    let mut folder = Folder::new(&dir.0);
    scan(&mut folder);
    assert_eq!(services(&folder), ["one"]);
    version("two");
    point("two");
    assert_eq!(scan(&mut folder), (true, false));
    assert_eq!(services(&folder), ["two"]);
}

#[test]
fn a_link_to_a_folder_above_ends() {
    let dir = Dir::new("loop");
    dir.write("sub/a.yaml", &service("a"));
    symlink(&dir.0, dir.0.join("sub/up")).unwrap();
    let mut folder = Folder::new(&dir.0);
    scan(&mut folder);
    assert_eq!(services(&folder), ["a"]);
}

#[test]
fn a_missing_folder_is_a_problem_and_keeps_what_was_read() {
    let dir = Dir::new("gone");
    dir.write("in/a.yaml", &service("a"));
    let mut folder = Folder::new(dir.0.join("in"));
    scan(&mut folder);
    std::fs::rename(dir.0.join("in"), dir.0.join("out")).unwrap();
    assert_eq!(scan(&mut folder), (true, true));
    assert_eq!(services(&folder), ["a"]);
    assert_eq!(folder.cluster().problems.len(), 1);
    let mut other = Folder::new(Path::new("/nonexistent/portcullis"));
    assert_eq!(scan(&mut other), (true, true));
}

#[test]
fn bytes_that_are_not_text_are_a_problem_of_that_file() {
    let dir = Dir::new("bytes");
    std::fs::write(dir.0.join("a.yaml"), b"kind: x\n\xff\xfe").unwrap();
    dir.write("b.yaml", &service("b"));
    let mut folder = Folder::new(&dir.0);
    scan(&mut folder);
    assert_eq!(services(&folder), ["b"]);
    assert!(
        folder.cluster().problems[0].message.contains("line 2 is not UTF-8"),
        "{:?}",
        folder.cluster().problems
    );
}
