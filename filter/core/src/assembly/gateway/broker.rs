//! How is a request told to a message broker, from where somebody sends it through the gateway again?
//!
//! A template says what the broker is sent. Not decided here: which requests are, and who works them off.

use super::{Dice, NewJob, Secret};
use crate::calendar::http_date;
use crate::job::{Id, Key, What, seal};
use crate::json::JsonWriter;
use crate::route::Credential;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;
use std::time::Duration;

/// A message broker that is spoken to by HTTP.
#[derive(Debug, PartialEq, Eq)]
pub struct Broker {
    /// Envoy's name for the way there.
    pub cluster: String,
    /// The `Host`.
    pub authority: String,
    /// The method.
    pub method: &'static str,
    /// The path, and what of the query is no secret.
    pub path: Template,
    /// What of the query is one.
    pub query: Option<Secret>,
    /// Headers, names in lower case.
    pub headers: Vec<(String, Template)>,
    /// Those of them that are secrets.
    pub secrets: Vec<(String, Secret)>,
    /// The token that it is shown, if it is.
    pub credential: Option<Credential>,
    /// The message.
    pub body: Template,
    /// The longest of them, in bytes.
    pub bytes_max: usize,
    /// By which statuses it says that it has taken one.
    pub taken: Vec<u16>,
    /// How long it may take for that.
    pub timeout: Duration,
}

/// What a broker is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The path and query.
    pub path: String,
    /// Its headers, without those that begin with a colon.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
}

/// How many bytes one byte becomes at most: an escape in JSON (`\u0001`) within a JSON string.
const GROWTH_MAX: usize = 12;

/// More bytes than the names, the time and what seals add.
const SHORT_BYTES_MAX: usize = 2048;

/// Text with places for what is told of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// Whether what it tells stands in a path.
    is_path: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Told(Aspect, Form),
}

/// What is told of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// The name of its job.
    Id,
    /// Whose it is.
    Client,
    /// How important it is.
    Priority,
    /// The model, as the client wrote it.
    Model,
    /// What it asks for.
    Method,
    /// With its query.
    Path,
    /// A JSON object of the headers that are to be sent with it.
    Headers,
    /// When it is told, as headers write it.
    Date,
    /// What it asks.
    Body,
    /// All of it but the date, as a JSON object.
    Request,
}

impl Aspect {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Id,
        Self::Client,
        Self::Priority,
        Self::Model,
        Self::Method,
        Self::Path,
        Self::Headers,
        Self::Date,
        Self::Body,
        Self::Request,
    ];

    /// The word in a template.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Client => "client",
            Self::Priority => "priority",
            Self::Model => "model",
            Self::Method => "method",
            Self::Path => "path",
            Self::Headers => "headers",
            Self::Date => "date",
            Self::Body => "body",
            Self::Request => "request",
        }
    }

    /// Whether it is short, and of plain characters: it can stand in a path.
    #[must_use]
    pub const fn is_name(self) -> bool {
        matches!(self, Self::Id | Self::Client | Self::Priority | Self::Model)
    }

    /// Whether what the request asks is in it.
    #[must_use]
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Body | Self::Request)
    }

    /// Whether a client cannot make it long: it can stand in a header.
    #[must_use]
    pub const fn is_short(self) -> bool {
        self.is_name() || matches!(self, Self::Method | Self::Date)
    }
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is.
    Plain,
    /// As a JSON string, with its quotes.
    Json,
    /// As base64.
    Base64,
}

