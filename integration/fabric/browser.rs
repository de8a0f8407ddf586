// SPDX-License-Identifier: Apache-2.0
//! Chromium without a window, spoken to by its DevTools protocol over two pipes
//! (`--remote-debugging-pipe`): JSON messages that end with a NUL, on descriptors 3 and 4.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Scratch};

/// What Chromium and its kin are called.
const PROGRAMS: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser; it ends with its owner.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    last_id: u64,
    scratch: Scratch,
}

/// A page that was opened, and what the browser told of it.
pub struct Page<'a> {
    browser: &'a mut Browser,
    session: String,
    target: String,
    told: Vec<Value>,
}

/// What the page is looked at on.
#[derive(Clone, Copy)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Starts it. Its network namespace is that of the test, which has no way out.
    pub fn start() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there =
            |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
        let program = PROGRAMS.into_iter().find(|name| is_there(name));
        let program = program.expect("no Chromium: hack/setup installs it");
        let scratch = Scratch::new();
        let said = File::create(scratch.path().join("stderr")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >&2", program]);
        command.arg(format!("--user-data-dir={}", scratch.dir("profile").display()));
        command.args([
            "--headless",
            "--remote-debugging-pipe",
            // Root has no sandbox, and tests are root in their namespace.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--no-proxy-server",
        ]);
        // What it keeps besides its profile.
        command.env("HOME", scratch.path()).env("XDG_CONFIG_HOME", scratch.dir("config"));
        command.env("XDG_CACHE_HOME", scratch.dir("cache")).env("TMPDIR", scratch.dir("tmp"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said);
        let mut child = command.spawn().unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (messages, from) = channel();
        thread::spawn(move || {
            for message in BufReader::new(out).split(0) {
                let Ok(message) = message else { return };
                let message = serde_json::from_slice(&message).unwrap();
                if messages.send(message).is_err() {
                    return;
                }
            }
        });
        Self { child, to, from, last_id: 0, scratch }
    }

    /// Asks for something and gives the answer; what is told meanwhile goes to `told`.
    fn ask(
        &mut self,
        session: Option<&str>,
        method: &str,
        of: Value,
        told: &mut Vec<Value>,
    ) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": of});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap_or_else(|e| panic!("{method}: {e}: {}", self.stderr()));
        loop {
            let message = self.next(method);
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            told.push(message);
        }
    }

    fn next(&self, what: &str) -> Value {
        let message = self.from.recv_timeout(DEADLINE);
        message.unwrap_or_else(|error| panic!("{what}: {error}: {}", self.stderr()))
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.scratch.path().join("stderr")).unwrap_or_default()
    }

    /// Opens a file and waits until it is shown.
    pub fn open(&mut self, file: &Path, screen: Screen) -> Page<'_> {
        let mut told = Vec::new();
        let made = self.ask(None, "Target.createTarget", json!({"url": "about:blank"}), &mut told);
        let target = made["targetId"].as_str().unwrap().to_owned();
        let of = json!({"targetId": target, "flatten": true});
        let attached = self.ask(None, "Target.attachToTarget", of, &mut told);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let mut page = Page { browser: self, session, target, told: Vec::new() };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.ask(&format!("{domain}.enable"), json!({}));
        }
        page.shows(screen);
        let url = format!("file://{}", file.display());
        let gone = page.ask("Page.navigate", json!({"url": url}));
        assert!(gone["errorText"].is_null(), "{gone}");
        while !page.told.iter().any(|one| one["method"] == "Page.loadEventFired") {
            let next = page.browser.next("load");
            page.told.push(next);
        }
        page
    }
}

impl Page<'_> {
    fn ask(&mut self, method: &str, of: Value) -> Value {
        self.browser.ask(Some(&self.session), method, of, &mut self.told)
    }

    /// Changes what it is looked at on.
    pub fn shows(&mut self, screen: Screen) {
        let Screen { width, height, dark } = screen;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1,
                          "mobile": width < 600});
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask("Emulation.setEmulatedMedia", json!({"media": "", "features": features}));
    }

    /// Looks at it as it is printed, until it is shown again.
    pub fn prints(&mut self) {
        self.ask("Emulation.setEmulatedMedia", json!({"media": "print"}));
    }

    /// What an expression comes to in it.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let of = json!({"expression": expression, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", of);
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// A picture of all of it (PNG).
    pub fn picture(&mut self) -> Vec<u8> {
        let size = self.evaluate(
            "[document.documentElement.clientWidth, document.documentElement.scrollHeight]",
        );
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let of = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        of_base64(self.ask("Page.captureScreenshot", of)["data"].as_str().unwrap())
    }

    /// What a printer would get (PDF).
    pub fn printed(&mut self) -> Vec<u8> {
        let of = json!({"printBackground": false, "preferCSSPageSize": false});
        of_base64(self.ask("Page.printToPDF", of)["data"].as_str().unwrap())
    }

    /// What was asked of files and of the network.
    pub fn requests(&self) -> Vec<String> {
        let asked = self.told.iter().filter(|one| one["method"] == "Network.requestWillBeSent");
        asked.map(|one| one["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// What its console has.
    pub fn console(&self) -> Vec<&Value> {
        let of_console = ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"];
        let is_told = |one: &&Value| of_console.iter().any(|method| one["method"] == *method);
        self.told.iter().filter(is_told).collect()
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            let of = json!({"targetId": self.target});
            self.browser.ask(None, "Target.closeTarget", of, &mut Vec::new());
        }
    }
}

fn of_base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|one| *one == letter).unwrap();
        held = (held << 6) | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn base64_is_read() {
    for (text, bytes) in
        [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
    {
        assert_eq!(of_base64(text), bytes.as_bytes());
    }
}
