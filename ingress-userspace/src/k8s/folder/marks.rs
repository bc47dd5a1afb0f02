//! Where the objects and fields of a file stand, for those who have to show it to a person. Pure.
//!
//! Typed objects remember no positions, and keeping them for whole clusters would cost every role. So a file with a finding
//! is read a second time, by events with their places. Documents are split as `parse` splits them: one that is not
//! YAML hides no other. A field that is not there (a missing key) has the place of what should hold it.

use std::collections::HashMap;

use granit_parser::{Event, Parser, Span};

use super::parse::documents;

/// A stretch of a file: lines and columns in characters, from 1; the end is behind the last character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// First line.
    pub line: usize,
    /// First column.
    pub column: usize,
    /// Last line.
    pub end_line: usize,
    /// Column behind it.
    pub end_column: usize,
}

/// The objects of a file by kind, namespace as written, and name.
#[derive(Debug, Default)]
pub struct Marks(HashMap<(String, String, String), Node>);

#[derive(Clone, Debug)]
struct Node {
    /// Of its key, or of the node itself where it has none.
    mark: Mark,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

impl Marks {
    /// Reads the text of a file.
    pub fn read(text: &str) -> Self {
        let mut marks = Self::default();
        for (line, document) in documents(text) {
            if let Some(root) = root(document, line) {
                marks.add(root, None);
            }
        }
        marks
    }

    fn add(&mut self, mut node: Node, kind_of_list: Option<&str>) {
        let kind = node.text("kind").or(kind_of_list).unwrap_or_default().to_owned();
        if let Some(item_kind) = kind.strip_suffix("List")
            && let Content::Mapping(entries) = &mut node.content
            && let Some(at) = entries.iter().position(|(key, _)| key == "items")
        {
            if let Content::Sequence(items) = entries.swap_remove(at).1.content {
                items.into_iter().for_each(|item| self.add(item, Some(item_kind)));
            }
            return;
        }
        let of_metadata = |field| node.get("metadata").and_then(|metadata| metadata.text(field));
        let (namespace, name) = (of_metadata("namespace"), of_metadata("name"));
        let key = (kind, namespace.unwrap_or_default().to_owned(), name.unwrap_or_default().to_owned());
        // The first of two has the object, as everywhere.
        self.0.entry(key).or_insert(node);
    }

    /// Where a field of an object stands. Fields are paths as Problems spell them.
    pub fn find(&self, kind: &str, namespace: &str, name: &str, field: &str) -> Option<Mark> {
        let of = |namespace: &str| self.0.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()));
        let object = of(namespace).or_else(|| of("").filter(|_| namespace == "default"))?;
        Some(object.find(field))
    }

    /// Where the first entry of an Ingress with this path stands.
    pub fn find_path(&self, namespace: &str, name: &str, path: &str) -> Option<Mark> {
        let of = |namespace: &str| self.0.get(&("Ingress".to_owned(), namespace.to_owned(), name.to_owned()));
        let object = of(namespace).or_else(|| of("").filter(|_| namespace == "default"))?;
        let rules = object.get("spec")?.get("rules")?.items();
        let paths = rules.filter_map(|rule| rule.get("http")?.get("paths")).flat_map(Node::items);
        let mut found = paths.filter_map(|entry| entry.get("path"));
        found
            .find(|node| matches!(&node.content, Content::Scalar(text) if text == path))
            .map(|node| node.mark)
    }
}

impl Node {
    fn get(&self, key: &str) -> Option<&Self> {
        let Content::Mapping(entries) = &self.content else { return None };
        entries.iter().rfind(|(known, _)| known == key).map(|(_, node)| node)
    }

    fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }

    fn items(&self) -> impl Iterator<Item = &Self> {
        match &self.content {
            Content::Sequence(items) => items.iter(),
            _ => [].iter(),
        }
    }

    /// As far as the path leads.
    fn find(&self, field: &str) -> Mark {
        let mut node = self;
        let mut rest = field;
        while let Some((next, after)) = node.step(rest) {
            (node, rest) = (next, after);
        }
        node.mark
    }

    /// The child that a path begins with, and what is left of the path. Keys may contain dots and brackets, so it is the
    /// longest key that fits.
    fn step<'a>(&self, path: &'a str) -> Option<(&Self, &'a str)> {
        let path = path.trim_start_matches('.');
        let bracketed = path.strip_prefix('[');
        match &self.content {
            Content::Scalar(_) => None,
            Content::Sequence(items) => {
                let (number, rest) = bracketed?.split_once(']')?;
                Some((items.get(number.parse::<usize>().ok()?)?, rest))
            }
            Content::Mapping(entries) => {
                let fits = |key: &str| {
                    let rest = bracketed.unwrap_or(path).strip_prefix(key)?;
                    match bracketed {
                        Some(_) => rest.strip_prefix(']'),
                        None => (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest),
                    }
                };
                let found = entries.iter().filter_map(|(key, node)| Some((node, fits(key)?)));
                found.min_by_key(|(_, rest)| rest.len())
            }
        }
    }
}

