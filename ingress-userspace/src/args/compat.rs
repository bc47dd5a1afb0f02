//! Flags of ingress-nginx that are taken and ignored: charts pass them in `extraArgs`. What is given of them is said once
//! at the start, with the reason.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use jiff::SignedDuration;

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// A value.
    Value,
    /// Nothing, or `=true`, `=false`.
    Switch,
}

const NO_NGINX: &str = "there is no nginx behind such a port";
const NO_GEOIP: &str = "there is no GeoIP";
const TO_STDERR: &str = "the log goes to standard error";
const BUCKETS: &str = "the buckets of histograms are fixed, so that dashboards fit";

/// Name, what follows it, why it is ignored.
const IGNORED: &[(&str, Takes, &str)] = &[
    ("add_dir_header", Takes::Switch, TO_STDERR),
    ("alsologtostderr", Takes::Switch, TO_STDERR),
    ("apiserver-host", Takes::Value, "a kubeconfig names the API server: --kubeconfig"),
    ("bucket-factor", Takes::Value, BUCKETS),
    ("certificate-authority", Takes::Value, "a kubeconfig names the certificate authority: --kubeconfig"),
    ("deep-inspect", Takes::Switch, "values become typed settings, there is no text of nginx to inspect"),
    ("default-server-port", Takes::Value, NO_NGINX),
    ("disable-full-test", Takes::Switch, "the webhook reads the whole world in any case"),
    ("disable-leader-election", Takes::Switch, "the Lease decides who writes status, also for one replica"),
    ("disable-sync-events", Takes::Switch, "there is no Event for what is in order"),
    ("dynamic-configuration-retries", Takes::Value, NO_NGINX),
    ("election-ttl", Takes::Value, "the Lease lives 15 s"),
    ("enable-annotation-validation", Takes::Switch, "annotations are always read strictly"),
    (
        "enable-ssl-chain-completion",
        Takes::Switch,
        "no certificate is fetched from addresses that stand in certificates",
    ),
    ("exclude-socket-metrics", Takes::Value, "all metrics are served; drop some where they are scraped"),
    ("health-check-path", Takes::Value, "the paths are /healthz and /readyz"),
    ("health-check-timeout", Takes::Value, "the process asks nobody else whether it is healthy"),
    ("internal-logger-address", Takes::Value, NO_NGINX),
    ("length-buckets", Takes::Value, BUCKETS),
    ("log_backtrace_at", Takes::Value, TO_STDERR),
    ("log_dir", Takes::Value, TO_STDERR),
    ("log_file", Takes::Value, TO_STDERR),
    ("log_file_max_size", Takes::Value, TO_STDERR),
    ("logtostderr", Takes::Switch, TO_STDERR),
    ("max-buckets", Takes::Value, BUCKETS),
    ("maxmind-edition-ids", Takes::Value, NO_GEOIP),
    ("maxmind-license-key", Takes::Value, NO_GEOIP),
    ("maxmind-mirror", Takes::Value, NO_GEOIP),
    ("maxmind-retries-count", Takes::Value, NO_GEOIP),
    ("maxmind-retries-timeout", Takes::Value, NO_GEOIP),
    ("metrics-per-undefined-host", Takes::Switch, "metrics name hosts of rules alone"),
    ("monitor-max-batch-size", Takes::Value, "workers count by themselves"),
    ("one_output", Takes::Switch, TO_STDERR),
    (
        "post-shutdown-grace-period",
        Takes::Value,
        "the process ends when its connections have ended: --drain-timeout",
    ),
    ("profiler-address", Takes::Value, "there is no profiler of Go"),
    ("profiler-port", Takes::Value, "there is no profiler of Go"),
    ("profiling", Takes::Switch, "there is no profiler of Go"),
    ("size-buckets", Takes::Value, BUCKETS),
    ("skip_headers", Takes::Switch, TO_STDERR),
    ("skip_log_headers", Takes::Switch, TO_STDERR),
    ("ssl-passthrough-proxy-port", Takes::Value, "connections are passed on without a port of their own"),
    ("status-port", Takes::Value, NO_NGINX),
    ("status-update-interval", Takes::Value, "status is written when it changes"),
    ("stderrthreshold", Takes::Value, TO_STDERR),
    ("stream-port", Takes::Value, NO_NGINX),
    ("sync-rate-limit", Takes::Value, "changes are acted on within 300 ms"),
    ("time-buckets", Takes::Value, BUCKETS),
    ("update-status-on-shutdown", Takes::Switch, "status is cleared when no node has served for 60 s"),
    ("validating-webhook", Takes::Value, "admission is a command of its own: portcullis webhook"),
    ("validating-webhook-certificate", Takes::Value, "admission is a command of its own: portcullis webhook"),
    ("validating-webhook-key", Takes::Value, "admission is a command of its own: portcullis webhook"),
    ("vmodule", Takes::Value, "name targets in --log-level"),
];

/// Flags of ingress-nginx that were given and are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompatArgs {
    /// Each with the reason.
    pub ignored: Vec<(&'static str, &'static str)>,
}

