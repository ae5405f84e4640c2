//! In which form does a request say that its body is written?
//!
//! What passes is a list: UTF-8 JSON under a JSON type or under none, and `multipart/form-data` with a boundary, each only
//! where the operation takes it, neither compressed. A reader that believes another `content-type`, charset or coding would
//! read another body than we do. Not decided here: what the body says.
//!
//! <https://www.rfc-editor.org/rfc/rfc9110#section-8.3>, <https://www.rfc-editor.org/rfc/rfc7578#section-4.1>

use crate::denial::Denial;
use crate::endpoint::BodyKind;

/// The header that says how a body is compressed; of a body that is read it goes no further.
pub const CONTENT_ENCODING: &str = "content-encoding";

const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data";

/// The longest boundary. <https://www.rfc-editor.org/rfc/rfc2046#section-5.1.1>
const BOUNDARY_BYTES_MAX: usize = 70;

/// How a body is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// JSON in UTF-8.
    Json,
    /// A form with this boundary.
    Form(String),
    /// Nothing here reads it as one of these; what its `content-type` says.
    Unread(Vec<u8>),
}

/// What a request's headers say of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// How it is written.
    pub media: Media,
    /// The `content-type` that goes on, if it is not the client's own.
    pub content_type: Option<String>,
}

/// Reads the headers of a request whose operation takes its body as `kind`. Names are in lower case.
pub fn said(kind: BodyKind, headers: &[(String, Vec<u8>)]) -> Result<Said, Denial> {
    let mut types = values(headers, "content-type");
    let (first, is_alone) = (types.next(), types.next().is_none());
    if kind == BodyKind::Unread {
        let media = Media::Unread(first.unwrap_or_default().to_vec());
        return Ok(Said { media, content_type: None });
    }
    check_coding(headers)?;
    let unsupported = Denial::UnsupportedMedia(kind);
    let (takes_json, takes_form) = match kind {
        BodyKind::Json => (true, false),
        BodyKind::Form => (false, true),
        BodyKind::JsonOrForm => (true, true),
        BodyKind::Unread => (false, false),
    };
    let Some(first) = first else {
        let content_type = Some(JSON.to_owned());
        return if takes_json { Ok(Said { media: Media::Json, content_type }) } else { Err(unsupported) };
    };
    let text = std::str::from_utf8(first).ok().filter(|_| is_alone);
    let Some(MediaType { essence, parameters }) = text.and_then(MediaType::read) else {
        return Err(unsupported);
    };
    let (media, ours) = match essence.as_str() {
        FORM if takes_form => {
            let boundary = boundary(&parameters)?;
            let ours = format!("{FORM}; boundary=\"{boundary}\"");
            (Media::Form(boundary.to_owned()), ours)
        }
        other if takes_json && is_json(other) && parameters.iter().all(is_utf8) => {
            (Media::Json, JSON.to_owned())
        }
        _ => return Err(unsupported),
    };
    let is_ours = match &media {
        // Without the quotes it is as good.
        Media::Form(boundary) => {
            first == ours.as_bytes() || first == format!("{FORM}; boundary={boundary}").as_bytes()
        }
        _ => first == ours.as_bytes(),
    };
    Ok(Said { media, content_type: (!is_ours).then_some(ours) })
}

/// Refuses a body that is compressed, or says so: we would not read what its reader does.
fn check_coding(headers: &[(String, Vec<u8>)]) -> Result<(), Denial> {
    let mut codings = values(headers, CONTENT_ENCODING);
    codings
        .all(|coding| coding.eq_ignore_ascii_case(b"identity"))
        .then_some(())
        .ok_or(Denial::UnsupportedCoding)
}

fn values<'h>(headers: &'h [(String, Vec<u8>)], name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_slice())
}

/// `application/json` is what is sent on, whichever of these it was.
fn is_json(essence: &str) -> bool {
    matches!(essence, JSON | "text/json")
        || essence.starts_with("application/")
            && essence.ends_with("+json")
            && !essence.starts_with("application/grpc")
}

