use super::histogram::DURATION_BUCKETS;
use super::*;

#[tokio::test]
async fn equal_series_of_two_workers_are_added_up_and_escaped() {
    let registry = Registry::new(&[("controller_pod", "p-0"), ("controller_class", "")]);
    for _ in 0..2 {
        registry.register_gatherer(|| async {
            let mut samples = Samples::default();
            let mut histogram = Histogram::new(&DURATION_BUCKETS);
            histogram.observe(0.02);
            histogram.observe(99.0);
            samples.add(&GATE_REFUSED, &["a\"b\\c"], 2.0);
            samples.add_histogram(
                &REQUEST_DURATION,
                &["200", "GET", "/", "ns", "web", "svc", "", "h"],
                &histogram,
            );
            vec![samples]
        });
    }
    registry.register_collector(|samples| samples.add(&MODEL_VERSION, &[], 7.0));
    let page = registry.render().await;
    assert!(
        page.contains("portcullis_gate_refused_total{controller_pod=\"p-0\",reason=\"a\\\"b\\\\c\"} 4\n"),
        "{page}"
    );
    assert!(page.contains("portcullis_model_version{controller_pod=\"p-0\"} 7\n"), "{page}");
    assert!(page.contains("host=\"h\",le=\"0.01\"} 0\n"), "{page}");
    assert!(page.contains("host=\"h\",le=\"0.025\"} 2\n"), "{page}");
    assert!(page.contains("host=\"h\",le=\"+Inf\"} 4\n"), "{page}");
    assert!(page.contains("# TYPE nginx_ingress_controller_request_duration_seconds histogram\n"), "{page}");
}

#[test]
fn names_are_unique_and_helps_are_sentences() {
    let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METRICS.len());
    for metric in METRICS {
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        assert!(metric.kind != Kind::Counter || !metric.name.ends_with("_seconds"), "{}", metric.name);
    }
}