/// The tree of one document that begins at a line.
fn root(document: &str, line: usize) -> Option<Node> {
    // Tabs between the signs of JSON are blanks to YAML only where it asks for no indentation; both are one column.
    let text = document.trim_start().starts_with('{').then(|| document.replace('\t', " "));
    let text = text.as_deref().unwrap_or(document);
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let mark = mark(&span, line);
        let done = match event {
            Event::SequenceStart(..) => {
                open.push(Open { mark, key: None, content: Content::Sequence(Vec::new()) });
                continue;
            }
            Event::MappingStart(..) => {
                // The end of a mapping is known only later; its first line is enough.
                open.push(Open { mark, key: None, content: Content::Mapping(Vec::new()) });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { mark, content, .. } = open.pop()?;
                Node { mark, content }
            }
            Event::Scalar(text, ..) => Node { mark, content: Content::Scalar(text.into_owned()) },
            Event::Alias(_) => Node { mark, content: Content::Scalar(String::new()) },
            _ => continue,
        };
        match open.last_mut() {
            None => return Some(done),
            Some(parent) => parent.take(done),
        }
    }
    None
}

/// A collection that is being read.
struct Open {
    mark: Mark,
    key: Option<(String, Mark)>,
    content: Content,
}

impl Open {
    fn take(&mut self, node: Node) {
        match &mut self.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping(entries) => match self.key.take() {
                Some((key, mark)) => entries.push((key, Node { mark, ..node })),
                None => {
                    let text = if let Content::Scalar(text) = node.content { text } else { String::new() };
                    self.key = Some((text, node.mark));
                }
            },
            Content::Scalar(_) => {}
        }
    }
}

fn mark(span: &Span, line: usize) -> Mark {
    let before = line.saturating_sub(1);
    Mark {
        line: before + span.start.line(),
        column: span.start.col() + 1,
        end_line: before + span.end.line(),
        end_column: span.end.col() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, kind: &str, namespace: &str, name: &str, field: &str) -> Option<(usize, usize)> {
        Marks::read(text).find(kind, namespace, name, field).map(|mark| (mark.line, mark.column))
    }

    const TWO: &str = "# head\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - port: 80\n---\n\
                       kind: Ingress\nmetadata:\n  name: web\n  namespace: shop\n  annotations:\n    \
                       nginx.ingress.kubernetes.io/use-regex: \"true\"\n    \"a.b/c[0]\": |\n      x\nspec:\n  rules:\n  - \
                       host: a.example\n    http:\n      paths:\n      - {path: /ä, backend: {service: {name: gone}}}\n";

    #[test]
    fn keys_have_the_place_at_which_they_are_written() {
        let ingress = |field| at(TWO, "Ingress", "shop", "web", field);
        for (field, expected) in [
            ("", (8, 1)),
            ("metadata.name", (10, 3)),
            ("metadata.annotations[nginx.ingress.kubernetes.io/use-regex]", (13, 5)),
            ("metadata.annotations[a.b/c[0]]", (14, 5)),
            ("metadata.annotations.a.b/c[0]", (14, 5)),
            ("metadata.annotations[gone]", (12, 3)),
            ("spec.rules[0].host", (18, 5)),
            ("spec.rules[0].http.paths[0].backend.service.name", (21, 40)),
            ("spec.rules[0].http.paths[7]", (20, 7)),
            ("spec.tls[0].secretName", (16, 1)),
        ] {
            assert_eq!(ingress(field), Some(expected), "{field}");
        }
        assert_eq!(at(TWO, "Service", "default", "web", "spec.ports[0].port"), Some((6, 5)));
        assert_eq!(at(TWO, "Service", "shop", "web", ""), None);
        let path = Marks::read(TWO).find_path("shop", "web", "/ä").unwrap();
        assert_eq!((path.line, path.column, path.end_column), (21, 10, 14));
    }

    #[test]
    fn lists_and_json_are_read_and_a_broken_document_hides_no_other() {
        let list =
            "kind: IngressList\nitems:\n- metadata:\n    name: a\n- kind: Ingress\n  metadata: {name: b}\n";
        assert_eq!(at(list, "Ingress", "default", "a", "metadata.name"), Some((4, 5)));
        assert_eq!(at(list, "Ingress", "default", "b", "metadata.name"), Some((6, 14)));
        let json = "{\n\t\"kind\": \"List\",\n\t\"items\": [\n\t\t{\"kind\": \"Secret\", \"metadata\": {\"name\": \"s\"}}\n\t]\n}\n";
        assert_eq!(at(json, "Secret", "default", "s", "metadata.name"), Some((4, 35)));
        let broken = "kind: [\n---\nkind: Service\nmetadata: {name: a}\n";
        assert_eq!(at(broken, "Service", "default", "a", "metadata.name"), Some((4, 12)));
        let alias = "kind: Ingress\nmetadata: &m {name: a}\nspec: {x: *m, y: 1}\n";
        assert_eq!(at(alias, "Ingress", "default", "a", "spec.y"), Some((3, 15)));
    }
}
