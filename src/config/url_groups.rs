//! Url groups, from `[[apim.throttling.url_group]]` tables or from the strings `receiver_url` and
//! `receiver_auth_url`.

use super::given::Given;
use super::problem::{Bad, Place};
use super::raw::Section;
use super::receiver_url::{self, UrlGroup};
use super::{Endpoint, Policy, Scheme, Url, values};

/// A url group as it was found.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) policy: Policy,
    pub(super) endpoints: Vec<Endpoint>,
    /// Where each endpoint's data URL stands.
    pub(super) places: Vec<Place>,
    /// Where its auth URL does; the data URL where there is none.
    pub(super) auth_places: Vec<Place>,
    /// Where the group stands.
    pub(super) place: Option<Place>,
    /// Full path of what defines it.
    pub(super) key: String,
}

/// One `[[apim.throttling.url_group]]`.
pub(super) fn from_table(index: usize, table: &Section<'_>) -> Found {
    let name = table.read("name", format!("group{}", index + 1), group_name);
    let policy = table.read("type", Policy::Failover, |given| {
        let text = given.text()?;
        let policy = policy(&text);
        if policy == Policy::Failover && !text.trim().eq_ignore_ascii_case("failover") {
            let message = format!("{} is taken as failover, as WSO2 does", given.quote());
            table.warning("type", &message, "write \"loadbalance\" or \"failover\"");
        }
        Ok(policy)
    });
    let data = table.array("traffic_manager_urls");
    let auth = table.array("traffic_manager_auth_urls");
    table.finish_leniently();
    match &data {
        None => table.missing(
            "traffic_manager_urls",
            "is missing",
            "write traffic_manager_urls = [\"tcp://HOST:9611\"]",
        ),
        Some(urls) if urls.is_empty() => {
            table.problem(
                "traffic_manager_urls",
                "names no Traffic Manager",
                "write [\"tcp://HOST:9611\"]",
            );
        }
        Some(_) => {}
    }
    let data = data.unwrap_or_default();
    if let Some(auth) = auth
        .as_ref()
        .filter(|auth| !data.is_empty() && auth.len() != data.len())
    {
        let message = format!("has {} for {}", many(auth.len()), many(data.len()));
        table.problem("traffic_manager_auth_urls", message, DROP_AUTH);
    }
    let pairs: Vec<_> = data
        .iter()
        .enumerate()
        .map(|(n, url)| (url, auth.as_ref().map(|a| a.get(n))))
        .collect();
    let mut found = Found {
        name,
        policy,
        endpoints: Vec::new(),
        places: Vec::new(),
        auth_places: Vec::new(),
        place: table.own_place(),
        key: table.path.clone(),
    };
    for (data_given, auth_given) in pairs {
        let data = url(table, data_given);
        let auth = match auth_given {
            None | Some(None) => data
                .as_ref()
                .and_then(|data| hundred_above(table, data_given, data)),
            Some(Some(given)) => url(table, given),
        };
        if let (Some(data), Some(auth)) = (data, auth) {
            let auth_place = auth_given
                .flatten()
                .map_or(&data_given.place, |given| &given.place);
            found.push(data, auth, [&data_given.place, auth_place]);
        }
    }
    found
}

/// WSO2's rule: `loadbalance` is that, anything else failover.
fn policy(text: &str) -> Policy {
    if text.trim().eq_ignore_ascii_case("loadbalance") {
        Policy::Loadbalance
    } else {
        Policy::Failover
    }
}

/// Names go into metrics and into paths of the admin port.
fn group_name(given: &Given) -> Result<String, Bad> {
    let text = given.text()?;
    let sound = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if text.is_empty() || text.len() > 64 || !sound {
        let message = format!("{} is not a valid group name", given.quote());
        return Err(Bad::new(
            message,
            "use up to 64 letters, digits, dots, dashes, underscores",
        ));
    }
    Ok(text)
}

