//! A real browser: Chromium, headless, driven over WebDriver (W3C). Elements are found as a person
//! finds them: by the text of a button or the label of a field.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::wait_for;

/// The key under which WebDriver passes references to elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One browser at a time: each takes a core of its own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How the page is to be looked at.
#[derive(Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub scheme: &'static str,
}

pub const DESK: Look = Look { width: 1280, height: 900, scheme: "light" };

pub struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts a browser. Fails the test when there is none: `tests/run` installs it.
    #[track_caller]
    pub fn start() -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("install chromium and chromium-driver; tests/run does");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                let line = line.ok()?;
                let (_, port) = line.split_once("successfully on port ")?;
                port.trim_end_matches('.').parse::<u16>().ok()
            })
            .expect("chromedriver says on which port it listens");
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let mut browser = Self {
            driver,
            agent: config.into(),
            session: format!("http://127.0.0.1:{port}/session"),
            _turn: turn,
        };
        let arguments = [
            "--headless=new",
            // Tests may run as root, and in containers with a small /dev/shm.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let created = browser.send("", &capabilities);
        let id = created["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("{}/{id}", browser.session);
        browser.look(DESK);
        browser.devtools(
            "Browser.grantPermissions",
            json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}),
        );
        browser
    }

    fn try_send(&self, path: &str, body: &Value) -> Result<Value, String> {
        let request = self.agent.post(format!("{}{path}", self.session));
        let sent = request.header("Content-Type", "application/json").send(body.to_string());
        let text = sent.and_then(|mut answer| answer.body_mut().read_to_string());
        let text = text.map_err(|error| error.to_string())?;
        let value = serde_json::from_str::<Value>(&text).map_err(|error| error.to_string())?;
        match value["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", value["value"]["message"])),
            None => Ok(value["value"].clone()),
        }
    }

    #[track_caller]
    fn send(&self, path: &str, body: &Value) -> Value {
        self.try_send(path, body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let answer = self.agent.get(format!("{}{path}", self.session)).call();
        let text = answer.and_then(|mut answer| answer.body_mut().read_to_string()).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["value"].clone()
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.send("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Sets the size of the window and the colour scheme that the system prefers.
    pub fn look(&self, look: Look) {
        let Look { width, height, scheme } = look;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    #[track_caller]
    pub fn go(&self, url: &str) {
        self.send("/url", &json!({"url": url}));
    }

    /// The tab that commands go to.
    pub fn tab(&self) -> String {
        self.get("/window").as_str().unwrap().to_owned()
    }

    /// Opens another tab, which commands do not go to yet.
    #[track_caller]
    pub fn open_tab(&self) -> String {
        let tab = self.send("/window/new", &json!({"type": "tab"}));
        tab["handle"].as_str().unwrap().to_owned()
    }

    /// Has commands go to `tab`.
    #[track_caller]
    pub fn switch_to(&self, tab: &str) {
        self.send("/window", &json!({"handle": tab}));
    }

    pub fn url(&self) -> String {
        self.get("/url").as_str().unwrap().to_owned()
    }

    /// What the function body `script` returns; promises are waited for.
    #[track_caller]
    pub fn script(&self, script: &str) -> Value {
        self.send("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text that can be seen on the page.
    pub fn text(&self) -> String {
        self.script("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows `text`.
    #[track_caller]
    pub fn see(&self, text: &str) {
        self.wait(&format!("the page shows {text:?}"), || self.text().contains(text));
    }

    #[track_caller]
    pub fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        if wait_for(|| condition().then_some(())).is_none() {
            let console = self.send("/se/log", &json!({"type": "browser"}));
            panic!("waited in vain until {what}; at {}:\n{}\n{console:#}", self.url(), self.text());
        }
    }

    /// Waits for the element that an XPath finds.
    #[track_caller]
    fn find(&self, xpath: &str) -> String {
        let by = json!({"using": "xpath", "value": xpath});
        let mut found = None;
        self.wait(&format!("there is {xpath}"), || {
            let element = self.try_send("/element", &by).ok();
            found = element.and_then(|it| it[ELEMENT].as_str().map(str::to_owned));
            found.is_some()
        });
        found.unwrap()
    }

    /// Clicks the button or link of this text, in a dialog when one is open.
    #[track_caller]
    pub fn click(&self, text: &str) {
        self.click_named(text, &format!("[normalize-space()='{text}' or @aria-label='{text}']"));
    }

    /// The same, by how its text begins.
    #[track_caller]
    pub fn click_beginning(&self, text: &str) {
        self.click_named(text, &format!("[starts-with(normalize-space(), '{text}')]"));
    }

    #[track_caller]
    fn click_named(&self, text: &str, named: &str) {
        let place = "[ancestor::dialog or not(//dialog)]";
        let xpath = format!("(//button{named}{place}|//a{named}{place}|//summary{named}{place})");
        self.wait(&format!("{text:?} can be clicked"), || {
            let element = self.find(&xpath);
            self.try_send(&format!("/element/{element}/click"), &json!({})).is_ok()
        });
    }

    /// Follows the first link in the content whose address ends with `address`.
    #[track_caller]
    pub fn follow(&self, address: &str) {
        let end = address.len();
        let place = format!("substring(@href, string-length(@href) - {end} + 1) = '{address}'");
        self.wait(&format!("a link to {address} can be followed"), || {
            let element = self.find(&format!("//main//a[{place}]"));
            self.try_send(&format!("/element/{element}/click"), &json!({})).is_ok()
        });
    }

    /// Types into the field with this label, after what is there.
    #[track_caller]
    pub fn type_into(&self, label: &str, text: &str) {
        let element = self.field(label);
        self.send(&format!("/element/{element}/value"), &json!({"text": text}));
    }

    /// Makes `text` the content of the field with this label.
    #[track_caller]
    pub fn fill(&self, label: &str, text: &str) {
        let element = self.field(label);
        self.send(&format!("/element/{element}/clear"), &json!({}));
        self.send(&format!("/element/{element}/value"), &json!({"text": text}));
    }

    fn field(&self, label: &str) -> String {
        let control = "[self::input or self::textarea or self::select]";
        self.find(&format!(
            "//*{control}[starts-with(@aria-label, '{label}')]|//label[span='{label}']//*{control}"
        ))
    }

    /// What the page has put into the clipboard.
    pub fn clipboard(&self) -> String {
        self.script("return navigator.clipboard.readText()").as_str().unwrap().to_owned()
    }

    /// Writes what can be seen, and what is below it, to a PNG file.
    pub fn screenshot(&self, path: &Path) {
        let parameters = json!({"captureBeyondViewport": true, "format": "png"});
        let taken = self.devtools("Page.captureScreenshot", parameters);
        let png = data_encoding::BASE64.decode(taken["data"].as_str().unwrap().as_bytes()).unwrap();
        std::fs::write(path, png).unwrap();
    }

    /// Unexpected errors that the page has caused so far: those of scripts and of the
    /// content security policy.
    pub fn errors(&self) -> Vec<String> {
        let log = self.send("/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().cloned().unwrap_or_default();
        let messages = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        messages
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            // What the API refuses, it refuses with these.
            .filter(|message| !message.contains("the server responded with a status of"))
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
