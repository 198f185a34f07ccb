//! A small preprocessor for WGSL, which has neither imports nor conditions.
//!
//! | Line | Meaning |
//! |---|---|
//! | `#import name` | adds `shaders/shared/name.wgsl`, once per module however often it is asked for |
//! | `#ifdef NAME`, `#ifndef NAME` | keeps the lines up to `#else` or `#endif` if NAME is, is not, defined |
//! | `#else`, `#endif` | |
//! | `#for i COUNT` | repeats the lines up to `#endfor` with `$i` replaced by 0, 1, …; COUNT is a number or a constant of the kernel |
//! | `#endfor` | |
//!
//! Not every driver unrolls loops, and registers can't be indexed: `#for` is how register tiles of any size are written.
//! The repetitions stand on the line of `#for`.
//!
//! A directive is a line whose first character other than white space is `#`. Imported files are preprocessed too.
//! They are put at the end of the module, which WGSL allows because the order of its declarations is free, so the
//! lines of the shader keep their numbers in the compiler's messages.

use std::fmt::Write;

/// A directive that has no meaning, with the file and line it stands in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}.wgsl line {line}: {message}")]
pub(crate) struct PreprocessError {
    /// File name without its ending.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Resolves the directives of `source`, the text of shader `name`. `shared` finds the text of imports.
pub(crate) fn preprocess(
    name: &str,
    source: &str,
    defines: &[&str],
    constants: &[(&str, u32)],
    shared: impl Fn(&str) -> Option<&'static str>,
) -> Result<String, PreprocessError> {
    let mut imports: Vec<(String, &'static str)> = Vec::new();
    let mut output = String::with_capacity(source.len());
    let expand = |file: &str, source: &str, imports: &mut Vec<_>, output: &mut String| {
        let mut text = String::with_capacity(source.len());
        expand(file, source, defines, &shared, imports, &mut text)?;
        unroll(file, &text.lines().collect::<Vec<_>>(), 1, constants, output)
    };
    expand(name, source, &mut imports, &mut output)?;
    // The list grows while it is walked: imports may import.
    let mut next = 0;
    while let Some((file, text)) = imports.get(next).cloned() {
        let _ = writeln!(output, "// shared/{file}.wgsl"); // writing to a String cannot fail
        let start = output.len();
        expand(&file, text, &mut imports, &mut output)?;
        check_import(&file, &output[start..])?;
        next += 1;
    }
    Ok(output)
}

/// An open condition.
struct Condition {
    line: usize,
    /// The lines around it are kept.
    outer: bool,
    /// The lines of the present branch are kept, if those around are.
    holds: bool,
    has_else: bool,
}

fn expand(
    file: &str,
    source: &str,
    defines: &[&str],
    shared: &impl Fn(&str) -> Option<&'static str>,
    imports: &mut Vec<(String, &'static str)>,
    output: &mut String,
) -> Result<(), PreprocessError> {
    let mut conditions: Vec<Condition> = Vec::new();
    for (index, text) in source.lines().enumerate() {
        let line = index + 1;
        let error = |message: String| PreprocessError { file: file.to_owned(), line, message };
        let kept = conditions.last().is_none_or(|condition| condition.outer && condition.holds);
        let Some(directive) = text.trim_start().strip_prefix('#') else {
            output.push_str(if kept { text } else { "" });
            output.push('\n');
            continue;
        };
        let (keyword, argument) = split(directive);
        if kept && matches!(keyword, "for" | "endfor") {
            output.push_str(text);
        }
        output.push('\n');
        match keyword {
            "for" | "endfor" => {}
            "import" => {
                let name = identifier(argument).ok_or_else(|| error(format!("#{directive}: one name is needed")))?;
                if kept && !imports.iter().any(|(other, _)| other == name) {
                    let text =
                        shared(name).ok_or_else(|| error(format!("there is no shared/{name}.wgsl to import")))?;
                    imports.push((name.to_owned(), text));
                }
            }
            "ifdef" | "ifndef" => {
                let name = identifier(argument).ok_or_else(|| error(format!("#{directive}: one name is needed")))?;
                let holds = defines.contains(&name) == (keyword == "ifdef");
                conditions.push(Condition { line, outer: kept, holds, has_else: false });
            }
            "else" | "endif" if !argument.is_empty() => {
                return Err(error(format!("#{directive}: nothing may follow #{keyword}")));
            }
            "else" => match conditions.last_mut() {
                Some(condition) if !condition.has_else => {
                    condition.has_else = true;
                    condition.holds = !condition.holds;
                }
                Some(condition) => {
                    return Err(error(format!("a second #else for the condition of line {}", condition.line)));
                }
                None => return Err(error("#else without #ifdef or #ifndef".to_owned())),
            },
            "endif" => {
                if conditions.pop().is_none() {
                    return Err(error("#endif without #ifdef or #ifndef".to_owned()));
                }
            }
            _ => return Err(error(format!("#{directive}: no such directive"))),
        }
    }
    match conditions.last() {
        None => Ok(()),
        Some(condition) => {
            let message = "a condition without #endif".to_owned();
            Err(PreprocessError { file: file.to_owned(), line: condition.line, message })
        }
    }
}

/// Repeats what stands between `#for` and `#endfor`, keeping the number of lines. `first` is the number of the first line.
fn unroll(
    file: &str,
    lines: &[&str],
    first: usize,
    constants: &[(&str, u32)],
    output: &mut String,
) -> Result<(), PreprocessError> {
    let keyword =
        |text: &str| text.trim_start().strip_prefix('#').map_or("", |directive| split(directive).0).to_owned();
    let mut at = 0;
    while let Some(&text) = lines.get(at) {
        let error = |message: String| PreprocessError { file: file.to_owned(), line: first + at, message };
        match keyword(text).as_str() {
            "for" => {
                let (_, argument) = split(text.trim_start().trim_start_matches('#'));
                let (name, count) = loop_header(argument, constants)
                    .ok_or_else(|| error(format!("#for {argument}: a letter and a number or constant are needed")))?;
                let mut depth = 0;
                let length = lines[at..].iter().position(|line| {
                    match keyword(line).as_str() {
                        "for" => depth += 1,
                        "endfor" => depth -= 1,
                        _ => {}
                    }
                    depth == 0
                });
                let length = length.ok_or_else(|| error("#for without #endfor".to_owned()))?;
                let mut body = String::new();
                unroll(file, &lines[at + 1..at + length], first + at + 1, constants, &mut body)?;
                let code: Vec<&str> = body.lines().map(|line| line.split("//").next().unwrap_or("").trim()).collect();
                let code = code.join(" ");
                for index in 0..count {
                    output.push_str(&code.replace(&format!("${name}"), &index.to_string()));
                }
                output.push_str(&"\n".repeat(length + 1));
                at += length + 1;
            }
            "endfor" => return Err(error("#endfor without #for".to_owned())),
            _ => {
                output.push_str(text);
                output.push('\n');
                at += 1;
            }
        }
    }
    Ok(())
}

/// The variable of a loop, which is one letter, and how often it runs.
fn loop_header<'a>(argument: &'a str, constants: &[(&str, u32)]) -> Option<(&'a str, u32)> {
    let (name, count) = argument.split_once(char::is_whitespace)?;
    let count = count.trim();
    let constant = || constants.iter().find(|(other, _)| *other == count).map(|&(_, value)| value);
    let letter = name.len() == 1 && name.chars().all(|c| c.is_ascii_lowercase());
    let count = count.parse().ok().or_else(constant)?;
    letter.then_some((name, count))
}

/// WGSL wants its own directives before all declarations, so they cannot stand in an import.
fn check_import(file: &str, text: &str) -> Result<(), PreprocessError> {
    let found = text.lines().position(|line| {
        let line = line.trim_start();
        ["enable ", "requires ", "diagnostic("].iter().any(|directive| line.starts_with(directive))
    });
    match found {
        None => Ok(()),
        Some(index) => {
            let message = "enable, requires and diagnostic belong in the shader that imports this file".to_owned();
            Err(PreprocessError { file: file.to_owned(), line: index + 1, message })
        }
    }
}

/// Keyword and argument of a directive, without a comment at the end.
fn split(directive: &str) -> (&str, &str) {
    let directive = directive.split("//").next().unwrap_or_default().trim();
    match directive.split_once(char::is_whitespace) {
        Some((keyword, argument)) => (keyword, argument.trim()),
        None => (directive, ""),
    }
}

fn identifier(text: &str) -> Option<&str> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!text.is_empty() && text.chars().all(valid)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(name: &str) -> Option<&'static str> {
        match name {
            "a" => Some("#import b\nfn a() {}\n"),
            "b" => Some("#import a\n#ifdef HALF\nfn b_half() {}\n#else\nfn b() {}\n#endif\n"),
            "open" => Some("fn open() {}\n#ifdef X\n"),
            "enables" => Some("\n  enable f16;\n"),
            _ => None,
        }
    }

