//! Does Kubernetes know every word?

use std::fs;
use std::path::Path;
use std::process::Command;

use tollgate_tests::harness::tools::{self, helm, kubectl, kubernetes_schemas, workspace};

use crate::chart::all;
use crate::{folder, resources, stdout, template};

/// The first that knows volumes which are images, as the chart says, and the newest.
const VERSIONS: [&str; 2] = ["1.33", "1.37"];

/// What is none of Kubernetes' own: each has the schema of its own project.
const OTHERS: [&str; 4] =
    ["gateway.networking.k8s.io", "gateway.envoyproxy.io", "networking.istio.io", "monitoring.coreos.com"];

/// What Kubernetes has against the resources that are its own, at that version; and how many those are.
fn faults(text: &str, version: &str) -> (String, usize) {
    let own = resources(text).into_iter().filter(|resource| {
        let group = resource["apiVersion"].as_str().unwrap().split('/').next().unwrap();
        !OTHERS.contains(&group)
    });
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = own
        .enumerate()
        .map(|(at, resource)| {
            let file = dir.path().join(format!("{at}.yaml"));
            fs::write(&file, resource.to_string()).unwrap();
            file
        })
        .collect();
    let mut validate = Command::new(kubernetes_schemas().unwrap());
    validate.args(["-m", "kubernetes_validate", "--strict", "-k", version]).args(&files);
    let output = validate.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.matches(" passed ").count() <= files.len(), "{said}");
    let bad = said.lines().filter(|line| !line.contains(" passed ")).collect::<Vec<_>>().join("\n");
    assert_eq!(bad.is_empty(), output.status.success(), "{said}");
    (bad, said.matches(" passed ").count())
}

fn kustomized(folder: &Path) -> String {
    stdout(Command::new(kubectl().unwrap()).arg("kustomize").arg(folder))
}

#[test]
fn kubernetes_knows_every_word_of_its_resources() {
    if let Err(why) = helm().and_then(|_| kubernetes_schemas()) {
        return tools::skip("kubernetes_knows_every_word_of_its_resources", &why);
    }
    let examples = workspace().join("examples");
    let texts = [
        (template(&[]), 5),
        (template(&all()), 6),
        (kustomized(&folder()), 5),
        (kustomized(&examples.join("istio")), 3),
        (kustomized(&examples.join("envoy-gateway")), 1),
    ];
    for version in VERSIONS {
        for (text, number) in &texts {
            assert_eq!(faults(text, version), (String::new(), *number), "{version}: {text}");
        }
        let wrong = texts[0].0.replace("periodSeconds: 1\n", "periodsSeconds: 1\n");
        assert!(faults(&wrong, version).0.contains("periodsSeconds"), "{version}");
    }
    // Before that there are no such volumes, which the chart says of itself.
    assert!(faults(&texts[0].0, "1.30").0.contains("image"));
    let old = |more: &[&str]| {
        let mut old = Command::new(helm().unwrap());
        old.args(["template", "tollgate", "chart", "--kube-version", "1.32.0"])
            .args(more)
            .current_dir(folder());
        old.output().unwrap()
    };
    let refused = old(&[]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("expected module.volume"));
    let served = old(&["--set", "module.volume.persistentVolumeClaim.claimName=module"]);
    assert!(served.status.success(), "{}", String::from_utf8_lossy(&served.stderr));
}
