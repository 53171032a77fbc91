//! The Dockerfile, as far as it can be judged without building it: bases, ports, user, paths, and what the build is given.
//! tests/image/check builds and runs it.

use weir::config::keys;

use super::{read, root};

/// The arguments of every line that begins with this instruction, continued lines joined.
fn instructions(name: &str) -> Vec<String> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let begin = format!("{name} ");
    let found = text.lines().filter_map(|line| line.strip_prefix(&begin));
    found
        .map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn the_image_exposes_the_ports_that_weir_listens_on_by_default() {
    let default = |path: &str| {
        let keys = keys();
        let key = keys.iter().find(|key| key.path == path).unwrap();
        let port = key.default.unwrap().trim_matches('"').rsplit(':').next().unwrap();
        port.to_owned()
    };
    let exposed = instructions("EXPOSE").join(" ");
    let ports: Vec<String> = ["listen.tcp", "listen.tls", "decisions.listen", "admin.listen"]
        .iter()
        .map(|path| default(path))
        .collect();
    assert_eq!(exposed, ports.join(" "));
}

#[test]
fn the_image_says_its_version_and_runs_without_rights() {
    let version = format!("VERSION={}", env!("CARGO_PKG_VERSION"));
    assert!(instructions("ARG").contains(&version), "ARG {version}");
    assert_eq!(instructions("USER"), ["65532:65532"]);
    assert_eq!(instructions("ENTRYPOINT"), ["[\"/usr/local/bin/weir\"]"]);
    // As PID 1: it keeps the ports open while weir is started again, passes signals on, and reaps.
    assert_eq!(instructions("CMD").last().unwrap(), "[\"supervise\"]");
    for manifest in ["tier/deployment.yaml", "sidecar-native/patch.yaml"] {
        let text = read(format!("deploy/kubernetes/{manifest}"));
        assert!(
            text.contains(&format!("image: weir:{}", env!("CARGO_PKG_VERSION"))),
            "{manifest}"
        );
    }
}

#[test]
fn the_base_images_are_pinned_by_digest_or_by_their_narrowest_tag() {
    let from = instructions("FROM");
    let bases: Vec<&str> = from
        .iter()
        .map(|words| words.split(' ').next().unwrap())
        .collect();
    let [build, last] = bases[..] else {
        panic!("two stages: {bases:?}")
    };
    let tag = build.strip_prefix("rust:").unwrap();
    let toolchain = tag.split_once("-slim-bookworm").expect("Debian 12, slim").0;
    let numbers = |version: &str| -> Vec<u32> { version.split('.').map(|n| n.parse().unwrap()).collect() };
    assert_eq!(numbers(toolchain).len(), 3, "a release, not a series: {build}");
    assert!(
        numbers(toolchain) >= numbers(env!("CARGO_PKG_RUST_VERSION")),
        "{build}"
    );
    // It has no tags by release.
    assert!(
        last.starts_with("gcr.io/distroless/cc-debian12:nonroot"),
        "{last}"
    );
    let label = format!("org.opencontainers.image.base.name=\"{last}\"");
    assert!(instructions("LABEL").join(" ").contains(&label), "{label}");
}

#[test]
fn the_build_is_given_every_file_that_it_needs() {
    let ignore = read(".dockerignore");
    let given: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignore.lines().any(|line| line == "*"), "nothing else");
    for path in &given {
        assert!(root().join(path).exists(), "{path}");
    }
    // What the manifest and the sources name outside of src.
    for wanted in ["Cargo.toml", "Cargo.lock", "src", "lab", "benches", "LICENSE"] {
        assert!(given.contains(&wanted), "{wanted} is not given to the build");
    }
    let built = super::files("src", ".rs").into_iter();
    for file in built.filter(|file| !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for rest in text.split("include_str!(\"").skip(1) {
            let name = rest.split('"').next().unwrap();
            let there = file.parent().unwrap().join(name).canonicalize().unwrap();
            let below = there.strip_prefix(root()).unwrap();
            let first = below.components().next().unwrap().as_os_str();
            assert!(given.iter().any(|g| first == *g), "{}: {name}", file.display());
        }
    }
}
