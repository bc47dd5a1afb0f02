//! What a user reads of a mistake: `kubectl describe ingress` says what is wrong, where and how to mend it, at once.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ingress_tests::cluster::{Process, eventually};
use ingress_userspace::problem::Code;

use crate::{Context, HOST};

/// How soon `kubectl describe` must show a mistake after it was applied.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The same while Ingresses are applied as fast as they can be: the machine of a test has no time for that beside it.
const IN_A_STORM: Duration = Duration::from_secs(5);

/// Codes that no Ingress in a cluster has: the API server refuses such objects, or the object does not exist.
const NOT_OF_INGRESSES: [Code; 4] =
    [Code::ObjectInvalid, Code::KindUnknown, Code::KindNotInstalled, Code::NotPermitted];

/// What an Ingress says, and what its Event must: the key or field, the value and the fix.
struct Mistake {
    code: Code,
    annotation: Option<(&'static str, &'static str)>,
    spec: Option<&'static str>,
    named: [&'static str; 3],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        code: Code::AnnotationInvalid,
        annotation: Some(("proxy-read-timeout", "soon")),
        spec: None,
        named: ["proxy-read-timeout", "\"soon\"", "write "],
    },
    Mistake {
        code: Code::AnnotationInvalid,
        annotation: Some(("whitelist-source-range", "10.0.0.0/40")),
        spec: None,
        named: ["whitelist-source-range", "10.0.0.0/40", "503"],
    },
    Mistake {
        code: Code::AnnotationUnknown,
        annotation: Some(("rewrit-target", "/x")),
        spec: None,
        named: ["rewrit-target", "\"/x\"", "did you mean rewrite-target?"],
    },
    Mistake {
        code: Code::FieldInvalid,
        annotation: Some(("use-regex", "true")),
        spec: Some(
            "rules: [{host: HOST, http: {paths: [{path: \"/a(b\", pathType: ImplementationSpecific, BACKEND}]}}]",
        ),
        named: ["spec.rules[0].http.paths[0].path", "/a(b", "correct "],
    },
    Mistake {
        code: Code::FieldUnsupported,
        annotation: None,
        spec: Some(
            "rules: [{host: HOST, http: {paths: [{path: /, pathType: Prefix, backend: {resource: {apiGroup: example.test, kind: \
             Bucket, name: files}}}]}}]",
        ),
        named: ["spec.rules[0].http.paths[0].backend.resource", "Bucket files", "name a Service"],
    },
    Mistake {
        code: Code::BackendMissing,
        annotation: None,
        spec: Some(
            "rules: [{host: HOST, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: no-such-service, port: \
             {number: 80}}}}]}}]",
        ),
        named: ["spec.rules[0].http.paths[0].backend.service", "no-such-service", "create it"],
    },
    Mistake {
        code: Code::SecretInvalid,
        annotation: None,
        spec: Some(
            "tls: [{hosts: [HOST], secretName: no-such-secret}]\n  rules: [{host: HOST, http: {paths: [{path: /, pathType: \
             Prefix, BACKEND}]}}]",
        ),
        named: ["spec.tls", "no-such-secret", "create it"],
    },
    Mistake {
        code: Code::Conflict,
        annotation: Some(("server-alias", HOST)),
        spec: None,
        named: ["server-alias", HOST, "remove it"],
    },
    Mistake {
        code: Code::ReferenceMissing,
        annotation: Some(("custom-headers", "default/no-such-map")),
        spec: None,
        named: ["custom-headers", "no-such-map", "create it"],
    },
];

fn ingress(name: &str, annotation: Option<(&str, &str)>, spec: Option<&str>) -> String {
    let annotations = annotation
        .map(|(key, value)| format!("nginx.ingress.kubernetes.io/{key}: {value:?}"))
        .unwrap_or_default();
    let spec = spec.unwrap_or("rules: [{host: HOST, http: {paths: [{path: /, pathType: Prefix, BACKEND}]}}]");
    let spec = spec
        .replace("HOST", &format!("{name}.example.test"))
        .replace("BACKEND", "backend: {service: {name: shop, port: {number: 80}}}");
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: default, annotations: \
         {{{annotations}}}}}\nspec:\n  ingressClassName: portcullis\n  {spec}\n---\n"
    )
}

/// The line of `kubectl describe` that holds all of this is there within [`AT_ONCE`].
fn described(context: &Context, name: &str, reason: &str, named: &[&str]) -> anyhow::Result<()> {
    described_within(context, AT_ONCE, name, reason, named)
}

fn described_within(
    context: &Context,
    deadline: Duration,
    name: &str,
    reason: &str,
    named: &[&str],
) -> anyhow::Result<()> {
    eventually(&format!("kubectl describe ingress {name} says {reason}, {named:?}"), deadline, || {
        let text = context.rig.kubectl(&["describe", "ingress", name])?;
        let events = text.split("Events:").nth(1).unwrap_or_default();
        let is_it = |line: &str| line.contains(reason) && named.iter().all(|named| line.contains(named));
        ensure!(events.lines().any(is_it), "{events}");
        Ok(())
    })
}

