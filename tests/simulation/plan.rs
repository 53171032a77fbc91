//! A seed → what a run is made of. Each kind of fault is in or out of a whole run, so that runs differ in kind
//! and not only in order.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use weir::config::{Config, Source, parse};
use weir_lab::Sizes;

use crate::chaos::Fault;

/// Where gateways connect.
pub const WEIR: &str = "weir:9611";

/// The name of the group that comes and goes.
pub const GUEST: &str = "guest";

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub workers: usize,
    pub settings: Settings,
    pub groups: Vec<GroupPlan>,
    pub sizes: Sizes,
    pub loads: Vec<LoadPlan>,
    pub chaos: Duration,
    pub faults: Vec<Fault>,
    /// Between two faults, on average.
    pub pace: Duration,
}

#[derive(Debug, Clone)]
pub struct GroupPlan {
    pub name: String,
    pub loadbalance: bool,
    /// `host:port`, those in use; the last may be left out by a reload.
    pub endpoints: Vec<String>,
    pub spare: Option<String>,
}

#[derive(Debug, Clone)]
pub struct LoadPlan {
    pub connections: u32,
    pub events_per_frame: u64,
    pub window: usize,
    pub rate: f64,
    /// Gateways with WSO2's agent, which makes its own frames; else friendly publishers, which have larger ones, and
    /// several in flight.
    pub agent: bool,
}

/// What a reload may change.
#[derive(Debug, Clone)]
pub struct Settings {
    pub ack_delivered: bool,
    pub guest: bool,
    pub top: String,
    pub listen: String,
    pub session_ttl: &'static str,
    pub queue: String,
    pub link: String,
    /// As in `queue`; `None` = never.
    pub block_timeout: Option<Duration>,
    /// As in `link`.
    pub linger: Duration,
    /// Promise 2's words: never drops but at the end.
    pub strict: bool,
}

fn pick<T: Clone>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())].clone()
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let random = &mut random;
        let groups: Vec<GroupPlan> = (0..random.usize(1..=3))
            .map(|g| {
                let names = |i: usize| format!("tm{g}{i}:9611");
                let endpoints: Vec<String> = (0..random.usize(1..=3)).map(names).collect();
                GroupPlan {
                    name: format!("group{g}"),
                    loadbalance: random.bool(),
                    spare: random.bool().then(|| names(endpoints.len())),
                    endpoints,
                }
            })
            .collect();
        let chaos = Duration::from_millis(random.u64(3_000..25_000));
        let loads = random.u64(1..=2);
        let events = random.u64(150..1_500);
        let rate = events as f64 / chaos.as_secs_f64() / loads as f64;
        let loads = (0_u64..loads)
            .map(|n| LoadPlan {
                connections: random.u32(1..=5),
                events_per_frame: pick(random, &[1, 1, 2, 7, 30]),
                window: pick(random, &[1, 1, 4, 16]),
                rate,
                agent: (seed + n).is_multiple_of(2),
            })
            .collect();
        let mut faults = Fault::ALL.to_vec();
        let density = pick(random, &[0.08, 0.2, 0.5]);
        faults.retain(|_| random.f64() < density);
        let faults_per_run = random.u64(3..25);
        Self {
            seed,
            workers: pick(random, &[1, 1, 2]),
            settings: Settings::draw(random),
            groups,
            sizes: pick(
                random,
                &[
                    Sizes::Typical,
                    Sizes::Typical,
                    Sizes::Edges(800),
                    Sizes::Edges(1200),
                ],
            ),
            loads,
            chaos,
            faults,
            pace: chaos / u32::try_from(faults_per_run).unwrap(),
        }
    }

    /// Events nearly always linger, in one load-balanced group whose links come and go.
    pub fn lingering(seed: u64) -> Self {
        let plan = Self::new(seed);
        let endpoints = vec!["tm00:9611".into(), "tm01:9611".into()];
        Self {
            workers: 1,
            settings: Settings {
                ack_delivered: false,
                guest: false,
                link: "linger = \"200ms\"\nheartbeat = \"off\"\nbackoff_min = \"1s\"\n".into(),
                linger: Duration::from_millis(200),
                ..plan.settings.calm()
            },
            groups: vec![GroupPlan {
                name: "group0".into(),
                loadbalance: true,
                endpoints,
                spare: None,
            }],
            loads: vec![LoadPlan {
                connections: 1,
                // As many as have all of `linger`.
                events_per_frame: 5,
                window: 1,
                rate: 40.0,
                agent: false,
            }],
            faults: vec![Fault::Disable, Fault::KillFin, Fault::KillRst],
            pace: Duration::from_millis(500),
            ..plan
        }
    }

    /// Every endpoint that may ever be used, with its group's index.
    pub fn hosts(&self) -> Vec<(String, usize)> {
        let core = self.groups.iter().enumerate();
        let mut hosts: Vec<(String, usize)> = core
            .flat_map(|(i, g)| g.endpoints.iter().chain(&g.spare).map(move |e| (e.clone(), i)))
            .collect();
        hosts.push(("guest0:9611".into(), self.groups.len()));
        hosts
    }

    pub fn config(&self, groups: &[GroupPlan], settings: &Settings) -> Arc<Config> {
        let mut blocks = String::new();
        let guest = GroupPlan {
            name: GUEST.into(),
            loadbalance: false,
            endpoints: vec!["guest0:9611".into()],
            spare: None,
        };
        for group in groups.iter().chain(settings.guest.then_some(&guest)) {
            let urls: Vec<String> = group.endpoints.iter().map(|e| format!("\"tcp://{e}\"")).collect();
            let (urls, policy) = (
                urls.join(", "),
                if group.loadbalance {
                    "loadbalance"
                } else {
                    "failover"
                },
            );
            let _ = write!(
                blocks,
                "[[apim.throttling.url_group]]\nname = \"{}\"\ntype = \"{policy}\"\n\
                 traffic_manager_urls = [{urls}]\ntraffic_manager_auth_urls = [{urls}]\n",
                group.name
            );
        }
        let ack = if settings.ack_delivered {
            "delivered"
        } else {
            "accepted"
        };
        let text = format!(
            "workers = {}\nack = \"{ack}\"\n{}\n[apim.throttling]\nusername = \"admin\"\npassword = \"admin\"\n{blocks}\n\
             [listen]\ntcp = \"127.0.0.1:9611\"\ntls = \"off\"\n{}\n[auth]\nallow_plaintext_login = true\nsession_ttl = \"{}\"\n\
             [queue]\n{}\n[link]\n{}\n[admin]\nlisten = \"off\"\n",
            self.workers, settings.top, settings.listen, settings.session_ttl, settings.queue, settings.link
        );
        let source = Source {
            weir_toml: Some(("weir.toml".into(), text)),
            ..Source::default()
        };
        let (config, _) = parse(&source).unwrap_or_else(|problems| panic!("seed {}: {problems}", self.seed));
        Arc::new(config)
    }
}

