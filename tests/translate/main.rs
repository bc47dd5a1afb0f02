//! Objects → model and Problems, as golden files: `cases/<feature>-<what>.in.yaml` gives `.out.txt`.
//!
//! A case is a manifest folder with one file. Lines `# flag: --name value` at its top set flags; `# origin: api` reads the
//! objects as if an API server had them.

mod fuzz;
mod hostile;
mod reuse;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ingress_tests::cluster::root;
use ingress_tests::golden;
use ingress_userspace::k8s::cluster::{Cluster, ObjectKey, Origin};
use ingress_userspace::k8s::folder::parse::parse;
use ingress_userspace::k8s::folder::{Folder, insert};
use ingress_userspace::k8s::reflect::sources::Access;
use ingress_userspace::k8s::selector::Selector;
use ingress_userspace::model::render::render;
use ingress_userspace::problem::Problem;
use ingress_userspace::translate::{Reuse, Settings, translate_with};

/// The day on which all cases are read: 2027-01-15.
const NOW: i64 = 1_800_000_000;

fn cases() -> PathBuf {
    root().join("tests/translate/cases")
}

#[expect(clippy::unwrap_used, reason = "a folder that cannot be read fails its test by panicking")]
fn inputs() -> Vec<PathBuf> {
    let mut inputs: Vec<PathBuf> =
        std::fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.to_string_lossy().ends_with(".in.yaml"));
    inputs.sort();
    inputs
}

#[test]
fn every_case_gives_its_golden_file() {
    let inputs = inputs();
    assert!(inputs.len() >= 300, "{} cases", inputs.len());
    let failures: Vec<String> = inputs
        .iter()
        .filter_map(|input| {
            let output = PathBuf::from(input.to_string_lossy().replace(".in.yaml", ".out.txt"));
            let result = outcome(input).and_then(|found| golden::compare(&output, &found));
            result.err().map(|error| format!("{error:#}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_golden_file_has_an_input() {
    for entry in std::fs::read_dir(cases()).unwrap() {
        let path = entry.unwrap().path().to_string_lossy().into_owned();
        if let Some(stem) = path.strip_suffix(".out.txt") {
            assert!(Path::new(&format!("{stem}.in.yaml")).exists(), "{path} has no input");
        }
    }
}

#[test]
fn the_order_of_documents_changes_nothing() {
    let input = cases().join("conflict-two-ingresses.in.yaml");
    let text = std::fs::read_to_string(&input).unwrap();
    let reversed: Vec<&str> = text.split("---\n").collect::<Vec<_>>().into_iter().rev().collect();
    let dir = std::env::temp_dir().join(format!("portcullis-translate-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let other = dir.join("conflict-two-ingresses.in.yaml");
    std::fs::write(&other, reversed.join("\n---\n")).unwrap();
    let (first, second) = (outcome(&input).unwrap(), outcome(&other).unwrap());
    std::fs::remove_dir_all(&dir).unwrap();
    let model = |text: &str| text.split("problems").next().unwrap().to_owned();
    assert_eq!(model(&first), model(&second));
}

/// Half-written files: every case cut at many places, and with a byte replaced there. Only panics fail.
#[test]
fn no_damaged_case_panics() {
    for entry in std::fs::read_dir(cases()).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) =
            path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".in.yaml"))
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let (settings, _) = settings(&text).unwrap();
        for part in 1..16 {
            let at = text.floor_char_boundary(text.len() * part / 16);
            for damaged in [text[..at].to_owned(), format!("{}\t{}", &text[..at], &text[at..])] {
                let mut cluster = Cluster::default();
                for located in parse(name, &damaged).objects {
                    let key = ObjectKey::new(located.reference.namespace, located.reference.name);
                    insert(&mut cluster, key, &located.object);
                }
                translate_with(&mut Reuse::default(), &cluster, &settings, NOW);
            }
        }
    }
}

/// The world of a case.
fn world(input: &Path) -> anyhow::Result<(Cluster, Settings)> {
    let text = std::fs::read_to_string(input)?;
    let (settings, origin) = settings(&text).with_context(|| input.display().to_string())?;
    let mut folder = Folder::new(input);
    folder.scan(&HashSet::new());
    let mut cluster = folder.cluster();
    cluster.origin = origin;
    Ok((cluster, settings))
}

fn outcome(input: &Path) -> anyhow::Result<String> {
    let (cluster, settings) = world(input)?;
    let translation = translate_with(&mut Reuse::default(), &cluster, &settings, NOW);
    let mut found = render(&translation.model);
    let ours: Vec<String> = translation.ingresses.iter().map(|ingress| ingress.object.to_string()).collect();
    found.push_str(&format!("ours: {}\n", ours.join(", ")));
    found.push_str("problems:\n");
    let place = input.display().to_string();
    for Problem { object, code, severity, field, value, message } in &translation.problems {
        let line = format!("  {severity:?} {code:?} {object}: {field} = {value:?}\n    {message}\n");
        found.push_str(&line.replace(&place, "FILE"));
    }
    Ok(found)
}

fn settings(text: &str) -> anyhow::Result<(Settings, Origin)> {
    let mut settings = Settings::default();
    let mut origin = Origin::Folder;
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        if line == "# origin: api" {
            origin = Origin::Api;
        }
        let Some((flag, value)) = line.strip_prefix("# flag: --").and_then(|flag| flag.split_once(' '))
        else {
            continue;
        };
        let key = || ObjectKey::parse(value).context("not namespace/name");
        match flag {
            "configmap" => settings.config_map = Some(key()?),
            "tcp-services-configmap" => settings.tcp_services = Some(key()?),
            "udp-services-configmap" => settings.udp_services = Some(key()?),
            "node-zone" => settings.zone = Some(value.to_owned()),
            "disable-svc-external-name" => settings.enable_external_names = value != "true",
            "enable-ssl-passthrough" => settings.enable_ssl_passthrough = value == "true",
            "cluster-key-secret" => settings.cluster_key = Some(key()?),
            "sync-namespace" => settings.access = Access::Copies(value.to_owned()),
            "publish-service" => settings.published_service = Some(key()?),
            "default-backend-service" => settings.default_backend = Some(key()?),
            "default-ssl-certificate" => settings.default_certificate = Some(key()?),
            "controller-class" => {
                settings.classes.controllers = value.split(' ').map(str::to_owned).collect();
            }
            "ingress-class" => settings.classes.name = value.to_owned(),
            "watch-ingress-without-class" => settings.classes.with_classless = value == "true",
            "watch-namespace" => settings.watch_namespace = Some(value.to_owned()),
            "ingress-class-by-name" => settings.classes.by_name = value == "true",
            "disable-catch-all" => settings.is_catch_all_disabled = value == "true",
            "watch-namespace-selector" => {
                settings.namespace_selector = Some(Selector::parse(value).map_err(anyhow::Error::msg)?);
            }
            "annotations-prefix" => settings.annotations_prefix = value.to_owned(),
            other => bail!("unknown flag {other}"),
        }
    }
    Ok((settings, origin))
}
