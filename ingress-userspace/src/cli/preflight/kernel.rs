//! The kernel, the rights of this process, and the clock.

use std::path::Path;
use std::time::SystemTime;

use super::{Finding, read};
use crate::bpf::probe::{is_bpffs, is_writable, missing_rights};

const BTF: &str = "/sys/kernel/btf/vmlinux";
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const SYN_COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

pub(super) fn findings(bpffs: &Path) -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let built = std::env::current_exe().and_then(|path| path.metadata()?.modified()).ok();
    let mut findings = vec![version(&release), rights(&missing_rights())];
    findings.push(match Path::new(BTF).exists() {
        true => Finding::ok("BTF", "the kernel carries its type information"),
        false => Finding::fail(
            "BTF",
            format!("{BTF} does not exist"),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        ),
    });
    findings.push(mounted(bpffs));
    findings.extend(read(JIT).map(|text| jit(&text)));
    findings.extend(read(LOCKDOWN).map(|text| lockdown(&text)));
    findings.extend(read(SYN_COOKIES).map(|text| cookies(&text)));
    findings.extend(read(CLOCK_SOURCE).map(|text| clock_source(&text)));
    findings.push(clock(built, SystemTime::now()));
    findings
}

fn version(release: &str) -> Finding {
    let mut parts = release.split(|sign: char| !sign.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return Finding::warn(
            "kernel",
            format!("version `{release}` cannot be read"),
            "look whether it is 6.1 or newer",
        );
    };
    match (major, minor) {
        (6, 6..) | (7.., _) => Finding::ok("kernel", release),
        (6, 1..) => {
            Finding::ok("kernel", format!("{release}; programs at TC are filters, for links need 6.6"))
        }
        (5, 15..) | (6, _) => {
            Finding::warn("kernel", format!("{release} is not tested"), "use Linux 6.1 or newer")
        }
        _ => Finding::fail(
            "kernel",
            format!("{release} is too old for the kernel half"),
            "use Linux 6.1 or newer",
        ),
    }
}

fn rights(missing: &[&str]) -> Finding {
    if missing.is_empty() {
        return Finding::ok("rights", "BPF, NET_ADMIN and PERFMON");
    }
    let found = format!("{} missing", missing.join(", "));
    Finding::fail("rights", found, "run as root or add the capabilities BPF, NET_ADMIN and PERFMON")
}

fn mounted(bpffs: &Path) -> Finding {
    let path = bpffs.display();
    if !is_bpffs(bpffs) {
        let fix =
            format!("run `mount -t bpf bpf {path}`, or leave it to the agent, which mounts it where it may");
        return Finding::warn("bpffs", format!("none is mounted at {path}"), fix);
    }
    if !is_writable(bpffs) {
        return Finding::fail(
            "bpffs",
            format!("{path} is not writable"),
            "mount it writable, or pass another by --bpffs",
        );
    }
    Finding::ok("bpffs", format!("mounted at {path}"))
}

fn jit(text: &str) -> Finding {
    match text {
        "0" => Finding::warn("BPF JIT", "off: programs are interpreted", format!("write 1 to {JIT}")),
        _ => Finding::ok("BPF JIT", "on"),
    }
}

fn lockdown(text: &str) -> Finding {
    if text.contains("[confidentiality]") {
        let fix = "boot with lockdown=integrity or none: confidentiality forbids programs to read packets";
        return Finding::fail("lockdown", "confidentiality", fix);
    }
    Finding::ok("lockdown", "does not forbid eBPF")
}

fn cookies(text: &str) -> Finding {
    match text {
        "0" => Finding::warn(
            "SYN cookies",
            "off: a SYN flood fills the queues of the listeners",
            format!("write 1 to {SYN_COOKIES}"),
        ),
        _ => Finding::ok("SYN cookies", "on when a queue is full"),
    }
}

fn clock_source(text: &str) -> Finding {
    match text {
        "hpet" | "acpi_pm" | "pit" | "jiffies" => Finding::warn(
            "clock source",
            format!("{text} is slow to read"),
            "see why the kernel does not trust the TSC (dmesg)",
        ),
        _ => Finding::ok("clock source", text),
    }
}

/// Certificates are judged by the clock; before this program was built it is certainly wrong.
fn clock(built: Option<SystemTime>, now: SystemTime) -> Finding {
    match built {
        Some(built) if now < built => Finding::fail(
            "clock",
            "is earlier than this program was built",
            "set it: certificates are judged by it",
        ),
        _ => Finding::ok("clock", "plausible"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Level;
    use super::*;

    #[test]
    fn kernels_are_judged_by_their_version() {
        for (release, level) in [
            ("6.18.44-cloud-amd64", Level::Ok),
            ("6.1.0-28-amd64", Level::Ok),
            ("7.2", Level::Ok),
            ("5.15.0-91-generic", Level::Warn),
            ("6.0.1", Level::Warn),
            ("5.10.262", Level::Fail),
            ("custom", Level::Warn),
        ] {
            assert_eq!(version(release).level, level, "{release}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_fix() {
        let finding = rights(&["CAP_BPF"]);
        assert_eq!((finding.level, finding.found.as_str()), (Level::Fail, "CAP_BPF missing"));
        assert_eq!(rights(&[]).level, Level::Ok);
        assert!(mounted(Path::new("/does/not/exist")).fix.contains("mount -t bpf"));
        assert_eq!(jit("0").level, Level::Warn);
        assert_eq!(lockdown("none integrity [confidentiality]").level, Level::Fail);
        assert_eq!(lockdown("[none] integrity confidentiality").level, Level::Ok);
        assert_eq!((cookies("0").level, cookies("1").level), (Level::Warn, Level::Ok));
        assert_eq!((clock_source("hpet").level, clock_source("tsc").level), (Level::Warn, Level::Ok));
        let now = SystemTime::now();
        assert_eq!(clock(Some(now + Duration::from_secs(60)), now).level, Level::Fail);
        assert_eq!(clock(None, now).level, Level::Ok);
    }
}
