//! The manifests: valid for the oldest Kubernetes that each shape is for and for a new one, hardened, and of one mind
//! with weir.toml about ports, times and sizes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::configs::{DIRECTORIES, config};
use super::manifests::{Manifests, list, script, weirs};
use super::{read, root};

const NEWEST: &str = "1.37";

/// A pod, the configuration that its weir reads, and the oldest Kubernetes that it is for.
const SHAPES: [(&str, &str, &str); 3] = [
    (
        "kubernetes/tier/deployment.yaml",
        "kubernetes/tier/weir.toml",
        "1.30",
    ),
    (
        "kubernetes/sidecar-native/patch.yaml",
        "kubernetes/examples/gateway-native/weir.toml",
        "1.29",
    ),
    (
        "kubernetes/sidecar-classic/patch.yaml",
        "kubernetes/examples/gateway-classic/weir.toml",
        "1.25",
    ),
];

fn path(below_deploy: &str) -> PathBuf {
    root().join("deploy").join(below_deploy)
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn every_manifest_is_valid_for_the_oldest_kubernetes_it_is_for_and_for_a_new_one() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    let mut judged: Vec<(PathBuf, &str)> = SHAPES
        .iter()
        .map(|(file, _, oldest)| (path(file), *oldest))
        .collect();
    for name in ["services", "disruption", "network"] {
        judged.push((path(&format!("kubernetes/tier/{name}.yaml")), "1.25"));
    }
    for name in ["native", "classic"] {
        judged.push((
            path(&format!("kubernetes/examples/gateway-{name}/gateway.yaml")),
            "1.25",
        ));
    }
    for version in ["1.25", "1.29", "1.30", NEWEST] {
        let of = |(file, oldest): &(PathBuf, &str)| {
            (version == NEWEST || *oldest == version).then(|| file.clone())
        };
        let paths: Vec<PathBuf> = judged.iter().filter_map(of).collect();
        let (ok, said) = script(&manifests.python, &["validate", version], &paths);
        assert!(ok, "{version}: {said}");
        // Services are two in one file.
        let last = said
            .lines()
            .last()
            .and_then(|line| line.split(' ').next()?.parse().ok());
        assert!(last >= Some(paths.len()), "{version}: {said}");
    }
    // Nothing is left out: every file with a kind of Kubernetes' own is in the list.
    for (name, document) in manifests.all() {
        let own = ["Kustomization", "Component", "PodMonitor"];
        let kind = document["kind"].as_str();
        if kind.is_some_and(|kind| !own.contains(&kind)) {
            assert!(
                judged.iter().any(|(file, _)| *file == path(name)),
                "{name} is not judged"
            );
        }
    }
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn the_schemas_know_what_an_old_kubernetes_does_not() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    for (file, what) in [
        (SHAPES[0].0, "'sleep' was unexpected"),
        (SHAPES[1].0, "'restartPolicy' was unexpected"),
    ] {
        let (ok, said) = script(&manifests.python, &["validate", "1.25"], &[path(file)]);
        assert!(!ok && said.contains(what), "{said}");
    }
}

