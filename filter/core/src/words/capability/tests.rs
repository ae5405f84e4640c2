use super::*;
use crate::endpoint::ApiVersion;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn azure(version: &str) -> Style {
    Style::Azure(ApiVersion::parse(version).unwrap())
}

#[test]
fn the_table_goes_from_the_oldest_version_to_the_newest() {
    assert!(AZURE.windows(2).all(|pair| pair[0].preview <= pair[1].preview));
    for since in &AZURE {
        let is_known = |version: &str| AZURE_VERSIONS.contains(&version);
        assert!(is_known(since.preview) && since.preview.ends_with("-preview"), "{since:?}");
        let is_proper = |version: &str| is_known(version) && !version.ends_with("-preview");
        assert!(since.proper.is_none_or(is_proper), "{since:?}");
        // What is told of both is "or later": no version between them lacks it.
        let mut between =
            AZURE_VERSIONS.iter().filter(|version| is_proper(version) && **version >= since.preview);
        assert!(since.proper.is_none() || between.next() == since.proper.as_ref(), "{since:?}");
    }
}

/// Under which names chat takes its cap, by style and family; and whether streams may be asked for their usage.
#[test]
fn style_version_and_family_decide_the_cap_and_the_usage() {
    use CapNames::{Either, MaxCompletionTokens, MaxTokens, Neither};
    use Family::{Gpt4, Gpt5, OSeries};
    let table = [
        (azure("2023-05-15"), [MaxTokens, Neither, Neither], false),
        (azure("2024-06-01"), [MaxTokens, Neither, Neither], false),
        (azure("2024-08-01-preview"), [MaxTokens, Neither, Neither], false),
        (azure("2024-09-01-preview"), [Either, MaxCompletionTokens, MaxCompletionTokens], true),
        (azure("2024-10-21"), [Either, MaxCompletionTokens, MaxCompletionTokens], true),
        (azure("2025-04-01-preview"), [Either, MaxCompletionTokens, MaxCompletionTokens], true),
        (Style::AzureV1, [Either, MaxCompletionTokens, MaxCompletionTokens], true),
        (Style::OpenAi, [Either, MaxCompletionTokens, MaxCompletionTokens], true),
    ];
    for (style, names, usage) in &table {
        assert_eq!([Gpt4, Gpt5, OSeries].map(|family| cap_names(style, family)), *names, "{style:?}");
        for (operation, asks) in [
            (Operation::ChatCompletions, *usage),
            (Operation::Completions, *usage),
            (Operation::Responses, false),
            (Operation::Embeddings, false),
        ] {
            assert_eq!(takes_stream_options(style, operation), asks, "{style:?} {operation:?}");
        }
    }
}

/// The oldest version that has each operation; `None` for those that all have.
#[test]
fn every_operation_has_a_version_since_which_it_is_there() {
    use Operation::*;
    let table = [
        (ChatCompletions, None),
        (Completions, None),
        (Embeddings, None),
        (Transcriptions, Some(("2023-08-01-preview", "2023-09-01-preview"))),
        (Translations, Some(("2023-08-01-preview", "2023-09-01-preview"))),
        (ImageGenerations, Some(("2023-10-01-preview", "2023-12-01-preview"))),
        (Speech, Some(("2024-10-21", "2024-02-15-preview"))),
        (Realtime, Some(("2024-09-01-preview", "2024-10-21"))),
        (Responses, Some(("2025-02-01-preview", "2025-03-01-preview"))),
        (ImageEdits, Some(("2025-03-01-preview", "2025-04-01-preview"))),
    ];
    let empty = Request::read(b"{}").unwrap();
    let lacks = |style: &Style, operation| missing(style, Family::Gpt4, operation, &empty).is_some();
    for (operation, versions) in table {
        for style in [Style::AzureV1, Style::OpenAi, azure("2026-01-01")] {
            assert!(!lacks(&style, operation), "{style:?} {operation:?}");
        }
        assert_eq!(lacks(&azure("2022-12-01"), operation), versions.is_some(), "{operation:?}");
        if let Some((last_without, first_with)) = versions {
            assert!(lacks(&azure(last_without), operation), "{operation:?}");
            assert!(!lacks(&azure(first_with), operation), "{operation:?}");
        }
    }
}

