//! A plain client of the admin API, and of a fleet's webhook.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Request;

use super::http::{self, Answer};
use super::{PATIENCE, description, redacted, wait_for};

/// A client of the admin API of one server. Made anew when the server is.
#[derive(Clone)]
pub struct Api {
    agent: ureq::Agent,
    base: String,
    token: Arc<str>,
}

/// The webhook of a fleet. Holds a secret: has no `Debug`.
#[derive(Clone)]
pub struct Hook {
    token: Arc<str>,
}

impl Api {
    pub fn new(base: &str, token: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(PATIENCE + Duration::from_secs(30)))
            .build();
        Self { agent: config.into(), base: base.to_owned(), token: token.into() }
    }

    /// The same client with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    /// One request; an error when the server cannot be reached. Fails when it, or its answer, is not
    /// as the server describes its API.
    #[track_caller]
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        content: Option<(&str, Vec<u8>)>,
    ) -> io::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", format!("Bearer {}", self.token));
        if let Some((content_type, _)) = &content {
            request = request.header("Content-Type", *content_type);
        }
        let sent = match &content {
            Some((_, body)) => {
                self.agent.run(request.body(body.as_slice()).map_err(io::Error::other)?)
            }
            None if matches!(method, "POST" | "PUT") => {
                self.agent.run(request.body(Vec::new()).map_err(io::Error::other)?)
            }
            None => self.agent.run(request.body(()).map_err(io::Error::other)?),
        };
        let mut response = sent.map_err(io::Error::other)?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec();
        let answer = Answer {
            status: response.status().as_u16(),
            headers,
            body: body.map_err(io::Error::other)?,
        };
        description::check(method, path, content.as_ref(), &answer);
        Ok(answer)
    }

    #[track_caller]
    pub fn call(&self, method: &str, path: &str, content: Option<(&str, Vec<u8>)>) -> Answer {
        match self.try_call(method, path, content) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, Some(("application/json", body.to_string().into_bytes())))
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, Some(("application/json", body.to_string().into_bytes())))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None)
    }

    /// `fleet apply` of a definition in JSON; the fleet's id.
    #[track_caller]
    pub fn apply(&self, definition: &Value) -> String {
        let answer = self.put("/api/v1/fleets?by=name", definition);
        assert!(matches!(answer.status, 200 | 201), "{}", answer.error());
        answer.data()["id"].as_str().unwrap().to_owned()
    }

    /// `fleet apply` of a definition in YAML; the fleet's id.
    #[track_caller]
    pub fn apply_yaml(&self, text: &str) -> String {
        let content = ("application/yaml", text.as_bytes().to_vec());
        let answer = self.call("PUT", "/api/v1/fleets?by=name", Some(content));
        assert!(matches!(answer.status, 200 | 201), "{}", answer.error());
        answer.data()["id"].as_str().unwrap().to_owned()
    }

    /// Adds the fleet's webhook.
    #[track_caller]
    pub fn add_webhook(&self, fleet: &str) -> Hook {
        let answer = self.call("POST", &format!("/api/v1/fleets/{fleet}/webhook"), None);
        Hook::from_url(answer.expect(201).data()["url"].as_str().unwrap())
    }

    /// Starts the fleet on demand; the run's id.
    #[track_caller]
    pub fn start(&self, fleet: &str) -> String {
        self.start_with(fleet, &json!({}))
    }

    /// Starts the fleet on demand with overrides; the run's id.
    #[track_caller]
    pub fn start_with(&self, fleet: &str, overrides: &Value) -> String {
        let path = format!("/api/v1/fleets/{fleet}/runs?trigger=on_demand");
        let data = self.post(&path, overrides).expect(201).data();
        data["fleet_run_id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn run(&self, run: &str) -> Value {
        self.get(&format!("/api/v1/runs/{run}")).expect(200).data()
    }

    /// Every run there is, oldest last, page by page.
    #[track_caller]
    pub fn all_runs(&self) -> Vec<Value> {
        let mut runs: Vec<Value> = Vec::new();
        loop {
            let before = runs.last().map_or(String::new(), |run: &Value| {
                format!("&before={}", run["id"].as_str().unwrap())
            });
            let page = self.get(&format!("/api/v1/runs?limit=1000{before}")).expect(200).data();
            let page = page.as_array().unwrap();
            if page.is_empty() {
                return runs;
            }
            runs.extend_from_slice(page);
        }
    }

    /// Waits until the run has ended.
    #[track_caller]
    pub fn wait_ended(&self, run: &str) -> Value {
        let mut last = Value::Null;
        let ended = wait_for(|| {
            last = self.run(run);
            is_final(&last).then(|| last.clone())
        });
        match ended {
            Some(run) => run,
            None => panic!("waited in vain until the run has ended: {last:#}"),
        }
    }

    /// Waits until the run has ended, as `status`.
    #[track_caller]
    pub fn wait_status(&self, run: &str, status: &str) -> Value {
        let ended = self.wait_ended(run);
        assert_eq!(ended["status"], status, "{ended:#}\n{}", self.outputs(&ended));
        ended
    }

    /// What the vessel wrote in its latest attempt.
    #[track_caller]
    pub fn output(&self, run: &Value, vessel: &str) -> String {
        String::from_utf8_lossy(&self.output_answer(run, vessel, "").body).into_owned()
    }

    /// The answer to a request for the vessel's output.
    #[track_caller]
    pub fn output_answer(&self, run: &Value, vessel: &str, query: &str) -> Answer {
        let id = vessel_of(run, vessel)["id"].as_str().unwrap();
        self.get(&format!("/api/v1/vessel-runs/{id}/output{query}")).expect(200)
    }

    /// The output of all vessels, for the messages of failing tests.
    fn outputs(&self, run: &Value) -> String {
        let vessels = run["vessels"].as_array().cloned().unwrap_or_default();
        let mut text = String::new();
        for vessel in vessels {
            let name = vessel["vessel_name"].as_str().unwrap_or_default();
            text.push_str(&format!("--- {name}\n{}\n", redacted(&self.output(run, name))));
        }
        text
    }

    /// Follows the vessel's output: the bytes as they come.
    pub fn follow(&self, run: &Value, vessel: &str) -> impl Read + use<> {
        let id = vessel_of(run, vessel)["id"].as_str().unwrap();
        let request = Request::builder()
            .uri(format!("{}/api/v1/vessel-runs/{id}/output?follow=true", self.base))
            .header("Authorization", format!("Bearer {}", self.token))
            .body(())
            .unwrap();
        let response = self.agent.run(request).unwrap();
        assert_eq!(response.status().as_u16(), 200);
        response.into_body().into_with_config().limit(1 << 30).reader()
    }
}

