//! Does the page of `examples/page` show each key what is its own, in a real Chromium, by keys alone, in light and dark?

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Browser, Gateway, Key, Page, Setup};

use crate::envoy_lines::{MANAGER, part};
use crate::requests::{BATCH, WEB_SHOP};

/// How often a page is looked at until it shows something.
const LOOKS: usize = 600;

/// WCAG 2.2, 1.4.3: text has at least so much contrast to what is behind it.
const CONTRAST_MIN: f64 = 4.5;

const FILES: [(&str, &str); 3] =
    [("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")];

/// The example's part, where it says.
fn with_page(envoy: &mut Value) {
    let text = fs::read_to_string(workspace().join("examples/page/envoy.yaml")).unwrap();
    let here = workspace().join("examples/page");
    let text = text.replace("/etc/envoy/page", here.to_str().unwrap());
    let fragment: Value = serde_yaml_ng::from_str(&text).unwrap();
    let routes = part(part(envoy, MANAGER), "/route_config");
    routes["max_direct_response_body_size_bytes"] = fragment["max_direct_response_body_size_bytes"].clone();
    let first = part(routes, "/virtual_hosts/0/routes").as_array_mut().unwrap();
    first.splice(0..0, fragment["routes"].as_array().unwrap().clone());
}

async fn start() -> Gateway {
    let operator = |config: &mut Value| {
        config["clients"][0]["operator"] = json!(true);
        // What is used of it is not there again while a test runs.
        config["clients"][0]["limits"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "requests": 100, "per": "month" }));
    };
    Gateway::start(Setup::new().workers(1).edit(operator).patch(with_page)).await.unwrap()
}

async fn open(gateway: &Gateway) -> (Browser, Page) {
    let browser = Browser::open(&format!("{}/tollgate/", gateway.url())).await.unwrap();
    let mut page = browser.page().await.unwrap();
    until(&mut page, "document.activeElement?.id === 'key'").await;
    (browser, page)
}

