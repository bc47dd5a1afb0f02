//! Which Ingresses are ours.
//!
//! As ingress-nginx decides: `spec.ingressClassName` comes first and counts when an IngressClass of that name exists whose
//! `spec.controller` is one of `--controller-class`, or with `--ingress-class-by-name` whose name is `--ingress-class`;
//! then the legacy annotation `kubernetes.io/ingress.class`, which must equal `--ingress-class` or be empty; an Ingress
//! with neither is ours with `--watch-ingress-without-class`, or when an IngressClass
//! of ours is marked as default (admission fills that one in; an Ingress older than the mark has no class still).
//!
//! A folder of manifests has no other controller beside us, so there more is ours: an Ingress without any class; a class
//! with no IngressClass object when its name is `--ingress-class`, `portcullis` or `nginx`; and, unless
//! `--controller-class` was given, also the controller value of ingress-nginx. An IngressClass object that names a foreign
//! controller makes its Ingresses foreign everywhere.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use super::cluster::{Cluster, ObjectKey, Origin};

/// The value of our own IngressClass.
pub const OWN_CONTROLLER: &str = "portcullis.dev/ingress-controller";
/// The value of ingress-nginx, whose Ingresses we serve as they are.
const NGINX_CONTROLLER: &str = "k8s.io/ingress-nginx";
/// The annotation from before IngressClass.
pub const LEGACY_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_MARK: &str = "ingressclass.kubernetes.io/is-default-class";

/// What the flags say of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRules {
    /// `--controller-class`.
    pub controllers: Vec<String>,
    /// `--ingress-class`.
    pub name: String,
    /// `--ingress-class-by-name`: an IngressClass of our name is ours, whatever controller it names.
    pub by_name: bool,
    /// `--watch-ingress-without-class`.
    pub with_classless: bool,
}

impl Default for ClassRules {
    fn default() -> Self {
        Self {
            controllers: vec![OWN_CONTROLLER.to_owned()],
            name: "portcullis".to_owned(),
            by_name: false,
            with_classless: false,
        }
    }
}

/// Whose an Ingress is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Ours.
    Ours,
    /// Somebody else's, or nobody's.
    Foreign,
    /// It names our class (in a folder: any), but that IngressClass does not exist: it is not served.
    Dangling(String),
}

/// Decides whose an Ingress is.
pub fn ownership(cluster: &Cluster, rules: &ClassRules, ingress: &Ingress) -> Ownership {
    let is_folder = cluster.origin == Origin::Folder;
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    if let Some(name) = named {
        return match cluster.ingress_classes.get(&ObjectKey::new("", name)) {
            Some(class) if is_our_class(cluster.origin, rules, class) => Ownership::Ours,
            Some(_) => Ownership::Foreign,
            None if is_folder && (name == rules.name || name == "portcullis" || name == "nginx") => {
                Ownership::Ours
            }
            None if is_folder || name == rules.name => Ownership::Dangling(name.to_owned()),
            None => Ownership::Foreign,
        };
    }
    let legacy =
        ingress.metadata.annotations.as_ref().and_then(|annotations| annotations.get(LEGACY_ANNOTATION));
    // ingress-nginx compares only a name that is there, so that an empty one is everybody's.
    if legacy.is_some_and(String::is_empty) && !is_folder {
        return Ownership::Ours;
    }
    let is_ours = match legacy.map(String::as_str).filter(|class| !class.is_empty()) {
        Some(class) => {
            // A class of that name decides in a folder, where one legacy name is as good as another.
            let object = cluster.ingress_classes.get(&ObjectKey::new("", class));
            let is_folder_name = is_folder
                && (class == "portcullis" || class == "nginx")
                && object.is_none_or(|object| is_our_class(cluster.origin, rules, object));
            class == rules.name || is_folder_name
        }
        None => {
            is_folder
                || rules.with_classless
                || cluster
                    .ingress_classes
                    .values()
                    .any(|class| is_default(class) && is_our_class(cluster.origin, rules, class))
        }
    };
    // A default class of somebody else takes the classless ones of a folder, as admission would have written it.
    let is_taken = legacy.is_none()
        && is_folder
        && !rules.with_classless
        && cluster.ingress_classes.values().any(|class| is_default(class))
        && !cluster
            .ingress_classes
            .values()
            .any(|class| is_default(class) && is_our_class(cluster.origin, rules, class));
    if is_ours && !is_taken { Ownership::Ours } else { Ownership::Foreign }
}

/// Whether an IngressClass is one of ours.
pub fn is_our_class(origin: Origin, rules: &ClassRules, class: &IngressClass) -> bool {
    if rules.by_name && class.metadata.name.as_deref() == Some(rules.name.as_str()) {
        return true;
    }
    let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default();
    let is_by_default =
        origin == Origin::Folder && rules.controllers == [OWN_CONTROLLER] && controller == NGINX_CONTROLLER;
    is_by_default || rules.controllers.iter().any(|ours| ours == controller)
}