    fn run(source: &str, defines: &[&str]) -> Result<String, String> {
        preprocess("main", source, defines, &[("ROWS", 3)], shared).map_err(|error| error.to_string())
    }

    /// The lines that are left, without the empty ones.
    fn left(source: &str, defines: &[&str]) -> Vec<String> {
        let output = run(source, defines).unwrap();
        assert!(output.lines().count() >= source.lines().count());
        output.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn text_without_directives_is_unchanged() {
        let source = "enable f16;\n\nfn main() { let x = 1; } // #ifdef in a comment\n";
        assert_eq!(run(source, &["A"]).unwrap(), source);
    }

    #[test]
    fn conditions_choose_branches() {
        let source = "#ifdef A\na\n#else\nnot a\n#endif\n#ifndef A\nno a\n#endif\nend";
        assert_eq!(left(source, &["A"]), ["a", "end"]);
        assert_eq!(left(source, &["B"]), ["not a", "no a", "end"]);
    }

    #[test]
    fn conditions_nest() {
        let source =
            "#ifdef A\n  #ifdef B\nab\n  #else // not B\na\n  #endif\n#else\n  #ifndef B\nnone\n  #endif\n#endif";
        assert_eq!(left(source, &["A", "B"]), ["ab"]);
        assert_eq!(left(source, &["A"]), ["a"]);
        assert_eq!(left(source, &["B"]), [""; 0]);
        assert_eq!(left(source, &[]), ["none"]);
    }

    #[test]
    fn lines_keep_their_numbers() {
        let output = run("#import a\n#ifdef A\nx\n#endif\nlast\n", &[]).unwrap();
        assert_eq!(output.lines().position(|line| line == "last"), Some(4));
    }

    #[test]
    fn imports_come_once_and_may_import_each_other() {
        let plain = ["main", "// shared/a.wgsl", "fn a() {}", "// shared/b.wgsl", "fn b() {}"];
        assert_eq!(left("#import a\nmain\n#import b\n#import a\n", &[]), plain);
        assert_eq!(left("#import a\nmain\n", &["HALF"])[4], "fn b_half() {}");
    }

    #[test]
    fn imports_in_branches_not_taken_are_left_out() {
        assert_eq!(left("#ifdef A\n#import nothing\n#endif\nmain", &[]), ["main"]);
    }

    #[test]
    fn loops_repeat_their_lines() {
        let source = "#for i ROWS\nlet a$i = $iu; // row $i\n#endfor\nend";
        assert_eq!(left(source, &[]), ["let a0 = 0u;let a1 = 1u;let a2 = 2u;", "end"]);
        assert_eq!(run(source, &[]).unwrap().lines().position(|line| line == "end"), Some(3));
        let nested = "#for i 2\n#for j 2\n#ifdef A\ns$i_$j\n#else\nt$i_$j\n#endif\n#endfor\n#endfor";
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&left(nested, &["A"])[0]), ["s0_0", "s0_1", "s1_0", "s1_1"]);
        assert_eq!(left("#ifdef A\n#for i nothing\n#endfor\n#endif\nmain", &[]), ["main"]);
    }

    #[test]
    fn errors_name_file_and_line() {
        let cases = [
            ("\n#import nothing", "main.wgsl line 2: there is no shared/nothing.wgsl to import"),
            ("#import", "main.wgsl line 1: #import: one name is needed"),
            ("#ifdef A B\n#endif", "main.wgsl line 1: #ifdef A B: one name is needed"),
            ("x\n#ifdef A\n#ifdef B\n#endif", "main.wgsl line 2: a condition without #endif"),
            ("#endif", "main.wgsl line 1: #endif without #ifdef or #ifndef"),
            ("#else", "main.wgsl line 1: #else without #ifdef or #ifndef"),
            ("#ifdef A\n#else\n#else\n#endif", "main.wgsl line 3: a second #else for the condition of line 1"),
            ("#ifdef A\n#endif A", "main.wgsl line 2: #endif A: nothing may follow #endif"),
            ("#define A", "main.wgsl line 1: #define A: no such directive"),
            ("x\n#for i 2\n#for j 2\n#endfor", "main.wgsl line 2: #for without #endfor"),
            ("#endfor", "main.wgsl line 1: #endfor without #for"),
            ("#for i N\n#endfor", "main.wgsl line 1: #for i N: a letter and a number or constant are needed"),
            ("#for row 2\n#endfor", "main.wgsl line 1: #for row 2: a letter and a number or constant are needed"),
            ("#import open", "open.wgsl line 2: a condition without #endif"),
            (
                "#import enables",
                "enables.wgsl line 2: enable, requires and diagnostic belong in the shader that imports this file",
            ),
        ];
        for (source, message) in cases {
            assert_eq!(run(source, &[]), Err(message.to_owned()), "{source}");
        }
    }
}