fn is_utf8(parameter: &Parameter<'_>) -> bool {
    parameter.name.eq_ignore_ascii_case("charset")
        && (parameter.value.eq_ignore_ascii_case("utf-8") || parameter.value.eq_ignore_ascii_case("utf8"))
}

/// The one boundary; beside it only a charset that changes nothing.
fn boundary<'t>(parameters: &[Parameter<'t>]) -> Result<&'t str, Denial> {
    let is_boundary = |parameter: &&Parameter<'_>| parameter.name.eq_ignore_ascii_case("boundary");
    let mut boundaries = parameters.iter().filter(is_boundary);
    let (Some(first), None) = (boundaries.next(), boundaries.next()) else {
        return Err(Denial::InvalidForm("its content-type must name one boundary"));
    };
    if !parameters.iter().all(|parameter| is_boundary(&parameter) || is_utf8(parameter)) {
        return Err(Denial::InvalidForm(
            "its content-type may have no parameters but `boundary` and `charset=utf-8`",
        ));
    }
    // RFC 2046 has the space too, which nobody sends.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    if !(1..=BOUNDARY_BYTES_MAX).contains(&first.value.len()) || !first.value.bytes().all(is_plain) {
        return Err(Denial::InvalidForm("its boundary must be 1 to 70 letters, digits and '()+_,-./:=?"));
    }
    Ok(first.value)
}

/// One parameter of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'t> {
    /// As it is written.
    pub name: &'t str,
    /// Without its quotes.
    pub value: &'t str,
}

/// `type/subtype; name=value; name="value"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType<'t> {
    /// In lower case.
    pub essence: String,
    /// In their order.
    pub parameters: Vec<Parameter<'t>>,
}

impl<'t> MediaType<'t> {
    /// Reads one; `None` for what is not exactly that, a list among it.
    #[must_use]
    pub fn read(text: &'t str) -> Option<Self> {
        let (essence, rest) = text.split_at(text.find([';', ' ']).unwrap_or(text.len()));
        let (kind, subtype) = essence.split_once('/')?;
        (is_token(kind) && is_token(subtype)).then_some(())?;
        Some(Self { essence: essence.to_ascii_lowercase(), parameters: parameters(rest)? })
    }
}

/// The parameters of a header after its first word: each a token or a quoted string without escapes. `None` for anything
/// else.
#[must_use]
pub fn parameters(mut rest: &str) -> Option<Vec<Parameter<'_>>> {
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_matches(' ');
        if rest.is_empty() {
            return Some(parameters);
        }
        let (name, after) = rest.strip_prefix(';')?.trim_start_matches(' ').split_once('=')?;
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            (value, rest) = quoted.split_once('"')?;
            value.bytes().all(|byte| byte >= b' ' && byte != b'\\' && byte != 0x7f).then_some(())?;
        } else {
            (value, rest) = after.split_at(after.find([';', ' ']).unwrap_or(after.len()));
            is_token(value).then_some(())?;
        }
        is_token(name).then_some(())?;
        parameters.push(Parameter { name, value });
    }
}

