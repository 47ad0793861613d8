//! Who wins: flags, environment, file, defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use scrap_schema::unit::Span;

use super::config::{Config, Context};
use super::known::Cluster;
use super::*;

fn config() -> Config {
    let context = |servers: &[&str]| Context {
        servers: servers.iter().map(|server| (*server).to_owned()).collect(),
    };
    Config {
        current: Some("home".to_owned()),
        contexts: BTreeMap::from([
            ("home".to_owned(), context(&["ada", "bob:7000"])),
            ("lab".to_owned(), context(&["10.0.0.1:7272"])),
        ]),
    }
}

fn flags(server: &[&str], context: Option<&str>) -> GlobalArgs {
    let server = server.iter().map(|server| (*server).to_owned()).collect();
    GlobalArgs { server, context: context.map(str::to_owned), ..GlobalArgs::default() }
}

fn environment(server: Option<&str>, context: Option<&str>) -> Environment {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Environment { server: text(server), context: text(context), ..Environment::default() }
}

fn check(flags: &GlobalArgs, environment: Environment, config: &Config, expected: &[&str]) {
    assert_eq!(resolve(flags, environment, config).unwrap().servers, expected);
}

#[test]
fn the_nearest_word_about_servers_wins() {
    let (none, config) = (flags(&[], None), config());
    let home = ["http://ada:7272", "http://bob:7000"];
    let lab = ["http://10.0.0.1:7272"];
    check(&none, environment(None, None), &config, &home);
    check(&none, environment(None, Some("lab")), &config, &lab);
    check(
        &none,
        environment(Some("x, y:1"), Some("lab")),
        &config,
        &["http://x:7272", "http://y:1"],
    );
    check(&flags(&[], Some("lab")), environment(Some("x"), None), &config, &lab);
    let both = flags(&["z:2"], Some("lab"));
    check(&both, environment(Some("x"), Some("home")), &config, &["http://z:2"]);
}

#[test]
fn without_a_word_it_is_this_machine_and_the_demo() {
    let all = ["http://127.0.0.1:7272", "http://127.0.0.1:7282", "http://127.0.0.1:7292"];
    check(&flags(&[], None), Environment::default(), &Config::default(), &all);
}

#[test]
fn an_unknown_context_gets_a_hint() {
    match resolve(&flags(&[], Some("hoem")), Environment::default(), &config()) {
        Err(Failure::Usage { message, hint }) => {
            assert_eq!(message, "there is no context `hoem`");
            assert_eq!(hint.as_deref(), Some("did you mean `home`?"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_are_written_in_many_ways() {
    let good = [
        ("ada", "http://ada:7272"),
        ("ada:80", "http://ada:80"),
        ("http://ada:7272/", "http://ada:7272"),
        ("10.0.0.1", "http://10.0.0.1:7272"),
        ("[fd00::1]:7282", "http://[fd00::1]:7282"),
    ];
    for (text, expected) in good {
        assert_eq!(address(text).unwrap(), expected, "{text}");
    }
    for text in ["", "https://ada", "ada:x", "ada/v1", "me@ada", "a b", "http://"] {
        assert!(address(text).is_err(), "{text}");
    }
}

#[test]
fn colour_follows_flag_then_force_then_no_color_then_terminal() {
    let check = |flag, force: bool, no: bool, tty: bool, expected: bool| {
        let flags = GlobalArgs { color: flag, ..GlobalArgs::default() };
        let environment = Environment {
            force_color: force,
            no_color: no,
            stdout_tty: tty,
            ..Environment::default()
        };
        let settings = resolve(&flags, environment, &Config::default()).unwrap();
        assert_eq!(settings.color_out, expected, "{flag:?} {force} {no} {tty}");
    };
    check(None, false, false, true, true);
    check(None, false, false, false, false);
    check(None, false, true, true, false);
    check(None, true, false, false, true);
    check(None, true, true, false, true);
    check(Some(ColorWhen::Never), true, false, true, false);
    check(Some(ColorWhen::Always), false, true, false, true);
}

#[test]
fn progress_is_live_on_a_terminal_only() {
    let check = |form, quiet: bool, tty: bool, expected: Progress| {
        let flags = GlobalArgs { progress: form, quiet, ..GlobalArgs::default() };
        let environment = Environment { stderr_tty: tty, ..Environment::default() };
        let settings = resolve(&flags, environment, &Config::default()).unwrap();
        assert_eq!(settings.progress, expected);
    };
    check(None, false, true, Progress::Live);
    check(None, false, false, Progress::Plain);
    check(Some(ProgressForm::Auto), false, false, Progress::Plain);
    check(Some(ProgressForm::Json), false, true, Progress::Json);
    check(Some(ProgressForm::Json), true, true, Progress::None);
}

#[test]
fn a_timeout_is_a_span() {
    let flags = GlobalArgs { timeout: Some(Span::from_secs(300)), ..GlobalArgs::default() };
    let settings = resolve(&flags, Environment::default(), &Config::default()).unwrap();
    assert_eq!(settings.timeout, Some(Duration::from_secs(300)));
}

#[test]
fn the_configuration_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/config.toml");
    assert_eq!(config::load(Some(&path)).unwrap(), Config::default());
    config::save(&path, &config()).unwrap();
    assert_eq!(config::load(Some(&path)).unwrap(), config());
    std::fs::write(&path, "currrent = \"home\"\n").unwrap();
    let error = config::load(Some(&path)).unwrap_err();
    assert_eq!(error.exit(), 2);
    assert!(error.to_string().contains("currrent"), "{error}");
}

#[test]
fn what_was_learnt_comes_after_what_was_named() {
    let named = ["a".to_owned(), "b".to_owned()];
    let order = |origin: Origin, cluster: &Cluster| known::order(&origin, &named, cluster).concat();
    let home = || Origin::Context("home".to_owned());
    let mut cluster = Cluster {
        last: Some("b".to_owned()),
        nodes: vec!["c".to_owned(), "a".to_owned()],
        listed: 1,
    };
    assert_eq!(order(home(), &cluster), "bac");
    assert_eq!(order(Origin::Environment, &cluster), "bac");
    assert_eq!(order(Origin::Flag, &cluster), "abc");
    cluster.last = Some("c".to_owned());
    assert_eq!(order(home(), &cluster), "cab");
    assert_eq!(order(Origin::Environment, &cluster), "abc");
    cluster.last = Some("of another cluster".to_owned());
    assert_eq!(order(Origin::Default, &cluster), "abc");
}

#[test]
fn what_was_learnt_is_kept_by_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers.json");
    let cluster = Cluster { last: Some("a".to_owned()), nodes: vec!["a".to_owned()], listed: 5 };
    known::save(Some(&path), "context home", &cluster);
    assert_eq!(known::load(Some(&path), "context home"), cluster);
    assert_eq!(known::load(Some(&path), "context lab"), Cluster::default());
    std::fs::write(&path, "broken").unwrap();
    assert_eq!(known::load(Some(&path), "context home"), Cluster::default());
}