/// Waits until an expression holds.
async fn until(page: &mut Page, expression: &str) {
    for _ in 0..LOOKS {
        if page.see(expression).await.unwrap() == json!(true) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = page.see("document.body.innerText").await.unwrap();
    panic!("in vain: {expression}\n{}", text.as_str().unwrap());
}

/// Shows a key to the page, and waits until it has all that it asks for.
async fn enter(page: &mut Page, key: &str) {
    page.write(key).await.unwrap();
    page.press(Key::Enter).await.unwrap();
    done(page).await;
}

/// Waits until the page does nothing any more.
async fn done(page: &mut Page) {
    until(page, "![...document.querySelectorAll('button')].some((button) => button.disabled)").await;
}

/// The text of an element.
async fn text(page: &mut Page, id: &str) -> String {
    let text = page.see(&format!("document.getElementById('{id}').innerText")).await.unwrap();
    text.as_str().unwrap().to_owned()
}

async fn tab_to(page: &mut Page, selector: &str) {
    for _ in 0..12 {
        if page.see(&format!("document.activeElement.matches('{selector}')")).await.unwrap() == json!(true) {
            return;
        }
        page.press(Key::Tab).await.unwrap();
        let seen = "getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(page.see(seen).await.unwrap(), "solid", "the focus is not to be seen");
    }
    panic!("no key leads to {selector}");
}

#[tokio::test]
async fn the_page_shows_an_operator_limits_backends_and_reasons() {
    let gateway = start().await;
    let (_browser, mut page) = open(&gateway).await;
    enter(&mut page, WEB_SHOP).await;
    until(&mut page, "!document.getElementById('all').hidden").await;
    assert_eq!(text(&mut page, "said").await, "You are web-shop.");
    let limits = text(&mut page, "limits").await;
    assert!(limits.contains("tokens per minute\tall\t0 of 100,000"), "{limits}");
    assert!(limits.contains("requests per month\tall\t0 of 100"), "{limits}");
    let models = text(&mut page, "models").await;
    for line in ["gpt-4o\t\t\thealthy", "ptu\tswedencentral\thealthy", "text-embedding-3-small\t\t\thealthy"]
    {
        assert!(models.contains(line), "{line}: {models}");
    }
    assert!(text(&mut page, "runs").await.starts_with("Tollgate "));
    // By keys alone.
    tab_to(&mut page, "#try button").await;
    page.press(Key::Enter).await.unwrap();
    done(&mut page).await;
    assert_eq!(page.see("document.getElementById('outcome').hidden").await.unwrap(), false);
    let verdict = text(&mut page, "verdict").await;
    assert!(verdict.starts_with("200 in ") && verdict.contains(" tokens"), "{verdict}");
    assert!(!text(&mut page, "answer").await.is_empty());
    assert!(text(&mut page, "decision").await.contains("ptu\tasked: 200"));
    assert_eq!(gateway.mock("ptu").received().len(), 1);
    until(&mut page, "document.getElementById('limits').innerText.includes('\\t1 of 100')").await;
    // Nothing of the key is left where others would find it.
    let kept =
        "location.href + JSON.stringify(sessionStorage) + JSON.stringify(localStorage) + document.cookie";
    assert!(!page.see(kept).await.unwrap().as_str().unwrap().contains(WEB_SHOP));
    // Nor does who comes back to the page find it.
    page.see("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))").await.unwrap();
    assert_eq!(page.see("document.getElementById('all').hidden").await.unwrap(), true);
    assert_eq!(page.see("document.getElementById('key').value").await.unwrap(), "");
}

#[tokio::test]
async fn the_page_tells_a_client_its_own_and_a_stranger_nothing() {
    let gateway = start().await;
    let (_browser, mut page) = open(&gateway).await;
    enter(&mut page, "nobody").await;
    until(&mut page, "document.getElementById('said').className === 'bad'").await;
    let said = text(&mut page, "said").await;
    assert!(said.contains("key"), "{said}");
    assert_eq!(page.see("document.getElementById('all').hidden").await.unwrap(), true);
    page.see("document.getElementById('key').select()").await.unwrap();
    enter(&mut page, BATCH).await;
    until(&mut page, "!document.getElementById('all').hidden").await;
    let limits = text(&mut page, "limits").await;
    assert!(limits.contains("tokens per minute\tall\t0 of 1,000"), "{limits}");
    let models = text(&mut page, "models").await;
    assert!(models.contains("gpt-35-turbo-instruct\t\t\thealthy") && !models.contains("ptu"), "{models}");
    assert_eq!(page.see("document.getElementById('runs').hidden").await.unwrap(), true);
    // What its policy refuses, it is told in the sentence of the refusal.
    page.see("document.getElementById('most').value = '1000'").await.unwrap();
    page.see("document.querySelector('#try button').click()").await.unwrap();
    until(&mut page, "!document.getElementById('outcome').hidden").await;
    let verdict = text(&mut page, "verdict").await;
    assert!(verdict.starts_with("400 in "), "{verdict}");
    let answer = text(&mut page, "answer").await;
    assert!(answer.contains("max_tokens"), "{answer}");
    assert_eq!(page.see("document.getElementById('why').hidden").await.unwrap(), true);
}

#[tokio::test]
async fn the_page_can_be_read_in_the_light_and_in_the_dark() {
    let gateway = start().await;
    let (_browser, mut page) = open(&gateway).await;
    let mut grounds = Vec::new();
    enter(&mut page, WEB_SHOP).await;
    until(&mut page, "!document.getElementById('all').hidden").await;
    page.see("document.querySelector('#try button').click()").await.unwrap();
    until(&mut page, "!document.getElementById('outcome').hidden").await;
    for scheme in ["light", "dark"] {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        page.order("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await.unwrap();
        grounds.push(page.see("getComputedStyle(document.body).backgroundColor").await.unwrap());
        let found = page.see(CONTRASTS).await.unwrap();
        let found = found.as_array().unwrap();
        assert!(found.len() > 20, "{found:?}");
        for one in found {
            assert!(one["contrast"].as_f64().unwrap() >= CONTRAST_MIN, "{scheme}: {one}");
        }
    }
    assert_ne!(grounds[0], grounds[1]);
    // Nor is anything cut off where it is narrow.
    let narrow = json!({ "width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": false });
    page.order("Emulation.setDeviceMetricsOverride", narrow).await.unwrap();
    assert_eq!(page.see("document.documentElement.scrollWidth <= innerWidth").await.unwrap(), true);
}

/// Of each element with a text of its own: that, and its contrast to the nearest ground behind it.
const CONTRASTS: &str = r#"(() => {
  const rgb = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => {
    const parts = rgb(color).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return (rgb(color)[3] ?? 1) === 0 ? ground(element.parentElement) : color;
  };
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body, body *")]
    .filter((element) => element.offsetParent && (own(element) || element.value))
    .map((element) => {
      const pair = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
      return { text: element.innerText || element.value, contrast: (pair[0] + 0.05) / (pair[1] + 0.05) };
    });
})()"#;

#[tokio::test]
async fn the_page_is_small_and_all_else_stays_the_gateways() {
    let gateway = start().await;
    let get = async |path: &str| gateway.http().get(format!("{}{path}", gateway.url())).send().await.unwrap();
    let mut size = 0;
    for (file, kind) in FILES {
        let answer = get(&format!("/tollgate/{file}")).await;
        assert_eq!(answer.status(), 200, "{file}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), format!("{kind}; charset=utf-8"), "{file}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{file}");
        if file.is_empty() {
            assert!(header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
        }
        let body = answer.text().await.unwrap();
        // Nothing of it comes from elsewhere.
        assert!(!body.contains("//cdn") && !body.contains("http:") && !body.contains("https:"), "{file}");
        size += body.len();
    }
    assert!(size <= 200 * 1024, "{size}");
    for (path, status) in
        [("/tollgate", 404), ("/tollgate/page", 404), ("/tollgate/v1/usage", 401), ("/tollgate/config", 401)]
    {
        assert_eq!(get(path).await.status(), status, "{path}");
    }
    let posted = gateway.http().post(format!("{}/tollgate/", gateway.url())).send().await.unwrap();
    assert_eq!(posted.status(), 404);
}
