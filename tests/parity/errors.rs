//! Error pages of a default backend.

use ingress_tests::manifests::ingress;

use crate::rig::{case, proxy, run};

/// The location that asks for the page of a status.
fn page(name: &str, status: u16, ingress: &str) -> String {
    format!(
        "location @{name}{status} {{ internal; proxy_intercept_errors off; proxy_set_header X-Code {status};
           proxy_set_header X-Format $http_accept; proxy_set_header X-Original-URI $request_uri;
           proxy_set_header X-Namespace default; proxy_set_header X-Ingress-Name {ingress};
           proxy_set_header X-Service-Name web; proxy_set_header X-Service-Port 80;
           proxy_set_header X-Request-ID $req_id; proxy_set_header X-Forwarded-For $remote_addr;
           proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Host $http_host;
           proxy_set_header X-Forwarded-Port $server_port; proxy_set_header X-Forwarded-Proto $scheme;
           proxy_set_header X-Forwarded-Scheme $scheme; proxy_set_header X-Scheme $scheme;
           proxy_set_header Host $http_host; proxy_http_version 1.1; proxy_set_header Connection \"\";
           rewrite (.*) / break; proxy_pass http://origin; }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_of_the_backend() {
    let host = "pages.example";
    let location = format!(
        "{} {} location / {{ proxy_intercept_errors on; error_page 404 = @p404; error_page 503 = @p503; {} }}",
        page("p", 404, "pages"),
        page("p", 503, "pages"),
        proxy(&[])
    );
    let mut found = case("pages")
        .manifests(ingress(
            "pages",
            host,
            "/",
            "web",
            &[("custom-http-errors", "404,503"), ("default-backend", "web")],
        ))
        .server(host, &location)
        .any_body();
    for (status, accept) in
        [("404", "text/html"), ("503", "application/json"), ("500", "*/*"), ("200", "*/*")]
    {
        let answer = format!("status={status}");
        found = found.with("GET", host, "/x?y=z", &[("X-Answer", &answer), ("Accept", accept)], "");
    }
    run(vec![found]).await;
}