impl clap::Args for CompatArgs {
    fn augment_args(mut command: Command) -> Command {
        for (name, takes, reason) in IGNORED {
            // A command that has a flag of this name knows it better.
            if command.get_arguments().any(|known| known.get_long() == Some(*name)) {
                continue;
            }
            let arg =
                Arg::new(*name).long(*name).help(format!("Ignored: {reason}")).action(ArgAction::Append);
            let arg = match takes {
                Takes::Value => arg.value_name("VALUE").num_args(1),
                Takes::Switch => {
                    arg.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true")
                }
            };
            command = command.arg(arg.hide(true));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for CompatArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &str| matches.try_contains_id(name).unwrap_or(false);
        let ignored =
            IGNORED.iter().filter(|(name, _, _)| given(name)).map(|(name, _, reason)| (*name, *reason));
        Ok(Self { ignored: ignored.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A boolean flag of ingress-nginx: `--x`, `--x=true`, `--x=false`, in Go's spellings.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// A duration flag of ingress-nginx in Go's spelling: `10m`, `1h30m`, `0`.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let time = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.ok_or_else(|| "write a duration such as 10m, 1h30m or 0".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command as Chosen, RunArgs};

    fn run(flags: &[&str]) -> Result<RunArgs, String> {
        let line = ["portcullis", "run"].iter().chain(flags);
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Chosen::Run(args) => Ok(args),
            _ => Err("not run".to_owned()),
        }
    }

    /// Every flag of ingress-nginx 1.15.1.
    const ALL: &str = "apiserver-host certificate-authority kubeconfig default-backend-service ingress-class controller-class \
        watch-ingress-without-class ingress-class-by-name configmap publish-service tcp-services-configmap \
        udp-services-configmap sync-period watch-namespace watch-namespace-selector profiling default-ssl-certificate \
        health-check-path health-check-timeout update-status election-id election-ttl update-status-on-shutdown \
        report-node-internal-ip-address enable-ssl-passthrough disable-leader-election disable-svc-external-name \
        annotations-prefix enable-annotation-validation enable-ssl-chain-completion sync-rate-limit publish-status-address \
        enable-metrics metrics-per-host metrics-per-undefined-host report-status-classes time-buckets length-buckets \
        size-buckets bucket-factor max-buckets exclude-socket-metrics monitor-max-batch-size http-port https-port \
        ssl-passthrough-proxy-port default-server-port healthz-port healthz-host disable-catch-all validating-webhook \
        validating-webhook-certificate validating-webhook-key disable-full-test status-port stream-port \
        internal-logger-address profiler-port profiler-address status-update-interval shutdown-grace-period \
        post-shutdown-grace-period deep-inspect dynamic-configuration-retries disable-sync-events \
        enable-topology-aware-routing maxmind-mirror maxmind-license-key maxmind-edition-ids maxmind-retries-count \
        maxmind-retries-timeout v vmodule logtostderr alsologtostderr log_dir log_file log_file_max_size log_backtrace_at \
        stderrthreshold one_output add_dir_header skip_headers skip_log_headers";

    #[test]
    fn every_flag_of_ingress_nginx_is_taken() {
        use clap::CommandFactory as _;
        let mut root = Cli::command();
        root.build();
        let run = root.find_subcommand("run").unwrap();
        let known: Vec<&str> = run.get_arguments().filter_map(Arg::get_long).collect();
        for name in ALL.split_whitespace() {
            assert!(known.contains(&name), "--{name}");
        }
    }

    #[test]
    fn flags_are_written_as_for_ingress_nginx() {
        let args = run(&[
            "--watch-ingress-without-class=true",
            "--update-status=false",
            "--enable-metrics=false",
            "--metrics-per-host=0",
            "--report-node-internal-ip-address",
            "--profiling=false",
            "--v=5",
            "--logtostderr",
            "--status-port",
            "10246",
            "--sync-period=10m",
        ])
        .unwrap();
        assert!(args.source.rules.watch_ingress_without_class && !args.publish.update_status);
        assert!(args.publish.report_node_internal_ip_address && !args.admin.enable_metrics);
        assert!(!args.workers.metrics_per_host && args.log.v == Some(5));
        let ignored: Vec<&str> = args.log.compat.ignored.iter().map(|(name, _)| *name).collect();
        assert_eq!(ignored, ["logtostderr", "profiling", "status-port"]);
        assert!(
            run(&["--watch-ingress-without-class", "--http-port", "0"])
                .unwrap()
                .source
                .rules
                .watch_ingress_without_class
        );
        assert_eq!(args.source.sync_period, Duration::from_secs(600));
        for (text, seconds) in
            [("0", Some(0)), ("90s", Some(90)), ("1h30m", Some(5400)), ("10", None), ("-1s", None)]
        {
            let period = run(&["--sync-period", text]).ok().map(|args| args.source.sync_period.as_secs());
            assert_eq!(period, seconds, "{text}");
        }
        assert!(run(&["--enable-metrics=perhaps"]).is_err() && run(&["--no-such-flag"]).is_err());
    }
}
