//! Where the objects and fields of a report are written: file, line and column, for folders. A cluster has no files.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::Serialize;

use crate::k8s::folder::marks::{Mark, Marks};
use crate::k8s::folder::{Folder, ObjectName, Place};
use crate::problem::ObjectRef;

/// A place in a file, lines and columns from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Location {
    /// The path, below the folder as it was given on the command line.
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) end_line: usize,
    pub(super) end_column: usize,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// All places of a folder; files are read when they are asked for.
#[derive(Debug, Default)]
pub(super) struct Places {
    files: BTreeMap<ObjectName, Place>,
    root: PathBuf,
    read: HashMap<PathBuf, Marks>,
}

impl Places {
    /// Of a folder; of a cluster, none.
    pub(super) fn of(folder: Option<&Folder>) -> Self {
        let Some(folder) = folder else { return Self::default() };
        Self { files: folder.places(), root: folder.root().to_owned(), read: HashMap::new() }
    }

    /// Where a field of an object stands, or what is nearest to it.
    pub(super) fn field(&mut self, object: &ObjectRef, field: &str) -> Option<Location> {
        if object.kind == "File" {
            return self.line(object, field);
        }
        let Place { file, line } = self.place(object)?.clone();
        let marks = self.marks(&file);
        let found = marks.find(&object.kind, &object.namespace, &object.name, field);
        Some(location(&file, found.unwrap_or(Mark { line, column: 1, end_line: line, end_column: 1 })))
    }

    /// Where an Ingress has a path.
    pub(super) fn path(&mut self, object: &ObjectRef, path: &str) -> Option<Location> {
        let file = self.place(object)?.file.clone();
        let found = self.marks(&file).find_path(&object.namespace, &object.name, path);
        found.map(|mark| location(&file, mark)).or_else(|| self.field(object, "spec.rules"))
    }

    /// Problems of files name the line.
    fn line(&self, object: &ObjectRef, field: &str) -> Option<Location> {
        let line = field.strip_prefix("line ").and_then(|line| line.parse().ok()).unwrap_or(1);
        let is_named = self.root.display().to_string() == object.name;
        let file = self.place(object).map(|place| place.file.clone());
        let file = file.or_else(|| is_named.then(|| self.root.clone()))?;
        Some(location(&file, Mark { line, column: 1, end_line: line, end_column: 1 }))
    }

    fn place(&self, object: &ObjectRef) -> Option<&Place> {
        self.files.get(&(object.kind.clone(), object.namespace.clone(), object.name.clone()))
    }

    fn marks(&mut self, file: &PathBuf) -> &Marks {
        // A file that is gone meanwhile has no marks, and its findings have the line of the document.
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            Marks::read(text.strip_prefix('\u{feff}').unwrap_or(&text))
        };
        self.read.entry(file.clone()).or_insert_with(|| read(file))
    }
}

fn location(file: &std::path::Path, mark: Mark) -> Location {
    let Mark { line, column, end_line, end_column } = mark;
    // `./` says nothing, and code scanning does not like it.
    let file = file.strip_prefix("./").unwrap_or(file).display().to_string();
    Location { file, line, column, end_line, end_column }
}