impl Template {
    /// As it is written: `%word%`, `%word:json%` and `%word:base64%` are places, and `%%` is a percent sign. The error is what
    /// stands between two of them and is no such word.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for (at, piece) in text.split('%').enumerate() {
            match (at % 2, piece) {
                (0, "") => {}
                (0, text) => parts.push(Part::Text(text.to_owned())),
                (_, "") => parts.push(Part::Text("%".to_owned())),
                (_, place) => {
                    let (word, form) = place.split_once(':').unwrap_or((place, ""));
                    let aspect = Aspect::ALL.into_iter().find(|aspect| aspect.word() == word);
                    let form = match form {
                        "" if !place.ends_with(':') => Some(Form::Plain),
                        "json" => Some(Form::Json),
                        "base64" => Some(Form::Base64),
                        _ => None,
                    };
                    let (Some(aspect), Some(form)) = (aspect, form) else { return Err(place.to_owned()) };
                    parts.push(Part::Told(aspect, form));
                }
            }
        }
        // Of two percent signs the second one ends the place, so there is a piece behind it.
        if text.split('%').count().is_multiple_of(2) {
            return Err(text.rsplit('%').next().unwrap_or_default().to_owned());
        }
        Ok(Self { parts, is_path: false })
    }

    /// The same for a path: what it tells stands there percent-encoded, in whichever form.
    #[must_use]
    pub fn in_path(self) -> Self {
        Self { is_path: true, ..self }
    }

    /// What it tells of a request.
    pub fn aspects(&self) -> impl Iterator<Item = Aspect> {
        self.parts.iter().filter_map(|part| match part {
            Part::Told(aspect, _) => Some(*aspect),
            Part::Text(_) => None,
        })
    }

    /// What it says that is no place.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Told(..) => None,
        })
    }

    fn write(&self, telling: &Telling<'_>) -> Vec<u8> {
        let mut written = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => written.extend_from_slice(text.as_bytes()),
                Part::Told(aspect, form) => {
                    let value = telling.value(*aspect);
                    let told = match form {
                        Form::Plain => value,
                        Form::Json => json_string(&String::from_utf8_lossy(&value)).into(),
                        Form::Base64 => STANDARD.encode(&value).into_bytes().into(),
                    };
                    if self.is_path {
                        let text = String::from_utf8_lossy(&told);
                        written.extend(utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string().into_bytes());
                    } else {
                        written.extend_from_slice(&told);
                    }
                }
            }
        }
        written
    }

    /// No fewer bytes than it has of a request with so many: nothing is written for that.
    fn len_of(&self, bytes: usize) -> usize {
        let of_part = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Told(..) => bytes.saturating_mul(GROWTH_MAX).saturating_add(SHORT_BYTES_MAX),
        };
        self.parts.iter().map(of_part).fold(0, usize::saturating_add)
    }

    fn text(&self, telling: &Telling<'_>) -> String {
        String::from_utf8_lossy(&self.write(telling)).into_owned()
    }
}

fn json_string(text: &str) -> Vec<u8> {
    let mut json = JsonWriter::default();
    json.text(text);
    json.into_bytes()
}

/// A request that is told.
struct Telling<'j> {
    id: &'j Id,
    job: &'j NewJob<'j>,
    date: String,
    /// What it asks, sealed, as base64.
    sealed: Option<String>,
}

impl Telling<'_> {
    fn value(&self, aspect: Aspect) -> Cow<'_, [u8]> {
        let text = match aspect {
            Aspect::Id => self.id.text(),
            Aspect::Client => self.job.client,
            Aspect::Priority => self.job.priority.word(),
            Aspect::Model => self.job.model,
            Aspect::Method => self.job.method,
            Aspect::Path => self.job.path,
            Aspect::Headers => self.job.headers,
            Aspect::Date => &self.date,
            Aspect::Body => match &self.sealed {
                Some(sealed) => sealed,
                None => return Cow::Borrowed(self.job.body),
            },
            Aspect::Request => return Cow::Owned(self.request()),
        };
        Cow::Borrowed(text.as_bytes())
    }

    fn request(&self) -> Vec<u8> {
        let mut json = JsonWriter::default();
        json.open(b'{');
        let texts =
            [Aspect::Id, Aspect::Client, Aspect::Priority, Aspect::Model, Aspect::Method, Aspect::Path];
        for aspect in texts {
            json.member(aspect.word());
            json.text(&String::from_utf8_lossy(&self.value(aspect)));
        }
        json.member(Aspect::Headers.word());
        json.json(self.job.headers);
        json.member(if self.sealed.is_some() { "sealed" } else { Aspect::Body.word() });
        json.text(&String::from_utf8_lossy(&self.value(Aspect::Body)));
        json.close(b'}');
        json.into_bytes()
    }
}

