//! What the kernel's refusal of a program or map most likely means, for people.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use super::LoadError;

/// So much of the verifier's log is told: its verdict stands at the end.
const LAST_LINES: usize = 6;

/// The verifier's log, cut, with what is likely behind it.
pub(super) fn explain(name: &'static str, error: ProgramError) -> LoadError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let reason = of_program(&io_error, &log);
            let last = last_lines(&log);
            let log = if last.is_empty() { last } else { format!("; the verifier's last words: {last}") };
            LoadError::Refused { name, reason: reason.to_owned(), log, source: io_error }
        }
        source => LoadError::Program { name, source },
    }
}

fn of_program(error: &io::Error, log: &str) -> &'static str {
    let says = |parts: &[&str]| parts.iter().any(|part| log.contains(part));
    if says(&[
        "unknown func",
        "invalid func",
        "program of this type cannot use helper",
        "helper call is not allowed",
    ]) {
        return "it calls a function that this kernel does not have, which is older than the program";
    }
    if says(&["too many states", "program is too large", "too complex", "infinite loop"]) {
        return "this kernel's verifier gives up on it";
    }
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "the rights are missing (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON), or a lockdown or security module forbids it"
        }
        Some(libc::ENOMEM) => "there is no memory for it; raise the memory limit of the container",
        Some(libc::E2BIG) => "it is larger than this kernel permits",
        Some(libc::ENOSPC) => "the verifier had more to say than it was given room for",
        Some(libc::EACCES) => "this kernel's verifier does not accept it",
        Some(libc::EINVAL) if log.trim().is_empty() => {
            "this kernel does not know the type of program or an instruction in it"
        }
        _ => "this kernel's verifier does not accept it",
    }
}

fn last_lines(log: &str) -> String {
    let statistics = ["verification time", "stack depth", "processed "];
    let lines: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start)))
        .collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join(" | ")
}

/// The same for a map, to be appended to a message; empty when there is nothing to add.
pub(super) fn likely_of_object(error: &EbpfError) -> String {
    let EbpfError::MapError(MapError::CreateError { name, io_error }) = error else { return String::new() };
    format!(": map `{name}`: {}", of_map(io_error))
}

fn of_map(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "the rights are missing (CAP_BPF), or RLIMIT_MEMLOCK or a security module forbids it"
        }
        Some(libc::ENOMEM) => "there is no memory for it; raise the memory limit of the container",
        Some(libc::E2BIG) => "it is larger than this kernel permits",
        Some(libc::EINVAL) => "this kernel does not know its type or one of its flags",
        _ => "the kernel gave no reason of its own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(code: i32, log: &str) -> &'static str {
        of_program(&io::Error::from_raw_os_error(code), log)
    }

    #[test]
    fn every_refusal_of_a_program_has_a_likely_reason() {
        for (code, log, expected) in [
            (libc::EINVAL, "17: (85) call unknown#204\nunknown func bpf_xdp_get_buff_len#188", "older"),
            (libc::E2BIG, "BPF program is too large. Processed 1000001 insn", "gives up"),
            (libc::EPERM, "", "CAP_BPF"),
            (libc::ENOMEM, "", "memory limit"),
            (libc::EINVAL, "", "type of program"),
            (libc::EACCES, "R1 invalid mem access 'scalar'", "does not accept"),
        ] {
            assert!(program(code, log).contains(expected), "{code} {log}: {}", program(code, log));
        }
    }

    #[test]
    fn the_verifiers_last_words_are_kept_without_its_statistics() {
        let log = "0: R1=ctx() R10=fp0\n1: (b7) r0 = 0\n2\n3\n4\n5\nR1 invalid mem access 'scalar'\n\
                   verification time 14 usec\nstack depth 0\nprocessed 8 insns (limit 1000000)\n";
        assert_eq!(last_lines(log), "1: (b7) r0 = 0 | 2 | 3 | 4 | 5 | R1 invalid mem access 'scalar'");
        assert_eq!(last_lines(""), "");
    }

    #[test]
    fn a_refused_map_is_named_with_the_likely_reason() {
        for (code, expected) in [
            (libc::EPERM, "rights"),
            (libc::ENOMEM, "memory limit"),
            (libc::E2BIG, "larger"),
            (libc::EINVAL, "type"),
        ] {
            let io_error = io::Error::from_raw_os_error(code);
            let error = EbpfError::MapError(MapError::CreateError { name: "buckets".to_owned(), io_error });
            let text = LoadError::from(error).to_string();
            assert!(text.contains("map `buckets`") && text.contains(expected), "{text}");
        }
    }
}