pub(crate) fn each_code(context: &Context) -> anyhow::Result<()> {
    let missing = |code: &Code| {
        !NOT_OF_INGRESSES.contains(code) && MISTAKES.iter().all(|mistake| mistake.code != *code)
    };
    ensure!(!Code::ALL.iter().any(missing), "a code without an Ingress that has it");
    for (number, mistake) in MISTAKES.iter().enumerate() {
        let name = format!("mistake-{number}");
        context.rig.apply(&ingress(&name, mistake.annotation, mistake.spec))?;
        let code = format!("[{}]", mistake.code.name());
        let [field, value, fix] = mistake.named;
        described(context, &name, mistake.code.event_reason(), &[&code, field, value, fix])?;
    }
    for number in 0..MISTAKES.len() {
        context.rig.kubectl(&["delete", "ingress", &format!("mistake-{number}"), "--wait=false"])?;
    }
    Ok(())
}

/// While Events wait, the controllers take neither much memory nor a whole processor, in a build without optimisation.
fn controllers_are_calm(context: &Context) -> anyhow::Result<()> {
    let controllers = context.rig.processes("controller", "controller")?;
    let ticks = |process: &Process| -> anyhow::Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        // User and system time, in hundredths of a second.
        fields.skip(11).take(2).map(|field| Ok(field.parse::<u64>()?)).sum()
    };
    let look = Duration::from_secs(5);
    let before: Vec<u64> = controllers.iter().map(ticks).collect::<anyhow::Result<_>>()?;
    std::thread::sleep(look);
    for (process, before) in controllers.iter().zip(before) {
        let share = (ticks(process)? - before) as f64 / look.as_secs_f64();
        let resident = process.status("VmRSS")?;
        println!("       {}: {share:.0} % of a processor, {resident}", process.pod);
        let kilobytes: u64 = resident.trim_end_matches(" kB").trim().parse()?;
        ensure!(share < 80.0 && kilobytes < 200 << 10, "{}: {share:.0} %, {resident}", process.pod);
    }
    Ok(())
}

/// Mistakes of one team that keep the Events of all others waiting would make them useless.
pub(crate) fn storm(context: &Context) -> anyhow::Result<()> {
    let many = 1000;
    let mut all = String::new();
    for number in 0..many {
        write!(all, "{}", ingress(&format!("storm-{number}"), Some(("proxy-read-timeout", "soon")), None))?;
    }
    let all = all.replace("namespace: default", "namespace: storm");
    context.rig.kubectl(&["create", "namespace", "storm"])?;
    let count = || -> anyhow::Result<usize> {
        let events =
            context.rig.kubectl(&["-n", "storm", "get", "events", "--no-headers", "--ignore-not-found"])?;
        Ok(events.lines().count())
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        let applying = scope.spawn(|| context.rig.create(&all));
        // While the storm goes on, another namespace's mistake is told at once.
        let mut told = 0;
        while !applying.is_finished() {
            let name = format!("calm-{told}");
            context.rig.apply(&ingress(&name, Some(("proxy-read-timeout", "later")), None))?;
            let named = ["proxy-read-timeout", "\"later\""];
            described_within(context, IN_A_STORM, &name, "AnnotationParsingFailed", &named)?;
            told += 1;
        }
        applying.join().map_err(|_panic| anyhow::anyhow!("the storm panicked"))??;
        ensure!(told > 0, "the storm was over before anybody looked");
        for number in 0..told {
            context.rig.kubectl(&["delete", "ingress", &format!("calm-{number}"), "--wait=false"])?;
        }
        anyhow::Ok(())
    })?;
    let (events, seconds) = (count()?, started.elapsed().as_secs_f64());
    println!("       {many} Ingresses in {seconds:.1} s, {events} Events so far");
    let most = 20.0 * (seconds + 2.0);
    ensure!(events as f64 <= most, "{events} Events in {seconds:.1} s");
    controllers_are_calm(context)?;
    // What comes last is told first, what came before it is waiting.
    context.rig.apply(&ingress("after-storm", Some(("proxy-read-timeout", "never")), None))?;
    described(context, "after-storm", "AnnotationParsingFailed", &["proxy-read-timeout", "\"never\""])?;
    // The webhook sees them all and still answers soon.
    let asked = Instant::now();
    context.rig.apply(&ingress("after-storm", Some(("proxy-read-timeout", "60")), None))?;
    ensure!(asked.elapsed() < Duration::from_secs(2), "{:?} for an Ingress", asked.elapsed());
    context.rig.kubectl(&["delete", "ingress", "after-storm"])?;
    context.rig.kubectl(&["delete", "namespace", "storm", "--wait"])?;
    Ok(())
}