impl Broker {
    /// The message about a request; `None` while there is no token to show with it.
    #[must_use]
    pub fn message(
        &self,
        key: Option<&Key>,
        id: &Id,
        dice: &Dice,
        job: &NewJob<'_>,
        now: Duration,
    ) -> Option<Message> {
        let telling = self::telling(key, id, dice, job, now);
        let mut path = self.path.text(&telling);
        if let Some(Secret(query)) = &self.query {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(query);
        }
        let mut headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.text(&telling))).collect();
        headers.extend(self.secrets.iter().map(|(name, Secret(value))| (name.clone(), value.clone())));
        if let Some(Credential { header, value }) = &self.credential {
            let value = Some(value).filter(|value| !value.is_lacking(now))?.value()?;
            headers.push((header.clone(), value.into_owned()));
        }
        Some(Message { path, headers, body: self.body.write(&telling) })
    }

    /// Whether a request is short enough for it. Its name, its nonce and the time are as long as any.
    #[must_use]
    pub fn has_room_for(&self, key: Option<&Key>, job: &NewJob<'_>) -> bool {
        let at_most =
            job.body.len() + job.path.len() + job.headers.len() + job.model.len() + job.client.len();
        if self.body.len_of(at_most) <= self.bytes_max {
            return true;
        }
        let dice = Dice { id: Default::default(), nonce: Default::default() };
        let id = Id::new(&dice.id);
        job.body.len() <= self.bytes_max
            && self.body.write(&telling(key, &id, &dice, job, Duration::ZERO)).len() <= self.bytes_max
    }

    /// Whether it has taken a message, by the status of its answer.
    #[must_use]
    pub fn has_taken(&self, status: u16) -> bool {
        self.taken.contains(&status)
    }
}

