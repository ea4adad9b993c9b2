//! JSON objects as the programs in use read them, which is not in every point as JSON says.

use core::fmt;
use std::borrow::Cow;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::HandshakeError;

/// What a known field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Text,
    Integer,
    Unsigned,
    Texts,
    Object,
}

/// Adds the fields of one object to `fields`. Names are known in any case, the last of several
/// counts, null says nothing, and what is not UTF-8 or half a surrogate pair is replaced.
///
/// Unknown fields are kept, unless they hold a number that no double can, or more than 128 levels.
pub(super) fn read(
    json: &[u8],
    known: &[(&str, Kind)],
    fields: &mut Map<String, Value>,
) -> Result<(), HandshakeError> {
    let text = String::from_utf8_lossy(json);
    let text = mended(&text);
    let object: Option<Object<'_>> = serde_json::from_str(&text).map_err(super::json_error)?;
    for (name, raw) in object.map(|Object(fields)| fields).unwrap_or_default() {
        let text = raw.get();
        match known.iter().find(|(known, _)| is_same_name(known, &name)) {
            Some(_) if text == "null" => {}
            Some((known, kind)) => {
                let value = kind.read(text).ok_or_else(|| {
                    HandshakeError::Json(format!("field `{known}` is no {}", kind.name()))
                })?;
                fields.insert((*known).to_owned(), value);
            }
            None => {
                if let Ok(value) = serde_json::from_str(text) {
                    fields.insert(name.into_owned(), value);
                }
            }
        }
    }
    Ok(())
}

impl Kind {
    fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::Flag => text.parse::<bool>().ok().map(Value::from),
            Self::Text => serde_json::from_str::<String>(text).ok().map(Value::from),
            Self::Integer => text.parse::<i64>().ok().map(Value::from),
            Self::Unsigned => text.parse::<u64>().ok().map(Value::from),
            Self::Texts => {
                let texts: Vec<Option<String>> = serde_json::from_str(text).ok()?;
                let texts = texts.into_iter().map(Option::unwrap_or_default);
                Some(texts.collect::<Vec<_>>().into())
            }
            Self::Object => Some(text)
                .filter(|text| text.starts_with('{'))
                .and_then(|text| serde_json::from_str(text).ok()),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Unsigned => "integer from 0 on",
            Self::Texts => "list of strings",
            Self::Object => "object",
        }
    }
}

/// Names are compared without case; two letters beyond ASCII fold to ones within it.
fn is_same_name(known: &str, name: &str) -> bool {
    let fold = |character: char| match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => character.to_ascii_lowercase(),
    };
    known.chars().eq(name.chars().map(fold))
}

/// The fields of an object in their order, repeated ones too.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, _>()? {
            fields.push((Cow::Owned(name), value));
        }
        Ok(Object(fields))
    }
}

/// Replaces escapes that are half a surrogate pair.
fn mended(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") {
        return Cow::Borrowed(text);
    }
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let second = escape.get(ESCAPE_LEN..).and_then(surrogate);
        let (taken, kept) = match (surrogate(escape), second) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (PAIR_LEN, PAIR_LEN),
            (Some(_), _) => {
                mended.push('\u{fffd}');
                (ESCAPE_LEN, 0)
            }
            // The backslash and what it escapes, which may be a backslash.
            (None, _) => {
                let len = escape.chars().take(2).map(char::len_utf8).sum();
                (len, len)
            }
        };
        mended.push_str(escape.get(..kept).unwrap_or_default());
        rest = escape.get(taken..).unwrap_or_default();
    }
    mended.push_str(rest);
    Cow::Owned(mended)
}

/// Bytes of `\uXXXX`, and of two.
const ESCAPE_LEN: usize = 6;
const PAIR_LEN: usize = 12;

/// The code of a surrogate's escape at the beginning of `text`.
fn surrogate(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let code = u32::from_str_radix(digits, 16)
        .ok()
        .filter(|_| is_hexadecimal)?;
    (0xd800..=0xdfff).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[(&str, Kind)] = &[
        ("flag", Kind::Flag),
        ("key", Kind::Text),
        ("number", Kind::Integer),
        ("count", Kind::Unsigned),
        ("list", Kind::Texts),
        ("object", Kind::Object),
    ];

    fn fields(json: &[u8]) -> Result<Value, HandshakeError> {
        let mut fields = Map::new();
        read(json, KNOWN, &mut fields)?;
        Ok(Value::Object(fields))
    }

    #[test]
    fn names_and_texts_are_read_generously() {
        let cases: [(&str, &str); 9] = [
            ("null", "{}"),
            (
                r#"{"FLAG":true,"flag":false,"Flag":null}"#,
                r#"{"flag":false}"#,
            ),
            ("{\"\u{212a}ey\":\"a\"}", r#"{"key":"a"}"#),
            (r#"{"key":"\ud800"}"#, "{\"key\":\"\u{fffd}\"}"),
            (
                r#"{"key":"\ud83d\ude00\\ud800"}"#,
                "{\"key\":\"\u{1f600}\\\\ud800\"}",
            ),
            (
                r#"{"key":"\ud800x\udc00"}"#,
                "{\"key\":\"\u{fffd}x\u{fffd}\"}",
            ),
            (
                r#"{"number":-0,"count":18446744073709551615}"#,
                r#"{"number":0,"count":18446744073709551615}"#,
            ),
            (
                r#"{"list":["a",null],"object":{}}"#,
                r#"{"list":["a",""],"object":{}}"#,
            ),
            (r#"{"new":1,"far":1e999}"#, r#"{"new":1}"#),
        ];
        for (json, read) in cases {
            let read: Value = serde_json::from_str(read).unwrap();
            assert_eq!(fields(json.as_bytes()), Ok(read), "{json}");
        }
        let deep = [r#"{"new":"#, &"[".repeat(200), &"]".repeat(200), "}"].concat();
        assert_eq!(fields(deep.as_bytes()), Ok(Value::Object(Map::new())));
        let read = fields(b"{\"key\":\"\xff\"}").unwrap();
        assert_eq!(read["key"], "\u{fffd}");
    }

    #[test]
    fn types_are_read_strictly() {
        for json in [
            "",
            "{",
            "[]",
            "7",
            "\"x\"",
            "{} x",
            r#"{"flag":1,"flag":true}"#,
            r#"{"key":7}"#,
            r#"{"number":1.0}"#,
            r#"{"number":"1"}"#,
            r#"{"count":-1}"#,
            r#"{"list":7}"#,
            r#"{"list":[7]}"#,
            r#"{"object":[]}"#,
            r#"{"new":}"#,
            r#"{"key":"\u12"}"#,
        ] {
            assert!(fields(json.as_bytes()).is_err(), "{json}");
        }
        let error = fields(br#"{"flag":1}"#).unwrap_err();
        assert_eq!(error.to_string(), "field `flag` is no true or false");
    }
}