fn is_default(class: &IngressClass) -> bool {
    let mark = class.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DEFAULT_MARK));
    mark.is_some_and(|mark| mark == "true")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn ingress(class: Option<&str>, legacy: Option<&str>) -> Ingress {
        let mut ingress = Ingress::default();
        ingress.spec.get_or_insert_default().ingress_class_name = class.map(str::to_owned);
        let annotations =
            legacy.map(|value| (LEGACY_ANNOTATION.to_owned(), value.to_owned())).into_iter().collect();
        ingress.metadata.annotations = Some(annotations);
        ingress
    }

    fn cluster(origin: Origin, classes: &[(&str, &str, bool)]) -> Cluster {
        let mut cluster = Cluster { origin, ..Cluster::default() };
        for (name, controller, default) in classes {
            let mut class = IngressClass::default();
            class.metadata.name = Some((*name).to_owned());
            class.spec.get_or_insert_default().controller = Some((*controller).to_owned());
            class.metadata.annotations = Some([(DEFAULT_MARK.to_owned(), default.to_string())].into());
            cluster.ingress_classes.insert(ObjectKey::new("", *name), Arc::new(class));
        }
        cluster
    }

    #[test]
    fn an_empty_annotation_is_ours_in_a_cluster_as_in_ingress_nginx() {
        let rules = ClassRules::default();
        let found = ownership(&cluster(Origin::Api, &[]), &rules, &ingress(None, Some("")));
        assert_eq!(found, Ownership::Ours);
        let marked = [("x", "example.com/other", true)];
        let found = ownership(&cluster(Origin::Folder, &marked), &rules, &ingress(None, Some("")));
        assert_eq!(found, Ownership::Ours);
    }

    #[test]
    fn a_class_of_our_name_is_ours_when_names_count() {
        let classes = [("portcullis", "example.com/other", false)];
        for (by_name, expected) in [(false, Ownership::Foreign), (true, Ownership::Ours)] {
            let rules = ClassRules { by_name, ..ClassRules::default() };
            let found =
                ownership(&cluster(Origin::Api, &classes), &rules, &ingress(Some("portcullis"), None));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn several_controller_values_are_ours_at_once() {
        let controllers = vec![OWN_CONTROLLER.to_owned(), NGINX_CONTROLLER.to_owned()];
        let rules = ClassRules { controllers, ..ClassRules::default() };
        let classes = [("a", OWN_CONTROLLER, false), ("b", NGINX_CONTROLLER, false), ("c", "x", false)];
        let cluster = cluster(Origin::Api, &classes);
        for (name, expected) in [("a", Ownership::Ours), ("b", Ownership::Ours), ("c", Ownership::Foreign)] {
            assert_eq!(ownership(&cluster, &rules, &ingress(Some(name), None)), expected, "{name}");
        }
    }

    #[test]
    fn ownership_follows_class_annotation_and_default() {
        use Origin::{Api, Folder};
        let ours = ("edge", OWN_CONTROLLER, false);
        let foreign = ("portcullis", "example.com/other", false);
        let nginx = ("nginx", NGINX_CONTROLLER, false);
        let marked = ("edge", OWN_CONTROLLER, true);
        let foreign_marked = ("x", "example.com/other", true);
        type Row<'a> =
            (&'a str, Origin, &'a [(&'a str, &'a str, bool)], Option<&'a str>, Option<&'a str>, bool);
        let rows: [Row<'_>; 17] = [
            ("class of ours", Api, &[ours], Some("edge"), None, true),
            ("class of another controller", Api, &[foreign], Some("portcullis"), None, false),
            ("class of another controller in a folder", Folder, &[foreign], Some("portcullis"), None, false),
            ("nginx class in a cluster", Api, &[nginx], Some("nginx"), None, false),
            ("nginx class in a folder", Folder, &[nginx], Some("nginx"), None, true),
            ("class without object in a cluster", Api, &[], Some("other"), None, false),
            ("nginx without object in a folder", Folder, &[], Some("nginx"), None, true),
            ("our name without object in a folder", Folder, &[], Some("portcullis"), None, true),
            ("unknown class without object in a folder", Folder, &[], Some("traefik"), None, false),
            ("legacy annotation", Api, &[], None, Some("portcullis"), true),
            ("foreign legacy annotation", Api, &[], None, Some("nginx"), false),
            ("nginx legacy annotation in a folder", Folder, &[], None, Some("nginx"), true),
            (
                "the field beats the annotation",
                Api,
                &[foreign],
                Some("portcullis"),
                Some("portcullis"),
                false,
            ),
            ("no class in a cluster", Api, &[ours], None, None, false),
            ("no class, our class is the default", Api, &[marked], None, None, true),
            ("no class in a folder", Folder, &[], None, None, true),
            ("no class in a folder with a foreign default", Folder, &[foreign_marked], None, None, false),
        ];
        for (name, origin, classes, class, legacy, expected) in rows {
            let found = ownership(&cluster(origin, classes), &ClassRules::default(), &ingress(class, legacy));
            assert_eq!(found == Ownership::Ours, expected, "{name}: {found:?}");
        }
        let dangling =
            ownership(&cluster(Api, &[]), &ClassRules::default(), &ingress(Some("portcullis"), None));
        assert_eq!(dangling, Ownership::Dangling("portcullis".into()));
    }
}