/// Groups from `receiver_url`; they win over url_group tables.
pub(super) fn from_strings(section: &Section<'_>, data: &Given) -> Vec<Found> {
    let auth = section.given("receiver_auth_url");
    let no_auth = !section.has("receiver_auth_url");
    let (data_text, auth_text) = (
        string(section, data),
        auth.as_ref().and_then(|a| string(section, a)),
    );
    let Some(data_groups) = data_text.as_deref().and_then(|text| groups(section, data, text)) else {
        return Vec::new();
    };
    let auth_groups = match (&auth, &auth_text) {
        (Some(given), Some(text)) => groups(section, given, text),
        _ => None,
    };
    if let (Some(auth_groups), Some(given)) = (&auth_groups, &auth) {
        agree(section, given, &data_groups, auth_groups);
    }
    let mut all = Vec::new();
    for (n, group) in data_groups.iter().enumerate() {
        let mut found = Found {
            name: format!("group{}", n + 1),
            policy: group.policy,
            endpoints: Vec::new(),
            places: Vec::new(),
            auth_places: Vec::new(),
            place: Some(data.place.clone()),
            key: data.key.clone(),
        };
        let auth_urls = auth_groups
            .as_ref()
            .and_then(|groups| groups.get(n))
            .map(|group| &group.urls);
        for (m, text) in group.urls.iter().enumerate() {
            let Some(data_url) = noted(section, data, values::url(data, text)) else {
                continue;
            };
            let auth_url = match (no_auth, auth_urls.and_then(|urls| urls.get(m)), &auth) {
                (true, ..) => hundred_above(section, data, &data_url),
                (false, Some(text), Some(given)) => noted(section, given, values::url(given, text)),
                _ => None,
            };
            if let Some(auth_url) = auth_url {
                let auth_place = auth.as_ref().map_or(&data.place, |given| &given.place);
                found.push(data_url, auth_url, [&data.place, auth_place]);
            }
        }
        all.push(found);
    }
    all
}

const DROP_AUTH: &str = "give every data URL its auth URL, or leave them all out (the port + 100, ssl://)";

/// As many groups, of the same kind, with as many URLs.
fn agree(section: &Section<'_>, given: &Given, data: &[UrlGroup<'_>], auth: &[UrlGroup<'_>]) {
    let complain = |message: String, hint: &str| {
        section
            .context
            .problem(Some(&given.place), &given.key, Bad::new(message, hint));
    };
    if data.len() != auth.len() {
        complain(
            format!("has {} groups, receiver_url has {}", auth.len(), data.len()),
            DROP_AUTH,
        );
        return;
    }
    for (n, (data, auth)) in data.iter().zip(auth).enumerate() {
        let n = n + 1;
        if data.urls.len() != auth.urls.len() {
            complain(
                format!(
                    "group {n} has {} for {}",
                    many(auth.urls.len()),
                    many(data.urls.len())
                ),
                DROP_AUTH,
            );
        } else if data.policy != auth.policy {
            let message = format!("group {n} is not of the same kind as in receiver_url");
            complain(
                message,
                "use the same sign in both: comma = loadbalance, bar = failover",
            );
        }
    }
}

fn groups<'t>(section: &Section<'_>, given: &Given, text: &'t str) -> Option<Vec<UrlGroup<'t>>> {
    noted(section, given, receiver_url::parse(text))
}

fn string(section: &Section<'_>, given: &Given) -> Option<String> {
    noted(section, given, given.text())
}

fn url(section: &Section<'_>, given: &Given) -> Option<Url> {
    let text = string(section, given)?;
    if text.contains([',', '|']) {
        let bad = Bad::new(
            "holds more than one URL",
            "one URL in each string: [\"tcp://a:9611\", \"tcp://b:9611\"]",
        );
        return noted(section, given, Err(bad));
    }
    noted(section, given, values::url(given, &text))
}

/// The login URL that goes with a data URL: port + 100, TLS.
fn hundred_above(section: &Section<'_>, given: &Given, data: &Url) -> Option<Url> {
    let port = data.port.checked_add(100).ok_or_else(|| {
        Bad::new(
            format!("port {} leaves no room for the login port (+ 100)", data.port),
            "write the auth URL out",
        )
    });
    Some(Url {
        scheme: Scheme::Ssl,
        host: data.host.clone(),
        port: noted(section, given, port)?,
    })
}

fn noted<T>(section: &Section<'_>, given: &Given, result: Result<T, Bad>) -> Option<T> {
    result
        .map_err(|bad| section.context.problem(Some(&given.place), &given.key, bad))
        .ok()
}

fn many(urls: usize) -> String {
    let s = if urls == 1 { "" } else { "s" };
    format!("{urls} URL{s}")
}

impl Found {
    fn push(&mut self, data: Url, auth: Url, [data_place, auth_place]: [&Place; 2]) {
        let mut name = Url::to_string(&data);
        if let Some((_, bare)) = name.split_once("://") {
            name = bare.to_owned();
        }
        self.endpoints.push(Endpoint { name, data, auth });
        self.places.push(data_place.clone());
        self.auth_places.push(auth_place.clone());
    }
}