impl Hook {
    /// The webhook behind `url`. Fails without showing it.
    #[track_caller]
    pub fn from_url(url: &str) -> Self {
        let (base, token) = url.rsplit_once("/hooks/").expect("a webhook URL");
        assert!(base.starts_with("http"), "a webhook URL is one");
        Self { token: token.into() }
    }

    /// The secret itself, to look for where it must not be.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The target of a request for it.
    pub fn target(&self) -> String {
        format!("/hooks/{}", self.token)
    }

    /// One POST to the hooks listener at `address`.
    pub fn try_post(
        &self,
        address: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        http::exchange(address, &http::post_request(&self.target(), headers, body))
    }

    /// One POST that must be accepted; the run's id.
    #[track_caller]
    pub fn post(&self, address: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let answer = self.try_post(address, headers, body).expect("the hooks listener answers");
        answer.expect(201).data()["fleet_run_id"].as_str().unwrap().to_owned()
    }
}

/// A fleet of one vessel that does nothing and does it well.
pub fn true_fleet(name: &str) -> Value {
    json!({"name": name, "vessels": {"v": {"command": ["true"]}}})
}

/// Whether nothing will change the run or vessel run any more.
pub fn is_final(run: &Value) -> bool {
    match run["status"].as_str() {
        Some("Success" | "Errored" | "Terminated" | "Incomplete") => true,
        Some("Scheduled" | "Running" | "Retrying") => false,
        other => panic!("no such status: {other:?}"),
    }
}

/// The vessel run of this name.
#[track_caller]
pub fn vessel_of<'a>(run: &'a Value, name: &str) -> &'a Value {
    run["vessels"]
        .as_array()
        .and_then(|vessels| vessels.iter().find(|vessel| vessel["vessel_name"] == name))
        .unwrap_or_else(|| panic!("no vessel {name} in {run:#}"))
}
