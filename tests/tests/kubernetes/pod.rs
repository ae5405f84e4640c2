//! Does a real Envoy serve as the Deployment starts it, and does it end when its last stream has?

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::harness::tools::{self, envoy, helm};
use tollgate_tests::mock::{Mock, Settings};

use crate::{folder, one, resources, stdout, template};

/// More than anything takes here: whoever waits longer waits for what does not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until it is so.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asked = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The pod's container as a process: its files are below this folder, and its ports are free ones.
struct Pod {
    ports: Vec<(&'static str, TcpSocket)>,
    dir: tempfile::TempDir,
    container: Value,
}

impl Pod {
    fn new(envoy_yaml: &Path) -> Self {
        let envoy = format!("envoyYaml={}", envoy_yaml.display());
        let resources = resources(&template(&["--set-file", &envoy, "--set", "drainSeconds=1"]));
        // Bound and never listening: nobody else is given them.
        let ports = ["10000", "9901", "9902"].map(|port| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            (port, socket)
        });
        let dir = tempfile::tempdir().unwrap();
        let container = one(&resources, "Deployment")["spec"]["template"]["spec"]["containers"][0].clone();
        let pod = Self { ports: ports.into(), dir, container };
        for folder in ["config", "module"] {
            fs::create_dir(pod.dir.path().join(folder)).unwrap();
        }
        for (name, text) in one(&resources, "ConfigMap")["data"].as_object().unwrap() {
            fs::write(pod.dir.path().join("config").join(name), pod.here(text.as_str().unwrap())).unwrap();
        }
        fs::copy(tools::wasm().unwrap(), pod.dir.path().join("module/plugin.wasm")).unwrap();
        pod
    }

    fn port(&self, port: &str) -> u16 {
        self.ports.iter().find(|(name, _)| *name == port).unwrap().1.local_addr().unwrap().port()
    }

    /// A text of the pod's, as it is here.
    fn here(&self, text: &str) -> String {
        let mut text =
            text.replace("/etc/tollgate", self.dir.path().to_str().unwrap()).replace("0.0.0.0", "127.0.0.1");
        for (name, _) in &self.ports {
            let (listens, asks) = (format!("port_value: {name}"), format!("127.0.0.1/{name}"));
            text = text.replace(&listens, &format!("port_value: {}", self.port(name)));
            text = text.replace(&asks, &format!("127.0.0.1/{}", self.port(name)));
        }
        text
    }

    fn words(&self, list: &Value) -> Vec<String> {
        list.as_array().unwrap().iter().map(|word| self.here(word.as_str().unwrap())).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_serves_and_ends_after_its_last_stream() {
    if let Err(why) = helm() {
        return tools::skip("a_pod_serves_and_ends_after_its_last_stream", &why);
    }
    let held =
        Settings { hold_after_events: Some(1), require_key: Some("a-key".into()), ..Settings::default() };
    let mock = Mock::start("ptu", held).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let gateway = fs::read_to_string(folder().join("chart/files/gateway.yaml")).unwrap();
    let leads = format!("address: 127.0.0.1, port: {}, tls: false }}", mock.addr().port());
    fs::write(
        dir.path().join("gateway.yaml"),
        gateway.replace("address: example-ptu.openai.azure.com }", &leads),
    )
    .unwrap();
    let mut render = Command::new(tools::tool().unwrap());
    let rendered = stdout(render.args(["render", "gateway.yaml"]).current_dir(dir.path()));
    fs::write(dir.path().join("envoy.yaml"), rendered).unwrap();

    let pod = Pod::new(&dir.path().join("envoy.yaml"));
    let log = fs::File::create(pod.dir.path().join("log")).unwrap();
    let mut command = Command::new(envoy().unwrap());
    command.args(pod.words(&pod.container["args"])).env("PTU_KEY", "a-key").env("PAYG_KEY", "another");
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let mut process = Leashed::spawn(&mut command).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let beside = format!("http://127.0.0.1:{}", pod.port("9902"));
    let get = |path: &str| http.get(format!("{beside}{path}")).send();
    eventually("ready", || async { get("/ready").await.ok().filter(|answer| answer.status() == 200) }).await;

    // The port of the kubelet and of Prometheus shows nothing else, and stops nothing.
    assert!(get("/stats/prometheus").await.unwrap().text().await.unwrap().contains("envoy_server_live"));
    for path in ["/config_dump", "/stats", "/quitquitquit"] {
        assert_eq!(get(path).await.unwrap().status(), 404, "{path}");
    }
    assert_eq!(http.post(format!("{beside}/ready")).send().await.unwrap().status(), 404);

    let asked =
        json!({ "model": "gpt-4o", "stream": true, "messages": [ { "role": "user", "content": "hello" } ] });
    let chats = format!("http://127.0.0.1:{}/v1/chat/completions", pod.port("10000"));
    let mut stream = http.post(chats).bearer_auth("demo-team").json(&asked).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let mut text = stream.chunk().await.unwrap().unwrap().to_vec();

    // What Kubernetes runs before it sends a signal; it tells each of its steps.
    let told = pod.dir.path().join("told");
    let words = pod.words(&pod.container["lifecycle"]["preStop"]["exec"]["command"]);
    let mut drain = Command::new(&words[0]);
    drain.arg("-x").args(&words[1..]).stdout(Stdio::null()).stderr(fs::File::create(&told).unwrap());
    let mut drain = Leashed::spawn(&mut drain).unwrap();
    eventually("nobody is let in", || async {
        TcpStream::connect(("127.0.0.1", pod.port("10000"))).await.is_err().then_some(())
    })
    .await;
    let asks = || fs::read_to_string(&told).unwrap().matches("+ admin GET").count();
    let before = asks();
    eventually("it waits", || async { (asks() >= before + 2).then_some(()) }).await;
    assert!(drain.ended().unwrap().is_none() && process.ended().unwrap().is_none(), "a stream is under way");
    mock.release();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        text.extend(chunk);
    }
    assert!(String::from_utf8(text).unwrap().ends_with("data: [DONE]\n\n"), "the stream was broken off");
    let status = tokio::task::spawn_blocking(|| drain.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}
