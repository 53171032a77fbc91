//! The values for WSO2's chart: keys that the chart has, and a gateway that finds weir by them.

use std::collections::BTreeMap;

use serde_json::Value;
use weir::config::{Config, Source, parse};

use super::configs::config;
use super::manifests::{Manifests, list};
use super::{read, root};

fn chart_keys() -> Vec<String> {
    let text = read("tests/tidy/deploy/chart-keys.txt");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Dotted paths of the leaves; lists are leaves.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, &format!("{path}{dot}{key}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// The part of deployment.toml that the chart's template makes of `throttling`, word for word in what matters: each of
/// `urls` becomes three addresses.
fn deployment_toml(values: &Value) -> String {
    let throttling = &values["wso2"]["apim"]["configurations"]["throttling"];
    let offset = throttling["portOffset"].as_u64().unwrap();
    let urls: Vec<&str> = list(&throttling["urls"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let brokers: Vec<String> = urls
        .iter()
        .map(|url| format!("\"tcp://{url}:{}\"", 5672 + offset))
        .collect();
    let mut text = format!(
        "[super_admin]\nusername = \"admin\"\npassword = \"admin\"\n[apim.throttling]\n\
         username= \"$ref{{super_admin.username}}\"\npassword= \"$ref{{super_admin.password}}\"\n\
         throttle_decision_endpoints = [{}]\n",
        brokers.join(",")
    );
    for url in urls {
        let (events, logins) = (9611 + offset, 9711 + offset);
        text += &format!(
            "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://{url}:{events}\"]\n\
             traffic_manager_auth_urls = [\"ssl://{url}:{logins}\"]\ntype = \"loadbalance\"\n"
        );
    }
    text
}

/// The gateway's file as another weir reads it, in a pod with this address.
fn gateway(values: &Value, pod: &str) -> Config {
    let source = Source {
        weir_toml: Some(("weir.toml".into(), "[decisions]\n".into())),
        deployment_toml: Some(("deployment.toml".into(), deployment_toml(values))),
        env: BTreeMap::from([("NODE_IP".to_owned(), pod.to_owned())]),
        ..Source::default()
    };
    let (config, _) = parse(&source).unwrap_or_else(|problems| panic!("{problems}"));
    config
}

const SHAPES: [(&str, &str, &str); 2] = [
    (
        "helm/tier-values.yaml",
        "kubernetes/tier/weir.toml",
        "weir.weir.svc.cluster.local",
    ),
    ("helm/sidecar-values.yaml", "helm/sidecar/weir.toml", "10.1.2.3"),
];

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn every_value_is_one_that_the_chart_has() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    let known = chart_keys();
    let version = "4.7.0-1";
    assert!(
        read("tests/tidy/deploy/chart-keys.txt")
            .lines()
            .next()
            .unwrap()
            .contains(version)
    );
    for (file, _, _) in SHAPES {
        let mut found = Vec::new();
        leaves(manifests.one(file), "", &mut found);
        assert!(found.len() > 1, "{file}");
        for key in found {
            assert!(known.contains(&key), "{file}: the chart has no {key}");
        }
        assert!(
            read(format!("deploy/{file}")).contains(version),
            "{file} does not say for which chart"
        );
    }
}

#[test]
#[ignore = "nightly: needs the schemas of Kubernetes"]
fn a_gateway_with_these_values_finds_all_three_ports_of_weir_there() {
    let Some(manifests) = Manifests::read() else {
        return;
    };
    for (file, toml, host) in SHAPES {
        let gateway = gateway(manifests.one(file), "10.1.2.3");
        let weir = config(&root().join("deploy").join(toml));
        assert_eq!(gateway.groups.len(), 1, "{file}: weir does the fan-out");
        let endpoint = &gateway.groups[0].endpoints[0];
        assert_eq!(
            (endpoint.data.host.as_str(), endpoint.auth.host.as_str()),
            (host, host)
        );
        assert_eq!(
            Some(endpoint.data.port),
            weir.ingress.tcp.map(|a| a.port()),
            "{file}"
        );
        assert_eq!(
            Some(endpoint.auth.port),
            weir.ingress.tls.map(|a| a.port()),
            "{file}"
        );
        // The trap: the same entry moves the decisions.
        let brokers = gateway.decisions.unwrap().brokers;
        let listen = weir.decisions.unwrap().listen.unwrap();
        assert_eq!(brokers.len(), 1);
        assert_eq!(
            (brokers[0].host.as_str(), brokers[0].port),
            (host, listen.port()),
            "{file}"
        );
    }
}

#[test]
fn the_chart_has_no_value_for_a_container_so_the_sidecar_needs_a_renderer() {
    let containers = chart_keys().into_iter().find(|key| {
        let key = key.to_lowercase();
        key.contains("container") || key.contains("sidecar")
    });
    assert_eq!(
        containers, None,
        "then the book and deploy/helm/sidecar can be simpler"
    );
}
