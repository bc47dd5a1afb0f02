//! `rewrite-target` with and without groups.

use ingress_tests::manifests::ingress_with;

use crate::rig::{Case, case, run};

fn rewrite(name: &'static str, path: &str, target: &str, requests: &[&str]) -> Case {
    let host = format!("{name}.example");
    let kind = (path, "ImplementationSpecific");
    let location = format!(
        "location ~* \"^{path}\" {{ rewrite \"(?i){path}\" {target} break; @proxy@ }} location / {{ return 404; }}"
    );
    let mut found = case(name)
        .manifests(ingress_with(name, &host, kind, "web", &[("rewrite-target", target)]))
        .server(&host, &location);
    for request in requests {
        found = found.get(&host, request);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_and_queries() {
    run(vec![
        rewrite(
            "tail",
            "/something(/|$)(.*)",
            "/$2",
            &[
                "/something",
                "/something/",
                "/something/new",
                "/something/a/b?c=d",
                "/SOMETHING/x",
                "/somethingx",
                "/other",
            ],
        ),
        rewrite("fixed", "/api", "/", &["/api", "/api/v1/users?x=1", "/apix"]),
        rewrite("prefix", "/v1/(.*)", "/internal/$1", &["/v1/", "/v1/a", "/v1/a%20b", "/v1/%E4", "/v1?q"]),
        rewrite("two", "/(a|b)/([0-9]+)", "/$2/$1", &["/a/12", "/b/3/tail", "/c/1", "/a/x"]),
        rewrite("query", "/q/(.*)", "/s?p=$1", &["/q/x", "/q/x?y=1"]),
        rewrite("missing", "/m/(.*)", "/n/$1$3", &["/m/x"]),
        rewrite("whole", "/(.*)", "/app/$1", &["/", "/x/y", "/app/x"]),
        rewrite("nested", "/a/b/(.*)", "/$1/x", &["/a/b/c", "/a/b/", "/A/B/c?q"]),
        rewrite("dot", "/v[.]1/(.*)", "/$1", &["/v.1/x", "/vx1/x"]),
        rewrite("choice", "/(?:old|older)/(.*)", "/new/$1", &["/old/a", "/older/a", "/oldest/a"]),
        rewrite("digits", "/u/([0-9]+)(/.*)?", "/users/$1$2", &["/u/7", "/u/7/posts", "/u/x"]),
        rewrite("encoded", "/e/(.*)", "/f/$1", &["/e/a%2Bb", "/e/%C3%A4", "/e/a+b;c=d"]),
        rewrite("args", "/q/(.*)", "/s?p=$1&z=1", &["/q/a%20b", "/q/a%26b?y=1", "/q/", "/q/x?"]),
        rewrite("dots", "/d/(.*)", "/e/$1", &["/d/a.b", "/d/a/./b", "/d/x/../y", "/d//a"]),
        rewrite(
            "signs",
            "/z/(.*)",
            "/y/$1",
            &["/z/a%25b", "/z/a%3Fb", "/z/a%23", "/z/%E4%B8%AD", "/z/a%22b", "/z/a~b!'()*"],
        ),
        rewrite("dollar", "/end$", "/done", &["/end", "/end/x"]),
    ])
    .await;
}