/// <https://www.rfc-editor.org/rfc/rfc2045#section-5.1>
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn read(kind: BodyKind, headers: &[(&str, &str)]) -> Result<Said, Denial> {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        said(kind, &headers)
    }

    #[track_caller]
    fn check(kind: BodyKind, content_type: &str, expected: Result<(Media, Option<&str>), &str>) {
        let found = read(kind, &[("content-type", content_type)]);
        let found = found.map(|said| (said.media, said.content_type)).map_err(|denial| denial.code());
        assert_eq!(found, expected.map(|(media, ours)| (media, ours.map(str::to_owned))), "{content_type}");
    }

    fn form(boundary: &str) -> Media {
        Media::Form(boundary.to_owned())
    }

    const REFUSED: &str = "unsupported_media_type";

    #[test]
    fn json_is_taken_under_its_types_in_utf8() {
        let ours = Some("application/json");
        check(BodyKind::Json, "application/json", Ok((Media::Json, None)));
        for content_type in [
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json; charset=utf8",
            "Application/JSON",
            "text/json",
            "application/problem+json",
        ] {
            check(BodyKind::Json, content_type, Ok((Media::Json, ours)));
            check(BodyKind::JsonOrForm, content_type, Ok((Media::Json, ours)));
            check(BodyKind::Form, content_type, Err(REFUSED));
        }
        for content_type in [
            "application/json; charset=utf-7",
            "application/json; charset=utf-16",
            "application/json; charset=iso-8859-1",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset=\"utf\\-8\"",
            "application/json; version=1",
            "application/json, text/plain",
            "application/json;",
            "application/jsonp",
            "text/plain",
            "text/x+json",
            "application/x-www-form-urlencoded",
            "application/grpc",
            "application/grpc+json",
            "multipart/form-data; boundary=x",
            "json",
            "",
        ] {
            check(BodyKind::Json, content_type, Err(REFUSED));
        }
    }

    #[test]
    fn a_body_without_a_type_is_json() {
        let json = Said { media: Media::Json, content_type: Some("application/json".to_owned()) };
        assert_eq!(read(BodyKind::Json, &[]), Ok(json));
        assert_eq!(read(BodyKind::Form, &[]), Err(Denial::UnsupportedMedia(BodyKind::Form)));
        let twice = [("content-type", "application/json"), ("content-type", "application/json")];
        assert_eq!(read(BodyKind::Json, &twice), Err(Denial::UnsupportedMedia(BodyKind::Json)));
    }

    #[test]
    fn a_form_has_one_plain_boundary() {
        for kind in [BodyKind::Form, BodyKind::JsonOrForm] {
            check(kind, "multipart/form-data; boundary=x-1", Ok((form("x-1"), None)));
            check(kind, "multipart/form-data; boundary=\"(x=1)\"", Ok((form("(x=1)"), None)));
            let ours = Some("multipart/form-data; boundary=\"x\"");
            check(kind, "Multipart/Form-Data; charset=utf-8; Boundary=x", Ok((form("x"), ours)));
            for content_type in [
                "multipart/form-data",
                "multipart/form-data; boundary=x; boundary=x",
                "multipart/form-data; boundary=x; boundary*=utf-8''y",
                "multipart/form-data; boundary=x; charset=utf-16",
                "multipart/form-data; boundary=x; y=z",
                "multipart/form-data; boundary=\"\"",
                "multipart/form-data; boundary=\"a b\"",
                "multipart/form-data; boundary=x#",
            ] {
                check(kind, content_type, Err("invalid_form"));
            }
            check(kind, &format!("multipart/form-data; boundary={}", "x".repeat(71)), Err("invalid_form"));
            for content_type in [
                "multipart/form-data; boundary=a=b",
                "multipart/form-data; boundary=\"x\"y",
                "multipart/form-data; boundary=\"x\\y\"",
                "multipart/form-data; boundary = x",
                "multipart/mixed; boundary=x",
            ] {
                check(kind, content_type, Err(REFUSED));
            }
        }
    }

    #[test]
    fn a_coding_is_refused_unless_it_is_none() {
        for coding in ["gzip", "zstd", "br", "deflate", "aws-chunked", "identity, gzip", ""] {
            let headers = [("content-type", "application/json"), ("content-encoding", coding)];
            assert_eq!(read(BodyKind::Json, &headers), Err(Denial::UnsupportedCoding), "{coding}");
        }
        let headers = [("content-encoding", "Identity"), ("content-type", "application/json")];
        assert_eq!(read(BodyKind::Json, &headers).map(|said| said.media), Ok(Media::Json));
        // What nobody reads passes as it is.
        let gzip = [("content-encoding", "gzip"), ("content-type", "text/plain")];
        assert_eq!(
            read(BodyKind::Unread, &gzip).map(|said| said.media),
            Ok(Media::Unread(b"text/plain".to_vec()))
        );
    }
}
