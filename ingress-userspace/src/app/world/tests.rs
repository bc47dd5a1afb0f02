use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Source, World, WorldReceiver, spawn};
use crate::k8s::folder::Folder;
use crate::problem::Severity;
use crate::translate::Settings;

/// Far more than an edit may take; only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(10);

struct Rig {
    dir: PathBuf,
    world: WorldReceiver,
    stop: CancellationToken,
}

impl Rig {
    fn start(name: &str, files: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("portcullis-world-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let stop = CancellationToken::new();
        let (world, _) = spawn(Source::Folder(Folder::new(&dir)), Settings::default(), stop.clone());
        Self { dir, world, stop }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }

    /// The first build that fulfils a condition.
    async fn until(&mut self, what: &str, is: impl Fn(&World) -> bool) -> Arc<World> {
        let wait = self.world.wait_for(|world| world.as_deref().is_some_and(&is));
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(world) => Arc::clone(world.unwrap().as_ref().unwrap()),
            Err(_) => panic!("never: {what}"),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn ingress(name: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\nspec:\n  rules:\n  - host: {host}\n    \
         http:\n      paths:\n      - {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: \
         80}}}}}}}}\n"
    )
}

fn hosts(world: &World) -> usize {
    world.model.hosts.len()
}

#[tokio::test]
async fn an_edit_is_published_and_an_equal_one_is_not() {
    let mut rig = Rig::start("edit", &[("a.yaml", &ingress("a", "a.example.com"))]);
    let first = rig.until("the first build", |world| hosts(world) == 1).await;
    assert_eq!(first.version, 1);
    let started = Instant::now();
    rig.write("b.yaml", &ingress("b", "b.example.com"));
    let second = rig.until("the edit", |world| hosts(world) == 2).await;
    let took = started.elapsed();
    assert_eq!(second.version, 2);
    assert!(took < Duration::from_secs(5), "{took:?}");
    // A comment changes the file and nothing else: the next version is that of the edit after it.
    rig.write("b.yaml", &format!("# comment\n{}", ingress("b", "b.example.com")));
    rig.write("c.yaml", &ingress("c", "c.example.com"));
    let third = rig.until("the third host", |world| hosts(world) == 3).await;
    assert_eq!(third.version, 3);
}

#[tokio::test]
async fn a_problem_without_a_new_model_keeps_the_model() {
    let mut rig = Rig::start("problem", &[("a.yaml", &ingress("a", "a.example.com"))]);
    let first = rig.until("the first build", |world| hosts(world) == 1).await;
    rig.write("broken.yaml", "kind: [");
    let is_broken = |world: &World| {
        world
            .problems
            .iter()
            .any(|problem| problem.severity == Severity::Error && problem.object.kind == "File")
    };
    let second = rig.until("the problem", is_broken).await;
    assert!(Arc::ptr_eq(&first.model, &second.model));
    std::fs::remove_file(rig.dir.join("broken.yaml")).unwrap();
    rig.until("the problem is gone", |world| {
        world.problems.iter().all(|problem| problem.object.kind != "File")
    })
    .await;
}

#[tokio::test]
async fn a_half_written_file_is_read_when_it_is_whole() {
    use std::io::Write as _;
    let mut rig = Rig::start("half", &[("a.yaml", &ingress("a", "a.example.com"))]);
    rig.until("the first build", |world| hosts(world) == 1).await;
    let whole = ingress("a", "other.example.com");
    let (start, rest) = whole.split_at(whole.len() / 2);
    let mut file = std::fs::File::create(rig.dir.join("a.yaml")).unwrap();
    file.write_all(start.as_bytes()).unwrap();
    file.flush().unwrap();
    // Another file goes on while this one is half-written, and the host of this one stays.
    rig.write("b.yaml", &ingress("b", "b.example.com"));
    let world = rig.until("the other file", |world| hosts(world) == 2).await;
    assert!(format!("{:?}", world.model.hosts).contains("a.example.com"));
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    rig.until("the whole file", |world| format!("{:?}", world.model.hosts).contains("other.example.com"))
        .await;
}

#[tokio::test]
async fn a_folder_that_appears_later_is_served() {
    let dir = std::env::temp_dir().join(format!("portcullis-world-{}-later", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let stop = CancellationToken::new();
    let (mut world, _) = spawn(Source::Folder(Folder::new(&dir)), Settings::default(), stop.clone());
    let early =
        tokio::time::timeout(Duration::from_millis(300), world.wait_for(Option::is_some)).await.is_ok();
    assert!(!early, "nothing is published before the folder is there");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("a.yaml"), ingress("a", "a.example.com")).unwrap();
    let is_served = |world: &Option<Arc<World>>| world.as_deref().is_some_and(|world| hosts(world) == 1);
    tokio::time::timeout(DEADLINE, world.wait_for(is_served)).await.unwrap().unwrap();
    stop.cancel();
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_followed_again() {
    let mut rig = Rig::start("replaced", &[("a.yaml", &ingress("a", "a.example.com"))]);
    rig.until("the first build", |world| hosts(world) == 1).await;
    let away = rig.dir.with_extension("away");
    std::fs::rename(&rig.dir, &away).unwrap();
    std::fs::create_dir(&rig.dir).unwrap();
    rig.write("b.yaml", &ingress("b", "b.example.com"));
    rig.until("the new folder", |world| format!("{:?}", world.model.hosts).contains("b.example.com")).await;
    rig.write("c.yaml", &ingress("c", "c.example.com"));
    rig.until("an edit in it", |world| format!("{:?}", world.model.hosts).contains("c.example.com")).await;
    std::fs::remove_dir_all(&away).unwrap();
}

/// Not a bound on speed, which depends on the machine: a guard against work that grows with the square.
#[test]
fn a_thousand_ingresses_translate_in_time() {
    use crate::k8s::cluster::{Cluster, ObjectKey};
    let mut cluster = Cluster::default();
    for number in 0..1000 {
        let text = ingress(&format!("i{number}"), &format!("h{number}.example.com"));
        let parsed = crate::k8s::folder::parse::parse("a.yaml", &text);
        for located in parsed.objects {
            let crate::k8s::folder::parse::Object::Ingress(object) = located.object else {
                panic!("no Ingress")
            };
            cluster.ingresses.insert(ObjectKey::new("default", located.reference.name), object);
        }
    }
    let started = Instant::now();
    let translation = crate::translate::translate(&cluster, &Settings::default());
    assert_eq!(translation.model.hosts.len(), 1000);
    let took = started.elapsed();

    assert!(took < Duration::from_secs(5), "{took:?}");
}
