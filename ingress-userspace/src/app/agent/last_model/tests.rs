use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::model::listener::{Listener, ListenerName, ListenerProtocol};

/// A folder in memory that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new("/dev/shm").join(format!("portcullis-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn model(&self) -> LastModel {
        LastModel::new(self.0.join("model"), &"here")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn model(port: u16) -> Model {
    let listener = Listener { name: ListenerName("http".into()), port, protocol: ListenerProtocol::Http };
    Model { listeners: vec![listener], ..Model::default() }
}

fn write(last: &LastModel, version: u64, model: &Model) {
    file::write(&last.path, &last.origin, version, model).unwrap();
}

#[tokio::test]
async fn what_is_kept_is_read_by_the_next_process_alone() {
    let folder = Folder::new("kept");
    let last = folder.model();
    assert!(last.read().await.is_none(), "nothing was kept yet");
    write(&last, 7, &model(80));
    write(&last, 8, &model(81));
    let kept = last.read().await.expect("the newest");
    assert_eq!((kept.version, &*kept.model), (8, &model(81)));
    assert!((now() - kept.current_at).abs() < 60);
    let about = std::fs::metadata(&last.path).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left behind");
    let elsewhere = LastModel::new(last.path.clone(), &"another cluster");
    assert!(elsewhere.read().await.is_none());
    assert!(file::touch(&last.path).is_ok());
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_not_used() {
    let folder = Folder::new("damaged");
    let last = folder.model();
    write(&last, 1, &model(80));
    let whole = std::fs::read(&last.path).unwrap();
    let reason = |bytes: &[u8]| {
        std::fs::write(&last.path, bytes).unwrap();
        file::read(&last.path, &last.origin)
            .map(|kept| kept.unwrap().version)
            .map_err(|error| error.to_string())
    };
    assert_eq!(reason(&whole), Ok(1));
    for at in (0..whole.len()).rev().step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert!(reason(&bytes).is_err(), "byte {at} flipped");
        assert!(reason(&whole[..at]).is_err(), "cut at {at}");
    }
    let at = whole.windows(16).position(|bytes| bytes == env!("MODEL_LAYOUT").as_bytes()).unwrap();
    let mut other = whole.clone();
    other[at] = b'x';
    assert_eq!(reason(&other).unwrap_err(), "it was written by another version of the program");
    reason(&whole).unwrap();
    std::fs::set_permissions(&last.path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(file::read(&last.path, &last.origin), Err(Unusable::Foreign)));
    std::fs::rename(&last.path, folder.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(folder.0.join("elsewhere"), &last.path).unwrap();
    assert!(file::read(&last.path, &last.origin).is_err(), "a link is not followed");
}

#[test]
fn keys_are_written_to_memory_only() {
    let error = file::write(Path::new("/proc/self/model"), &[0; 32], 1, &model(80)).unwrap_err();
    assert!(error.to_string().starts_with("keys are kept in memory only"), "{error}");
}

#[tokio::test]
async fn the_end_waits_for_what_is_not_written_yet() {
    let folder = Folder::new("end");
    let last = folder.model();
    let keeper = last.clone().start();
    for version in 1..=5 {
        keeper.keep(version, &Arc::new(model(80)));
        tokio::task::yield_now().await;
    }
    keeper.end().await;
    assert_eq!(last.read().await.expect("kept").version, 5);
}