impl Settings {
    pub fn draw(random: &mut Rng) -> Self {
        let block_timeout = pick(random, &[None, Some(0), Some(200), Some(1000), Some(1000)]);
        let block = block_timeout.map_or("never".to_owned(), |ms| format!("{ms}ms"));
        let unavailable = pick(random, &["never", "500ms", "2s", "5s"]);
        let max_age = random.u8(..8) == 0;
        let age = if max_age {
            pick(random, &["2s", "6s", "15s"])
        } else {
            "off"
        };
        let queue = format!(
            "max_events = {}\nmax_bytes = \"{}\"\nblock_timeout = \"{block}\"\nshed = \"{}\"\n\
             unavailable_after = \"{unavailable}\"\nmax_age = \"{age}\"\n",
            pick(random, &[20, 60, 200, 1000, 100_000]),
            pick(random, &["300KiB", "300KiB", "1MiB", "256MiB"]),
            pick(random, &["oldest", "newest"]),
        );
        let heartbeat = match random.u8(..3) {
            0 => "\"off\"".to_owned(),
            _ => format!("{{ delay = {}, timeout_factor = 2.0 }}", random.u8(1..10)),
        };
        let backoff = random.u32(5..100);
        let linger;
        let link = format!(
            "connect_timeout = \"{}ms\"\nlogin_timeout = \"{}ms\"\nreply_timeout = \"{}ms\"\nbackoff_min = \"{backoff}ms\"\n\
             backoff_max = \"{}ms\"\nlinger = \"{}ms\"\nbatch_max_bytes = {}\nwindow_frames = {}\nheartbeat = {heartbeat}\n\
             failback_after = \"{}ms\"\n",
            random.u32(200..2000),
            random.u32(200..2000),
            random.u32(300..5000),
            backoff + random.u32(0..1500),
            {
                linger = pick(random, &[0, 2, 10, 20]);
                linger
            },
            pick(random, &[1024, 5_000, 20_000, 131_072]),
            pick(random, &[1, 2, 8, 32]),
            random.u32(0..4000),
        );
        let idle = pick(random, &["never", "never", "3s"]);
        let listen = format!(
            "frame_max_bytes = \"128KiB\"\nevent_max_bytes = \"64KiB\"\nreply_timeout = \"{}ms\"\nframe_timeout = \"{}ms\"\nidle_timeout = \"{idle}\"\n",
            pick(random, &[1000, 5000, 25_000]),
            random.u32(1000..8000),
        );
        Self {
            ack_delivered: random.u8(..3) == 0,
            guest: random.u8(..3) == 0,
            top: format!("drain_timeout = \"{}ms\"", random.u32(500..8000)),
            listen,
            session_ttl: pick(random, &["60s", "1d"]),
            queue,
            link,
            block_timeout: block_timeout.map(Duration::from_millis),
            linger: Duration::from_millis(linger),
            strict: block == "never" && unavailable == "never" && !max_age,
        }
    }

    /// As they are, but without a limit of age and with room for everything.
    pub fn calm(&self) -> Self {
        Self {
            queue: "block_timeout = \"1s\"\n".into(),
            block_timeout: Some(Duration::from_secs(1)),
            top: "drain_timeout = \"20s\"".into(),
            ..self.clone()
        }
    }
}
