//! The page around curves and tables: style and escaping.

/// Text that means nothing to HTML. Control characters but line breaks and tabs are left out.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter if letter.is_control() && letter != '\n' && letter != '\t' => {}
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A whole document. The policy forbids every request and every script.
pub(super) fn document(language: &str, title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Rows of a name and what it is; values are HTML already.
pub(super) fn table(rows: &[(String, String)]) -> String {
    let row = |(name, value): &(String, String)| {
        format!("<tr><th scope=\"row\">{}</th><td>{value}</td></tr>\n", escape(name))
    };
    format!("<table>\n{}</table>\n", rows.iter().map(row).collect::<String>())
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        let text = "<script>alert('1')</script>&\"\u{1b}[31m\n春";
        assert_eq!(escape(text), "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;[31m\n春");
    }
}
