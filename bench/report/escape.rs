//! Foreign text in a page: names of CPUs and interfaces, commands, the result itself.

/// `text` as words or as the value of an attribute in double quotes.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// JSON text that cannot end the script element that holds it; it is the same JSON.
///
/// The letters that it changes stand within strings only, where JSON lets any letter be written as an escape.
pub(super) fn script(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escaped.push_str(&format!("\\u{:04x}", letter as u32)),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A cell of a table in Markdown: no letter in it ends the cell, the row or begins markup.
pub(super) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// A field of CSV (RFC 4180): quoted where it must be.
pub(super) fn csv(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_ends_what_holds_it() {
        assert_eq!(html("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
        let json = r#"{"a":"</script><!-- & "}"#;
        let escaped = script(json);
        assert!(!escaped.contains(['<', '>', '&']), "{escaped}");
        let same: serde_json::Value = serde_json::from_str(&escaped).expect("still JSON");
        assert_eq!(same["a"], "</script><!-- & ");
        assert_eq!(markdown("a|b\n<c>"), "a\\|b \\<c\\>");
        assert_eq!(csv("plain"), "plain");
        assert_eq!(csv("say \"a, b\""), "\"say \"\"a, b\"\"\"");
    }
}
