//! What are the images of docker-compose.yml, on a machine that can pull none?

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tollgate_tests::harness::engine::StandIn;
use tollgate_tests::harness::tools::{self, workspace};

/// This machine's Redis, or the one that the harness has unpacked.
struct RedisParts {
    programs: Vec<(PathBuf, &'static str)>,
    libraries: Vec<(PathBuf, &'static str)>,
}

impl RedisParts {
    fn find() -> Self {
        let server = tools::redis().unwrap();
        let tree = server.with_file_name("tree/usr");
        let programs = if tree.is_dir() { tree.join("bin") } else { server.parent().unwrap().to_owned() };
        let kinds = fs::read_dir(tree.join("lib")).into_iter().flatten().map(|kind| kind.unwrap().path());
        let kinds = kinds.filter(|kind| kind.to_str().unwrap().ends_with("-linux-gnu"));
        Self {
            programs: [("redis-server", "/bin/redis-server"), ("redis-cli", "/bin/redis-cli")]
                .map(|(name, place)| (programs.join(name), place))
                .into(),
            libraries: kinds.map(|kind| (kind, "/redis")).collect(),
        }
    }
}

/// What our own image says of itself.
fn told(dockerfile: &str) -> Vec<String> {
    let dockerfile = fs::read_to_string(workspace().join(dockerfile)).unwrap();
    let last_stage = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last_stage.contains(":nonroot\n"), "{last_stage}");
    let told =
        last_stage.lines().filter(|line| line.starts_with("EXPOSE ") || line.starts_with("ENTRYPOINT "));
    told.map(str::to_owned).chain(["USER 65532".to_owned()]).collect()
}

/// Each image that the compose file names, with what it relies on in the real one: who it runs as, what it starts, what its
/// health is asked with.
pub fn stand_ins(configuration: &Value) -> [StandIn; 6] {
    let name = |service: &str| configuration["services"][service]["image"].as_str().unwrap().to_owned();
    let tree = tools::container_packages().unwrap();
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| tree.join(path));
    let busybox = (busybox.into_iter().find(|path| path.is_file()).unwrap(), "/bin/busybox");
    let bash = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("bash"))
        .find(|path| path.is_file())
        .expect("bash");
    let envoy = tools::envoy().unwrap();
    let redis = RedisParts::find();
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    [
        StandIn {
            name: name("envoy"),
            programs: vec![(envoy, "/usr/local/bin/envoy"), (bash, "/bin/bash")],
            dockerfile: lines(&["USER 101"]),
            ..StandIn::default()
        },
        StandIn {
            name: name("ptu"),
            programs: vec![(env!("CARGO_BIN_EXE_mock").into(), "/mock")],
            dockerfile: told("tests/Dockerfile"),
            ..StandIn::default()
        },
        StandIn {
            name: name("worker"),
            programs: vec![(tools::tool().unwrap(), "/tollgate")],
            dockerfile: told("filter/cli/Dockerfile"),
            ..StandIn::default()
        },
        StandIn {
            name: name("redis"),
            programs: redis.programs,
            directories: redis.libraries,
            shared: vec!["/data"],
            dockerfile: lines(&["ENV LD_LIBRARY_PATH=/redis", "USER 999", "WORKDIR /data"]),
            ..StandIn::default()
        },
        StandIn {
            name: name("prometheus"),
            programs: vec![(tools::prometheus().unwrap(), "/bin/prometheus"), busybox.clone()],
            applets: vec!["/bin/wget"],
            shared: vec!["/prometheus"],
            dockerfile: lines(&[
                "USER 65534",
                "WORKDIR /prometheus",
                r#"ENTRYPOINT ["/bin/prometheus"]"#,
                r#"CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]"#,
            ]),
            ..StandIn::default()
        },
        StandIn {
            name: name("grafana"),
            programs: vec![busybox],
            applets: vec!["/bin/wget", "/bin/sh", "/bin/find", "/bin/cat"],
            files: vec![("/www/api/health", "{}")],
            dockerfile: lines(&[
                "USER 472",
                r#"ENTRYPOINT ["/bin/busybox", "httpd", "-f", "-p", "3000", "-h", "/www"]"#,
            ]),
            ..StandIn::default()
        },
    ]
}
