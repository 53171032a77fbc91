//! What kustomize makes of the overlays, where kubectl is: all of it valid, and weir where it belongs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::manifests::{list, python, script};
use super::{root, there};

/// Kustomize is in kubectl; what the overlays use came with 1.27 or before.
fn kubectl() -> bool {
    let found = there("kubectl", "--help") && {
        let output = Command::new("kubectl")
            .args(["version", "--client"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("Kustomize Version: v5")
    };
    if !found {
        eprintln!("skipped: no kubectl with kustomize 5 to render the overlays");
    }
    found
}

/// Renders, and has the result judged; gives its documents.
fn rendered(python: &Path, folder: &Path, version: &str) -> Vec<Value> {
    let output = Command::new("kubectl")
        .arg("kustomize")
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    judged(python, &output.stdout, version)
}

fn judged(python: &Path, yaml: &[u8], version: &str) -> Vec<Value> {
    let home = tempfile::TempDir::new().unwrap();
    let file = home.path().join("all.yaml");
    std::fs::write(&file, yaml).unwrap();
    let paths = [file];
    let (ok, said) = script(python, &["validate", version], &paths);
    assert!(ok, "{said}");
    let (ok, text) = script(python, &["json"], &paths);
    assert!(ok, "{text}");
    let all: Value = serde_json::from_str(&text).unwrap();
    all.as_object()
        .unwrap()
        .values()
        .flat_map(list)
        .cloned()
        .collect()
}

fn kinds(documents: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = documents.iter().filter_map(|d| d["kind"].as_str()).collect();
    kinds.sort_unstable();
    kinds
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|d| d["kind"] == kind).unwrap()
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn the_tier_renders_with_its_own_image_count_and_configuration() {
    let (Some(python), true) = (python(), kubectl()) else {
        return;
    };
    let folder = root().join("deploy/kubernetes/examples/tier");
    let all = rendered(&python, &folder, "1.30");
    assert_eq!(
        kinds(&all),
        [
            "ConfigMap",
            "Deployment",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "PodMonitor",
            "Service",
            "Service"
        ]
    );
    let deployment = of_kind(&all, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 3);
    let weir = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(weir["image"], "registry.example.com/weir:0.1.0");
    let config = of_kind(&all, "ConfigMap");
    assert_eq!(config["metadata"]["name"], "weir", "a new content is no new name");
    let own = std::fs::read_to_string(folder.join("weir.toml")).unwrap();
    assert_eq!(config["data"]["weir.toml"], own);
    // The rule for gateways is theirs: no label of weir's has got into it.
    let from = &of_kind(&all, "NetworkPolicy")["spec"]["ingress"][0]["from"][0];
    assert_eq!(
        from["podSelector"]["matchLabels"],
        serde_json::json!({"product": "apim"})
    );
    rendered(&python, &root().join("deploy/kubernetes/tier"), "1.30");
}

fn sidecar(all: &[Value], place: &str) {
    let pod = &of_kind(all, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(
        list(&pod[place]).iter().filter(|c| c["name"] == "weir").count(),
        1,
        "{place}"
    );
    let gateway = list(&pod["containers"]).iter().find(|c| c["name"] == "gateway");
    assert!(
        gateway.unwrap()["lifecycle"]["preStop"].is_object(),
        "the gateway is what it was"
    );
    let volumes: Vec<&Value> = list(&pod["volumes"]).iter().map(|v| &v["name"]).collect();
    for mount in list(&pod[place]).iter().flat_map(|c| list(&c["volumeMounts"])) {
        assert!(volumes.contains(&&mount["name"]), "{mount}");
    }
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn the_sidecars_render_beside_the_gateway_and_leave_it_alone() {
    let (Some(python), true) = (python(), kubectl()) else {
        return;
    };
    for (shape, version, place) in [
        ("native", "1.29", "initContainers"),
        ("classic", "1.25", "containers"),
    ] {
        let folder = root().join(format!("deploy/kubernetes/examples/gateway-{shape}"));
        let all = rendered(&python, &folder, version);
        assert_eq!(kinds(&all), ["ConfigMap", "Deployment", "PodMonitor"]);
        sidecar(&all, place);
    }
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn the_post_renderer_puts_weir_into_what_a_chart_rendered() {
    let (Some(python), true) = (python(), kubectl()) else {
        return;
    };
    // A copy: it writes what it reads next to itself.
    let home = tempfile::TempDir::new().unwrap();
    for part in ["helm/sidecar", "kubernetes/sidecar-native"] {
        let to = home.path().join(part);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(root().join("deploy").join(part)).unwrap() {
            let from: PathBuf = entry.unwrap().path();
            std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
    }
    let chart = root().join("deploy/kubernetes/examples/gateway-native/gateway.yaml");
    let output = Command::new(home.path().join("helm/sidecar/post-render.sh"))
        .stdin(std::fs::File::open(chart).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    let all = judged(&python, &output.stdout, "1.29");
    assert_eq!(kinds(&all), ["ConfigMap", "Deployment"]);
    sidecar(&all, "initContainers");
}