fn telling<'j>(
    key: Option<&Key>,
    id: &'j Id,
    dice: &Dice,
    job: &'j NewJob<'j>,
    now: Duration,
) -> Telling<'j> {
    let sealed = key.map(|key| {
        let NewJob { client, kind, method, path, headers, model, body, .. } = *job;
        let what = What::Body { client, kind: kind.word(), method, path, headers, model };
        STANDARD.encode(seal(Some(key), &dice.nonce, id, what, body))
    });
    Telling { id, job, date: http_date(now.as_secs()), sealed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::Priority;
    use crate::credential::{CredentialValue, Issued};
    use crate::job::{Kind, open};
    use std::rc::Rc;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const DICE: Dice = Dice { id: [0xab; 16], nonce: [7; 24] };
    const NOW: Duration = Duration::from_secs(1_795_490_661);
    const BODY: &str = "{\"a\": \"ü\"}\n";

    const JOB: NewJob<'static> = NewJob {
        client: "web/1",
        priority: Priority::Low,
        kind: Kind::Job,
        method: "POST",
        path: "/v1/embeddings?a=b",
        headers: r#"{"accept":"*/*"}"#,
        model: "m-1",
        body: BODY.as_bytes(),
    };

    fn template(text: &str) -> Template {
        Template::read(text).unwrap()
    }

    fn broker(body: &str) -> Broker {
        Broker {
            cluster: "c".to_owned(),
            authority: "a".to_owned(),
            method: "POST",
            path: template("/q-%client%/%priority%?x=1").in_path(),
            query: None,
            headers: vec![("x-date".to_owned(), template("%date%"))],
            secrets: Vec::new(),
            credential: None,
            body: template(body),
            bytes_max: 1000,
            taken: vec![201, 204],
            timeout: Duration::ZERO,
        }
    }

    fn body(text: &str, key: Option<&Key>) -> String {
        let message = broker(text).message(key, &Id::new(&DICE.id), &DICE, &JOB, NOW).unwrap();
        String::from_utf8(message.body).unwrap()
    }

    #[test]
    fn a_path_has_whatever_it_tells_percent_encoded() {
        for (text, written) in [
            ("/%client%", "/web%2F1"),
            ("/%client:base64%", "/d2ViLzE%3D"),
            ("/%client:json%", "/%22web%2F1%22"),
        ] {
            let broker = Broker { path: template(text).in_path(), ..broker("%body%") };
            let message = broker.message(None, &Id::new(&DICE.id), &DICE, &JOB, NOW).unwrap();
            assert_eq!(message.path, written, "{text}");
        }
    }

    #[test]
    fn no_message_is_longer_than_was_reckoned() {
        let body = "\u{1}\"\\ü".repeat(500);
        let job = NewJob { body: body.as_bytes(), ..JOB };
        let bytes = body.len() + JOB.path.len() + JOB.headers.len() + JOB.model.len() + JOB.client.len();
        for text in ["%body%", "%request:json%", "%request:base64%%body:json%", "a%date%%id%%%%headers:json%"]
        {
            for key in [None, Some(&Key::new([1; 32]))] {
                let broker = broker(text);
                let message = broker.message(key, &Id::new(&DICE.id), &DICE, &job, NOW).unwrap();
                assert!(message.body.len() <= broker.body.len_of(bytes), "{text}");
            }
        }
    }

    #[test]
    fn a_template_is_text_with_places() {
        for (text, written) in [
            ("", ""),
            ("a%%b%%", "a%b%"),
            ("%id%", "abababababababababababababababab"),
            ("%method% %model%%priority%", "POST m-1low"),
            ("<%path:json%>", r#"<"/v1/embeddings?a=b">"#),
            ("%headers%", JOB.headers),
            ("%headers:json%", r#""{\"accept\":\"*/*\"}""#),
            ("%body%", BODY),
            ("%body:json%", r#""{\"a\": \"ü\"}\n""#),
            ("%body:base64%", "eyJhIjogIsO8In0K"),
            ("%client:base64%", "d2ViLzE="),
        ] {
            assert_eq!(body(text, None), written, "{text}");
        }
        for (text, unknown) in
            [("%x%", "x"), ("%", ""), ("a%id", "id"), ("%id:xml%", "id:xml"), ("%id:%", "id:"), ("%%%", "")]
        {
            assert_eq!(Template::read(text), Err(unknown.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_message_tells_all_that_the_request_is_made_of() {
        let message = broker("%request%").message(None, &Id::new(&DICE.id), &DICE, &JOB, NOW).unwrap();
        assert_eq!(message.path, "/q-web%2F1/low?x=1");
        assert_eq!(message.headers, [("x-date".to_owned(), "Tue, 24 Nov 2026 03:24:21 GMT".to_owned())]);
        let told: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        let expected = serde_json::json!({
            "id": "abababababababababababababababab", "client": "web/1", "priority": "low", "model": "m-1",
            "method": "POST", "path": "/v1/embeddings?a=b", "headers": { "accept": "*/*" }, "body": BODY,
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_in_its_place() {
        let key = Key::new([3; 32]);
        let id = Id::new(&DICE.id);
        let sealed = body("%body%", Some(&key));
        let told: serde_json::Value = serde_json::from_str(&body("%request%", Some(&key))).unwrap();
        assert_eq!((told["sealed"].as_str(), told.get("body")), (Some(&*sealed), None));
        let NewJob { client, kind, method, path, headers, model, .. } = JOB;
        let what = What::Body { client, kind: kind.word(), method, path, headers, model };
        let bytes = STANDARD.decode(&sealed).unwrap();
        assert_eq!(open(Some(&key), &id, what, &bytes).unwrap(), BODY.as_bytes());
        let moved = What::Body { client: "other", kind: kind.word(), method, path, headers, model };
        assert!(open(Some(&key), &id, moved, &bytes).is_err());
    }

    #[test]
    fn a_secret_is_sent_and_a_token_only_while_it_is_good() {
        let issued = Rc::new(Issued::default());
        issued.enter_service();
        let value = CredentialValue::Issued(issued.clone());
        let broker = Broker {
            query: Some(Secret("sig=s".to_owned())),
            secrets: vec![("x-key".to_owned(), Secret("k".to_owned()))],
            credential: Some(Credential { header: "authorization".to_owned(), value }),
            ..broker("%body%")
        };
        let message = || broker.message(None, &Id::new(&DICE.id), &DICE, &JOB, NOW);
        assert_eq!(message(), None);
        issued.give("Bearer t", NOW);
        assert_eq!(message(), None);
        issued.give("Bearer t", NOW * 2);
        let Message { path, headers, .. } = message().unwrap();
        assert_eq!(path, "/q-web%2F1/low?x=1&sig=s");
        let of =
            |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((of("authorization"), of("x-key")), (Some("Bearer t"), Some("k")));
        assert!(!format!("{broker:?}").contains("sig=s"));
        let plain = Broker { path: template("/q"), ..broker };
        assert_eq!(plain.message(None, &Id::new(&DICE.id), &DICE, &JOB, NOW).unwrap().path, "/q?sig=s");
    }

    #[test]
    fn the_longest_message_is_known_before_it_is_made() {
        let key = Key::new([3; 32]);
        for key in [None, Some(&key)] {
            for text in ["%body%", "%request:base64%"] {
                let length = body(text, key).len();
                let room = |bytes_max| Broker { bytes_max, ..broker(text) }.has_room_for(key, &JOB);
                assert!(room(length) && !room(length - 1), "{text}");
            }
        }
        assert!([201, 204].into_iter().all(|status| broker("").has_taken(status)));
        assert!(![200, 404, 503].into_iter().any(|status| broker("").has_taken(status)));
    }
}
