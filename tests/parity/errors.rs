//! Error pages of a default backend.

use ingress_tests::manifests::{ingress, settings};

use crate::rig::{case, proxy, run_with};

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
    let basic = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: pages-users}\nstringData:\n  auth: |\n    \
                 user:$apr1$Vy7bAIIE$QWY09URiq4Rk6RJrcarNI.\n";
    let own =
        |name: &'static str, service: &str, status: u16, annotations: &[(&str, &str)], directives: &str| {
            let host = format!("{name}.example");
            let codes = status.to_string();
            let pages = [("custom-http-errors", codes.as_str()), ("default-backend", "web")];
            let error = format!("error_page {status} = @{name}{status};");
            case(name)
                .manifests(ingress(name, &host, "/", service, &[&pages[..], annotations].concat()))
                .server(
                    &host,
                    &format!(
                        "{} location / {{ proxy_intercept_errors on; {error} {directives} {} }}",
                        page(name, status, name)
                            .replace("X-Service-Name web", &format!("X-Service-Name {service}")),
                        proxy(&[(
                            "http://origin",
                            if service == "dead" { "http://dead" } else { "http://origin" }
                        )])
                    ),
                )
                .any_body()
                .with(
                    "GET",
                    &host,
                    "/x?y=z",
                    &[("X-Answer", "status=418|X-Page: 1"), ("Accept", "text/html")],
                    "",
                )
                .with("HEAD", &host, "/x", &[("X-Answer", "status=418")], "")
        };
    let cases = vec![
        found,
        own(
            "page-list",
            "web",
            403,
            &[("whitelist-source-range", "198.18.0.0/15")],
            "allow 198.18.0.0/15; deny all;",
        ),
        own(
            "page-auth",
            "web",
            401,
            &[("auth-type", "basic"), ("auth-secret", "pages-users"), ("auth-realm", "r")],
            "auth_basic r; auth_basic_user_file @dir@/htpasswd; proxy_set_header Authorization '';",
        )
        .manifests(basic),
        own("page-dead", "dead", 502, &[], "").with("GET", "page-dead.example", "/", &[], ""),
        own("page-cors", "web", 404, &[("enable-cors", "true")], "more_set_headers 'Access-Control-Allow-Origin: *' 'Access-Control-Allow-Credentials: true'
               'Access-Control-Allow-Methods: GET, PUT, POST, DELETE, PATCH, OPTIONS'
               'Access-Control-Allow-Headers: DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization'
               'Access-Control-Max-Age: 1728000';")
            .with(
                "GET",
                "page-cors.example",
                "/x",
                &[("X-Answer", "status=404"), ("Origin", "https://a.example")],
                "",
            ),
    ];
    // A page over TLS has HSTS, which is a difference of its own.
    let cases = cases.into_iter().map(|case| case.twice("tls.example")).collect();
    run_with(&settings(&[("hsts", "false")]), "", cases).await;
}
