//! The help of every command, in one golden; and that clap finds no contradiction in the definitions.

use clap::{CommandFactory as _, Parser as _};
use expect_test::expect_file;

use super::Cli;

#[test]
fn the_definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_of_every_command() {
    let mut text = String::new();
    let mut root = Cli::command().term_width(100);
    root.build();
    write_help(&mut root, "scrapctl", &mut text);
    expect_file!["help.txt"].assert_eq(&text);
}

fn write_help(command: &mut clap::Command, path: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    // The options of every command stand once, at the top.
    let help = match help.split_once("\nGlobal options:\n") {
        Some((own, rest)) if path != "scrapctl" => {
            // What follows the options begins at the margin.
            let footer = rest.lines().skip_while(|line| line.is_empty() || line.starts_with(' '));
            let footer: Vec<&str> = footer.collect();
            format!("{own}\n{}", footer.join("\n"))
        }
        _ => help,
    };
    text.push_str(&format!("==== {path}\n{}\n\n", help.trim_end()));
    for sub in command.get_subcommands_mut() {
        let path = format!("{path} {}", sub.get_name());
        write_help(sub, &path, text);
    }
}

#[test]
fn exec_gives_everything_after_the_dashes_to_the_program() {
    let cli = Cli::try_parse_from(["scrapctl", "exec", "web", "--", "ls", "-o", "json", "--help"]);
    match cli.unwrap().command {
        super::Command::Exec(args) => assert_eq!(args.command, ["ls", "-o", "json", "--help"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn quantities_need_their_units() {
    let error = |args: &[&str]| Cli::try_parse_from(args).unwrap_err().to_string();
    let memory = error(&["scrapctl", "launch", "process", "web", "--memory", "64", "--", "x"]);
    assert!(memory.contains("it has no unit; write `64MiB`"), "{memory}");
    let timeout = error(&["scrapctl", "status", "--timeout", "5"]);
    assert!(timeout.contains("write `5s` or `5m`"), "{timeout}");
}