/// Port names of weir's containers, and what weir.toml says of them.
fn ports(toml: &str) -> [(&'static str, Option<SocketAddr>); 4] {
    let config = config(&path(toml));
    let decisions = config.decisions.and_then(|d| d.listen);
    [
        ("events", config.ingress.tcp),
        ("logins", config.ingress.tls),
        ("decisions", decisions),
        ("admin", config.admin.map(|a| a.listen)),
    ]
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn every_port_of_a_manifest_is_one_where_weir_listens() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    for (file, toml, _) in SHAPES {
        let listening = ports(toml);
        for container in weirs(manifests.one(file)) {
            let named = list(&container["ports"]);
            assert!(!named.is_empty(), "{file}");
            for port in named {
                let (_, address) = listening.iter().find(|(name, _)| port["name"] == *name).unwrap();
                let number = address.map(|a| u64::from(a.port()));
                assert_eq!(port["containerPort"].as_u64(), number, "{file}: {port}");
                assert!(
                    address.unwrap().ip().is_unspecified(),
                    "{file}: {port}: from outside the pod"
                );
            }
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                let Some(http) = container[probe].get("httpGet") else {
                    continue;
                };
                assert_eq!(http["port"], "admin", "{file}: {probe}");
                let paths = if probe == "livenessProbe" {
                    "/livez"
                } else {
                    "/readyz"
                };
                assert_eq!(http["path"], paths, "{file}: {probe}");
            }
        }
    }
    let tier = ports(SHAPES[0].1);
    for (file, service) in manifests.of_kind("Service") {
        for port in list(&service["spec"]["ports"]) {
            let (_, address) = tier.iter().find(|(name, _)| port["targetPort"] == *name).unwrap();
            assert_eq!(
                port["port"].as_u64(),
                address.map(|a| u64::from(a.port())),
                "{file}: {port}"
            );
        }
    }
    let policy = manifests.one("kubernetes/tier/network.yaml");
    for rule in list(&policy["spec"]["ingress"]) {
        for port in list(&rule["ports"]) {
            assert!(tier.iter().any(|(name, _)| port["port"] == *name), "{port}");
        }
    }
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn a_pod_has_time_to_drain_and_room_for_its_queue() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    for (file, toml, _) in SHAPES {
        let deployment = manifests.one(file);
        let config = config(&path(toml));
        let pod = &deployment["spec"]["template"]["spec"];
        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
        let [weir] = weirs(deployment)[..] else {
            panic!("{file}: one weir")
        };
        let before = &weir["lifecycle"]["preStop"];
        let slept = before["sleep"]["seconds"]
            .as_u64()
            .or_else(|| before["exec"]["command"][2].as_str()?.parse().ok());
        let needed = Duration::from_secs(slept.unwrap_or(0)) + config.drain_timeout + Duration::from_secs(10);
        assert!(grace >= needed, "{file}: {grace:?} is less than {needed:?}");
        let limit = weir["resources"]["limits"]["memory"].as_str().unwrap();
        let limit: u64 = limit.strip_suffix("Mi").unwrap().parse().unwrap();
        let queue = config
            .groups
            .iter()
            .map(|g| g.queue.bytes_max as u64)
            .max()
            .unwrap();
        assert!(
            limit << 20 >= queue * 2,
            "{file}: {limit} MiB for a queue of {queue} bytes"
        );
    }
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn every_variable_that_a_configuration_names_is_a_mounted_directory_of_its_pod() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    for (file, toml, _) in SHAPES {
        let [weir] = weirs(manifests.one(file))[..] else {
            panic!("{file}: one weir")
        };
        let text = read(path(toml));
        let named = DIRECTORIES
            .iter()
            .filter(|name| text.contains(&format!("$env{{{name}}}")));
        for name in named.chain(&["WEIR_SECRETS_DIR"]) {
            let variable = list(&weir["env"]).iter().find(|v| v["name"] == *name);
            let directory = &variable.unwrap_or_else(|| panic!("{file}: no {name}"))["value"];
            let mounts = list(&weir["volumeMounts"]);
            assert!(
                mounts.iter().any(|m| m["mountPath"] == *directory),
                "{file}: {name}"
            );
        }
    }
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn every_weir_is_as_restricted_as_the_restricted_standard_wants() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    let mut seen = 0;
    for (file, deployment) in manifests.of_kind("Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        let all = list(&pod["containers"])
            .iter()
            .chain(list(&pod["initContainers"]));
        for container in all.filter(|c| c["name"].as_str().is_some_and(|name| name.starts_with("weir"))) {
            seen += 1;
            let own = &container["securityContext"];
            // The pod's, where the pod is weir's own.
            let either = |key: &str| own.get(key).or_else(|| pod["securityContext"].get(key)).cloned();
            assert_eq!(either("runAsNonRoot"), Some(json!(true)), "{file}");
            assert_eq!(
                either("runAsUser"),
                Some(json!(65532)),
                "{file}: the user of the image"
            );
            assert_eq!(
                either("seccompProfile"),
                Some(json!({"type": "RuntimeDefault"})),
                "{file}"
            );
            assert_eq!(own["allowPrivilegeEscalation"], false, "{file}");
            assert_eq!(own["readOnlyRootFilesystem"], true, "{file}");
            assert_eq!(own["capabilities"], json!({"drop": ["ALL"]}), "{file}");
            for mount in list(&container["volumeMounts"]) {
                assert!(
                    mount.get("subPath").is_none(),
                    "{file}: {mount}: would never change"
                );
            }
        }
    }
    assert_eq!(seen, 4);
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn the_selectors_meet_the_labels() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    let labels = &manifests.one(SHAPES[0].0)["spec"]["template"]["metadata"]["labels"];
    let meets = |selector: &Value| {
        let selector = selector.as_object().unwrap();
        !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
    };
    for (file, document) in manifests
        .all()
        .filter(|(file, _)| file.starts_with("kubernetes/tier/"))
    {
        let spec = &document["spec"];
        let selector = match document["kind"].as_str() {
            Some("Service") => &spec["selector"],
            Some("NetworkPolicy") => &spec["podSelector"]["matchLabels"],
            Some("Deployment" | "PodDisruptionBudget") => &spec["selector"]["matchLabels"],
            _ => continue,
        };
        assert!(meets(selector), "{file}: {selector}");
    }
    let monitor = manifests.one("kubernetes/monitoring/podmonitor.yaml");
    let selector = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    for (file, _, _) in SHAPES {
        let labels = &manifests.one(file)["spec"]["template"]["metadata"]["labels"];
        assert!(
            selector.iter().all(|(key, value)| labels[key] == *value),
            "{file} is not scraped"
        );
    }
}

/// What the operator's API reference (monitoring.coreos.com/v1) documents; not all of it.
const ENDPOINT_FIELDS: [&str; 8] = [
    "port",
    "path",
    "scheme",
    "interval",
    "scrapeTimeout",
    "honorLabels",
    "relabelings",
    "metricRelabelings",
];

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn the_pod_monitor_has_fields_that_the_operator_knows_and_a_port_that_is_there() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    let monitor = manifests.one("kubernetes/monitoring/podmonitor.yaml");
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    let spec: Vec<&String> = monitor["spec"].as_object().unwrap().keys().collect();
    assert_eq!(spec, ["podMetricsEndpoints", "selector"]);
    let endpoints = list(&monitor["spec"]["podMetricsEndpoints"]);
    assert_eq!(endpoints.len(), 1);
    for (field, value) in endpoints[0].as_object().unwrap() {
        assert!(ENDPOINT_FIELDS.contains(&field.as_str()), "{field}: {value}");
    }
    assert_eq!(endpoints[0]["path"], "/metrics");
    for (file, _, _) in SHAPES {
        let [weir] = weirs(manifests.one(file))[..] else {
            panic!("{file}")
        };
        assert!(
            list(&weir["ports"])
                .iter()
                .any(|port| port["name"] == endpoints[0]["port"]),
            "{file}"
        );
    }
}
