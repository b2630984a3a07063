//! As much of Rust's syntax as the module graph needs: tokens, `use` trees, and which items are
//! compiled for tests only.

/// The segments of a path; the last one is `*` for a glob import.
pub type Path = Vec<String>;

/// One name that a `use` declaration brings into scope.
pub struct Import {
    pub path: Path,
    pub name: String,
}

/// Splits source text into identifiers, `::` and single characters. Comments, literals and
/// whitespace are dropped, so that a path in a comment is no dependency.
pub fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut i) = (Vec::new(), 0);
    while i < chars.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => i = find(&chars, i, "\n"),
            ('/', '*') => i = block_comment(&chars, i),
            ('"', _) => i = string(&chars, i),
            ('\'', '\\') => i = find(&chars, i + 3, "'") + 1,
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            // A lifetime: its name is no dependency.
            ('\'', _) => i = end_of(&chars, i + 1, word),
            (':', ':') => {
                out.push("::".to_owned());
                i += 2;
            }
            (c, _) if word(c) => {
                let end = end_of(&chars, i, word);
                let text: String = chars.get(i..end).unwrap_or_default().iter().collect();
                i = literal_after(&chars, &text, end).unwrap_or_else(|| {
                    out.push(text);
                    end
                });
            }
            (c, _) => {
                if !c.is_whitespace() {
                    out.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    out
}

/// The end of the literal that a prefix such as `b`, `c` or `r` introduces.
fn literal_after(chars: &[char], prefix: &str, end: usize) -> Option<usize> {
    let next = chars.get(end).copied();
    match prefix {
        "r" | "br" | "cr" => {
            let quote = end_of(chars, end, |c| c == '#');
            let hashes = "#".repeat(quote - end);
            let raw = chars.get(quote) == Some(&'"');
            raw.then(|| find(chars, quote + 1, &format!("\"{hashes}")) + 1 + hashes.len())
        }
        "b" | "c" if next == Some('"') => Some(string(chars, end)),
        "b" if next == Some('\'') => {
            let skipped = if chars.get(end + 1) == Some(&'\\') { 3 } else { 1 };
            Some(find(chars, end + skipped, "'") + 1)
        }
        _ => None,
    }
}

fn end_of(chars: &[char], from: usize, part: impl Fn(char) -> bool) -> usize {
    let length = chars.iter().skip(from).take_while(|c| part(**c)).count();
    from + length
}

fn find(chars: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    let rest = chars.get(from..).unwrap_or_default();
    rest.windows(what.len()).position(|w| w == what).map_or(chars.len(), |n| from + n)
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    loop {
        match (chars.get(i), chars.get(i + 1)) {
            (Some('/'), Some('*')) => (depth, i) = (depth + 1, i + 2),
            (Some('*'), Some('/')) => (depth, i) = (depth - 1, i + 2),
            (None, _) => return i,
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
}

fn string(chars: &[char], from: usize) -> usize {
    let mut i = from + 1;
    loop {
        match chars.get(i) {
            Some('\\') => i += 2,
            Some('"') | None => return i + 1,
            Some(_) => i += 1,
        }
    }
}

/// Behind the bracket that closes the one at `from`.
fn closed(tokens: &[String], from: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(from) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// Leaves out every item under `#[cfg(test)]`.
pub fn without_tests(tokens: &[String]) -> Vec<String> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let is = |i: usize, what: &str| tokens.get(i).is_some_and(|token| token == what);
    let (mut out, mut i) = (Vec::new(), 0);
    while let Some(token) = tokens.get(i) {
        if !TEST.iter().enumerate().all(|(n, what)| is(i + n, what)) {
            out.push(token.clone());
            i += 1;
            continue;
        }
        i += TEST.len();
        while is(i, "#") {
            i = closed(tokens, i + 1);
        }
        // The item ends with its block or its semicolon; brackets before that are its signature.
        while i < tokens.len() && !is(i, ";") && !is(i, "{") {
            i = if is(i, "(") || is(i, "[") { closed(tokens, i) } else { i + 1 };
        }
        i = if is(i, "{") { closed(tokens, i) } else { i + 1 };
    }
    out
}

/// Reads the `use` tree at `from`, all of its leaves; returns where it ends.
pub fn use_tree(tokens: &[String], from: usize, prefix: &Path, out: &mut Vec<Import>) -> usize {
    let (mut path, mut i) = (prefix.clone(), from);
    while let Some(token) = tokens.get(i) {
        match token.as_str() {
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|token| token != "}") {
                    let end = use_tree(tokens, i, &path, out);
                    // A comma ends a branch; anything else that is not understood is passed over.
                    i = if tokens.get(end).is_some_and(|token| token == "}") {
                        end
                    } else {
                        end + 1
                    };
                }
                return i + 1;
            }
            "::" => i += 1,
            "*" => {
                path.push("*".to_owned());
                out.push(Import { path, name: "*".to_owned() });
                return i + 1;
            }
            "as" => {
                let name = tokens.get(i + 1).cloned().unwrap_or_default();
                out.push(Import { path: without_self(path), name });
                return i + 2;
            }
            "," | "}" | ";" => break,
            _ => {
                path.push(token.clone());
                i += 1;
            }
        }
    }
    let path = without_self(path);
    let name = path.last().cloned().unwrap_or_default();
    out.push(Import { path, name });
    i
}

/// `a::b::{self}` imports `a::b`.
fn without_self(mut path: Path) -> Path {
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    path
}