/// A version proper that came later than a preview has not all that the preview had.
#[test]
fn a_version_proper_is_not_the_preview_of_before() {
    let empty = Request::read(b"{}").unwrap();
    let speaks = |version| missing(&azure(version), Family::Gpt4, Operation::Speech, &empty).is_none();
    let found = ["2024-02-01", "2024-06-01", "2024-10-21"].map(speaks);
    assert_eq!(found, [false; 3]);
    assert_eq!(["2024-02-15-preview", "2024-10-01-preview", "2025-04-01-preview"].map(speaks), [true; 3]);
    // The path has been in versions proper since the first that has it.
    let hears = |version| missing(&azure(version), Family::Gpt4, Operation::Transcriptions, &empty).is_none();
    assert_eq!(
        ["2023-05-15", "2024-02-01", "2024-06-01", "2024-10-21"].map(hears),
        [false, true, true, true]
    );
}

#[test]
fn a_version_of_which_nothing_is_known_may_have_all() {
    for version in ["2022-01-01", "2024-06-02", "2024-11-01-preview", "2026-01-01"] {
        assert_eq!(unknown(&azure(version)).count(), 0, "{version}");
    }
}

#[track_caller]
fn check(body: &str, family: Family, version: &str, expected: Option<(&str, &str)>) {
    let request = Request::read(body.as_bytes()).unwrap();
    let operation = Operation::ChatCompletions;
    let found = |style| missing(&style, family, operation, &request);
    let named = found(azure(version)).map(|since| match since.feature {
        Feature::Field(Operation::ChatCompletions, field) => (field.name(), since.preview),
        other => panic!("{other:?}"),
    });
    assert_eq!(named, expected, "{body} {version}");
    assert_eq!((found(Style::AzureV1), found(Style::OpenAi)), (None, None), "{body}");
}

#[test]
fn a_field_is_refused_by_the_versions_before_it() {
    use Family::{Gpt4, Gpt5, OSeries};
    let fields = [
        (r#"{"stream_options":{"include_usage":true}}"#, "2024-08-01-preview", "2024-09-01-preview"),
        (r#"{"parallel_tool_calls":false}"#, "2024-08-01-preview", "2024-09-01-preview"),
        (r#"{"store":true}"#, "2024-10-21", "2024-12-01-preview"),
        (r#"{"metadata":{"a":"b"}}"#, "2024-10-21", "2024-12-01-preview"),
        (r#"{"reasoning_effort":"low"}"#, "2024-10-21", "2024-12-01-preview"),
        (r#"{"prediction":{"type":"content","content":"x"}}"#, "2024-12-01-preview", "2025-01-01-preview"),
    ];
    for (body, last_without, first_with) in fields {
        let (name, _) = body[2..].split_once('"').unwrap();
        check(body, Gpt4, last_without, Some((name, first_with)));
        check(body, Gpt4, first_with, None);
    }
    // Absent, or as good as.
    check(r#"{"store":null,"messages":[]}"#, Gpt4, "2022-12-01", None);
    // A cap goes under its other name, unless the model refuses that one.
    let refused = Some(("max_completion_tokens", "2024-09-01-preview"));
    for body in [r#"{"max_completion_tokens":5}"#, r#"{"max_tokens":5}"#] {
        check(body, Gpt4, "2024-06-01", None);
        check(body, Gpt5, "2024-06-01", refused);
        check(body, OSeries, "2024-06-01", refused);
        check(body, OSeries, "2024-09-01-preview", None);
    }
    check("{}", OSeries, "2024-06-01", None);
}

#[test]
fn what_a_policy_wrote_is_refused_like_what_the_client_did() {
    let mut request = Request::read(b"{}").unwrap();
    request.set(Field::ReasoningEffort, "\"low\"".to_owned());
    let lacks = |version| missing(&azure(version), Family::Gpt5, Operation::ChatCompletions, &request);
    assert_eq!(lacks("2024-10-21").map(|since| since.preview), Some("2024-12-01-preview"));
    assert_eq!(lacks("2024-12-01-preview"), None);
}

#[test]
fn other_operations_have_their_fields_for_themselves() {
    // Responses has had these from its beginning.
    let request = Request::read(br#"{"store":true,"metadata":{},"reasoning":{"effort":"low"}}"#).unwrap();
    let found = missing(&azure("2025-03-01-preview"), Family::Gpt5, Operation::Responses, &request);
    assert_eq!(found, None);
}
